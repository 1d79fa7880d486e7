"""Do perceptual fingerprints find converted copies, and only those? Precision and recall by kind of conversion.

Each scan below DATA is copied in every way the tables name, and each copy is compared with all scans. Half of the
scans, by their content, is for choosing a threshold: a tenth below the nearest pair of different scans. The other half
measures the default. Scans that the data itself holds twice (near, and voxels correlated by 0.9) count for nothing.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from scipy.ndimage import zoom

from common import cpu_name
from scanlore.corpus.fingerprint import NEAR, distance, fingerprint, near_pairs
from scanlore.corpus.label_maps import is_label_map, named_label
from scanlore.errors import DataError
from scanlore.scans.find import find_sources
from scanlore.scans.read import read_scan
from scanlore.scans.scan import Scan

Voxels = npt.NDArray[Any]
Copy = Callable[[Scan], Voxels]
SAME = 0.9
TURNED = ("LPS", "SAR", "AIL", "PRI")


def scaled(voxels: Voxels, low: float = 0.5, high: float = 99.5) -> Voxels:
    """Return 8 bits between two percentiles."""
    first, last = np.percentile(voxels, (low, high))
    return (np.clip((voxels - first) / max(last - first, 1e-9), 0, 1) * 255).astype(np.uint8)


def resampled(scan: Scan, wanted: tuple[float, ...]) -> Voxels:
    """Interpolate linearly to a spacing in mm, of images in pixels."""
    spacing = scan.spacing if scan.ndim == 3 and scan.spacing else (1.0,) * scan.ndim
    edges = [max(2, round(n * s / w)) for n, s, w in zip(scan.shape, spacing, wanted, strict=True)]
    factors = [edge / n for edge, n in zip(edges, scan.shape, strict=True)]
    return zoom(scan.voxels[0].astype(np.float32), factors, order=1, grid_mode=True, mode="nearest")


def padded(voxels: Voxels, share: float = 0.1) -> Voxels:
    """Put zeros around, as if they were the background."""
    background = voxels - voxels.min()
    return np.pad(background, [(round(n * share), round(n * share / 2)) for n in voxels.shape])


def cropped(voxels: Voxels, share: float = 0.02) -> Voxels:
    """Cut a fiftieth off one side and half as much off the other, at least a voxel, along every axis."""
    return voxels[tuple(slice(max(1, round(n * share)), n - max(1, round(n * share / 2))) for n in voxels.shape)]


def jpeg(voxels: Voxels) -> Voxels:
    """Return what a JPEG of quality 75 keeps of each slice at 8 bits."""
    slices = scaled(voxels, 0, 99.9)
    slices = np.moveaxis(slices, -1, 0) if voxels.ndim == 3 else slices[None]
    kept = []
    for pixels in slices:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=75)
        kept.append(np.asarray(Image.open(buffer)))
    return np.moveaxis(np.stack(kept), 0, -1) if voxels.ndim == 3 else kept[0]


def noisy(voxels: Voxels) -> Voxels:
    """Add noise of 2 % of the range."""
    spread = np.subtract(*np.percentile(voxels, (99, 1)))
    return voxels + np.random.default_rng(0).normal(0, 0.02 * spread, voxels.shape)


def rewritten(scan: Scan) -> Voxels:
    """Write another file, volumes as NIfTI with their axes turned, and read it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("copy.nii.gz" if scan.ndim == 3 else "copy.tif")
        if scan.ndim == 2:
            tifffile.imwrite(path, scan.voxels[0].astype(np.uint16) * 200)
        else:
            image = nib.Nifti1Image(scan.voxels[0].astype(np.float32), scan.affine)
            code = TURNED[int(abs(float(scan.voxels[0].sum()))) % len(TURNED)]
            turn = nib.orientations.ornt_transform(
                nib.io_orientation(scan.affine), nib.orientations.axcodes2ornt(tuple(code))
            )
            nib.save(image.as_reoriented(turn), path)
        return read_scan(path).voxels[0]


def all_at_once(scan: Scan) -> Voxels:
    """Resample, scale to 8 bits and put zeros around."""
    return padded(scaled(resampled(scan, (2.0,) * scan.ndim)))


