"""Scans to measure with, made on the spot."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch

from scanlore.corpus.build import BuildPlan, build
from scanlore.corpus.index import Corpus, StoredScans
from scanlore.corpus.prepare import Origin, given
from scanlore.scans.find import find_sources

SMALL, LARGE = (182, 218, 182), (512, 512, 300)
Voxels = npt.NDArray[np.int16]


def brain() -> Voxels:
    """Return the skull-stripped ICBM152 template that nilearn ships, or an ellipsoid of smooth noise without it."""
    try:
        from nilearn.datasets import load_mni152_template
    except ImportError:
        return _ellipsoid()
    values = np.asarray(load_mni152_template(resolution=1).dataobj, dtype=np.float32)
    starts = [(edge - wanted) // 2 for edge, wanted in zip(values.shape, SMALL, strict=True)]
    box = tuple(slice(start, start + wanted) for start, wanted in zip(starts, SMALL, strict=True))
    return np.rint(values[box] * (1000 / values.max())).astype(np.int16)


def _ellipsoid() -> Voxels:
    coarse = torch.from_numpy(np.random.default_rng(0).uniform(300, 1000, (1, 1, 12, 12, 12)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=SMALL, mode="trilinear")[0, 0].numpy()
    axes = np.meshgrid(*(np.linspace(-1.25, 1.25, edge) for edge in SMALL), indexing="ij", sparse=True)
    return np.where(sum(axis**2 for axis in axes) < 1, smooth, 0).astype(np.int16)


def read(path: Path | None) -> Voxels:
    """Return the voxels of a NIfTI file as int16, or the template."""
    return brain() if path is None else np.array(nib.load(path).dataobj).astype(np.int16)


def upsampled(voxels: Voxels) -> Voxels:
    """Return a CT-like scan: the given one at 512 x 512 x 300 with 1 % noise everywhere."""
    values = torch.from_numpy(voxels.astype(np.float32))[None, None]
    large = torch.nn.functional.interpolate(values, size=LARGE, mode="trilinear")[0, 0].numpy()
    noise = np.random.default_rng(0).standard_normal(LARGE, dtype=np.float32)
    return np.rint(large + 0.01 * float(values.max()) * noise).astype(np.int16)


def write(voxels: Voxels, folder: Path, count: int, suffix: str) -> list[Path]:
    """Write `count` scans that differ in one voxel."""
    folder.mkdir()
    paths = []
    for number in range(count):
        voxels[0, 0, 0] = number
        paths.append(folder / f"scan{number}{suffix}")
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), paths[-1])
    return paths


def build_here(path: Path, out: Path) -> None:
    """Build a corpus of the scans at a path in this process."""
    build([given(source, Origin(b"benchmark")) for source in find_sources([path])[0]], out, BuildPlan())


def stored(folder: Path) -> StoredScans:
    """Build a corpus of the scans in a folder, beside it."""
    out = folder.with_name(f"{folder.name}-corpus")
    build_here(folder, out)
    return Corpus(out).select()
