"""Fine-tuning: a step of the tiny ResEnc U-Net in the real training loop, against nnunetv2's own training step.

Both sides train the same network from the same weights on the same batches: two patches of 40 x 56 x 40 voxels, one
channel, three classes, made beforehand by the real loader from scans made here. Their losses at the first step are
printed: they must agree. Dice and cross-entropy, clipping and SGD with Nesterov momentum are each side's own.

Ours is one turn of the loop: what it does besides the step (schedules, checks, metrics, TensorBoard where it is
installed) counts. Theirs is `nnUNetTrainer.train_step`, in a process of its own, float32 and not compiled, as nnU-Net
trains on a CPU; without deep supervision, which is the same work as ours, and with it, as it comes. All take turns,
step by step, while the others sleep. `--cores 1` counts processor seconds of each side's one thread in place of
seconds, for a busy machine.

Changes of intensity are part of our step, but workers make them in nnU-Net; they are on in rows of their own. Precision
bf16 is what `auto` means on a CPU that has it. The last row is a run of its own, fed by the real loader.

nnunetv2 is not needed by Scanlore; `--nnunet` takes the python of an environment that has it and the same torch, or a
folder that `pip install --target` made.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common import Row, cpu_name, ms, print_table, set_threads

PARSER = argparse.ArgumentParser(description=__doc__.splitlines()[0])
PARSER.add_argument("--nnunet", type=Path, help="a folder with nnunetv2, or the python of an environment that has it")
PARSER.add_argument("--backbone", default="resenc-tiny")
PARSER.add_argument("--steps", type=int, default=20, help="timed steps of each run")
PARSER.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
ARGUMENTS = PARSER.parse_args()
set_threads(ARGUMENTS.cores)

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from scanlore.adaptation.fit_segmentation import fit_segmentation  # noqa: E402
from scanlore.adaptation.segmentation_method import SegmentationMethod  # noqa: E402
from scanlore.adaptation.segmentation_plan import SegmentationPlan, check_model, plan_segmentation  # noqa: E402
from scanlore.adaptation.segmentation_settings import TransferSettings  # noqa: E402
from scanlore.backbones.device import resolve_precision  # noqa: E402
from scanlore.modelfolder.reference import load_model  # noqa: E402
from scanlore.registry import BACKBONES  # noqa: E402
from scanlore.tasks.labelled_index import LabelledStore  # noqa: E402
from scanlore.tasks.labelled_store import build_labelled_store  # noqa: E402
from scanlore.tasks.segmentation import load_segmentation_task  # noqa: E402
from scanlore.training.loop import Callbacks, LoopPlan, train  # noqa: E402
from scanlore.training.parallel import World  # noqa: E402
from scanlore.views.affine_settings import IntensitySettings  # noqa: E402
from scanlore.views.patches import LabelledBatch, LabelledPlan, make_labelled_batch, to_device_labelled  # noqa: E402

PATCH, BATCH, CLASSES = (40, 56, 40), 2, ("background", "outer", "inner")
NUM_SCANS, NUM_BATCHES, WARM_UP, SEED = 4, 4, 3, 0
CPU = torch.device("cpu")
clock = time.thread_time if ARGUMENTS.cores == 1 else time.perf_counter
Peer = subprocess.Popen[str]
PARTS = "batchgenerators batchgeneratorsv2 acvl-utils connected-components-3d fft-conv-pytorch seaborn scikit-image"
MISSING = f"""nnunetv2 is not there. Either make an environment with the same torch and give its python,
    python -m venv NN && NN/bin/pip install nnunetv2 torch=={torch.__version__.split("+")[0]}
    python benchmarks/finetune.py --nnunet NN/bin/python
or put it into a folder beside this environment:
    pip install --no-deps --target NN nnunetv2 {PARTS} imagecodecs lazy-loader yacs graphviz
    pip install pandas requests tqdm && python benchmarks/finetune.py --nnunet NN"""


@dataclass
class Times:
    """Seconds of steps and losses of one run, by whose step it is: `ours`, `plain` and `deep`."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "plain": [], "deep": []})
    losses: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "plain": [], "deep": []})

    def add(self, name: str, seconds: float, loss: float) -> None:
        """Add a step."""
        self.seconds[name].append(seconds)
        self.losses[name].append(loss)

    def timed(self, name: str) -> list[float]:
        """Return the seconds of the steps after the warm-up."""
        return self.seconds[name][WARM_UP:]


