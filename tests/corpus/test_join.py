import polars as pl
import pytest

from scanlore.corpus.index import index_frame
from scanlore.corpus.join import join
from scanlore.errors import DataError
from scanlore.scans.metadata import hashed

SALT = b"s"


def rows(*names, **facts):
    """Rows of an index whose patient, file and relative path are such names."""
    return index_frame(
        [
            {
                **{"source": name, "patient": hashed(SALT, name), "file": hashed(SALT, f"{name}_T1w")},
                **{"relative": hashed(SALT, f"sub-{name}/anat/{name}_T1w.nii.gz"), "channel": 0, **facts},
            }
            for name in names
        ]
    )


def table(**columns):
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


@pytest.mark.parametrize(
    ("key", "on"),
    [
        ("sub-007", "patient"),
        (" 007 ", "patient"),
        ("007_T1w", "file"),
        ("007_T1w.nii.gz", "file"),
        ("./sub-007/anat/007_T1w.nii.gz", "relative"),
        ("ds1/sub-007/anat/007_T1w.nii.gz", "relative"),
    ],
)
def test_key_is_found_where_it_matches(key, on):
    joined, report = join(rows("007", "7"), table(id=[key, "9"], sex=["f", "m"]), "id", None, SALT)
    assert joined["sex"].to_list() == ["F", None]
    assert (report.on, report.num_rows_matched, report.num_rows_unmatched) == (on, 1, 1)
    assert (report.num_table_rows_unused, report.columns, report.unknown) == (1, {"sex": 1}, {})


def test_path_goes_before_a_name_that_a_label_may_share():
    frame = pl.concat([rows("a"), rows("a").with_columns(relative=pl.lit("of the label"))])
    joined, report = join(frame, table(id=["sub-a/anat/a_T1w.nii.gz"], sex=["f"]), "id", None, SALT)
    assert (report.on, joined["sex"].to_list()) == ("relative", ["F", None])


def test_table_is_right_where_it_says_something():
    given = table(id=["a", "b"], age=["47", "n/a"], vendor=["GE", "n/a"])
    joined, report = join(rows("a", "b", vendor="philips", age_band="20-24"), given, "id", "patient", SALT)
    assert joined["age_band"].to_list() == ["45-49", "20-24"]
    assert joined["vendor"].to_list() == ["ge", "philips"]
    assert report.columns == {"age_band": 1, "vendor": 1}


def test_rest_of_the_index_stays():
    frame = rows("b", "a", "c")
    joined, _ = join(frame, table(id=["a"], dataset=["x"]), "id", None, SALT)
    assert joined.drop("dataset").equals(frame.drop("dataset"))


def test_channels_of_a_file():
    frame = pl.concat([rows("a"), rows("a", channel=1)])
    given = table(id=["a", "a"], channel=["1", "0"], modality=["FLAIR", "t1ce"])
    joined, report = join(frame, given, "id", None, SALT)
    assert joined["sequence"].to_list() == ["T1", "T2-FLAIR"]
    assert report.num_table_rows_unused == 0


def test_rows_that_agree_are_one():
    given = table(id=["a", "sub-a", "a"], sex=["f", "F", "n/a"], site=["n/a", "n/a", "1"])
    joined, _ = join(rows("a"), given, "id", "patient", SALT)
    assert joined.select("sex", "site").row(0) == ("F", hashed(SALT, "1"))


def test_rows_that_differ_are_refused_without_naming_anybody():
    given = table(id=["b", "smith", "smith"], sex=["f", "f", "m"])
    with pytest.raises(DataError, match="differ in sex, such as 2 and 3") as error:
        join(rows("smith", "b"), given, "id", None, SALT)
    assert "smith" not in str(error.value)


def test_patients_may_come_from_a_table():
    joined, _ = join(rows("a"), table(file=["a_T1w"], subject=["sub-x"]), "file", "file", SALT)
    assert joined["patient"].to_list() == [hashed(SALT, "x")]


@pytest.mark.parametrize(
    ("key", "on", "message"),
    [
        ("idd", None, "no column 'idd'.*columns: id, sex; did you mean 'id'"),
        ("id", "name", "not compared with 'name'"),
        ("id", "patient", "no value of the table's column 'id' is a patient"),
        ("id", None, "no value of the table's column 'id'.*columns: id, sex"),
    ],
)
def test_no_match(key, on, message):
    with pytest.raises(DataError, match=message):
        join(rows("a"), table(id=["x"], sex=["f"]), key, on, SALT)
