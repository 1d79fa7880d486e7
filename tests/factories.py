"""Tiny real files for tests: NIfTI volumes, DICOM series and PNG images, the same for the same seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

Voxels = npt.NDArray[Any]

ROTATION = Rotation.from_euler("xyz", [12, -8, 5], degrees=True).as_matrix()
"""What `oblique` turns a scan by."""


def smooth_volume(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.float32]:
    """Blurred noise in [0.2, 0.8] inside an ellipsoid with a bright blob of 1; exactly 0 outside."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal(shape), 1.0)
    noise = 0.2 + 0.6 * (noise - noise.min()) / max(float(np.ptp(noise)), 1e-9)
    grid = np.meshgrid(*(np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in shape), indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.8
    blob = sum((axis - 0.2) ** 2 for axis in grid) < 0.08
    return np.where(blob & inside, 1.0, np.where(inside, noise, 0.0)).astype(np.float32)


def affine_of(
    axcodes: str = "RAS", spacing: tuple[float, ...] = (1.0, 1.0, 1.0), oblique: bool = False
) -> npt.NDArray[np.float64]:
    """Affine of a file whose axes point where `axcodes` says, with an odd origin."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(axcodes):
        ras = next(index for index, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[ras, axis] = spacing[axis] * (1 if letter in "RAS" else -1)
    if oblique:
        affine[:3, :3] = ROTATION @ affine[:3, :3]
    affine[:3, 3] = (-31.5, 17.25, 8.0)
    return affine


def write_nifti_file(
    path: Path,
    shape: tuple[int, ...] = (12, 14, 10),
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    axcodes: str = "RAS",
    dtype: str = "int16",
    seed: int = 0,
    oblique: bool = False,
    channels: int | None = None,
    voxels: Voxels | None = None,
) -> Path:
    """Write a NIfTI file; `shape`, `spacing` and `voxels` are in the file's own axis order, channels last."""
    if voxels is None:
        parts = [smooth_volume(shape, seed + channel) for channel in range(channels or 1)]
        voxels = (np.stack(parts, -1) if channels else parts[0]) * (200 if "int8" in dtype else 1000)
    affine = affine_of(axcodes, spacing, oblique)
    image = nib.Nifti1Image(np.asarray(voxels).astype(dtype), affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units(xyz="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def write_dicom_series(
    folder: Path,
    shape: tuple[int, int, int] = (10, 12, 14),
    seed: int = 0,
    patient: str = "DOE^JANE",
    spacing: tuple[float, float, float] = (3.0, 0.7, 0.7),
    oblique: bool = False,
    modality: str = "MR",
) -> Path:
    """Write an axial series of `(slices, rows, columns)`; `spacing` in the same order, file names in random order."""
    rng = np.random.default_rng(seed)
    volume = (smooth_volume(shape, seed) * 1000).astype(np.uint16)
    names = rng.permutation(len(volume))
    uid = generate_uid(entropy_srcs=[str(folder), str(seed)])
    axes = (ROTATION if oblique else np.eye(3)).T
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(volume):
        dataset = _slice(pixels, patient, modality, uid, index)
        dataset.ImageOrientationPatient = [f"{value:.10f}" for value in (*axes[0], *axes[1])]
        position = np.array([-20.0, -30.0, 5.0]) + index * spacing[0] * axes[2]
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
        dataset.PixelSpacing = list(spacing[1:])
        dataset.SliceThickness = spacing[0]
        dataset.save_as(folder / f"im{names[index]:04d}.dcm", enforce_file_format=True)
    return folder


def edit_dicom(path: Path, **tags: Any) -> Path:
    """Set tags of a DICOM file, or remove those given as `None`."""
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def write_dicom_picture(path: Path, pixels: Voxels, modality: str = "CR", **tags: Any) -> Path:
    """Write one frame without slice geometry: `(rows, columns)` of grey values, or `(rows, columns, 3)` of RGB."""
    series = generate_uid(entropy_srcs=[path.as_posix()])
    dataset = _slice(pixels.astype(np.uint16 if pixels.ndim == 2 else np.uint8), "DOE^JANE", modality, series, 0)
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    if pixels.ndim == 3:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _slice(pixels: Voxels, patient: str, modality: str, series_uid: str, index: int) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series_uid, str(index)])
    dataset.SeriesInstanceUID = series_uid
    dataset.PatientName = patient
    dataset.PatientID = f"ID-{patient}"
    dataset.Modality = modality
    dataset.InstanceNumber = index + 1
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write_png(
    path: Path,
    shape: tuple[int, int] = (20, 24),
    seed: int = 0,
    rgb: bool = False,
    bits: int = 8,
    pixels: Voxels | None = None,
) -> Path:
    """Write a grey (8 or 16 bits) or colour image; also JPEG or TIFF where the extension says so."""
    if pixels is None:
        parts = [smooth_volume(shape, seed + channel) for channel in range(3 if rgb else 1)]
        scaled = (np.stack(parts, -1) if rgb else parts[0]) * (2**bits - 1)
        pixels = scaled.astype(np.uint16 if bits == 16 else np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def label_volume(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Labels of `smooth_volume`: 1 in the ellipsoid, 2 in its bright blob."""
    volume = smooth_volume(shape, seed)
    return ((volume > 0).astype(np.uint8) + (volume == 1)).astype(np.uint8)


def write_mask(path: Path, shape: tuple[int, ...] = (12, 14, 10), **changes: Any) -> Path:
    """Write the labels of `smooth_volume` as `write_nifti_file` (three axes) or `write_png` (two) do."""
    if len(shape) == 2:
        return write_png(path, **({"pixels": label_volume(shape)} | changes))
    return write_nifti_file(path, **({"voxels": label_volume(shape), "dtype": "uint8"} | changes))


def write_msd_task(
    root: Path,
    num_cases: int = 6,
    shape: tuple[int, int, int] = (12, 14, 10),
    channels: Sequence[str] = ("MRI",),
    **facts: Any,
) -> Path:
    """Write a task of two classes in the layout of the Medical Segmentation Decathlon.

    Args:
        root: Its folder; cases are called `case_000`, `case_001` ...
        num_cases: Training cases.
        shape: Of every scan.
        channels: Several lie along the fourth axis of each file.
        facts: What else `dataset.json` says, or says differently.
    """
    names = [f"case_{seed:03d}.nii.gz" for seed in range(num_cases)]
    count = len(channels) if len(channels) > 1 else None
    for seed, name in enumerate(names):
        write_nifti_file(root / "imagesTr" / name, shape, seed=seed, channels=count)
        write_mask(root / "labelsTr" / name, shape)
    listing = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    modality = {str(number): name for number, name in enumerate(channels)}
    labels = {"0": "background", "1": "body", "2": "blob"}
    known = {"modality": modality, "labels": labels, "numTraining": num_cases, "training": listing}
    (root / "dataset.json").write_text(json.dumps(known | facts))
    return root


def write_nnunet_task(
    root: Path,
    num_cases: int = 6,
    num_test: int = 0,
    shape: tuple[int, ...] = (12, 14, 10),
    channels: Sequence[str] = ("MRI",),
    **facts: Any,
) -> Path:
    """Write a task of two classes in the layout of nnU-Net v2: NIfTI files, or PNG where `shape` has two axes.

    Args:
        root: Its folder; cases are called `case_000`, `case_001` ..., those of `imagesTs` the last.
        num_cases: Training cases.
        num_test: Cases in `imagesTs` and `labelsTs`.
        shape: Of every scan.
        channels: One file each.
        facts: What else `dataset.json` says, or says differently.
    """
    ending = ".png" if len(shape) == 2 else ".nii.gz"
    write = write_png if len(shape) == 2 else write_nifti_file
    for seed in range(num_cases + num_test):
        part = "Tr" if seed < num_cases else "Ts"
        for number in range(len(channels)):
            path = root / f"images{part}" / f"case_{seed:03d}_{number:04d}{ending}"
            write(path, shape, seed=10 * seed + number)  # type: ignore[operator]
        write_mask(root / f"labels{part}" / f"case_{seed:03d}{ending}", shape)
    known = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0, "body": 1, "blob": 2},
        "numTraining": num_cases,
        "file_ending": ending,
    }
    (root / "dataset.json").write_text(json.dumps(known | facts))
    return root
