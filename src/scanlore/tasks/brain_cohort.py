"""A cohort for demonstrations: brain scans made from an average brain, two groups that differ in one place.

Every scan is the ICBM152 average T1 image (skull removed; carried by nilearn as package data), changed the way people
and scanners differ: size, smooth shape, tissue contrast, bias field, tilt, voxel size, slice thickness, noise. In the
group `enlarged` the lateral ventricles are stretched as well, by the mean strength that `EXPANSION` names.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from scanlore.errors import ConfigError, DataError, MissingDependencyError

Floats = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]

GROUPS = ("control", "enlarged")
COLUMNS = ("image", "label", "patient", "split")

# Where the groups differ: body and atrium of each lateral ventricle in MNI millimetres, and the reach of the stretch.
VENTRICLES_MM = ((-9.0, 0.0, 17.0), (9.0, 0.0, 17.0), (-24.0, -40.0, 13.0), (24.0, -40.0, 13.0))
RADIUS_MM = 26.0
EXPANSION = {"control": 0.0, "enlarged": 0.45}
EXPANSION_STD = 0.05

# The box that every scan covers, in MNI millimetres: the brain of the template and a margin for large heads.
BOX_LOW_MM, BOX_HIGH_MM = np.array([-82.0, -118.0, -76.0]), np.array([82.0, 84.0, 92.0])

# Smooth random fields live on a coarse lattice over a box that holds every field of view.
LATTICE_MM = 8.0
LATTICE_ORIGIN_MM = np.array([-128.0, -160.0, -120.0])
LATTICE_SHAPE = (33, 37, 33)
# Width of the smoothing in mm and standard deviation: of the deformation's two parts in mm, of the log bias field.
DEFORMATIONS = ((24.0, 2.5), (10.0, 0.6))
BIAS = (40.0, 0.12)


def make_cohort(
    out: Path, num_scans: int = 60, seed: int = 0, size_mm: float = 2.0, num_workers: int | None = None
) -> Path:
    """Write a cohort: `out/scans/<group>/<id>.nii.gz`, a folder per class, and `out/labels.csv`.

    The table has the columns image (path relative to `out`), label (the group), patient (every scan its own) and split
    (`train` or `test`, two to one in each group). The same arguments write the same bytes, whatever `num_workers`.

    Args:
        out: Folder to write to; made where it is missing.
        num_scans: Number of scans, half of them in each group; at least 6.
        seed: Scan `i` is drawn from a generator keyed by `(seed, i)`.
        size_mm: Mean voxel size in mm, between 1 and 8; each scan varies around it.
        num_workers: Number of processes; `None` for one on every available core.

    Returns:
        The path of `labels.csv`.

    Raises:
        ConfigError: `num_scans` or `size_mm` is out of range.
        DataError: `out` already holds scans that are not of this cohort.
        MissingDependencyError: nilearn, which carries the average brain, is not installed.
    """
    _check(num_scans, size_mm)
    template_folder()
    rows = [_row(index) for index in range(num_scans)]
    _refuse_strangers(out, {row["image"] for row in rows})
    for group in GROUPS:
        (out / "scans" / group).mkdir(parents=True, exist_ok=True)
    jobs = [(out / row["image"], row["label"], seed, index, size_mm) for index, row in enumerate(rows)]
    _run(jobs, num_workers or _num_cores())
    table = out / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return table


def template_folder() -> Path:
    """Return the folder of nilearn that holds the ICBM152 images.

    Raises:
        MissingDependencyError: nilearn is not installed.
    """
    try:
        return Path(str(importlib.resources.files("nilearn"))) / "datasets" / "data"
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "the demonstration cohort needs nilearn, which carries the average brain",
            fix="run: pip install 'scanlore[demo]'",
        ) from error


def _check(num_scans: int, size_mm: float) -> None:
    if num_scans < 6:
        raise ConfigError(f"num_scans is {num_scans}", fix="ask for 6 or more, so that each group trains and tests")
    if not 1.0 <= size_mm <= 8.0:
        raise ConfigError(f"size_mm is {size_mm}", fix="ask for 1 to 8 mm")


def _row(index: int) -> dict[str, str]:
    group = GROUPS[index % len(GROUPS)]
    patient = f"sub-{index:03d}"
    split = "test" if (index // len(GROUPS)) % 3 == 2 else "train"
    return dict(zip(COLUMNS, (f"scans/{group}/{patient}.nii.gz", group, patient, split), strict=True))


def _refuse_strangers(out: Path, own: set[str]) -> None:
    for path in sorted((out / "scans").glob("**/*.nii.gz")):
        if path.relative_to(out).as_posix() not in own:
            raise DataError("this scan is not of the cohort to be written", where=path, fix="choose another folder")


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Job = tuple[Path, str, int, int, float]


def _run(jobs: list[Job], num_workers: int) -> None:
    if num_workers == 1:
        for job in jobs:
            _write_scan(job)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(min(num_workers, len(jobs)), mp_context=context) as pool:
        for _ in pool.map(_write_scan, jobs):
            pass


def _write_scan(job: Job) -> None:
    path, group, seed, index, size_mm = job
    voxels, affine = make_scan(group, np.random.default_rng([seed, index]), size_mm)
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    nib.save(image, path)


def make_scan(group: str, rng: np.random.Generator, size_mm: float) -> tuple[npt.NDArray[np.int16], Affine]:
    """Draw one scan.

    Args:
        group: One of `GROUPS`.
        rng: Decides everything else.
        size_mm: Mean voxel size in mm.

    Returns:
        Voxels `(X, Y, Z)`, nearly RAS+, and the (4, 4) map from their indices to MNI millimetres.
    """
    thick_axis = int(rng.integers(3)) if rng.random() < 0.4 else None
    shape, affine = _field_of_view(rng, size_mm, thick_axis)
    world = _world(shape, affine)
    image = _tissue(rng, _to_template(rng, world, group)) * np.exp(_fields(rng, world, 1, *BIAS)[0])
    if thick_axis is not None:
        image, affine = _merge_slices(image, affine, thick_axis)
    return _scanner_units(rng, image), affine


def _field_of_view(rng: np.random.Generator, size_mm: float, thick_axis: int | None) -> tuple[tuple[int, ...], Affine]:
    spacing = np.full(3, size_mm * rng.uniform(0.9, 1.1))
    low = BOX_LOW_MM - rng.uniform(0, 6, 3)
    high = BOX_HIGH_MM + rng.uniform(0, 6, 3)
    shape = np.ceil((high - low) / spacing).astype(int)
    if thick_axis is not None:
        shape[thick_axis] += shape[thick_axis] % 2
    tilt = Rotation.from_euler("xyz", np.clip(rng.normal(0, 3, 3), -8, 8), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt * spacing
    affine[:3, 3] = (low + high) / 2 - affine[:3, :3] @ ((shape - 1) / 2)
    return tuple(int(size) for size in shape), affine


def _world(shape: tuple[int, ...], affine: Affine) -> Floats:
    """Millimetres of every voxel, `(3, X, Y, Z)`."""
    columns = affine[:3, :3].astype(np.float32)
    steps = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in shape), indexing="ij", sparse=True)
    offset = affine[:3, 3].astype(np.float32)
    rows = [columns[row, 0] * steps[0] + columns[row, 1] * steps[1] + columns[row, 2] * steps[2] for row in range(3)]
    return np.asarray(np.stack(rows) + offset.reshape(3, 1, 1, 1), np.float32)


def _to_template(rng: np.random.Generator, world: Floats, group: str) -> Floats:
    """Where each point of this person's head lies in the template: size, smooth shape, ventricles."""
    middle = ((BOX_LOW_MM + BOX_HIGH_MM) / 2).astype(np.float32).reshape(3, 1, 1, 1)
    scale = rng.uniform(0.95, 1.05, (3, 1, 1, 1)).astype(np.float32)
    points = middle + (world - middle) * scale
    for smooth_mm, std_mm in DEFORMATIONS:
        points += _fields(rng, world, 3, smooth_mm, std_mm)
    strength = rng.normal(EXPANSION[group], EXPANSION_STD)
    return np.asarray(points - expansion(points, strength), np.float32)


