"""The index of a corpus: a row per source and channel, kept or not, as Parquet."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scanlore.corpus.ragged import from_series
from scanlore.corpus.store import Pyramid, check_shard, shard_path
from scanlore.errors import DataError, nearest
from scanlore.run import write_atomically
from scanlore.scans.intensity import IntensityStats

if TYPE_CHECKING:
    import polars as pl

FORMAT_VERSION = 2
STATS = ("minimum", "maximum", "mean", "std", "p0_05", "p5", "p95", "p99_95")
RAGGED = {
    "shape": np.int32,
    "scan_shape": np.int32,
    "spacing": np.float64,
    "level_factors": np.int16,
    "level_offsets": np.int64,
}
"""List columns that training needs, and the numbers they hold."""
_FLAT = ("id", "through_axis", "slope", "intercept", "shard", *STATS)


def schema() -> dict[str, Any]:
    """Return the polars type of every column of the index, in order; `docs/reference/store.md` describes them."""
    import polars as pl

    text, number, flag = pl.String, pl.Int64, pl.Boolean
    ints, floats = pl.List(pl.Int64), pl.List(pl.Float64)
    return {
        "source": text, "root": text, "file": text, "relative": text,
        "format": text, "num_files": number, "bytes": number, "modified": text,
        "status": text, "rule": text, "value": text, "reason": text, "problems": text,
        "role": text, "id": text, "fingerprint": text, "channel": number, "num_channels": number, "ndim": number,
        "scan_shape": ints, "spacing": floats, "affine": floats, "through_axis": number, "plane": text, "highres": flag,
        "modality": text, "sequence": text, "body_part": text, "contrast": flag, "scout": flag, "vendor": text,
        "field_strength": pl.Float64, "sex": text, "age_band": text,
        "site": text, "patient": text, "study": text, "series": text, "dataset": text, "licence": text, "split": text,
        **dict.fromkeys(STATS, pl.Float64),
        "box_start": ints, "shape": ints, "dtype": text, "slope": pl.Float64, "intercept": pl.Float64,
        "shard": number, "level_factors": ints, "level_offsets": ints, "checksum": text,
    }  # fmt: skip


def index_frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Return rows as a table with all columns of the index; what a row does not say is null."""
    import polars as pl

    types = schema()
    return pl.DataFrame([[row.get(name) for name in types] for row in rows], schema=types, orient="row")


