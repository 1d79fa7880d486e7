"""From the columns of any table to those of the index: values of closed vocabularies, salted hashes, short names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from scanlore.corpus.index import schema
from scanlore.errors import DataError, nearest
from scanlore.scans import vocabulary
from scanlore.scans.metadata import hashed

Translate = Callable[[str], object]

SYNONYMS = {
    "modality": ("modality", "image_modality", "imaging_modality"),
    "sequence": ("sequence", "mr_sequence", "suffix", "contrast_name", "series_description", "protocol_name"),
    "body_part": ("body_part", "bodypart", "body_part_examined", "anatomy", "organ", "region"),
    "contrast": ("contrast", "contrast_agent", "contrast_enhanced", "contrast_medium"),
    "vendor": ("vendor", "manufacturer", "scanner_manufacturer", "scanner_vendor"),
    "field_strength": ("field_strength", "magnetic_field_strength", "magneticfieldstrength", "tesla"),
    "sex": ("sex", "gender", "patient_sex", "participant_sex"),
    "age_band": ("age_band", "age", "patient_age", "age_years", "age_at_scan", "age_group"),
    "site": ("site", "site_id", "institution", "institution_id", "hospital", "center", "centre"),
    "patient": ("patient", "patient_id", "participant_id", "participant", "subject_id", "subject"),
    "study": ("study", "study_id", "study_instance_uid", "study_uid"),
    "series": ("series", "series_id", "series_instance_uid", "series_uid"),
    "dataset": ("dataset", "dataset_name", "dataset_id", "collection"),
    "licence": ("licence", "license"),
    "split": ("split", "partition", "subset"),
}
"""What the columns of tables are called, by column of the index: BIDS, OpenMind, FOMO and usual spreadsheets."""

_MISSING = {"", "n/a", "na", "nan", "none", "null", "unknown", "unk", "missing", "-", "--", "?", "."}
_YES, _NO = {"yes", "y", "true", "1", "1.0", "ja"}, {"no", "n", "false", "0", "0.0", "nein"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}")
LICENCE = re.compile(r"(?=.{1,60}$)[A-Za-z0-9][A-Za-z0-9._+/-]*(?: [A-Za-z0-9._+/()-]+){0,5}")
_FURTHER = (("sequence", "modality"), ("contrast", "sequence"), ("contrast", "modality"))
"""What is also read from another column (`T1w`, `T1 gd`) where a table has none of its own."""


def match_columns(names: Sequence[str], key: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return which column of a table holds what: column of the index to column of the table.

    Args:
        names: The table's columns.
        key: Its key, which holds nothing else unless `given` says so.
        given: Such as `{"sex": "Geschlecht"}`; the others are found by their names.

    Raises:
        DataError: One of them is not there, is no column of metadata, or none is found.
    """
    listed = f"columns: {', '.join(names)}"
    for column, name in given.items():
        if column not in SYNONYMS:
            fix = f"one of {', '.join(SYNONYMS)}{nearest(column, list(SYNONYMS))}"
            raise DataError(f"{column!r} is no column that a table can fill", fix=fix)
        if name not in names:
            raise DataError(f"the table has no column {name!r}", fix=f"{listed}{nearest(name, list(names))}")
    plain = {_plain(name): name for name in reversed(names) if name != key and name not in given.values()}
    found = {
        column: plain[next(word for word in words if word in plain)]
        for column, words in SYNONYMS.items()
        if any(word in plain for word in words)
    } | dict(given)
    if not found:
        fix = f"{listed}; say which holds what, e.g. sex=Geschlecht"
        raise DataError("no column of the table has a name that is known here", fix=fix)
    return found


def _plain(name: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def translate(table: pl.DataFrame, columns: Mapping[str, str], salt: bytes) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return a table's values as the index holds them, and how many cells of each column are not understood.

    Args:
        table: Of text.
        columns: From `match_columns`.
        salt: Of the corpus.
    """
    types, translators = schema(), _translators(salt)
    result: dict[str, pl.Series] = {}
    unknown: dict[str, int] = {}
    for column, name in columns.items():
        values = _apply(table[name], translators[column], types[column])
        missing = sum(map(_is_missing, table[name]))
        unknown[column] = values.null_count() - missing
        result[column] = values
    for column, other in _FURTHER:
        if column not in columns and other in columns:
            values = _apply(table[columns[other]], translators[column], types[column])
            result[column] = result[column].fill_null(values) if column in result else values
    return pl.DataFrame(result), {column: count for column, count in unknown.items() if count}


def _is_missing(text: str | None) -> bool:
    return text is None or text.strip().lower() in _MISSING


def _apply(cells: pl.Series, function: Translate, kind: pl.DataType) -> pl.Series:
    texts = cells.unique().to_list()
    values = {text: None if _is_missing(text) else function(text.strip()) for text in texts}
    return pl.Series([values[text] for text in cells], dtype=kind)


def _translators(salt: bytes) -> dict[str, Translate]:
    return {
        "modality": vocabulary.modality_of,
        "sequence": vocabulary.sequence_of,
        "body_part": vocabulary.body_part_of,
        "contrast": _contrast,
        "vendor": vocabulary.vendor_of,
        "field_strength": vocabulary.field_strength_of,
        "sex": vocabulary.sex_of,
        "age_band": lambda text: vocabulary.age_band(vocabulary.age_of(text)),
        "patient": lambda text: hashed(salt, text.removeprefix("sub-")),
        **dict.fromkeys(("site", "study", "series"), lambda text: hashed(salt, text)),
        **dict.fromkeys(("dataset", "split"), lambda text: text if _NAME.fullmatch(text) else None),
        "licence": lambda text: text if LICENCE.fullmatch(text) else None,
    }


def _contrast(text: str) -> bool | None:
    word = text.lower()
    return word in _YES if word in _YES | _NO else vocabulary.contrast_of(text)