def expansion(points: Floats, strength: float) -> Floats:
    """Displacement that makes the surroundings of the lateral ventricles appear larger.

    Around each of `VENTRICLES_MM` the head is magnified by `1 / (1 - strength)`, fading smoothly to nothing at
    `RADIUS_MM`; where two of them overlap, their displacements add.

    Args:
        points: `(3, ...)` in MNI millimetres.
        strength: Below 0.6 (the map is one to one); negative values shrink.

    Returns:
        What to subtract from `points` to know where to read the template; `(3, ...)` in mm.
    """
    moved = np.zeros_like(points)
    for middle in VENTRICLES_MM:
        away = points - np.asarray(middle, np.float32).reshape(3, *[1] * (points.ndim - 1))
        weight = np.clip(1 - (away**2).sum(0) / RADIUS_MM**2, 0, None) ** 2
        moved += np.float32(strength) * weight * away
    return moved


def _fields(rng: np.random.Generator, world: Floats, num_fields: int, smooth_mm: float, std: float) -> Floats:
    """Smooth random fields at the points `world`, `(num_fields, X, Y, Z)`."""
    sigma = smooth_mm / LATTICE_MM
    noise = rng.standard_normal((num_fields, *LATTICE_SHAPE), dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, sigma, sigma, sigma), mode="reflect")
    # White noise through a Gaussian keeps (2 sqrt(pi) sigma)^-3 of its variance.
    smooth *= std * (2 * np.sqrt(np.pi) * sigma) ** 1.5
    points = (world - LATTICE_ORIGIN_MM.astype(np.float32).reshape(3, 1, 1, 1)) / np.float32(LATTICE_MM)
    return np.stack([ndimage.map_coordinates(field, points, order=1, mode="nearest") for field in smooth])


