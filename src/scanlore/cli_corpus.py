"""The commands of `scanlore corpus`: parse, call the verb, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanlore.cli_options import AsJson, AssumeSpacing, Out, overrides_option
from scanlore.console import print_json, print_problems, print_table

if TYPE_CHECKING:
    from scanlore.verbs.corpus_build import FlagsResult

corpus_app = typer.Typer(help="Build, curate and look at corpora.", no_args_is_help=True)

CorpusFolder = Annotated[Path, typer.Argument(metavar="CORPUS", help="Made by `scanlore corpus build`.")]
NamedPaths = Annotated[
    list[str],
    typer.Argument(metavar="[NAME=]PATH...", help="Files and folders; NAME= names their dataset.", show_default=False),
]
RULES_HELP = "default, 3dino, s3d, or a YAML file: which scans are kept."
Rules = Annotated[str | None, typer.Option("--rules", metavar="RULES", help=RULES_HELP)]
Overrides = Annotated[list[str] | None, overrides_option("slices_above=48")]
SALT_HELP = "File with the secret of your project; `scanlore.salt` beside the corpus by default."
Salt = Annotated[Path | None, typer.Option("--salt", metavar="FILE", help=SALT_HELP)]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; one per core by default.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be kept and dropped; write nothing.")]


@corpus_app.command("build")
def corpus_build(
    paths: NamedPaths,
    out: Out,
    rules: Rules = None,
    overrides: Overrides = None,
    workers: Workers = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers read instead.")
    ] = None,
    assume_spacing: AssumeSpacing = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence of the scans.")] = None,
    salt: Salt = None,
    dry_run: DryRun = False,
) -> None:
    """Index, store and curate scans; resumable, and a no-op when nothing is new."""
    from scanlore.scans.failures import counted
    from scanlore.verbs.corpus_build import build_corpus, preview_corpus

    if dry_run:
        _print_flags(preview_corpus(paths, out, overrides or [], rules, assume_spacing, salt), out)
        return
    result = build_corpus(paths, out, overrides or [], workers, rules, scheduler, assume_spacing, salt, licence)
    print_problems(result.failed)
    new = counted(result.num_new, "new source") if result.num_new else "nothing new"
    gone = f", {result.num_gone} source{'s are' if result.num_gone > 1 else ' is'} gone" if result.num_gone else ""
    others = f", {counted(len(result.skipped), 'other file')} skipped" if result.skipped else ""
    typer.echo(f"{out}: {new}; {_listed(result.counts)}{gone}{others}")


@corpus_app.command("curate")
def corpus_curate(
    corpus: CorpusFolder,
    rules: Rules = None,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Decide anew which scans are kept; takes seconds and reads no scan."""
    from scanlore.verbs.corpus_build import curate_corpus

    result = curate_corpus(corpus, rules, overrides or [], dry_run)
    print_json(result) if as_json else _print_flags(result, corpus)


@corpus_app.command("join")
def corpus_join(
    corpus: CorpusFolder,
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV, TSV, Parquet, participants.tsv, dataset.json.")],
    key: Annotated[str | None, typer.Option("--key", help="Column of the table that names scans or patients.")] = None,
    on: Annotated[
        str | None, typer.Option("--on", help="What it names: patient, study, series, file or relative (path).")
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="E.g. sex=Geschlecht; may be repeated.")
    ] = None,
    salt: Salt = None,
    as_json: AsJson = False,
) -> None:
    """Add what a table knows (sex, age, modality, dataset, licence, split ...) to the index."""
    from scanlore.verbs.corpus_change import join_table, pairs

    result = join_table(corpus, table, key, on, pairs(columns or []), salt)
    if as_json:
        print_json(result)
        return
    seen = dict.fromkeys([*result.columns, *result.unknown])
    counts = {name: (result.columns.get(name, 0), result.unknown.get(name, 0)) for name in seen}
    print_table([{"column": name, "rows": rows, "unknown": bad} for name, (rows, bad) in counts.items() if rows or bad])
    unused = f"{result.num_table_rows_unused} rows of the table unused"
    typer.echo(f"{corpus}: {result.num_rows_matched} rows matched by {result.on}; {unused}")


