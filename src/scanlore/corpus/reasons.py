"""Reasons why scans are not kept, counted by rule rather than by file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_NUMBER = re.compile(r"\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b")


def rule_of(status: str, reason: str) -> str:
    """Return what the reasons of many scans have in common.

    Args:
        status: `dropped`, whose reasons end in the setting; or `failed`, whose reasons begin with what is wrong and go
            on with details behind a colon or in brackets.
        reason: Of one row of the index.
    """
    if status == "dropped":
        reason = re.sub(r"^duplicate of .* \(", "duplicate (", reason)
        return re.sub(r"^\d+ slices? \(", "too few slices (", reason)
    return _NUMBER.sub("n", re.split(r": | \(", reason, maxsplit=1)[0])


def count_rules(reasons: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Count the rows of each rule, the most frequent first.

    Args:
        reasons: Status and reason of every row that is not kept.
    """
    return dict(Counter(rule_of(status, reason) for status, reason in reasons).most_common())
