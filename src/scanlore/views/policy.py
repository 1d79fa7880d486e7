"""What every plan of views answers, and the plan that settings ask for. Torch-free."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from scanlore.corpus.index import Entry
from scanlore.scans.intensity import LinearMap
from scanlore.views.affine import AffinePolicy
from scanlore.views.affine_settings import AffineSettings
from scanlore.views.multicrop import MultiCropPolicy
from scanlore.views.settings import MultiCropSettings
from scanlore.views.view import PlannedView


class ViewPolicy(Protocol):
    """Draws the views of one scan: a pure function of seed, visit and scan. Picklable, for loader workers."""

    @property
    def seed(self) -> int:
        """Of the run."""
        ...

    @property
    def outside(self) -> float | None:
        """Value of views outside their scan; `None` repeats its edge."""
        ...

    @property
    def draw_width(self) -> int:
        """Length of a view's photometric draw; 0 where there are none."""
        ...

    def for_batch(self, number: int) -> ViewPolicy:
        """Return the plan of batch `number`, the same on all processes."""
        ...

    def group_sizes(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Return number and shape of the views of each group of one scan."""
        ...

    def scaling(self, entry: Entry) -> LinearMap:
        """Return the intensity map of a scan."""
        ...

    def plan(self, entry: Entry, visit: int) -> dict[str, list[PlannedView]]:
        """Draw the views of each group of a scan, at its visit number `visit`."""
        ...

    def masks(self, number: int, rank: int, num_scans: int) -> npt.NDArray[np.bool_] | None:
        """Draw the masks of a batch of `num_scans`: `(rows, cells)`, true where hidden; `None` hides nothing."""
        ...


def build_policy(settings: MultiCropSettings | AffineSettings, seed: int, patch_size: int) -> ViewPolicy:
    """Return the plan of some settings.

    Args:
        settings: Which views.
        seed: Of the run.
        patch_size: Of the backbone, for masks of patches.
    """
    if isinstance(settings, AffineSettings):
        return AffinePolicy(settings, seed)
    return MultiCropPolicy(settings, seed, patch_size)
