"""Damaged and malicious files of every format, the same for the same seed."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
import tifffile
from pydicom.uid import RLELossless

from factories import affine_of, edit_dicom, smooth_volume, write_dicom_series, write_nifti_file, write_png
from scanlore.scans.find import Source

NUM_FILES = 300
BOMB_BYTES = 4091 << 20
"""What the bombs unpack to: more than 4 GB, and what a zip archive can say without its 64-bit extension."""

_MEGABYTE = 1 << 20
_PARTNERS = {".mhd": ".raw", ".nhdr": ".raw", ".hdr": ".img", ".img": ".hdr"}


def write_damaged(folder: Path, seed: int = 0) -> list[Path]:
    """Write `NUM_FILES` files, links and pipes that are all damaged, absurd or malicious.

    Args:
        folder: Where to write, into subfolders.
        seed: Decides where the damage lies.

    Returns:
        All that was written, but for the second file of a pair.
    """
    rng = random.Random(seed)
    good = originals()
    absurd = [_write(folder / "absurd" / name, content) for name, content in absurd_files(good)]
    special = [*_bombs(folder / "bombs"), *_archives(folder / "archives", good), *_places(folder / "places", good)]
    written = [*absurd, *special]
    names = sorted(name for name in good if not name.endswith(".raw"))
    damages = sorted(DAMAGES)
    for number in range(NUM_FILES - len(written)):
        name, damage = names[number % len(names)], damages[number // len(names) % len(damages)]
        stem, ending = name.split(".", 1)
        target = folder / "damaged" / f"{number % 7}" / f"{number:03d}_{stem}_{damage}.{ending}"
        written.append(_write(target, _beside(DAMAGES[damage](good[name], rng), stem, target)))
        if partner := _PARTNERS.get(target.suffix):
            _write(target.with_suffix(partner), good[f"{stem}{partner}"])
    return written


def _beside(content: bytes, stem: str, target: Path) -> bytes:
    """Let a header name the voxels beside its copy."""
    return content.replace(f"{stem}.raw".encode(), f"{target.stem}.raw".encode())


def originals() -> dict[str, bytes]:
    """Return small files of every format, by a name with their extension."""
    voxels = (smooth_volume((10, 12, 8)) * 1000).astype(np.int16)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for ending in ("nii", "nii.gz"):
            write_nifti_file(folder / f"nifti.{ending}", (10, 12, 8))
        image = sitk.GetImageFromArray(voxels)
        for file, packed in (("raw.nrrd", False), ("gzip.nrrd", True), ("raw.mha", False), ("zlib.mha", True)):
            sitk.WriteImage(image, str(folder / file), useCompression=packed)
        sitk.WriteImage(image, str(folder / "meta.mhd"))
        sitk.WriteImage(image, str(folder / "nearly.nhdr"))
        nib.save(nib.MGHImage(voxels, affine_of()), folder / "surfer.mgz")
        nib.save(nib.Nifti1Pair(voxels, affine_of()), folder / "pair.hdr")
        nib.save(nib.AnalyzeImage(voxels, None), folder / "analyze.hdr")
        for ending in ("png", "jpg", "tif"):
            write_png(folder / f"picture.{ending}", (60, 50))
        tifffile.imwrite(folder / "pages.tif", voxels, photometric="minisblack", compression="zlib")
        _write_dicom(folder)
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _write_dicom(folder: Path) -> None:
    min(write_dicom_series(folder / "series", (2, 12, 14)).iterdir()).rename(folder / "plain.dcm")
    edit_dicom(folder / "plain.dcm", SeriesInstanceUID="1.2.3", SOPInstanceUID="1.2.3.4")
    dataset = pydicom.dcmread(folder / "plain.dcm")
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.save_as(folder / "plain.dcm")
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(folder / "rle.dcm")
    for codec in ("JPEG", "JPEG2000"):
        _write_compressed(folder / f"{codec.lower()}.dcm", codec, folder / "plain.dcm")


def _write_compressed(path: Path, codec: str, plain: Path) -> None:
    """Compress a file by ITK, but for its header, which ITK makes anew each time."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor(codec)
    writer.Execute(sitk.ReadImage(str(plain)))
    packed, dataset = pydicom.dcmread(path), pydicom.dcmread(plain)
    dataset["PixelData"] = packed["PixelData"]
    dataset.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    dataset.save_as(path)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _cut_header(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(min(len(content), 400))]


