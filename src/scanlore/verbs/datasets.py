"""`scanlore datasets list|show|convert|fetch`: public datasets, without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.errors import ConfigError, DataError, ScanloreError, nearest
from scanlore.tasks.catalogue import ACCESS, KINDS, Dataset, RemoteFile, catalogue, dataset
from scanlore.tasks.catalogue_layouts import Tabled

if TYPE_CHECKING:
    from scanlore.tasks.datasets.fetch import Fetched

NOT_KNOWN = "not known: see the homepage"
PROTOCOLS = {"classification": "linear-probe", "multilabel": "linear-probe", "segmentation": "transfer"}


@dataclass(frozen=True)
class ConvertResult:
    """What a conversion left.

    Attributes:
        dataset: Id of the dataset.
        made: The corpus, the tables of the task, or the folder itself where nothing had to be converted.
        num_cases: Images or scans.
        notes: What one must know of it.
        already_done: Whether it was converted before.
        next_command: What to do with it.
    """

    dataset: str
    made: tuple[Path, ...]
    num_cases: int
    notes: tuple[str, ...]
    already_done: bool
    next_command: str


@dataclass(frozen=True)
class FetchResult:
    """What was downloaded.

    Attributes:
        dataset: Id of the dataset.
        file: The file and its checksum.
        next_commands: What to do with it.
    """

    dataset: str
    file: Fetched
    next_commands: tuple[str, ...]


def list_datasets(
    kind: str | None = None, modality: str | None = None, access: str | None = None
) -> list[dict[str, Any]]:
    """Return one row per dataset of the catalogue.

    Args:
        kind: Only `corpus`, `classification`, `multilabel` or `segmentation`.
        modality: Only of this DICOM code, such as `MR`.
        access: Only `open`, `registration`, `agreement`, `closed` or `unknown`.

    Raises:
        ConfigError: A filter is none of these.
    """
    modalities = sorted({code for entry in catalogue().values() for code in entry.modality})
    code = None if modality is None else modality.upper()
    for name, value, known in (("--kind", kind, KINDS), ("--modality", code, modalities), ("--access", access, ACCESS)):
        if value is not None and value not in known:
            fix = f"one of {', '.join(known)}{nearest(value, list(known))}"
            raise ConfigError(f"{value!r} is none", where=name, fix=fix)
    return [
        _row(entry)
        for entry in catalogue().values()
        if kind in (None, entry.kind) and access in (None, entry.access) and (code is None or code in entry.modality)
    ]


def show_dataset(name: str) -> dict[str, Any]:
    """Return all that is known of a dataset, and what to do with it.

    Raises:
        ConfigError: There is no such dataset.
    """
    entry = dataset(name)
    facts = {
        "id": entry.id,
        "title": entry.title,
        "kind": entry.kind,
        "modality": ", ".join(entry.modality),
        "body part": entry.body_part,
        "dimensions": entry.ndim,
        "how many": f"{entry.size} ({entry.size_from})" if entry.size else NOT_KNOWN,
        "named by": ", ".join(entry.papers) or None,
        "licence": entry.licence or NOT_KNOWN,
        "access": entry.access if entry.access != "unknown" else NOT_KNOWN,
        "homepage": entry.homepage or "not known",
        "files": [file.url for file in entry.files] or None,
        "how to get it": entry.get if not entry.files else f"scanlore datasets fetch {entry.id} --out FOLDER",
        "how it must lie": entry.layout.how,
        "folder names known": ", ".join(entry.aliases) or None,
        "note": entry.note,
        "facts from": list(entry.sources),
        "next": list(next_commands(entry)) if entry.access != "closed" else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def next_commands(entry: Dataset, folder: str = "FOLDER") -> tuple[str, ...]:
    """Return the commands that lead from a downloaded dataset to a model.

    Args:
        entry: Of the catalogue.
        folder: Where it lies.
    """
    if entry.is_corpus:
        convert = f"scanlore datasets convert {entry.id} {folder} --out CORPUS"
        return convert, "scanlore pretrain CORPUS --recipe 3dino-vit-s --out RUN"
    task, convert_needed = _task(entry, folder)
    adapt = f"scanlore adapt MODEL {task} --protocol {PROTOCOLS[entry.kind]} --out RUN"
    return (f"scanlore datasets convert {entry.id} {folder} --out OUT", adapt) if convert_needed else (adapt,)


def convert_dataset(
    name: str, folder: str | Path, out: str | Path, assume_spacing: str | None = None, workers: int | None = None
) -> ConvertResult:
    """Convert a dataset as published to a corpus, or to a task that `adapt` takes.

    Args:
        name: Of the catalogue.
        folder: Where it lies.
        out: The corpus, or the folder of the task; a task is written whole or not at all.
        assume_spacing: Voxel size in mm of volumes that have none, such as `1,1,1`.
        workers: Processes that read the scans of a corpus.

    Raises:
        ConfigError: There is no such dataset, its layout is not read, or a spacing is missing or not wanted.
        DataError: The folder does not lie as expected, or `out` holds other files.
    """
    entry = dataset(name)
    if entry.is_corpus:
        return _convert_corpus(entry, Path(folder), Path(out), assume_spacing, workers)
    from scanlore.tasks.datasets.convert import convert_task

    made = convert_task(entry, Path(folder), Path(out), _spacing(assume_spacing))
    adapt = f"scanlore adapt MODEL {made.tasks[0]} --protocol {PROTOCOLS[entry.kind]} --out RUN"
    return ConvertResult(entry.id, made.tasks, made.num_cases, made.notes, made.already_done, adapt)


def fetch_dataset(name: str, out: str | Path, file: str | None = None, proxy: str | None = None) -> FetchResult:
    """Download a dataset that has a direct link; the same call goes on with an interrupted download.

    Args:
        name: Of the catalogue.
        out: Folder to download to.
        file: Which of its files; the first by default.
        proxy: Address of a proxy; by default those of the environment.

    Raises:
        ConfigError: There is no such dataset or file, or it has no direct link: then with what to do.
        DataError: The server does not answer or refuses, the disk is full, or the checksum is wrong.
    """
    entry = dataset(name)
    remote = _remote_file(entry, file)
    from scanlore.progress import progress_bar
    from scanlore.tasks.datasets.fetch import fetch_file

    is_new = not Path(out).exists()
    try:
        with progress_bar(f"fetching {remote.name}", "MB") as advance:
            fetched = fetch_file(
                remote, Path(out), proxy, lambda done, total: advance(done // 1_000_000, max(done, total) // 1_000_000)
            )
    except ScanloreError:
        if is_new and Path(out).is_dir() and not any(Path(out).iterdir()):
            Path(out).rmdir()
        raise
    return FetchResult(entry.id, fetched, _after_fetch(entry, fetched.path))


def _row(entry: Dataset) -> dict[str, Any]:
    return {
        "dataset": entry.id,
        "kind": entry.kind,
        "modality": ", ".join(entry.modality),
        "body part": entry.body_part,
        "dims": f"{entry.ndim}D",
        "access": entry.access,
        "licence": entry.licence or "not known",
        "how many": entry.size or "not known",
    }


def _task(entry: Dataset, folder: str) -> tuple[str, bool]:
    """Return what `adapt` takes, and whether it has to be made first."""
    layout = entry.layout
    if layout.kind in ("msd", "nnunet") or (layout.kind == "class-folders" and not layout.leave_out):
        return folder, False
    if layout.kind == "custom":
        return "TABLE", False
    has_one_table = not getattr(layout, "findings", ()) and not getattr(layout, "is_multilabel", False)
    return "OUT/table.csv" if has_one_table else "OUT/FINDING.csv", True


def _remote_file(entry: Dataset, name: str | None) -> RemoteFile:
    if not entry.files:
        fix = entry.get if entry.homepage is None else f"{entry.get}; homepage: {entry.homepage}"
        raise ConfigError(f"{entry.id} has no direct link", fix=fix)
    names = [file.name for file in entry.files]
    if name is not None and name not in names:
        fix = f"its files: {', '.join(names)}{nearest(name, names)}"
        raise ConfigError(f"{entry.id} has no file {name!r}", where="--file", fix=fix)
    return entry.files[0 if name is None else names.index(name)]


def _after_fetch(entry: Dataset, path: Path) -> tuple[str, ...]:
    if path.suffix == ".npz":
        return next_commands(entry, str(path))
    unpack = {".tar": f"tar -xf {path} -C {path.parent}", ".zip": f"unzip {path} -d {path.parent}"}.get(path.suffix)
    folder = path.with_suffix("")
    return (*((unpack,) if unpack else ()), *next_commands(entry, str(folder)))


def _convert_corpus(
    entry: Dataset, folder: Path, out: Path, assume_spacing: str | None, workers: int | None
) -> ConvertResult:
    _check_corpus(entry, folder)
    from scanlore.verbs.corpus_build import build_corpus

    built = build_corpus([f"{entry.id}={folder}"], out, workers=workers, assume_spacing=assume_spacing)
    notes = [_joined(entry.layout, folder, out)] if isinstance(entry.layout, Tabled) else []
    command = f"scanlore pretrain {out} --recipe 3dino-vit-s --out RUN"
    return ConvertResult(entry.id, (out,), sum(built.counts.values()), tuple(notes), built.num_new == 0, command)


def _check_corpus(entry: Dataset, folder: Path) -> None:
    """Refuse a folder that is none, or lacks the tables of its corpus."""
    from scanlore.tasks.datasets.output import some_of, wrong_layout

    if not folder.is_dir():
        raise DataError("is no folder" if folder.exists() else "does not exist", where=folder)
    if isinstance(entry.layout, Tabled) and not all((folder / name).is_file() for name in entry.layout.tables):
        raise wrong_layout(folder, entry.layout.how, some_of(folder))


def _joined(layout: Tabled, folder: Path, out: Path) -> str:
    """Join the tables of a corpus, and say what came of it; tables that match nothing do not undo the corpus."""
    import tempfile

    from scanlore.tasks.datasets.joinable import joinable_table
    from scanlore.verbs.corpus_change import join_table

    names = " and ".join(layout.tables)
    try:
        with tempfile.TemporaryDirectory() as place:
            report = join_table(out, *joinable_table(layout, folder, Path(place)))
    except ScanloreError as error:
        return f"{names} not joined: {error.what} (by hand: scanlore corpus join)"
    return f"{names}: {report.num_rows_matched} scans found, by {report.on}; columns {', '.join(report.columns)}"


def _spacing(text: str | None) -> tuple[float, float, float] | None:
    from scanlore.verbs.corpus_sources import parse_spacing

    spacing = parse_spacing(text)
    if isinstance(spacing, str):
        raise ConfigError("these volumes have no header", where="--assume-spacing", fix="give millimetres, e.g. 1,1,1")
    return spacing
