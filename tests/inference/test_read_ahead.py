import threading

import pytest

from scanlore.errors import DataError
from scanlore.inference.read_ahead import read_ahead


def test_order_and_errors_in_place():
    def prepare(number):
        if number == 2:
            raise DataError("two")
        return number * 10

    results = list(read_ahead(prepare, range(5), window=2))
    assert results[:2] + results[3:] == [0, 10, 30, 40]
    assert isinstance(results[2], DataError)


def test_no_more_than_the_window_is_prepared():
    started = []
    results = read_ahead(started.append, range(100), window=3)
    next(results)
    results.close()
    assert len(started) <= 4


def test_other_errors_escape():
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda number: 1 // number, [0]))


def test_it_runs_in_another_thread():
    (ident,) = read_ahead(lambda _: threading.get_ident(), [0])
    assert ident != threading.get_ident()
