"""Building a corpus against reading the same files alone, and the memory of a worker.

CT-like scans of 512 x 512 x 300 (the one given, resampled, or the template) are written as uncompressed DICOM series
and as `.nii.gz`. Building finds, reads, measures, hashes, fingerprints, stores all levels and writes the index, in one
process on one core; the peer reads the voxels and nothing else: SimpleITK the series, nibabel the NIfTI file, in a
process of its own, so that how ours takes memory does not help it. Memory is
the highest resident size of a process that prepares one scan of 512 x 512 x 600, less that before, in scans of the
type it is read as.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import Row, best_of, cpu_name, ms, print_table, set_threads

PARSER = argparse.ArgumentParser(description=__doc__.splitlines()[0])
PARSER.add_argument("--scan", type=Path, help="a NIfTI file to resample; the template by default")
PARSER.add_argument("--slices", type=int, default=300)
PARSER.add_argument("--scans", type=int, default=3)
PARSER.add_argument("--repeats", type=int, default=3)
PARSER.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
ARGUMENTS = PARSER.parse_args()
set_threads(1)

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402, N813
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid  # noqa: E402

from scanlore.corpus.prepare import Origin, given, prepare  # noqa: E402
from scanlore.scans.find import find_sources  # noqa: E402
from scans import Voxels, build_here, read, upsampled  # noqa: E402

SPACING = 0.8


def write_series(voxels: Voxels, folder: Path) -> Path:
    """Write `(X, Y, Z)` as one axial CT series with the offset of Hounsfield units."""
    folder.mkdir(parents=True)
    series = generate_uid()
    for number in range(voxels.shape[2]):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.SeriesInstanceUID, dataset.PatientID, dataset.Modality = series, "benchmark", "CT"
        dataset.Rows, dataset.Columns = voxels.shape[1], voxels.shape[0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, number * 1.0]
        dataset.PixelSpacing, dataset.SliceThickness = [SPACING, SPACING], 1.0
        dataset.PixelData = np.ascontiguousarray(voxels[:, :, number].T).tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
    return folder


def write_nifti(voxels: Voxels, path: Path) -> Path:
    """Write `(X, Y, Z)` as `.nii.gz`."""
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([SPACING, SPACING, 1.0, 1.0])), path)
    return path


def read_series(folder: Path) -> None:
    """Read every series below a folder as SimpleITK does."""
    for series in sorted(folder.iterdir()):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
        sitk.GetArrayViewFromImage(reader.Execute())


def read_nifti(folder: Path) -> None:
    """Read every file of a folder as nibabel does."""
    for path in sorted(folder.iterdir()):
        np.asanyarray(nib.load(path).dataobj)


def compare(name: str, path: Path, work: Path, peer: Callable[[], object], repeats: int) -> Row:
    """Compare building with reading alone."""
    building = reading = float("inf")
    for _ in range(repeats):
        building = min(building, *best_of(1, lambda: build_here(path, work / name)))
        shutil.rmtree(work / name)
        reading = min(reading, *best_of(1, peer))
    claim = f"build from {name} / reading it alone"
    return Row(claim, ms(building), ms(reading), building / reading, "<= 2.5", cpu_name(1))


def memory_row(name: str, path: Path) -> Row:
    """Measure the memory of a worker in a process of its own."""
    command = [sys.executable, __file__, "--measure-memory", str(path)]
    peak, scan = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return Row(
        f"worker's memory, {name} / the scan", f"{peak:.0f} MB", f"{scan:.0f} MB", peak / scan, "<= 3", cpu_name(1)
    )


def measure_memory(path: Path) -> None:
    """Print the memory that preparing the scan at a path takes, and that of its voxels, in MB."""
    from scanlore.scans.read import read_scan

    source = find_sources([path])[0][0]
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    prepare(given(source, Origin(b"benchmark")))
    peak = _status("VmHWM") - before
    print(json.dumps([peak, read_scan(source).voxels.nbytes / 1e6]))


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def main() -> None:
    """Measure and print."""
    if ARGUMENTS.measure_memory is not None:
        measure_memory(ARGUMENTS.measure_memory)
        return
    voxels = upsampled(read(ARGUMENTS.scan))[:, :, : ARGUMENTS.slices]
    peer = multiprocessing.get_context("spawn").Pool(1)
    with tempfile.TemporaryDirectory() as folder, peer:
        work = Path(folder)
        folders = work / "dicom", work / "nifti"
        for number in range(ARGUMENTS.scans):
            voxels[0, 0, 0] = number  # equal scans would be stored once
            write_series(voxels, folders[0] / str(number))
            write_nifti(voxels, folders[1] / f"{number}.nii.gz")
        repeats = ARGUMENTS.repeats
        rows = [
            compare("DICOM", folders[0], work, lambda: peer.apply(read_series, [folders[0]]), repeats),
            compare(".nii.gz", folders[1], work, lambda: peer.apply(read_nifti, [folders[1]]), repeats),
        ]
        tall = np.concatenate([voxels, voxels], axis=2)
        rows.append(memory_row("DICOM", write_series(tall, work / "tall")))
        rows.append(memory_row(".nii.gz", write_nifti(tall, work / "tall-nifti" / "ct.nii.gz")))
        print_table(rows)


if __name__ == "__main__":
    main()
