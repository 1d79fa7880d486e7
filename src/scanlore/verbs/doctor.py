"""`scanlore doctor`: versions, devices, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from scanlore.__about__ import __version__

NEEDED = (
    "torch", "numpy", "nibabel", "SimpleITK", "pydicom", "pillow", "tifffile", "blosc2", "polars", "pydantic",
    "scikit-learn", "scipy", "safetensors", "matplotlib", "jinja2",
)  # fmt: skip
OPTIONAL = {"nilearn": "demo", "tensorboard": "tracking", "monai": "bench", "huggingface_hub": "zoo"}


@dataclass(frozen=True)
class DoctorResult:
    """The state of an installation.

    Attributes:
        versions: Of Python, Scanlore and the packages it needs.
        devices: Name, memory and precision of each device.
        missing: What is not there, and the line that mends it.
    """

    versions: dict[str, str]
    devices: list[dict[str, Any]]
    missing: list[str]


def doctor() -> DoctorResult:
    """Look at the installation."""
    versions = {"scanlore": __version__, "python": platform.python_version()}
    missing = []
    for package in NEEDED:
        found = _version(package)
        versions[package] = found or "missing"
        missing += [] if found else [f"{package}: pip install {package}"]
    for package, extra in OPTIONAL.items():
        versions[package] = _version(package) or "not installed"
        if find_spec(package) is None:
            missing.append(f"{package} (optional): pip install 'scanlore[{extra}]'")
    return DoctorResult(versions, _devices(), missing)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    import torch

    from scanlore.backbones.device import resolve_precision

    cpu = torch.device("cpu")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows: list[dict[str, Any]] = [
        {
            "device": "cpu",
            "name": platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "memory": f"{memory / 2**30:.0f} GiB",
            "precision": resolve_precision("auto", cpu),
            "disk free": f"{shutil.disk_usage('.').free / 2**30:.0f} GiB",
        }
    ]
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        precision = resolve_precision("auto", torch.device("cuda", index))
        size = f"{facts.total_memory / 2**30:.0f} GiB"
        rows.append({"device": f"cuda:{index}", "name": facts.name, "memory": size, "precision": precision})
    return rows
