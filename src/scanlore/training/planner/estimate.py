"""How much memory, disk and time a run will need, from one step on tensors without values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from scanlore.backbones.device import resolve_precision
from scanlore.training.compiling import repeated_parts
from scanlore.training.planner.ledger import Ledger
from scanlore.training.planner.rates import measure_rates
from scanlore.training.planner.step import FakeTrainer, build_trainer, masked_batch, with_empty_views, without_values
from scanlore.training.settings import PretrainSettings
from scanlore.training.step import Trainer
from scanlore.views.loader import Batch
from scanlore.views.policy import build_policy

GAPS = {"cpu": 1.1, "cuda": 1.0}
"""What an allocator needs over what is in use, as seen; a GPU's figure is of what is in use, as torch counts it."""

GAPS_RECOMPUTED = {"cpu": 1.35, "cuda": 1.0}
"""As `GAPS`, where activations come and go twice."""

LIBRARIES = {"cpu": 60 << 20, "cuda": 32 << 20}
"""Working memory of the libraries of matrix products and convolutions."""

GATHERED_PARTS = 3
"""Whole blocks that a sharded network holds at a time: one computing, one arriving, one of gradients leaving."""

QUEUED = 2
"""Batches that a loader process reads ahead."""


@dataclass(frozen=True)
class Estimate:
    """What a run will need; bytes are of one device.

    Attributes:
        scans_per_pass: Scans of one pass on one device.
        accumulate: Passes per optimiser step.
        parameters: Bytes of what is trained.
        gradients: Of it; twice where whole networks exchange theirs.
        optimizer: Bytes of its state.
        teacher: Bytes of parameters and buffers that are not trained.
        batch: Bytes of the views on the device.
        activations: Bytes of all that a pass computes and keeps, at the moment when memory is fullest.
        overhead: Bytes of libraries, gaps and gathered parts.
        peak: Bytes in use at most.
        loader_queue: Bytes of the batches that wait in shared memory (/dev/shm), for each loader process.
        checkpoint: Bytes of one checkpoint.
        disk: Bytes of the run folder at its largest: checkpoints, exports and model.
        flops: Floating-point operations of an optimiser step on one device.
        seconds: Of an optimiser step, without reading views; `None` where the device is not in this machine.
        efficiency: Share of the device's rate in large matrix products that `seconds` supposes.
        total_seconds: Of the whole run.
    """

    scans_per_pass: int
    accumulate: int
    parameters: int
    gradients: int
    optimizer: int
    teacher: int
    batch: int
    activations: int
    overhead: int
    peak: int
    loader_queue: int
    checkpoint: int
    disk: int
    flops: int
    seconds: float | None
    efficiency: float | None
    total_seconds: float | None


@dataclass(frozen=True)
class _Static:
    """Bytes that do not depend on the batch, of the whole network."""

    parameters: int
    optimizer: int
    teacher: int
    largest_part: int
    state: int
    model: int


def estimate(settings: PretrainSettings, device: torch.device, world_size: int = 1, num_scans: int = 0) -> Estimate:
    """Estimate a run by doing one of its steps on tensors without values.

    Compiled blocks need less memory than this; allocators and libraries are added as they were seen.

    Args:
        settings: Of the run; `accumulate: auto` counts as one pass.
        device: What it runs on; a GPU must be in this machine.
        world_size: Number of processes.
        num_scans: Of the corpus; a smaller corpus has smaller batches.
    """
    trial = _trial(settings, device)
    batch_size = min(settings.training.batch_size, num_scans or settings.training.batch_size)
    per_pass = max(1, batch_size // (world_size * settings.training.passes))
    rates = measure_rates(device, torch.bfloat16 if trial.training.precision == "bf16" else torch.float32)
    masked, ledger = masked_batch(trial, per_pass), Ledger(device, rates)
    with without_values(), ledger:
        trainer = build_trainer(trial, device, FakeTrainer)
        _prime(trainer)
        ledger.restart()
        static = _static(trainer)
        trainer.do_step(_fake_batches(masked, trial, device))
    repeats = settings.training.passes / trial.training.passes
    seconds = ledger.work.seconds * repeats if rates else None
    flops = round(ledger.work.flops * repeats)
    checkpoint, disk = _disk(settings, static)
    return Estimate(
        scans_per_pass=per_pass,
        accumulate=settings.training.passes,
        **_memory(settings, static, ledger.peak, world_size, device, per_pass),
        loader_queue=QUEUED * _view_bytes(settings, per_pass, itemsize=2),
        checkpoint=checkpoint,
        disk=disk,
        flops=flops,
        seconds=seconds,
        efficiency=flops / seconds / rates.flops if seconds and rates else None,
        total_seconds=None if seconds is None else seconds * settings.training.steps,
    )


def _trial(settings: PretrainSettings, device: torch.device) -> PretrainSettings:
    """Return settings of a step in which memory is as full, with no more passes than that takes."""
    training = settings.training
    precision = resolve_precision(training.precision, device)
    update = {"precision": precision, "accumulate": min(2, training.passes)}
    return settings.model_copy(update={"training": training.model_copy(update=update)})


def _prime(trainer: Trainer) -> None:
    """Give the optimiser the state that it has from the second step on."""
    for group in trainer.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.empty_like(parameter)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)


