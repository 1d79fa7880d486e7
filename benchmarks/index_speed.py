"""A large index: opened, filtered by rules, split and sampled in a fresh process; time and peak memory.

Usage: python benchmarks/index_speed.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Row, cpu_name, print_table, set_threads

set_threads(2)

import numpy as np  # noqa: E402

from scanlore.corpus.index import FORMAT_VERSION, STATS, Corpus, read_index, schema, write_index  # noqa: E402
from scanlore.corpus.settings import Curation, load_rules  # noqa: E402

NUM_SHARDS = 20
SHARD_BYTES = 1 << 30
NUM_SAMPLED = 1000
SIZES = {2: 1_000_000, 3: 100_000}
SECONDS = {2: 10, 3: 2}
MEGABYTES = {3: 500}
SEQUENCES = np.array(["T1", "T2", "T1-FLAIR", "T2-FLAIR", "SWI", "PD"])
MB = 1e6


def make_corpus(root: Path, ndim: int) -> None:
    """Write the index of a corpus, and shards that are as long as it says and hold nothing."""
    import polars as pl

    count, rng = SIZES[ndim], np.random.default_rng(0)
    types = schema()
    facts = {
        name: pl.Series(name, values, strict=False).cast(types[name])
        for name, values in _facts(count, ndim, rng).items()
    }
    write_index(root, pl.DataFrame(facts))
    (root / "corpus.json").write_text(json.dumps({"format_version": FORMAT_VERSION, "salt": "", "rules": {}}))
    (root / "shards").mkdir()
    for shard in range(NUM_SHARDS):
        with (root / "shards" / f"{shard:05d}.b2s").open("wb") as file:
            file.truncate(SHARD_BYTES + 1024)


def _facts(count: int, ndim: int, rng: np.random.Generator) -> dict[str, Any]:
    shape = rng.integers(20, 400, (count, ndim))
    factors = np.array([[2**level] * ndim for level in range(5)]).ravel()
    names = {
        "source": [f"{number:016x}" for number in range(count)],
        "id": _hashes(count, 32, rng),
        "patient": [f"{number:016x}" for number in rng.integers(0, count // 4, count)],
        "site": [f"{number:016x}" for number in rng.integers(0, 44, count)],
        **{name: _hashes(count, 16, rng) for name in ("file", "relative", "study", "series", "checksum")},
        "fingerprint": _hashes(count, 32, rng),
        "dataset": [f"set-{number}" for number in rng.integers(0, 20, count)],
        "sequence": SEQUENCES[rng.integers(0, len(SEQUENCES), count)],
    }
    constants = {
        "root": "0" * 16,
        "status": "kept",
        "format": "nifti",
        "dtype": "int16",
        "role": "image",
        "modality": "MR",
        "ndim": ndim,
        "channel": 0,
    }
    return {
        **{name: np.full(count, value) for name, value in constants.items()},
        **names,
        **{name: rng.random(count) * 1000 for name in ("slope", "intercept", *STATS)},
        "p99_95": np.full(count, 2000.0),
        "affine": rng.random((count, 16)) if ndim == 3 else np.full(count, None),
        "box_start": np.zeros((count, ndim), np.int64),
        "bytes": rng.integers(10**5, 10**8, count),
        "through_axis": np.full(count, 2) if ndim == 3 else np.full(count, None),
        "scan_shape": shape,
        "shape": shape,
        "spacing": rng.uniform(0.4, 7, (count, ndim)),
        "shard": np.arange(count) % NUM_SHARDS,
        "level_factors": np.tile(factors, (count, 1)),
        "level_offsets": rng.integers(0, SHARD_BYTES, (count, 5)),
    }


def _hashes(count: int, digits: int, rng: np.random.Generator) -> list[str]:
    return [f"{number:0{digits}x}" for number in rng.integers(0, 1 << 62, count)]


def use(root: Path, ndim: int) -> dict[str, float]:
    """Open, filter, split and sample; what a fresh process needs for it."""
    began = time.perf_counter()
    from scanlore.corpus.curate import curate
    from scanlore.corpus.splits import assign_splits

    rules = load_rules("s3d") if ndim == 3 else Curation(keep={"sequence": ["T1", "T2"]})
    frame = assign_splits(curate(read_index(root), rules))[0]
    flags = time.perf_counter() - began
    write_index(root, frame)
    write = time.perf_counter() - began - flags
    del frame
    stored = Corpus(root).select(ndim=ndim, split="train")
    for index in np.random.default_rng(0).permutation(len(stored))[:NUM_SAMPLED].tolist():
        stored.entry(index), stored.pyramid(index)
    seconds = time.perf_counter() - began
    peak = _peak_bytes() / MB
    return {"seconds": seconds, "flags": flags, "write": write, "peak": peak, "entries": len(stored)}


def _peak_bytes() -> float:
    # Of this program alone; getrusage also counts the one that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(root: Path, ndim: int) -> dict[str, float]:
    """Return the figures of a fresh process."""
    command = [sys.executable, __file__, str(root), str(ndim)]
    figures: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return figures


def compare(ndim: int) -> list[Row]:
    """Return the figures of a corpus against the limits."""
    with tempfile.TemporaryDirectory() as folder:
        make_corpus(Path(folder), ndim)
        best = min((measure(Path(folder), ndim) for _ in range(3)), key=lambda figures: figures["seconds"])
    print({name: round(value, 2) for name, value in best.items()})
    claim, device = f"{SIZES[ndim]:,} {ndim}D entries opened, filtered, split, written and sampled", cpu_name(2)
    seconds, peak = best["seconds"], best["peak"]
    rows = [Row(claim, f"{seconds:.2f} s", f"{SECONDS[ndim]} s", seconds / SECONDS[ndim], "<= 1", device)]
    if ndim in MEGABYTES:
        limit = MEGABYTES[ndim]
        rows.append(Row(f"{claim}, peak", f"{peak:.0f} MB", f"{limit} MB", peak / limit, "<= 1", device))
    return rows


def main() -> None:
    """Measure and print; with a corpus and its number of axes, what using it costs in this process."""
    if len(sys.argv) > 1:
        print(json.dumps(use(Path(sys.argv[1]), int(sys.argv[2]))))
        return
    print_table([row for ndim in SIZES for row in compare(ndim)])


if __name__ == "__main__":
    main()
