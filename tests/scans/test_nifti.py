import gzip
import tracemalloc
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from factories import affine_of, write_nifti_file
from scanlore.errors import DataError
from scanlore.scans.nifti import nifti_header, read_nifti, write_nifti

ORIENTATIONS = ["".join(p) for order in permutations(("LR", "PA", "IS")) for p in product(*order)]


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_written_file_has_the_shape_affine_and_voxels_of_the_scan(tmp_path, axcodes, oblique):
    path = write_nifti_file(tmp_path / "a.nii", (5, 6, 7), (1.0, 1.5, 3.0), axcodes, oblique=oblique)
    scan = read_nifti(path)
    write_nifti(tmp_path / "b.nii.gz", scan.voxels, scan)
    before, after = nib.load(path), nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    np.testing.assert_allclose(after.get_qform(), before.affine, atol=1e-5)
    np.testing.assert_array_equal(after.dataobj, before.dataobj)
    assert after.get_data_dtype() == before.get_data_dtype()


def test_scan_of_an_oriented_file(tmp_path):
    path = write_nifti_file(tmp_path / "a.nii.gz", (5, 6, 7), (3.0, 0.9, 0.9), "PIR")
    scan = read_nifti(path)
    assert scan.voxels.shape == (1, 7, 5, 6)
    assert scan.voxels.dtype == np.int16
    assert scan.spacing == pytest.approx((0.9, 3.0, 0.9))
    assert scan.through_axis == 1
    assert scan.original.axes == ((1, -1), (2, -1), (0, 1))
    assert scan.original.shape == (5, 6, 7)


def test_header(tmp_path):
    header = nifti_header(write_nifti_file(tmp_path / "a.nii", (5, 6, 7), (1, 1, 2), "LPS", channels=3))
    assert (header.format, header.shape, header.num_channels) == ("nifti", (5, 6, 7), 3)
    assert (header.spacing, header.orientation, header.dtype) == ((1, 1, 2), "LPS", "int16")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 5, 6, 3), (3, 4, 5, 6)),
        ((4, 5, 6, 1), (1, 4, 5, 6)),
        ((4, 5, 6, 1, 2), (2, 4, 5, 6)),
        ((4, 5, 1), (1, 4, 5, 1)),
        ((4, 5), (1, 4, 5, 1)),
    ],
)
def test_extra_axes_become_channels(tmp_path, shape, expected):
    voxels = np.arange(np.prod(shape)).reshape(shape)
    scan = read_nifti(write_nifti_file(tmp_path / "a.nii", voxels=voxels))
    assert scan.voxels.shape == expected
    np.testing.assert_array_equal(scan.voxels[-1].ravel(), voxels.reshape(-1, expected[0])[:, -1])


def test_channels_are_written_last(tmp_path):
    scan = read_nifti(write_nifti_file(tmp_path / "a.nii", (4, 5, 6), axcodes="LPI", channels=3))
    write_nifti(tmp_path / "b.nii", scan.voxels, scan)
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii").dataobj, nib.load(tmp_path / "a.nii").dataobj)


def test_two_long_extra_axes_are_refused(tmp_path):
    with pytest.raises(DataError, match="more than one axis beyond the volume"):
        read_nifti(write_nifti_file(tmp_path / "a.nii", voxels=np.zeros((4, 5, 6, 2, 3))))


def save(path, affine=None, dtype=np.int16, codes=(1, 0), units="mm", slope=None, shape=(3, 4, 5)):
    image = nib.Nifti1Image(np.arange(np.prod(shape)).reshape(shape).astype(dtype), np.eye(4))
    image.set_sform(np.eye(4) if affine is None else affine, code=codes[0])
    image.header["qform_code"] = codes[1]
    image.header.set_xyzt_units(units)
    if slope:
        image.header.set_slope_inter(*slope)
    nib.save(image, path)
    return path


def test_zero_affine_is_refused(tmp_path):
    with pytest.raises(DataError, match="size of zero"):
        read_nifti(save(tmp_path / "a.nii", np.diag([0, 0, 0, 1])))


def test_missing_geometry_is_refused(tmp_path):
    with pytest.raises(DataError, match="no geometry"):
        read_nifti(save(tmp_path / "a.nii", codes=(0, 0)))


