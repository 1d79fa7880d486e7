"""A report as one HTML file that needs no network: style and pictures are inside."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
        title: Its heading.
        text: Plain text; an empty line starts a new paragraph.
        table: Rows; the columns are the keys of all rows in the order they first appear.
        figure: A PNG.
        caption: Says what the figure shows; it also stands in for the figure where that cannot be seen.
    """

    title: str
    text: str = ""
    table: list[dict[str, object]] | None = None
    figure: bytes | None = None
    caption: str = ""


def templates(**filters: Callable[..., object]) -> Environment:
    """Return the templates of this package, which escape what they are given."""
    environment = Environment(
        loader=PackageLoader("scanlore.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment


def write_page(path: Path, title: str, sections: list[Section]) -> None:
    """Write a report; a reader of `path` sees the old page or the whole new one.

    Args:
        path: The HTML file; its folder is made where it is missing.
        title: Heading of the page.
        sections: Its parts, in order.
    """
    environment = templates(cell=_cell, columns=_columns, paragraphs=_paragraphs, png=_data_uri)
    environment.tests["numeric"] = _is_number
    text = environment.get_template("page.html.j2").render(title=title, sections=sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _columns(rows: list[dict[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> str:
    """A value as a reader wants it: four digits for measurements, a dash for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _data_uri(figure: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(figure).decode('ascii')}"
