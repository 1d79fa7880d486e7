"""Views: 3DINO's ten crops (2 x 96^3 + 8 x 48^3) of one scan on one core, against MONAI.

Ours reads from a store built here and ends with packed float16 tensors. MONAI starts from the whole foreground as float32
in memory (which 3DINO caches) and uses the transforms that 3DINO's users do: SpatialCrop, Resize (trilinear), RandFlip,
RandRotate90, then the photometric ones. The boxes come from the same distribution. MONAI runs twice, without its metadata
tracking (its fastest way, which the targets are about) and with it (its default, which 3DINO uses). Times are per scan,
each scan and visit at its best of a few interleaved repeats. The store holds several scans in turn, so that nothing
decoded for one call serves the next.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import Row, best_of, cpu_name, ms, print_table, set_threads

set_threads(1)

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import torch  # noqa: E402
from peers import MonaiViews  # noqa: E402

from scanlore.corpus.build import build  # noqa: E402
from scanlore.corpus.index import Corpus  # noqa: E402
from scanlore.corpus.settings import CorpusSettings  # noqa: E402
from scanlore.scans.find import find_sources  # noqa: E402
from scanlore.views.loader import LoaderPlan, make_batch, to_device  # noqa: E402
from scanlore.views.multicrop import MultiCropPolicy  # noqa: E402
from scanlore.views.settings import MultiCropSettings  # noqa: E402

SMALL, LARGE = (182, 218, 182), (512, 512, 300)
NUM_SMALL, NUM_LARGE, VISITS = 4, 2, 3
CPU = torch.device("cpu")
Voxels = npt.NDArray[np.int16]


def brain() -> Voxels:
    """Return the skull-stripped ICBM152 template that nilearn ships, or an ellipsoid of smooth noise without it."""
    try:
        from nilearn.datasets import load_mni152_template
    except ImportError:
        return _ellipsoid()
    values = np.asarray(load_mni152_template(resolution=1).dataobj, dtype=np.float32)
    starts = [(edge - wanted) // 2 for edge, wanted in zip(values.shape, SMALL, strict=True)]
    box = tuple(slice(start, start + wanted) for start, wanted in zip(starts, SMALL, strict=True))
    return np.rint(values[box] * (1000 / values.max())).astype(np.int16)


def _ellipsoid() -> Voxels:
    coarse = torch.from_numpy(np.random.default_rng(0).uniform(300, 1000, (1, 1, 12, 12, 12)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=SMALL, mode="trilinear")[0, 0].numpy()
    axes = np.meshgrid(*(np.linspace(-1.25, 1.25, edge) for edge in SMALL), indexing="ij", sparse=True)
    return np.where(sum(axis**2 for axis in axes) < 1, smooth, 0).astype(np.int16)


def upsampled(voxels: Voxels) -> Voxels:
    """Return a CT-like scan: the small one at 512 x 512 x 300 with 1 % noise everywhere."""
    values = torch.from_numpy(voxels.astype(np.float32))[None, None]
    large = torch.nn.functional.interpolate(values, size=LARGE, mode="trilinear")[0, 0].numpy()
    noise = np.random.default_rng(0).standard_normal(LARGE, dtype=np.float32)
    return np.rint(large + 0.01 * float(values.max()) * noise).astype(np.int16)


def write(voxels: Voxels, folder: Path, count: int, suffix: str) -> list[Path]:
    """Write `count` scans that differ in one voxel."""
    folder.mkdir()
    paths = []
    for number in range(count):
        voxels[0, 0, 0] = number
        paths.append(folder / f"scan{number}{suffix}")
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), paths[-1])
    return paths


def plan_of(folder: Path, out: Path) -> LoaderPlan:
    """Build the corpus of a folder and plan batches of one scan from it."""
    build(find_sources([folder])[0], out, CorpusSettings(), num_workers=1)
    return LoaderPlan(Corpus(out).select(), MultiCropPolicy(MultiCropSettings(), seed=0), patch_size=16, batch_size=1)


def per_scan(repeats: int, *functions: object) -> list[float]:
    """Return mean seconds per scan of functions of a visit number, every visit at its best."""
    visits = NUM_SMALL * VISITS
    sums = np.zeros(len(functions))
    for visit in range(visits):
        sums += best_of(repeats, *(lambda f=f, visit=visit: f(visit) for f in functions))  # type: ignore[misc]
    return [float(value) / visits for value in sums]


def compare_views(small: LoaderPlan, large: LoaderPlan, peer: MonaiViews, repeats: int) -> list[Row]:
    """Compare the loader's part, then the whole with photometric transforms."""
    device = cpu_name(1)
    crops = per_scan(
        repeats,
        lambda visit: make_batch(small, visit),
        lambda visit: peer.crops(visit, track_meta=False),
        lambda visit: peer.crops(visit, track_meta=True),
        lambda visit: make_batch(large, visit),
    )
    full = per_scan(
        repeats,
        lambda visit: to_device(make_batch(small, visit), CPU, clip=True),
        lambda visit: peer.augmented(visit, track_meta=False),
        lambda visit: peer.augmented(visit, track_meta=True),
    )
    ours, plain, meta, ours_large = crops
    name = f"ten crops of {'x'.join(map(str, small.scans.entry(0).scan_shape))}"
    name_large = f"ten crops of {'x'.join(map(str, large.scans.entry(0).scan_shape))}"
    return [
        Row(f"{name}: MONAI without metadata", ms(ours), ms(plain), plain / ours, ">= 2", device),
        Row(f"{name}: MONAI's default", ms(ours), ms(meta), meta / ours, ">= 2", device),
        Row(
            "the same and photometric: MONAI without metadata",
            ms(full[0]),
            ms(full[1]),
            full[1] / full[0],
            ">= 2",
            device,
        ),
        Row("the same and photometric: MONAI's default", ms(full[0]), ms(full[2]), full[2] / full[0], ">= 2", device),
        Row(f"{name_large}: the small scan", ms(ours_large), ms(ours), ours_large / ours, "<= 1.3", device),
    ]


