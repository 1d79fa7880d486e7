import pytest

from scanlore.errors import DataError
from scanlore.scans.bad_scans import BadScans


def test_one_may_always_be_bad():
    bad = BadScans(50, 0.0)
    bad.add("a.nii", DataError("broken", where="a.nii"))
    bad.check()
    assert bad.problems == [("a.nii", "broken")]


def test_the_limit_is_called_as_in_the_settings():
    bad = BadScans(50, 0.01, "max_bad")
    for name in ("a.nii", "b.nii"):
        bad.add(name, DataError("broken", where="elsewhere"))
    with pytest.raises(DataError, match=r"2 of 50 .* more than max_bad = 0\.01 allows: a\.nii: elsewhere: broken"):
        bad.check()
