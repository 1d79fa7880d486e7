"""Tables of scans and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scanlore.corpus.cells import Cells, read_cells
from scanlore.errors import DataError, nearest
from scanlore.scans.find import find_sources
from scanlore.scans.read import read_header, read_scan
from scanlore.tasks.label_map import LabelMap, found_label_map, parse_label_map
from scanlore.tasks.labelled_case import read_mask_values
from scanlore.tasks.layouts import check_splits, every_file, files_where_given
from scanlore.tasks.segmentation_folders import read_json
from scanlore.tasks.segmentation_records import Found, Record

LABELS_JSON = "labels.json"
PREFIX = "image_"


def read_segmentation_table(path: Path) -> Found:
    """Read a table with the columns image or image_NAME, mask, and optionally patient and split.

    Raises:
        DataError: The table cannot be read, a column is missing, a split is none, or files do not exist.
    """
    cells = read_cells(path)
    columns = _image_columns(cells, path)
    missing: Sequence[str | None] = [None] * len(cells["mask"])
    splits = cells.get("split", missing)
    check_splits(splits, path)
    channels = [every_file(cells, column, path) for column in columns]
    masks = files_where_given(cells, "mask", path)
    if not any(masks):
        raise DataError("holds no masks", where=path, fix="a segmentation task needs scans with masks")
    rows = zip(zip(*channels, strict=True), masks, cells.get("patient", missing), splits, strict=True)
    records = [Record(*row) for row in rows]
    names = tuple(column.removeprefix(PREFIX) for column in columns)
    return Found(records, _labels(path, records), names if len(names) > 1 else _channels(records[0].images[0]))


def _image_columns(cells: Cells, path: Path) -> list[str]:
    names = list(cells)
    columns = [name for name in names if name.startswith(PREFIX) and name != PREFIX]
    if "image" in names and columns:
        fix = "give one column image, or one column image_NAME per channel"
        raise DataError(f"has a column 'image' and {columns[0]!r}", where=path, fix=fix)
    for name, is_there in (("image", "image" in names or bool(columns)), ("mask", "mask" in names)):
        if not is_there:
            fix = f"columns: {', '.join(names)}{nearest(name, names)}"
            raise DataError(f"has no column {name!r}", where=path, fix=fix)
    return columns or ["image"]


def _channels(image: Path) -> tuple[str, ...]:
    """Name the channels of a single file; a colour image whose channels are equal has one."""
    sources, _ = find_sources([image])
    is_volume = len(sources) == 1 and sources[0].kind != "image2d"
    number = read_header(sources[0]).num_channels if is_volume else read_scan(image).num_channels
    return ("image",) if number == 1 else tuple(f"channel {index}" for index in range(number))


def _labels(path: Path, records: list[Record]) -> LabelMap:
    names = path.parent / LABELS_JSON
    if names.is_file():
        return parse_label_map(read_json(names), names)
    masks = [record.mask for record in records if record.mask is not None]
    return found_label_map({value for mask in masks for value in read_mask_values(mask)}, path)
