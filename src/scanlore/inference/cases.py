"""Which files make up one scan to predict, and what the result is called."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scanlore.scans.find import Source
from scanlore.tasks.segmentation_records import case_stem

CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True)
class Case:
    """One scan to predict.

    Attributes:
        name: What its result is called, without extension; unique among all.
        sources: Its channels, in order; one source may hold several.
    """

    name: str
    sources: tuple[Source, ...]


def group_cases(sources: Sequence[Source], num_channels: int) -> list[Case]:
    """Group the files of several channels, and name every case after its file.

    Files of one folder called `NAME_0000.nii.gz`, `NAME_0001.nii.gz` ... (nnU-Net's naming) are the channels of `NAME`
    for a model of several channels. A model of one channel takes each as a case of its own; a `NAME_0000.nii.gz` alone
    is called `NAME` there too. Cases of the same name are told apart by their folders.

    Args:
        sources: In the order of the result.
        num_channels: Of the model.
    """
    found: defaultdict[tuple[Path, str], dict[int, Source]] = defaultdict(dict)
    for source in sources:
        match = CHANNEL.fullmatch(_stem(source))
        if match and len(source.files) == 1:
            found[source.path.parent, match[1]][int(match[2])] = source
    plain = {(source.path.parent, _stem(source)) for source in sources}
    joined = {
        members[0]: (name, tuple(members[number] for number in range(len(members))))
        for (folder, name), members in found.items()
        if set(members) == set(range(len(members)))
        and (num_channels > 1 or (len(members) == 1 and (folder, name) not in plain))
    }
    inner = {member for _, members in joined.values() for member in members[1:]}
    cases = [joined.get(source, (_stem(source), (source,))) for source in sources if source not in inner]
    names = _unique([name for name, _ in cases], [members[0].path.parent for _, members in cases])
    return [Case(name, members) for name, (_, members) in zip(names, cases, strict=True)]


def renamed(cases: Sequence[Case]) -> dict[str, str]:
    """Return the cases that are not called as their first file, with that file."""

    def plain(source: Source) -> set[str]:
        match = CHANNEL.fullmatch(_stem(source))
        return {_stem(source)} | ({match[1]} if match else set())

    return {case.name: case.sources[0].name for case in cases if case.name not in plain(case.sources[0])}


def _stem(source: Source) -> str:
    stem = case_stem(source.path, is_channel=False)
    return f"{stem}_{source.number}" if source.number > 1 else stem


def _unique(names: list[str], folders: list[Path]) -> list[str]:
    """Put the folders in front of names that are there twice, and numbers behind where that is not enough."""
    counts = Counter(map(str.casefold, names))
    paths = [folder.absolute() for folder in folders]
    shared = len(Path(os.path.commonpath(paths)).parts)
    unique: dict[str, str] = {}
    for name, path in zip(names, paths, strict=True):
        long = "_".join((*path.parts[shared:], name)) if counts[name.casefold()] > 1 else name
        number, chosen = 1, long
        while chosen.casefold() in unique or (number > 1 and chosen.casefold() in counts):
            number += 1
            chosen = f"{long}_{number}"
        unique[chosen.casefold()] = chosen
    return list(unique.values())