def write_task(root: Path) -> Path:
    """Write labelled scans in the layout of the Medical Segmentation Decathlon: nested ellipsoids in noise."""
    axes = np.meshgrid(*(np.linspace(-1, 1, edge - 4) for edge in PATCH), indexing="ij", sparse=True)
    radius = axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2
    names = [f"case{number}.nii.gz" for number in range(NUM_SCANS)]
    for number, name in enumerate(names):
        labels = (radius < 0.6 + 0.05 * number).astype(np.uint8) + (radius < 0.2)
        voxels = 200 * labels + np.random.default_rng(number).normal(0, 50, labels.shape)
        for part, values in (("imagesTr", voxels.astype(np.int16)), ("labelsTr", labels)):
            (root / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.eye(4)), root / part / name)
    listing = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    facts = {"modality": {"0": "MRI"}, "labels": dict(enumerate(CLASSES)), "training": listing}
    (root / "dataset.json").write_text(json.dumps(facts))
    return root


def plan_of(work: Path, steps: int) -> tuple[SegmentationPlan, LabelledStore]:
    """Return what `adapt --protocol transfer` would train on the task from random weights."""
    task = load_segmentation_task(write_task(work / "task"))
    training = {"steps": steps, "batch_size": BATCH, "checkpoint_every": steps}
    settings = TransferSettings.model_validate({"training": training, "views": {"patch": PATCH}})
    store = build_labelled_store(task, range(NUM_SCANS), work / "store")
    model = load_model(f"random:{ARGUMENTS.backbone}", ndim=3)
    return plan_segmentation(model, task, store, check_model(model, task, settings, ndim=3), SEED), store


def batches_of(plan: SegmentationPlan, store: LabelledStore, has_intensity: bool) -> list[LabelledBatch]:
    """Return batches as the loader gives them."""
    views = plan.settings.views.model_copy(update={"intensity": IntensitySettings(enabled=has_intensity)})
    labelled = LabelledPlan(store, views, BATCH, SEED)
    return [make_labelled_batch(labelled, number) for number in range(NUM_BATCHES)]


def share_work(folder: Path, network: torch.nn.Module, batches: list[LabelledBatch]) -> None:
    """Write what nnU-Net's programs read."""
    entry = BACKBONES[ARGUMENTS.backbone]
    facts = {"features": entry.features, "blocks": entry.blocks, "patch": PATCH, "batch_size": BATCH}
    (folder / "work.json").write_text(json.dumps(facts | {"classes": CLASSES, "threads": ARGUMENTS.cores}))
    torch.save(network.state_dict(), folder / "weights.pt")
    ready = [to_device_labelled(replace(batch), CPU) for batch in batches]
    torch.save([(batch.pixels, batch.labels) for batch in ready], folder / "batches.pt")


@contextlib.contextmanager
def peer_of(folder: Path, kind: str) -> Iterator[Peer]:
    """Run nnU-Net's program, `plain` or `deep`, while the context is open."""
    path, environment = ARGUMENTS.nnunet, dict(os.environ)
    python = str(path.absolute()) if path and path.is_file() else sys.executable
    if path and path.is_dir():
        environment["PYTHONPATH"] = str(path.absolute())
    program = [python, str(Path(__file__).with_name("nnunet_steps.py")), str(folder), kind]
    with (folder / f"{kind}.txt").open("w+") as log:
        peer = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            yield peer
        finally:
            peer.communicate()  # closes its input, which ends it
            if peer.returncode:
                log.seek(0)
                print(log.read()[-2000:], file=sys.stderr)


def peer_step(peer: Peer) -> dict[str, float]:
    """Let nnU-Net's program do one step."""
    assert peer.stdin is not None
    assert peer.stdout is not None
    print("step", file=peer.stdin, flush=True)
    answer = peer.stdout.readline()
    if not answer:
        sys.exit("nnU-Net's program ended; it needs nnunetv2 and all that it imports")
    return json.loads(answer)  # type: ignore[no-any-return]


