"""2D pretraining on this CPU beside lightly-train's: images a second, and what is learned in equal wall time.

Both sides are whole programs, started one after the other with the same images and the same numbers of threads and
loader processes; neither is read or changed.

Speed: the same ViT-tiny with patches of 16, the same crops (2 of 224 and 6 of 96) and batch. A side is started twice,
for a short and for a longer run; what the further images took counts, so that starting, compiling and exporting do not.
Ours is DINOv2's objective, with the patch loss that DINO, which lightly-train has for any ViT, lacks.

What is learned: each side by its own settings (theirs: its defaults, batch 32; ours: the recipe `dinov2-vit-tiny-cpu`).
Theirs does as many steps as it can in the given minutes at the speed just measured, its schedule fitted to them and
starting not counted; ours those of the recipe, or fewer where they take longer. Judged on labelled images that neither
has seen: macro AUROC of the 20 nearest training images by cosine, for ours on the recipe's embedding, for theirs on the
better of [CLS] and mean patch token. Beside them both untrained networks, and the pixels. `--small-crops` lets
lightly-train train with our recipe's crops and patches besides.

lightly-train is AGPL and not needed by Scanlore: give the python of an environment of its own with
`pip install lightly-train timm`. `--images` is a folder of classes for training, `--test` one of the same classes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import Row, cpu_name, print_table, set_threads

PARSER = argparse.ArgumentParser(description=__doc__.splitlines()[0])
PARSER.add_argument("--lightly", type=Path, required=True, help="the python of an environment with lightly-train")
PARSER.add_argument("--images", type=Path, required=True, help="labelled images to train on, a folder a class")
PARSER.add_argument("--test", type=Path, required=True, help="labelled images to judge on")
PARSER.add_argument("--minutes", type=float, default=25, help="of each side's training; 0 measures speed alone")
PARSER.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
PARSER.add_argument("--small-crops", action="store_true", help="train lightly-train with our recipe's crops as well")
PARSER.add_argument("--work", type=Path, help="where to keep what is made; a temporary folder by default")
ARGUMENTS = PARSER.parse_args()
set_threads(ARGUMENTS.cores)

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from scanlore.adaptation.knn import fit_knn  # noqa: E402
from scanlore.adaptation.settings import KnnSettings  # noqa: E402
from scanlore.config import apply_overrides, load_recipe, validate  # noqa: E402
from scanlore.evaluation.metrics import macro_auroc  # noqa: E402
from scanlore.inference.extract import FeatureTable, extract  # noqa: E402
from scanlore.modelfolder.model import Model  # noqa: E402
from scanlore.modelfolder.reference import load_model  # noqa: E402
from scanlore.training.settings import PretrainSettings  # noqa: E402
from scanlore.views.settings import MultiCropSettings  # noqa: E402

RECIPE, BATCH = "dinov2-vit-tiny-cpu", 32
PROGRAM = Path(__file__).with_name("lightly_program.py")
SHORT, LONG = 2, 8
NUM_SPEED_IMAGES = 64
LARGE = {"patch_size": 16, "size": 224, "local_size": 96, "num_local": 6}
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """Images by class folder.

    Attributes:
        files: Of all classes.
        labels: Their classes.
    """

    files: list[Path]
    labels: npt.NDArray[np.int64] = field(repr=False)


def labelled(folder: Path) -> Labelled:
    """List a folder of classes."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = [(file, number) for number, name in enumerate(classes) for file in sorted((folder / name).iterdir())]
    return Labelled([file.absolute() for file, _ in files], np.array([number for _, number in files]))


def few_images(work: Path) -> Path:
    """Link some images, for the runs that measure speed."""
    few, out = labelled(ARGUMENTS.images).files, work / "few"
    out.mkdir()
    for number in np.linspace(0, len(few) - 1, NUM_SPEED_IMAGES).astype(int):
        (out / f"{number}{few[number].suffix}").symlink_to(few[number].resolve())
    return out


def called(command: list[str], log: Path) -> float:
    """Run a program and return its seconds; what it says goes to a file."""
    began = time.perf_counter()
    with log.open("w") as said:
        done = subprocess.run(command, stdout=said, stderr=said, check=False, cwd=log.parent)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} ended with {done.returncode}:\n{log.read_text()[-3000:]}")
    return time.perf_counter() - began


def num_workers() -> int:
    """Return the loader processes of either side: one core stays with the training."""
    return int(ARGUMENTS.cores) - 1


