"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Out = Annotated[Path, typer.Option("--out", help="Where to write.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders of scans.", show_default=False)]
SPACING_HELP = """For scans without usable geometry: `header` for the voxel sizes of the header, or millimetres along
the axes of the file, such as 1,1,3."""
AssumeSpacing = Annotated[str | None, typer.Option("--assume-spacing", metavar="SPACING", help=SPACING_HELP)]


def overrides_option(example: str) -> Any:
    """Return the option `--set`.

    Args:
        example: Shown in its help.
    """
    return typer.Option("--set", metavar="KEY=VALUE", help=f"A setting, e.g. {example}; may be repeated.")
