"""Metrics of segmentation: pure functions of two masks in the scan's own geometry, one implementation for all tables.

Rules for empty masks, the same everywhere: a class absent in reference and prediction has no value at all (nothing was
asked, nothing was answered); absent in one of them, its overlaps are 0 and its Hausdorff distance has no value, as
there is no surface to measure to. Background is never scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects
from scipy.spatial import KDTree

from scanlore.evaluation.metrics import Metric

Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
Distances = npt.NDArray[np.float64]

ROUNDING = 1e-4
"""Slack of a tolerance in its unit: affines of float32 make a spacing of 1 mm 1.0000001 mm."""


@dataclass(frozen=True)
class Agreement:
    """What two masks of one class have in common.

    Attributes:
        num_reference: Voxels of the reference.
        num_prediction: Voxels of the prediction.
        num_shared: Voxels of both.
        to_reference: Distance from each surface voxel of the prediction to the nearest of the reference; empty where
            either mask is.
        to_prediction: Distance from each surface voxel of the reference to the nearest of the prediction.
    """

    num_reference: int
    num_prediction: int
    num_shared: int
    to_reference: Distances
    to_prediction: Distances

    @property
    def absence(self) -> str | None:
        """Where the class is absent, in words; `None` where both masks have it."""
        counts = {"reference": self.num_reference, "prediction": self.num_prediction}
        absent = [name for name, count in counts.items() if not count]
        return f"absent in {' and '.join(absent)}" if absent else None


MaskMetric = Callable[[Agreement], float]


def agreement(reference: Mask, prediction: Mask, spacing: Sequence[float]) -> Agreement:
    """Measure how two masks of one class agree.

    Args:
        reference: `(*spatial)`, 2D or 3D.
        prediction: Of the same shape.
        spacing: Step along each axis, in the unit the distances shall have.
    """
    surfaces = surface(reference), surface(prediction)
    return Agreement(
        num_reference=int(np.count_nonzero(reference)),
        num_prediction=int(np.count_nonzero(prediction)),
        num_shared=int(np.count_nonzero(reference & prediction)),
        to_reference=surface_distances(surfaces[1], surfaces[0], spacing),
        to_prediction=surface_distances(*surfaces, spacing),
    )


def surface(mask: Mask) -> Mask:
    """Return the voxels of a mask that touch its outside through a face; beyond the border of the array is outside."""
    padded = np.pad(mask, 1)
    interior = mask.copy()
    inner = (slice(1, -1),) * mask.ndim
    for axis in range(mask.ndim):
        for beside in (slice(None, -2), slice(2, None)):
            interior &= padded[(*inner[:axis], beside, *inner[axis + 1 :])]
    return mask & ~interior


def surface_distances(start: Mask, goal: Mask, spacing: Sequence[float]) -> Distances:
    """Return the distance from every voxel of one surface to the nearest of another; empty where either is.

    A tree of the surface voxels, not a distance transform of their box: one stray voxel at the far end of a CT would
    make that several gigabytes.

    Args:
        start: Voxels to measure from.
        goal: Voxels to measure to.
        spacing: Step along each axis.
    """
    goals = np.argwhere(goal)
    apart = np.argwhere(start & ~goal)
    if not len(goals) or not start.any():
        return np.empty(0)
    steps = np.asarray(spacing, dtype=np.float64)
    _, nearest = KDTree(goals * steps, leafsize=32).query(apart * steps, workers=-1)
    # From whole steps again: coordinates of 4.7 and 3.7 mm are not exactly 1 mm apart
    away = np.linalg.norm((apart - goals[nearest]) * steps, axis=1)
    return np.concatenate([np.zeros(int(np.count_nonzero(start & goal))), away])


def dice(found: Agreement) -> float:
    """Return twice the shared voxels over the voxels of both, in [0, 1]; NaN where both masks are empty."""
    total = found.num_reference + found.num_prediction
    return 2 * found.num_shared / total if total else np.nan


def jaccard(found: Agreement) -> float:
    """Return the shared voxels over those of either, in [0, 1]; NaN where both masks are empty."""
    union = found.num_reference + found.num_prediction - found.num_shared
    return found.num_shared / union if union else np.nan


def hd95(found: Agreement) -> float:
    """Return the larger of the two directed 95th percentiles of surface distance; NaN where a mask is empty."""
    if not len(found.to_reference):
        return np.nan
    return float(max(np.quantile(found.to_reference, 0.95), np.quantile(found.to_prediction, 0.95)))


def nsd(found: Agreement, tolerance: float) -> float:
    """Return the share of both surfaces at most `tolerance` from the other (Nikolov et al. 2018; Reinke et al. 2021).

    Surface elements are voxels. In [0, 1]; 0 where one mask is empty, NaN where both are.

    Args:
        found: The masks.
        tolerance: In the unit of the spacing; a voxel exactly as far counts as near.
    """
    if found.absence:
        return 0.0 if found.num_reference + found.num_prediction else np.nan
    distances = np.concatenate([found.to_reference, found.to_prediction])
    return float((distances <= tolerance + ROUNDING).mean())


def mask_metrics(tolerance: float, unit: str = "mm") -> dict[str, Metric[MaskMetric]]:
    """Return the metrics by name.

    Args:
        tolerance: Of the NSD, part of its name.
        unit: Of spacing and tolerance: `mm`, or `px` for images of unknown size.
    """
    return {
        "dice": Metric(dice),
        "jaccard": Metric(jaccard),
        "hd95": Metric(hd95, unit=unit),
        f"nsd@{tolerance:g}{unit}": Metric(partial(nsd, tolerance=tolerance)),
    }


def score_case(
    reference: Labels,
    prediction: Labels,
    labels: Mapping[int, str],
    spacing: Sequence[float] | None,
    tolerance: float = 1.0,
    ignore: int | None = None,
) -> list[dict[str, Any]]:
    """Score one case: every metric of every class.

    Args:
        reference: `(*spatial)` label values.
        prediction: `(*spatial)` label values on the same grid.
        labels: Class names by label value; 0, the background, is not scored.
        spacing: Voxel size in mm along each axis; `None` measures in pixels.
        tolerance: Of the NSD, in the unit of the distances.
        ignore: Label value of reference voxels that count for nothing.

    Returns:
        Rows with `class_or_region`, `metric`, `unit`, `version`, `value`, and a `reason` where `value` is `None`.
    """
    if ignore is not None:
        prediction = np.where(reference == ignore, 0, prediction)
    metrics = mask_metrics(tolerance, "px" if spacing is None else "mm")
    steps = spacing or (1.0,) * reference.ndim
    boxes = [find_objects(mask) for mask in (reference, prediction)]
    rows = []
    for label, name in scored_classes(labels, ignore).items():
        box = _union(*(found[label - 1] if label <= len(found) else None for found in boxes))
        found = agreement(reference[box] == label, prediction[box] == label, steps)
        rows += [{"class_or_region": name, **_row(key, metric, found)} for key, metric in metrics.items()]
    return rows


def scored_classes(labels: Mapping[int, str], ignore: int | None = None) -> dict[int, str]:
    """Return the classes that are scored: all but the background and what is to be ignored."""
    return {label: name for label, name in labels.items() if label not in (0, ignore)}


def _row(name: str, metric: Metric[MaskMetric], found: Agreement) -> dict[str, Any]:
    value = metric.function(found)
    is_known = bool(np.isfinite(value))
    facts = {"value": value if is_known else None, "reason": None if is_known else found.absence}
    return {"metric": name, "unit": metric.unit, "version": metric.version, **facts}


def _union(*boxes: tuple[slice, ...] | None) -> tuple[slice, ...]:
    """Return the box around boxes; an empty one where there is none."""
    present = [box for box in boxes if box is not None]
    if not present:
        return (slice(0, 0),)
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*present, strict=True)
    )
