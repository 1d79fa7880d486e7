import csv

import pytest

from scanlore.errors import DataError
from scanlore.tasks.catalogue import dataset
from scanlore.tasks.datasets.joinable import joinable_table


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_participant_of_openmind_is_named_with_the_dataset(tmp_path):
    lines = ["image_path,modality,age"]
    lines += [f"OpenMind/ds00000{n}/sub-01/ses-DEFAULT/sub-01_ses-DEFAULT_T1w.nii.gz,T1w,{20 + n}" for n in (1, 2)]
    (tmp_path / "openneuro_metadata.csv").write_text("\n".join(lines))
    table, key, on = joinable_table(dataset("openmind").layout, tmp_path, tmp_path)
    assert (key, on) == ("path", "relative")
    rows = rows_of(table)
    assert [row["patient"] for row in rows] == ["ds000001/sub-01", "ds000002/sub-01"]
    assert rows[0]["study"] == "ds000001/sub-01/ses-DEFAULT"
    assert rows[1]["age"] == "22"


def write_fomo(folder):
    people = ["dataset\tparticipant_id\tage\tsex", "PT001_A\tsub-01\t30\tF", "PT002_B\tsub-01\t60\tM"]
    scans = ["dataset\tparticipant_id\tsession_id\tfilename\tManufacturer"]
    scans += [
        f"{name}\tsub-01\tses-01\tsub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz\tGE" for name in ("PT001_A", "PT002_B")
    ]
    scans.append("PT003_C\tsub-07\t\tsub-07/scan.nii.gz\tPhilips")
    (folder / "participants.tsv").write_text("\n".join(people))
    (folder / "mri_info.tsv").write_text("\n".join(scans))


def test_scans_and_participants_of_fomo_are_joined_within_their_dataset(tmp_path):
    write_fomo(tmp_path)
    table, _, _ = joinable_table(dataset("fomo-300k").layout, tmp_path, tmp_path)
    rows = rows_of(table)
    assert [(row["patient"], row["age"], row["sex"]) for row in rows] == [
        ("PT001_A/sub-01", "30", "F"),
        ("PT002_B/sub-01", "60", "M"),
        ("PT003_C/sub-07", "", ""),
    ]
    assert rows[0]["path"] == "PT001_A/sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz"
    assert [row["study"] for row in rows] == ["PT001_A/sub-01/ses-01", "PT002_B/sub-01/ses-01", ""]
    assert "dataset" not in rows[0]


def test_participants_of_one_dataset_are_taken_as_they_are(tmp_path):
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-01\n")
    found = joinable_table(dataset("openneuro").layout, tmp_path, tmp_path / "unused")
    assert found == (tmp_path / "participants.tsv", "participant_id", "patient")


def test_a_table_without_its_column_is_refused(tmp_path):
    (tmp_path / "openneuro_metadata.csv").write_text("path,age\na,3\n")
    with pytest.raises(DataError, match=r"no column 'image_path'.*path, age"):
        joinable_table(dataset("openmind").layout, tmp_path, tmp_path)
