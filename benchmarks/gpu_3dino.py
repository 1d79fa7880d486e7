"""3DINO with a ViT-large on one GPU: scans a second, model FLOPs against the device's, waiting for data, peak memory.

The recipe `3dino-vit-l` as it is (2 x 96^3 and 8 x 48^3 crops, patch 16, 65,536 prototypes, stochastic depth) in
bfloat16 with compiled blocks, at the batch given, in the real loop, fed from a store by the real loader. A step is
everything that `scanlore pretrain` does in one. The first steps, which compile and start workers, do not count.

Model FLOP utilisation is `flops.py`'s count over the data sheet's dense bfloat16 rate of the device, or over that of a
large matrix product where the device is not listed. Without a GPU it says `not measured`; `--device cpu` with a small
backbone, batch and number of steps shows that the script runs.
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

from common import HEADER, Row, cpu_name, print_table

PARSER = argparse.ArgumentParser(description=__doc__.splitlines()[0])
PARSER.add_argument("--device", default="cuda")
PARSER.add_argument("--backbone", default="vit-large")
PARSER.add_argument("--batch", type=int, default=128, help="scans a step")
PARSER.add_argument("--accumulate", type=int, default=1, help="passes a step")
PARSER.add_argument("--activation-checkpointing", choices=("none", "full"), default="none")
PARSER.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
PARSER.add_argument("--steps", type=int, default=20, help="timed steps")
PARSER.add_argument("--scans", type=int, default=256, help="scans in the store, of 182 x 218 x 182 voxels")
PARSER.add_argument("--scan", type=Path, help="a NIfTI file in place of the template")
PARSER.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)) - 1, help="loader processes")
ARGUMENTS = PARSER.parse_args()

import torch  # noqa: E402

from flops import step_flops  # noqa: E402
from scanlore.backbones.build import build_backbone  # noqa: E402
from scanlore.config import apply_overrides, load_recipe, validate  # noqa: E402
from scanlore.corpus.index import StoredScans  # noqa: E402
from scanlore.methods.build import build_method  # noqa: E402
from scanlore.training.loop import Callbacks, LoopPlan, train  # noqa: E402
from scanlore.training.parallel import World  # noqa: E402
from scanlore.training.parallel_settings import ParallelSettings  # noqa: E402
from scanlore.training.settings import PretrainSettings  # noqa: E402
from scanlore.views.loader import Batch, LoaderPlan, batches, to_device  # noqa: E402
from scanlore.views.policy import build_policy  # noqa: E402
from scans import read, stored, write  # noqa: E402

WARM_UP, MATRIX = 5, 8192
# Dense bfloat16 FLOP/s of NVIDIA's data sheets, by what the device's name contains; the first match counts.
PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}
CLAIMS = ("scans/s", "model FLOP utilisation", "waiting for data / time of the steps", "peak memory")


def settings_of() -> PretrainSettings:
    """Return the recipe as it is run here."""
    steps = WARM_UP + ARGUMENTS.steps
    overrides = [
        f"backbone.name={ARGUMENTS.backbone}",
        f"training.batch_size={ARGUMENTS.batch}",
        f"training.accumulate={ARGUMENTS.accumulate}",
        f"training.steps={steps}",
        f"training.checkpoint_every={steps + 1}",
        "training.precision=bf16",
    ]
    return validate(PretrainSettings, apply_overrides(load_recipe("3dino-vit-l", "pretrain"), overrides), "3dino-vit-l")


def run(settings: PretrainSettings, scans: StoredScans, out: Path) -> list[dict[str, float]]:
    """Train and return, for each timed step, its seconds, those of waiting, and its model FLOPs."""
    device, training = torch.device(ARGUMENTS.device), settings.training
    policy = build_policy(settings.views, 0, settings.backbone.patch_size)
    plan = LoaderPlan(scans, policy, training.batch_size // ARGUMENTS.accumulate)
    method = build_method(build_backbone(settings.backbone, 0), settings.method, 0)
    method.as_module().to(device)
    hidden: list[int] = []
    rows: list[dict[str, float]] = []
    began = [time.perf_counter()]

    def loader(first: int, stop: int) -> Iterator[Batch]:
        for batch in batches(plan, first, stop, ARGUMENTS.workers):
            hidden.append(int(batch.masks.sum()))
            yield batch

    def progress(values: dict[str, Any], timings: dict[str, Any]) -> None:
        del values
        _wait(device)
        flops = step_flops(settings, sum(hidden[-ARGUMENTS.accumulate :]))
        waited = timings["data_wait"] * timings["seconds"]
        rows.append({"seconds": time.perf_counter() - began[0], "waited": waited, "flops": flops})
        if len(rows) == WARM_UP and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        began[0] = time.perf_counter()

    parallel = ParallelSettings(activation_checkpointing=ARGUMENTS.activation_checkpointing, compile=ARGUMENTS.compile)
    loop = LoopPlan(training, settings.optim, settings.seed, training.steps + 1, parallel=parallel)
    prepare = partial(to_device, device=device, clip=settings.views.clips)
    train(method, loop, out, World(0, 1, device), Callbacks(loader, prepare, None, progress))
    return rows[WARM_UP:]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_rate(device: torch.device) -> float:
    """Return FLOP/s of a large bfloat16 matrix product, the best of ten."""
    edge = MATRIX if device.type == "cuda" else 2048
    left, right = (torch.ones(edge, edge, dtype=torch.bfloat16, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        _wait(device)
        began = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * edge**3 / best


def peak_rate(device: torch.device) -> tuple[float, str]:
    """Return the device's bfloat16 FLOP/s and where it is from."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    listed = next((rate for part, rate in PEAKS.items() if part in name), None)
    return (listed, "data sheet") if listed else (product_rate(device), f"product of {MATRIX}^3")


