"""The command line: parse, call the verb, print. Verbs are imported when they are called."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from scanlore.cli_corpus import corpus_app
from scanlore.cli_datasets import datasets_app
from scanlore.cli_options import AsJson, AssumeSpacing, Out, Paths, overrides_option
from scanlore.console import by, cell, metric, print_json, print_problems, print_rows, print_settings, print_table
from scanlore.errors import ScanloreError

HELP = """Turn a folder of unlabelled medical scans into a foundation model, adapt it with few labels, and prove whether
it helped. Not a medical device."""
app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
recipes_app = typer.Typer(help="Recipes: all settings of one run.", no_args_is_help=True)
models_app = typer.Typer(help="Models and the references that name them.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")
app.add_typer(datasets_app, name="datasets")
app.add_typer(recipes_app, name="recipes")
app.add_typer(models_app, name="models")

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...")]
Seed = Annotated[int, typer.Option("--seed", min=0)]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model reference, see `scanlore models list`.")]
TASK = """A folder per class, or a table of image and label; for segmentation a folder of the Medical Segmentation
Decathlon or nnU-Net, or a table of image and mask."""
PROTOCOL = "knn or linear-probe for classes; transfer or linear-decoder for segmentation."


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    # Read by `main`, which sees every error; declared here for --help
    if version:
        from scanlore.__about__ import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command()
def inspect(paths: Paths, assume_spacing: AssumeSpacing = None, as_json: AsJson = False) -> None:
    """Say what is here and what is wrong with it; writes nothing."""
    from scanlore.scans.failures import counted
    from scanlore.verbs.corpus_sources import parse_spacing
    from scanlore.verbs.inspect import inspect as verb

    result = verb(paths, parse_spacing(assume_spacing))
    if as_json:
        print_json(result)
        return
    rows = [row | {"shape": by(row["shape"]), "spacing": by(row["spacing"])} for row in result.scans]
    print_table(rows)
    print_problems(result.problems)
    others = f", {counted(len(result.skipped), 'other file')} skipped" if result.skipped else ""
    typer.echo(f"{counted(len(result.scans), 'scan')}, {len(result.problems)} with problems{others}")


@app.command()
def pretrain(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="Made by `scanlore corpus build`.")],
    out: Out,
    recipe: Annotated[str, typer.Option("--recipe", help="Name of a recipe, or path of a YAML file.")],
    overrides: Annotated[list[str] | None, overrides_option("optim.lr=1e-3; all: scanlore recipes show NAME")] = None,
    weights: Annotated[str | None, typer.Option("--weights", metavar="MODEL", help="The model to continue.")] = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print memory, batch, disk and time, run one step, write nothing.")
    ] = False,
) -> None:
    """Pretrain a backbone; the same command goes on with an interrupted run."""
    from scanlore.verbs.pretrain import pretrain as verb

    result = verb(corpus, recipe, out, overrides or [], device, weights, dry_run)
    _print_warnings(result.warnings)
    for stage in result.plan:
        print_table(stage.rows())
    if result.stopped_by:
        typer.echo(f"{out}: stopped by {result.stopped_by} behind step {result.steps}; the same command goes on")
    elif result.metrics:
        done = "was finished before" if result.state == "finished" else "finished"
        health = "  ".join(
            f"{key} {result.metrics[key]:.3f}"
            for key in ("loss", "feature_std", "effective_rank", "knn_accuracy")
            if key in result.metrics
        )
        typer.echo(f"{out}: {done}, {result.steps} steps  {health}")
        typer.echo(f"model: {result.model}")


@app.command()
def embed(
    model: Model,
    paths: Paths,
    out: Out,
    dense: Annotated[bool, typer.Option("--dense", help="Also write patch features of every scan.")] = False,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Views at a time.")] = 8,
) -> None:
    """Write one embedding per scan to a Parquet file."""
    from scanlore.verbs.embed import embed as verb

    result = verb(model, paths, out, dense=dense, device=device, batch_size=batch_size)
    print_problems(result.problems)
    done = "held these embeddings already" if result.already_done else "written"
    bad = f"{len(result.problems)} skipped" + (" (see the column problem)" if result.problems else "")
    others = f", {len(result.skipped)} other files" if result.skipped else ""
    typer.echo(f"{out}: {done}; {result.num_scans} scans, {result.dim} numbers each, {bad}{others}")
    if result.dense:
        typer.echo(f"patch features: {result.dense}")


@app.command()
def adapt(
    model: Model,
    task: Annotated[Path, typer.Argument(metavar="TASK", help=TASK)],
    out: Out,
    protocol: Annotated[str, typer.Option("--protocol", help=PROTOCOL)],
    recipe: Annotated[str | None, typer.Option("--recipe", help="Settings of the protocol.")] = None,
    overrides: Annotated[list[str] | None, overrides_option("k=5; all: scanlore recipes show NAME")] = None,
    labels: Annotated[str, typer.Option("--labels", help="Training scans with masks: all, 10, 0.1 or 10%.")] = "all",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Fit a model to labels and score it; writes trials, predictions and results."""
    from scanlore.verbs.adapt import adapt as verb

    result = verb(model, task, out, protocol, recipe, overrides or [], labels, seed, device)
    print_problems(list(result.problems.items()))
    _print_warnings(result.warnings)
    print_table([metric(row) for row in result.rows])
    counts = f"{result.num_train} train, {result.num_val} val, {result.num_test} test, {len(result.problems)} skipped"
    chosen = ", ".join(f"{key} {cell(value)}" for key, value in result.chosen.items())
    typer.echo(f"{counts}; patients {result.patients}; chosen: {chosen}")
    done = "was finished before" if result.already_finished else "finished"
    typer.echo(f"{out}: {done}; tables trials, predictions and results")


