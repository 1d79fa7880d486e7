"""What all benchmarks share: threads, interleaved best-of-n timing, and one table."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HEADER = "| claim | ours | peer or limit | ratio | target | | device |\n|---|---|---|---|---|---|---|"


def set_threads(count: int) -> None:
    """Fix the number of threads of every library in this process and its children; call before they are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLOSC_NTHREADS"):
        os.environ[name] = str(count)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        claim: What is measured.
        ours: Our figure with its unit.
        peer: The peer's or the limit's.
        ratio: What the target is about.
        target: Such as `">= 2"` or `"<= 1.3"`; empty for a figure without one.
        device: What it ran on.
    """

    claim: str
    ours: str
    peer: str
    ratio: float
    target: str
    device: str

    @property
    def verdict(self) -> str:
        """PASS or miss; nothing where there is no target."""
        if not self.target:
            return ""
        sign, bound = self.target.split()
        met = self.ratio >= float(bound) if sign == ">=" else self.ratio <= float(bound)
        return "PASS" if met else "miss"


def best_of(
    repeats: int, *functions: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return the best seconds of each function; they take turns, so that a busy machine is busy for all of them."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for place, function in enumerate(functions):
            began = clock()
            function()
            best[place] = min(best[place], clock() - began)
    return best


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows as a Markdown table."""
    print(HEADER)
    for row in rows:
        cells = (row.claim, row.ours, row.peer, f"{row.ratio:.2f}", row.target, row.verdict, row.device)
        print("| " + " | ".join(cells) + " |")


def cpu_name(cores: int) -> str:
    """Return the processor's name and how many of its cores were used."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} core{'s' * (cores > 1)}"


def ms(seconds: float) -> str:
    """Return milliseconds as text."""
    return f"{seconds * 1000:.1f} ms"
