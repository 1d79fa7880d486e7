"""Building the labelled store of a task: every case is read once, checked, and written to shards."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.corpus.levels import build_levels, level_factors
from scanlore.corpus.quantise import quantise
from scanlore.corpus.store import ShardWriter, encode
from scanlore.errors import DataError
from scanlore.run import make_folder, write_atomically
from scanlore.scans.bad_scans import BadScans
from scanlore.scans.failures import counted
from scanlore.scans.intensity import intensity_stats
from scanlore.scans.scan import Scan
from scanlore.tasks.label_map import listed
from scanlore.tasks.labelled_case import Labels, read_case, scan_ids
from scanlore.tasks.labelled_index import FORMAT_VERSION, INDEX, LabelledStore, open_labelled_store, read_facts
from scanlore.tasks.segmentation import SegmentationCase, SegmentationTask

MAX_FOREGROUND = 1000
Progress = Callable[[int, int], None]
Row = dict[str, Any]


def build_labelled_store(
    task: SegmentationTask,
    indices: Sequence[int],
    out: Path,
    *,
    max_bad: float = 0.01,
    needs_every_class: bool = True,
    progress: Progress = lambda done, total: None,
) -> LabelledStore:
    """Store cases of a task; a finished store of the same cases is opened instead.

    One case at a time is in memory. A case that cannot be used is left out and listed in `problems`.

    Args:
        task: The task.
        indices: Of the cases to store, in this order; each has a mask.
        out: The folder of the store.
        max_bad: Share of the cases that may be left out; one always may.
        needs_every_class: Refuse a store in which a class never occurs, as nothing could learn it.
        progress: Called with the number of cases done and in all.

    Raises:
        DataError: Too many cases cannot be used, or a class has no voxel.
    """
    if not indices:
        raise DataError("there are no cases to train on", where=task.name)
    cases = [task.cases[index] for index in indices]
    key = _key(task, cases)
    if (read_facts(out) or {}).get("key") != key:
        _build(task, cases, out, key, max_bad, progress)
    store = open_labelled_store(out)
    if needs_every_class:
        _refuse_absent_classes(task, store)
    return store


def _key(task: SegmentationTask, cases: Sequence[SegmentationCase]) -> str:
    """Say what a store was made of: the task, the cases, and size and time of their files."""
    digest = hashlib.sha256(task.fingerprint().encode())
    for case in cases:
        files = [file for image in case.images for file in (sorted(image.iterdir()) if image.is_dir() else [image])]
        facts = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        digest.update(f"{case.name}{[file.as_posix() for file in files]}{facts}".encode())
    return digest.hexdigest()[:16]


def _build(
    task: SegmentationTask,
    cases: Sequence[SegmentationCase],
    out: Path,
    key: str,
    max_bad: float,
    progress: Progress,
) -> None:
    make_folder(out)
    (out / INDEX).unlink(missing_ok=True)
    shutil.rmtree(out / "shards", ignore_errors=True)
    bad = BadScans(len(cases), max_bad, "max_bad")
    rows = []
    writer = ShardWriter(out)
    for done, case in enumerate(cases, start=1):
        try:
            rows.append(_store_case(case, task, writer))
        except DataError as error:
            bad.add(case.name, error)
        progress(done, len(cases))
    writer.close()
    bad.check()
    facts = {"format_version": FORMAT_VERSION, "key": key, "cases": rows, "problems": bad.problems}
    write_atomically(out / INDEX, json.dumps(facts) + "\n")


def _store_case(case: SegmentationCase, task: SegmentationTask, writer: ShardWriter) -> Row:
    labelled = read_case(case, task)
    scan, mask = labelled.scan, labelled.mask
    if mask is None:
        raise DataError("has no mask", where=case.images[0])
    factors = level_factors(scan.shape, scan.through_axis)
    channels, frames = _encode_channels(scan, factors)
    foreground, class_voxels = _foreground(mask, sorted(set(task.labels) - {0}), case.name)
    frames.append(encode(mask))
    if foreground:
        frames.append(encode(np.concatenate(list(foreground.values()))))
    offsets = writer.append(frames)
    for number, channel in enumerate(channels):
        channel["level_offsets"] = offsets[number * len(factors) : (number + 1) * len(factors)]
    num_levels = len(channels) * len(factors)
    return {
        "name": case.name, "shape": scan.shape, "spacing": scan.spacing, "through_axis": scan.through_axis,
        "ids": scan_ids(scan), "problems": scan.problems, "level_factors": factors, "channels": channels,
        "shard": writer.shard, "label_offset": offsets[num_levels], "last_offset": offsets[-1],
        "class_voxels": class_voxels,
        "foreground": {label: len(voxels) for label, voxels in foreground.items()},
        "foreground_offset": offsets[-1] if foreground else None,
    }  # fmt: skip


def _encode_channels(scan: Scan, factors: list[tuple[int, ...]]) -> tuple[list[Row], list[bytes]]:
    channels, frames = [], []
    for voxels in scan.voxels:
        stats = intensity_stats(voxels)
        values, slope, intercept = quantise(voxels, stats)
        channels.append({"stats": asdict(stats), "slope": slope, "intercept": intercept})
        frames += [encode(level) for level in build_levels(values, factors)]
    return channels, frames


def _foreground(
    mask: Labels, labels: Sequence[int], name: str
) -> tuple[dict[int, npt.NDArray[np.int64]], dict[int, int]]:
    """Draw voxels of every class by their flat number, and count them all; the case's name decides the draw."""
    drawn: dict[int, npt.NDArray[np.int64]] = {}
    counts = {}
    for label in labels:
        voxels = np.flatnonzero(mask == label)
        counts[label] = int(voxels.size)
        if voxels.size:
            rng = np.random.default_rng([zlib.crc32(name.encode()), label])
            drawn[label] = np.sort(rng.choice(voxels, min(MAX_FOREGROUND, voxels.size), replace=False))
    return drawn, counts


def _refuse_absent_classes(task: SegmentationTask, store: LabelledStore) -> None:
    absent = [task.labels[label] for label, count in sorted(store.class_voxels.items()) if count == 0]
    if absent:
        what = f"no voxel of {listed(map(repr, absent))} in {counted(len(store), 'training case')}"
        fix = "train on more cases, or take the class out of the label map"
        raise DataError(what, where=task.name, fix=fix)