def compare_store(path: Path, work: Path, repeats: int) -> list[Row]:
    """Compare size and build time of the store of one `.nii.gz` with the file, raw int16 and reading it."""
    sources, numbers = find_sources([path])[0], iter(range(repeats))

    def build_once() -> None:
        build(sources, work / f"store{next(numbers)}", CorpusSettings(), num_workers=1)

    seconds, reading = best_of(repeats, build_once, lambda: np.asanyarray(nib.load(path).dataobj))
    stored = sum(file.stat().st_size for file in (work / "store0" / "shards").iterdir())
    image = nib.load(path)
    raw = int(np.prod(image.shape)) * 2
    device = cpu_name(1)
    return [
        Row("store with its levels: size of the .nii.gz", _mb(stored), _mb(path.stat().st_size), stored / path.stat().st_size, "", device),
        Row("store with its levels: size as raw int16", _mb(stored), _mb(raw), stored / raw, "", device),
        Row("building it: nibabel's reading of the .nii.gz", ms(seconds), ms(reading), seconds / reading, "", device),
    ]  # fmt: skip


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=Path, help="a NIfTI file in place of the template")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        voxels = np.asanyarray(nib.load(arguments.scan).dataobj) if arguments.scan else brain()
        paths = write(np.ascontiguousarray(voxels).astype(np.int16), work / "small", NUM_SMALL, ".nii.gz")
        write(upsampled(np.asarray(voxels)), work / "large", NUM_LARGE, ".nii")
        small, large = (plan_of(work / name, work / f"{name}-corpus") for name in ("small", "large"))
        rows = compare_views(small, large, MonaiViews(paths[0]), arguments.repeats)
        rows += compare_store(paths[0], work, arguments.repeats)
        print_table(rows)


if __name__ == "__main__":
    main()
