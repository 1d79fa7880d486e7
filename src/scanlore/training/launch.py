"""What `torchrun` and Slurm tell a process about those that train with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from scanlore.errors import ConfigError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_JOB_NODELIST", "SLURM_JOB_ID")
FIRST_PORT, NUM_PORTS = 20000, 10000


@dataclass(frozen=True)
class Launch:
    """The place of a process among those that were started together.

    Attributes:
        rank: Of this process.
        size: Number of processes.
        local_rank: Of this process on its machine.
        local_size: Processes on its machine.
        address: Of the machine of the first process.
        port: On which they meet.
        cores: Which the launcher gave to this process alone; `None` where processes share those of the machine.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    cores: int | None = None


def read_launch(environ: Mapping[str, str]) -> Launch | None:
    """Read the environment of `torchrun`, or of a task of Slurm's `srun`; `torchrun` counts where both are there.

    Returns:
        `None` for a process that trains alone.

    Raises:
        ConfigError: Part of it is missing or no number, or a job of several tasks was not started by `srun`.
    """
    if "WORLD_SIZE" in environ or "RANK" in environ:
        return _read_torchrun(environ)
    if environ.get("SLURM_PROCID") is None or environ.get("SLURM_NTASKS", "1") == "1":
        return None
    if not {"SLURM_STEP_ID", "SLURM_STEPID"} & environ.keys():
        what = f"the job has {environ['SLURM_NTASKS']} tasks, but this process was not started by srun"
        raise ConfigError(
            what, where="SLURM_NTASKS", fix="start it as `srun scanlore pretrain ...`, or ask for one task"
        )
    return _read_slurm(environ)


def _read_torchrun(environ: Mapping[str, str]) -> Launch | None:
    if environ.get("WORLD_SIZE") == "1":
        return None
    _check(environ, TORCHRUN, "torchrun")
    rank, size, local_rank = (_number(environ, name) for name in TORCHRUN[:3])
    local_size = _number(environ, "LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environ else size
    return _checked(Launch(rank, size, local_rank, local_size, environ["MASTER_ADDR"], _number(environ, "MASTER_PORT")))


def _read_slurm(environ: Mapping[str, str]) -> Launch:
    _check(environ, SLURM, "Slurm")
    rank, size, local_rank = (_number(environ, name) for name in SLURM[:3])
    # Two steps of one job must not meet on one port
    job = _number(environ, "SLURM_JOB_ID") + int(environ.get("SLURM_STEP_ID", environ.get("SLURM_STEPID", "0")))
    port = _number(environ, "MASTER_PORT") if "MASTER_PORT" in environ else FIRST_PORT + job % NUM_PORTS
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", environ.get("SLURM_TASKS_PER_NODE", str(size)))
    found = re.match(r"\d+", tasks)
    cores = _number(environ, "SLURM_CPUS_PER_TASK") if "SLURM_CPUS_PER_TASK" in environ else None
    address = environ.get("MASTER_ADDR") or first_host(environ["SLURM_JOB_NODELIST"])
    return _checked(Launch(rank, size, local_rank, int(found[0]) if found else size, address, port, cores))


def first_host(nodes: str) -> str:
    """Return the first host of a list in Slurm's notation, e.g. `gpu-003` of `gpu-[003-007,9],login1`."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    if found is None:
        raise ConfigError(f"no list of hosts: {nodes!r}", where="SLURM_JOB_NODELIST")
    return "".join(part or "" for part in found.groups())


def _check(environ: Mapping[str, str], names: tuple[str, ...], launcher: str) -> None:
    missing = [name for name in names if not environ.get(name)]
    if missing:
        given = next(name for name in names if environ.get(name))
        fix = f"start it with {'torchrun' if launcher == 'torchrun' else 'srun'}, or unset {given}"
        raise ConfigError(f"half of what {launcher} sets is missing: {', '.join(missing)}", where=given, fix=fix)


def _number(environ: Mapping[str, str], name: str) -> int:
    if not environ[name].isdecimal():
        raise ConfigError(f"must be a number, got {environ[name]!r}", where=name)
    return int(environ[name])


def _checked(launch: Launch) -> Launch:
    if launch.rank >= launch.size:
        raise ConfigError(f"rank {launch.rank} of {launch.size} processes", where="RANK", fix="ranks count from 0")
    return launch
