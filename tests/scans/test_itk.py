import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from factories import affine_of, smooth_volume
from scanlore.errors import DataError
from scanlore.scans.geometry import spacing_of
from scanlore.scans.itk import itk_header, read_itk

ENDINGS = ["nrrd", "nhdr", "mha", "mhd"]
VOXELS = (smooth_volume((4, 5, 6)) * 1000).astype(np.int16)
LPS = np.diag([-1.0, -1, 1, 1])


def image_of(voxels=VOXELS, affine=None, vector=False):
    """ITK image of `(z, y, x)` voxels that lie where an RAS+ affine says."""
    image = sitk.GetImageFromArray(voxels, isVector=vector)
    if affine is not None:
        lps = LPS @ affine
        image.SetSpacing(spacing_of(affine))
        image.SetDirection((lps[:3, :3] / spacing_of(affine)).ravel())
        image.SetOrigin(lps[:3, 3])
    return image


def write(path, image, packed=False):
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


def edit(path, *changes):
    content = path.read_bytes()
    for before, after in changes:
        assert before in content
        content = content.replace(before, after, 1)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SRP"])
def test_voxels_lie_where_itk_says(tmp_path, ending, packed, axcodes):
    affine = affine_of(axcodes, (1.0, 1.5, 2.5), oblique=True)
    path = write(tmp_path / f"a.{ending}", image_of(affine=affine), packed)
    scan, image = read_itk(path), sitk.ReadImage(str(path))
    np.testing.assert_allclose(scan.original.affine, affine, atol=1e-9)
    for index in ((0, 0, 0), (5, 4, 3), (2, 3, 1)):
        lps = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(scan.original.affine @ (*index, 1), LPS @ (*lps, 1), atol=1e-9)
        place = np.linalg.inv(scan.affine) @ LPS @ (*lps, 1)
        assert scan.voxels[0][tuple(place[:3].round().astype(int))] == image[index]
    header = itk_header(path)
    assert (header.shape, header.num_channels, header.dtype) == ((6, 5, 4), 1, "int16")
    assert (header.orientation, header.spacing) == (axcodes, pytest.approx((1.0, 1.5, 2.5)))


@pytest.mark.parametrize("space", ["right-anterior-superior", "LAS", "left-posterior-superior"])
def test_every_named_space_of_nrrd(tmp_path, space):
    path = write(tmp_path / "a.nrrd", image_of(affine=affine_of("LPS")))
    edit(path, (b"left-posterior-superior", space.encode()))
    signs = {"right-anterior-superior": (1, 1, 1), "LAS": (-1, 1, 1), "left-posterior-superior": (-1, -1, 1)}[space]
    expected = np.diag([*signs, 1.0]) @ LPS @ affine_of("LPS")
    np.testing.assert_allclose(read_itk(path).original.affine, expected)


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_time_and_vectors_are_channels(tmp_path, ending):
    parts = [image_of(VOXELS + number, affine_of("PIR", (1.0, 2.0, 3.0))) for number in range(3)]
    expected = read_itk(write(tmp_path / f"one.{ending}", parts[0]))
    series = read_itk(write(tmp_path / f"t.{ending}", sitk.JoinSeries(parts)))
    vectors = read_itk(write(tmp_path / f"v.{ending}", sitk.Compose(parts)))
    for scan in (series, vectors):
        np.testing.assert_array_equal(scan.voxels, np.concatenate([expected.voxels + number for number in range(3)]))
        np.testing.assert_allclose(scan.affine, expected.affine)
    assert itk_header(tmp_path / f"t.{ending}").num_channels == 3
    assert itk_header(tmp_path / f"v.{ending}").num_channels == 3
    with pytest.raises(DataError, match="more than one axis beyond the volume"):
        read_itk(write(tmp_path / f"tv.{ending}", sitk.JoinSeries([sitk.Compose(parts)] * 2)))


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_flat_images(tmp_path, ending):
    image = sitk.GetImageFromArray(VOXELS[0])
    image.SetSpacing((0.5, 2.0))
    scan = read_itk(write(tmp_path / f"a.{ending}", image))
    np.testing.assert_array_equal(scan.voxels[0], VOXELS[0])
    assert (scan.spacing, scan.affine) == ((2.0, 0.5), None)
    assert itk_header(tmp_path / f"a.{ending}").shape == (5, 6)


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_colours_are_channels_in_2d_and_refused_in_3d(tmp_path, ending):
    colours = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    flat = read_itk(write(tmp_path / f"a.{ending}", image_of(colours[0], vector=True)))
    np.testing.assert_array_equal(flat.voxels, colours[0].transpose(2, 0, 1))
    path = write(tmp_path / f"b.{ending}", image_of(colours, vector=True))
    with pytest.raises(DataError, match="colour: volumes of colours are not scans"):
        itk_header(path)


