"""Meta's published DINOv2 weights: downloaded once, kept in the user's cache, whole or not there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from scanlore.errors import DataError, ModelError, nearest
from scanlore.progress import progress_bar
from scanlore.tasks.catalogue import RemoteFile
from scanlore.tasks.datasets.fetch import fetch_file

BASE_URL = "https://dl.fbaipublicfiles.com/dinov2"
BASE_VARIABLE = "SCANLORE_DINOV2_URL"
CACHE_VARIABLE = "SCANLORE_CACHE"
NAMES = tuple(f"vit{size}14{registers}" for registers in ("", "_reg") for size in "sblg")
WAIT_SECONDS = 1.0


def dinov2_file(name: str) -> Path:
    """Return the file of a published model, downloaded where it is not there yet.

    Args:
        name: One of `NAMES`, e.g. `vits14_reg`.

    Raises:
        ModelError: The server cannot be reached or refuses, or the cache cannot be written.
    """
    remote = RemoteFile(name=f"{_stem(name)}_pretrain.pth", url=_url(name))
    folder = cache_folder() / "dinov2"
    target = folder / remote.name
    if target.is_file():
        return target
    fix = f"download {remote.url} where there is a network, and name it: dinov2:FILE"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{remote.name}.lock").open("w") as lock, progress_bar(remote.name, "MB") as advance:
            fcntl.flock(lock, fcntl.LOCK_EX)  # several processes of one run want the same file

            def shown(done: int, total: int) -> None:
                advance(done // 1_000_000, max(done, total) // 1_000_000)

            return target if target.is_file() else fetch_file(remote, folder, None, shown, WAIT_SECONDS).path
    except DataError as error:
        raise ModelError(error.what, where=error.where, fix=fix) from None
    except OSError as error:
        fix = f"set {CACHE_VARIABLE} to a folder that can be written"
        raise ModelError(f"cannot be kept: {error.strerror or error}", where=folder, fix=fix) from None


def unknown_name(reference: str, rest: str) -> ModelError:
    """Return the error for a name that is neither published nor a file."""
    fix = f"names: {', '.join(NAMES)}; or the path of a file{nearest(rest, list(NAMES))}"
    what = f"no DINOv2 model and no file {rest!r}" if rest else "names no model"
    return ModelError(what, where=reference, fix=fix)


def cache_folder() -> Path:
    """Return where downloads are kept: `SCANLORE_CACHE`, or `scanlore` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scanlore"


def _url(name: str) -> str:
    base = os.environ.get(BASE_VARIABLE, BASE_URL).rstrip("/")
    return f"{base}/dinov2_{name.removesuffix('_reg')}/{_stem(name)}_pretrain.pth"


def _stem(name: str) -> str:
    return f"dinov2_{name}4" if name.endswith("_reg") else f"dinov2_{name}"