def _fake_batches(masked: Batch, settings: PretrainSettings, device: torch.device) -> Iterator[tuple[Batch, float]]:
    while True:
        yield with_empty_views(masked, settings, device), 0.0


def _static(trainer: Trainer) -> _Static:
    module = trainer.module
    trained = sum(p.nbytes for p in module.parameters() if p.requires_grad)
    buffers = sum(buffer.nbytes for buffer in module.buffers())
    heads = [child for name, child in module.named_modules() if name.endswith("_head")]
    parts = [*repeated_parts(module), *heads]
    return _Static(
        parameters=trained,
        optimizer=_optimizer_bytes(trainer),
        teacher=sum(p.nbytes for p in module.parameters()) - trained + buffers,
        largest_part=max((_module_bytes(part) for part in parts), default=0),
        state=sum(tensor.nbytes for tensor in trainer.tensors().values()),
        model=_module_bytes(trainer.method.exported()) + sum(t.nbytes for t in trainer.method.heads().values()),
    )


def _optimizer_bytes(trainer: Trainer) -> int:
    states = trainer.optimizer.state.values()
    tensors = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(tensor.nbytes for tensor in tensors)


def _module_bytes(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def _memory(
    settings: PretrainSettings, static: _Static, peak: int, world_size: int, device: torch.device, per_pass: int
) -> dict[str, int]:
    """Return the parts and the peak of one device, of several where there are."""
    is_sharded = settings.parallel.sharding == "fsdp" and world_size > 1
    ranks = world_size if is_sharded else 1
    parts = {name: getattr(static, name) // ranks for name in ("parameters", "optimizer", "teacher")}
    # Whole networks exchange their gradients in buckets, which are a second copy
    parts["gradients"] = static.parameters * (2 if world_size > ranks else 1) // ranks
    computed = peak - (2 * static.parameters + static.optimizer + static.teacher)
    batch = _view_bytes(settings, per_pass, itemsize=4)
    gathered = GATHERED_PARTS * static.largest_part if is_sharded else 0
    inside = computed + sum(parts.values())
    gaps = GAPS if settings.parallel.activation_checkpointing == "none" else GAPS_RECOMPUTED
    total = round((inside + gathered) * gaps.get(device.type, 1.0)) + LIBRARIES.get(device.type, 0)
    parts |= {"batch": batch, "activations": max(0, computed - batch)}
    return parts | {"overhead": total - inside, "peak": total}


def _view_bytes(settings: PretrainSettings, num_scans: int, itemsize: int) -> int:
    policy = build_policy(settings.views, settings.seed, settings.backbone.patch_size)
    voxels = sum(number * prod(shape) for number, shape in policy.group_sizes().values())
    return voxels * num_scans * settings.backbone.in_channels * itemsize


def _disk(settings: PretrainSettings, static: _Static) -> tuple[int, int]:
    """Return bytes of a checkpoint and of the run folder; a new checkpoint is whole before an old one goes."""
    training = settings.training
    written = min(training.keep_checkpoints + 1, -(-training.steps // training.checkpoint_every))
    exports = len({*training.export_at, training.steps})
    return static.state, written * static.state + exports * static.model
