"""The commands `scanlore datasets ...`: parse, call the verb, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanlore.console import print_json, print_rows, print_settings

datasets_app = typer.Typer(
    help="Public datasets: what there is, how to get it, how to use it.", no_args_is_help=True, add_completion=False
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A dataset, see `scanlore datasets list`.")]
Out = Annotated[Path, typer.Option("--out", help="Where to write.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@datasets_app.command("list")
def datasets_list(
    kind: Annotated[
        str | None, typer.Option("--kind", help="corpus, classification, multilabel or segmentation.")
    ] = None,
    modality: Annotated[str | None, typer.Option("--modality", help="A DICOM code: MR, CT, DX, US ...")] = None,
    access: Annotated[
        str | None, typer.Option("--access", help="open, registration, agreement, closed or unknown.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the datasets of the catalogue."""
    from scanlore.verbs.datasets import list_datasets as verb

    rows = verb(kind, modality, access)
    print_rows(rows, as_json)
    if not as_json and not rows:
        typer.echo("no dataset is all of this")


@datasets_app.command("show")
def datasets_show(name: Name, as_json: AsJson = False) -> None:
    """Print all that is known of a dataset, and what to do with it."""
    from scanlore.verbs.datasets import show_dataset as verb

    print_settings(verb(name), as_json)


@datasets_app.command("convert")
def datasets_convert(
    name: Name,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The dataset as published.")],
    out: Out,
    assume_spacing: Annotated[
        str | None, typer.Option("--assume-spacing", metavar="X,Y,Z", help="Voxel size in mm of volumes without one.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; one per core by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a corpus, or a task that `scanlore adapt` takes."""
    from scanlore.verbs.datasets import convert_dataset as verb

    result = verb(name, folder, out, assume_spacing, workers)
    if as_json:
        print_json(result)
        return
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    done = "was made before" if result.already_done else f"{result.num_cases} cases"
    made = str(result.made[0]) if len(result.made) == 1 else f"{len(result.made)} tables in {result.made[0].parent}"
    typer.echo(f"{made}: {done}")
    typer.echo(f"next: {result.next_command}")


@datasets_app.command("fetch")
def datasets_fetch(
    name: Name,
    out: Out,
    file: Annotated[str | None, typer.Option("--file", help="Which of its files; the first by default.")] = None,
    proxy: Annotated[str | None, typer.Option("--proxy", help="By default that of the environment.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download a dataset that has a direct link; the same command goes on with an interrupted download."""
    from scanlore.verbs.datasets import fetch_dataset as verb

    result = verb(name, out, file, proxy)
    if as_json:
        print_json(result)
        return
    fetched = result.file
    done = "was there before" if fetched.already_done else f"{fetched.num_bytes:,} bytes"
    checked = "checksum right" if fetched.is_checked else f"checksum not known; sha256 {fetched.sha256}"
    typer.echo(f"{fetched.path}: {done}, {checked}")
    for command in result.next_commands:
        typer.echo(f"next: {command}")
