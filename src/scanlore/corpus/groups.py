"""Groups of rows that belong together, because pairs of them do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Numbers = npt.NDArray[np.int64]


def groups(num_rows: int, keys: Iterable[Numbers] = (), pairs: Sequence[tuple[int, int]] = ()) -> Numbers:
    """Return the group of each row: rows are in one where a chain of equal keys and pairs leads from one to the other.

    Args:
        num_rows: How many rows there are.
        keys: For each kind of key, the numbers of the rows, from 0; negative where a row has none.
        pairs: Row numbers.
    """
    ends = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    starts, stops, num_nodes = [ends[:, 0]], [ends[:, 1]], num_rows
    for key in keys:
        rows = np.flatnonzero(key >= 0)
        starts.append(rows)
        stops.append(num_nodes + key[rows])
        num_nodes += int(key.max(initial=-1)) + 1
    edges = np.concatenate(starts), np.concatenate(stops)
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=(num_nodes, num_nodes))
    labels: Numbers = connected_components(graph, directed=False)[1][:num_rows].astype(np.int64)
    return labels
