import numpy as np
import polars as pl
import pytest

from scanlore.corpus.ragged import from_series


@pytest.fixture
def ragged():
    return from_series(pl.Series([[1, 2], None, [], [3], [4, 5, 6]], dtype=pl.List(pl.Int64)), np.int32)


def test_lists_and_unknown_ones(ragged):
    assert [None if one is None else one.tolist() for one in ragged] == [[1, 2], None, None, [3], [4, 5, 6]]
    assert ragged.values.dtype == np.int32


@pytest.mark.parametrize("rows", [[4, 0], np.array([4, 0])])
def test_some_lists(ragged, rows):
    assert [one.tolist() for one in ragged[rows]] == [[4, 5, 6], [1, 2]]


def test_lists_by_mask(ragged):
    assert [one.tolist() for one in ragged[np.array([True, False, False, True, False])]] == [[1, 2], [3]]


def test_no_lists(ragged):
    assert len(ragged[[]]) == len(ragged[np.zeros(5, bool)]) == 0
