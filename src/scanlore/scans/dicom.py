"""DICOM: which files of a folder make a volume, and reading one."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from scanlore.errors import DataError
from scanlore.scans.dicom_frames import (
    HEADER_TAGS,
    Frame,
    UnevenSlicesError,
    frames_of,
    same_orientation,
    stack_affine,
)
from scanlore.scans.dicom_pixels import stored_pixels
from scanlore.scans.failures import one_line
from scanlore.scans.geometry import nearest_axes, orientation_code, spacing_of, volume_scan
from scanlore.scans.header import Header
from scanlore.scans.metadata import Metadata, hashed
from scanlore.scans.rescale import rescale
from scanlore.scans.scan import Array, FloatArray, Scan

_DERIVED_OBJECTS = ("SEG", "PR", "KO", "SR", "REG", "RTSTRUCT")
_MAGIC_OFFSET = 128

EXTENSIONS = (".dcm", ".ima")
"""Files of these names are taken for DICOM without a look inside."""

# What pydicom logs can quote the header, so it must not reach a log of ours.
logging.getLogger("pydicom").propagate = False


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM prefix."""
    with path.open("rb") as file:
        file.seek(_MAGIC_OFFSET)
        return file.read(4) == b"DICM"


def dicom_series(folder: Path) -> tuple[list[list[Path]], list[tuple[Path, str]]]:
    """Group the DICOM files of one folder, without its subfolders, into volumes.

    Args:
        folder: The folder; hidden files are ignored.

    Returns:
        As `group_dicom`.
    """
    return group_dicom(path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))


def group_dicom(files: Iterable[Path]) -> tuple[list[list[Path]], list[tuple[Path, str]]]:
    """Group files by series, image size and orientation, reading headers only.

    Args:
        files: DICOM files, or files that might be.

    Returns:
        The groups in the order of their first file, each sorted along the slice normal (by name where the geometry is
        missing, which reading then refuses); and the skipped files with a reason.
    """
    groups: dict[tuple[object, ...], list[tuple[FloatArray | None, list[tuple[float, Path]]]]] = {}
    skipped: list[tuple[Path, str]] = []
    for path in sorted(files):
        try:
            key, orientation, height = _belonging(path)
        except DataError as error:
            skipped.append((path, error.what))
        else:
            _join(groups.setdefault(key, []), orientation, (height, path))
    found = [[path for _, path in sorted(members)] for stacks in groups.values() for _, members in stacks]
    return sorted(found, key=min), skipped


def read_dicom_series(files: Sequence[Path], salt: bytes | None = None) -> Scan:
    """Read the files of one volume in any order; voxels are rescaled slice by slice.

    Nothing of the header leaves but the geometry, the modality and, with a salt, a hash of the patient id.

    Args:
        files: The slices, or one multi-frame file.
        salt: Secret of the corpus; without it the patient stays unknown.

    Raises:
        DataError: The files cannot be read or decompressed, are colour images, have no geometry, lie at the same
            position, or are not evenly spaced.
    """
    where = _where(files)
    with _reading(where, "not readable as DICOM"):
        datasets, frames, affine = _stack(files, where)
        slices: dict[tuple[Path, int], npt.NDArray[Any]] = {}
        for path in files:
            with _reading(path, "the pixels cannot be read"):
                slices |= {(path, index): pixels for index, pixels in enumerate(stored_pixels(path))}
        volume = _rescaled(np.stack([slices[frame.path, frame.index] for frame in frames]), frames)
        return volume_scan(
            volume.transpose(2, 1, 0)[None],
            affine,
            metadata=Metadata(modality=_modality(datasets[0]), patient=hashed(salt, datasets[0].get("PatientID"))),
        )


