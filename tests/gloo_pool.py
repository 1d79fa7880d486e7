"""Two processes joined by gloo, started once and used by every test that needs more than one rank."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SIZE = 2
PATIENCE = 60


class GlooPool:
    """Runs a function on both ranks at once.

    Args:
        folder: Where the processes meet; each pool needs its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.num_starts = folder, 0
        self.pipes: list[Connection] = []
        self.processes: list[Any] = []

    def __enter__(self) -> GlooPool:
        return self

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.num_starts += 1
        meeting = f"file://{self.folder}/meeting{self.num_starts}"
        for rank in range(SIZE):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, meeting, theirs), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Return what `function(rank, *args)` returns on each rank.

        Args:
            function: From an importable module, as `ranks.py`.
            *args: Picklable.
        """
        if not self.processes:
            self._start()
        for pipe in self.pipes:
            pipe.send((function, args))
        answers = []
        for pipe in self.pipes:
            answers.append(self._answer(pipe))
            if answers[-1][0]:  # the other rank may wait in a collective for ever
                self._stop()
                raise AssertionError(answers[-1][1])
        return [answer for _, answer in answers]

    def _answer(self, pipe: Connection) -> tuple[bool, Any]:
        try:
            return pipe.recv() if pipe.poll(PATIENCE) else (True, f"no answer within {PATIENCE} seconds")
        except (EOFError, ConnectionResetError):
            return True, "the process died"

    def _stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self.pipes, self.processes = [], []

    def __exit__(self, *_: object) -> None:
        self._stop()


def _serve(rank: int, meeting: str, pipe: Connection) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=SIZE)
    while True:
        function, args = pipe.recv()
        try:
            pipe.send((False, function(rank, *args)))
        except Exception:
            pipe.send((True, f"rank {rank}: {traceback.format_exc()}"))
