"""The models that are explained, and the principal components that their scans share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.errors import ModelError, ScanloreError

if TYPE_CHECKING:
    from scanlore.inference.cases import Case
    from scanlore.inference.patch_maps import PatchMaps
    from scanlore.modelfolder.model import Model
    from scanlore.reports.pca_basis import KeptBasis
    from scanlore.scans.find import Source
    from scanlore.scans.scan import Scan

FEWEST_TOKENS = 64
"""Patches of each scan that joint components are fitted on, at least."""


@dataclass(frozen=True)
class Subject:
    """One of the models.

    Attributes:
        name: What its files begin with.
        reference: As it was given.
        model: The model on its device.
        weights: Fingerprint of its weights.
        layer: Index of the layer to look at.
        basis: The components that all scans share; `None` where each has its own.
    """

    name: str
    reference: str
    model: Model
    weights: str
    layer: int
    basis: KeptBasis | None = None


def open_subjects(
    references: Sequence[str | Path], sources: Sequence[Source], layer: int | None, grid: int | None, device: str
) -> tuple[list[Subject], str]:
    """Open the models for the scans they are to see.

    Args:
        references: Model references.
        sources: The scans.
        layer: As in `explain`.
        grid: As in `explain`.
        device: As in `explain`.

    Returns:
        The models, and the name of the device.

    Raises:
        ConfigError: A model has no such layer, cannot take such a grid, or the device does not exist.
        ModelError: A model cannot be used, or has no features to explain.
    """
    from scanlore.backbones.pixels import Pixels
    from scanlore.inference.fingerprint import weights_fingerprint
    from scanlore.inference.open_model import open_model
    from scanlore.inference.patch_maps import check_grid, pick_layer

    subjects = []
    for reference, name in zip(references, _names([str(one) for one in references]), strict=True):
        model, device = open_model(reference, sources, device)
        if isinstance(model.backbone, Pixels):
            fix = "name a network, such as random:vit-small"
            raise ModelError("gives the scan itself: it has no features to explain", where=reference, fix=fix)
        check_grid(model, grid)
        fingerprint = weights_fingerprint(model)
        subjects.append(Subject(name, str(reference), model, fingerprint, pick_layer(model, layer)))
    return subjects, device


def _names(references: Sequence[str]) -> list[str]:
    """Return what the files of each model begin with: short, plain and unique."""
    names: list[str] = []
    for reference in references:
        kind, colon, rest = reference.partition(":")
        path = Path(rest if colon else reference)
        last = path.parent.name if path.name == "model" else path.name
        plain = re.sub(r"[^\w.-]+", "-", f"{kind}-{last}" if colon else last).strip(".-") or "model"
        number, chosen = 1, plain
        while chosen.casefold() in map(str.casefold, names):
            number += 1
            chosen = f"{plain}-{number}"
        names.append(chosen)
    return names


def with_bases(subjects: Sequence[Subject], given: Sequence[KeptBasis]) -> list[Subject]:
    """Give each model the basis that was fitted on its features.

    Raises:
        ModelError: A basis belongs to none of the models.
    """
    found = {(one.weights, one.layer): one for one in given}
    for one in given:
        if (one.weights, one.layer) not in {(subject.weights, subject.layer) for subject in subjects}:
            others = ", ".join(f"{subject.weights} layer {subject.layer}" for subject in subjects)
            what = f"the basis belongs to {one.model} (weights {one.weights}, layer {one.layer}), not to {others}"
            raise ModelError(what, where="basis", fix="use the model and the layer that it was fitted on")
    return [replace(subject, basis=found.get((subject.weights, subject.layer))) for subject in subjects]


def in_turn(cases: Sequence[Case], label: str) -> Iterator[Case]:
    """Yield scans under a progress bar."""
    from scanlore.progress import progress_bar

    with progress_bar(label, "scans") as advance:
        for number, case in enumerate(cases):
            advance(number, len(cases), case.name)
            yield case


def maps_of(subjects: Sequence[Subject], case: Case, grid: int | None, device: str) -> tuple[Scan, list[PatchMaps]]:
    """Read a scan, and compute what each model sees in it."""
    from scanlore.inference.patch_maps import patch_maps
    from scanlore.scans.read import read_scan

    scan = read_scan(case.sources[0])
    return scan, [patch_maps(subject.model, scan, subject.layer, grid, device) for subject in subjects]


def fit_joint(
    out: Path, subjects: Sequence[Subject], cases: Sequence[Case], grid: int | None, device: str
) -> list[Subject]:
    """Give the models without a basis one of all scans; the features are computed again for drawing, not held.

    Args:
        out: The run folder; what `write_bases` left there is taken up.
        subjects: The models.
        cases: The scans; those that cannot be used are passed over.
        grid: As in `explain`.
        device: Of the forward pass.
    """
    import numpy as np

    from scanlore.reports.pca import MOST_TOKENS, fit_basis, sample_tokens
    from scanlore.reports.pca_basis import KeptBasis, load_basis

    if all((out / basis_name(subject)).is_file() for subject in subjects):
        return [replace(subject, basis=load_basis(out / basis_name(subject))) for subject in subjects]
    open_ones = [subject for subject in subjects if subject.basis is None]
    samples: list[list[tuple[Any, Any]]] = [[] for _ in open_ones]
    for case in in_turn(cases if open_ones else (), "joint components"):
        try:
            found = maps_of(open_ones, case, grid, device)[1]
        except ScanloreError:
            continue  # noted when it is drawn
        for sample, maps in zip(samples, found, strict=True):
            sample.append(sample_tokens(maps.features, max(FEWEST_TOKENS, MOST_TOKENS // len(cases))))
    bases = {}
    for subject, sample in zip(open_ones, samples, strict=True):
        if sample:
            tokens, border = (np.concatenate(parts) for parts in zip(*sample, strict=True))
            kept = KeptBasis(fit_basis(tokens, border), subject.weights, subject.layer, subject.reference, len(sample))
            bases[subject.name] = kept
    return [replace(subject, basis=subject.basis or bases.get(subject.name)) for subject in subjects]


def basis_name(subject: Subject) -> str:
    """Return the file name of a model's components."""
    return f"{subject.name}_basis.npz"


def write_bases(out: Path, subjects: Sequence[Subject]) -> list[str]:
    """Write the components that all scans share into the run folder, and return the names of the files."""
    from scanlore.reports.pca_basis import save_basis

    shared = [subject for subject in subjects if subject.basis is not None]
    for subject in shared:
        assert subject.basis is not None
        save_basis(out / basis_name(subject), subject.basis)
    return [basis_name(subject) for subject in shared]
