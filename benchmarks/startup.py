"""Start-up: how soon the command answers when it has nothing to compute, and what it must not import for that."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from common import Row, best_of, cpu_name, ms, print_table, set_threads

set_threads(1)

HEAVY = ("torch", "monai", "polars")
RUN = "from scanlore.cli import main; main()"
PROBE = f"""
import atexit, os, sys
atexit.register(lambda: os.write(3, ",".join(n for n in {HEAVY} if n in sys.modules).encode()))
{RUN}
"""
ANSWERS = {
    "scanlore --help": ["--help"],
    "a mistyped verb": ["pretrian", "C"],
    "a mistyped setting": ["pretrain", "C", "--recipe", "3dino-vit-s", "--out", "R", "--set", "optim.lrr=1"],
}


def answer(arguments: list[str], folder: str) -> None:
    """Run the command as a shell would."""
    subprocess.run([sys.executable, "-c", RUN, *arguments], cwd=folder, capture_output=True, check=False)


def imported(arguments: list[str], folder: str) -> str:
    """Return which heavy packages the command imported, separated by commas."""
    out = Path(folder) / "imported"
    call = f'exec {sys.executable} -c "$0" "$@" 3>"{out}"'
    subprocess.run(["bash", "-c", call, PROBE, *arguments], cwd=folder, capture_output=True, check=False)
    return out.read_text()


def main() -> None:
    """Measure and print."""
    device = cpu_name(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in ANSWERS.items():
            seconds, bare = best_of(
                5,
                lambda arguments=arguments: answer(arguments, folder),
                lambda: subprocess.run([sys.executable, "-c", ""], check=True),
            )
            rows.append(Row(f"{name}, seconds / bare Python", ms(seconds), ms(bare), seconds, "<= 0.5", device))
            found = imported(arguments, folder)
            count = len(found.split(",")) if found else 0
            rows.append(Row(f"{name}, of {', '.join(HEAVY)} imported", found or "none", "none", count, "<= 0", device))
    print_table(rows)


if __name__ == "__main__":
    main()