@functools.cache
def _template() -> tuple[Floats, Floats, Floats, Affine]:
    """T1 intensity, grey matter and white matter, each 0 to 1 and cropped to the brain, and their common affine."""
    folder = template_folder()
    images = [nib.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz") for kind in ("t1", "gm", "wm")]
    arrays = [np.asarray(image.dataobj, dtype=np.float32) / 255 for image in images]
    box = ndimage.find_objects((arrays[0] > 0).astype(np.int8))[0]
    affine = images[0].affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    t1, grey, white = (np.ascontiguousarray(array[box]) for array in arrays)
    return t1, grey, white, affine


def _tissue(rng: np.random.Generator, points: Floats) -> Floats:
    """Read the template at `points`, with grey and white matter each a little darker or brighter."""
    t1, grey, white, affine = _template()
    changed = t1 + rng.normal(0, 0.04) * grey + rng.normal(0, 0.04) * white
    # The template's axes are those of its millimetres, so its affine is a step and an offset for each axis.
    steps = np.diag(affine)[:3].reshape(3, 1, 1, 1).astype(np.float32)
    offset = affine[:3, 3].reshape(3, 1, 1, 1).astype(np.float32)
    return np.asarray(ndimage.map_coordinates(changed, (points - offset) / steps, order=1, mode="constant"), np.float32)


def _merge_slices(image: Floats, affine: Affine, axis: int) -> tuple[Floats, Affine]:
    """Average neighbours two by two along an axis of even size: slices twice as thick."""
    shape = (*image.shape[:axis], image.shape[axis] // 2, 2, *image.shape[axis + 1 :])
    step, shift = np.eye(4), np.eye(4)
    step[axis, axis], shift[axis, 3] = 2, 0.5
    return image.reshape(shape).mean(axis + 1), affine @ shift @ step


def _scanner_units(rng: np.random.Generator, image: Floats) -> npt.NDArray[np.int16]:
    """Rician noise, as in magnitude images, and the arbitrary scale of a scanner."""
    noise = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(rng.uniform(0.01, 0.04))
    magnitude: Floats = np.hypot(image + noise[0], noise[1])
    units: npt.NDArray[np.int16] = np.rint(magnitude * np.float32(rng.uniform(400, 3000))).astype(np.int16)
    return units
