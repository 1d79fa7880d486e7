"""How labelled scans lie on disk: a folder per class, or a table; read into plain records."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scanlore.corpus.cells import Cells, read_cells
from scanlore.errors import DataError, nearest
from scanlore.scans.find import Source, find_sources

logger = logging.getLogger("scanlore")
SPLITS = ("train", "val", "test")
NUM_NAMED = 3


@dataclass(frozen=True)
class Record:
    """One labelled image as the files say it, unchecked.

    Attributes:
        image: The image file, or the folder of a DICOM series.
        label: Its class in words; `None` where there is no label.
        patient: The patient in the table's own words; `None` where unknown.
        split: `train`, `val`, `test`, or `None` where not given.
        source: Its files where they are known already; one of several series in a folder needs them.
    """

    image: Path
    label: str | None
    patient: str | None
    split: str | None
    source: Source | None = None


def read_folders(root: Path) -> list[Record]:
    """Read `root/<class>/*` or `root/{train,val,test}/<class>/*`; a DICOM series below a class is one image.

    Raises:
        DataError: There are no class folders, or folders that are no split beside those that are.
    """
    folders = _subfolders(root)
    names = [folder.name for folder in folders]
    if not set(names) & set(SPLITS):
        return _read_classes(root, folders, None)
    strangers = [name for name in names if name not in SPLITS]
    if strangers:
        what = f"the folder {strangers[0]!r} beside {next(name for name in names if name in SPLITS)!r} is no split"
        raise DataError(what, where=root, fix=f"splits are {', '.join(SPLITS)}{nearest(strangers[0], list(SPLITS))}")
    return [record for folder in folders for record in _read_classes(folder, _subfolders(folder), folder.name)]


def _subfolders(root: Path) -> list[Path]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        fix = "make one folder per class, or give a table with the columns image and label"
        raise DataError("holds no class folders", where=root, fix=fix)
    return folders


def _read_classes(root: Path, folders: Sequence[Path], split: str | None) -> list[Record]:
    records = []
    for folder in folders:
        sources, strangers = find_sources([folder])
        records += [Record(source.path, folder.name, None, split, source) for source in sources]
        if strangers:
            logger.warning("%s: %d files are no scans, e.g. %s: %s", folder, len(strangers), *strangers[0])
    if not records:
        raise DataError("holds no scans in its class folders", where=root)
    return records


def read_table(path: Path) -> list[Record]:
    """Read a CSV, TSV or Parquet table with the columns image, label and optionally patient and split.

    `image` is absolute or relative to the table's folder; empty cells are missing values.

    Raises:
        DataError: The table cannot be read, a column is missing, a split is none, or images do not exist.
    """
    cells = read_cells(path)
    names = list(cells)
    for name in ("image", "label"):
        if name not in names:
            fix = f"columns: {', '.join(names)}{nearest(name, names)}"
            raise DataError(f"has no column {name!r}", where=path, fix=fix)
    missing = [None] * len(cells["image"])
    splits = cells.get("split", missing)
    check_splits(splits, path)
    images = every_file(cells, "image", path)
    rows = zip(images, cells["label"], cells.get("patient", missing), splits, strict=True)
    return [Record(*row) for row in rows]


def check_splits(splits: Sequence[str | None], path: Path) -> None:
    """Refuse cells of a split column that are no split.

    Raises:
        DataError: With the first of them.
    """
    for row, split in enumerate(splits, start=1):
        if split is not None and split not in SPLITS:
            fix = f"splits are {', '.join(SPLITS)}{nearest(split, list(SPLITS))}"
            raise DataError(f"row {row}: {split!r} is no split", where=path, fix=fix)


def every_file(cells: Cells, column: str, path: Path) -> list[Path]:
    """Return the files that a column names, none of them missing.

    Raises:
        DataError: A cell is empty, or files do not exist.
    """
    files = files_where_given(cells, column, path)
    empty = [row for row, file in enumerate(files, start=1) if file is None]
    if empty:
        raise DataError(f"row {empty[0]}: the column {column!r} is empty", where=path)
    return [file for file in files if file is not None]


def files_where_given(cells: Cells, column: str, path: Path) -> list[Path | None]:
    """Return the files that a column names; `None` for empty cells.

    Args:
        cells: Of the table.
        column: Its cells are absolute paths, or relative to the table's folder.
        path: The table.

    Raises:
        DataError: Files do not exist.
    """
    files = [None if cell is None else Path(os.path.normpath(path.parent / cell)) for cell in cells[column]]
    given = [file for file in files if file is not None]
    absent = [str(file) for file in given if not file.exists()]
    if absent:
        some = ", ".join(absent[:NUM_NAMED]) + (", ..." if len(absent) > NUM_NAMED else "")
        fix = f"the column {column!r} holds absolute paths, or paths relative to the table's folder"
        raise DataError(f"{len(absent)} of {len(given)} {_plural(column)} do not exist: {some}", where=path, fix=fix)
    return files


def _plural(column: str) -> str:
    return "masks" if column == "mask" else "images"
