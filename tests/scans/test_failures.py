import zlib

import pytest

from scanlore.errors import DataError
from scanlore.scans.failures import counted, one_line, reason_of


def test_reason_says_how_to_mend_it_and_not_where():
    assert reason_of(DataError("broken", where="a.nii", fix="glue it")) == "broken (glue it)"
    assert reason_of(DataError("broken", where="a.nii")) == "broken"


def test_counted():
    assert [counted(number, "slice") for number in (0, 1, 2)] == ["0 slices", "1 slice", "2 slices"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("DOE^JANE"), "ValueError"),
        (OSError(5, "DOE", "/jane"), "input/output error"),
        (EOFError("DOE"), "cut off"),
        (MemoryError(), "not enough memory"),
        (zlib.error("DOE"), "damaged compression"),
    ],
)
def test_no_word_of_a_library_is_passed_on(error, said):
    with pytest.raises(DataError) as caught, one_line("a.nii", "broken"):
        raise error
    assert (caught.value.what, caught.value.where, caught.value.__cause__) == (f"broken: {said}", "a.nii", error)


def test_the_cause_can_be_left_out():
    with pytest.raises(DataError) as caught, one_line("a.dcm", "broken", chained=False):
        raise ValueError("DOE^JANE")
    assert caught.value.__cause__ is None


def test_errors_of_ours_pass():
    with pytest.raises(DataError, match="as it was"), one_line("a.nii", "broken"):
        raise DataError("as it was")


def test_a_file_that_may_not_be_opened_is_not_called_broken():
    with pytest.raises(DataError) as caught, one_line("a.nii", "broken"):
        raise PermissionError(13, "DOE", "/jane")
    assert caught.value.what == "cannot be opened: permission denied"
