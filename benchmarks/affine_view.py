"""Affine views: one 160^3 view of S3D on one core, against batchgeneratorsv2's SpatialTransform.

Ours is all that a loader worker does: it reads from a store built here, interpolates once at 1 mm, and ends with a
packed float16 tensor and its mask. The peer starts from the enlarged crop that nnU-Net and S3D's public code cut out
for it (257^3 for 160^3), as float32 in memory: reading that crop is not counted.

Times are processor seconds of the one thread per view, every visit at its best of a few interleaved rounds, so that
other processes matter little. Visits go round several scans, so that nothing decoded for one call serves the next.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from common import Row, best_of, cpu_name, ms, print_table, set_threads

set_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform  # noqa: E402
from torch import Tensor  # noqa: E402

from scanlore.corpus.index import StoredScans  # noqa: E402
from scanlore.views.loader import LoaderPlan, make_batch  # noqa: E402
from scanlore.views.policy import build_policy  # noqa: E402
from scanlore.views.settings import AffineSettings  # noqa: E402
from scans import read, stored, upsampled, write  # noqa: E402

SIZE, ENLARGED = 160, 257
NUM_SMALL, NUM_LARGE, VISITS = 6, 2, 24


def ours(scans: StoredScans, settings: dict[str, Any]) -> LoaderPlan:
    """Plan batches of one view."""
    return LoaderPlan(scans, build_policy(AffineSettings.model_validate(settings), 0, 16), batch_size=1)


def peer(probabilities: dict[str, float]) -> SpatialTransform:
    """Return the transform with S3D's angles and scales."""
    return SpatialTransform(
        (SIZE,) * 3,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=probabilities["rotation_probability"],
        rotation=(-np.pi / 6, np.pi / 6),
        p_scaling=probabilities["scale_probability"],
        scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
    )


def apply_peer(transform: SpatialTransform, crop: Tensor, visit: int) -> Tensor:
    """Transform the crop with the draws of a visit."""
    np.random.seed(visit)
    result: Tensor = transform(image=crop)["image"]
    return result


def compare(name: str, scans: StoredScans, crop: Tensor, probabilities: dict[str, float], rounds: int) -> Row:
    """Compare the mean over some visits."""
    plan, transform = ours(scans, probabilities), peer(probabilities)
    best = np.full((VISITS, 2), np.inf)
    for _ in range(rounds):
        for visit in range(VISITS):
            calls = (partial(make_batch, plan, visit), partial(apply_peer, transform, crop, visit))
            best[visit] = np.minimum(best[visit], best_of(1, *calls, clock=time.thread_time))
    mine, theirs = best.mean(0)
    return Row(f"{name} / SpatialTransform", ms(mine), ms(theirs), theirs / mine, ">= 3", cpu_name(1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path, help="a NIfTI file in place of the template")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    always = {"rotation_probability": 1.0, "scale_probability": 1.0}
    sometimes = {"rotation_probability": 0.2, "scale_probability": 0.2}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        voxels = read(arguments.scan)
        large = upsampled(voxels)
        crop = torch.from_numpy(large[:ENLARGED, :ENLARGED, :ENLARGED].astype(np.float32))[None] / float(large.max())
        write(voxels, work / "small", NUM_SMALL, ".nii.gz")
        write(large, work / "large", NUM_LARGE, ".nii")
        rows = []
        for scans in (stored(work / "small"), stored(work / "large")):
            edges = "x".join(map(str, scans.entry(0).scan_shape))
            rows.append(compare(f"160^3 of {edges}, all turned and scaled", scans, crop, always, arguments.repeats))
            rows.append(compare(f"160^3 of {edges}, S3D's shares", scans, crop, sometimes, arguments.repeats))
        print_table(rows)


if __name__ == "__main__":
    main()
