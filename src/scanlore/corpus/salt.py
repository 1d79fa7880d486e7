"""The secret that turns identities into hashes: one for all corpora of a project, in a file the user owns.

It lies beside the corpora and not in them, so that a corpus can be given away without the means to test names against
its hashes. Corpora made with one salt name the same patient by the same hash.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from scanlore.errors import ConfigError
from scanlore.scans.metadata import hashed

NAME = "scanlore.salt"
NUM_BYTES = 16


def salt_file(out: Path, given: Path | None = None) -> Path:
    """Return where the salt of a corpus lies: as given, else beside the corpus folder."""
    return given if given is not None else out.absolute().parent / NAME


def read_salt(path: Path) -> bytes:
    """Read a salt.

    Raises:
        ConfigError: The file is missing, or holds no salt.
    """
    try:
        salt = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        fix = "name the file by --salt; without it patients and files cannot be recognised"
        raise ConfigError("the salt of this corpus is not there", where=path, fix=fix) from None
    except (ValueError, OSError):
        raise ConfigError("is no salt file", where=path, fix="it holds hexadecimal digits alone") from None
    if len(salt) < NUM_BYTES:
        raise ConfigError("the salt is too short", where=path, fix=f"{2 * NUM_BYTES} hexadecimal digits or more")
    return salt


def make_salt(path: Path) -> bytes:
    """Read a salt, or draw one and write it for the owner's eyes alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_salt(path)
    except OSError as error:
        raise ConfigError(f"the salt cannot be written: {error.strerror}", where=path, fix="choose --salt") from None
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(NUM_BYTES) + "\n")
    return read_salt(path)


def salt_check(salt: bytes) -> str:
    """Return what a corpus keeps to recognise its salt without knowing it."""
    return str(hashed(salt, "the salt of this corpus"))
