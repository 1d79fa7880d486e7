"""The page of the demo: what was done and what was measured, whether it helped or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from scanlore.corpus.index import Corpus
from scanlore.corpus.place import corpus_salt
from scanlore.modelfolder.model import Model
from scanlore.modelfolder.reference import load_model
from scanlore.reports.figures import embedding_scatter, loss_curves, mid_slices, pca_panel, score_bars
from scanlore.reports.page import Section, write_page
from scanlore.reports.pca import pca_rgb_joint
from scanlore.scans.read import read_scan
from scanlore.scans.scan import Scan
from scanlore.training.metrics import read_rows
from scanlore.verbs.corpus_sources import find_given

if TYPE_CHECKING:
    from scanlore.tasks.classification import ClassificationTask
    from scanlore.verbs.pretrain import PretrainResult

PCA_GRID = 16
PCA_CAPTION = """Above the scan as the network sees it; below its patch features: the first principal component tells
the background (white), the next three are red, green and blue, the same for all scans."""
MADE = """The scans are made, not taken: brains deformed from the ICBM152 template, each with its own contrast,
bias field, noise and resolution. In half of them the ventricles are enlarged by a local deformation; the labels say
which."""
COMMANDS = """scanlore corpus build YOUR_SCANS --out C
scanlore pretrain C --recipe 3dino-vit-s --out R
scanlore embed R YOUR_SCANS --out embeddings.parquet
scanlore adapt R YOUR_LABELLED_FOLDER --protocol linear-probe --out A"""


def write_demo_page(
    path: Path,
    timings: list[dict[str, Any]],
    corpus: Path,
    scans: list[Path],
    run: PretrainResult,
    task: ClassificationTask | None,
    rows: list[dict[str, Any]],
    verdict: str,
    is_made: bool,
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        timings: Step and seconds.
        corpus: The corpus folder.
        scans: What it was built from.
        run: The pretraining run.
        task: The labels, where there are any.
        rows: Scores by protocol and model.
        verdict: Whether pretraining helped.
        is_made: Whether the scans are the made cohort.
    """
    sections = [Section("Did it help?", verdict, table=_score_table(rows))]
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        bars = [row for row in rows if row["protocol"] == protocol]
        figure = score_bars(bars, "AUROC on held-out scans")
        sections.append(Section(f"Scores: {protocol}", figure=figure, caption="Lines: 95 % bootstrap intervals."))
    examples = _examples(corpus, scans, task)
    sections += _scan_sections(examples, MADE if is_made else "")
    sections += _training_sections(run)
    sections += _feature_sections(path.parent, run, task, examples)
    sections.append(Section("Time", table=timings))
    sections.append(Section("With your own scans", COMMANDS))
    write_page(path, "Scanlore: from unlabelled scans to a tested model", sections)


def _score_table(rows: list[dict[str, Any]]) -> list[dict[str, object]] | None:
    table: list[dict[str, object]] = [
        {
            "protocol": row["protocol"],
            "model": row["model"],
            "AUROC": row["value"],
            "95 % interval": f"{row['low']:.3f} to {row['high']:.3f}",
            "test scans": row["test scans"],
        }
        for row in rows
        if row["value"] is not None
    ]
    return table or None


def _examples(corpus: Path, scans: list[Path], task: ClassificationTask | None) -> list[tuple[str, Scan]]:
    """Return one scan of each of the first two classes, or the first scan of the corpus."""
    if task is None:
        kept = set(Corpus(corpus).frame(["source", "status"]).filter(pl.col("status") == "kept")["source"])
        given = find_given(scans, lambda: corpus_salt(corpus, None)).sources
        return [("a scan of the corpus", read_scan(next(one.source for one in given if one.key in kept)))]
    found = []
    for label, name in enumerate(task.classes[:2]):
        case = next(case for case in task.cases if case.label == label)
        found.append((name, read_scan(case.image)))
    return found


def _scan_sections(examples: list[tuple[str, Scan]], text: str) -> list[Section]:
    return [
        Section(f"A scan: {name}", text, figure=_picture(scan), caption="Middle planes in radiological orientation.")
        for name, scan in examples
    ]


def _picture(scan: Scan) -> bytes:
    return mid_slices(scan.voxels[0].astype(np.float32), scan.spacing)


def _training_sections(run: PretrainResult) -> list[Section]:
    rows = read_rows(run.out / "metrics.jsonl")
    health = [
        {key: row[key] for key in ("step", "loss", "feature_std", "effective_rank", "teacher_entropy")}
        for row in rows
        if "feature_std" in row
    ]
    text = run.warnings[-1] if run.warnings else "No sign of collapse."
    terms = ("image_global", "image_local", "patch")
    return [
        Section("Pretraining", text, figure=loss_curves(rows, terms), caption="Loss and its terms by step."),
        Section("Health of the representation", table=health),
    ]


def _feature_sections(
    out: Path, run: PretrainResult, task: ClassificationTask | None, examples: list[tuple[str, Scan]]
) -> list[Section]:
    model = load_model(run.model)
    sections = []
    if task is not None:
        frame = pl.read_parquet(out / "embeddings.parquet").filter(pl.col("problem").is_null())
        labels = {case.image.as_posix(): task.classes[case.label] for case in task.cases if case.label is not None}
        frame = frame.filter(pl.col("source").is_in(list(labels)))
        scatter = embedding_scatter(frame["embedding"].to_numpy(), [labels[name] for name in frame["source"]])
        caption = "Embeddings of all scans, first two principal components."
        sections.append(Section("What it has learned", figure=scatter, caption=caption))
    shown = [(name, scan) for name, scan in examples if scan.ndim == model.preprocessing.ndim]
    return sections + _pca_sections(model, shown)


def _pca_sections(model: Model, shown: list[tuple[str, Scan]]) -> list[Section]:
    """Draw patch features on a finer grid than the model was trained on, in colours common to all scans."""
    patch = int(getattr(model.backbone, "patch_size", 1))
    finer = model.preprocessing.model_copy(update={"input_size": PCA_GRID * patch})
    views = [Model(model.name, model.backbone, finer).views(scan)[:1] for _, scan in shown]
    with torch.inference_mode():
        maps = [model.forward_features(view).maps[-1][0].float().numpy() for view in views]
    colours = pca_rgb_joint(maps) if maps else []
    return [
        Section(f"Patch features: {name}", figure=pca_panel(view[0, 0].numpy(), rgb), caption=PCA_CAPTION)
        for (name, _), view, rgb in zip(shown, views, colours, strict=True)
    ]
