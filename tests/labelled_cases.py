"""Labelled cases in memory, small enough for tests; a module of its own so that loader workers can unpickle them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanlore.corpus.store import Pyramid
from scanlore.scans.intensity import intensity_stats
from scanlore.tasks.labelled_index import LabelledEntry

SHAPES = [(20, 24, 18), (9, 30, 12), (40, 16, 16)]


def make_entry(number, shape, num_channels=2):
    """A case of noise with two bright boxes, which are its classes."""
    rng = np.random.default_rng(number)
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 3:6, 1:4], labels[-3:, -3:, -2:] = 1, 2
    channels = [rng.integers(0, 500, shape) + 1000 * labels.astype(int) for _ in range(num_channels)]
    factors = ((1,) * len(shape),)
    return LabelledEntry(
        name=f"case{number}",
        shape=shape,
        spacing=(1.0,) * len(shape),
        through_axis=2 if len(shape) == 3 else None,
        stats=tuple(intensity_stats(voxels) for voxels in channels),
        pyramids=tuple(Pyramid(factors, (voxels.astype(np.int16),), 1.0, 0.0) for voxels in channels),
        labels=Pyramid(factors, (labels,), 1.0, 0.0),
        foreground={label: np.argwhere(labels == label) for label in (1, 2)},
    )


@dataclass(frozen=True)
class Store:
    """Labelled cases in memory, as `LabelledStore` offers them."""

    entries: tuple

    def __len__(self):
        return len(self.entries)

    def case(self, index):
        return self.entries[index]


def three_cases():
    """A store of three volumes of two channels and two classes."""
    return Store(tuple(make_entry(number, shape) for number, shape in enumerate(SHAPES)))