def test_qform_stands_in_for_a_sheared_sform(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    scan = read_nifti(save(tmp_path / "a.nii", sheared, codes=(1, 1)))
    np.testing.assert_array_equal(scan.affine, np.eye(4))
    assert scan.problems == ("the sform cannot be used",)


@pytest.mark.parametrize(("units", "size"), [("micron", 0.001), ("meter", 1000.0), ("unknown", 1.0)])
def test_units_become_millimetres(tmp_path, units, size):
    path = save(tmp_path / "a.nii", units=units)
    assert read_nifti(path).spacing == pytest.approx((size,) * 3)
    assert nifti_header(path).spacing == pytest.approx((size,) * 3)


@pytest.mark.parametrize(
    ("slope", "dtype"), [((1, 0), np.int16), ((1, -1024), np.int16), ((0.5, 0), np.float32), ((1, 0.5), np.float32)]
)
def test_rescaling_keeps_integers_where_it_can(tmp_path, slope, dtype):
    path = save(tmp_path / "a.nii", slope=slope)
    voxels = read_nifti(path).voxels
    assert voxels.dtype == dtype
    np.testing.assert_allclose(voxels[0], nib.load(path).get_fdata())


def test_big_endian_file(tmp_path):
    image = nib.Nifti1Image(np.arange(60, dtype=">i2").reshape(3, 4, 5), np.eye(4), nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "a.nii")
    voxels = read_nifti(tmp_path / "a.nii").voxels
    assert voxels.dtype.isnative
    np.testing.assert_array_equal(voxels.ravel(), np.arange(60))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("share", [0.01, 0.5])
def test_truncated_file_is_one_line(tmp_path, name, share):
    path = write_nifti_file(tmp_path / name, (20, 20, 20))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError) as caught:
        read_nifti(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_colour_and_complex_files_are_refused(tmp_path):
    rgb = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii")
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.complex64), np.eye(4)), tmp_path / "complex.nii")
    with pytest.raises(DataError, match="colour"):
        read_nifti(tmp_path / "rgb.nii")
    with pytest.raises(DataError, match="complex64 are not real"):
        nifti_header(tmp_path / "complex.nii")


@pytest.mark.parametrize(
    ("given", "stored"),
    [("bool", "uint8"), ("float16", "float32"), ("int64", "int32"), ("uint8", "uint8"), ("float64", "float64")],
)
def test_written_dtype(tmp_path, given, stored):
    scan = read_nifti(write_nifti_file(tmp_path / "a.nii"))
    write_nifti(tmp_path / "b.nii", np.ones(scan.shape, given), scan)
    assert nib.load(tmp_path / "b.nii").get_data_dtype() == stored


def test_large_integers_do_not_wrap(tmp_path):
    scan = read_nifti(write_nifti_file(tmp_path / "a.nii"))
    write_nifti(tmp_path / "b.nii", np.full(scan.shape, 2**40), scan)
    assert nib.load(tmp_path / "b.nii").get_fdata().max() == 2**40


def test_asked_dtype_is_written(tmp_path):
    scan = read_nifti(write_nifti_file(tmp_path / "a.nii"))
    write_nifti(tmp_path / "b.nii", np.ones(scan.shape, np.float32), scan, dtype=np.uint8)
    assert nib.load(tmp_path / "b.nii").get_data_dtype() == np.uint8


def test_oblique_scan_stays_where_it_was(tmp_path):
    scan = read_nifti(write_nifti_file(tmp_path / "a.nii", axcodes="LAS", oblique=True))
    np.testing.assert_allclose(scan.original.affine, affine_of("LAS", oblique=True), atol=1e-5)


def test_uncompressed_file_called_gz_says_how_to_mend_it(tmp_path):
    path = write_nifti_file(tmp_path / "a.nii").rename(tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match=r"not a gzip file.*rename it \.nii\)"):
        read_nifti(path)


def test_missing_and_sheared_geometry_can_be_assumed(tmp_path):
    path = save(tmp_path / "a.nii", codes=(0, 0))
    scan = read_nifti(path, (1.0, 2.0, 3.0))
    assert scan.spacing == (1.0, 2.0, 3.0)
    assert scan.problems == ("spacing assumed: 1 x 2 x 3 mm, axes taken as right, anterior, superior",)
    assert nifti_header(path, "header").spacing == (1.0, 1.0, 1.0)
    sheared = np.diag([2.0, 2, 3, 1])
    sheared[0, 1] = 0.6
    with pytest.raises(DataError, match="sheared axes: by"):
        read_nifti(save(tmp_path / "b.nii", sheared))
    scan = read_nifti(tmp_path / "b.nii", "header")
    assert scan.spacing == pytest.approx((2, np.hypot(2, 0.6), 3))
    assert scan.problems[0].startswith("spacing assumed: 2 x 2.088 x 3 mm")


def test_pair_of_files(tmp_path):
    image = nib.Nifti1Pair(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine_of("LPS"))
    nib.save(image, tmp_path / "a.hdr")
    scan = read_nifti(tmp_path / "a.hdr", voxels_in=tmp_path / "a.img")
    np.testing.assert_array_equal(scan.original.affine, affine_of("LPS"))
    np.testing.assert_array_equal(scan.voxels[0, ::-1, ::-1], image.dataobj)
    assert nifti_header(tmp_path / "a.hdr", voxels_in=tmp_path / "a.img").shape == (3, 4, 5)


def test_second_version_and_extensions(tmp_path):
    image = nib.Nifti2Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine_of("RAS"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"words " * 99))
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz").voxels[0], image.dataobj)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_absurd_sizes_take_no_memory(tmp_path, name):
    content = bytearray(write_nifti_file(tmp_path / "small.nii").read_bytes())
    content[42:48] = np.array([32767] * 3, "<i2").tobytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    for read in (read_nifti, nifti_header):
        tracemalloc.start()
        with pytest.raises(DataError, match=r"truncated: \d+ .*bytes where 70362301923678 are promised"):
            read(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 10**7
        tracemalloc.stop()


def test_flipped_bits_of_a_gzip_file_are_noticed(tmp_path):
    path = write_nifti_file(tmp_path / "a.nii.gz", (20, 20, 20))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged compression"):
        read_nifti(path)
