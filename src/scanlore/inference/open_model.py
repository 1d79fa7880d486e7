"""Open a model for the scans it is to see, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scanlore.backbones.device import pick_device
from scanlore.errors import DataError
from scanlore.modelfolder.model import Model
from scanlore.modelfolder.reference import load_model
from scanlore.scans.find import Source
from scanlore.scans.read import read_scan
from scanlore.scans.scan import Scan


def open_model(reference: str | Path, sources: Sequence[Source | Path], device: str = "auto") -> tuple[Model, str]:
    """Load a model and show it the first readable scan, so that a model for other data is refused at once.

    Args:
        reference: Any model reference; one without dimension (`random:`, `pixels:`) takes that of the scan.
        sources: The scans; at least one.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Returns:
        The model on its device, and the device.

    Raises:
        ConfigError: The device does not exist.
        ModelError: The reference names no usable model.
        DataError: No scan can be read, or the model cannot see such scans.
    """
    name = str(pick_device(device))
    scan = _first_readable(sources)
    model = load_model(reference, device=name, ndim=scan.ndim)
    model.views(scan)
    return model, name


def _first_readable(sources: Sequence[Source | Path]) -> Scan:
    first: DataError | None = None
    for source in sources:
        try:
            return read_scan(source)
        except DataError as error:
            first = first or error
    raise first or DataError("no scans")
