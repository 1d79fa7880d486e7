import polars as pl
import pytest

from scanlore.errors import DataError
from scanlore.evaluation.tables import LATER, SCHEMAS, read_table, read_tables, write_table, write_tables


def test_round_trip(tmp_path):
    predictions = [
        {"trial": "t", "case": "a", "split": "test", "target": 1, "probabilities": [0.25, 0.75]},
        {"trial": "t", "case": "b", "split": None, "target": None, "probabilities": None},
    ]
    results = [{"trial": "t", "metric": "accuracy", "value": None, "reason": "no case", "n": 0}]
    write_tables(tmp_path, [{"trial": "t", "classes": ["x", "y"], "seed": 3}], predictions, results)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.parquet" for name in sorted(SCHEMAS)]
    assert read_table(tmp_path, "predictions")["probabilities"].to_list() == [[0.25, 0.75], None]
    assert read_table(tmp_path, "trials").row(0, named=True)["classes"] == ["x", "y"]
    assert read_table(tmp_path, "results").row(0, named=True)["reason"] == "no case"


def test_a_wrong_type_is_refused(tmp_path):
    with pytest.raises(pl.exceptions.ComputeError):
        write_tables(tmp_path, [{"trial": "t", "seed": "three"}], [], [])


def test_a_missing_or_foreign_table(tmp_path):
    with pytest.raises(DataError, match="no table 'results'"):
        read_table(tmp_path, "results")
    write_tables(tmp_path, [], [], [])
    (tmp_path / "trials.parquet").replace(tmp_path / "results.parquet")
    with pytest.raises(DataError, match="no table of results"):
        read_table(tmp_path, "results")


def test_all_three_at_once(tmp_path):
    write_tables(tmp_path, [{"trial": "t", "labels": "10", "fold": 2}], [], [])
    tables = read_tables(tmp_path)
    assert (tables.trials["labels"][0], tables.predictions.height, tables.results.height) == ("10", 0, 0)


def test_an_unknown_column_is_refused(tmp_path):
    with pytest.raises(KeyError, match="no column label"):
        write_table(tmp_path, "trials", [{"trial": "t", "label": "10"}])


def test_tables_of_older_runs_are_read(tmp_path):
    write_table(tmp_path, "trials", [{"trial": "t", "seed": 3}])
    pl.read_parquet(tmp_path / "trials.parquet").drop(LATER).write_parquet(tmp_path / "trials.parquet")
    frame = read_table(tmp_path, "trials")
    assert frame.columns == list(SCHEMAS["trials"])
    assert (frame["seed"][0], frame["labels"][0]) == (3, None)


def test_a_wrong_folder_or_file(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_table(tmp_path / "nowhere", "trials")
    (tmp_path / "trials.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="no readable Parquet"):
        read_table(tmp_path, "trials")
