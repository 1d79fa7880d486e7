"""From a dataset as published to a task that `scanlore adapt` takes."""

from __future__ import annotations

from pathlib import Path

from scanlore.errors import ConfigError, DataError
from scanlore.tasks.catalogue import Dataset
from scanlore.tasks.catalogue_layouts import ClassFolders, MedMnist, PairedFolders, Prepared, Suffixes, Table
from scanlore.tasks.datasets.output import Converted, finish, finished, new_folder

Spacing = tuple[float, float, float]


def convert_task(dataset: Dataset, folder: Path, out: Path, assume_spacing: Spacing | None = None) -> Converted:
    """Convert a dataset to a task: tables, with image files only where there were none.

    Args:
        dataset: Of the catalogue; no corpus.
        folder: Where it lies.
        out: Folder to write to. It is written whole or not at all; where nothing has to be converted, not at all.
        assume_spacing: Voxel size of volumes that have none, in mm.

    Raises:
        ConfigError: Its layout is one that Scanlore does not read, or a spacing is missing or not wanted.
        DataError: The folder does not lie as expected, or `out` holds other files.
    """
    if not folder.exists():
        raise DataError("does not exist", where=folder)
    if assume_spacing is not None and not isinstance(dataset.layout, MedMnist):
        raise ConfigError(f"the scans of {dataset.id} say their own voxel size", fix="leave out --assume-spacing")
    if isinstance(dataset.layout, Prepared) or dataset.layout == ClassFolders(kind="class-folders"):
        return _as_it_is(dataset, folder)
    if dataset.layout.kind == "custom":
        raise ConfigError(f"{dataset.id} has a layout that Scanlore does not read", fix=dataset.layout.how)
    before = _before(dataset, out)
    if before is not None:
        return before
    with new_folder(out) as part:
        made = _convert(dataset, folder, part, assume_spacing)
        facts = {
            "dataset": dataset.id,
            "title": dataset.title,
            "licence": dataset.licence,
            "homepage": dataset.homepage,
            "tables": [task.name for task in made.tasks],
            "num_cases": made.num_cases,
            "notes": made.notes,
        }
        finish(part, facts)
    return Converted(tuple(out / task.name for task in made.tasks), made.num_cases, made.notes)


def _before(dataset: Dataset, out: Path) -> Converted | None:
    """Return what an earlier call wrote."""
    facts = finished(out)
    if facts.get("dataset") != dataset.id:
        return None
    tables = tuple(out / name for name in facts["tables"])
    return Converted(tables, facts["num_cases"], tuple(facts["notes"]), already_done=True)


def _as_it_is(dataset: Dataset, folder: Path) -> Converted:
    if isinstance(dataset.layout, Prepared):
        from scanlore.tasks.segmentation import load_segmentation_task

        num_cases = len(load_segmentation_task(folder).cases)
    else:
        from scanlore.tasks.datasets.tables import check_class_folders

        num_cases = check_class_folders(folder)
    return Converted(
        (folder,), num_cases, ("nothing had to be converted, and nothing was written: the folder is a task as it is",)
    )


def _convert(dataset: Dataset, folder: Path, out: Path, assume_spacing: Spacing | None) -> Converted:
    from scanlore.tasks.datasets import pairs, tables

    layout = dataset.layout
    if isinstance(layout, MedMnist):
        from scanlore.tasks.datasets.medmnist import convert_medmnist

        return convert_medmnist(layout, folder, out, assume_spacing)
    if not folder.is_dir():
        raise DataError("is no folder", where=folder, fix=f"expected: {layout.how}")
    if isinstance(layout, Suffixes):
        return pairs.convert_suffixes(layout, folder, out)
    if isinstance(layout, PairedFolders):
        return pairs.convert_paired_folders(layout, folder, out)
    if isinstance(layout, Table):
        return tables.convert_table(layout, folder, out)
    if isinstance(layout, ClassFolders):
        return tables.convert_class_folders(layout, folder, out)
    raise ConfigError(f"{dataset.id} is a corpus and no task", fix="see `scanlore datasets show`")
