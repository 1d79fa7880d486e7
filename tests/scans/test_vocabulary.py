import pytest

from scanlore.scans import vocabulary
from scanlore.scans.vocabulary import (
    age_band,
    age_of,
    body_part_of,
    contrast_of,
    field_strength_of,
    modality_of,
    scout_of,
    sequence_of,
    sex_of,
    vendor_of,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t1_ce", "T1"),
        ("T1w", "T1"),
        ("t1gd", "T1"),
        ("AX T1 FLAIR", "T1-FLAIR"),
        ("FLAIR", "T2-FLAIR"),
        ("T2_FLAIR_SAG", "T2-FLAIR"),
        ("t2_spc_dark-fluid", "T2-FLAIR"),
        ("T2w", "T2"),
        ("AxT2 TSE", "T2"),
        ("T2starw", "T2star"),
        ("T2* GRE", "T2star"),
        ("PDw", "PD"),
        ("sag STIR", "STIR"),
        ("ep2d_diff_b1000", "DWI"),
        ("dwi", "DWI"),
        ("ep2d_diff_ADC", "ADC"),
        ("SWI_Images", "SWI"),
        ("TOF_3D_multi-slab", "MRA"),
        ("task-rest_bold", "BOLD"),
        ("pcasl_3d", "ASL"),
        ("ep2d_perf", "perfusion"),
        ("MPRAGE", "T1"),
        ("UNIT1", "T1"),
        ("inplaneT2", "T2"),
        ("MRCP thick slab", "MRCP"),
        ("T1 T2 fused", None),
        ("Doe Jane", None),
        ("", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_sequence(text, expected):
    assert sequence_of(text) == expected
    assert expected is None or expected in vocabulary.SEQUENCES


def test_the_first_text_that_names_a_sequence_decides():
    assert sequence_of("routine", None, "T2w", "T1w") == "T2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MR", "MR"),
        ("ct", "CT"),
        ("MRI", "MR"),
        ("T1w", "MR"),
        ("PET", "PT"),
        ("PET CT", None),
        ("chest X-ray", "DX"),
        ("CXR", "DX"),
        ("ultrasound", "US"),
        ("mammography", "MG"),
        ("fundus", "OP"),
        ("dermatoscopy", "DMS"),
        ("dermoscopy", "DMS"),
        ("SECRET", None),
        ("XX", None),
    ],
)
def test_modality(text, expected):
    assert modality_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t1ce", True),
        ("t1_ce", True),
        ("T1w_post", True),
        ("AX T1 +C", True),
        ("AX T1 C+", True),
        ("T1 SE Gd", True),
        ("MPRAGE KM", True),
        ("ce-GADOLINIUM", True),
        ("CT abdomen portal venous", True),
        ("t1n", False),
        ("T1 pre", False),
        ("CT nativ", False),
        ("CT ohne KM", False),
        ("ABD W/O CONTRAST", False),
        ("non-contrast CT", False),
        ("without and with contrast", None),
        ("CT W/O & W CONTRAST", None),
        ("MPRAGE+C", True),
        ("spine posterior", None),
        ("brain post-op", None),
        ("T1 c-spine", None),
        ("T1w", None),
        (None, None),
    ],
)
def test_contrast(text, expected):
    assert contrast_of(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BRAIN", "brain"),
        ("CSPINE", "spine"),
        ("L-SPINE", "spine"),
        ("HEADNECK", "head-neck"),
        ("CHEST_ABDOMEN_PELVIS", "torso"),
        ("ABDOMEN^PELVIS", "abdomen"),
        ("ABDOMENPELVIS", "abdomen"),
        ("Knie rechts", "knee"),
        ("prostate MRI pelvis", "prostate"),
        ("WHOLEBODY", "whole-body"),
        ("CT Schädel", "head"),
        ("bearing", None),
        ("charm", None),
    ],
)
def test_body_part(text, expected):
    assert body_part_of(text) == expected
    assert expected is None or expected in vocabulary.BODY_PARTS


@pytest.mark.parametrize("text", ["LOCALIZER", "3-plane Loc", "Scout", "Topogram 0.6", "Survey_SSH", "ScoutView"])
def test_scout(text):
    assert scout_of("T1w", text) is True


def test_words_never_say_that_it_is_no_scout():
    assert scout_of("T1 axial", None) is None


def test_vendor():
    names = ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips Healthcare", "UIH", "Doe Imaging", " ", None)
    found = [vendor_of(name) for name in names]
    assert found == ["siemens", "ge", "philips", "united-imaging", "other", None, None]
    assert set(found) - {None} <= set(vocabulary.VENDORS)


def test_sex():
    assert [sex_of(text) for text in ("F", "female", "m", "w", "O", "n/a", "", None)] == [
        *("F", "F", "M", "F", "O", None, None, None)
    ]


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("045Y", 45),
        ("018M", 1.5),
        ("45", 45),
        (45.2, 45.2),
        ("45,5", 45.5),
        ("020-025", 22.5),
        ("90+", 90),
        (">89", 90),
        ("12 years", 12),
        ("999Y", None),
        ("old", None),
        ("-3", None),
        (None, None),
        (float("inf"), None),
    ],
)
def test_age(text, years):
    assert age_of(text) == (None if years is None else pytest.approx(years))


def test_age_bands():
    ages = (0, 4.99, 5, 47, 89.9, 90, 107, -1, 131, float("nan"), None)
    assert [age_band(age) for age in ages] == [
        *("0-4", "0-4", "5-9", "45-49", "85-89", "90+", "90+", None, None, None, None)
    ]


@pytest.mark.parametrize(
    ("value", "tesla"),
    [(1.5, 1.5), ("3T", 3.0), ("1,5 Tesla", 1.5), (15000, 1.5), (2.8936, 2.9), ("0.064", 0.1), ("x", None), (-3, None)],
)
def test_field_strength(value, tesla):
    assert field_strength_of(value) == tesla
