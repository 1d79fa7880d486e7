"""The store: what each codec costs, and what each part of preparing a scan costs against reading it.

A CT-like scan of 512 x 512 x 300 (the one given or the template, resampled, with noise) lies in memory as a file holds
it, first axis running fastest. Times are processor seconds of one thread, the best of a few rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

from common import best_of, cpu_name, ms, set_threads

set_threads(1)

import blosc2  # noqa: E402
import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from scanlore.corpus.fingerprint import fingerprint  # noqa: E402
from scanlore.corpus.label_maps import is_label_map  # noqa: E402
from scanlore.corpus.levels import build_levels, level_factors  # noqa: E402
from scanlore.corpus.prepare import content_id, foreground_box  # noqa: E402
from scanlore.corpus.quantise import quantise  # noqa: E402
from scanlore.corpus.store import checksum, encode, layout  # noqa: E402
from scanlore.corpus.tiles import c_order  # noqa: E402
from scanlore.scans.intensity import intensity_stats  # noqa: E402
from scanlore.scans.read import read_scan  # noqa: E402
from scans import read, upsampled  # noqa: E402

CODECS = [("LZ4", 1), ("LZ4", 5), ("LZ4", 9), ("LZ4HC", 1), ("LZ4HC", 5), ("ZSTD", 1), ("BLOSCLZ", 5)]
BOX, NUM_BOXES = 96, 8


def boxes(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield random boxes of 96^3."""
    rng = np.random.default_rng(0)
    for _ in range(NUM_BOXES):
        starts = [int(rng.integers(0, edge - BOX)) for edge in shape]
        yield tuple(slice(start, start + BOX) for start in starts)


def codecs(voxels: npt.NDArray[np.int16]) -> None:
    """Print speed and size of every codec with both shuffles."""
    print("| codec | shuffle | MB/s written | size | box of 96^3 read |\n|---|---|---|---|---|")
    part = c_order(voxels[:, :, :128])
    for name, level in CODECS:
        for shuffle in (blosc2.Filter.SHUFFLE, blosc2.Filter.BITSHUFFLE):
            settings = {"codec": blosc2.Codec[name], "clevel": level, "filters": [shuffle], "nthreads": 1}

            def write(settings: dict[str, object] = settings) -> bytes:
                chunks, blocks = layout(part.shape)
                return bytes(blosc2.asarray(part, chunks=chunks, blocks=blocks, cparams=settings).to_cframe())

            stored = blosc2.ndarray_from_cframe(write())

            def take(stored: blosc2.NDArray = stored) -> None:
                for box in boxes(part.shape):
                    stored[box]

            seconds, reading = best_of(3, write, take, clock=process_time)
            size = len(write()) / part.nbytes
            speed = part.nbytes / seconds / 1e6
            print(f"| {name} {level} | {shuffle.name.lower()} | {speed:.0f} | {size:.3f} | {ms(reading / NUM_BOXES)} |")


def parts(voxels: npt.NDArray[np.int16]) -> None:
    """Print what each part of preparing a scan takes, in shares of reading it with nibabel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"
        nib.save(nib.Nifti1Image(voxels, np.diag([0.8, 0.8, 1.0, 1.0])), path)
        (peer,) = best_of(3, lambda: np.asanyarray(nib.load(path).dataobj), clock=process_time)
        scan = read_scan(path).voxels[0]
        stats, factors = intensity_stats(scan), level_factors(scan.shape, 2)
        levels = list(build_levels(quantise(scan, stats)[0], factors))
        frames = [encode(level) for level in levels]
        steps: dict[str, Callable[[], object]] = {
            "reading": lambda: read_scan(path),
            "statistics": lambda: intensity_stats(scan),
            "content hash": lambda: content_id(scan, stats),
            "fingerprint": lambda: fingerprint(scan),
            "whether it is a label map": lambda: is_label_map(scan, is_named=False),
            "foreground box": lambda: foreground_box(scan, stats.p0_05),
            "int16": lambda: quantise(scan, stats),
            "levels": lambda: list(build_levels(scan, factors)),
            "compression": lambda: [encode(level) for level in levels],
            "checksum": lambda: checksum(frames),
        }
        print("\n| part | time | of nibabel's reading |\n|---|---|---|")
        for name, seconds in zip(steps, best_of(3, *steps.values(), clock=process_time), strict=True):
            print(f"| {name} | {ms(seconds)} | {seconds / peer:.2f} |")
        print(f"| nibabel's reading | {ms(peer)} | 1 |\n")
        print(f"All levels take {sum(map(len, frames)) / voxels.nbytes:.2f} of the size of the voxels.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path, help="a NIfTI file to resample; the template by default")
    voxels = np.asfortranarray(upsampled(read(parser.parse_args().scan)))
    print(f"{' x '.join(map(str, voxels.shape))}, {cpu_name(1)}\n")
    codecs(voxels)
    parts(voxels)


if __name__ == "__main__":
    main()
