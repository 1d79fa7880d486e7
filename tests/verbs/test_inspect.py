from functools import partial

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from damaged import dies_of_number_two
from factories import write_dicom_series, write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.scans.find import Source
from scanlore.verbs.inspect import CRASHED, _all, _Answer, inspect


def test_a_row_per_scan(tmp_path):
    write_nifti_file(tmp_path / "a_T1w.nii", (5, 6, 7), (1.0, 1.0, 3.0), "LPS")
    write_dicom_series(tmp_path / "b", (4, 6, 5), modality="CT")
    write_png(tmp_path / "c.png", (8, 9))
    (tmp_path / "notes.txt").touch()
    result = inspect(tmp_path)
    assert result.scans[0] == {
        "name": (tmp_path / "a_T1w.nii").as_posix(),
        "format": "nifti",
        "shape": (5, 6, 7),
        "num_channels": 1,
        "spacing": (1.0, 1.0, 3.0),
        "orientation": "LPS",
        "dtype": "int16",
        "modality": "MR",
        "sequence": "T1",
        "problems": "",
    }
    assert [row["modality"] for row in result.scans] == ["MR", "CT", None]
    assert (result.problems, result.skipped) == ([], [((tmp_path / "notes.txt").as_posix(), "not a scan: .txt")])


def test_spacing_can_be_assumed(tmp_path):
    nib.save(nib.AnalyzeImage(np.ones((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.hdr")
    ((name, reason),) = inspect(tmp_path).problems
    assert name.endswith("a.hdr")
    assert "--assume-spacing" in reason
    assert inspect(tmp_path, assume_spacing=(1.0, 1.0, 4.0)).scans[0]["problems"].startswith("spacing assumed")


def test_other_processes_see_the_same(tmp_path):
    for number in range(3):
        write_nifti_file(tmp_path / f"{number}" / "a.nii", seed=number)
        write_dicom_series(tmp_path / f"{number}" / "ct", (3, 4, 4), seed=number)
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.int16)), str(tmp_path / "x.nrrd"))
    (tmp_path / "1" / "a.nii").write_bytes(b"words")
    result = inspect(tmp_path, num_workers=1)
    assert (len(result.scans), len(result.problems)) == (6, 1)
    assert [row["name"] for row in result.scans] == sorted(row["name"] for row in result.scans)


def test_only_what_brings_a_process_down_is_lost(tmp_path):
    sources = [Source("itk", tmp_path, (tmp_path,), number) for number in range(1, 4)]
    answers = _all(partial(dies_of_number_two, _Answer(tmp_path, 0, "", {}, "")), sources, 1)
    assert [answer.reason for answer in answers] == ["", CRASHED, ""]


def test_nothing_to_see_is_an_error(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"no scans; 1 file skipped, e\.g\. a\.txt \(not a scan: \.txt\)"):
        inspect(tmp_path)
