"""How much a file may promise, so that no memory is asked for that its bytes cannot fill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scanlore.errors import DataError

MOST_INFLATION = 1032
"""Deflate makes no more than this many bytes of one."""

LARGE, LARGE_INFLATION = 10**9, 200
"""More bytes than this, packed tighter than this, are a bomb and no scan."""

_BLOCK = 512
_STATM = Path("/proc/self/statm")


def check_promise(promised: int, there: int, where: object, *, is_packed: bool = False) -> None:
    """Refuse data that are not there, or not to be believed, before any memory is asked for.

    Args:
        promised: Bytes that the header speaks of, unpacked.
        there: Bytes of the file that are left to hold them, such as from `bytes_there`.
        where: The file.
        is_packed: Whether they are compressed.

    Raises:
        DataError: Plain data that are not all there, or compressed ones that could not have been packed so tightly.
    """
    if promised < 0 or promised > there * (MOST_INFLATION if is_packed else 1):
        packed = "compressed " if is_packed else ""
        raise DataError(f"truncated: {there} {packed}bytes where {promised} are promised", where=where)
    if is_packed:
        check_inflation(promised, there, where)


def check_inflation(promised: int, there: int, where: object) -> None:
    """Refuse what is made to fill the memory or the disk.

    Args:
        promised: Bytes after unpacking.
        there: Bytes before.
        where: The file.

    Raises:
        DataError: More than `LARGE` bytes from less than one in `LARGE_INFLATION`.
    """
    if promised > LARGE and promised > there * LARGE_INFLATION:
        raise DataError(f"too large: {there} compressed bytes promise {promised}", where=where)


def bytes_there(path: Path) -> int:
    """Return the size of a file; where nearly all of a large one is a hole, what could be believed of it."""
    stat = path.stat()
    allocated = getattr(stat, "st_blocks", 0) * _BLOCK
    if stat.st_size <= LARGE or not allocated:
        return stat.st_size
    return min(stat.st_size, allocated * LARGE_INFLATION)


@contextmanager
def limited_memory(num_bytes: int) -> Iterator[None]:
    """Let this process take no more than so many bytes beyond what it has, where the system can hold it to that.

    For decoders that a damaged file could make take any amount; they then fail as they do without memory.

    Args:
        num_bytes: Of address space.
    """
    try:
        import resource

        taken = int(_STATM.read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = taken + num_bytes
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
