"""The verb `explain`: what models see in scans, as colours and maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.errors import ScanloreError
from scanlore.run import Run, check_place, check_run, write_atomically
from scanlore.verbs.explain_models import (
    Subject,
    basis_name,
    fit_joint,
    in_turn,
    maps_of,
    open_subjects,
    with_bases,
    write_bases,
)

if TYPE_CHECKING:
    from scanlore.inference.cases import Case
    from scanlore.inference.patch_maps import PatchMaps
    from scanlore.reports.explain_panel import Seen
    from scanlore.reports.pca_basis import KeptBasis
    from scanlore.scans.scan import Scan


@dataclass(frozen=True)
class ExplainResult:
    """What `explain` did.

    Attributes:
        out: The run folder.
        page: The HTML page.
        scans: For each scan that could be used the folder of its files.
        bases: Files of the components that are common to all scans; none where each scan has its own.
        num_kept: Scans that were done already, from an interrupted run.
        problems: Name and reason of each scan that could not be used.
        skipped: Files that are no scans, with the reason.
        already_finished: Whether `out` held this very run, so that nothing was computed.
    """

    out: Path
    page: Path
    scans: dict[str, Path]
    bases: tuple[Path, ...]
    num_kept: int
    problems: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[Path, str], ...]
    already_finished: bool


def explain(
    model: str | Path,
    paths: Sequence[str | Path] | str | Path,
    out: str | Path,
    beside: Sequence[str | Path] = (),
    joint: bool = False,
    basis: Sequence[str | Path] | str | Path = (),
    layer: int | None = None,
    grid: int | None = None,
    device: str = "auto",
) -> ExplainResult:
    """Draw what models see in scans: principal components of patch features, and the attention of the [CLS] token.

    `out` gets `report.html`, and for each scan a folder `scans/NAME` with `panel.png`, `MODEL_heads.png`, and on the
    scan's own grid `MODEL_pca.nii.gz` and `MODEL_attention.nii.gz` (PNG for images), `MODEL_maps.npz` and
    `MODEL_basis.npz`. Networks without attention (CNNs) have components alone.

    Args:
        model: A model reference.
        paths: Files and folders to find scans in.
        out: The run folder. The same call again goes on with an interrupted run; other settings are refused.
        beside: References of further models, drawn beside the first.
        joint: Whether all scans share their components, so that equal colours are equal features; they are kept in
            `MODEL_basis.npz`. Without it each scan has its own, as in the 3DINO paper.
        basis: Files of components kept earlier, for any of the models, to draw new scans in known colours.
        layer: Index of the layer, negative from the end. `None` is the last block of a transformer, and of a CNN the
            deepest map with at most 8 voxels a cell.
        grid: Patches along the longest edge of what the model sees; `None`: as many as the scan's voxels allow, from
            the model's own to 16 in 3D and 32 in 2D.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        ConfigError: An argument is wrong, or `out` holds something else.
        DataError: There are no scans, or not one can be used.
        ModelError: A model or a basis cannot be used.
    """
    from scanlore.inference.cases import group_cases
    from scanlore.reports.pca_basis import load_basis
    from scanlore.scans.find import find_sources
    from scanlore.verbs.inspect import as_paths, no_scans

    out = Path(out)
    check_place(out)
    given = [load_basis(path) for path in ([Path(basis)] if isinstance(basis, str | Path) else map(Path, basis))]
    sources, skipped = find_sources(as_paths(paths))
    if not sources:
        raise no_scans(as_paths(paths), skipped)
    subjects, device = open_subjects([model, *beside], sources, layer, grid, device)
    subjects = with_bases(subjects, given)
    cases = group_cases(sources, 1)
    config = _config(subjects, cases, joint=joint, grid=grid)
    is_finished = check_run(out, "explain", config) == "finished"
    if not is_finished:
        run = Run(out, "explain", config)
        with run.logging():
            _explain(run, subjects, cases, joint, grid, device)
    return _result(out, tuple(skipped), is_finished)


def _config(subjects: Sequence[Subject], cases: Sequence[Case], **options: Any) -> dict[str, Any]:
    from scanlore.inference.fingerprint import digest, files_fingerprint

    models = [{"model": one.reference, "weights": one.weights, "layer": one.layer} for one in subjects]
    bases = [None if one.basis is None else digest(one.basis.basis.axes.tolist()) for one in subjects]
    return {"models": models, "bases": bases, **options, "num_cases": len(cases), "files": files_fingerprint(cases)}


def _explain(
    run: Run, subjects: Sequence[Subject], cases: Sequence[Case], joint: bool, grid: int | None, device: str
) -> None:
    from scanlore.reports.explain_page import FACTS, write_explain_page
    from scanlore.scans.bad_scans import BadScans

    run.note(device=device)
    if joint:
        subjects = fit_joint(run.out, subjects, cases, grid, device)
    bases = write_bases(run.out, subjects)
    bad, num_kept = BadScans(len(cases)), 0
    for case in in_turn(cases, "explaining"):
        folder = run.out / "scans" / case.name
        is_kept = (folder / FACTS).is_file()
        num_kept += is_kept
        try:
            if not is_kept:
                _explain_case(folder, subjects, case, grid, device)
        except ScanloreError as error:
            bad.add(case.sources[0].name, error)
    bad.check()
    write_explain_page(run.out, [_described(subject) for subject in subjects], bad.problems)
    run.note(num_kept=num_kept, problems=bad.problems, bases=bases)


def _explain_case(folder: Path, subjects: Sequence[Subject], case: Case, grid: int | None, device: str) -> None:
    from scanlore.reports.explain_files import write_seen
    from scanlore.reports.explain_page import FACTS, PANEL
    from scanlore.reports.explain_panel import draw_heads, draw_panel
    from scanlore.reports.pca_basis import save_basis

    scan, found = maps_of(subjects, case, grid, device)
    seen, own = zip(*(_seen(subject, maps) for subject, maps in zip(subjects, found, strict=True)), strict=True)
    folder.mkdir(parents=True, exist_ok=True)
    for subject, one, fitted in zip(subjects, seen, own, strict=True):
        write_seen(folder, scan, one)
        if one.attention is not None:
            write_atomically(folder / f"{subject.name}_heads.png", draw_heads(scan, one))
        if subject.basis is None:
            save_basis(folder / basis_name(subject), fitted)
    write_atomically(folder / PANEL, draw_panel(scan, seen))
    notes = ["Of several channels the first is shown."] if scan.num_channels > 1 else []
    facts = {"ndim": scan.ndim, "notes": notes, "models": [_measured(one, scan) for one in seen]}
    # Last, as it says that the scan is done
    write_atomically(folder / FACTS, json.dumps(facts, indent=2))


def _seen(subject: Subject, maps: PatchMaps) -> tuple[Seen, KeptBasis]:
    from scanlore.reports.explain_panel import Seen
    from scanlore.reports.pca import fit_basis, sample_tokens
    from scanlore.reports.pca_basis import KeptBasis

    kept = subject.basis
    if kept is None:
        fitted = fit_basis(*sample_tokens(maps.features))
        kept = KeptBasis(fitted, subject.weights, subject.layer, subject.reference, 1)
    scores = kept.basis.scores(maps.features)
    return Seen(subject.name, scores, kept.basis, maps.attention, maps.lattice), kept


def _measured(seen: Seen, scan: Scan) -> dict[str, Any]:
    """Return a row on what a model sees in a scan."""
    from scanlore.inference.lattice import seen_share

    return {
        "model": seen.name,
        "patches": " x ".join(map(str, seen.lattice.grid)),
        "of the scan seen": f"{seen_share(seen.lattice, scan.shape):.0%}",
        "drawn as foreground": f"{seen.basis.foreground(seen.scores).mean():.0%}",
        "variance of components 1 to 4": ", ".join(f"{share:.0%}" for share in seen.basis.shares),
        "heads": "no attention" if seen.attention is None else len(seen.attention),
    }


def _described(subject: Subject) -> dict[str, object]:
    from scanlore.inference.attention import has_attention

    is_transformer = has_attention(subject.model.backbone)
    return {
        "model": subject.name,
        "reference": subject.reference,
        "weights": subject.weights,
        "layer": f"{subject.layer} of 0 to {subject.model.num_layers - 1}",
        "components": "of each scan" if subject.basis is None else f"of {subject.basis.num_scans} scans together",
        "attention": "of each head" if is_transformer else "none: a CNN has no attention",
    }


def _result(out: Path, skipped: tuple[tuple[Path, str], ...], already_finished: bool) -> ExplainResult:
    from scanlore.reports.explain_page import FACTS

    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    folders = sorted(path.parent for path in (out / "scans").glob(f"*/{FACTS}"))
    return ExplainResult(
        out=out,
        page=out / "report.html",
        scans={folder.name: folder for folder in folders},
        bases=tuple(out / name for name in record["bases"]),
        num_kept=record["num_kept"],
        problems=tuple((name, reason) for name, reason in record["problems"]),
        skipped=skipped,
        already_finished=already_finished,
    )
