"""Training: the real loop, fed by the real loader, against the rate of one large matrix product.

3DINO's recipe with a ViT-small (patch 16, 2 x 96^3 and 8 x 48^3 crops, 16,384 prototypes, separate heads) in bfloat16;
only the batch and the stochastic depth (none, so that the count below is exact) differ from the recipe `3dino-vit-s`.
A step is everything: waiting for data, photometric transforms, both networks, losses, clipping, AdamW and the moving
average. `--cores 1` counts processor seconds of the training thread in place of seconds, for a busy machine.

`flops.py` says which FLOPs count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from common import Row, cpu_name, print_table, set_threads

PARSER = argparse.ArgumentParser(description=__doc__.splitlines()[0])
PARSER.add_argument("--scan", type=Path, help="a NIfTI file in place of the template")
PARSER.add_argument("--batch", type=int, default=8, help="scans a step")
PARSER.add_argument("--steps", type=int, default=8)
PARSER.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
ARGUMENTS = PARSER.parse_args()
set_threads(ARGUMENTS.cores)

import torch  # noqa: E402

from flops import step_flops  # noqa: E402
from scanlore.backbones.build import build_backbone  # noqa: E402
from scanlore.config import apply_overrides, load_recipe, validate  # noqa: E402
from scanlore.corpus.index import StoredScans  # noqa: E402
from scanlore.methods.build import build_method  # noqa: E402
from scanlore.training.loop import Callbacks, LoopPlan, train  # noqa: E402
from scanlore.training.parallel import World  # noqa: E402
from scanlore.training.settings import PretrainSettings  # noqa: E402
from scanlore.views.loader import Batch, LoaderPlan, batches, to_device  # noqa: E402
from scanlore.views.policy import build_policy  # noqa: E402
from scans import read, stored, write  # noqa: E402

NUM_SCANS, MATRIX = 8, 4096
clock = time.thread_time if ARGUMENTS.cores == 1 else time.perf_counter


def settings_of(batch_size: int, steps: int) -> PretrainSettings:
    """Return the recipe as it is run here."""
    overrides = [
        f"training.batch_size={batch_size}",
        f"training.steps={steps}",
        "training.precision=bf16",
        "training.num_workers=1",
        "backbone.drop_path=0.0",
    ]
    return validate(PretrainSettings, apply_overrides(load_recipe("3dino-vit-s", "pretrain"), overrides), "3dino-vit-s")


def product_rate() -> float:
    """Return FLOP/s of a large bfloat16 matrix product, the best of two."""
    left, right = (torch.ones(MATRIX, MATRIX, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(2):
        began = clock()
        torch.mm(left, right)
        best = min(best, clock() - began)
    return 2 * MATRIX**3 / best


def run(settings: PretrainSettings, scans: StoredScans, out: Path) -> tuple[list[dict[str, float]], list[float]]:
    """Train and return the timings of all steps, with their rate, and the rates of the product between them."""
    plan = LoaderPlan(
        scans, build_policy(settings.views, 0, settings.backbone.patch_size), settings.training.batch_size
    )
    method = build_method(build_backbone(settings.backbone, 0), settings.method, 0)
    hidden: list[int] = []
    rows: list[dict[str, float]] = []
    limits: list[float] = []
    began = [clock()]

    def loader(first: int, stop: int) -> Iterator[Batch]:
        for batch in batches(plan, first, stop, num_workers=1):
            hidden.append(int(batch.masks.sum()))
            yield batch

    def progress(values: dict[str, Any], timings: dict[str, Any]) -> None:
        seconds = clock() - began[0]
        waited = timings["data_wait"] * timings["seconds"]
        rate = step_flops(settings, hidden[-1]) / seconds
        rows.append({"seconds": seconds, "waited": waited, "wall": timings["seconds"], "rate": rate})
        limits.append(product_rate())
        began[0] = clock()

    loop = LoopPlan(settings.training, settings.optim, settings.seed, settings.health.every)
    cpu = torch.device("cpu")
    prepare = partial(to_device, device=cpu, clip=settings.views.clips)
    train(method, loop, out, World(0, 1, cpu), Callbacks(loader, prepare, None, progress))
    return rows[1:], limits  # the first step waits for the worker to start


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(ARGUMENTS.cores)
    settings = settings_of(ARGUMENTS.batch, ARGUMENTS.steps)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write(read(ARGUMENTS.scan), work / "scans", NUM_SCANS, ".nii")
        (work / "run").mkdir()
        rows, limits = run(settings, stored(work / "scans"), work / "run")
    best = min(row["seconds"] for row in rows)
    print(f"{ARGUMENTS.batch} scans a step, {settings.method.head.prototypes} prototypes, best step {best:.2f} s")
    print_table(list(table(rows, limits)))


def table(rows: list[dict[str, float]], limits: list[float]) -> Iterator[Row]:
    """Yield the lines of the table from the steps and the rates of the product."""
    device = cpu_name(ARGUMENTS.cores)
    for name, reduce, target in (("best", max, ">= 0.45"), ("median", statistics.median, "")):
        rate, limit = reduce([row["rate"] for row in rows]), reduce(limits)
        claim = f"ViT-small step / bf16 product of {MATRIX}^3, {name}"
        yield Row(claim, _gigaflops(rate), _gigaflops(limit), rate / limit, target, device)
    waited, wall = (sum(row[key] for row in rows) for key in ("waited", "wall"))
    share = waited / wall
    yield Row("waiting for data / time of the steps", f"{waited:.2f} s", f"{wall:.1f} s", share, "<= 0.05", device)


def _gigaflops(rate: float) -> str:
    return f"{rate / 1e9:.0f} GFLOP/s"


if __name__ == "__main__":
    main()
