"""Turn what file libraries raise into one line for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scanlore.errors import DataError, ScanloreError


def reason_of(error: ScanloreError) -> str:
    """Return what is wrong and how to mend it, for lists that name the file themselves."""
    return error.what if error.fix is None else f"{error.what} ({error.fix})"


def counted(number: int, noun: str) -> str:
    """Return `"1 slice"`, `"2 slices"`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def one_line(where: object, what: str, *, detail: bool = True) -> Iterator[None]:
    """Raise every failure of the block as a `DataError` of one line.

    Args:
        where: The file or folder concerned.
        what: What is wrong with it, for example `"not a readable NIfTI file"`.
        detail: Add the library's own words and keep its exception as the cause; off for DICOM, where both can quote
            the header.

    Raises:
        DataError: In place of any exception that is not already a `ScanloreError`.
    """
    try:
        yield
    except ScanloreError:
        raise
    except Exception as error:
        if not detail:
            raise DataError(f"{what}: {type(error).__name__}", where=where) from None
        words = str(error).strip().splitlines()
        raise DataError(f"{what}: {words[0] if words else type(error).__name__}", where=where) from error
