"""A random 96^3 view from a shard of many scans against the same view from a file of its own.

Scans of 256 x 256 x 160 are stored twice: all in one shard, and each in a shard that holds nothing else. The same views
are read and sampled from both in turns, in a random order of scans; then the parts alone: opening the scan and reading
the blocks, and sampling a block in memory. Every scan is opened anew each time; files are in the system's cache.

Times are processor seconds of one thread per view, every view at its best of a few rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from time import process_time

from common import Row, best_of, cpu_name, ms, print_table, set_threads

set_threads(1)

import numpy as np  # noqa: E402

from scanlore.corpus import store  # noqa: E402
from scanlore.corpus.levels import build_levels, level_factors  # noqa: E402
from scanlore.corpus.store import Pyramid, ShardWriter, encode, shard_path  # noqa: E402
from scanlore.scans.intensity import LinearMap  # noqa: E402
from scanlore.views.sampler import sample  # noqa: E402
from scanlore.views.view import View, box_map  # noqa: E402
from scans import brain  # noqa: E402

SHAPE, SIZE = (256, 256, 160), (96, 96, 96)  # too large for a level to be decoded whole
Box = tuple[slice, ...]
SCALING = LinearMap(0.002, -1.0, -1.0, 1.0)


def write_all(folder: Path, count: int, *, together: bool) -> list[Pyramid]:
    """Store noisy scans in one shard, or in one each."""
    rng = np.random.default_rng(0)
    template = np.pad(brain(), [(0, max(0, edge - size)) for edge, size in zip(SHAPE, brain().shape, strict=True)])
    factors = level_factors(SHAPE, 2)
    writer = ShardWriter(folder)
    pyramids = []
    for number in range(count):
        voxels = template[tuple(slice(edge) for edge in SHAPE)] + rng.integers(-20, 20, SHAPE, dtype=np.int16)
        frames = [encode(level) for level in build_levels(voxels, factors)]
        if number and not together:
            writer.close()
            writer = ShardWriter(folder, number)
        offsets = writer.append(frames)
        path = str(shard_path(folder, writer.shard))
        pyramids.append(Pyramid(tuple(factors), tuple((path, offset) for offset in offsets), 1.0, 0.0))
    writer.close()
    return pyramids


def views(count: int) -> list[tuple[int, View, Box]]:
    """Return random views: the scan, the view between its voxels, and the box of voxels it needs."""
    rng = np.random.default_rng(1)
    found = []
    for scan in rng.permutation(count):
        start = [int(rng.integers(0, edge - size - 1)) for edge, size in zip(SHAPE, SIZE, strict=True)]
        matrix = box_map(start, SIZE, SIZE)
        matrix[:, -1] += 0.5
        box = tuple(slice(first, first + size + 1) for first, size in zip(start, SIZE, strict=True))
        found.append((int(scan), View(matrix, SIZE), box))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kinds = [write_all(Path(folder) / str(kind), given.scans, together=kind == 0) for kind in (0, 1)]
        wanted = views(given.scans)

        block = np.ascontiguousarray(kinds[0][0].read(0, wanted[0][2]))
        in_memory = Pyramid(((1, 1, 1),), (block,), 1.0, 0.0)
        inner = box_map([0, 0, 0], SIZE, SIZE)
        inner[:, -1] += 0.5

        def whole(pyramids: list[Pyramid], scan: int, view: View, box: Box) -> None:
            store._open_level.cache_clear()
            sample(pyramids[scan], view, SCALING, "pretraining")

        def reading(pyramids: list[Pyramid], scan: int, view: View, box: Box) -> None:
            store._open_level.cache_clear()
            pyramids[scan].read(0, box)

        def sampling(pyramids: list[Pyramid], scan: int, view: View, box: Box) -> None:
            sample(in_memory, View(inner, SIZE), SCALING, "pretraining")

        rows = []
        for name, part in (("read and sampled", whole), ("read alone", reading), ("sampled alone", sampling)):
            seconds = [
                best_of(given.repeats, partial(part, kinds[0], *one), partial(part, kinds[1], *one), clock=process_time)
                for one in wanted
            ]
            shared, own = np.mean(seconds, axis=0)
            claim = f"96^3 view {name}, of {given.scans} scans in one shard / in files of their own"
            target = "<= 1.1" if part is whole else ""
            rows.append(Row(claim, ms(shared), ms(own), shared / own, target, cpu_name(1)))
    print_table(rows)


if __name__ == "__main__":
    main()
