"""Label budgets: few of the training cases, the same few for every model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from scanlore.errors import ConfigError
from scanlore.scans.failures import counted

Budget = Literal["all"] | int | float


def parse_labels(text: str) -> Budget:
    """Read a label budget: `all`, a number of scans such as `10`, or a share such as `0.1` or `10%`.

    Args:
        text: `1` is one scan, `1.0` and `100%` are all.

    Raises:
        ConfigError: It is none of these, or not above 0 and, for a share, at most 1.
    """
    word = text.strip().lower()
    if word == "all":
        return "all"
    try:
        budget = int(word) if word.isdecimal() else float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
    except ValueError:
        raise _no_budget(text) from None
    is_possible = budget > 0 and (isinstance(budget, int) or budget <= 1)  # false for NaN
    if not is_possible:
        raise _no_budget(text)
    return budget


def _no_budget(text: str) -> ConfigError:
    fix = "a number of scans such as 10, a share such as 0.1 or 10%, or all"
    return ConfigError(f"{text!r} is no number of labels", where="labels", fix=fix)


def label_budget(cases: Sequence[tuple[str, str | None]], labels: Budget, seed: int) -> list[int]:
    """Choose training cases: patients in an order that the seed decides, until the budget is spent.

    Larger budgets hold all cases of smaller ones, and nothing but the names of the cases, their patients and the seed
    decides: every model gets the same cases.

    Args:
        cases: Name and patient of each training case; `None` for a case of unknown patient, which stands for itself.
        labels: `all`, a number of cases, or a share above 0 and at most 1, which is rounded.
        seed: Of the order of patients.

    Returns:
        Positions in `cases`, ascending.

    Raises:
        ConfigError: The share leaves no case, or there are fewer cases.
    """
    number = _number(labels, len(cases))
    units: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position in sorted(range(len(cases)), key=lambda position: cases[position][0]):
        name, patient = cases[position]
        units[("case", name) if patient is None else ("patient", patient)].append(position)
    members = list(units.values())
    order = np.random.default_rng([seed, len(members)]).permutation(len(members))
    return sorted([position for unit in order for position in members[unit]][:number])


def _number(labels: Budget, available: int) -> int:
    if labels == "all":
        return available
    number = labels if isinstance(labels, int) else round(labels * available)
    if number < 1:
        what = f"{labels:g} of {counted(available, 'training case')} leaves no scan"
        raise ConfigError(what, where="labels", fix=f"take at least {1 / max(available, 1):.2g}, or a number of scans")
    if number > available:
        what = f"asks for {labels}, and there are {counted(available, 'training case')}"
        raise ConfigError(what, where="labels", fix=f"take {available} or fewer, or all")
    return number
