"""Turn what file libraries raise into one line for the user."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from zipfile import BadZipFile

from scanlore.errors import DataError, ScanloreError

_KINDS = (
    (MemoryError, "not enough memory"),
    (EOFError, "cut off"),
    (zlib.error, "damaged compression"),
    (BadZipFile, "damaged or cut off"),
)
_NAMES = {"UnidentifiedImageError": "empty, or not of this format"}
"""Kinds of failures of libraries that are imported only when they are needed."""


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
    except PermissionError:
        raise DataError("cannot be opened: permission denied", where=where) from None
    except Exception as error:
        raise DataError(f"{what}: {_kind_of(error)}", where=where) from (error if chained else None)


def _kind_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    name = type(error).__name__
    return next((words for kind, words in _KINDS if isinstance(error, kind)), _NAMES.get(name, name))
