"""The files of one scan, on disk or in a zip archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scanlore.scans.archive import member_size

Kind = Literal["nifti", "dicom", "itk", "mgz", "analyze", "image2d"]


@dataclass(frozen=True)
class Source:
    """The files of one scan.

    Attributes:
        kind: The format; `itk` is NRRD or MetaImage.
        path: The file, or the one with the header of two; the folder for a DICOM series of several files.
        files: All files, DICOM slices sorted along their normal.
        number: Counts the series of several files within one folder, or the pages of a TIFF file, from 1.
        archive: The zip archive they lie in; `path` and `files` are then names below it.
        root: The path it was found below.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...]
    number: int = 1
    archive: Path | None = None
    root: Path | None = None

    @property
    def name(self) -> str:
        """The path, and `#2`, `#3` ... for further series of a folder or pages of a file."""
        return self.path.as_posix() + (f"#{self.number}" if self.number > 1 else "")

    def size_and_mtime(self) -> tuple[int, int]:
        """Return the bytes of all files together and the newest modification time in nanoseconds.

        In an archive, bytes are counted unpacked, and the time is that of the archive.

        Raises:
            OSError: A file is gone.
        """
        if self.archive is not None:
            mtime = self.archive.stat().st_mtime_ns
            return sum(member_size(self.archive, file) for file in self.files), mtime
        stats = [file.stat() for file in self.files]
        return sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)
