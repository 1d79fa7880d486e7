import json
from itertools import pairwise

import pytest

from scanlore.reports.run_rows import rows_with, sampled_rows


@pytest.fixture
def rows_file(tmp_path):
    def write(num_rows, tail=""):
        path = tmp_path / "metrics.jsonl"
        rows = (
            {"step": step, "loss": 1.0} | ({"knn": 0.5} if step % 100 == 0 else {}) for step in range(1, num_rows + 1)
        )
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
        return path

    return write


def steps(rows):
    return [row["step"] for row in rows]


def test_a_short_file_is_read_whole(rows_file):
    assert steps(sampled_rows(rows_file(50))) == list(range(1, 51))


def test_of_a_long_file_evenly_spaced_rows_are_read(rows_file):
    read = steps(sampled_rows(rows_file(5000), max_rows=50, whole_bytes=100))
    assert 45 <= len(read) <= 52
    assert (read[0], read[-1]) == (1, 5000)
    gaps = [after - before for before, after in pairwise(read)]
    assert all(gap > 0 for gap in gaps)
    assert max(gaps) < 130


@pytest.mark.parametrize("whole_bytes", [10, 10**6])
def test_a_last_line_cut_short_is_left_out(rows_file, whole_bytes):
    read = sampled_rows(rows_file(30, tail='{"step": 31, "lo'), max_rows=10, whole_bytes=whole_bytes)
    assert read[-1]["step"] == 30


@pytest.mark.parametrize("text", [None, "", '{"step": 1', "\n", "[1]\n{}\nnonsense\n"])
def test_nothing_to_read(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    if text is not None:
        path.write_text(text)
    assert sampled_rows(path) == []
    assert rows_with(path, ["loss"]) == []


def test_rows_with_a_key_are_all_found(rows_file):
    assert steps(rows_with(rows_file(1000), ["knn", "none"])) == list(range(100, 1001, 100))


def test_of_very_many_rows_with_a_key_evenly_spaced_ones(rows_file):
    found = steps(rows_with(rows_file(2000), ["loss"], max_rows=20))
    assert 18 <= len(found) <= 22
    assert found[-1] > 1800
