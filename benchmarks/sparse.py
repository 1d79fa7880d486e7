"""Sparse CNNs: a step of S3D against the same step dense, and the masked norm alone against what could stand in for it.

The step is the whole of it on one batch: forward, backward, SGD with Nesterov momentum, of a ResEnc U-Net (32, 64, 128,
256) at 64^3, batch 2, blocks of 16, 75 % hidden. Its dense side is the masked autoencoder of the same network on the
same masked views: neither masked norms nor tokens nor densifying convolutions.

The norm works on 2 x 32 x 64^3 voxels, forward and backward. Its peers are torch's instance norm, which sees all
voxels, and gathering: the visible voxels of each sample copied out, normed by torch and scattered into zeros, as sparse
convolutional masked autoencoders were first written. `--cores 1` counts processor seconds in place of seconds, for a
busy machine.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

from common import Row, best_of, cpu_name, ms, print_table, set_threads

PARSER = argparse.ArgumentParser(description=__doc__.splitlines()[0])
PARSER.add_argument("--device", default="cpu", help="cpu or cuda")
PARSER.add_argument("--compile", action="store_true", help="also compiled steps")
PARSER.add_argument("--edge", type=int, default=64, help="of a view, in voxels")
PARSER.add_argument("--repeats", type=int, default=5)
PARSER.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
ARGUMENTS = PARSER.parse_args()
set_threads(ARGUMENTS.cores)

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from scanlore.backbones.build import build_backbone  # noqa: E402
from scanlore.backbones.masked_norm import masked_instance_norm  # noqa: E402
from scanlore.backbones.resenc import ResEnc, visible_at  # noqa: E402
from scanlore.backbones.settings import ResEncSettings  # noqa: E402
from scanlore.methods.contract import Progress  # noqa: E402
from scanlore.methods.s3d.method import S3DMethod  # noqa: E402
from scanlore.methods.s3d.settings import S3DSettings  # noqa: E402
from scanlore.views.loader import Batch, ViewGroup  # noqa: E402

BATCH, CHANNELS, BLOCK, HIDDEN = 2, 32, 16, 0.75
EPS = 1e-5
clock = time.thread_time if ARGUMENTS.cores == 1 and ARGUMENTS.device == "cpu" else time.perf_counter


def hidden_blocks(edge: int) -> Tensor:
    """Return `(BATCH, cells)`, true for the same number of random blocks in each view."""
    cells = (edge // BLOCK) ** 3
    order = torch.rand(BATCH, cells, generator=torch.Generator().manual_seed(0)).argsort(1)
    return order < int(HIDDEN * cells)


def batch_of(edge: int) -> Batch:
    """Return a batch of random views with hidden blocks."""
    empty = torch.empty(0)
    pixels = torch.randn(BATCH, 1, *(edge,) * 3, generator=torch.Generator().manual_seed(1))
    group = ViewGroup(pixels.to(ARGUMENTS.device), empty, empty, empty, empty)
    return Batch(0, ["a", "b"], {"views": group}, hidden_blocks(edge).to(ARGUMENTS.device))


def step_of(settings: S3DSettings, batch: Batch, is_compiled: bool) -> Callable[[], None]:
    """Return a training step of a method with these settings."""
    backbone = build_backbone(ResEncSettings(name="resenc-s"), 0)
    assert isinstance(backbone, ResEnc)
    method = S3DMethod(backbone, settings).to(ARGUMENTS.device)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=1e-3, momentum=0.99, nesterov=True)
    forward = torch.compile(method) if is_compiled else method
    progress = Progress(0, 1)

    def step() -> None:
        optimiser.zero_grad()
        forward(batch, progress)["reconstruction"].backward()
        optimiser.step()
        _finish()

    return step


def _finish() -> None:
    if ARGUMENTS.device == "cuda":
        torch.cuda.synchronize()


def gathered(x: Tensor, visible: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Norm visible voxels by gathering them (S3D, section 3, "Sparsification": the formula as it is written)."""
    out = []
    for sample, mask in zip(x, visible[:, 0].bool(), strict=True):
        normed = F.instance_norm(sample[None, :, mask], weight=weight, bias=bias, eps=eps)[0]
        empty = torch.zeros_like(sample)
        empty[:, mask] = normed
        out.append(empty)
    return torch.stack(out)


def native(x: Tensor, visible: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Norm all voxels by torch."""
    del visible
    return F.instance_norm(x, weight=weight, bias=bias, eps=eps)


def pass_of(norm: Callable[..., Tensor], edge: int) -> Callable[[], None]:
    """Return a forward and backward pass of a norm."""
    generator = torch.Generator().manual_seed(2)
    shape = (BATCH, CHANNELS, *(edge,) * 3)
    x, upstream = (torch.randn(shape, generator=generator).to(ARGUMENTS.device) for _ in range(2))
    weight, bias = (torch.rand(CHANNELS, generator=generator).to(ARGUMENTS.device) for _ in range(2))
    leaves = [leaf.requires_grad_() for leaf in (x, weight, bias)]
    blocks = ~hidden_blocks(edge).unflatten(1, (1, *(edge // BLOCK,) * 3)).to(ARGUMENTS.device)
    visible = visible_at(blocks, x)

    def both() -> None:
        torch.autograd.grad(norm(x, visible, weight, bias, EPS), leaves, upstream)
        _finish()

    return both


def step_rows(device: str) -> list[Row]:
    """Time steps, eager and, where asked for, compiled."""
    batch, rows = batch_of(ARGUMENTS.edge), []
    dense = S3DSettings(sparse=False, mask_token=False, densify=False)
    bound = "<= 1.25" if ARGUMENTS.device == "cpu" else ""
    for kind, target in (("eager", bound), ("compiled", "<= 1.1"))[: 1 + ARGUMENTS.compile]:
        is_compiled = kind == "compiled"
        steps = [step_of(settings, batch, is_compiled) for settings in (S3DSettings(), dense)]
        for step in steps:
            step()
        ours, plain = best_of(ARGUMENTS.repeats, *steps, clock=clock)
        claim = f"S3D step of {ARGUMENTS.edge}^3 / dense step, {kind}"
        rows.append(Row(claim, ms(ours), ms(plain), ours / plain, target, device))
    return rows


def norm_rows(device: str) -> list[Row]:
    """Time the norm and its peers."""
    norms: list[Callable[..., Tensor]] = [masked_instance_norm, native, gathered]
    if ARGUMENTS.compile:
        norms.append(torch.compile(masked_instance_norm))
    passes = [pass_of(norm, ARGUMENTS.edge) for norm in norms]
    for both in passes:
        both()
    ours, plain, gather, *compiled = best_of(4 * ARGUMENTS.repeats, *passes, clock=clock)
    size = f"{BATCH} x {CHANNELS} x {ARGUMENTS.edge}^3"
    rows = [
        Row(f"masked norm of {size} / native norm", ms(ours), ms(plain), ours / plain, "", device),
        Row(f"masked norm of {size} / gather and scatter", ms(ours), ms(gather), ours / gather, "<= 1.0", device),
    ]
    for seconds in compiled:
        claim = f"compiled masked norm of {size} / native norm"
        rows.append(Row(claim, ms(seconds), ms(plain), seconds / plain, "<= 1.1", device))
    return rows


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(ARGUMENTS.cores)
    on_gpu = ARGUMENTS.device == "cuda"
    device = torch.cuda.get_device_name() if on_gpu else cpu_name(ARGUMENTS.cores)
    print_table([*norm_rows(device), *step_rows(device)])


if __name__ == "__main__":
    main()
