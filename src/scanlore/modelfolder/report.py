"""What became of the tensors of a file of weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from scanlore.errors import ModelError

_NOT_NEEDED = re.compile(
    r"(dino_head|ibot_head|head|classifier|linear_head|dino_loss|ibot_patch_loss|koleo_loss|student|teacher)\."
)
"""Tensors that belong to training or to a classifier: a backbone is whole without them."""


@dataclass(frozen=True)
class LoadReport:
    """Which tensors were found, which not, and what was done to them.

    Attributes:
        loaded: Names, ours, of the tensors of the network that were found.
        missing: Names of tensors of the network that were not found.
        unexpected: Names of tensors that the network does not have.
        adapted: Names of tensors that were changed to fit, each with how.
        misfits: Names of tensors of another shape, each with both shapes.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    adapted: tuple[tuple[str, str], ...] = ()
    misfits: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        """Return the report for reading: counts and first names."""
        left = [name for name in self.unexpected if _NOT_NEEDED.match(name)]
        found = {
            "loaded": self.loaded,
            "missing": self.missing,
            "unexpected": tuple(name for name in self.unexpected if name not in set(left)),
            "of another shape": tuple(f"{name}: {how}" for name, how in self.misfits),
            "left aside": tuple(left),
        }
        lines = [f"{kind}: {_counted(names)}" for kind, names in found.items() if names]
        return lines + [f"adapted: {_counted(names)}, {how}" for how, names in self._by_how().items()]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _by_how(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for name, how in self.adapted:
            groups.setdefault(how, []).append(name)
        return groups

    def check(self, where: object) -> None:
        """Refuse a half-load; tensors of heads and losses may be left aside.

        Args:
            where: What to call the weights in the message.

        Raises:
            ModelError: A tensor is missing, of another shape, or unknown.
        """
        unknown = [name for name in self.unexpected if not _NOT_NEEDED.match(name)]
        problems = {
            "missing": list(self.missing),
            "of another shape": [f"{name}: {how}" for name, how in self.misfits],
            "unexpected": unknown,
        }
        said = "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in problems.items() if names)
        if said:
            raise ModelError(f"the weights do not fit the network, and half of them is no model: {said}", where=where)


def compare(
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    adapted: Iterable[tuple[str, str]] = (),
    others: Iterable[str] = (),
) -> LoadReport:
    """Compare tensors with what a network wants.

    Args:
        tensors: By name.
        shapes: Of the tensors of the network.
        adapted: What was changed before, each with how.
        others: Names of tensors that were set aside before.
    """
    both = sorted(tensors.keys() & shapes.keys())
    wrong = [name for name in both if tuple(tensors[name].shape) != shapes[name]]
    return LoadReport(
        loaded=tuple(name for name in both if name not in wrong),
        missing=tuple(sorted(shapes.keys() - tensors.keys())),
        unexpected=tuple(sorted({*(tensors.keys() - shapes.keys()), *others})),
        adapted=tuple(adapted),
        misfits=tuple((name, f"{tuple(tensors[name].shape)}, not {shapes[name]}") for name in wrong),
    )


def _counted(names: Iterable[str]) -> str:
    listed = list(names)
    return f"{len(listed)} tensor{'s' * (len(listed) != 1)} ({_first(listed)})"


def _first(names: list[str]) -> str:
    return f"{names[0]} ..." if len(names) > 1 else names[0]
