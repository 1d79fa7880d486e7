"""Views: 3DINO's ten crops (2 x 96^3 + 8 x 48^3) of one scan on one core, against MONAI.

Ours reads from a store built here and ends with packed float16 tensors. MONAI starts from the whole foreground as
float32 in memory (which 3DINO caches) and uses the transforms that 3DINO's users do: SpatialCrop, Resize (trilinear),
RandFlip, RandRotate90, then the photometric ones. The boxes come from the same distribution. MONAI runs twice: without
its metadata tracking, its fastest way, and with it, its default and what 3DINO uses (which the targets are about).

Times are processor seconds of the one thread per scan, every visit at its best of a few interleaved rounds, so that
other processes matter little. Visits go round several scans, so that nothing decoded for one call serves the next.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import Row, best_of, cpu_name, ms, print_table, set_threads

set_threads(1)

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from peers import MonaiViews  # noqa: E402
from scanlore.views.loader import LoaderPlan, make_batch, to_device  # noqa: E402
from scanlore.views.multicrop import MultiCropPolicy  # noqa: E402
from scanlore.views.settings import MultiCropSettings  # noqa: E402
from scans import build_here, read, stored, upsampled, write  # noqa: E402

NUM_SMALL, NUM_LARGE, VISITS = 4, 2, 3
CPU = torch.device("cpu")


def plan_of(folder: Path) -> LoaderPlan:
    """Store the scans of a folder and plan batches of one from them."""
    return LoaderPlan(stored(folder), MultiCropPolicy(MultiCropSettings(), seed=0, patch_size=16), batch_size=1)


def per_scan(rounds: int, *functions: Callable[[int], object]) -> list[float]:
    """Return mean seconds per scan of functions of a visit number, every visit at its best."""
    visits = range(NUM_SMALL * VISITS)
    best = np.full((len(visits), len(functions)), np.inf)
    for _ in range(rounds):
        for visit in visits:
            calls = (partial(function, visit) for function in functions)
            best[visit] = np.minimum(best[visit], best_of(1, *calls, clock=time.thread_time))
    return [float(mean) for mean in best.mean(0)]


def compare_views(small: LoaderPlan, large: LoaderPlan, peer: MonaiViews, repeats: int) -> list[Row]:
    """Compare the loader's part, then the whole with photometric transforms."""
    device = cpu_name(1)
    crops = per_scan(
        repeats,
        lambda visit: make_batch(small, visit),
        lambda visit: peer.crops(visit, track_meta=False),
        lambda visit: peer.crops(visit, track_meta=True),
        lambda visit: make_batch(large, visit),
    )
    full = per_scan(
        repeats,
        lambda visit: to_device(make_batch(small, visit), CPU, clip=True),
        lambda visit: peer.augmented(visit, track_meta=False),
        lambda visit: peer.augmented(visit, track_meta=True),
    )
    ours, plain, meta, ours_large = crops
    name, name_large = (f"ten crops of {'x'.join(map(str, plan.scans.entry(0).scan_shape))}" for plan in (small, large))
    both = f"{name}, geometric and photometric"
    return [
        Row(f"{name} / MONAI without metadata", ms(ours), ms(plain), plain / ours, "", device),
        Row(f"{name} / MONAI's default", ms(ours), ms(meta), meta / ours, ">= 2", device),
        Row(f"{both} / MONAI without metadata", ms(full[0]), ms(full[1]), full[1] / full[0], "", device),
        Row(f"{both} / MONAI's default", ms(full[0]), ms(full[2]), full[2] / full[0], ">= 2", device),
        Row(f"{name_large} / ours of the small scan", ms(ours_large), ms(ours), ours_large / ours, "<= 1.3", device),
    ]


def compare_store(path: Path, work: Path, repeats: int) -> list[Row]:
    """Compare size and build time of the store of one `.nii.gz` with the file, raw int16 and reading it."""
    numbers = iter(range(repeats))

    def build_once() -> None:
        build_here(path, work / f"store{next(numbers)}")

    seconds, reading = best_of(repeats, build_once, lambda: np.asanyarray(nib.load(path).dataobj))
    stored = sum(file.stat().st_size for file in (work / "store0" / "shards").iterdir())
    packed, raw = path.stat().st_size, int(np.prod(nib.load(path).shape)) * 2
    device = cpu_name(1)
    return [
        Row("store with all levels / the .nii.gz", _mb(stored), _mb(packed), stored / packed, "", device),
        Row("store with all levels / raw int16", _mb(stored), _mb(raw), stored / raw, "", device),
        Row("building it / nibabel reading the .nii.gz", ms(seconds), ms(reading), seconds / reading, "", device),
    ]


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path, help="a NIfTI file in place of the template")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        voxels = read(arguments.scan)
        paths = write(voxels, work / "small", NUM_SMALL, ".nii.gz")
        write(upsampled(voxels), work / "large", NUM_LARGE, ".nii")
        small, large = plan_of(work / "small"), plan_of(work / "large")
        rows = compare_views(small, large, MonaiViews(paths[0]), arguments.repeats)
        rows += compare_store(paths[0], work, arguments.repeats)
        print_table(rows)


if __name__ == "__main__":
    main()
