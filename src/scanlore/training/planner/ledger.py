"""A book of every tensor that a computation makes: live bytes, their peak, and the work of each operation."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from scanlore.training.planner.rates import Rates

ALIGNMENT = {"cuda": 512, "cpu": 64}
"""Bytes that a device's allocator rounds every block up to."""

COPIES = {torch.ops.aten.convolution: 1, torch.ops.aten.convolution_backward: 2}
"""How often a CPU copies what convolutions read and write into layouts of its own while they run, as seen."""


@dataclass
class Work:
    """What operations cost.

    Attributes:
        flops: Floating-point operations of matrix products, convolutions and attention, two for a multiply and add.
        traffic: Bytes read and written.
        seconds: Of every operation the longer of computing and moving, summed; zero where the rates are not known.
    """

    flops: int = 0
    traffic: int = 0
    seconds: float = 0.0


class Ledger(TorchDispatchMode):
    """Follows storages from their first operation until nothing refers to them.

    Entered within a fake-tensor mode it needs no memory. What asks a tensor for its value is answered `answer` there.

    Args:
        device: Whose storages count.
        rates: Of the device, for the seconds; `None` counts none.
    """

    def __init__(self, device: torch.device, rates: Rates | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.rates = device, rates
        self.alignment = ALIGNMENT.get(device.type, 64)
        self.answer = 0.0
        self.live = self.peak = 0
        self.work = Work()
        self._known: dict[int, weakref.finalize[Any, Any]] = {}

    def restart(self) -> None:
        """Forget the peak and the work so far; what is live stays live."""
        self.peak, self.work = self.live, Work()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do an operation and enter it."""
        del types
        if func is torch.ops.aten._local_scalar_dense.default:
            return _scalar(args[0].dtype, self.answer)
        out = func(*args, **(kwargs or {}))
        made = [self._enter(leaf) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if any(made) or _writes(func):
            self._count(func, args, kwargs or {}, out)
        return out

    def _enter(self, tensor: Tensor) -> bool:
        """Count the storage of a tensor; return whether it was new."""
        if tensor.device.type != self.device.type:
            return False
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known or not storage.nbytes():
            return False
        size = -(-storage.nbytes() // self.alignment) * self.alignment
        self._known[key] = weakref.finalize(storage, self._leave, key, size)
        self.live += size
        self.peak = max(self.peak, self.live)
        return True

    def _leave(self, key: int, size: int) -> None:
        del self._known[key]
        self.live -= size

    def _count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        flops = 0
        formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if formula is not None:
            flops = int(formula(*args, **kwargs, out_val=out))
        traffic = sum(_bytes(leaf) for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor))
        if self.device.type == "cpu":
            self.peak = max(self.peak, self.live + traffic * COPIES.get(func._overloadpacket, 0))
        self.work.flops += flops
        self.work.traffic += traffic
        if self.rates is not None:
            self.work.seconds += max(flops / self.rates.flops, traffic / self.rates.bandwidth)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _writes(func: Any) -> bool:
    """Return whether an operation changes one of its arguments."""
    return bool(func._schema.is_mutable)


def _scalar(dtype: torch.dtype, answer: float) -> float | int | bool:
    if dtype == torch.bool:
        return bool(answer)
    return answer if dtype.is_floating_point else int(answer)
