"""Masks as files with exactly the geometry of their scan, and the names of their labels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from scanlore.run import write_atomically
from scanlore.scans.geometry import from_ras
from scanlore.scans.nifti import write_nifti
from scanlore.scans.scan import Scan


def find_mask(stem: Path) -> Path | None:
    """Return the mask that `write_mask` wrote for a stem; `None` where there is none."""
    return next((path for path in map(stem.with_name, _names(stem)) if path.is_file()), None)


def _names(stem: Path) -> tuple[str, str]:
    return f"{stem.name}.nii.gz", f"{stem.name}.png"


def write_mask(stem: Path, labels: npt.NDArray[np.integer], scan: Scan) -> Path:
    """Write a mask, whole or not at all: `STEM.nii.gz` for a volume, `STEM.png` for an image.

    A volume gets the shape, axis order and affine of the scan's own file, in mm; an image its height and width.
    Numbers are stored in 8 or 16 bits as they are: a mask of few labels looks black as a picture.

    Args:
        stem: The file without its extension; its folder exists.
        labels: `(*spatial)` on the grid of `scan.voxels`, uint8 or int16.
        scan: Whose voxels are labelled.

    Returns:
        The file.

    Raises:
        DataError: The shape is not the scan's.
    """
    volume, image = map(stem.with_name, _names(stem))
    path = image if scan.original.affine is None else volume
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    if path == volume:
        write_nifti(temporary, labels, scan)
    else:
        pixels = from_ras(labels, scan.original)
        Image.fromarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16)).save(temporary)
    temporary.replace(path)
    return path


def write_label_names(folder: Path, labels: Mapping[int, str]) -> None:
    """Write `labels.json`, which says what the numbers in the masks of a folder mean: `{"0": "background", ...}`."""
    write_atomically(folder / "labels.json", json.dumps({str(key): name for key, name in labels.items()}, indent=2))