@corpus_app.command("split")
def corpus_split(
    corpus: CorpusFolder,
    by: Annotated[str, typer.Option("--by", help="patient, site or scan: what stays together.")] = "patient",
    how: Annotated[str, typer.Option("--how", help="random, systematic, or official (as joined).")] = "random",
    fractions: Annotated[
        str | None, typer.Option("--fractions", metavar="NAME=SHARE,...", help="train=0.8,val=0.1,test=0.1 by default.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    table: Annotated[Path | None, typer.Option("--table", help="A table that gives the parts instead.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Its column that names scans or patients.")] = None,
    column: Annotated[str, typer.Option("--column", help="Its column that names the parts.")] = "split",
    salt: Salt = None,
    as_json: AsJson = False,
) -> None:
    """Split the scans, patients and copies never across; `pretrain --set data.split=train` uses a part."""
    from scanlore.verbs.corpus_split import parse_fractions, split_corpus

    result = split_corpus(corpus, by, how, parse_fractions(fractions), seed, table, key, column, salt)
    if as_json:
        print_json(result)
        return
    units = "scans" if by == "scan" else f"{by}s"
    print_table(
        [{"split": name, "rows": rows, units: result.num_units[name]} for name, rows in result.num_rows.items()]
    )
    facts = {
        f"of unknown {by}": result.num_unknown if by != "scan" else 0,
        "without a split": result.num_unassigned,
    }
    listed = "".join(f"; {count} kept rows {what}" for what, count in facts.items() if count)
    divided = f"; {result.num_divided} {units} lie in more than one split" if result.num_divided else ""
    typer.echo(f"{corpus}: split by {by}{listed}{divided}")


@corpus_app.command("verify")
def corpus_verify(
    corpus: CorpusFolder,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH...]", help="Where the scans lie, to mend what is damaged.")
    ] = None,
    salt: Salt = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Compare the stored voxels with their checksums, and store damaged scans again."""
    from scanlore.verbs.corpus_change import verify_corpus

    result = verify_corpus(corpus, paths or [], salt, workers)
    if as_json:
        print_json(result)
    else:
        mended = f", {result.mended} sources mended, {result.lost} not found again" if paths else ""
        typer.echo(f"{corpus}: {result.checked} entries checked, {result.damaged} damaged{mended}")
    if result.damaged > 0 and (not paths or result.lost):
        typer.echo(
            "to mend the others: scanlore corpus verify CORPUS PATH..., with the paths it was built from", err=True
        )
        raise typer.Exit(2)


@corpus_app.command("export")
def corpus_export(
    corpus: CorpusFolder,
    out: Out,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="COLUMN=VALUE", help="E.g. modality=MR; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most this many.")] = None,
) -> None:
    """Write scans as NIfTI (2D as PNG or TIFF) with a table of their metadata."""
    from scanlore.scans.failures import counted
    from scanlore.verbs.corpus_change import export_corpus

    result = export_corpus(corpus, out, where or [], limit)
    typer.echo(f"{out}: {counted(result.num_files, 'scan')}, and scans.tsv")


@corpus_app.command("show")
def corpus_show(
    corpus: CorpusFolder,
    names: Annotated[
        list[str] | None, typer.Option("--names", metavar="PATH", help="Where the scans lie, to name the lost ones.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="The page; CORPUS/report.html by default.")] = None,
    salt: Salt = None,
    as_json: AsJson = False,
) -> None:
    """Print counts, what was dropped and why; write one page with charts and a gallery."""
    from scanlore.verbs.corpus_show import show_corpus as verb

    page = html or (None if as_json else corpus / "report.html")
    result = verb(corpus, page, names or [], salt)
    if as_json:
        print_json(result)
        return
    for table in (result.kinds, result.datasets, result.modalities, result.body_parts, result.sequences):
        print_table(table)
    print_table([{"not kept because": reason, "number": count} for reason, count in result.reasons.items()])
    lost = [*result.failed, *result.dropped]
    print_problems(lost, len(lost) if names else 10)
    typer.echo(f"{corpus}: {_listed(result.counts)}; store {result.store_bytes / 1e6:.0f} MB; page {result.page}")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _print_flags(result: FlagsResult, corpus: Path) -> None:
    print_table([{"not kept because": reason, "number": count} for reason, count in result.rules.items()])
    print_table(result.datasets)
    unseen = "; of {} sources only headers were read: label maps, empty scans and duplicates among them are found later"
    headers = unseen.format(result.from_headers) if result.from_headers else ""
    changed = f"; {result.changed} changed" if result.changed else ""
    typer.echo(f"{corpus}: {_listed(result.counts)}{changed}{headers}")
