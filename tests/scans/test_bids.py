import json
from pathlib import Path

import pytest

from scanlore.scans.bids import bids_metadata
from scanlore.scans.metadata import Metadata, hashed


@pytest.mark.parametrize(
    ("name", "modality", "sequence", "contrast"),
    [
        ("sub-01_T1w.nii.gz", "MR", "T1", None),
        ("sub-01_ce-gadolinium_T1w.nii.gz", "MR", "T1", True),
        ("sub-01_ce-none_T1w.nii.gz", "MR", "T1", False),
        ("sub-01_task-T1w_bold.nii", "MR", "BOLD", None),
        ("sub-01_FLAIR.mgz", "MR", "T2-FLAIR", None),
        ("sub-01_pet.nii.gz", "PT", None, None),
        ("patient_t1_17.nrrd", "MR", "T1", None),
        ("ct_torso_sm.nii.gz", "CT", None, None),
        ("PET_CT.nii.gz", None, None, None),
        ("us_mg_op.png", None, None, None),
        ("T1_and_T2.nii", "MR", None, None),
    ],
)
def test_words_of_a_name(name, modality, sequence, contrast):
    found = bids_metadata(Path(name), None)
    assert (found.modality, found.sequence, found.contrast) == (modality, sequence, contrast)
    assert (found.patient, found.study, found.site) == (None, None, None)


def test_patient_and_session_are_hashed():
    found = bids_metadata(Path("ds1/sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz"), b"s")
    assert found.patient == hashed(b"s", "01")
    assert found.study == hashed(b"s", "01_ses-2")
    in_folders = bids_metadata(Path("sub_01/ses_2/t1.nii.gz"), b"s")
    assert (in_folders.patient, in_folders.study) == (found.patient, found.study)
    assert bids_metadata(Path("subject-01/t1.nii.gz"), b"s").patient is None


def test_a_sidecar_is_read_through_the_vocabularies(tmp_path):
    facts = {
        "Modality": "MR",
        "MagneticFieldStrength": 2.89362,
        "Manufacturer": "Siemens Healthineers",
        "InstitutionName": "St. Elsewhere",
        "BodyPartExamined": "BRAIN",
        "ContrastBolusIngredient": "GADOLINIUM",
        "PatientSex": "F",
        "PatientAge": "047Y",
        "PatientName": "DOE^JANE",
        "ImageType": ["ORIGINAL"],
    }
    (tmp_path / "sub-01_bold.json").write_text(json.dumps(facts))
    found = bids_metadata(tmp_path / "sub-01_bold.nii.gz", b"s")
    assert found == Metadata(
        *("MR", "BOLD", "brain", True, None, "siemens", 2.9, "F", "45-49"),
        site=hashed(b"s", "St. Elsewhere"),
        patient=hashed(b"s", "01"),
    )


@pytest.mark.parametrize("content", ["", "words", "[]", "[" * 10**5, '{"Modality": {"a": 1}, "PatientAge": [1]}'])
def test_damaged_sidecars_say_nothing(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert bids_metadata(tmp_path / "a.nii", None) == Metadata()
