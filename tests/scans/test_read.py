import numpy as np
import pytest

from factories import write_dicom_series, write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.scans.find import Source, find_sources
from scanlore.scans.read import read_header, read_scan


def test_every_format_is_read_by_path(tmp_path):
    assert read_scan(str(write_nifti_file(tmp_path / "a" / "a.nii.gz"))).shape == (12, 14, 10)
    assert read_scan(tmp_path / "a").shape == (12, 14, 10)
    assert read_scan(write_png(tmp_path / "a.png")).shape == (20, 24)
    assert read_scan(write_dicom_series(tmp_path / "d"), salt=b"s").metadata.patient is not None


def test_headers_of_every_format(tmp_path):
    write_nifti_file(tmp_path / "a.nii")
    write_png(tmp_path / "b.png")
    write_dicom_series(tmp_path / "c")
    assert [read_header(source).format for source in find_sources([tmp_path])[0]] == ["nifti", "png", "dicom"]


def test_nonfinite_voxels_are_repaired_and_mentioned(tmp_path):
    voxels = np.ones((4, 5, 6), np.float32)
    voxels[0, 0, :2] = np.nan, np.inf
    scan = read_scan(write_nifti_file(tmp_path / "a.nii", dtype="float32", voxels=voxels))
    assert scan.problems == ("2 non-finite voxels replaced by the mean",)
    assert (scan.voxels == 1).all()


def test_scan_without_finite_voxels_names_the_file(tmp_path):
    path = write_nifti_file(tmp_path / "a.nii", dtype="float32", voxels=np.full((2, 2, 2), np.nan))
    with pytest.raises(DataError, match=r"a\.nii: no voxel is a finite number"):
        read_scan(path)


def test_folder_must_hold_exactly_one_scan(tmp_path):
    with pytest.raises(DataError, match="0 scans where one was expected"):
        read_scan(tmp_path)
    write_png(tmp_path / "a.png")
    write_png(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"2 scans where one was expected: .*a\.png"):
        read_scan(tmp_path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(DataError, match=r"not a scan: \.txt"):
        read_scan(tmp_path / "a.txt")


@pytest.mark.parametrize("kind", ["nifti", "dicom", "image2d"])
def test_whatever_a_library_raises_becomes_one_line(tmp_path, kind):
    path = tmp_path / "gone"
    for read in (read_scan, read_header):
        with pytest.raises(DataError, match="gone"):
            read(Source(kind, path, (path,)))
