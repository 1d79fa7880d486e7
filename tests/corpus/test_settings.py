import pytest

from scanlore.config import recipe_names
from scanlore.corpus.index import schema
from scanlore.corpus.settings import COLUMNS, KIND, Curation, load_rules
from scanlore.errors import ConfigError


def test_defaults_are_the_default_rules_and_3dinos_slices():
    assert load_rules("default") == Curation()
    rules = load_rules("3dino")
    assert (rules.slices_above, rules.highres_above) == (24, 48)
    assert (rules.max_patients, rules.volumes_per_patient) == ({"nlst": 500}, {"4d-lung": 40})
    assert rules.fraction == {"fastmri-knee": 0.5, "rsna-ich": 0.5}


def test_rules_of_s3d():
    rules = load_rules("s3d")
    assert (rules.min_field_of_view_mm, rules.max_spacing_mm, rules.min_file_kb) == (50, 6.5, 200)
    assert rules.keep == {"sequence": ["T1", "T2", "T1-FLAIR", "T2-FLAIR"]}


def test_rules_that_ship():
    assert recipe_names(KIND) == ["3dino", "default", "s3d"]


def test_overrides():
    assert load_rules("default", ["keep.contrast=[true, null]"]).keep == {"contrast": [True, None]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("slices_abov=3", "unknown setting 'slices_abov'; did you mean 'slices_above'"),
        ("slices_above=-1", "slices_above: "),
        ("fraction.nlst=1.5", "fraction: should be less than or equal to 1"),
        ("keep.sequence=[T1w]", "sequence has no value 'T1w'; did you mean 'T1'"),
        ("keep.sequence=[]", "would drop every scan"),
        ("keep.name=[x]", "keep: should be 'format'"),
    ],
)
def test_wrong_rules(override, message):
    with pytest.raises(ConfigError, match=message):
        load_rules("default", [override])


def test_allow_lists_are_over_columns_of_the_index():
    assert set(COLUMNS) <= schema().keys()
