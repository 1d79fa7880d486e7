import polars as pl
import pytest

from scanlore.corpus.index import index_frame
from scanlore.corpus.splits import assign_splits, from_table, official
from scanlore.errors import ConfigError, DataError
from scanlore.scans.metadata import hashed

HALVES = {"train": 0.5, "test": 0.5}


def table(*rows):
    return index_frame([{"source": f"s{number}", "status": "kept", **row} for number, row in enumerate(rows)])


def patients(count, volumes=2):
    return [{"patient": f"p{patient}"} for patient in range(count) for _ in range(volumes)]


def sides(frame, column="patient"):
    return frame.group_by(column).agg(pl.col("split").n_unique())["split"].to_list()


def test_patients_stay_together_and_shares_hold():
    assigned, report = assign_splits(table(*patients(20)))
    assert set(sides(assigned)) == {1}
    assert report.num_units == {"train": 16, "val": 2, "test": 2}
    assert report.num_rows == {"train": 32, "val": 4, "test": 4}
    assert (report.num_unknown, report.num_unassigned, report.num_divided) == (0, 0, 0)


def test_same_seed_same_split_whatever_the_order():
    frame = table(*patients(20))
    one, two = assign_splits(frame)[0], assign_splits(frame.reverse())[0].reverse()
    assert one.equals(two)
    assert not one.equals(assign_splits(frame, seed=1)[0])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"id": "x"}, {"id": "x"}),
        ({"status": "dropped", "rule": "near_duplicates", "value": "s1 at 3"}, {}),
        ({"source": "both"}, {"source": "both", "channel": 1}),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_connected_stays_together(one, two, seed):
    frame = table(one | {"patient": "a"}, two | {"patient": "b"}, {"patient": "b"}, {"patient": "c"})
    assert len(set(assign_splits(frame, fractions=HALVES, seed=seed)[0]["split"][:3])) == 1


def test_sites_stay_together():
    frame = table(*({"patient": f"p{number}", "site": f"h{number % 4}"} for number in range(20)))
    assigned, report = assign_splits(frame, by="site", fractions=HALVES)
    assert set(sides(assigned, "site")) == {1}
    assert report.num_units == {"train": 2, "test": 2}


def test_by_scan_patients_may_be_divided():
    assigned, report = assign_splits(table(*patients(2, 50)), by="scan", fractions=HALVES)
    assert sides(assigned) == [2, 2]
    assert report.num_units == {"train": 50, "test": 50}


def test_unknown_patients_are_counted():
    _, report = assign_splits(table(*patients(2), {}, {}), fractions=HALVES)
    assert (report.num_unknown, report.num_units) == (2, {"train": 2, "test": 2})


def test_systematic_takes_every_nth_unit_in_order():
    assigned, _ = assign_splits(table(*patients(10, 1)), how="systematic", fractions={"train": 0.8, "test": 0.2})
    assert assigned["split"].to_list() == ["train"] * 4 + ["test"] + ["train"] * 4 + ["test"]


def test_shares_are_of_units_with_kept_rows_and_failed_rows_have_no_split():
    rows = [{"patient": f"d{number}", "status": "dropped"} for number in range(40)]
    assigned, report = assign_splits(table(*patients(4, 1), *rows, {"status": "failed"}), fractions=HALVES)
    assert report.num_units == {"train": 2, "test": 2}
    assert assigned["split"].null_count() == 1


@pytest.mark.parametrize("fractions", [{"train": 0.5}, {"train": 1.5, "test": -0.5}, {"a b": 1.0}])
def test_wrong_fractions(fractions):
    with pytest.raises(ConfigError):
        assign_splits(table(*patients(4)), fractions=fractions)


def test_too_few_units():
    with pytest.raises(DataError, match=r"2 units \(patient\) are too few: nothing for val, test"):
        assign_splits(table(*patients(2)))


def test_official_splits_are_kept_and_divided_patients_counted():
    frame = table({"patient": "a", "split": "train"}, {"patient": "a", "split": "test"}, {"patient": "b"})
    kept, report = official(frame)
    assert kept.equals(frame)
    assert (report.num_rows, report.num_unassigned, report.num_divided) == ({"train": 1, "test": 1}, 1, 1)
    with pytest.raises(DataError, match="no kept scan has a split"):
        official(table({}))


def test_splits_of_a_table():
    frame = table({"patient": hashed(b"s", "01"), "split": "old"}, {"patient": hashed(b"s", "02"), "split": "old"})
    given = pl.DataFrame({"participant_id": ["sub-01", "sub-09"], "part": ["test", "train"]})
    assigned, report = from_table(frame, given, "participant_id", b"s", column="part")
    assert assigned["split"].to_list() == ["test", None]
    assert report.num_unassigned == 1
