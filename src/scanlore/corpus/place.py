"""The folder of a corpus: its manifest, its salt, and the lock of those who change it."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

from scanlore.config import validate
from scanlore.corpus.index import FORMAT_VERSION, read_manifest
from scanlore.corpus.salt import make_salt, read_salt, salt_check, salt_file
from scanlore.corpus.settings import Curation
from scanlore.errors import ConfigError
from scanlore.run import check_place, disk_full, is_disk_full, write_atomically


def check_out(out: Path) -> None:
    """Refuse a place for a corpus that holds something else.

    Raises:
        ConfigError: It holds something else.
        DataError: It is a corpus of another version.
    """
    check_place(out)
    if not out.exists() or (out.is_dir() and all(path.name.startswith(".") for path in out.iterdir())):
        return
    if not (out / "corpus.json").is_file():
        raise ConfigError("exists and is no corpus", where=out, fix="choose another --out")
    read_manifest(out)


def corpus_salt(out: Path, given: Path | None) -> bytes:
    """Return the salt a corpus was made with; for a new corpus that of its project, drawn if there is none.

    Raises:
        ConfigError: The salt is not there, or the corpus was made with another one.
    """
    path = salt_file(out, given)
    if not (out / "corpus.json").is_file():
        return make_salt(path)
    salt = read_salt(path)
    if read_manifest(out)["salt"] != salt_check(salt):
        raise ConfigError("is not the salt this corpus was made with", where=path, fix="name the right one by --salt")
    return salt


def write_manifest(out: Path, rules: Curation, check: str) -> None:
    """Write `corpus.json`.

    Args:
        out: The corpus folder.
        rules: Which scans are kept.
        check: From `salt_check`.
    """
    facts = {"format_version": FORMAT_VERSION, "salt": check, "rules": rules.model_dump(mode="json")}
    write_atomically(out / "corpus.json", json.dumps(facts, indent=2) + "\n")


def stored_rules(out: Path) -> Curation:
    """Return the rules a corpus was last flagged with."""
    return validate(Curation, read_manifest(out)["rules"], where=str(out / "corpus.json"))


@contextlib.contextmanager
def changing(out: Path) -> Iterator[None]:
    """Keep other processes from changing a corpus, and say so when the disk is full.

    Raises:
        ConfigError: Another process is changing it, or it is read-only.
        DataError: The disk is full.
    """
    try:
        opened = (out / ".lock").open("w")
    except OSError as error:
        what = f"cannot be changed: {str(error.strerror).lower()}"
        raise ConfigError(what, where=out, fix="make it writable, or work on a copy") from None
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError("is being built by another process", where=out, fix="wait for it to end") from None
        try:
            yield
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise disk_full(out) from None