def train_ours(corpus: Path, out: Path, steps: int, overrides: list[str]) -> float:
    """Pretrain and return seconds."""
    settings = [f"training.steps={steps}", f"training.num_workers={num_workers()}", "health.every=0", *overrides]
    command = [sys.executable, "-m", "scanlore", "pretrain", str(corpus), "--recipe", RECIPE, "--out", str(out)]
    return called(command + [word for value in settings for word in ("--set", value)], out.with_suffix(".txt"))


def train_theirs(images: Path, out: Path, epochs: int, precision: str, sizes: dict[str, int]) -> float:
    """Pretrain with lightly-train and return seconds."""
    facts = {"out": str(out), "images": str(images), "epochs": epochs, "batch_size": BATCH, "precision": precision}
    return run_theirs("train", facts | {"num_workers": num_workers()} | sizes, out)


def run_theirs(verb: str, facts: dict[str, Any], out: Path) -> float:
    """Run the program of the other environment."""
    work = out.with_suffix(f".{verb}.json")
    work.write_text(json.dumps(facts))
    return called([str(ARGUMENTS.lightly.absolute()), str(PROGRAM), verb, str(work)], out.with_suffix(f".{verb}.txt"))


def large_crops(precision: str) -> list[str]:
    """Return overrides that make our recipe lightly-train's sizes."""
    size, patch = LARGE["size"], LARGE["patch_size"]
    return [
        f"backbone.patch_size={patch}",
        f"backbone.image_size={size}",
        f"views.global_crops.size={size}",
        f"views.local_crops.size={LARGE['local_size']}",
        f"views.local_crops.number={LARGE['num_local']}",
        f"training.batch_size={BATCH}",
        f"training.precision={precision}",
    ]


def our_speed(corpus: Path, out: Path, overrides: list[str], short: int, long: int, batch: int) -> float:
    """Return our images a second: what the further steps of the longer run took."""
    seconds = [train_ours(corpus, out.with_name(f"{out.name}-{steps}"), steps, overrides) for steps in (short, long)]
    return (long - short) * batch / (seconds[1] - seconds[0])


