"""Many short lists of numbers as two arrays: small, picklable and quick to open; numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

Rows = list[int] | npt.NDArray[np.integer[Any]] | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Ragged:
    """Lists of numbers, one after the other.

    Attributes:
        values: The numbers of all lists.
        starts: Where each list starts in `values`, and at last the end: one more than there are lists.
    """

    values: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> npt.NDArray[Any] | None: ...

    @overload
    def __getitem__(self, rows: Rows) -> Ragged: ...

    def __getitem__(self, rows: int | np.integer[Any] | Rows) -> npt.NDArray[Any] | Ragged | None:
        """Return one list, `None` where it is empty or unknown; or several lists, by number or by mask."""
        if isinstance(rows, int | np.integer):
            start, stop = self.starts[rows], self.starts[rows + 1]
            return self.values[start:stop] if stop > start else None
        chosen = np.arange(len(self))[np.asarray(rows, dtype=None if len(rows) else np.int64)]
        lengths = np.diff(self.starts)[chosen]
        starts = _starts(lengths)
        places = np.repeat(self.starts[chosen] - starts[:-1], lengths) + np.arange(starts[-1])
        return Ragged(self.values[places], starts)


def from_series(column: pl.Series, dtype: npt.DTypeLike) -> Ragged:
    """Return a column of lists; unknown lists are empty ones.

    Args:
        column: Of type list.
        dtype: Of the numbers.
    """
    lengths = column.list.len().fill_null(0)
    values = column.filter(lengths > 0).explode().to_numpy()
    return Ragged(values.astype(dtype, copy=False), _starts(lengths.to_numpy()))


def _starts(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts
