import numpy as np
import pytest
import tifffile
from PIL import Image

from factories import write_png
from scanlore.errors import DataError
from scanlore.scans.image2d import image2d_header, num_pages, read_image2d

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
COLOUR = np.stack([GREY, GREY + 1, GREY + 2], -1)


def test_grey_png(tmp_path):
    scan = read_image2d(write_png(tmp_path / "a.png", pixels=GREY))
    np.testing.assert_array_equal(scan.voxels, GREY[None])
    assert (scan.ndim, scan.affine, scan.spacing, scan.through_axis) == (2, None, None, None)
    assert (scan.original.shape, scan.original.axes) == ((6, 8), ((0, 1), (1, 1)))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_kept(tmp_path, name):
    deep = GREY.astype(np.uint16) * 1000
    path = write_png(tmp_path / name, pixels=deep)
    scan = read_image2d(path)
    assert scan.voxels.dtype == np.uint16
    np.testing.assert_array_equal(scan.voxels[0], deep)
    assert image2d_header(path).dtype == "uint16"


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colour_is_channels_first(tmp_path, name):
    path = write_png(tmp_path / name, pixels=COLOUR)
    np.testing.assert_array_equal(read_image2d(path).voxels, COLOUR.transpose(2, 0, 1))
    assert image2d_header(path).num_channels == 3
    assert image2d_header(path).shape == (6, 8)


def test_equal_channels_collapse_and_transparency_is_dropped(tmp_path):
    grey_rgba = np.stack([GREY, GREY, GREY, np.full_like(GREY, 7)], -1)
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(read_image2d(write_png(tmp_path / name, pixels=grey_rgba)).voxels, GREY[None])


def test_palette_becomes_colours(tmp_path):
    image = Image.fromarray(GREY % 3, "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    for name in ("a.png", "a.tif"):
        image.save(tmp_path / name)
        assert read_image2d(tmp_path / name).voxels[:, 0, 2].tolist() == [70, 80, 90]
        assert image2d_header(tmp_path / name).num_channels == 3


def test_one_bit_image(tmp_path):
    for name in ("a.png", "a.tif"):
        Image.fromarray(GREY > 20).save(tmp_path / name)
        assert np.unique(read_image2d(tmp_path / name).voxels).tolist() == [0, 255]


def test_jpeg(tmp_path):
    path = write_png(tmp_path / "a.jpg")
    assert read_image2d(path).voxels.shape == (1, 20, 24)
    assert image2d_header(path).format == "jpeg"


def test_float_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tiff", GREY / np.float32(3))
    np.testing.assert_array_equal(read_image2d(tmp_path / "a.tiff").voxels[0], GREY / np.float32(3))


def test_white_is_zero_tiff_is_inverted(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image2d(tmp_path / "a.tif").voxels[0], 255 - GREY)


def test_compressed_tiff(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image2d(tmp_path / "a.tif").voxels[0], GREY)


def test_pages_are_read_by_number(tmp_path):
    pages = np.stack([GREY, GREY + 9, GREY + 20])
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    assert num_pages(tmp_path / "a.tif") == 3
    np.testing.assert_array_equal(read_image2d(tmp_path / "a.tif", 3).voxels[0], pages[2])
    assert image2d_header(tmp_path / "a.tif", 2).shape == (6, 8)
    with pytest.raises(DataError, match="truncated: 3 pages where 4 were found"):
        read_image2d(tmp_path / "a.tif", 4)


def test_compressed_pages_are_read_by_number(tmp_path):
    pages = [Image.fromarray(GREY + 9 * number) for number in range(3)]
    pages[0].save(tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_image2d(tmp_path / "a.tif", 2).voxels[0], GREY + 9)


def test_several_pictures_of_a_png_are_refused(tmp_path):
    first, other = Image.fromarray(GREY), Image.fromarray(GREY + 1)
    first.save(tmp_path / "a.png", save_all=True, append_images=[other])
    for read in (read_image2d, image2d_header):
        with pytest.raises(DataError, match="several pictures"):
            read(tmp_path / "a.png")


def test_other_formats_in_disguise_are_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="not a readable image"):
        read_image2d(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_image_is_one_line(tmp_path, name, share):
    path = write_png(tmp_path / name, (90, 80))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=r"not a readable image|truncated") as caught:
        read_image2d(path)
    assert "\n" not in str(caught.value)


def test_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="too large"):
        read_image2d(write_png(tmp_path / "a.png", (20, 24)))
