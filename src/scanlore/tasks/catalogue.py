"""The catalogue of public datasets: what they are, how many, their licence, where from, and how they lie on disk.

It holds the unlabelled corpora and labelled sets that the 3DINO, S3D, DINOv2-on-radiology and MediDino papers name,
OpenMind, FOMO, MedMNIST and the Medical Segmentation Decathlon. Every entry names where its facts were found; what was
found nowhere is `None`, or `unknown` for the access, and is shown as not known.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from scanlore.config import Settings, validate
from scanlore.errors import ConfigError, nearest
from scanlore.tasks.catalogue_layouts import Layout

FACTS = Path(__file__).parent / "datasets" / "facts"
KINDS = ("corpus", "classification", "multilabel", "segmentation")
ACCESS = ("open", "registration", "agreement", "closed", "unknown")
Modality = Literal["MR", "CT", "PT", "US", "DX", "OP", "OPT", "XC", "SM", "EM"]
Paper = Literal["3dino", "s3d", "dinov2-radiology", "medidino"]


class RemoteFile(Settings):
    """A file with a direct link.

    Attributes:
        name: What it is called on disk.
        url: Where it is.
        md5: Of its bytes, where known.
        sha256: Of its bytes, where known.
    """

    name: str = Field(pattern=r"^\w[\w.-]*$")
    url: str = Field(pattern=r"^https?://\S+$")
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class Dataset(Settings):
    """What is known of one dataset.

    Attributes:
        id: Its name in Scanlore.
        title: Its name elsewhere.
        kind: What it is used for: a corpus to pretrain on, or a task.
        modality: DICOM codes; `EM` is electron microscopy.
        body_part: In words.
        ndim: 2 for images, 3 for volumes.
        size: How many, as the source prints it.
        size_from: Which source that is.
        papers: Which of the four papers name it.
        licence: Short name of the licence; `None` where it is not known.
        access: `open`, `registration`, data-use `agreement`, `closed` or `unknown`.
        homepage: Where it is published.
        get: What a user must do to get it, where there is no direct link.
        files: Direct links; the first is the one to take.
        layout: How it lies on disk.
        aliases: Names of its folders, as published.
        note: What else one must know.
        sources: Where these facts were found.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str = Field(min_length=3)
    kind: Literal["corpus", "classification", "multilabel", "segmentation"]
    modality: tuple[Modality, ...] = Field(min_length=1)
    body_part: str = Field(min_length=3)
    ndim: Literal[2, 3]
    size: str | None = None
    size_from: str | None = None
    papers: tuple[Paper, ...] = ()
    licence: str | None = Field(default=None, min_length=3, max_length=60)
    access: Literal["open", "registration", "agreement", "closed", "unknown"]
    homepage: str | None = Field(default=None, pattern=r"^https?://\S+$")
    get: str | None = None
    files: tuple[RemoteFile, ...] = ()
    layout: Layout
    aliases: tuple[str, ...] = ()
    note: str | None = None
    sources: tuple[str, ...] = Field(min_length=1)

    @property
    def is_corpus(self) -> bool:
        """Whether it is there to pretrain on."""
        return self.kind == "corpus"


class _Facts(Settings):
    datasets: tuple[Dataset, ...]


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Dataset]:
    """Return every dataset by its id, in the order of ids."""
    found = [entry for path in sorted(FACTS.glob("*.yaml")) for entry in _read(path)]
    return {entry.id: entry for entry in sorted(found, key=lambda entry: entry.id)}


def catalogue_names() -> list[str]:
    """Return the ids of all datasets, sorted."""
    return list(catalogue())


def dataset(name: str) -> Dataset:
    """Return what is known of a dataset.

    Args:
        name: Its id, or the name of its folder as published.

    Raises:
        ConfigError: There is no such dataset.
    """
    found = catalogue().get(dataset_named(name) or "")
    if found is None:
        fix = f"see `scanlore datasets list`{nearest(name.lower(), catalogue_names())}"
        raise ConfigError(f"the catalogue has no dataset {name!r}", fix=fix)
    return found


def dataset_named(folder_name: str) -> str | None:
    """Return the id of the dataset whose folder is called so; `None` where none is.

    Args:
        folder_name: Capitals, hyphens, underscores and spaces make no difference.
    """
    return _ids_by_name().get(_plain(folder_name))


@lru_cache(maxsize=1)
def _ids_by_name() -> dict[str, str]:
    return {_plain(name): entry.id for entry in catalogue().values() for name in (entry.id, *entry.aliases)}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _read(path: Path) -> tuple[Dataset, ...]:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it
    entries = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    return validate(_Facts, {"datasets": entries}, where=path.name).datasets