def dicom_header(files: Sequence[Path]) -> Header:
    """Read the headers of the files of one volume.

    Raises:
        DataError: As `read_dicom_series`, as far as the headers show it.
    """
    where = _where(files)
    with _reading(where, "not readable as DICOM"):
        datasets, frames, affine = _stack(files, where)
        rows, columns = frames[0].shape
        sign = "" if datasets[0].get("PixelRepresentation") else "u"
        return Header(
            format="dicom",
            shape=(columns, rows, len(frames)),
            num_channels=1,
            spacing=spacing_of(affine),
            orientation=orientation_code(nearest_axes(affine)),
            dtype=f"{sign}int{datasets[0].get('BitsAllocated') or 16}",
        )


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Keep back what pydicom says in warnings and exceptions: it can quote the header."""
    with one_line(path, what, detail=False), pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _where(files: Sequence[Path]) -> Path:
    if not files:
        raise DataError("a series without files")
    return files[0] if len(files) == 1 else files[0].parent


def _read_tags(path: Path) -> Any:
    """Read `HEADER_TAGS`.

    Raises:
        DataError: Unreadable, or without an image.
    """
    with _reading(path, "not readable as DICOM"):
        # Old files without the prefix are read as well; what is no DICOM at all then has no rows.
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_TAGS), force=True)
        has_image = bool(dataset.get("Rows")) and bool(dataset.get("Columns"))
    if not has_image:
        raise DataError("not a scan: DICOM without an image" if is_dicom(path) else "not a DICOM file", where=path)
    return dataset


def _belonging(path: Path) -> tuple[tuple[object, ...], FloatArray | None, float]:
    """Return what the files of one volume have in common, the orientation, and the place along the normal.

    Raises:
        DataError: The file is not an image of a patient.
    """
    dataset = _read_tags(path)
    with _reading(path, "not readable as DICOM"):
        if dataset.get("Modality") in _DERIVED_OBJECTS:
            raise DataError(f"not a scan: DICOM {dataset.Modality}", where=path)
        several = int(dataset.get("NumberOfFrames") or 1) > 1
        key = (str(dataset.get("SeriesInstanceUID")), dataset.Rows, dataset.Columns, path if several else None)
    try:
        with _reading(path, "damaged geometry"):
            frame = frames_of(dataset, path)[0]
    except DataError:
        return key, None, 0.0
    return key, frame.orientation, frame.height


def _join(
    stacks: list[tuple[FloatArray | None, list[tuple[float, Path]]]],
    orientation: FloatArray | None,
    member: tuple[float, Path],
) -> None:
    """Add a file to the stack of its orientation. Comparing beats rounding, which can split equals."""
    for known, members in stacks:
        if known is orientation or (
            known is not None and orientation is not None and same_orientation(known, orientation)
        ):
            members.append(member)
            return
    stacks.append((orientation, [member]))


def _stack(files: Sequence[Path], where: Path) -> tuple[list[Any], list[Frame], FloatArray]:
    """Read all headers; return them, the slices sorted along the normal, and the affine of the file grid."""
    datasets = [_read_tags(path) for path in files]
    frames: list[Frame] = []
    for dataset, path in zip(datasets, files, strict=True):
        with _reading(path, "the DICOM geometry is damaged"):
            frames += frames_of(dataset, path)
    frames.sort(key=lambda frame: frame.height)
    try:
        return datasets, frames, stack_affine(frames, where)
    except UnevenSlicesError as uneven:
        damaged = _damaged_beside(files) if len(files) > 1 else []
        if not damaged:
            raise
        names = ", ".join(path.name for path in damaged[:3]) + " ..." * (len(damaged) > 3)
        what = f"{len(damaged)} of {len(files) + len(damaged)} files cannot be read, so {uneven.what}"
        raise DataError(what, where=where, fix=f"copy or export again: {names}") from None


def _damaged_beside(files: Sequence[Path]) -> list[Path]:
    """Return the files in the folder of a series that should be slices and cannot be read."""
    usual = _storage_class(files[0])
    beside = sorted(path for path in set(files[0].parent.iterdir()) - set(files) if _claims_dicom(path))
    return [path for path in beside if not _has_image(path) and _storage_class(path) in (None, usual)]


def _claims_dicom(path: Path) -> bool:
    if path.name.startswith(".") or not path.is_file():
        return False
    try:
        return path.suffix.lower() in EXTENSIONS or is_dicom(path)
    except OSError:
        return False


def _has_image(path: Path) -> bool:
    try:
        _read_tags(path)
    except DataError:
        return False
    return True


def _storage_class(path: Path) -> str | None:
    """Return what kind of object a file says it is; this comes first and survives most cuts."""
    try:
        with _reading(path, "not readable as DICOM"):
            return str(pydicom.filereader.read_file_meta_info(path).MediaStorageSOPClassUID)
    except DataError:
        return None


def _rescaled(stored: npt.NDArray[Any], frames: list[Frame]) -> Array:
    """Rescale `(slices, rows, columns)`, each slice with its own slope and intercept, which differ in PET."""
    scales = {(frame.slope, frame.intercept) for frame in frames}
    if len(scales) == 1:
        return rescale(stored, *scales.pop())
    volume = stored.astype(np.float32)
    volume *= np.array([frame.slope for frame in frames], np.float32)[:, None, None]
    volume += np.array([frame.intercept for frame in frames], np.float32)[:, None, None]
    return volume


def _modality(dataset: Any) -> str | None:
    """Return the modality code; anything longer than a code could be free text."""
    code = str(dataset.get("Modality") or "").strip()
    return code if re.fullmatch(r"[A-Z]{2,4}", code) else None
