"""Turn what file libraries raise into one line for the user."""

from __future__ import annotations

import os
import zlib
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
def one_line(where: object, what: str, *, chained: bool = True) -> Iterator[None]:
    """Raise every failure of the block as a `DataError` of one line, without a word of the library that failed.

    Those words can quote the file. What is added is the kind of the failure alone.

    Args:
        where: The file or folder concerned.
        what: What is wrong with it, for example `"not a readable NIfTI file"`.
        chained: Keep the library's exception as the cause, for `--debug`; off for DICOM, where it can quote the header.

    Raises:
        DataError: In place of any exception that is not already a `ScanloreError`.
    """
    try:
        yield
    except ScanloreError:
        raise
    except Exception as error:
        raise DataError(f"{what}: {_kind_of(error)}", where=where) from (error if chained else None)


def _kind_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    known = ((MemoryError, "not enough memory"), (zlib.error, "damaged compression"))
    return next((words for kind, words in known if isinstance(error, kind)), type(error).__name__)
