"""The index of a corpus: a row per scan and channel, kept or not, as Parquet."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scanlore.corpus.store import Pyramid, check_shard, shard_path
from scanlore.errors import DataError
from scanlore.run import write_atomically
from scanlore.scans.intensity import IntensityStats

if TYPE_CHECKING:
    import polars as pl

FORMAT_VERSION = 1
STATS = ("minimum", "maximum", "mean", "std", "p0_05", "p5", "p95", "p99_95")


def _schema() -> dict[str, Any]:
    import polars as pl

    ints, floats = pl.List(pl.Int64), pl.List(pl.Float64)
    return {
        "source": pl.String, "format": pl.String, "bytes": pl.Int64, "mtime_ns": pl.Int64,
        "status": pl.String, "reason": pl.String, "problems": pl.String,
        "id": pl.String, "channel": pl.Int64, "num_channels": pl.Int64, "ndim": pl.Int64,
        "scan_shape": ints, "spacing": floats, "through_axis": pl.Int64, "highres": pl.Boolean,
        "patient": pl.String, "modality": pl.String,
        **dict.fromkeys(STATS, pl.Float64),
        "box_start": ints, "shape": ints, "slope": pl.Float64, "intercept": pl.Float64,
        "shard": pl.Int64, "level_factors": ints, "level_offsets": ints, "level_affines": floats,
    }  # fmt: skip


def write_index(root: Path, rows: list[dict[str, Any]]) -> None:
    """Write the index of a corpus in one atomic step."""
    import io

    import polars as pl

    schema = _schema()
    frame = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema, orient="row")
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    write_atomically(root / "index.parquet", buffer.getvalue())


@dataclass(frozen=True)
class Entry:
    """What a view policy needs to know of one stored scan channel: plain numbers.

    Attributes:
        id: Content hash.
        shape: Spatial shape of level 0.
        scan_shape: Spatial shape before the foreground crop.
        through_axis: Axis across the slices; `None` for 2D images.
        spacing: mm per voxel of level 0, where known.
        stats: Of the whole scan.
    """

    id: str
    shape: tuple[int, ...]
    scan_shape: tuple[int, ...]
    through_axis: int | None
    spacing: tuple[float, ...] | None
    stats: IntensityStats


@dataclass(frozen=True)
class StoredScans:
    """The kept entries of a corpus as numpy columns: small, picklable, and free of polars for loader workers.

    Attributes:
        root: The corpus folder.
        columns: Column name to array, or to a list of lists for ragged columns.
    """

    root: Path
    columns: dict[str, npt.NDArray[Any] | list[Any]]

    def __len__(self) -> int:
        return len(self.columns["id"])

    def without(self, ids: Container[str]) -> StoredScans:
        """Return the entries whose content id is none of `ids`."""
        rows = [row for row, name in enumerate(self.columns["id"]) if str(name) not in ids]
        columns: dict[str, npt.NDArray[Any] | list[Any]] = {
            name: column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]
            for name, column in self.columns.items()
        }
        return StoredScans(self.root, columns)

    def entry(self, index: int) -> Entry:
        """Return the facts of one entry."""
        get = self.columns
        through = get["through_axis"][index]
        spacing = get["spacing"][index]
        return Entry(
            id=str(get["id"][index]),
            shape=tuple(get["shape"][index]),
            scan_shape=tuple(get["scan_shape"][index]),
            through_axis=None if through < 0 else int(through),
            spacing=None if spacing is None else tuple(spacing),
            stats=IntensityStats(*(float(get[name][index]) for name in STATS)),
        )

    def pyramid(self, index: int) -> Pyramid:
        """Return the stored levels of one entry."""
        get = self.columns
        shape = get["shape"][index]
        factors = np.reshape(get["level_factors"][index], (-1, len(shape)))
        path = str(shard_path(self.root, int(get["shard"][index])))
        places = tuple((path, int(offset)) for offset in get["level_offsets"][index])
        levels = tuple(tuple(int(f) for f in row) for row in factors)
        return Pyramid(levels, places, float(get["slope"][index]), float(get["intercept"][index]))


class Corpus:
    """A finished corpus on disk.

    Args:
        root: The folder made by `scanlore corpus build`.

    Raises:
        DataError: It is not a corpus, is unfinished, or of another format version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = read_manifest(root)
        if not (root / "index.parquet").is_file() or (root / "journal.jsonl").exists():
            raise DataError("the corpus is unfinished", where=root, fix="run the same `scanlore corpus build` again")

    def frame(self) -> pl.DataFrame:
        """Return the whole index."""
        return read_index(self.root)

    def select(self, ndim: int | None = None, slices_above: int = 0) -> StoredScans:
        """Return the kept entries, in index order.

        Args:
            ndim: 3 for volumes alone, 2 for images alone, `None` for both.
            slices_above: Volumes must have more slices than this along every axis.

        Raises:
            DataError: Index or store are damaged.
        """
        import polars as pl

        frame = self.frame()
        check_shards(self.root, frame)
        frame = frame.filter(pl.col("status") == "kept")
        if ndim is not None:
            frame = frame.filter(pl.col("ndim") == ndim)
        frame = frame.filter((pl.col("ndim") == 2) | (pl.col("scan_shape").list.min() > slices_above))
        ragged = ("shape", "scan_shape", "spacing", "level_factors", "level_offsets")
        columns: dict[str, Any] = {name: frame[name].to_list() for name in ragged}
        columns["through_axis"] = frame["through_axis"].fill_null(-1).to_numpy()
        for name in ("id", "slope", "intercept", "shard", *STATS):
            columns[name] = frame[name].to_numpy()
        return StoredScans(self.root, columns)

    def fingerprint(self) -> str:
        """Return a hash of the kept contents, for the settings of a run that uses them."""
        import hashlib

        import polars as pl

        ids = self.frame().filter(pl.col("status") == "kept")["id"].to_list()
        return hashlib.blake2b("\n".join(ids).encode(), digest_size=8).hexdigest()


def read_index(root: Path) -> pl.DataFrame:
    """Read `index.parquet`.

    Raises:
        DataError: It is damaged.
    """
    import polars as pl

    path = root / "index.parquet"
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        fix = "build the corpus again into a new folder"
        raise DataError(f"the index cannot be read: {str(error).splitlines()[0]}", where=path, fix=fix) from None


def check_shards(root: Path, index: pl.DataFrame) -> None:
    """Make sure that the shard files are as long as the index needs them.

    Raises:
        DataError: One is missing or too short.
    """
    import polars as pl

    kept = index.filter(pl.col("status") == "kept")
    ends = kept.group_by("shard").agg(pl.col("level_offsets").list.max().max()).sort("shard")
    for shard, offset in ends.iter_rows():
        check_shard(root, shard, offset)


def read_manifest(root: Path) -> dict[str, Any]:
    """Read `corpus.json`.

    Raises:
        DataError: `root` is no corpus, a damaged one, or one of another format version.
    """
    path = root / "corpus.json"
    if not path.is_file():
        raise DataError("is no corpus", where=root, fix="make one with `scanlore corpus build PATH --out C`")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = manifest.get("format_version")
    except (ValueError, AttributeError):
        raise DataError("is damaged", where=path, fix="build the corpus again into a new folder") from None
    if found != FORMAT_VERSION:
        fix = "build it again with this version of Scanlore"
        raise DataError(f"store format {found}, this version reads {FORMAT_VERSION}", where=root, fix=fix)
    return manifest
