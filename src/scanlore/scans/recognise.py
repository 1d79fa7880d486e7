"""Which files of one folder make a scan, and why the others make none."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from scanlore.errors import DataError
from scanlore.scans.analyze import HEADER_SIZE, is_analyze
from scanlore.scans.archive import open_member, unpacked, unpacked_headers
from scanlore.scans.dicom import EXTENSIONS, group_dicom
from scanlore.scans.failures import one_line
from scanlore.scans.image2d import TIFF_ENDINGS, is_tiff, num_pages
from scanlore.scans.itk_text import LONGEST_TEXT, METAIMAGE_ENDINGS, NRRD_ENDINGS, parse_text
from scanlore.scans.mgz import ENDINGS as MGZ_ENDINGS
from scanlore.scans.nifti import is_nifti_pair
from scanlore.scans.packed import is_packed, start_of
from scanlore.scans.source import Kind, Source

DATA_ENDING = ".raw"
_PAIR_ENDINGS = (".hdr", ".hdr.gz")
_VOXEL_ENDINGS = (".img", ".img.gz")
_DETACHED_ENDINGS = (".mhd", ".nhdr")
_KINDS: dict[str, Kind] = {
    **dict.fromkeys((".nii", ".nii.gz"), "nifti"),
    **dict.fromkeys((*METAIMAGE_ENDINGS, *NRRD_ENDINGS), "itk"),
    **dict.fromkeys(MGZ_ENDINGS, "mgz"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", *TIFF_ENDINGS), "image2d"),
    **dict.fromkeys(EXTENSIONS, "dicom"),
}
_KNOWN = (*_KINDS, *_PAIR_ENDINGS, *_VOXEL_ENDINGS)
_STRANGERS = (
    *(".txt", ".csv", ".tsv", ".json", ".xml", ".html", ".htm", ".pdf", ".md", ".log"),
    *(".ini", ".yaml", ".yml", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".rtf"),
    *(".parquet", ".exe", ".dll", ".jar", ".inf", ".bat", ".sh", ".py", ".m", ".r"),
    *(".ipynb", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".iso", ".bval"),
    *(".bvec", ".mat", ".npy", ".npz", ".h5", ".hdf5", ".pkl", ".pt", ".pth", ".stl"),
    *(".obj", ".vtk", ".vtp", ".vtu", ".ply", ".gii", ".label", ".annot", ".trk", ".tck"),
    *(".bmp", ".gif", ".svg", ".webp", ".ico", ".mp4", ".avi", ".mov", ".wmv", ".db"),
    *(".dat", ".bin", ".raw", ".zraw", ".tmp", ".bak", ".lnk", ".url", ".css", ".js"),
    *(".sql", ".edf", ".fif", ".eeg", ".par", ".rec", ".minc", ".mnc"),
)
"""Endings that may be named: others could be part of a person's name."""

_DICOM_MAGIC = slice(128, 132)
_Skipped = list[tuple[Path, str]]


@dataclass(frozen=True)
class Folder:
    """The files of one folder.

    Attributes:
        root: The path it was found below.
        files: Without hidden ones, and without those of subfolders.
        archive: The zip archive it lies in.
    """

    root: Path
    files: list[Path]
    archive: Path | None = None


@dataclass
class _Found:
    """What is found in one folder, while looking at its files."""

    folder: Folder
    sources: list[Source] = field(default_factory=list)
    skipped: _Skipped = field(default_factory=list)
    dicom: list[Path] = field(default_factory=list)

    def add(self, kind: Kind, *files: Path, number: int = 1) -> None:
        self.sources.append(Source(kind, files[0], files, number, self.folder.archive, self.folder.root))

    def open(self, file: Path) -> IO[bytes]:
        archive = self.folder.archive
        return file.open("rb") if archive is None else open_member(archive, file)


def ending_of(path: Path) -> str:
    """Return the ending of a file among those of the formats that are read; empty for any other."""
    parts = path.name.lower().rsplit(".", 2)[1:]
    endings = (f".{'.'.join(parts[first:])}" for first in range(len(parts)))
    return next((ending for ending in endings if ending in _KNOWN), "")


