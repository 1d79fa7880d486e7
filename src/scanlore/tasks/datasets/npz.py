"""Arrays inside `.npz` files, read piece by piece: the larger files of MedMNIST exceed the memory of most machines."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from scanlore.errors import DataError

BLOCK_BYTES = 1 << 24
MAX_AXES = 5


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in a file.

    Raises:
        DataError: It is no `.npz` file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError("is no readable .npz file", where=path, fix="download it again") from error


def array_shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of an array without reading its values.

    Raises:
        DataError: There is no such array, or it does not hold plain numbers.
    """
    with _opened(path, name) as file:
        return _header(file, path, name)[0]


def read_items(path: Path, name: str) -> Iterator[npt.NDArray[Any]]:
    """Yield the items of an array's first axis, in blocks of about 16 MB at a time in memory.

    Raises:
        DataError: There is no such array, it does not hold plain numbers, or the file is truncated or damaged.
    """
    with _opened(path, name) as file:
        shape, dtype = _header(file, path, name)
        bytes_each = math.prod(shape[1:]) * dtype.itemsize
        num_each = max(1, BLOCK_BYTES // max(1, bytes_each))
        for start in range(0, shape[0], num_each):
            wanted = min(num_each, shape[0] - start)
            data = _read(file, wanted * bytes_each, path)
            yield from np.frombuffer(data, dtype).reshape(wanted, *shape[1:])


def _opened(path: Path, name: str) -> IO[bytes]:
    if name not in array_names(path):
        raise DataError(f"has no array {name!r}", where=path, fix="download it again")
    return zipfile.ZipFile(path).open(f"{name}.npy")


def _header(file: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"the array {name!r} is damaged", where=path, fix="download it again") from error
    if dtype.kind not in "buif" or is_fortran or not 1 <= len(shape) <= MAX_AXES:
        raise DataError(f"the array {name!r} does not hold images or labels", where=path)
    return shape, dtype


def _read(file: IO[bytes], num_bytes: int, path: Path) -> bytes:
    try:
        data = file.read(num_bytes)
    except (OSError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise DataError("is damaged", where=path, fix="download it again") from error
    if len(data) < num_bytes:
        raise DataError("is truncated", where=path, fix="download it again")
    return data