def their_speed(images: Path, out: Path, precision: str, sizes: dict[str, int]) -> float:
    """Return lightly-train's images a second."""
    epochs = [steps * BATCH // NUM_SPEED_IMAGES for steps in (SHORT, LONG)]
    seconds = [train_theirs(images, out.with_name(f"{out.name}-{n}"), n, precision, sizes) for n in epochs]
    return (LONG - SHORT) * BATCH / (seconds[1] - seconds[0])


def speed_rows(corpus: Path, work: Path) -> Iterator[Row]:
    """Measure and yield images a second in both precisions; the sides take turns."""
    few = few_images(work)
    for ours, theirs, target in (("bf16", "bf16-mixed", ">= 1.2"), ("fp32", "32-true", "")):
        our = our_speed(corpus, work / f"speed-ours-{ours}", large_crops(ours), SHORT, LONG, BATCH)
        their = their_speed(few, work / f"speed-theirs-{ours}", theirs, LARGE)
        claim = f"images/s, ViT-tiny/16, 224/96, batch {BATCH}, {ours} / lightly-train's DINO"
        yield Row(claim, f"{our:.2f}", f"{their:.2f}", our / their, target, cpu_name(ARGUMENTS.cores))


def knn_auroc(embeddings: Floats, sets: tuple[Labelled, Labelled]) -> float:
    """Return the macro AUROC of 20 nearest neighbours; embeddings of the images to train on come first."""
    count = len(sets[0].files)
    train, test = (
        FeatureTable(tuple(map(str, images.files)), (), rows, rows, (1,) * len(rows))
        for images, rows in zip(sets, (embeddings[:count], embeddings[count:]), strict=True)
    )
    return float(macro_auroc(sets[1].labels, fit_knn(KnnSettings(), train, sets[0].labels).predict(test)))


def judge_ours(model: Model, sets: tuple[Labelled, Labelled]) -> float:
    """Return the score of a model of ours, with the embedding it asks for."""
    files = [file for images in sets for file in images.files]
    return knn_auroc(extract(model, files, device="cpu", max_bad=0.0).embedding, sets)


def judge_theirs(out: Path, weights: Path | None, sizes: dict[str, int], sets: tuple[Labelled, Labelled]) -> float:
    """Return the better score of lightly-train's [CLS] and mean patch token."""
    names = [str(file) for images in sets for file in images.files]
    facts = {"files": names, "weights": str(weights) if weights else None, "features": str(out.with_suffix(".npz"))}
    run_theirs("embed", facts | sizes, out)
    features = np.load(out.with_suffix(".npz"))
    return max(knn_auroc(features[name], sets) for name in ("cls", "mean"))


def recipe_settings() -> PretrainSettings:
    """Return our recipe."""
    return validate(PretrainSettings, apply_overrides(load_recipe(RECIPE, "pretrain"), []), RECIPE)


def trained_ours(corpus: Path, work: Path) -> tuple[Path, float]:
    """Train by the recipe, for no more than the given minutes; returns the run folder and the minutes that it took."""
    training, out = recipe_settings().training, work / "ours"
    speed = our_speed(corpus, work / "pace-ours", [], 10, 40, training.batch_size)
    steps = max(1, min(training.steps, round(ARGUMENTS.minutes * 60 * speed / training.batch_size)))
    return out, train_ours(corpus, out, steps, []) / 60


def trained_theirs(work: Path, name: str, sizes: dict[str, int]) -> tuple[Path, float]:
    """Train lightly-train for the given minutes; returns its exported weights and the minutes that it took."""
    out, count = work / name, len(labelled(ARGUMENTS.images).files)
    speed = their_speed(work / "few", work / f"pace-{name}", "bf16-mixed", sizes)
    epochs = max(1, round(ARGUMENTS.minutes * 60 * speed / (count // BATCH * BATCH)))
    minutes = train_theirs(ARGUMENTS.images.absolute(), out, epochs, "bf16-mixed", sizes) / 60
    return out / "exported_models" / "exported_last.pt", minutes


def small_crops() -> dict[str, int]:
    """Return our recipe's sizes for lightly-train."""
    views, backbone = recipe_settings().views, recipe_settings().backbone
    assert isinstance(views, MultiCropSettings)
    sizes = {"patch_size": backbone.patch_size, "size": views.global_crops.size}
    return sizes | {"local_size": views.local_crops.size, "num_local": views.local_crops.number}


def learning_rows(corpus: Path, work: Path) -> Iterator[Row]:
    """Train both sides and yield their scores."""
    sets, device = (labelled(ARGUMENTS.images), labelled(ARGUMENTS.test)), cpu_name(ARGUMENTS.cores)
    run, minutes = trained_ours(corpus, work)
    ours = judge_ours(load_model(run), sets)
    for reference, name in ((f"random:{run}", "untrained, ours"), ("pixels:32", "pixels, 32x32")):
        peer = judge_ours(load_model(reference, ndim=2), sets)
        yield Row(f"kNN AUROC, {minutes:.0f} min / {name}", f"{ours:.3f}", f"{peer:.3f}", ours / peer, "", device)
    for name, sizes in {"lightly": LARGE, "lightly-small": small_crops() if ARGUMENTS.small_crops else {}}.items():
        if not sizes:
            continue
        untrained = judge_theirs(work / f"{name}-untrained", None, sizes, sets)
        weights, their_minutes = trained_theirs(work, name, sizes)
        theirs = judge_theirs(work / f"{name}-judged", weights, sizes, sets)
        what = f"lightly-train, {sizes['size']}/{sizes['local_size']}, patch {sizes['patch_size']}"
        claim = f"kNN AUROC, {minutes:.0f} min / {what}, {their_minutes:.0f} min"
        yield Row(claim, f"{ours:.3f}", f"{theirs:.3f}", ours / theirs, ">= 1.0", device)
        yield Row(f"kNN AUROC / {what}, untrained", f"{ours:.3f}", f"{untrained:.3f}", ours / untrained, "", device)


def measure(work: Path) -> list[Row]:
    """Measure everything."""
    corpus = work / "corpus"
    command = [sys.executable, "-m", "scanlore", "corpus", "build", str(ARGUMENTS.images.absolute())]
    called([*command, "--out", str(corpus)], work / "corpus.txt")
    rows = list(speed_rows(corpus, work))
    return rows + (list(learning_rows(corpus, work)) if ARGUMENTS.minutes else [])


def main() -> None:
    """Measure and print."""
    if ARGUMENTS.work:
        ARGUMENTS.work.mkdir(parents=True)
        print_table(measure(ARGUMENTS.work.absolute()))
        return
    with tempfile.TemporaryDirectory() as folder:
        print_table(measure(Path(folder)))


if __name__ == "__main__":
    main()
