"""Download one file: resumed where it stopped, checked, and under its name only when it is whole.

What has arrived lies in `NAME.part`; `NAME.part.json` says of which version of the file it is a part. A server that has
another version now, or cannot give a part, is asked for the whole.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanlore.errors import ConfigError, DataError
from scanlore.tasks.catalogue import RemoteFile

BLOCK_BYTES = 1 << 20
SPARE_BYTES = 1 << 26
TIMEOUT_SECONDS = 60.0
NUM_TRIES = 4
PASSING = (408, 425, 429, 500, 502, 503, 504)
REASONS = {401: "asks for a login", 403: "refuses access", 404: "has no such file", 410: "no longer has the file"}
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Fetched:
    """A downloaded file.

    Attributes:
        path: Where it is.
        num_bytes: Its size.
        sha256: Of its bytes.
        is_checked: Whether its checksum was known, and is right.
        already_done: Whether it was there before.
    """

    path: Path
    num_bytes: int
    sha256: str
    is_checked: bool
    already_done: bool = False


@dataclass
class _Part:
    """What has arrived of a file.

    Attributes:
        path: The bytes so far.
        url: Where they are from.
        version: The server's name for the version of the file: its ETag, or else its date; empty where it gave neither.
        total: Size of the whole file; -1 where the server does not say.
    """

    path: Path
    url: str
    version: str = ""
    total: int = -1

    @property
    def facts(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.facts.unlink(missing_ok=True)


class _BrokenError(Exception):
    """The connection broke, or the server is busy: worth another try."""


def fetch_file(
    file: RemoteFile, folder: Path, proxy: str | None = None, advance: Advance | None = None, wait_seconds: float = 1.0
) -> Fetched:
    """Download a file, or go on with a download that was interrupted.

    Args:
        file: What to download.
        folder: Where to; made where it is missing.
        proxy: Address of a proxy; by default those that the environment names (`HTTPS_PROXY`, `NO_PROXY`).
        advance: Called with bytes so far and bytes in all (-1 where not known).
        wait_seconds: Before the second try; twice as long before each further one.

    Raises:
        ConfigError: The proxy is no address.
        DataError: The server does not answer or refuses, the disk is full, or the checksum is wrong.
    """
    target = folder / file.name
    if target.exists():
        return _finished(file, target, already_done=True)
    opener = _opener(proxy)
    part = _begun(file, folder)
    tries = most = 0
    while part.num_bytes != part.total:
        most = max(most, part.num_bytes)
        try:
            _receive(part, opener, advance or _nothing)
            break
        except _BrokenError as reason:
            tries = 1 if part.num_bytes > most else tries + 1  # a server may begin anew each time, and break
            if tries == NUM_TRIES:
                fix = "the same command goes on from here" if part.num_bytes else "check address, network and proxy"
                raise DataError(f"cannot be downloaded: {reason}", where=file.url, fix=fix) from None
            time.sleep(wait_seconds * 2 ** (tries - 1))
        except OSError as error:
            raise DataError(f"cannot be written: {error.strerror or error}", where=part.path) from None
    return _finished(file, target, part)


def _nothing(done: int, total: int) -> None:
    pass


def _opener(proxy: str | None) -> urllib.request.OpenerDirector:
    if proxy is None:
        return urllib.request.build_opener()
    if not re.fullmatch(r"https?://[^\s/]+/?", proxy):
        raise ConfigError("is no address of a proxy", where="--proxy", fix="e.g. --proxy http://proxy.example.org:3128")
    return urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))


def _begun(file: RemoteFile, folder: Path) -> _Part:
    """Return what an earlier call left; nothing, where it cannot be known to be of the same file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be made: {error.strerror}", where=folder) from None
    part = _Part(folder / f"{file.name}.part", file.url)
    try:
        facts = json.loads(part.facts.read_text(encoding="utf-8"))
        if facts["url"] == file.url and facts["version"]:
            part.version, part.total = str(facts["version"]), int(facts["total"])
            return part
    except (OSError, ValueError, KeyError, TypeError):
        pass
    part.remove()
    return part


