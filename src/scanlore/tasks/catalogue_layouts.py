"""How the files of public datasets lie on disk, as far as Scanlore reads them: what a catalogue entry says of it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from scanlore.config import Settings


class Scans(Settings):
    """A folder with scans in any formats and subfolders."""

    kind: Literal["scans"]

    @property
    def how(self) -> str:
        """What must lie in the folder."""
        return "scans in any of the formats that Scanlore reads, in any subfolders; a DICOM series may share its folder"


class Tabled(Settings):
    """A folder with scans and tables that describe them.

    Attributes:
        tables: Their names, relative to the folder.
    """

    kind: Literal["bids", "openmind", "fomo"]
    tables: tuple[str, ...] = Field(min_length=1)

    @property
    def how(self) -> str:
        """What must lie in the folder."""
        return f"the folder as it was published: NIfTI files in subfolders, and {' and '.join(self.tables)} at its top"


class Prepared(Settings):
    """A folder that `scanlore adapt` takes as it is: Medical Segmentation Decathlon or nnU-Net v2."""

    kind: Literal["msd", "nnunet"]

    @property
    def how(self) -> str:
        """What must lie in the folder."""
        if self.kind == "msd":
            return "dataset.json, imagesTr/NAME.nii.gz and labelsTr/NAME.nii.gz (Medical Segmentation Decathlon)"
        return "dataset.json, imagesTr/NAME_0000.nii.gz and labelsTr/NAME.nii.gz (nnU-Net v2)"


class ClassFolders(Settings):
    """A folder per class.

    Attributes:
        leave_out: Files whose name ends so, before the extension, are no images (masks beside their images).
    """

    kind: Literal["class-folders"]
    leave_out: tuple[str, ...] = ()

    @property
    def how(self) -> str:
        """What must lie in the folder."""
        others = f"; files called *{', *'.join(self.leave_out)} are left out" if self.leave_out else ""
        return f"one folder per class with its images or DICOM series in it{others}"


class Table(Settings):
    """Images, and a table that gives each its label or its findings.

    Attributes:
        tables: Name of each table, and the split that its rows are; `None` where a row's split is said elsewhere.
        image: Column with the image: its path, of which leading folders may be missing on disk, or its name alone.
        label: Column with the label, or with all findings of an image.
        separator: Between the findings in that column; `None` for one label a row.
        findings: Names of the findings: in the column `label`, or columns of their own with 1, 0 or nothing.
        patient_in_path: Expression whose group is the patient in the name of the image.
        splits: Files that list the images of a split.
        only: Column, and the value that rows must have to be used.
    """

    kind: Literal["table"]
    tables: dict[str, Literal["train", "val", "test"] | None] = Field(min_length=1)
    image: str
    label: str | None = None
    separator: str | None = None
    findings: tuple[str, ...] = ()
    patient_in_path: str | None = None
    splits: dict[str, Literal["train", "val", "test"]] = Field(default_factory=dict)
    only: tuple[str, str] | None = None

    @property
    def how(self) -> str:
        """What must lie in the folder."""
        lists = f", {' and '.join(self.splits)}" if self.splits else ""
        return f"{' or '.join(self.tables)}{lists} at its top, and below it the images that they name"


class Suffixes(Settings):
    """Masks and images of one case that differ in the end of their names.

    Attributes:
        images: Name of each channel to the end of its file's name.
        mask: End of the mask's file name.
        labels: What the values of the masks mean; the values found are numbered where it is empty.
        patient: Expression whose group is the patient in the mask's path below the folder.
    """

    kind: Literal["suffixes"]
    images: dict[str, str] = Field(min_length=1)
    mask: str
    labels: dict[str, str] = Field(default_factory=dict)
    patient: str | None = None

    @field_validator("patient")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        if value is not None and re.compile(value).groups != 1:
            raise ValueError("needs one group, the patient")
        return value

    @property
    def how(self) -> str:
        """What must lie in the folder."""
        names = ", ".join(f"CASE{end}" for end in self.images.values())
        return f"in any subfolders, for every case CASE{self.mask} and {names}, beside it or called so nowhere else"


class PairedFolders(Settings):
    """A folder of images and a folder of masks for every structure, with files of the same names.

    Attributes:
        images: Folder of the images.
        masks: Name of each structure to the folder of its masks, in which anything but 0 is the structure.
    """

    kind: Literal["paired-folders"]
    images: str
    masks: dict[str, str] = Field(min_length=1)

    @property
    def how(self) -> str:
        """What must lie in the folder."""
        return f"{self.images}/NAME, and under the same names the masks in {', '.join(self.masks.values())}"


class MedMnist(Settings):
    """A `.npz` file of MedMNIST.

    Attributes:
        flag: Its name without size and extension, e.g. `pathmnist`.
        labels: Names of the classes, or of the findings, in their order.
        is_multilabel: Whether an image has any number of findings instead of one class.
        field_of_view_mm: Edge of every volume in mm, where the description says it.
    """

    kind: Literal["medmnist-npz"]
    flag: str
    labels: tuple[str, ...] = Field(min_length=2)
    is_multilabel: bool = False
    field_of_view_mm: float | None = Field(default=None, gt=0)

    @property
    def how(self) -> str:
        """What must lie in the folder."""
        return f"{self.flag}.npz, or one of its larger sizes such as {self.flag}_64.npz"


class Custom(Settings):
    """A layout that Scanlore does not read.

    Attributes:
        how: What to make of it.
    """

    kind: Literal["custom"]
    how: str = Field(min_length=20)


Layout = Annotated[
    Scans | Tabled | Prepared | ClassFolders | Table | Suffixes | PairedFolders | MedMnist | Custom,
    Field(discriminator="kind"),
]
