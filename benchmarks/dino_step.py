"""A step of 3DINO's objective: packed crops, bfloat16, compiled blocks and FSDP2, each against a step without it.

The recipe `3dino-vit-s` (2 x 96^3 and 8 x 48^3 crops, patch 16) with fewer prototypes and no stochastic depth, on one
batch that the real loader made and that stays in memory. A step is forward and backward pass of student and teacher,
losses, clipping, AdamW and the moving average. The variants take turns, step by step, in one process; each has a
network of its own from the same seed, and the losses of their first steps are printed: those of one precision must
agree.

Sharding is measured in the real training loop on two processes of gloo, half of the cores each, against
DistributedDataParallel on the same two. The first steps, which allocate and compile, do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

from common import Row, best_of, cpu_name, print_table, set_threads

PARSER = argparse.ArgumentParser(description=__doc__.splitlines()[0])
PARSER.add_argument("--backbone", default="vit-small")
PARSER.add_argument("--batch", type=int, default=4, help="scans a step")
PARSER.add_argument("--repeats", type=int, default=5, help="timed steps of each variant")
PARSER.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
PARSER.add_argument("--part", choices=("all", "step", "sharding"), default="all")
PARSER.add_argument("--child", nargs=2, metavar=("SHARDING", "FOLDER"), help=argparse.SUPPRESS)
ARGUMENTS = PARSER.parse_args()
set_threads(ARGUMENTS.cores)

import torch  # noqa: E402

from scanlore.backbones.build import build_backbone  # noqa: E402
from scanlore.backbones.device import autocast  # noqa: E402
from scanlore.backbones.vit import Tokens, ViT  # noqa: E402
from scanlore.config import apply_overrides, load_recipe, validate  # noqa: E402
from scanlore.corpus.index import Corpus, StoredScans  # noqa: E402
from scanlore.methods.build import build_method  # noqa: E402
from scanlore.methods.contract import Progress  # noqa: E402
from scanlore.methods.dino.method import DinoMethod  # noqa: E402
from scanlore.training.loop import Callbacks, LoopPlan, train  # noqa: E402
from scanlore.training.optimizer import build_optimizer, clip_parts, set_schedules  # noqa: E402
from scanlore.training.parallel import open_world  # noqa: E402
from scanlore.training.parallel_settings import ParallelSettings  # noqa: E402
from scanlore.training.settings import PretrainSettings  # noqa: E402
from scanlore.views.loader import Batch, LoaderPlan, make_batch, to_device  # noqa: E402
from scanlore.views.policy import build_policy  # noqa: E402
from scans import brain, build_here, write  # noqa: E402

NUM_PROCESSES, WARM_UP, PROTOTYPES = 2, 2, 4096
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Variant:
    """One way to do the same step.

    Attributes:
        precision: `fp32` or `bf16`.
        is_packed: Whether crops of both sizes share one pass of the student.
        is_compiled: Whether every block is compiled.
    """

    precision: str = "fp32"
    is_packed: bool = True
    is_compiled: bool = False


VARIANTS = {
    "fp32": Variant(),
    "fp32, a forward per crop group": Variant(is_packed=False),
    "bf16": Variant("bf16"),
    "bf16, a forward per crop group": Variant("bf16", is_packed=False),
    "bf16, compiled": Variant("bf16", is_compiled=True),
}
COMPARED = (
    ("bf16, a forward per crop group", "bf16", ">= 1.0"),
    ("fp32, a forward per crop group", "fp32", ""),
    ("fp32", "bf16", ""),
    ("bf16", "bf16, compiled", ""),
)


def settings_of(batch_size: int, steps: int, precision: str) -> PretrainSettings:
    """Return the recipe as it is run here."""
    overrides = [
        f"backbone.name={ARGUMENTS.backbone}",
        "backbone.drop_path=0.0",
        f"method.head.prototypes={PROTOTYPES}",
        f"training.batch_size={batch_size}",
        f"training.steps={steps}",
        f"training.checkpoint_every={steps + 1}",
        f"training.precision={precision}",
    ]
    return validate(PretrainSettings, apply_overrides(load_recipe("3dino-vit-s", "pretrain"), overrides), "3dino-vit-s")


def first_batch(settings: PretrainSettings, scans: StoredScans, batch_size: int, rank: int = 0) -> Batch:
    """Return one batch, ready for the method."""
    policy = build_policy(settings.views, 0, settings.backbone.patch_size)
    return to_device(make_batch(LoaderPlan(scans, policy, batch_size), rank), CPU, clip=settings.views.clips)


def forward_per_group(vit: ViT) -> None:
    """Let a network run groups of views one after the other, as without packing."""
    packed = vit.tokens

    def tokens(self: ViT, view_groups: list[Any], masks: Any = None, keep: Any = None) -> list[Tokens]:
        none = [None] * len(view_groups)
        groups = zip(view_groups, masks or none, keep or none, strict=True)
        return [packed([views], [mask], [kept])[0] for views, mask, kept in groups]

    vit.tokens = MethodType(tokens, vit)  # type: ignore[method-assign]


def stepper(settings: PretrainSettings, variant: Variant, batch: Batch, losses: list[float]) -> Callable[[], None]:
    """Return a function that does one step and notes its loss."""
    method = build_method(build_backbone(settings.backbone, 0), settings.method, 0)
    assert isinstance(method, DinoMethod)
    if not variant.is_packed:
        forward_per_group(method.student.backbone)
    if variant.is_compiled:
        for block in [*method.student.backbone.blocks, *method.teacher.backbone.blocks]:
            block.compile()
    rules, module = method.param_rules(), method.as_module().train()
    optimizer = build_optimizer(module, rules, settings.optim)
    progress = Progress(settings.training.steps // 2, settings.training.steps)

    def step() -> None:
        set_schedules(optimizer, settings.optim, settings.training.batch_size, progress)
        with autocast(variant.precision, CPU):  # type: ignore[arg-type]
            terms = method(batch, progress)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        clip_parts(module, rules, settings.optim.clip)
        optimizer.step()
        method.after_step(progress)
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))

    return step


def measure_steps(scans: StoredScans) -> dict[str, float]:
    """Return the best seconds of each variant's step; they take turns."""
    settings = settings_of(ARGUMENTS.batch, 100, "fp32")
    batch = first_batch(settings, scans, ARGUMENTS.batch)
    losses: dict[str, list[float]] = {name: [] for name in VARIANTS}
    steps = [stepper(settings, variant, batch, losses[name]) for name, variant in VARIANTS.items()]
    for step in steps:
        step()
    best = dict(zip(VARIANTS, best_of(ARGUMENTS.repeats, *steps), strict=True))
    print("first losses: " + ", ".join(f"{name} {losses[name][0]:.4f}" for name in VARIANTS))
    return best


