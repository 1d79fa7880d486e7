from scanlore.errors import DataError
from scanlore.scans.failures import counted, reason_of


def test_reason_says_how_to_mend_it_and_not_where():
    assert reason_of(DataError("broken", where="a.nii", fix="glue it")) == "broken (glue it)"
    assert reason_of(DataError("broken", where="a.nii")) == "broken"


def test_counted():
    assert [counted(number, "slice") for number in (0, 1, 2)] == ["0 slices", "1 slice", "2 slices"]