def run(
    plan: SegmentationPlan, batches: list[LabelledBatch], precision: str, out: Path, peers: dict[str, Peer]
) -> Times:
    """Train the network in the loop while the peers take their steps in turn; its weights are put back."""
    out.mkdir()
    times, began = Times(), [0.0]
    training = plan.settings.training.model_copy(update={"precision": precision})

    def loader(first: int, stop: int) -> Iterator[LabelledBatch]:
        began[0] = clock()
        for number in range(first, stop):
            yield replace(batches[number % len(batches)])

    def progress(values: dict[str, Any], timings: dict[str, Any]) -> None:
        del timings
        times.add("ours", clock() - began[0], values["loss"])
        for kind, peer in peers.items():
            times.add(kind, **peer_step(peer))
        began[0] = clock()

    weights = {name: tensor.clone() for name, tensor in plan.network.state_dict().items()}
    method = SegmentationMethod(plan.network, plan.rests)
    callbacks = Callbacks(loader, lambda batch: to_device_labelled(batch, CPU), None, progress)
    train(method, LoopPlan(training, plan.optim, SEED, training.steps), out, World(0, 1, CPU), callbacks)
    plan.network.load_state_dict(weights)
    return times


def waiting(plan: SegmentationPlan, store: LabelledStore, out: Path) -> tuple[float, float]:
    """Fit with the real loader and return the seconds of waiting for data and of all steps after the warm-up."""
    out.mkdir()
    rows: list[tuple[float, float]] = []

    def progress(values: dict[str, Any], timings: dict[str, Any]) -> None:
        del values
        rows.append((timings["data_wait"] * timings["seconds"], timings["seconds"]))

    fit_segmentation(plan, store, out, seed=SEED, device="cpu", progress=progress)
    waited, seconds = (sum(column) for column in zip(*rows[WARM_UP:], strict=True))
    return waited, seconds


def main() -> None:
    """Measure and print."""
    if ARGUMENTS.nnunet is None and importlib.util.find_spec("nnunetv2") is None:
        sys.exit(MISSING)
    torch.set_num_threads(ARGUMENTS.cores)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        plan, store = plan_of(work, ARGUMENTS.steps + WARM_UP)
        plain, changed = (batches_of(plan, store, has_intensity) for has_intensity in (False, True))
        share_work(work, plan.network, plain)
        with peer_of(work, "plain") as first, peer_of(work, "deep") as second:
            peers = {"plain": first, "deep": second}
            runs = {
                "fp32": run(plan, plain, "fp32", work / "fp32", peers),
                "fp32 with changes of intensity": run(plan, changed, "fp32", work / "intensity", peers),
                "bf16": run(plan, plain, "bf16", work / "bf16", peers),
            }
        waited = waiting(plan, store, work / "loader")
    ours, theirs = runs["fp32"].losses["ours"][0], runs["fp32"].losses["plain"][0]
    print(f"first loss: ours {ours:.5f}, nnU-Net's {theirs:.5f} (its Dice term has no 1 -, so 1 less)")
    print(f"precision auto is {resolve_precision('auto', CPU)} on this CPU")
    print_table(list(table(runs, waited)))


def table(runs: dict[str, Times], waited: tuple[float, float]) -> Iterator[Row]:
    """Yield the lines of the table."""
    device = cpu_name(ARGUMENTS.cores)
    peers = {"plain": "nnU-Net's without deep supervision", "deep": "nnU-Net's as it comes"}
    for name, times in runs.items():
        for peer, says in peers.items():
            for reduce, how in ((min, "best"), (statistics.median, "median")):
                ours, theirs = reduce(times.timed("ours")), reduce(times.timed(peer))
                target = "<= 1.0" if how == "best" and name == "fp32" else ""
                yield Row(f"step, {name} / {says}, {how}", ms(ours), ms(theirs), ours / theirs, target, device)
    claim, (part, whole) = "waiting for data / time of the steps, real loader", waited
    yield Row(claim, f"{part:.2f} s", f"{whole:.1f} s", part / whole, "", device)


if __name__ == "__main__":
    main()
