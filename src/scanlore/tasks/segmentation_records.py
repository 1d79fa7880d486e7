"""What the layouts of segmentation tasks say, unchecked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scanlore.tasks.label_map import LabelMap

EXTENSIONS = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".ima")


@dataclass(frozen=True)
class Record:
    """One scan as the files say it.

    Attributes:
        images: One file per channel, or one file with all channels.
        mask: Its mask, where it has one.
        patient: The patient in the table's own words; `None` where unknown.
        split: `train`, `val`, `test`, or `None` where not given.
        name: Its name where the layout gives one.
    """

    images: tuple[Path, ...]
    mask: Path | None
    patient: str | None = None
    split: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation, by names of cases.

    Attributes:
        train: Cases to train on.
        test: Cases to test on: nnU-Net's `val`.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """Everything a layout says.

    Attributes:
        records: The cases.
        labels: What the values of the masks mean.
        channels: Name of each channel.
        folds: Of `splits_final.json`; empty without one.
    """

    records: list[Record]
    labels: LabelMap
    channels: tuple[str, ...]
    folds: tuple[Fold, ...] = ()


def case_stem(image: Path, is_channel: bool) -> str:
    """Return the name of a file without its extension, and of a channel's file without `_0000`.

    Args:
        image: The file.
        is_channel: Whether the file holds one channel of several.
    """
    name = image.name
    extension = next((end for end in EXTENSIONS if name.lower().endswith(end)), "")
    stem = name[: len(name) - len(extension)]
    return re.sub(r"_\d{4}$", "", stem) if is_channel else stem
