"""What the processes of the gloo pool do; each function runs on every rank."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tiny_pretraining import tiny_settings, tiny_train

Floats = npt.NDArray[np.float32]


def shared_sinkhorn(rank: int, parts: list[Floats], temp: float) -> Floats:
    from scanlore.methods.dino.losses import sinkhorn_knopp

    return sinkhorn_knopp(torch.from_numpy(parts[rank]), temp, 3).numpy()


def shared_center(rank: int, center: Floats, parts: list[Floats]) -> Floats:
    from scanlore.methods.dino.losses import updated_center

    return updated_center(torch.from_numpy(center), torch.from_numpy(parts[rank]), 0.9).numpy()


def train_together(rank: int, corpus: Path, out: Path, overrides: list[str]) -> dict[str, Any]:
    """Return a hash of all weights, and the last losses."""
    from scanlore.training.metrics import read_rows

    method = tiny_train(corpus, tiny_settings(*overrides), out, rank, world_size=2)
    digest = hashlib.sha256()
    for tensor in method.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return {"weights": digest.hexdigest(), "rows": read_rows(out / "metrics.jsonl") if rank == 0 else []}


def pretrain_together(rank: int, corpus: Path, recipe: str, out: Path, overrides: list[str]) -> str:
    """Return the state the verb found."""
    from scanlore.verbs.pretrain import pretrain

    return pretrain(corpus, recipe, out, overrides, device="cpu").state


def refused_together(rank: int, corpus: Path, recipe: str, out: Path, overrides: list[str]) -> str:
    """Return the message of the refusal."""
    from scanlore.errors import ScanloreError
    from scanlore.verbs.pretrain import pretrain

    try:
        pretrain(corpus, recipe, out, overrides, device="cpu")
    except ScanloreError as error:
        return str(error)
    return ""


def small_run(rank: int, out: Path, overrides: list[str], size: int = 2, **plan: Any) -> Any:
    """Train a ViT of three blocks on noise, two scans a rank; returns how it ended, as `(start, step, stopped_by)`."""
    import dataclasses
    from unittest import mock

    from scanlore.registry import BACKBONES, BackboneEntry
    from scanlore.training.loop import Callbacks, train
    from scanlore.training.parallel import World
    from tiny_pretraining import loop_plan, on_cpu, random_batch, tiny_method

    settings = tiny_settings("training.keep_checkpoints=9", "optim.warmup=0", "optim.lr_rule=none", *overrides)
    per_pass = settings.training.batch_size // (size * settings.training.passes)
    out.mkdir(parents=True, exist_ok=True)

    def noise(first: int, stop: int) -> Any:
        return (random_batch(settings, per_pass, seed=10 * number + rank) for number in range(first, stop))

    def look(method: Any, network: Any, values: dict[str, Any]) -> dict[str, Any]:
        return {"norm": float(sum(parameter.detach().norm() for parameter in network.parameters()))}

    with mock.patch.dict(BACKBONES, {"vit-tiny": BackboneEntry("vit", 96, 3, 3)}):
        loop = dataclasses.replace(loop_plan(settings), **plan)
        world = World(rank, size, torch.device("cpu"))
        end = train(tiny_method(settings), loop, out, world, Callbacks(noise, on_cpu, look, lambda *_: None))
    return dataclasses.astuple(end)


def save_again(rank: int, source: Path, out: Path, overrides: list[str], size: int = 2) -> None:
    """Read a checkpoint into a new trainer, and write what it holds as step 1 of another run."""
    from unittest import mock

    from scanlore.registry import BACKBONES, BackboneEntry
    from scanlore.training.checkpoint import Saver
    from scanlore.training.parallel import World
    from scanlore.training.step import Trainer
    from tiny_pretraining import loop_plan, tiny_method

    settings = tiny_settings(*overrides)
    world = World(rank, size, torch.device("cpu"))
    with mock.patch.dict(BACKBONES, {"vit-tiny": BackboneEntry("vit", 96, 3, 3)}):
        trainer = Trainer(tiny_method(settings), loop_plan(settings), world, lambda batch: batch)
    saver = Saver(out, 1, world)
    trainer.restore(source, saver.group)
    saver.save(1, trainer.tensors(), trainer.numbers())
    saver.wait()


def stop_one(rank: int, out: Path, overrides: list[str]) -> Any:
    """Train as `small_run`, where the second rank gets a signal to stop before its first step."""
    import os
    import signal

    from scanlore.training import loop

    original = loop.stop_requests
    if rank == 1:
        import contextlib
        from collections.abc import Iterator

        @contextlib.contextmanager
        def signalled(margin: float | None) -> Iterator[Any]:
            with original(margin) as requests:
                os.kill(os.getpid(), signal.SIGUSR1)
                yield requests

        loop.stop_requests = signalled
    try:
        return small_run(rank, out, overrides)
    finally:
        loop.stop_requests = original


def fall_silent(rank: int, meeting: str, out: Path, pipe: Any) -> None:
    """Train in two processes of their own until the first checkpoint; the second then kills itself."""
    import os
    import signal

    import torch.distributed as dist

    from scanlore.errors import ScanloreError
    from scanlore.training import step as step_module

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    original = step_module.set_schedules

    def at_step(optimizer: Any, settings: Any, batch_size: int, progress: Any) -> Any:
        if rank == 1 and progress.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(optimizer, settings, batch_size, progress)

    step_module.set_schedules = at_step
    try:
        small_run(rank, out, ["training.steps=9", "training.checkpoint_every=3"])
    except ScanloreError as error:
        pipe.send(str(error))


def exchange(rank: int) -> Any:
    """Return what every way to exchange gives."""
    from scanlore.training.parallel import World, all_rows, from_main, gathered

    world, text = World(rank, 2, torch.device("cpu")), f"of rank {rank}"
    rows = all_rows(torch.tensor([rank, rank + 1.0]), world)
    return from_main(world, text), gathered(world, text), rows.tolist()
