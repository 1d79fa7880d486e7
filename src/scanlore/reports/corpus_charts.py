"""Charts of what a corpus is made of: bars, hierarchies and columns as plain numbers, drawn by the page's template."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from scanlore.corpus.reasons import UNKNOWN
from scanlore.reports.corpus_counts import NOT_MR, tally

NUM_COLOURS = 7
"""Colours `c0` to `c6` of the style sheet; `rest` is the colour of all further values, `unknown` that of none."""
MAX_BARS = 60
HEIGHT = 340
"""Of a hierarchy, in CSS pixels."""
LABELLED = 18 / HEIGHT
"""Share of a hierarchy with room for a line of text; smaller parts have no label, only a tooltip."""
LAST = (NOT_MR, UNKNOWN)

Colours = Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """A stretch of a bar or column.

    Attributes:
        label: Its value.
        count: Rows.
        colour: A class of the style sheet.
    """

    label: str
    count: int
    colour: str


@dataclass(frozen=True)
class Bar:
    """A bar, or a column of a histogram.

    Attributes:
        label: Its value, or the values it counts.
        count: Rows.
        share: Of the longest bar, in [0, 1].
        parts: Its stretches, from left to right or from the bottom up.
    """

    label: str
    count: int
    share: float
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """What the bar says, in words."""
        parts = ", ".join(f"{part.label} {part.count:,}" for part in self.parts if part.label != self.label)
        return f"{self.label}: {self.count:,}" + (f" ({parts})" if parts else "")


@dataclass(frozen=True)
class Node:
    """A part of a hierarchy.

    Attributes:
        label: Its value.
        count: Rows.
        share: Of the whole, in [0, 1].
        colour: A class of the style sheet.
        text: What it says, in words.
        children: The parts of the next level.
    """

    label: str
    count: int
    share: float
    colour: str
    text: str
    children: tuple[Node, ...]

    @property
    def has_label(self) -> bool:
        """Whether there is room for a line of text."""
        return self.share >= LABELLED


def colours(values: Iterable[str]) -> dict[str, str]:
    """Return the colour class of each value.

    Args:
        values: The most important first.
    """
    known = [value for value in dict.fromkeys(values) if value != UNKNOWN]
    found = {value: f"c{place}" if place < NUM_COLOURS else "rest" for place, value in enumerate(known)}
    return found | {UNKNOWN: "unknown"}


def bar(label: str, counts: Mapping[str, int], longest: int, palette: Colours) -> Bar:
    """Return a bar.

    Args:
        label: What it counts.
        counts: Rows of each part.
        longest: Rows of the longest bar of the chart.
        palette: The colours, and by their order that of the parts.
    """
    parts = tuple(Part(name, counts[name], palette[name]) for name in palette if counts.get(name))
    count = sum(part.count for part in parts)
    return Bar(label, count, count / longest if longest else 0.0, parts)


def stacked_bars(frame: pl.DataFrame, column: str, by: str, palette: Colours) -> list[Bar]:
    """Return a bar for each value of a column, parted by another one, the longest first and the unknown last.

    Fig. 1b of the 3DINO paper shows so the volumes of each organ by modality.

    Args:
        frame: From `described`.
        column: One bar for each of its values; those beyond `MAX_BARS` share one.
        by: Parts of a bar.
        palette: Colours of the values of `by`.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for value, part, count in tally(frame, column, by):
        counts[value][part] = count
    named = sorted(counts.keys() - set(LAST), key=lambda value: (-counts[value].total(), value))
    shown, others = named[:MAX_BARS], named[MAX_BARS:]
    if others:
        shown.append(f"{len(others)} others")
        counts[shown[-1]] = sum((counts[value] for value in others), Counter())
    shown += [value for value in LAST if value in counts]
    longest = max((counts[value].total() for value in shown), default=0)
    return [bar(value, counts[value], longest, palette) for value in shown]


def simple_bars(rows: Iterable[tuple[str, int]]) -> list[Bar]:
    """Return a bar of one colour for each value, the unknown muted and last."""
    ordered = sorted(rows, key=lambda row: _place(row[0]))
    longest = max((count for _, count in ordered), default=0)
    return [
        bar(value, {value: count}, longest, {value: UNKNOWN if value == UNKNOWN else "c0"}) for value, count in ordered
    ]


def hierarchy(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[Node, ...]:
    """Part a corpus by one column, each part by the next, and so on: S3D paper, Fig. 2.

    Args:
        frame: From `described`.
        columns: The levels, from the outermost.

    Returns:
        The nodes of the first level, the largest first, the unknown last at every level. Nodes of one parent that are
        too small for a label are one.
    """
    palette = colours(value for value, _ in tally(frame, columns[0]))
    return _nodes(tally(frame, *columns), frame.height or 1, palette, None)


def _nodes(rows: list[tuple[Any, ...]], total: int, palette: Colours, colour: str | None) -> tuple[Node, ...]:
    """Return the nodes of one level below one parent, which hands on its colour; each row ends in its count."""
    groups: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for value, *rest in rows:
        groups[value].append(tuple(rest))
    nodes = []
    for value, group in groups.items():
        count = sum(row[-1] for row in group)
        own = UNKNOWN if value == UNKNOWN else colour or palette[value]
        children = _nodes(group, total, palette, own) if len(group[0]) > 1 else ()
        text = f"{value}: {count:,} ({count / total:.1%})"
        nodes.append(Node(value, count, count / total, own, text, children))
    ordered = sorted(nodes, key=lambda node: (_place(node.label), -node.count, node.label))
    return _merged(ordered, is_below=colour is not None)


def _merged(nodes: list[Node], is_below: bool) -> tuple[Node, ...]:
    small = [node for node in nodes if not node.has_label and node.label not in LAST]
    if len(small) < 2:
        return tuple(nodes)
    large = [node for node in nodes if node not in small]
    place = sum(node.label not in LAST for node in large)
    sums = sum(node.count for node in small), sum(node.share for node in small)
    others = Node(
        ", ".join(node.label for node in small),
        *sums,
        small[0].colour if is_below else "rest",
        "; ".join(node.text for node in small),
        (),
    )
    return (*large[:place], others, *large[place:])


def _place(value: str) -> int:
    """Return what puts values that say little behind the others."""
    return LAST.index(value) + 1 if value in LAST else 0