def sharded_steps(sharding: str, folder: Path) -> None:
    """Train on one of the processes and let the main one write the seconds of each step."""
    steps = WARM_UP + ARGUMENTS.repeats
    each = max(1, ARGUMENTS.batch // NUM_PROCESSES)
    settings = settings_of(each * NUM_PROCESSES, steps, "bf16")
    rows: list[float] = []
    with open_world("cpu") as world:
        scans = Corpus(folder / "scans-corpus").select()
        method = build_method(build_backbone(settings.backbone, 0), settings.method, 0)
        batch = first_batch(settings, scans, each, world.rank)
        parallel = ParallelSettings.model_validate({"sharding": sharding})
        plan = LoopPlan(settings.training, settings.optim, settings.seed, steps, parallel=parallel)
        run = folder / sharding
        run.mkdir(exist_ok=True)
        loader: Callable[[int, int], Iterator[Batch]] = lambda first, stop: iter([batch] * (stop - first))  # noqa: E731
        note = lambda values, timings: rows.append(timings["seconds"])  # noqa: E731
        train(method, plan, run, world, Callbacks(loader, lambda given: given, None, note))
        if world.is_main:
            (run / "seconds.json").write_text(json.dumps(rows[WARM_UP:]))


def measure_sharding(folder: Path) -> dict[str, float] | str:
    """Return the best seconds of a step with each kind of sharding, or why there are none."""
    seconds = {}
    for sharding in ("none", "fsdp"):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={NUM_PROCESSES}"]
        command += [
            __file__,
            "--child",
            sharding,
            str(folder),
            "--cores",
            str(max(1, ARGUMENTS.cores // NUM_PROCESSES)),
        ]
        command += ["--backbone", ARGUMENTS.backbone, "--batch", str(ARGUMENTS.batch)]
        command += ["--repeats", str(ARGUMENTS.repeats)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip()[-1500:]
        seconds[sharding] = min(json.loads((folder / sharding / "seconds.json").read_text()))
    return seconds


def step_rows(best: dict[str, float]) -> Iterator[Row]:
    """Yield how many times faster the second of each pair is."""
    for slow, fast, target in COMPARED:
        claim = f"steps a second, {fast} / {slow}"
        yield Row(claim, f"{best[fast]:.2f} s", f"{best[slow]:.2f} s", best[slow] / best[fast], target, device())


def device() -> str:
    """Return what this runs on."""
    return cpu_name(ARGUMENTS.cores)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(ARGUMENTS.cores)
    if ARGUMENTS.child:
        sharded_steps(ARGUMENTS.child[0], Path(ARGUMENTS.child[1]))
        return
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(brain(), folder / "scans", max(2, ARGUMENTS.batch), ".nii")
        build_here(folder / "scans", folder / "scans-corpus")
        if ARGUMENTS.part != "sharding":
            rows += step_rows(measure_steps(Corpus(folder / "scans-corpus").select()))
        if ARGUMENTS.part != "step":
            found = measure_sharding(folder)
            if isinstance(found, str):
                print(f"sharding was not measured: {found}", file=sys.stderr)
            else:
                claim = f"seconds of a step, FSDP2 / DDP, {NUM_PROCESSES} processes, bf16"
                ours, theirs = found["fsdp"], found["none"]
                rows.append(Row(claim, f"{ours:.2f} s", f"{theirs:.2f} s", ours / theirs, "", device()))
    print(f"{ARGUMENTS.backbone}, {ARGUMENTS.batch} scans a step, {PROTOTYPES} prototypes")
    print_table(rows)


if __name__ == "__main__":
    main()