def completed(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table with all columns of the index and no others, null where they were missing."""
    import polars as pl

    columns = [
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in schema().items()
    ]
    return frame.select(columns)


def write_index(root: Path, frame: pl.DataFrame) -> None:
    """Write the index of a corpus in one atomic step; columns that no index has are left out."""
    import io

    buffer = io.BytesIO()
    completed(frame).write_parquet(buffer)
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
        columns: Column name to array, or to `Ragged` for the columns of `RAGGED`; `id` holds bytes.
    """

    root: Path
    columns: dict[str, Any]

    def __len__(self) -> int:
        return len(self.columns["id"])

    def content_id(self, index: int) -> str:
        """Return the content id of one entry."""
        return _text(self.columns["id"][index])

    @property
    def content_ids(self) -> list[str]:
        """The content ids of all entries."""
        return [_text(name) for name in self.columns["id"]]

    def without(self, ids: Container[str]) -> StoredScans:
        """Return the entries whose content id is none of `ids`."""
        rows = np.array([name not in ids for name in self.content_ids], dtype=bool)
        return StoredScans(self.root, {name: column[rows] for name, column in self.columns.items()})

    def entry(self, index: int) -> Entry:
        """Return the facts of one entry."""
        get = self.columns
        through = int(get["through_axis"][index])
        spacing = get["spacing"][index]
        return Entry(
            id=self.content_id(index),
            shape=tuple(get["shape"][index].tolist()),
            scan_shape=tuple(get["scan_shape"][index].tolist()),
            through_axis=None if through < 0 else through,
            spacing=None if spacing is None else tuple(spacing.tolist()),
            stats=IntensityStats(*(float(get[name][index]) for name in STATS)),
        )

    def pyramid(self, index: int) -> Pyramid:
        """Return the stored levels of one entry."""
        get = self.columns
        factors = get["level_factors"][index].reshape(-1, len(get["shape"][index]))
        path = str(shard_path(self.root, int(get["shard"][index])))
        places = tuple((path, offset) for offset in get["level_offsets"][index].tolist())
        levels = tuple(tuple(row) for row in factors.tolist())
        return Pyramid(levels, places, float(get["slope"][index]), float(get["intercept"][index]))


def _text(name: object) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


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

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the index, or some columns of it."""
        return read_index(self.root, columns)

    def select(self, ndim: int | None = None, slices_above: int = 0, split: str | None = None) -> StoredScans:
        """Return the kept entries, in index order.

        Args:
            ndim: 3 for volumes alone, 2 for images alone, `None` for both.
            slices_above: Volumes must have more slices than this along every axis.
            split: Of this split alone, such as `train`; `None` for all.

        Raises:
            DataError: Index or store are damaged, or no kept entry is of this split.
        """
        import polars as pl

        frame = self.frame(["status", "ndim", "split", *RAGGED, *_FLAT])
        check_shards(self.root, frame)
        frame = self._of_split(frame.filter(pl.col("status") == "kept"), split)
        if ndim is not None:
            frame = frame.filter(pl.col("ndim") == ndim)
        frame = frame.filter((pl.col("ndim") == 2) | (pl.col("scan_shape").list.min() > slices_above))
        columns: dict[str, Any] = {name: from_series(frame[name], dtype) for name, dtype in RAGGED.items()}
        columns |= {name: frame[name].to_numpy() for name in _FLAT}
        columns["through_axis"] = frame["through_axis"].fill_null(-1).cast(pl.Int8).to_numpy()
        columns["id"] = frame["id"].to_numpy().astype("S32")
        return StoredScans(self.root, columns)

    def _of_split(self, kept: pl.DataFrame, split: str | None) -> pl.DataFrame:
        import polars as pl

        if split is None:
            return kept
        chosen = kept.filter(pl.col("split") == split)
        if not chosen.height:
            names = sorted(kept["split"].drop_nulls().unique().to_list())
            known = (
                f"splits: {', '.join(names)}{nearest(split, names)}" if names else "`scanlore corpus split` makes them"
            )
            raise DataError(f"no kept scan is of the split {split!r}", where=self.root, fix=known)
        return chosen

    def fingerprint(self, split: str | None = None) -> str:
        """Return a hash of the kept contents, for the settings of a run that uses them.

        Args:
            split: Of this split alone; `None` for all.
        """
        import hashlib

        import polars as pl

        kept = self.frame(["status", "id", "split"]).filter(pl.col("status") == "kept")
        ids = self._of_split(kept, split)["id"].to_list()
        return hashlib.blake2b("\n".join(ids).encode(), digest_size=8).hexdigest()


def read_index(root: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read `index.parquet`.

    Args:
        root: The corpus folder.
        columns: Those to read; `None` for all.

    Raises:
        DataError: It is damaged.
    """
    import polars as pl

    path = root / "index.parquet"
    try:
        return pl.read_parquet(path, columns=None if columns is None else list(columns))
    except (pl.exceptions.PolarsError, OSError) as error:
        fix = "build the corpus again into a new folder"
        raise DataError(f"the index cannot be read: {str(error).splitlines()[0]}", where=path, fix=fix) from None


def check_shards(root: Path, index: pl.DataFrame) -> None:
    """Make sure that the shard files are as long as the index needs them; a few bytes of each are read.

    Args:
        root: The corpus folder.
        index: Its columns `shard` and `level_offsets`.

    Raises:
        DataError: One is missing or too short.
    """
    import polars as pl

    stored = index.filter(pl.col("shard").is_not_null())
    ends = stored.group_by("shard").agg(pl.col("level_offsets").list.max().max()).sort("shard")
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
    except (ValueError, AttributeError, OSError):
        raise _damaged_manifest(path) from None
    if found != FORMAT_VERSION:
        fix = "build it again with this version of Scanlore"
        raise DataError(f"store format {found}, this version reads {FORMAT_VERSION}", where=root, fix=fix)
    if not isinstance(manifest.get("rules"), dict) or not isinstance(manifest.get("salt"), str):
        raise _damaged_manifest(path)
    return manifest


def _damaged_manifest(path: Path) -> DataError:
    return DataError("is damaged", where=path, fix="build the corpus again into a new folder")
