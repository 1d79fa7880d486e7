"""Telling label maps from images, by what a file is called and by what it holds."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDER = re.compile(r"labels?(tr|ts|val)?|masks?|seg(mentation)?s?|groundtruth|gt")
WORD = re.compile(
    r"d?segs?|segmentations?|masks?|labels?|labelmap|groundtruth|gt|annotations?|rois?|totalseg|aseg|aparc|wmparc"
)
LARGEST_LABEL = np.iinfo(np.int16).max
SAMPLE_VOXELS = 1 << 20
# Measured on 161 label maps and 767 images: neighbours that are not background are equal in 74 % or more of the pairs
# of label maps, in 13 % or less of volumes, and 58 % or less of 8-bit pictures of slices.
EQUAL_NEIGHBOURS, MOST_LABELS, MOST_NAMED_LABELS = 0.7, 256, 4096
EQUAL_NEIGHBOURS_OF_FEW, FEW_LABELS = 0.3, 64
"""What suffices of vessels and points where the name says so and there are few labels."""


def named_label(path: Path) -> bool:
    """Return whether a path names a label map: a folder (`labelsTr`, `masks`) or the name (`case1_seg.nii.gz`) does.

    Of the name the first and the last word count, of the folders the two above the file: `case1_mask_t1.nii.gz` is an
    image.

    Args:
        path: Of a file, or of the folder of a DICOM series.
    """
    folders = [part.lower().replace("_", "") for part in path.parts[-3:-1]]
    words = [word for word in re.split(r"[^a-z0-9]+", path.name.lower().partition(".")[0]) if word]
    return any(map(FOLDER.fullmatch, folders)) or any(map(WORD.fullmatch, words[:1] + words[-1:]))


def is_label_map(voxels: npt.NDArray[Any], is_named: bool) -> bool:
    """Return whether voxels are labels: whole numbers from 0 to 32,767, few different ones, mostly equal neighbours.

    Nothing but a name tells a black and white picture from a mask, so that 2D images are labels only where a name says
    so; volumes also where they cannot be anything else. A mistake for an image costs a scan, one for labels a rule.

    Args:
        voxels: One channel.
        is_named: Whether the name or the folder says that it is one; it may still be an image.
    """
    if voxels.ndim < 3 and not is_named:
        return False
    sample = _sample(voxels)
    most = MOST_NAMED_LABELS if is_named else MOST_LABELS
    if not _are_labels(sample, most):
        return False
    is_lenient = is_named and _are_labels(sample, FEW_LABELS)
    equal = EQUAL_NEIGHBOURS_OF_FEW if is_lenient else EQUAL_NEIGHBOURS
    return _share_of_equal(sample, is_named) >= equal and _are_labels(voxels, most)


def _sample(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return slices along the last axis from all over the scan."""
    step = max(1, math.ceil(voxels.size / SAMPLE_VOXELS)) if voxels.ndim > 2 else 1
    return voxels[..., step // 2 :: step] if step < voxels.shape[-1] else voxels[..., voxels.shape[-1] // 2 :][..., :1]


def _are_labels(voxels: npt.NDArray[Any], most: int) -> bool:
    if voxels.min(initial=0) < 0 or voxels.max(initial=0) > LARGEST_LABEL:
        return False
    found = np.zeros(LARGEST_LABEL + 1, dtype=bool)
    for index in range(voxels.shape[-1]):
        plane = voxels[..., index]
        numbers = plane.astype(np.int16, copy=False)
        if voxels.dtype.kind == "f" and not np.array_equal(numbers, plane):
            return False
        found[numbers] = True
    return int(found.sum()) <= most


def _share_of_equal(voxels: npt.NDArray[Any], if_constant: bool) -> float:
    """Return the share of equal pairs among the in-plane neighbours that are not both background, the better axis."""
    values, counts = np.unique(voxels, return_counts=True)
    background = values[counts.argmax()]
    shares = []
    for axis in range(max(1, voxels.ndim - 1)):
        along = np.moveaxis(voxels, axis, 0)
        first, second = along[:-1], along[1:]
        pairs = (first != background) | (second != background)
        num_pairs = int(pairs.sum())
        shares.append(float(((first == second) & pairs).sum()) / num_pairs if num_pairs else float(if_constant))
    return max(shares)
