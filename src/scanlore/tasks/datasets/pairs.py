"""Scans and masks that belong together by their names, as a table of image, mask and patient."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scanlore.errors import DataError
from scanlore.tasks.catalogue_layouts import PairedFolders, Suffixes
from scanlore.tasks.datasets.output import TABLE, Converted, some_of, write_table, wrong_layout

LABELS = "labels.json"
NUM_NAMED = 3


def convert_suffixes(layout: Suffixes, folder: Path, out: Path) -> Converted:
    """Write a table of all cases whose mask and images differ in the end of their names; the files stay where they are.

    Args:
        layout: Which ends.
        folder: Searched with all its subfolders.
        out: Folder to write to.

    Raises:
        DataError: There is not one case.
    """
    masks, files = _files(layout, folder)
    rows, incomplete = [], []
    for mask in masks:
        images = {name: _image_of(mask, layout.mask, end, files) for name, end in layout.images.items()}
        if None in images.values():
            incomplete.append(mask)
            continue
        patient = _group(layout.patient, mask.relative_to(folder).as_posix())
        rows.append(_channels(images) | {"mask": mask.absolute().as_posix(), "patient": patient})
    if not rows:
        found = f"{len(masks)} masks, none with all its images" if masks else some_of(folder)
        raise wrong_layout(folder, layout.how, found)
    _write_labels(layout.labels, out)
    return Converted((write_table(out / TABLE, rows),), len(rows), _left_out(incomplete, folder))


def convert_paired_folders(layout: PairedFolders, folder: Path, out: Path) -> Converted:
    """Write a table of the images that have a mask of every structure; several structures become one mask.

    Args:
        layout: Which folders.
        folder: Where they are.
        out: Folder to write to.

    Raises:
        DataError: A folder is missing, there is not one pair, or masks of one image overlap or differ in size.
    """
    folders = {name: folder / place for name, place in {"": layout.images, **layout.masks}.items()}
    if not all(path.is_dir() for path in folders.values()):
        raise wrong_layout(folder, layout.how, some_of(folder))
    images = sorted(path for path in folders.pop("").iterdir() if path.is_file() and not path.name.startswith("."))
    rows, incomplete = [], []
    for image in images:
        masks = [place / image.name for place in folders.values()]
        if not all(mask.is_file() for mask in masks):
            incomplete.append(image)
            continue
        mask = masks[0].absolute() if len(masks) == 1 else _one_mask(masks, out / "masks" / image.name).relative_to(out)
        rows.append({"image": image.absolute().as_posix(), "mask": mask.as_posix()})
    if not rows:
        raise wrong_layout(folder, layout.how, f"{len(images)} images, none with its masks")
    if len(folders) > 1:
        _write_labels({"0": "background"} | {str(value): name for value, name in enumerate(folders, start=1)}, out)
    notes = ("patients are not known", *_left_out(incomplete, folder))
    return Converted((write_table(out / TABLE, rows),), len(rows), notes)


def _files(layout: Suffixes, folder: Path) -> tuple[list[Path], Mapping[str, list[Path]]]:
    """Return the masks, and every file that could be an image by its name."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    masks = []
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.name.endswith(layout.mask):
            masks.append(path)
        if path.name.endswith(tuple(layout.images.values())):
            by_name[path.name].append(path)
    return masks, by_name


def _image_of(mask: Path, mask_end: str, end: str, files: Mapping[str, Sequence[Path]]) -> Path | None:
    """Return the image beside a mask, or the only one of its name."""
    name = mask.name.removesuffix(mask_end) + end
    beside = mask.with_name(name)
    candidates = files.get(name, [])
    if beside in candidates:
        return beside
    return candidates[0] if len(candidates) == 1 else None


def _channels(images: Mapping[str, Path | None]) -> dict[str, object]:
    paths = {name: path.absolute().as_posix() for name, path in images.items() if path is not None}
    return {"image": next(iter(paths.values()))} if len(paths) == 1 else {f"image_{k}": v for k, v in paths.items()}


def _group(pattern: str | None, text: str) -> str | None:
    found = re.search(pattern, text) if pattern else None
    return found[1] if found else None


def _write_labels(labels: Mapping[str, str], out: Path) -> None:
    if labels:
        (out / LABELS).write_text(json.dumps(dict(labels), indent=2) + "\n", encoding="utf-8")


def _left_out(files: Sequence[Path], folder: Path) -> tuple[str, ...]:
    if not files:
        return ()
    named = ", ".join(path.relative_to(folder).as_posix() for path in files[:NUM_NAMED])
    return (f"{len(files)} cases left out, whose files are not all there: {named}",)


def _one_mask(masks: Sequence[Path], out: Path) -> Path:
    """Write the structures of one image as the values 1, 2 ... of one mask."""
    from PIL import Image

    from scanlore.scans.read import read_scan

    parts = [read_scan(mask).voxels[0] != 0 for mask in masks]
    if any(part.shape != parts[0].shape or part.ndim != 2 for part in parts):
        raise DataError("its masks differ in size, or are no images", where=masks[0])
    if np.sum(parts, 0).max() > 1:
        raise DataError("its masks overlap, and a voxel has one class", where=masks[0])
    labels = sum(np.uint8(value) * part for value, part in enumerate(parts, start=1))
    out.parent.mkdir(exist_ok=True)
    path = out.with_suffix(".png")
    Image.fromarray(np.asarray(labels, np.uint8)).save(path)
    return path
