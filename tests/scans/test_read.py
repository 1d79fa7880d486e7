import nibabel as nib
import numpy as np
import pytest

from factories import write_dicom_series, write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.scans.find import Source, find_sources
from scanlore.scans.metadata import hashed
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
    with pytest.raises(DataError, match="2 scans where one was expected"):
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


def test_metadata_of_names_and_sidecars(tmp_path):
    path = write_nifti_file(tmp_path / "sub-01" / "sub-01_T1w.nii.gz")
    path.with_name("sub-01_T1w.json").write_text('{"MagneticFieldStrength": 3}')
    (source,), _ = find_sources([tmp_path])
    for read in (read_scan, read_header):
        metadata = read(source, b"salt").metadata
        assert (metadata.modality, metadata.sequence, metadata.field_strength) == ("MR", "T1", 3.0)
        assert metadata.patient == hashed(b"salt", "01")


def test_spacing_can_be_assumed_for_any_source(tmp_path):
    nib.save(nib.AnalyzeImage(np.ones((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.hdr")
    with pytest.raises(DataError, match="assume-spacing"):
        read_scan(tmp_path)
    assert read_scan(tmp_path, assume_spacing=(1.0, 2.0, 3.0)).spacing == (1.0, 2.0, 3.0)
    assert read_header(tmp_path, assume_spacing="header").problems[0].startswith("spacing assumed: 1 x 1 x 1 mm")


MARK = "JANEDOE"


@pytest.mark.parametrize("name", ["nii", "nii.gz", "mgz", "nrrd", "mha", "mhd", "png", "tif", "dcm", "hdr", "zip"])
def test_no_message_has_a_word_of_a_name_or_a_header(tmp_path, name):
    path = tmp_path / f"{MARK}.{name}"
    path.write_bytes(MARK.encode() * 200)
    said = [reason for _, reason in find_sources([path])[1]]
    for source in find_sources([path])[0]:
        for read in (read_scan, read_header):
            with pytest.raises(DataError) as caught:
                read(source)
            said += [caught.value.what, caught.value.fix or ""]
    assert said
    assert not any(MARK in words for words in said)
