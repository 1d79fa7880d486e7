"""What the text before an NRRD or MetaImage says of where the voxels lie, checked before ITK follows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scanlore.errors import DataError

METAIMAGE_ENDINGS, NRRD_ENDINGS = (".mha", ".mhd"), (".nrrd", ".nhdr")
LONGEST_TEXT = 1 << 20

_LPS = ("left-posterior-superior", "lps", "left-posterior-superior-time", "lpst")
_SPACES = (*_LPS, "right-anterior-superior", "ras", "left-anterior-superior", "las")
_NUM_AXES = ("2", "3", "4")
_NO_SPACE = "no geometry: the file names no space that is known"
_NO_DIRECTIONS = "no geometry: the file states no directions of its axes"
_NO_SPACING = "no geometry: the file states no spacing"
_REFERENCE = {"nrrd": rb"data ?file", "metaimage": rb"ElementDataFile"}


@dataclass(frozen=True)
class ItkText:
    """What the text says.

    Attributes:
        format: `nrrd` or `metaimage`.
        data_file: Name of the file that holds the voxels; `None` where they follow the text.
        offset: Bytes before the voxels in the file that holds them.
        is_packed: Whether they are compressed.
        is_deflated: Whether they are compressed in the way of gzip.
        num_packed: Compressed bytes, where the text says how many.
        missing: Why there is no geometry for a volume; `None` where there is one.
        has_spacing: Whether the size of a pixel is stated.
        is_colour: Whether the values are said to be colours.
        note: What was taken for granted.
    """

    format: str
    data_file: str | None
    offset: int
    is_packed: bool
    is_deflated: bool
    num_packed: int
    missing: str | None
    has_spacing: bool
    is_colour: bool = False
    note: str | None = None


def parse_text(path: Path, start: bytes) -> ItkText:
    """Parse the text at the start of a file.

    Args:
        path: Its extension says the format.
        start: Its first `LONGEST_TEXT` bytes.

    Raises:
        DataError: It is no such text, or the voxels lie anywhere but in one file beside it.
    """
    return _parse_nrrd(path, start) if path.name.lower().endswith(NRRD_ENDINGS) else _parse_metaimage(path, start)


def with_data_file(path: Path, start: bytes, name: str) -> bytes:
    """Return the text with another name of the file that holds the voxels."""
    key = _REFERENCE[parse_text(path, start).format]
    return re.sub(rb"(?im)^(\s*" + key + rb"\s*[:=]\s*)[^\r\n]*", rb"\g<1>" + name.encode(), start)


def _parse_metaimage(path: Path, start: bytes) -> ItkText:
    end = re.search(rb"(?im)^[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*?)[ \t]*(?:\r?\n|\Z)", start)
    if end is None:
        raise DataError("not a MetaImage file", where=path)
    lines = (line.partition("=") for line in start[: end.start()].decode("latin-1").splitlines())
    fields = {key.strip().lower(): value.strip() for key, _, value in lines}
    has_spacing = bool({"elementspacing", "elementsize"} & set(fields))
    is_packed = fields.get("compresseddata", "").lower() in ("true", "1")
    has_directions = bool({"transformmatrix", "rotation", "orientation"} & set(fields))
    if fields.get("ndims") not in _NUM_AXES:  # ITK dies of a million
        raise DataError("damaged header: no number of axes from 2 to 4", where=path)
    name = _plain_name(end[1].decode("latin-1"), path)
    return ItkText(
        format="metaimage",
        data_file=name,
        offset=_count(fields.get("headersize"), path) if name else end.end(),
        is_packed=is_packed,
        is_deflated=is_packed,
        num_packed=_count(fields.get("compresseddatasize"), path),
        missing=None if has_spacing and has_directions else _NO_DIRECTIONS if has_spacing else _NO_SPACING,
        has_spacing=has_spacing,
    )


def _parse_nrrd(path: Path, start: bytes) -> ItkText:
    if not re.match(rb"NRRD000\d\r?\n", start):
        raise DataError("not an NRRD file", where=path)
    end = re.search(rb"\n\r?\n", start)
    text = start[: end.start() if end else len(start)].decode("latin-1")
    found = [re.match(r"([^#:]+):(?!=)\s*(.*?)\s*$", line) for line in text.splitlines()]
    fields = {"".join(match[1].split()).lower(): match[2] for match in found if match}
    missing, note = _nrrd_geometry(fields)
    name = _plain_name(fields.get("datafile", "LOCAL"), path)
    encoding = fields.get("encoding", "").lower()
    begin = 0 if name else end.end() if end else len(start)
    return ItkText(
        format="nrrd",
        data_file=name,
        offset=begin + (0 if encoding != "raw" else _count(fields.get("byteskip"), path)),
        is_packed=encoding != "raw",
        is_deflated=encoding in ("gzip", "gz"),
        num_packed=0,
        missing=missing,
        has_spacing="spacings" in fields or "spacedirections" in fields,
        is_colour=any(word in fields.get("kinds", "").lower() for word in ("color", "hsv")),
        note=note,
    )


def _nrrd_geometry(fields: dict[str, str]) -> tuple[str | None, str | None]:
    """Return why there is no geometry, and what is taken for granted."""
    if "spacedirections" not in fields:
        return _NO_DIRECTIONS, None
    if fields.get("space", "").lower() in _SPACES:
        return None, None
    if fields.get("spacedimension") == "4" and "space" not in fields:
        return None, "space not named: taken as left-posterior-superior, as ITK writes it for 4D"
    return _NO_SPACE, None


def _plain_name(name: str, path: Path) -> str | None:
    """Return the name of a file beside the text, or `None` for voxels behind it.

    Lists, patterns, other folders and standard input are refused.
    """
    if name.lower() == "local":
        return None
    plain = re.fullmatch(r"(?:\./)?([^-./\\%\0][^/\\%\0]*)", name)
    if plain is None or plain[1].lower().split()[0] == "list":
        what = "not one data file: the header does not name a single file in its own folder"
        raise DataError(what, where=path, fix="write it again as one file")
    return plain[1]


def _count(text: str | None, path: Path) -> int:
    """Return a number of bytes; 0 for none and for `-1`, which asks to count from the end."""
    if text is None or text == "-1":
        return 0
    if not re.fullmatch(r"\d{1,15}", text):
        raise DataError("damaged header: a number of bytes is none", where=path)
    return int(text)
