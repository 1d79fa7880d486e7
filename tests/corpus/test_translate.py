import polars as pl
import pytest

from scanlore.corpus.index import schema
from scanlore.corpus.translate import SYNONYMS, match_columns, translate
from scanlore.errors import DataError
from scanlore.scans.metadata import hashed


def translated(**cells):
    table = pl.DataFrame({name: [value] for name, value in cells.items()})
    values, unknown = translate(table, {name: name for name in cells}, b"s")
    return values.row(0, named=True), unknown


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("modality", "MRI", "MR"),
        ("sequence", "T2 FLAIR", "T2-FLAIR"),
        ("body_part", "Brain", "brain"),
        ("contrast", "yes", True),
        ("contrast", "0", False),
        ("vendor", "SIEMENS Healthineers", "siemens"),
        ("field_strength", "3T", 3.0),
        ("sex", "female", "F"),
        ("age_band", "47.3", "45-49"),
        ("age_band", "45-49", "45-49"),
        ("patient", "sub-01", hashed(b"s", "01")),
        ("site", "Charité", hashed(b"s", "Charité")),
        ("dataset", "fastmri-knee", "fastmri-knee"),
        ("licence", "CC BY-SA 4.0", "CC BY-SA 4.0"),
        ("split", "n/a", None),
    ],
)
def test_value(column, text, value):
    values, unknown = translated(**{column: text})
    assert (values[column], unknown) == (value, {})


@pytest.mark.parametrize(("column", "text"), [("sex", "Anna"), ("dataset", "Doe, John"), ("licence", "x" * 61)])
def test_what_is_not_understood_is_counted_and_not_kept(column, text):
    assert translated(**{column: text}) == ({column: None}, {column: 1})


def test_sequence_and_contrast_are_also_read_from_the_modality():
    assert translated(modality="T1 gd") == ({"modality": "MR", "sequence": "T1", "contrast": True}, {})
    assert translated(modality="CT") == ({"modality": "CT", "sequence": None, "contrast": None}, {})


def test_columns_are_found_by_synonyms():
    names = ["image_path", "modality", "age", "sex", "manufacturer", "magnetic_field_strength", "unique_id"]
    assert match_columns(names, "image_path", {}) == {
        "modality": "modality", "vendor": "manufacturer", "field_strength": "magnetic_field_strength",
        "sex": "sex", "age_band": "age",
    }  # fmt: skip
    assert match_columns(["PatientSex", "participant_id"], "participant_id", {}) == {"sex": "PatientSex"}
    assert match_columns(["a", "Geschlecht"], "a", {"sex": "Geschlecht"}) == {"sex": "Geschlecht"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no column of the table"),
        ({"sex": "Geschlcht"}, "no column 'Geschlcht'.*did you mean 'Geschlecht'"),
        ({"sexx": "Geschlecht"}, "'sexx' is no column.*did you mean 'sex'"),
    ],
)
def test_columns_that_are_not_there(given, message):
    with pytest.raises(DataError, match=message):
        match_columns(["id", "Geschlecht"], "id", given)


def test_tables_fill_columns_of_the_index():
    assert schema().keys() >= SYNONYMS.keys()
