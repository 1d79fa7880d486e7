import numpy as np
import pydicom
import pytest

from factories import edit_dicom, write_dicom_picture, write_dicom_series
from scanlore.errors import DataError
from scanlore.scans.dicom import dicom_header, dicom_series, read_dicom_series

GREY = np.arange(20 * 24).reshape(20, 24)
COLOURS = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "US", "XA", "OP"])
def test_a_projection_is_a_2d_image(tmp_path, modality):
    path = write_dicom_picture(tmp_path / "a.dcm", GREY, modality)
    scan, header = read_dicom_series([path]), dicom_header([path])
    np.testing.assert_array_equal(scan.voxels, GREY[None])
    assert (scan.ndim, scan.affine, scan.spacing, scan.through_axis) == (2, None, None, None)
    assert (header.format, header.shape, header.num_channels) == ("dicom", (20, 24), 1)
    assert (header.spacing, header.orientation, header.dtype) == (None, None, "uint16")
    assert scan.original.shape == (20, 24)
    assert scan.metadata.modality == modality


def test_spacing_of_the_detector(tmp_path):
    path = write_dicom_picture(tmp_path / "a.dcm", GREY, ImagerPixelSpacing=[0.2, 0.1])
    assert read_dicom_series([path]).spacing == dicom_header([path]).spacing == (0.2, 0.1)
    edit_dicom(path, PixelSpacing=[0.15, 0.1])
    assert read_dicom_series([path]).spacing == dicom_header([path]).spacing == (0.15, 0.1)


def test_rescaled_and_inverted(tmp_path):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11, "RescaleSlope": 2}
    path = write_dicom_picture(tmp_path / "a.dcm", GREY, **tags)
    np.testing.assert_array_equal(read_dicom_series([path]).voxels[0], 2 * (4095 - GREY))


def test_colours_are_three_channels(tmp_path):
    path = write_dicom_picture(tmp_path / "a.dcm", COLOURS, "US")
    scan = read_dicom_series([path])
    np.testing.assert_array_equal(scan.voxels, COLOURS.transpose(2, 0, 1))
    assert dicom_header([path]).num_channels == 3
    edit_dicom(path, PhotometricInterpretation="YBR_FULL")
    expected = pydicom.pixels.convert_color_space(COLOURS, "YBR_FULL", "RGB")
    np.testing.assert_array_equal(read_dicom_series([path]).voxels, expected.transpose(2, 0, 1))


def test_a_palette_is_applied(tmp_path):
    path = write_dicom_picture(tmp_path / "a.dcm", GREY % 4, "US", PhotometricInterpretation="PALETTE COLOR")
    table = np.array([0, 100, 200, 255], np.uint16) << 8
    dataset = pydicom.dcmread(path)
    for number in (1, 2, 3):
        dataset.add_new((0x0028, 0x1100 + number), "US", [4, 0, 16])
        dataset.add_new((0x0028, 0x1200 + number), "OW", table.tobytes())
    dataset.save_as(path)
    scan = read_dicom_series([path])
    np.testing.assert_array_equal(scan.voxels, np.stack(3 * [(table >> 8)[GREY % 4]]))
    assert scan.voxels.dtype == np.uint8


def test_every_picture_is_its_own_scan(tmp_path):
    paths = [write_dicom_picture(tmp_path / f"{name}.dcm", GREY, SeriesInstanceUID="1.2.3") for name in "ab"]
    assert dicom_series(tmp_path) == ([[path] for path in paths], [])


def test_a_position_alone_makes_no_volume_of_a_projection(tmp_path):
    geometry = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    path = write_dicom_picture(tmp_path / "a.dcm", GREY, "DX", PixelSpacing=[0.2, 0.1], **geometry)
    assert read_dicom_series([path]).ndim == 2
    edit_dicom(path, Modality="CT")
    with pytest.raises(DataError, match="no geometry: a single slice"):
        read_dicom_series([path])


def test_a_slice_without_geometry_is_no_picture(tmp_path):
    path = write_dicom_picture(tmp_path / "a.dcm", GREY, "CT")
    for read in (read_dicom_series, dicom_header):
        with pytest.raises(DataError, match="no geometry: the header has no image orientation"):
            read([path])


def test_a_film_is_refused(tmp_path):
    path = write_dicom_picture(tmp_path / "a.dcm", np.vstack([GREY, GREY]), "US", NumberOfFrames=2, Rows=20)
    for read in (read_dicom_series, dicom_header):
        with pytest.raises(DataError, match="cine: 2 frames without slice positions"):
            read([path])


def test_coloured_slices_are_refused(tmp_path):
    write_dicom_series(tmp_path, (1, 20, 24), modality="CT")
    (path,) = tmp_path.iterdir()
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8}
    edit_dicom(path, PixelData=COLOURS.tobytes(), BitsStored=8, HighBit=7, **tags)
    for read in (read_dicom_series, dicom_header):
        with pytest.raises(DataError, match="colour: volumes have grey values"):
            read([path])