def test_complex_numbers_are_refused(tmp_path):
    image = sitk.RealAndImaginaryToComplex(*[sitk.Cast(image_of(), sitk.sitkFloat32)] * 2)
    with pytest.raises(DataError, match="complex voxels"):
        read_itk(write(tmp_path / "a.nrrd", image))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("a.nrrd", (b"space: left-posterior-superior\n", b""), "names no space"),
        ("a.nrrd", (b"left-posterior-superior", b"scanner-xyz"), "names no space"),
        ("a.mha", (b"ElementSpacing = 1 1.5 2.5\n", b""), "states no spacing"),
        ("a.mha", (b"TransformMatrix = ", b"Comment = "), "states no directions"),
    ],
)
def test_missing_geometry_is_refused_or_assumed(tmp_path, name, change, words):
    path = edit(write(tmp_path / name, image_of(affine=affine_of("RAS", (1.0, 1.5, 2.5)))), change)
    if name == "a.nrrd" and not change[1]:
        edit(path, (b"space directions: (-1,0,0) (0,-1.5,0) (0,0,2.5)\n", b"spacings: 1 1.5 2.5\n"))
        edit(path, (b"space origin", b"# space origin"))
        words = "states no directions"
    for read in (read_itk, itk_header):
        with pytest.raises(DataError, match=f"no geometry: .*{words} .*--assume-spacing"):
            read(path)
    scan = read_itk(path, (4.0, 5.0, 6.0))
    np.testing.assert_array_equal(np.diag(scan.affine), (4.0, 5.0, 6.0, 1.0))
    np.testing.assert_array_equal(scan.voxels[0], VOXELS.T)
    if "spacing" not in words:
        assert read_itk(path, "header").spacing == (1.0, 1.5, 2.5)


def test_sheared_axes_are_refused_or_assumed(tmp_path):
    path = write(tmp_path / "a.nrrd", image_of(affine=affine_of("RAS", (1.0, 1.0, 2.0))))
    edit(path, (b"(0,0,2)", b"(0,0.6,2)"))
    with pytest.raises(DataError, match=r"sheared axes: by 16\.7 degrees"):
        read_itk(path)
    scan = read_itk(path, "header")
    assert scan.spacing == pytest.approx((1.0, 1.0, np.hypot(2, 0.6)))
    assert scan.problems[0].startswith("spacing assumed")


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.raw", "sub/a.raw", "LIST", "LIST 2", "s%03d.raw 1 9 1", "-", "", "..", "a\\b.raw"]
)
@pytest.mark.parametrize("ending", ["nhdr", "mhd"])
def test_only_a_file_beside_it_is_read(tmp_path, ending, name):
    path = edit(write(tmp_path / f"a.{ending}", image_of()), (b"a.raw", name.encode()))
    with pytest.raises(DataError, match="not one data file"):
        read_itk(path)
    assert "passwd" not in str(path)


def test_a_file_that_is_not_there(tmp_path):
    path = edit(write(tmp_path / "a.mhd", image_of()), (b"a.raw", b"other.raw"))
    with pytest.raises(DataError, match="missing data file"):
        itk_header(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("ending", "size"), [("nrrd", b"sizes: 6 5 4"), ("mha", b"DimSize = 6 5 4")])
def test_absurd_sizes_are_refused_at_once(tmp_path, ending, size, packed):
    path = write(tmp_path / f"a.{ending}", image_of(), packed)
    edit(path, (size, size.replace(b"6 5 4", b"90000 90000 90000")))
    with pytest.raises(DataError, match=r"truncated: .* 1458000000000000 are promised"):
        itk_header(path)


@pytest.mark.parametrize("axes", [b"0", b"1", b"5", b"99999999", b"-3", b"x"])
def test_numbers_of_axes_that_bring_itk_down(tmp_path, axes):
    path = edit(write(tmp_path / "a.mha", image_of()), (b"NDims = 3", b"NDims = " + axes))
    with pytest.raises(DataError, match="damaged header"):
        read_itk(path)


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_flipped_bits_of_compressed_voxels_are_noticed(tmp_path, ending):
    path = write(tmp_path / f"a.{ending}", image_of(), packed=True)
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable NRRD or MetaImage file"):
        read_itk(path)
