"""Images with a table of labels or findings, and folders per class with other files among the images, as tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from scanlore.corpus.cells import read_cells
from scanlore.scans.find import find_sources
from scanlore.tasks.catalogue_layouts import ClassFolders, Table
from scanlore.tasks.classification import load_classification_task
from scanlore.tasks.datasets.output import TABLE, Converted, Row, some_of, write_table, wrong_layout

# What is found out of a row; no table has columns called so
IMAGE, SPLIT = "\0image", "\0split"


def convert_table(layout: Table, folder: Path, out: Path) -> Converted:
    """Write a table of image, label, patient and split; with several findings an image, one table per finding.

    Args:
        layout: Which tables and columns.
        folder: Where tables and images are.
        out: Folder to write to; the images stay where they are.

    Raises:
        DataError: A table or a column is missing, or none of its images is there.
    """
    tables = [(folder / name, split) for name, split in layout.tables.items() if (folder / name).is_file()]
    if not tables:
        raise wrong_layout(folder, layout.how, some_of(folder))
    listed = _listed_splits(layout, folder)
    given = [
        row | {SPLIT: listed.get(Path(row[layout.image] or "").name) if listed else split}
        for path, split in tables
        for row in _rows(layout, path)
    ]
    names = _FileNames(folder)
    found = [row | {IMAGE: names.find(row[layout.image] or "")} for row in given]
    rows = [row for row in found if row[IMAGE]]
    if not rows:
        raise wrong_layout(folder, layout.how, f"none of the {len(given)} images of {tables[0][0].name} is there")
    absent = len(found) - len(rows)
    notes = (f"{absent} rows left out, whose images are not there",) if absent else ()
    return Converted(_write(layout, rows, out), len(rows), notes)


def convert_class_folders(layout: ClassFolders, folder: Path, out: Path) -> Converted:
    """Write a table of the images of every class folder without the files that are no images.

    Args:
        layout: Which files to leave out.
        folder: Holds one folder per class.
        out: Folder to write to; the images stay where they are.

    Raises:
        DataError: There are no class folders with images.
    """
    rows: list[Row] = []
    left_out = 0
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        sources, _ = find_sources([place])
        for source in sources:
            if source.path.stem.endswith(layout.leave_out):
                left_out += 1
            else:
                rows.append({"image": source.path.absolute().as_posix(), "label": place.name})
    if not rows:
        raise wrong_layout(folder, layout.how, some_of(folder))
    notes = ("patients are not known", f"{left_out} files left out that are no images")
    return Converted((write_table(out / TABLE, rows),), len(rows), notes)


def check_class_folders(folder: Path) -> int:
    """Return how many images a folder per class holds, which need no conversion.

    Raises:
        DataError: It is no folder per class.
    """
    return len(load_classification_task(folder).cases)


def _rows(layout: Table, path: Path) -> list[dict[str, str | None]]:
    """Return the rows of a table that are used."""
    cells = read_cells(path)
    needed = [layout.image, layout.label or layout.findings[0], *(layout.only or ())[:1]]
    missing = [name for name in needed if name not in cells]
    if missing:
        raise wrong_layout(path, f"a column {missing[0]!r}", f"its columns are {', '.join(cells)}")
    rows = [dict(zip(cells, values, strict=True)) for values in zip(*cells.values(), strict=True)]
    return [row for row in rows if layout.only is None or row[layout.only[0]] == layout.only[1]]


def _listed_splits(layout: Table, folder: Path) -> dict[str, str]:
    """Return the split of every image that a list names."""
    found: dict[str, str] = {}
    for name, split in layout.splits.items():
        if not (folder / name).is_file():
            raise wrong_layout(folder, layout.how, f"there is no {name}")
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        found |= {Path(line.strip()).name: split for line in lines if line.strip()}
    return found


class _FileNames:
    """Finds the files that a table names; their names alone are looked for once a path leads nowhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_name: dict[str, Path | None] | None = None

    def find(self, name: str) -> str | None:
        """Return the file of a name, of which leading folders may be missing; `None` where there is none or several."""
        parts = Path(name).parts
        if not parts or ".." in parts:
            return None
        for start in range(len(parts)):
            path = self.folder.joinpath(*parts[start:])
            if not Path(parts[start]).is_absolute() and path.is_file():
                return path.absolute().as_posix()
        path_or_none = self._names().get(parts[-1])
        return path_or_none.absolute().as_posix() if path_or_none else None

    def _names(self) -> dict[str, Path | None]:
        if self.by_name is None:
            files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
            counts = Counter(path.name for path in files)
            self.by_name = {path.name: path if counts[path.name] == 1 else None for path in files}
        return self.by_name


def _write(layout: Table, rows: list[dict[str, str | None]], out: Path) -> tuple[Path, ...]:
    if not layout.findings:
        label = str(layout.label)
        return (write_table(out / TABLE, [_row(layout, row, row[label]) for row in rows]),)
    return tuple(
        write_table(
            out / f"{finding.replace(' ', '_')}.csv", [_row(layout, row, _answer(layout, row, finding)) for row in rows]
        )
        for finding in layout.findings
    )


def _row(layout: Table, row: Mapping[str, str | None], label: str | None) -> Row:
    found = re.search(layout.patient_in_path, row[layout.image] or "") if layout.patient_in_path else None
    return {"image": row[IMAGE], "label": label, "patient": found[1] if found else None, "split": row[SPLIT]}


def _answer(layout: Table, row: Mapping[str, str | None], finding: str) -> str | None:
    """Return `yes`, or `no` also where nothing is said of a finding; `None` where it is uncertain."""
    if layout.label is not None:
        return "yes" if finding in (row[layout.label] or "").split(layout.separator) else "no"
    value = (row.get(finding) or "").removesuffix(".0")
    return {"1": "yes", "0": "no", "": "no"}.get(value)