@app.command()
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run of `scanlore adapt` on a segmentation task.")],
    paths: Paths,
    out: Out,
    overlap: Annotated[float, typer.Option("--overlap", help="Share of a window its neighbour covers too.")] = 0.5,
    mirror: Annotated[bool, typer.Option(help="Average over mirror images: 8 passes in 3D, 4 in 2D.")] = True,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Windows at a time.")] = 1,
) -> None:
    """Write a mask for every scan, with the scan's own geometry."""
    from scanlore.scans.failures import counted
    from scanlore.verbs.predict import predict as verb

    result = verb(model, paths, out, overlap, mirror, device, batch_size)
    print_problems(result.problems)
    done = "was finished before" if result.already_finished else "finished"
    kept = f", {result.num_kept} of them from before" if result.num_kept else ""
    others = f", {len(result.skipped)} other files" if result.skipped else ""
    typer.echo(f"{out}: {done}; {counted(len(result.masks), 'mask')}{kept}, {len(result.problems)} skipped{others}")
    typer.echo("labels: " + ", ".join(f"{value} {name}" for value, name in result.labels.items()))


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="A folder of masks.")],
    task: Annotated[Path, typer.Argument(metavar="TASK", help="The segmentation task with the true masks.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; PREDICTIONS/evaluation by default.")
    ] = None,
    cases: Annotated[str, typer.Option("--cases", help="test, all or auto.")] = "auto",
    fold: Annotated[int | None, typer.Option("--fold", min=0, help="Of the task's splits_final.json.")] = None,
    tolerance: Annotated[float, typer.Option("--tolerance", help="Of the surface distance, mm.")] = 1.0,
    seed: Seed = 0,
) -> None:
    """Score masks: Dice, Jaccard, HD95 and NSD of every case and class."""
    from scanlore.verbs.evaluate import evaluate as verb

    result = verb(predictions, task, out, cases, fold, tolerance, seed)
    print_problems(list(result.problems.items()))
    print_table([metric(row) for row in result.rows])
    left_out = f", {result.num_left_out} that are no test cases left out" if result.num_left_out else ""
    typer.echo(f"{result.num_scored} {result.cases} cases scored{left_out}; patients {result.patients}")
    done = "was finished before" if result.already_done else "finished"
    typer.echo(f"{result.out}: {done}; tables trials, predictions and results")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="A folder of adapt, evaluate or predict.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Another one, scored on the same cases.")],
    metric_name: Annotated[str | None, typer.Option("--metric", help="dice, hd95, macro_auroc ...")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Say whether one trial is better than another on the same cases."""
    from scanlore.verbs.compare import compare as verb

    result = verb(first, second, metric_name, seed)
    if as_json:
        print_json(result)
        return
    _print_warnings(result.warnings)
    typer.echo(result.verdict)


@app.command()
def explain(
    model: Model,
    paths: Paths,
    out: Out,
    beside: Annotated[list[str] | None, typer.Option("--beside", help="Another model; may be repeated.")] = None,
    joint: Annotated[bool, typer.Option("--joint", help="Components common to all scans; kept for new ones.")] = False,
    basis: Annotated[
        list[Path] | None, typer.Option("--basis", help="Components kept earlier; may be repeated.")
    ] = None,
    layer: Annotated[int | None, typer.Option("--layer", help="Index of the layer; -1 is the last.")] = None,
    grid: Annotated[int | None, typer.Option("--grid", help="Patches along the longest edge.")] = None,
    device: Device = "auto",
) -> None:
    """Draw what models see in scans: components of patch features and [CLS] attention."""
    from scanlore.scans.failures import counted
    from scanlore.verbs.explain import explain as verb

    result = verb(model, paths, out, beside or [], joint, basis or [], layer, grid, device)
    print_problems(result.problems)
    done = "was finished before" if result.already_finished else "finished"
    kept = f", {result.num_kept} of them from before" if result.num_kept else ""
    others = f", {len(result.skipped)} other files" if result.skipped else ""
    typer.echo(f"{out}: {done}; {counted(len(result.scans), 'scan')}{kept}, {len(result.problems)} skipped{others}")
    for path in result.bases:
        typer.echo(f"components: {path}")
    typer.echo(f"page: {result.page}")


@app.command("export")
def export_model(
    model: Model,
    out: Out,
    format_name: Annotated[str, typer.Option("--format", help="dinov2 or safetensors.")] = "safetensors",
) -> None:
    """Write the weights of a model in another layout; a licence that forbids it is obeyed."""
    from scanlore.verbs.export import export as verb

    result = verb(model, out, format_name)
    done = "was written before" if result.already_done else "written"
    typer.echo(f"{result.out}: {done}; {result.num_tensors} tensors, format {result.format}, licence: {result.licence}")
    for line in result.untold:
        typer.echo(f"the file does not say: {line}")


@recipes_app.command("list")
def recipes_list(as_json: AsJson = False) -> None:
    """List the recipes that ship with Scanlore."""
    from scanlore.verbs.listing import list_recipes

    print_rows(list_recipes(), as_json)


@recipes_app.command("show")
def recipes_show(name: Annotated[str, typer.Argument(metavar="RECIPE")], as_json: AsJson = False) -> None:
    """Print a recipe with every default filled in."""
    from scanlore.verbs.listing import show_recipe

    print_settings(show_recipe(name), as_json)


@models_app.command("list")
def models_list(as_json: AsJson = False) -> None:
    """List the ways to name a model, and the networks."""
    from scanlore.verbs.listing import REFERENCES, list_models

    if as_json:
        print_json({"references": REFERENCES, "networks": list_models()})
        return
    print_table(REFERENCES)
    print_table(list_models())


@models_app.command("show")
def models_show(name: Annotated[str, typer.Argument(metavar="MODEL")], as_json: AsJson = False) -> None:
    """Print what is known of a network or of a model folder."""
    from scanlore.verbs.listing import show_model

    print_settings(show_model(name), as_json)


@app.command()
def demo(
    out: Out,
    data: Annotated[Path | None, typer.Option("--data", help="Your own scans: a folder per class, or a table.")] = None,
    device: Device = "auto",
) -> None:
    """Run the whole path in minutes: corpus, pretraining, embeddings, probe, one page."""
    from scanlore.verbs.demo import demo as verb

    result = verb(out, data, device)
    print_table(result.rows)
    typer.echo(result.verdict)
    typer.echo(f"page: {result.page}")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Print versions, devices and what is missing."""
    from scanlore.verbs.doctor import doctor as verb

    result = verb()
    if as_json:
        print_json(result)
        return
    print_table([{"package": name, "version": found} for name, found in result.versions.items()])
    print_table(result.devices)
    for line in result.missing:
        typer.echo(f"missing: {line}")


def _print_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def main() -> None:
    """Run the command line: exit code 2 and one line for what a user can mend, 1 for our defects."""
    # Threads that spin while they wait lose a whole time slice whenever another process wants their core: measured ten
    # times slower steps beside one busy process, against 1.3 times without spinning on an idle machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger().handlers[0].setLevel(logging.WARNING)  # the run's log is finer than the console
    debug = "--debug" in sys.argv
    try:
        code = app(standalone_mode=False)
    except ScanloreError as error:
        if debug:
            raise
        _end(str(error), 2)
    except Exception as error:
        if hasattr(error, "format_message"):
            _end_usage(error)
        if debug:
            raise
        _end(f"internal error: {type(error).__name__}: {error}{_log()} (--debug shows where)", 1)
    if code == 130:
        _end("interrupted; the same command goes on from here", code)
    sys.exit(code if isinstance(code, int) else 0)


def _end(message: str, code: int) -> NoReturn:
    typer.echo(f"scanlore: {message}", err=True)
    sys.exit(code)


def _end_usage(error: Any) -> NoReturn:
    """End with one line for a wrong call; a group called without a verb prints its help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(context.get_help() if context else error.format_message())
        sys.exit(2)
    path = context.command_path if context else "scanlore"
    _end(f"{' '.join(error.format_message().split())} (see `{path} --help`)", 2)


def _log() -> str:
    """Return where the log of a failed run is, as far as there is one."""
    outs = [after for flag, after in pairwise(sys.argv) if flag == "--out"]
    return f"; see {Path(outs[-1]) / 'run.log'}" if outs and (Path(outs[-1]) / "run.log").is_file() else ""