def sources_of(folder: Folder) -> tuple[list[Source], list[tuple[Path, str]]]:
    """Find the scans among the files of one folder.

    Returns:
        The scans, and the other files with a reason; nothing in it comes from a file or its name.
    """
    found = _Found(folder)
    partners = dict(_partners(found))
    taken = set(partners.values())
    for file in folder.files:
        if file not in taken:
            try:
                with one_line(file, "cannot be opened"):
                    _look(found, file, partners.get(file))
            except DataError as error:
                lost = [file, partners[file]] if file in partners else [file]
                found.skipped += [(one, error.what) for one in lost]
    if found.dicom:
        _add_dicom(found)
    return found.sources, found.skipped


def _partners(found: _Found) -> Iterator[tuple[Path, Path]]:
    """Yield each file with a header of its own, and the one that holds its voxels."""
    exact = {file.name: file for file in found.folder.files}
    any_case = {file.name.lower(): file for file in found.folder.files}
    taken: set[Path] = set()
    for file in found.folder.files:
        ending = ending_of(file)
        if ending in _PAIR_ENDINGS:
            stem = file.name[: -len(ending)].lower()
            names = (f"{stem}{voxels}" for voxels in _VOXEL_ENDINGS)
            partner = next((any_case[name] for name in names if name in any_case), None)
        elif ending in _DETACHED_ENDINGS:
            partner = exact.get(_data_file(found, file) or "")
        else:
            continue
        if partner is not None and partner not in taken and ending_of(partner) in ("", *_VOXEL_ENDINGS):
            taken.add(partner)
            yield file, partner


def _data_file(found: _Found, file: Path) -> str | None:
    try:
        with one_line(file, "cannot be opened"), found.open(file) as opened:
            return parse_text(file, opened.read(LONGEST_TEXT)).data_file
    except DataError:
        return None


def _look(found: _Found, file: Path, partner: Path | None) -> None:
    """Add one file to what is found."""
    ending = ending_of(file)
    kind = _KINDS.get(ending)
    if kind == "dicom":
        found.dicom.append(file)
    elif kind == "image2d" and is_tiff(file):
        for number in range(1, _num_pages(found, file) + 1):
            found.add(kind, file, number=number)
    elif kind is not None:
        found.add(kind, *([file] if partner is None else [file, partner]))
    elif ending in _PAIR_ENDINGS:
        _look_at_pair(found, file, partner)
    elif _start(found, file)[_DICOM_MAGIC] == b"DICM":
        found.dicom.append(file)
    else:
        found.skipped.append((file, _why_not(file)))


def _look_at_pair(found: _Found, file: Path, partner: Path | None) -> None:
    try:
        with found.open(file) as opened:
            start = start_of(opened, HEADER_SIZE, is_packed(file))
    except zlib.error:
        start = b""
    if not (is_nifti_pair(start) or is_analyze(start)):
        raise DataError("not a scan: no NIfTI or Analyze header", where=file)
    if partner is None:
        raise DataError("missing data file: the .img that belongs to the .hdr", where=file)
    found.add("nifti" if is_nifti_pair(start) else "analyze", file, partner)


def _start(found: _Found, file: Path) -> bytes:
    with found.open(file) as opened:
        return opened.read(_DICOM_MAGIC.stop)


def _num_pages(found: _Found, file: Path) -> int:
    if found.folder.archive is None:
        return num_pages(file)
    with unpacked(found.folder.archive, [file], [TIFF_ENDINGS[0]]) as (page,):
        return num_pages(page)


def _why_not(file: Path) -> str:
    if ending_of(file) in _VOXEL_ENDINGS:
        return "not a scan: .img without its .hdr"
    suffix = file.suffix.lower()
    if suffix in _STRANGERS:
        return f"not a scan: {suffix}"
    return "not a scan: unknown extension" if suffix else "not a scan: no known extension"


def _add_dicom(found: _Found) -> None:
    """Group the DICOM files, which takes their headers."""
    archive = found.folder.archive
    if archive is None:
        groups, skipped = group_dicom(found.dicom)
        found.skipped += skipped
    else:
        with unpacked_headers(archive, found.dicom) as (members, damaged):
            numbered, skipped = group_dicom(members)
        groups = [[members[file] for file in group] for group in numbered]
        found.skipped += [*damaged, *((members[file], reason) for file, reason in skipped)]
    series = 0
    for group in groups:
        if len(group) == 1:
            found.add("dicom", group[0])
        else:
            series += 1
            source = Source("dicom", group[0].parent, tuple(group), series, archive, found.folder.root)
            found.sources.append(source)
