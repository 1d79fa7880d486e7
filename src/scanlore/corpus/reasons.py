"""Reasons why scans are not kept, counted by rule rather than by file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

UNKNOWN = "unknown"
_NUMBER = re.compile(r"\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b")
_RULE = re.compile(r"\((?P<rule>[a-z_.]+)(?:: .*)?\)$")
_WORDS = {
    "drop_labels": "label map",
    "drop_constant": "empty or constant",
    "drop_scouts": "scout",
    "slices_above": "too few slices",
    "min_field_of_view_mm": "small field of view",
    "max_spacing_mm": "large spacing",
    "min_file_kb": "small file",
    "keep": "not in the allow list",
    "drop_duplicates": "duplicate",
    "near_duplicates": "near-duplicate",
    "fraction": "not drawn",
    "max_patients": "too many patients",
    "volumes_per_patient": "too many volumes of a patient",
}


def rule_of(status: str, reason: str) -> str:
    """Return what the reasons of many scans have in common.

    Args:
        status: `dropped`, whose reasons end in the rule; or `failed`, whose reasons begin with what is wrong and go
            on with details behind a colon or in brackets.
        reason: Of one row of the index.
    """
    found = _RULE.search(reason) if status == "dropped" else None
    if found:
        words = _WORDS.get(found["rule"].partition(".")[0], "dropped")
        return f"{words} {found[0]}"
    return _NUMBER.sub("n", re.split(r": | \(", reason, maxsplit=1)[0])


def count_rules(reasons: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Count the rows of each rule, the most frequent first.

    Args:
        reasons: Status and reason of every row that is not kept.
    """
    return dict(Counter(rule_of(status, reason) for status, reason in reasons).most_common())
