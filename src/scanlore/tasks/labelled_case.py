"""Reading a case of a segmentation task: its channels, and the mask on the grid of the scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scanlore.corpus.prepare import content_id
from scanlore.errors import DataError
from scanlore.scans.channels import grid_difference, read_channels
from scanlore.scans.failures import counted
from scanlore.scans.read import read_scan
from scanlore.scans.scan import Scan
from scanlore.tasks.label_map import listed

if TYPE_CHECKING:
    from scanlore.tasks.segmentation import SegmentationCase, SegmentationTask

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.int16]
LARGEST_VALUE = 65535
LOSSY = (".jpg", ".jpeg")


@dataclass(frozen=True)
class LabelledScan:
    """One case in memory.

    Attributes:
        scan: All channels, RAS+.
        mask: Class numbers on the grid of the scan, `(*spatial)`; uint8, or int16 where there are more than 255.
            `None` for a case without mask.
    """

    scan: Scan
    mask: Labels | None


def read_case(case: SegmentationCase, task: SegmentationTask) -> LabelledScan:
    """Read the channels of a case and its mask, both reoriented to RAS+.

    Args:
        case: One of the task's cases.
        task: Says the channels, and which class the values of masks mean.

    Raises:
        DataError: A file cannot be read; channels or mask lie on another grid; the case has another number of channels
            than the task; or the mask holds values that the label map does not know.
    """
    scan = read_images(case, task.channels)
    return LabelledScan(scan, None if case.mask is None else read_mask(case.mask, scan, task.class_of_value))


def read_images(case: SegmentationCase, channels: tuple[str, ...]) -> Scan:
    """Read the channels of a case; a colour image whose channels are all equal keeps them in a task that needs them.

    Args:
        case: The case.
        channels: Names of the channels of its task.

    Raises:
        DataError: A file cannot be read, lies on another grid than the first, or there are more or fewer channels.
    """
    scan = read_channels(case.images, len(channels))
    if scan.num_channels != len(channels):
        what = f"has {counted(scan.num_channels, 'channel')}, the task {len(channels)}: {listed(channels)}"
        raise DataError(what, where=case.images[0], fix="give every case the channels of the task")
    return scan


def read_mask(path: Path, scan: Scan, class_of_value: Mapping[int, int]) -> Labels:
    """Read a mask onto the grid of its scan.

    Args:
        path: The file.
        scan: What the mask belongs to.
        class_of_value: Stored value to class number.

    Returns:
        Class numbers `(*spatial)`, uint8, or int16 where there are more than 255.

    Raises:
        DataError: It cannot be read, lies on another grid than the scan, or holds values that the map does not know.
    """
    found, voxels = _mask_voxels(path)
    difference = grid_difference(scan, found)
    if difference:
        raise DataError(f"the mask {difference} than its scan", where=path, fix="resample the mask to its scan's grid")
    lookup = np.full(max(class_of_value) + 1, -1, np.int16)
    lookup[list(class_of_value)] = list(class_of_value.values())
    present = _present(voxels)
    strangers = [value for value in present if not (0 <= value < len(lookup) and lookup[value] >= 0)]
    if strangers:
        what = f"the mask holds {listed(strangers)}, which the label map does not know"
        raise DataError(what, where=path, fix=f"known: {listed(class_of_value)}; correct the mask or the label map")
    labels = np.empty(voxels.shape, np.uint8 if max(class_of_value.values()) <= np.iinfo(np.uint8).max else np.int16)
    for index, slab in enumerate(voxels):  # slab by slab: looking up a whole CT would take eight times its memory
        labels[index] = lookup[slab.astype(np.intp)]
    return labels


def read_mask_values(path: Path) -> list[int]:
    """Return the values a mask holds, rising.

    Raises:
        DataError: It cannot be read, has several channels, or values that are not whole numbers from 0 to 65,535.
    """
    values = _present(_mask_voxels(path)[1])
    if values[0] < 0 or values[-1] > LARGEST_VALUE:
        raise DataError(f"the mask holds {values[0]} to {values[-1]}", where=path, fix="labels are 0, 1, 2 ...")
    return values


def _mask_voxels(path: Path) -> tuple[Scan, npt.NDArray[Any]]:
    if path.suffix.lower() in LOSSY:
        raise DataError("JPEG changes the values of a mask", where=path, fix="save masks as PNG")
    scan = read_scan(path)
    if scan.num_channels != 1:
        fix = "a mask has one channel, which holds the number of the class"
        raise DataError(f"the mask has {scan.num_channels} channels", where=path, fix=fix)
    voxels = scan.voxels[0]
    if any("non-finite" in problem for problem in scan.problems):
        raise DataError("the mask holds values that are not finite numbers", where=path, fix="correct the mask")
    for slab in voxels if voxels.dtype.kind == "f" else ():
        broken = slab[np.rint(slab) != slab]
        if broken.size:
            what = f"the mask holds {float(broken[0]):g}, which is no whole number"
            raise DataError(what, where=path, fix="resample masks with nearest neighbour, or save them as integers")
    return scan, voxels


def _present(voxels: npt.NDArray[Any]) -> list[int]:
    """Return the values of whole numbers, rising; the extremes alone where they reach beyond any label."""
    low, high = int(voxels.min()), int(voxels.max())
    if low < 0 or high > LARGEST_VALUE:
        return sorted({low, high})
    present = np.zeros(high + 1, np.bool_)
    for slab in voxels:
        present[slab.astype(np.intp)] = True
    return [int(value) for value in np.flatnonzero(present)]


def content_ids(case: SegmentationCase) -> tuple[str, ...]:
    """Return the content hash of every channel, as the index of a corpus has it: equal ids are equal scans.

    Args:
        case: One of a task's cases; its mask is not read.

    Raises:
        DataError: A file cannot be read.
    """
    return scan_ids(read_channels(case.images))


def scan_ids(scan: Scan) -> tuple[str, ...]:
    """Return the content hash of every channel of a scan."""
    return tuple(content_id(channel) for channel in scan.voxels)
