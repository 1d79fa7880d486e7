"""The tables that come with corpora of many datasets, made so that a corpus can take them.

In OpenMind and FOMO, `sub-01` is another person in each of their datasets: the patient is named with the dataset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from scanlore.corpus.cells import Cells, read_cells
from scanlore.errors import DataError
from scanlore.tasks.catalogue_layouts import Tabled
from scanlore.tasks.datasets.output import write_table

PATH, PATIENT, STUDY = "path", "patient", "study"
_SUBJECT = re.compile(r"([^/]+)/(sub-[^/]+)/(?:(ses-[^/]+)/)?")
Record = dict[str, str | None]


def joinable_table(layout: Tabled, folder: Path, out: Path) -> tuple[Path, str, str]:
    """Return a table for `scanlore corpus join`, its key, and the column of the index it is compared with.

    Args:
        layout: Of the corpus.
        folder: Where its tables lie.
        out: Folder to write a table to, where those of the corpus cannot be taken as they are.

    Raises:
        DataError: A table cannot be read, or a column is missing.
    """
    if layout.kind == "bids":
        return folder / layout.tables[0], "participant_id", PATIENT
    rows = _openmind(folder / layout.tables[0]) if layout.kind == "openmind" else _fomo(folder, layout)
    return write_table(out / "table.csv", rows), PATH, "relative"


def _openmind(path: Path) -> list[Record]:
    records = _records(path, ("image_path",))
    return [_named(record, record.pop("image_path") or "") for record in records]


def _named(record: Record, path: str) -> Record:
    """Add path, patient and study, as the path says them."""
    found = _SUBJECT.search(path)
    patient = f"{found[1]}/{found[2]}" if found else None
    study = f"{patient}/{found[3]}" if found and found[3] else None
    return {PATH: path, PATIENT: patient, STUDY: study} | record


def _fomo(folder: Path, layout: Tabled) -> list[Record]:
    """Join scans and participants; both name the dataset, since a participant is only known within it."""
    scans_table, people_table = (folder / name for name in layout.tables)
    ids = ("dataset", "participant_id")
    people = {tuple(person.pop(name) for name in ids): person for person in _records(people_table, ids)}
    rows = []
    for scan in _records(scans_table, (*ids, "filename")):
        dataset, participant, file = (scan.pop(name) for name in (*ids, "filename"))
        session = scan.pop("session_id", None)
        patient = f"{dataset}/{participant}"
        names = {PATH: f"{dataset}/{file}", PATIENT: patient, STUDY: f"{patient}/{session}" if session else None}
        rows.append(names | _without_names(people.get((dataset, participant), {})) | _without_names(scan))
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def _without_names(record: Mapping[str, str | None]) -> Record:
    return {name: value for name, value in record.items() if name not in (PATH, PATIENT, STUDY)}


def _records(path: Path, needed: tuple[str, ...]) -> list[Record]:
    cells: Cells = read_cells(path)
    missing = [name for name in needed if name not in cells]
    if missing:
        raise DataError(f"has no column {missing[0]!r}", where=path, fix=f"its columns: {', '.join(cells)}")
    return [dict(zip(cells, values, strict=True)) for values in zip(*cells.values(), strict=True)]
