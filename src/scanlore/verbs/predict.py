"""The verb `predict`: a mask for every scan, with the scan's own geometry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.errors import ConfigError, ScanloreError
from scanlore.run import Run, check_run, write_atomically

if TYPE_CHECKING:
    from scanlore.inference.cases import Case
    from scanlore.modelfolder.segmenter import Segmenter


@dataclass(frozen=True)
class PredictResult:
    """What `predict` did.

    Attributes:
        out: The run folder, with the masks in it.
        masks: Name and mask of each case that could be predicted.
        labels: Name of each number in the masks.
        num_kept: Masks that were there already, from an interrupted run.
        problems: Name and reason of each scan that could not be predicted.
        skipped: Files that are no scans, with the reason.
        already_finished: Whether `out` held this very run, so that nothing was computed.
    """

    out: Path
    masks: dict[str, Path]
    labels: dict[int, str]
    num_kept: int
    problems: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[Path, str], ...]
    already_finished: bool


@dataclass(frozen=True)
class _Options:
    overlap: float
    mirror: bool
    batch_size: int
    device: str


def predict(
    model: str | Path,
    paths: Sequence[str | Path] | str | Path,
    out: str | Path,
    overlap: float = 0.5,
    mirror: bool = True,
    device: str = "auto",
    batch_size: int = 1,
) -> PredictResult:
    """Label every voxel of scans: masks of exactly the shape and affine of each scan's file.

    `out` gets `NAME.nii.gz` for a volume (a DICOM series too) and `NAME.png` for an image, `labels.json` with the names
    of the labels, `previews/NAME.png`, and the table `predictions.parquet`. Files called `NAME_0000`, `NAME_0001` ...
    are the channels of one scan for a model of several. Scans that cannot be used are skipped and say why.

    Args:
        model: The run folder of an adaptation to a segmentation task, or the model folder in it.
        paths: Files and folders to find scans in.
        out: The run folder. The same call again goes on with an interrupted run; other settings are refused.
        overlap: Share of a window that its neighbour covers as well: 0.5, or 0.75 for smoother masks at 8 times the
            cost in 3D; in [0, 1).
        mirror: Whether to average over mirror images: 8 passes in 3D, 4 in 2D, instead of one.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        batch_size: Windows that pass the network at once.

    Raises:
        ConfigError: An argument is wrong, or `out` holds something else.
        DataError: There are no scans, or not one can be predicted.
        ModelError: The model cannot be used.
    """
    _check(overlap, batch_size)
    from scanlore.backbones.device import pick_device
    from scanlore.inference.cases import group_cases
    from scanlore.inference.fingerprint import files_fingerprint, weights_fingerprint
    from scanlore.modelfolder.segmenter import load_segmenter
    from scanlore.scans.find import find_sources
    from scanlore.verbs.inspect import as_paths, no_scans

    options = _Options(overlap, mirror, batch_size, str(pick_device(device)))
    segmenter = load_segmenter(model, options.device)
    sources, skipped = find_sources(as_paths(paths))
    if not sources:
        raise no_scans(as_paths(paths), skipped)
    cases = group_cases(sources, segmenter.preprocessing.in_channels)
    weights = {"model": str(model), "weights": weights_fingerprint(segmenter)}
    config = weights | {
        "overlap": overlap,
        "mirror": mirror,
        "num_cases": len(cases),
        "files": files_fingerprint(cases),
    }
    is_finished = check_run(Path(out), "predict", config) == "finished"
    if not is_finished:
        run = Run(Path(out), "predict", config)
        with run.logging():
            _predict(run, segmenter, cases, options, config)
    return _result(Path(out), tuple(skipped), is_finished)


def _check(overlap: float, batch_size: int) -> None:
    if not 0 <= overlap < 1:
        raise ConfigError(f"must be 0 or more and below 1, got {overlap:g}", where="overlap", fix="0.5 is usual")
    if batch_size < 1:
        raise ConfigError(f"must be 1 or more, got {batch_size}", where="batch_size")


def _predict(run: Run, segmenter: Segmenter, cases: Sequence[Case], options: _Options, config: dict[str, Any]) -> None:
    from scanlore.evaluation.tables import write_table
    from scanlore.inference.cases import renamed
    from scanlore.inference.write_mask import write_label_names
    from scanlore.scans.bad_scans import BadScans

    labels = segmenter.preprocessing.labels
    write_label_names(run.out, labels)
    run.note(device=options.device, provenance=segmenter.facts.get("provenance", {}), labels=labels)
    run.note(renamed=renamed(cases))
    trial = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    bad, num_kept = BadScans(len(cases)), 0
    rows: list[dict[str, Any]] = []
    for case, mask, is_kept in _masks(run.out, segmenter, cases, options, bad):
        num_kept += is_kept
        rows.append({"trial": trial, "case": case.name, "mask": None if mask is None else mask.name})
    bad.check()
    write_table(run.out, "predictions", rows)
    run.note(num_kept=num_kept, problems=bad.problems)


def _masks(
    out: Path, segmenter: Segmenter, cases: Sequence[Case], options: _Options, bad: Any
) -> Iterator[tuple[Case, Path | None, bool]]:
    """Predict every case; yield its mask, `None` for one that cannot be used, and whether it was there already."""
    from scanlore.inference.write_mask import find_mask
    from scanlore.progress import progress_bar

    with progress_bar("predictions", "scans") as advance:
        for number, case in enumerate(cases):
            mask = find_mask(out / case.name)
            is_kept = mask is not None

            def progress(done: int, total: int, number: int = number, name: str = case.name) -> None:
                advance(number, len(cases), f"{name}: {done} of {total} windows")

            if mask is None:
                try:
                    mask = _predict_case(out, segmenter, case, options, progress)
                except ScanloreError as error:
                    bad.add(case.sources[0].name, error)
            advance(number + 1, len(cases))
            yield case, mask, is_kept


def _predict_case(out: Path, segmenter: Segmenter, case: Case, options: _Options, progress: Any) -> Path:
    from scanlore.inference.predict_scan import predict_scan
    from scanlore.inference.write_mask import write_mask
    from scanlore.reports.mask_preview import mask_preview
    from scanlore.scans.channels import read_channels

    scan = read_channels(case.sources, segmenter.preprocessing.in_channels)
    labels = predict_scan(
        segmenter,
        scan,
        overlap=options.overlap,
        mirror=options.mirror,
        batch_size=options.batch_size,
        device=options.device,
        progress=progress,
    )
    (out / "previews").mkdir(exist_ok=True)
    picture = mask_preview(scan.voxels[0], labels, segmenter.preprocessing.labels, scan.spacing)
    write_atomically(out / "previews" / f"{case.name}.png", picture)
    # Last, as a mask says that its case is done
    return write_mask(out / case.name, labels, scan)


def _result(out: Path, skipped: tuple[tuple[Path, str], ...], already_finished: bool) -> PredictResult:
    from scanlore.evaluation.tables import read_table

    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    rows = read_table(out, "predictions").iter_rows(named=True)
    return PredictResult(
        out=out,
        masks={row["case"]: out / row["mask"] for row in rows if row["mask"] is not None},
        labels={int(value): name for value, name in record["labels"].items()},
        num_kept=record["num_kept"],
        problems=tuple((name, reason) for name, reason in record["problems"]),
        skipped=skipped,
        already_finished=already_finished,
    )
