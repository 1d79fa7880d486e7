"""The run folder: what a command was asked, what it did, and how it may be continued."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import yaml

from scanlore.__about__ import __version__
from scanlore.config import differences, read_yaml
from scanlore.errors import ConfigError, DataError

logger = logging.getLogger("scanlore")
State = Literal["new", "continued", "finished"]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that it is either the old one or the new one, whenever the process ends."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_place(out: Path) -> None:
    """Refuse a place where nothing can be written.

    Raises:
        ConfigError: A part of the path is a file, or the folder it would lie in cannot be written.
    """
    parent = next(folder for folder in (out, *out.absolute().parents) if os.path.lexists(folder))
    if not parent.is_dir() and parent != out:
        raise ConfigError(f"cannot be made: {parent} is a file", where=out, fix="choose another --out")
    if not os.access(parent, os.W_OK):
        raise ConfigError(f"cannot be written: no permission for {parent}", where=out, fix="choose another --out")


def make_folder(out: Path) -> None:
    """Make a folder and those above it.

    Raises:
        ConfigError: The system does not allow it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}", where=out, fix="choose another --out") from None


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that there is no space left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(out: Path) -> DataError:
    """Return the error for a full disk."""
    free = shutil.disk_usage(out).free / 1e6
    fix = "free some space and run the same command again; what is finished is kept"
    return DataError(f"the disk is full ({free:.0f} MB free)", where=out, fix=fix)


def check_run(out: Path, command: str, settings: Mapping[str, Any], free: tuple[str, ...] = ()) -> State:
    """Say whether `out` is free, holds this very run unfinished, or holds it finished.

    Args:
        out: The run folder; nothing is created here.
        command: The verb, e.g. `"pretrain"`.
        settings: The resolved settings as plain values.
        free: Beginnings of the dotted keys that may change from call to call.

    Raises:
        ConfigError: `out` holds something else, or the run of other settings (which are listed).
    """
    check_place(out)
    if not out.exists() or (out.is_dir() and all(path.name.startswith(".") for path in out.iterdir())):
        return "new"
    record = _read_record(out)
    if record["command"] != command:
        raise ConfigError(f"holds a {record['command']!r} run", where=out, fix="choose another --out")
    if not (out / "config.yaml").is_file():
        return "new"  # killed right after the manifest was written
    plain = yaml.safe_load(yaml.safe_dump(_plain(settings)))
    changed = [line for line in differences(read_yaml(out / "config.yaml"), plain) if not line.startswith(free)]
    if changed:
        fix = "choose another --out, or repeat the settings"
        raise ConfigError(f"was started with other settings: {'; '.join(changed)}", where=out, fix=fix)
    return "finished" if record["status"] == "finished" else "continued"


def _read_record(out: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, TypeError):
        record: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
        if {"command", "status"} <= set(record):
            return record
    raise ConfigError("exists and is no run folder", where=out, fix="choose another --out")


class Run:
    """An open run folder: settings, manifest and log.

    Args:
        out: The folder; created here, after everything has been validated.
        command: The verb.
        settings: The resolved settings as plain values, written to `config.yaml`.
        free: Beginnings of the dotted keys that may change from call to call.
    """

    def __init__(self, out: Path, command: str, settings: Mapping[str, Any], free: tuple[str, ...] = ()) -> None:
        self.out = out
        self.state = check_run(out, command, settings, free)
        facts = environment()  # asks git, which takes its time, before there is a folder that a kill could leave half
        make_folder(out)
        self._manifest = out / "run.json"
        if self.state == "new":
            self.record: dict[str, Any] = {"command": command, "status": "running", "started": _now()}
        else:
            self.record = json.loads(self._manifest.read_text(encoding="utf-8")) | {"status": "running"}
        self.note(environment=facts)
        if self.state == "new":  # behind the manifest, which tells the folder is ours
            write_atomically(out / "config.yaml", yaml.safe_dump(_plain(settings), sort_keys=False))

    def note(self, **facts: Any) -> None:
        """Add facts to `run.json`."""
        self.record.update(facts)
        write_atomically(self._manifest, json.dumps(_plain(self.record), indent=2) + "\n")

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Send the log to `run.log` as well, and record how the run ended."""
        handler = logging.FileHandler(self.out / "run.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.info("%s: %s", self.record["command"], "started" if self.state == "new" else "goes on")
        started = time.monotonic()
        try:
            yield
            self._end("finished", started)
        except BaseException as error:
            is_stop = isinstance(error, KeyboardInterrupt | SystemExit)
            # The console gets its one line from the command; the log also gets the traceback
            logger.info("ended: %s", type(error).__name__ if is_stop else error, exc_info=not is_stop)
            with contextlib.suppress(OSError):
                self._end("interrupted" if is_stop else "failed", started)
            if is_disk_full(error):
                raise disk_full(self.out) from None
            raise
        finally:
            logger.removeHandler(handler)
            handler.close()

    def _end(self, status: str, started: float) -> None:
        spent = self.record.get("wall_seconds", 0.0) + time.monotonic() - started
        self.note(status=status, ended=_now(), wall_seconds=round(spent, 1))
        logger.info("%s after %.1f s", status, spent)


def environment() -> dict[str, str]:
    """Return the versions that matter for repeating a run."""
    facts = {"scanlore": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "numpy", "blosc2", "scikit-learn"):
        with contextlib.suppress(PackageNotFoundError):
            facts[package] = version(package)
    commit = _git_commit()
    return facts | ({"git": commit} if commit else {})


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip() or None
    return None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