def _receive(part: _Part, opener: urllib.request.OpenerDirector, advance: Advance) -> None:
    """Ask for what is missing, and write it.

    Raises:
        _BrokenError: The connection broke before the end.
        DataError: The server refuses, or the disk is too small.
    """
    with _answer(part, opener) as response:
        start = _start(part, response)
        if start is None:  # a part of another version, or not the part that was asked for
            part.remove()
            raise _BrokenError("the file changed on the server")
        _check_disk(part, start)
        done = start
        with part.path.open("ab" if start else "wb") as file:
            advance(done, part.total)
            while block := _read(response):
                file.write(block)
                done += len(block)
                advance(done, part.total)
    if part.total >= 0 and part.num_bytes != part.total:
        if part.num_bytes > part.total:
            part.remove()
        raise _BrokenError(f"the connection broke after {done:,} of {part.total:,} bytes")


def _answer(part: _Part, opener: urllib.request.OpenerDirector) -> Any:
    headers = {"User-Agent": "scanlore", "Accept-Encoding": "identity"}
    if part.num_bytes and part.version:
        headers |= {"Range": f"bytes={part.num_bytes}-", "If-Range": part.version}
    try:
        return opener.open(urllib.request.Request(part.url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # there is nothing after what we have: it is whole, or of another version
            part.remove()
            raise _BrokenError("the file changed on the server") from None
        if error.code in PASSING:
            raise _BrokenError(f"the server answers {error.code} {error.reason}") from None
        what = f"the server {REASONS.get(error.code, 'answers')} ({error.code} {error.reason})"
        raise DataError(what, where=part.url, fix="see its homepage by `scanlore datasets show`") from None
    except urllib.error.URLError as error:
        raise _BrokenError(f"the server cannot be reached ({_words(error.reason)})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"the connection broke ({_words(error)})") from None


def _words(error: object) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).strip().splitlines()[0]


def _start(part: _Part, response: Any) -> int | None:
    """Return where the bytes of an answer begin, and note of which version they are; `None` where they do not fit."""
    version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    version = "" if version.startswith("W/") else version  # a weak ETag does not promise equal bytes
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        fits = found and int(found[1]) == part.num_bytes and int(found[2]) == part.total
        return part.num_bytes if fits and version in ("", part.version) else None
    part.version, part.total = version, int(response.headers.get("Content-Length", -1))
    part.path.unlink(missing_ok=True)
    part.facts.write_text(json.dumps({"url": part.url, "version": version, "total": part.total}), encoding="utf-8")
    return 0


def _check_disk(part: _Part, start: int) -> None:
    missing, free = part.total - start, shutil.disk_usage(part.path.parent).free
    if missing > 0 and missing + SPARE_BYTES > free:
        what = f"the disk is too small: {missing / 1e9:.1f} GB to come, {free / 1e9:.1f} GB free"
        raise DataError(what, where=part.path.parent, fix="make room, or choose another --out")


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(BLOCK_BYTES))  # what is there, so that a broken connection costs little
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"the connection broke ({_words(error)})") from None


def _finished(file: RemoteFile, target: Path, part: _Part | None = None, already_done: bool = False) -> Fetched:
    """Check a whole file, and give it its name.

    Raises:
        DataError: Its checksum is wrong; what was downloaded is removed, what was there before is not.
    """
    path = target if part is None else part.path
    sums = _checksums(path)
    for kind, wanted in (("sha256", file.sha256), ("md5", file.md5)):
        if wanted is not None and sums[kind] != wanted:
            what = f"its {kind} is {sums[kind]} and should be {wanted}"
            if part is None:
                raise DataError(f"is there, and {what}", where=target, fix="move it and run the same command again")
            part.remove()
            raise DataError(f"was not kept: {what}", where=target, fix="run the same command again")
    if part is not None:
        os.replace(part.path, target)
        part.facts.unlink(missing_ok=True)
    is_checked = bool(file.sha256 or file.md5)
    return Fetched(target, target.stat().st_size, sums["sha256"], is_checked, already_done)


def _checksums(path: Path) -> dict[str, str]:
    hashes = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            for one in hashes.values():
                one.update(block)
    return {kind: one.hexdigest() for kind, one in hashes.items()}