def _flip(content: bytes, rng: random.Random, num_bits: int = 3, reach: int | None = None) -> bytes:
    changed = bytearray(content)
    for _ in range(num_bits):
        changed[rng.randrange(min(len(content), reach or len(content)))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_header(content: bytes, rng: random.Random) -> bytes:
    return _flip(content, rng, 4, 350)


def _flip_much(content: bytes, rng: random.Random) -> bytes:
    return _flip(content, rng, 60)


def _wrong_magic(content: bytes, rng: random.Random) -> bytes:
    start = 128 if content[128:132] == b"DICM" else 344 if content[344:347] in (b"n+1", b"ni1") else 0
    return content[:start] + rng.randbytes(4) + content[start + 4 :]


def _zeros(content: bytes, rng: random.Random) -> bytes:
    return bytes(len(content))


def _empty(content: bytes, rng: random.Random) -> bytes:
    return b""


def _noise(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(len(content))


def _hole(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + bytes(min(200, len(content) - start)) + content[start + 200 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": _cut,
    "cut-header": _cut_header,
    "flip": _flip,
    "flip-header": _flip_header,
    "flip-much": _flip_much,
    "hole": _hole,
    "magic": _wrong_magic,
    "zeros": _zeros,
    "empty": _empty,
    "noise": _noise,
}
"""What can happen to the bytes of a file."""


def absurd_files(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield files whose headers promise what they do not hold, or ask for what nobody should do."""
    nifti = good["nifti.nii"]
    for name, place, values in (
        ("dims", 40, struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)),
        ("negative", 40, struct.pack("<8h", 3, -5, 12, 8, 1, 1, 1, 1)),
        ("axes", 40, struct.pack("<8h", 7, 300, 300, 300, 300, 300, 300, 300)),
        ("offset", 108, struct.pack("<f", 1e30)),
        ("nan", 108, struct.pack("<f", float("nan"))),
        ("type", 70, struct.pack("<h", 9999)),
    ):
        changed = nifti[:place] + values + nifti[place + len(values) :]
        yield f"{name}.nii", changed
        yield f"{name}.nii.gz", zlib.compress(changed, wbits=31)
    surfer = bytearray(zlib.decompress(good["surfer.mgz"], wbits=31))
    surfer[4:16] = struct.pack(">3i", 30000, 30000, 30000)
    yield "dims.mgz", zlib.compress(bytes(surfer), wbits=31)
    for name in ("raw.nrrd", "gzip.nrrd"):
        yield f"sizes-{name}", good[name].replace(b"sizes: 8 12 10", b"sizes: 90000 90000 90000")
    for name in ("raw.mha", "zlib.mha"):
        yield f"sizes-{name}", good[name].replace(b"DimSize = 8 12 10", b"DimSize = 90000 90000 90000")
        yield f"axes-{name}", good[name].replace(b"NDims = 3", b"NDims = 99999999")
        yield (
            f"packed-{name}",
            good[name].replace(b"CompressedData = ", b"CompressedDataSize = 999999999999\nCompressedData = "),
        )
    yield "wide.png", _png(2**31 - 1, 2**31 - 1)
    yield "square.png", _png(12000, 12000)
    yield "wide.tif", good["picture.tif"].replace(struct.pack("<HHI", 256, 3, 1), b"")[:200]
    yield "strip.tif", _tiff_bomb()
    yield "loop.tif", _looping_tiff()
    for tag in (b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"):
        start = good["plain.dcm"].index(tag) + len(tag)
        yield f"side{tag[2]}.dcm", good["plain.dcm"][:start] + b"\xff\xff" + good["plain.dcm"][start + 2 :]
    yield (
        "nested.dcm",
        good["plain.dcm"][:132] + b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 3000,
    )
    yield from _foreign_data_files(good)


def _foreign_data_files(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield headers that name other files than one beside them."""
    names = (b"/etc/passwd", b"../../x.raw", b"LIST", b"s%03d.raw 1 10 1", b"%n%n%n.raw", b"-", b"missing.raw", b"")
    mha, nrrd = good["raw.mha"], good["raw.nrrd"]
    for number, name in enumerate(names):
        yield f"foreign{number}.mhd", mha[: mha.index(b"LOCAL")] + name + b"\n"
        yield f"foreign{number}.nhdr", nrrd[: nrrd.index(b"\n\n")] + b"\ndata file: " + name + b"\n\n"


def _png(width: int, height: int) -> bytes:
    """Return a grey PNG of any size without pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [header, b"IDAT" + zlib.compress(bytes(100)), b"IEND"]
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _tiff(entries: dict[int, tuple[int, int]], following: int = 0) -> bytes:
    """Return a TIFF header with one page: for each tag its type and value."""
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", following)


def _tiff_bomb() -> bytes:
    """Return a small page whose only strip unpacks to `BOMB_BYTES`."""
    strip = zeros_packed(BOMB_BYTES, wbits=15)
    entries = {256: (3, 50), 257: (3, 60), 258: (3, 8), 259: (3, 8), 262: (3, 1), 277: (3, 1), 278: (3, 60)}
    start = len(_tiff(entries | {273: (4, 0), 279: (4, 0)}))
    return _tiff(entries | {273: (4, start), 279: (4, len(strip))}) + strip


def _looping_tiff() -> bytes:
    entries = {256: (3, 5), 257: (3, 6), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 0), 277: (3, 1), 279: (4, 30)}
    return _tiff(entries, following=8)


def zeros_packed(num_bytes: int, wbits: int, start: bytes = b"") -> bytes:
    """Return a compressed stream of `start` and zeros, made without compressing them all; its checksum is wrong.

    Args:
        num_bytes: Zeros behind `start`, full megabytes.
        wbits: As zlib counts: 31 for gzip, 15 for zlib, -15 for a bare stream.
        start: What comes first.
    """
    packer = zlib.compressobj(9, wbits=wbits)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    first += packer.compress(bytes(_MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(_MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (num_bytes // _MEGABYTE - 1) + packer.flush()


def _bombs(folder: Path) -> Iterator[Path]:
    """Write small files that unpack to more than 4 GB."""
    image = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), affine_of())
    header = bytearray(image.header.binaryblock + bytes(4))
    small = bytes(header[:40]) + struct.pack("<8h", 3, 4, 4, 4, 1, 1, 1, 1) + bytes(header[56:])
    header[40:56] = struct.pack("<8h", 3, 2048, 1024, 1020, 1, 1, 1, 1)
    yield _write(folder / "volume.nii.gz", zeros_packed(BOMB_BYTES, 31, bytes(header)))
    yield _write(folder / "more-than-promised.nii.gz", zeros_packed(BOMB_BYTES, 31, small))
    surfer = struct.pack(">7ih15f", 1, 2048, 1024, 1020, 1, 4, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
    yield _write(folder / "volume.mgz", zeros_packed(BOMB_BYTES, 31, surfer + bytes(284 - len(surfer))))
    bare = zeros_packed(BOMB_BYTES, -15)
    yield _write(folder / "scan.zip", zip_of([("a.nii", bare, BOMB_BYTES)]))
    yield _write(folder / "series.zip", zip_of([(f"s/{number}.dcm", bare, BOMB_BYTES) for number in range(2)]))
    yield _write(folder / "lie.zip", zip_of([("a.nii", bare, 5000)]))
    folder.joinpath("hollow.nii").write_bytes(bytes(header))
    os.truncate(folder / "hollow.nii", BOMB_BYTES + 352)
    yield folder / "hollow.nii"


def zip_of(members: list[tuple[str, bytes, int]], method: int = zlib.DEFLATED, flags: int = 0) -> bytes:
    """Return a zip archive of ready-made members.

    Args:
        members: Name, packed bytes, and the unpacked size to claim.
        method: 8 for deflate, 0 for none.
        flags: Of every member; 1 is for encrypted ones.
    """
    content, directory = b"", b""
    for name, packed, size in members:
        checksum = zlib.crc32(packed) if method == 0 else 0
        facts = struct.pack("<HHHHHIIIHH", 20, flags, method, 0, 33, checksum, len(packed), size, len(name), 0)
        directory += b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, len(content))
        directory += name.encode()
        content += b"PK\3\4" + facts + name.encode() + packed
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(content), 0)
    return content + directory + b"PK\5\6" + end


def _archives(folder: Path, good: dict[str, bytes]) -> Iterator[Path]:
    """Write archives that lead astray."""
    scan = good["nifti.nii"]
    for number, name in enumerate(
        ("../../evil.nii", "/tmp/evil.nii", "..\\evil.nii", "a/../../evil.nii", "C:\\evil.nii")
    ):
        yield _write(folder / f"traversal{number}.zip", zip_of([(name, scan, len(scan))], method=0))
    yield _write(folder / "encrypted.zip", zip_of([("a.nii", scan, len(scan))], method=0, flags=1))
    inner = zip_of([("a.nii", scan, len(scan))], method=0)
    yield _write(folder / "nested.zip", zip_of([("b.zip", inner, len(inner))], method=0))
    yield _write(folder / "twice.zip", zip_of([("a.nii", scan, len(scan))] * 2, method=0))
    yield _write(folder / "unknown-method.zip", zip_of([("a.nii", scan, len(scan))], method=97))
    yield _write(folder / "cut.zip", inner[: len(inner) // 2])
    yield _write(folder / "no-zip.zip", b"words")
    yield _write(folder / "long-name.zip", zip_of([("n" * 5000 + ".nii", scan, len(scan))], method=0))
    for member in ("plain.dcm", "picture.png", "surfer.mgz", "raw.mha"):
        packed = zip_of([(member, good[member][: len(good[member]) // 2], len(good[member]) // 2)], method=0)
        yield _write(folder / f"cut-{member}.zip", packed)


def _places(folder: Path, good: dict[str, bytes]) -> Iterator[Path]:
    """Write links that lead nowhere or in circles, a pipe, and what may not be read."""
    folder.mkdir(parents=True)
    for name, target in (
        ("one.nii", "two.nii"),
        ("two.nii", "one.nii"),
        ("self.nii", "self.nii"),
        ("gone.nii", "nowhere"),
    ):
        (folder / name).symlink_to(target)
        yield folder / name
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "deeper" / "loop").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.nii")
    yield folder / "pipe.nii"
    for name in ("nifti.nii", "plain.dcm", "picture.png", "raw.nrrd"):
        path = _write(folder / f"locked-{name}", good[name])
        path.chmod(0)
        yield path


def dies_of_number_two(answer: Any, source: Source) -> Any:
    """Give the answer for any source but number 2, which brings the process down."""
    if source.number == 2:
        os._exit(1)
    return answer


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