COPIES: dict[str, Copy] = {
    "another file, axes turned": rewritten,
    "other slope, float": lambda scan: scan.voxels[0].astype(np.float32) * 0.37 + 12,
    "8 bits, clipped": lambda scan: scaled(scan.voxels[0]),
    "1 mm (images: 1.4 pixels)": lambda scan: resampled(scan, (1.0,) * 3 if scan.ndim == 3 else (1.4,) * 2),
    "2 mm (2 pixels)": lambda scan: resampled(scan, (2.0,) * scan.ndim),
    "1 x 1 x 3 mm (0.7 x 1 pixels)": lambda scan: resampled(scan, (1.0, 1.0, 3.0) if scan.ndim == 3 else (0.7, 1.0)),
    "zeros around": lambda scan: padded(scan.voxels[0]),
    "3 % cut off": lambda scan: cropped(scan.voxels[0]),
    "JPEG": lambda scan: jpeg(scan.voxels[0]),
    "2 % noise": lambda scan: noisy(scan.voxels[0]),
    "2 mm, 8 bits, zeros around": all_at_once,
}


def read_all(data: Path, most: int) -> list[Scan]:
    """Read the images below a folder, at most so many of each number of axes."""
    sources = find_sources([data])[0]
    found: list[Scan] = []
    for index in np.random.default_rng(0).permutation(len(sources)):
        try:
            scan = read_scan(sources[index])
        except DataError:
            continue
        enough = sum(other.ndim == scan.ndim for other in found) >= most
        if not enough and not is_label_map(scan.voxels[0], named_label(sources[index].path)):
            found.append(scan)
    return found


def distances(some: list[str], others: list[str]) -> npt.NDArray[np.int64]:
    """Return the distance of every one of some fingerprints to every one of others."""
    return np.array([[distance(one, other) for other in others] for one in some])


def are_copies(one: Scan, two: Scan) -> bool:
    """Whether two scans of the data hold the same picture, by the correlation of their voxels."""
    if one.shape != two.shape:
        return False
    return bool(np.corrcoef(one.voxels[0].ravel(), two.voxels[0].ravel())[0, 1] >= SAME)


def twins_of(scans: list[Scan], between: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which pairs are near and really the same, each with itself included."""
    same = np.eye(len(scans), dtype=bool)
    for one, two in np.argwhere(np.triu(between <= NEAR, 1)):
        same[one, two] = same[two, one] = are_copies(scans[one], scans[two])
    return same


def report(title: str, scans: list[Scan], chosen: int | None) -> int:
    """Print one table for scans of one number of axes; returns the threshold that they alone would choose."""
    prints = [fingerprint(scan.voxels[0]) for scan in scans]
    between = distances(prints, prints)
    same = twins_of(scans, between)
    different = between[~same]
    print(f"\n### {title}: {len(scans)} scans, {different.size // 2} pairs of different ones\n")
    held_twice = (int(same.sum()) - len(scans)) // 2
    print(f"Nearest different pair at {different.min()}. The data itself holds {held_twice} pairs of copies.")
    for name, limit in (("the default", NEAR), ("that of the other half", chosen)):
        if limit is not None:
            print(f"Different pairs taken for copies at {name}, {limit}: {int((different <= limit).sum()) // 2}.")
    print()
    print("| copy | recall | precision | median distance | 95 % | largest |\n|---|---|---|---|---|---|")
    for name, copy in COPIES.items():
        found = distances([fingerprint(copy(scan)) for scan in scans], prints)
        own = np.diagonal(found)
        right, wrong = int((own <= NEAR).sum()), int(((found <= NEAR) & ~same).sum())
        share = right / max(1, right + wrong)
        spread = f"{np.median(own):.0f} | {np.percentile(own, 95):.0f} | {own.max()}"
        print(f"| {name} | {right / len(scans):.3f} | {share:.4f} | {spread} |", flush=True)
    return int(different.min() * 0.9)


def speed() -> None:
    """Print how long 100,000 fingerprints take to be compared with one another."""
    rng = np.random.default_rng(0)
    prints = [rng.bytes(64).hex() for _ in range(100_000)]
    prints[77_777] = prints[5]
    began = time.perf_counter()
    found = near_pairs(prints)
    print(f"\n100,000 fingerprints compared in {time.perf_counter() - began:.0f} s; pairs: {found}; {cpu_name(1)}")


def main() -> None:
    """Measure both halves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--most", type=int, default=600, help="scans of each number of axes")
    given = parser.parse_args()
    scans = read_all(given.data, given.most)
    chosen = None
    for half, name in enumerate(("for choosing", "for measuring")):
        limits = []
        for ndim in (3, 2):
            some = [scan for scan in scans if scan.ndim == ndim and int(scan.voxels.sum(dtype=np.float64)) % 2 == half]
            if len(some) > 1:
                limits.append(report(f"Half {name}, {ndim}D", some, chosen))
        chosen = min(limits, default=NEAR)
    speed()


if __name__ == "__main__":
    main()
