"""The progress bar of long work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Advance(Protocol):
    """Tells a progress bar how far the work is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show `done` of `total`, with a note such as the loss."""


@contextlib.contextmanager
def progress_bar(label: str, unit: str, is_shown: bool = True) -> Iterator[Advance]:
    """Show a bar with speed and time left on a terminal's standard error; elsewhere show nothing.

    Args:
        label: What is being done.
        unit: What is counted, for the speed.
        is_shown: Whether this process shows it at all.

    Yields:
        A function to call with how far the work is.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not (is_shown and console.is_terminal)) as bar:
        task = bar.add_task(label, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:.1f} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=total, note=f"{rate}  {note}".strip())

        yield advance