def table(settings: PretrainSettings, rows: list[dict[str, float]]) -> Iterator[Row]:
    """Yield the lines of the table."""
    device = torch.device(ARGUMENTS.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(os.cpu_count() or 1)
    seconds = statistics.median(row["seconds"] for row in rows)
    speed = settings.training.batch_size / seconds
    yield Row(f"{CLAIMS[0]}, {ARGUMENTS.backbone}", f"{speed:.1f} /s", f"{seconds:.2f} s a step", speed, "", where)
    rate = statistics.median(row["flops"] / row["seconds"] for row in rows)
    limit, origin = peak_rate(device)
    ours, theirs = f"{rate / 1e12:.1f} TFLOP/s", f"{limit / 1e12:.1f} TFLOP/s, {origin}"
    yield Row(CLAIMS[1], ours, theirs, rate / limit, ">= 0.45", where)
    waited, whole = (sum(row[key] for row in rows) for key in ("waited", "seconds"))
    yield Row(CLAIMS[2], f"{waited:.2f} s", f"{whole:.1f} s", waited / whole, "<= 0.05", where)
    if device.type == "cuda":
        used, total = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
        yield Row(CLAIMS[3], f"{used / 2**30:.1f} GiB", f"{total / 2**30:.1f} GiB", used / total, "<= 1.0", where)


def main() -> None:
    """Measure and print."""
    if ARGUMENTS.device.startswith("cuda") and not torch.cuda.is_available():
        print(HEADER)
        for claim in CLAIMS:
            print(f"| {claim}, {ARGUMENTS.backbone}, batch {ARGUMENTS.batch} | not measured | | | | | no GPU |")
        return
    settings = settings_of()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write(read(ARGUMENTS.scan), work / "scans", ARGUMENTS.scans, ".nii")
        (work / "run").mkdir()
        rows = run(settings, stored(work / "scans"), work / "run")
    print_table(list(table(settings, rows)))


if __name__ == "__main__":
    main()
