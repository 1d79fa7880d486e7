"""Tables of metadata from elsewhere, read as text: spreadsheets, BIDS, and the `dataset.json` of MSD and nnU-Net."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from scanlore.corpus.cells import TABLES, read_cells
from scanlore.errors import DataError
from scanlore.scans.metadata import stem

JSON_COLUMNS = ("image", "case", "channel", "modality", "dataset", "licence", "split")
FOLDERS = {"imagesTr": "train", "imagesTs": "test"}
_CHANNEL_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})(?P<extension>\.[a-z.]+)")
Record = tuple[str | None, ...]


def read_table(path: Path) -> pl.DataFrame:
    """Read a table; every column is text, so that an id `007` stays one.

    Args:
        path: `*.csv` (by commas, semicolons or tabs), `*.tsv` (such as `participants.tsv`), `*.parquet`; or the
            `dataset.json` of a Medical Segmentation Decathlon or nnU-Net folder, which gives a row per file and
            channel with the columns `JSON_COLUMNS`.

    Raises:
        DataError: It is not there, damaged, in another encoding, or holds no rows.
    """
    suffix = path.suffix.lower()
    if suffix not in (*TABLES, ".json"):
        raise DataError("is no table", where=path, fix=f"give one of {', '.join((*TABLES, '.json'))}")
    if not path.is_file():
        raise DataError("no such file", where=path)
    if suffix == ".json":
        schema = dict.fromkeys(JSON_COLUMNS, pl.String)
        return pl.DataFrame(_read_json(path), schema=schema, orient="row")
    cells = read_cells(path)
    return pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String))


def _read_json(path: Path) -> list[Record]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8-sig"))
        listed = _listed(facts)
        channels = _channels(facts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        fix = "give the dataset.json of a Medical Segmentation Decathlon or nnU-Net folder"
        raise DataError("cannot be read as a dataset.json", where=path, fix=fix) from None
    by_channel = list(_channel_files(path.parent, channels))
    whole = (_text(facts.get("name")), _text(facts.get("licence", facts.get("license"))))
    if by_channel and not any((path.parent / image).is_file() for image, _ in listed[:1]):
        return [(*row[:4], *whole, row[4]) for row in by_channel]
    if not listed:
        raise DataError("lists no images, and none lie beside it in imagesTr", where=path)
    return [
        (image, _case(image), channel, modality, *whole, split)
        for image, split in listed
        for channel, modality in channels.items() or [(None, None)]
    ]


def _listed(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return path and split of the images of a Decathlon list."""
    training = [(str(item["image"]), "train") for item in facts.get("training", [])]
    testing = [(str(item["image"] if isinstance(item, dict) else item), "test") for item in facts.get("test", [])]
    return [(PurePosixPath(image).as_posix(), split) for image, split in (*training, *testing)]


def _channels(facts: Mapping[str, Any]) -> dict[str | None, str | None]:
    named = facts.get("channel_names", facts.get("modality", {}))
    return {str(int(number)): _text(name) for number, name in named.items()}


def _channel_files(folder: Path, channels: Mapping[str | None, str | None]) -> Iterator[Record]:
    """Yield image, case, channel, modality and split of the files of an nnU-Net folder: one file a channel."""
    for name, split in FOLDERS.items():
        for file in sorted((folder / name).glob("*_[0-9][0-9][0-9][0-9].*")):
            found = _CHANNEL_FILE.fullmatch(file.name)
            if found:
                modality = channels.get(str(int(found["channel"])))
                # The file has one channel of its own, whatever its number in the case
                yield f"{name}/{file.name}", found["case"], None, modality, split


def _case(image: str) -> str:
    return stem(PurePosixPath(image).name)


def _text(value: object) -> str | None:
    return None if value is None else str(value).strip() or None
