"""The files of what one model sees in one scan."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scanlore.inference.lattice import Places
from scanlore.inference.write_maps import write_colours, write_volumes
from scanlore.reports.explain_panel import BLACK, WHITE, Seen, attention_at, paint
from scanlore.reports.montage import Pixels
from scanlore.run import write_atomically
from scanlore.scans.scan import Scan

SLAB_VOXELS = 1 << 22


def write_seen(folder: Path, scan: Scan, seen: Seen) -> None:
    """Write what a model sees in a scan on the scan's own grid, and on the grid of its patches.

    A volume gets `NAME_pca.nii.gz` (RGB24, 0 where background) and `NAME_attention.nii.gz` (float32, a volume per
    head); an image `NAME_pca.png` (white where background) and `NAME_attention_01.png` ..., each up to its largest
    value. `NAME_maps.npz` holds the arrays `scores`, `attention` and, for each axis, `centres_0` ...: the voxel indices
    of the patches' centres.

    Args:
        folder: Exists.
        scan: The scan.
        seen: What the model sees; its name begins the files' names.
    """
    heads = () if seen.attention is None else seen.attention
    if scan.original.affine is not None:
        write_colours(folder / f"{seen.name}_pca.nii.gz", _colours(seen, scan, BLACK), scan)
        if len(heads):
            whole: list[Places] = [np.arange(size) for size in scan.shape]
            volumes = (attention_at(seen, head, whole) for head in heads)
            write_volumes(folder / f"{seen.name}_attention.nii.gz", volumes, len(heads), scan)
    else:
        _write_png(folder / f"{seen.name}_pca.png", _colours(seen, scan, WHITE))
        for number, head in enumerate(heads, start=1):
            values = attention_at(seen, head, [np.arange(size) for size in scan.shape])
            scaled = values * (255 / max(float(values.max()), 1e-12))
            _write_png(folder / f"{seen.name}_attention_{number:02d}.png", scaled.astype(np.uint8))
    _write_arrays(folder / f"{seen.name}_maps.npz", seen)


def _colours(seen: Seen, scan: Scan, background: int) -> Pixels:
    """Colour a whole scan slab by slab: the scores of all voxels would take four times its memory."""
    colours = np.empty((*scan.shape, 3), np.uint8)
    for rows in _slabs(scan.shape):
        colours[rows] = paint(seen, [rows, *(np.arange(size) for size in scan.shape[1:])], background)
    return colours


def _slabs(shape: tuple[int, ...]) -> Iterator[Places]:
    step = max(1, SLAB_VOXELS // int(np.prod(shape[1:])))
    for first in range(0, shape[0], step):
        yield np.arange(first, min(first + step, shape[0]))


def _write_png(path: Path, pixels: Pixels) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def _write_arrays(path: Path, seen: Seen) -> None:
    arrays: dict[str, Any] = {f"centres_{axis}": centres for axis, centres in enumerate(seen.lattice.centres)}
    if seen.attention is not None:
        arrays["attention"] = seen.attention
    buffer = io.BytesIO()
    np.savez(buffer, scores=seen.scores, **arrays)
    write_atomically(path, buffer.getvalue())
