"""MedMNIST's `.npz` files as image files with a table: PNG for images, NIfTI for volumes, the official splits kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanlore.errors import ConfigError
from scanlore.tasks.catalogue_layouts import MedMnist
from scanlore.tasks.datasets.npz import array_names, array_shape, read_items
from scanlore.tasks.datasets.output import TABLE, Converted, some_of, write_table, wrong_layout
from scanlore.tasks.layouts import SPLITS

FILES_PER_FOLDER = 1000
DESCRIBED_EDGE = 28
ALIGNED = 2
Spacing = tuple[float, float, float]
Voxels = npt.NDArray[Any]


def convert_medmnist(layout: MedMnist, folder: Path, out: Path, assume_spacing: Spacing | None) -> Converted:
    """Write every image as a file, and a table of image, label and split.

    An image with any number of findings is in one table per finding, with the labels `yes` and `no`.

    Args:
        layout: Of the dataset.
        folder: The `.npz` file, or a folder that holds one of them.
        out: Folder to write to.
        assume_spacing: Of volumes whose voxel size MedMNIST does not say, in mm.

    Raises:
        DataError: There is no such file, or it is damaged.
        ConfigError: The voxel size of the volumes is not known and not given.
    """
    path = find_npz(layout, folder)
    shape = array_shape(path, "train_images")
    is_volume = len(shape) == 4 and shape[-1] != 3
    spacing = _spacing(layout, shape, assume_spacing, path) if is_volume else None
    rows = list(_write_images(path, out, spacing))
    labels = [label for split in SPLITS for label in read_items(path, f"{split}_labels")]
    notes = [f"patients are not known: {layout.flag} does not name them"]
    if spacing is not None:
        whose = (
            "as given by --assume-spacing" if layout_spacing(layout, shape) is None else "as MedMNIST describes them"
        )
        notes.append(f"voxels of {spacing[0]:.3g} x {spacing[1]:.3g} x {spacing[2]:.3g} mm {whose}; axes as stored")
    tables = _write_tables(layout, rows, labels, out)
    return Converted(tables, len(rows), tuple(notes))


def find_npz(layout: MedMnist, folder: Path) -> Path:
    """Return the one file of a dataset.

    Args:
        layout: Of the dataset.
        folder: The file itself, or its folder.

    Raises:
        DataError: There is none, or several of different sizes, or it lacks an array.
    """
    wanted = re.compile(rf"{re.escape(layout.flag)}(_\d+)?\.npz")
    candidates = [folder] if folder.is_file() else sorted(folder.iterdir())
    found = [path for path in candidates if wanted.fullmatch(path.name)]
    if not found:
        raise wrong_layout(folder, layout.how, f"it is {folder.name}" if folder.is_file() else some_of(folder))
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise wrong_layout(folder, "one size; name the file itself", f"it holds {listed}")
    missing = {f"{split}_{what}" for split in SPLITS for what in ("images", "labels")} - set(array_names(found[0]))
    if missing:
        raise wrong_layout(found[0], "a .npz file of MedMNIST", f"it has no array {sorted(missing)[0]!r}")
    return found[0]


def layout_spacing(layout: MedMnist, shape: tuple[int, ...]) -> float | None:
    """Return the voxel size in mm that MedMNIST describes; it speaks of the volumes of 28 voxels alone."""
    edge = shape[1]
    return layout.field_of_view_mm / edge if layout.field_of_view_mm and edge == DESCRIBED_EDGE else None


def _spacing(layout: MedMnist, shape: tuple[int, ...], assumed: Spacing | None, path: Path) -> Spacing:
    known = layout_spacing(layout, shape)
    if known is not None:
        if assumed is not None:
            raise ConfigError(
                f"its voxels are known to be {known:.3g} mm", where=path, fix="leave out --assume-spacing"
            )
        return (known, known, known)
    if assumed is None:
        what = "the size of its voxels is not known, and is not invented"
        raise ConfigError(what, where=path, fix="say what to take them for, e.g. --assume-spacing 1,1,1")
    return assumed


def _write_images(path: Path, out: Path, spacing: Spacing | None) -> Iterator[dict[str, object]]:
    for split in SPLITS:
        for number, voxels in enumerate(read_items(path, f"{split}_images")):
            folder = out / "images" / split / f"{number // FILES_PER_FOLDER:03d}"
            if number % FILES_PER_FOLDER == 0:
                folder.mkdir(parents=True)
            name = folder / f"{number:06d}{'.png' if spacing is None else '.nii.gz'}"
            _write_png(name, voxels) if spacing is None else _write_volume(name, voxels, spacing)
            yield {"image": name.relative_to(out).as_posix(), "label": None, "split": split}


def _write_png(path: Path, pixels: Voxels) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path, compress_level=1)


def _write_volume(path: Path, voxels: Voxels, spacing: Spacing) -> None:
    import nibabel as nib

    affine = np.diag([*spacing, 1.0])
    image = nib.Nifti1Image(np.ascontiguousarray(voxels), affine)
    # The code says whose millimetres these are: not the scanner's
    image.set_sform(affine, code=ALIGNED)
    image.set_qform(affine, code=ALIGNED)
    image.header.set_xyzt_units(xyz="mm")
    nib.save(image, path)


def _write_tables(
    layout: MedMnist, rows: Sequence[dict[str, object]], labels: Sequence[Voxels], out: Path
) -> tuple[Path, ...]:
    num_each, largest = (len(layout.labels), 1) if layout.is_multilabel else (1, len(layout.labels) - 1)
    if len(labels) != len(rows) or any(label.size != num_each or label.max() > largest for label in labels):
        expected = f"for each of {len(rows)} images {num_each} labels up to {largest}"
        raise wrong_layout(out, expected, f"there are {len(labels)} with other values")
    if not layout.is_multilabel:
        named = [row | {"label": layout.labels[int(label.ravel()[0])]} for row, label in zip(rows, labels, strict=True)]
        return (write_table(out / TABLE, named),)
    tables = []
    for index, finding in enumerate(layout.labels):
        present = [{"label": "yes" if label[index] else "no"} for label in labels]
        both = [row | answer for row, answer in zip(rows, present, strict=True)]
        tables.append(write_table(out / f"{finding.replace(' ', '_')}.csv", both))
    return tuple(tables)
