"""Open a model for the scans it is to see, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from scanlore.backbones.device import pick_device
from scanlore.errors import DataError, ScanloreError
from scanlore.inference.forward import source_name
from scanlore.modelfolder.model import Model
from scanlore.modelfolder.reference import load_model
from scanlore.scans.bad_scans import BadScans
from scanlore.scans.find import Source
from scanlore.scans.read import read_scan
from scanlore.scans.scan import Scan


def open_model(reference: str | Path, sources: Sequence[Source | Path], device: str = "auto") -> tuple[Model, str]:
    """Load a model and show it scans until it can see one, so that a model for other data is refused at once.

    Args:
        reference: Any model reference; one without dimension (`random:`, `pixels:`) takes that of the first readable
            scan.
        sources: The scans; at least one.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Returns:
        The model on its device, and the device.

    Raises:
        ConfigError: The device does not exist.
        ModelError: The reference names no usable model.
        DataError: No scan can be read, or the model can see none of them.
    """
    name = str(pick_device(device))
    bad = BadScans(len(sources))
    model: Model | None = None
    for source, scan in _readable(sources, bad):
        model = model or load_model(reference, device=name, ndim=scan.ndim)
        try:
            model.views(scan)
        except ScanloreError as error:
            bad.add(source_name(source), error)
        else:
            return model, name
    bad.check()
    raise DataError("no scans")


def _readable(sources: Sequence[Source | Path], bad: BadScans) -> Iterator[tuple[Source | Path, Scan]]:
    for source in sources:
        try:
            scan = read_scan(source)
        except DataError as error:
            bad.add(source_name(source), error)
        else:
            yield source, scan
