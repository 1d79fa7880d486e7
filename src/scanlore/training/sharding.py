"""What makes a method run on many devices, from outside: recompute, compile, replicate or shard, in this order."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from scanlore.backbones.device import Precision
from scanlore.backbones.unique import unique_state
from scanlore.methods.contract import Method
from scanlore.modelfolder.folder import fill
from scanlore.training.compiling import compile_blocks, is_compiled, recompute, repeated_parts
from scanlore.training.parallel import World, replicate
from scanlore.training.parallel_settings import ParallelSettings


def parallelize(module: nn.Module, settings: ParallelSettings, world: World, precision: Precision) -> nn.Module:
    """Return a module as every process calls it.

    Args:
        module: The method, on `world.device` and equal on every process.
        settings: What to apply.
        world: Where this process stands.
        precision: In which the forward pass computes.
    """
    if settings.activation_checkpointing == "full":
        recompute(module)
    if is_compiled(settings, world.device):
        compile_blocks(module)
    if settings.sharding == "fsdp" and dist.is_initialized():
        return shard(module, world, precision)
    return replicate(module, world)


def shard(module: nn.Module, world: World, precision: Precision) -> nn.Module:
    """Shard the parameters of a method over all processes: every repeated part, every head, then the rest (FSDP2).

    Parts that compute in bfloat16 are gathered in it, and their gradients are summed in float32. The rest, embeddings
    and norms, stays in float32: it is small, and tokens are as exact as without sharding. Nothing is cast at the
    border of a part; autocast does that, as on one device.
    """
    for tensor in module.state_dict(keep_vars=True).values():
        dist.broadcast(tensor.detach(), src=0)
    half = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    whole = MixedPrecisionPolicy(cast_forward_inputs=False)
    policy = half if precision == "bf16" and world.device.type == "cuda" else whole
    heads = [child for name, child in module.named_modules() if name.endswith("_head")]
    for part in [*repeated_parts(module), *heads]:
        fully_shard(part, mp_policy=policy, reshard_after_forward=True)
    fully_shard(module, mp_policy=whole)
    return module


def is_sharded(module: nn.Module) -> bool:
    """Return whether a module holds shards, so that all processes have to call it together."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


def whole(tensor: Tensor) -> Tensor:
    """Return a whole tensor; all processes have to ask for it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def plain_tensors(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Return whole tensors on the CPU of the main process, nothing elsewhere; all processes have to ask together."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        complete = whole(tensor.detach())
        if world.is_main:
            plain[name] = complete.cpu()
    return plain


def plain_state(module: nn.Module, world: World) -> dict[str, Tensor]:
    """Return the state of a module as `plain_tensors`, with one name for each tensor."""
    return plain_tensors(unique_state(module), world)


def without_missing_kernels(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimiser of shards do without the one fused kernel that knows no shards: that of SGD."""
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            group["fused"] = False


class Exported:
    """The network a method exports, whole on the main process; made before the method is sharded.

    Args:
        method: Not yet sharded.
        settings: Whether it will be.
        world: Where this process stands.
    """

    def __init__(self, method: Method, settings: ParallelSettings, world: World) -> None:
        self.method, self.world = method, world
        self.is_sharded = settings.sharding == "fsdp" and dist.is_initialized()
        self.copy = copy.deepcopy(method.exported()).cpu() if self.is_sharded and world.is_main else None

    @contextlib.contextmanager
    def open(self) -> Iterator[nn.Module]:
        """Yield the network on the device; all processes have to ask together, the main one gets it whole."""
        live = self.method.exported()
        if not self.is_sharded:
            yield live
            return
        tensors = plain_state(live, self.world)
        if self.copy is None:
            yield live
            return
        fill(self.copy, tensors, "the exported network")
        self.copy.train(live.training)
        try:
            yield self.copy.to(self.world.device)
        finally:
            self.copy.cpu()

    def heads(self) -> dict[str, Tensor]:
        """Return the heads that belong to it, on the main process; all processes have to ask together."""
        return plain_tensors(self.method.heads(), self.world)
