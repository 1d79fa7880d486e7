"""The labelled cases of a task in a voxel store, as patches for training are read from it.

Made by `scanlore.tasks.labelled_store`. This module is what loader workers import: numpy and blosc2 only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.corpus.store import Pyramid, check_shard, shard_path
from scanlore.errors import DataError
from scanlore.scans.intensity import IntensityStats

FORMAT_VERSION = 1
INDEX = "index.json"


@dataclass(frozen=True)
class LabelledEntry:
    """One stored case.

    Attributes:
        name: Of the case.
        shape: Spatial shape of level 0, which is the whole scan: nothing is cropped.
        spacing: mm per voxel, where known.
        through_axis: Axis across the slices; `None` for 2D images.
        stats: Of the whole scan, one per channel.
        pyramids: Levels of the scan, one per channel.
        labels: The mask with class numbers; level 0 alone.
        foreground: For each class that occurs, the background aside, up to 1,000 of its voxels `(n, ndim)`, drawn by
            chance from all of them.
    """

    name: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    through_axis: int | None
    stats: tuple[IntensityStats, ...]
    pyramids: tuple[Pyramid, ...]
    labels: Pyramid
    foreground: dict[int, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class LabelledStore:
    """The stored cases: plain values, picklable.

    Attributes:
        root: Its folder.
        rows: What the index says of each case.
        problems: Name and reason of the cases that could not be used.
    """

    root: Path
    rows: tuple[dict[str, Any], ...]
    problems: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each case."""
        return tuple(row["name"] for row in self.rows)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The spatial shape of each case."""
        return [tuple(row["shape"]) for row in self.rows]

    @property
    def spacings(self) -> list[tuple[float, ...] | None]:
        """The spacing of each case in mm, where known."""
        return [None if row["spacing"] is None else tuple(row["spacing"]) for row in self.rows]

    @property
    def content_ids(self) -> list[tuple[str, ...]]:
        """The content hash of every channel of each case, as the index of a corpus has it."""
        return [tuple(row["ids"]) for row in self.rows]

    @property
    def class_voxels(self) -> dict[int, int]:
        """Voxels of each class over all cases, the background aside; 0 for a class that never occurs."""
        counts: dict[int, int] = {}
        for row in self.rows:
            for label, count in row["class_voxels"].items():
                counts[int(label)] = counts.get(int(label), 0) + count
        return counts

    def case(self, index: int) -> LabelledEntry:
        """Return one case; its voxels are read when they are asked for.

        Raises:
            DataError: The store is damaged.
        """
        row = self.rows[index]
        shard = str(shard_path(self.root, row["shard"]))
        factors = tuple(tuple(level) for level in row["level_factors"])
        return LabelledEntry(
            name=row["name"],
            shape=tuple(row["shape"]),
            spacing=None if row["spacing"] is None else tuple(row["spacing"]),
            through_axis=row["through_axis"],
            stats=tuple(IntensityStats(**channel["stats"]) for channel in row["channels"]),
            pyramids=tuple(
                Pyramid(
                    factors,
                    tuple((shard, offset) for offset in channel["level_offsets"]),
                    channel["slope"],
                    channel["intercept"],
                )
                for channel in row["channels"]
            ),
            labels=Pyramid(factors[:1], ((shard, row["label_offset"]),), 1.0, 0.0),
            foreground=_foreground(row, shard),
        )


def _foreground(row: dict[str, Any], shard: str) -> dict[int, npt.NDArray[np.int64]]:
    """Read the drawn voxels of every class: one array of flat voxel numbers, class after class."""
    counts = {int(label): count for label, count in row["foreground"].items()}
    if not counts:
        return {}
    stored = Pyramid(((1,),), ((shard, row["foreground_offset"]),), 1.0, 0.0)
    voxels = np.stack(np.unravel_index(stored.read(0, (slice(None),)).astype(np.int64), row["shape"]), axis=-1)
    parts = np.split(voxels, np.cumsum(list(counts.values()))[:-1])
    return dict(zip(counts, parts, strict=True))


def open_labelled_store(root: Path) -> LabelledStore:
    """Open a finished store.

    Args:
        root: Its folder.

    Raises:
        DataError: There is none, or it is damaged.
    """
    facts = read_facts(root)
    if facts is None:
        raise DataError("holds no labelled store", where=root)
    rows = tuple(facts["cases"])
    for row in rows:
        check_shard(root, row["shard"], row["last_offset"])
    return LabelledStore(root, rows, tuple((name, reason) for name, reason in facts["problems"]))


def read_facts(root: Path) -> dict[str, Any] | None:
    """Return the index of a store; `None` where it is unfinished, damaged, or of another format version."""
    try:
        facts = json.loads((root / INDEX).read_text(encoding="utf-8"))
        return facts if facts["format_version"] == FORMAT_VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
