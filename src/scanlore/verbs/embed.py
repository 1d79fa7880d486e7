"""The verb `embed`: one row of numbers for every scan."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanlore.errors import ConfigError
from scanlore.run import check_place

if TYPE_CHECKING:
    import polars as pl

    from scanlore.inference.extract import FeatureTable
    from scanlore.scans.find import Source


@dataclass(frozen=True)
class EmbedResult:
    """What `embed` did.

    Attributes:
        out: The table.
        num_scans: Scans with an embedding.
        dim: Length of an embedding.
        dense: The folder of patch features; `None` unless asked for.
        problems: Name and reason of each scan that could not be used.
        skipped: Files that are no scans, with the reason.
        already_done: Whether `out` held these very embeddings, so that nothing was computed.
    """

    out: Path
    num_scans: int
    dim: int
    dense: Path | None
    problems: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[Path, str], ...]
    already_done: bool


def embed(
    model: str | Path,
    paths: Sequence[str | Path] | str | Path,
    out: str | Path,
    dense: bool = False,
    device: str = "auto",
    batch_size: int = 8,
) -> EmbedResult:
    """Write a Parquet table with a row for every scan; those that cannot be used are counted and say why.

    Columns: `source`, `embedding` (null for a scan that could not be used), `num_views` it is the mean of, `dense` (the
    file of its patch features), `problem` (why it could not), `model`, `weights` (a hash), `num_bytes` and
    `modified_ns` of the files.

    Args:
        model: A model reference: a model folder, `random:vit-small`, `pixels:32` ...
        paths: Files and folders to find scans in.
        out: The table to write, `*.parquet`. Never overwritten: the same call again changes nothing.
        dense: Whether to write patch features with their affines into the folder `<out stem>_dense` beside it.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        batch_size: Views that pass the network at once.

    Raises:
        ConfigError: An argument is wrong, or `out` holds something else.
        DataError: There are no scans, or not one can be embedded.
        ModelError: The model cannot be used.
    """
    out = Path(out)
    _check(out, batch_size)
    from scanlore.inference.fingerprint import weights_fingerprint
    from scanlore.inference.open_model import open_model
    from scanlore.scans.find import find_sources
    from scanlore.verbs.inspect import as_paths, no_scans

    sources, skipped = find_sources(as_paths(paths))
    if not sources:
        raise no_scans(as_paths(paths), skipped)
    network, device = open_model(model, sources, device)
    facts = _facts(sources, {"model": str(model), "weights": weights_fingerprint(network)}, dense)
    done = out.exists()
    if done:
        _refuse_other_content(out, facts)
    else:
        _compute(network, sources, facts, out, device, batch_size)
    return _result(out, tuple(skipped), done)


def _check(out: Path, batch_size: int) -> None:
    if out.suffix != ".parquet":
        raise ConfigError("the table must be called *.parquet", where=out, fix=f"--out {out.stem}.parquet")
    check_place(out)
    if batch_size < 1:
        raise ConfigError(f"must be 1 or more, got {batch_size}", where="batch_size")


def _facts(sources: Sequence[Source], model: dict[str, str], dense: bool) -> list[dict[str, Any]]:
    """Return for each scan what is known before the model runs, and what a table must hold to be the same."""
    rows = []
    for index, source in enumerate(sources):
        num_bytes, modified = source.size_and_mtime()
        slug = re.sub(r"[^\w.-]+", "_", Path(source.name).name)
        file = f"{index:05d}_{slug}.npz" if dense else None
        rows.append({"source": source.name, "dense": file, "num_bytes": num_bytes, "modified_ns": modified, **model})
    return rows


def _refuse_other_content(out: Path, facts: list[dict[str, Any]]) -> None:
    import polars as pl

    fix = "choose another --out, or remove it"
    try:
        present = pl.read_parquet(out).select(list(facts[0])).rows(named=True)
    except (OSError, pl.exceptions.PolarsError):
        raise ConfigError("exists and is no table of embeddings", where=out, fix=fix) from None
    if present == facts:
        return
    differing = [key for key in facts[0] if [row[key] for row in present] != [row[key] for row in facts]]
    raise ConfigError(f"holds other embeddings (other {', '.join(differing)})", where=out, fix=fix)


def _compute(
    network: Any, sources: Sequence[Source], facts: list[dict[str, Any]], out: Path, device: str, batch_size: int
) -> None:
    from scanlore.inference.dense import write_dense
    from scanlore.inference.extract import extract
    from scanlore.inference.forward import ScanFeatures
    from scanlore.progress import progress_bar

    folder = _dense_folder(out)

    def visit(scan: ScanFeatures) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_dense(folder / facts[scan.index]["dense"], scan)

    visitor = visit if facts[0]["dense"] else None
    with progress_bar("embeddings", "scans") as progress:
        table = extract(
            network, sources, batch_size=batch_size, device=device, max_bad=1, progress=progress, visit=visitor
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    _frame(table, facts).write_parquet(temporary)
    temporary.replace(out)


def _frame(table: FeatureTable, facts: list[dict[str, Any]]) -> pl.DataFrame:
    import polars as pl

    rows = {name: row for row, name in enumerate(table.names)}
    positions = [rows.get(fact["source"]) for fact in facts]
    problems = dict(table.problems)
    width = table.embedding.shape[1]
    frame = pl.DataFrame(facts, schema_overrides={"dense": pl.String}, infer_schema_length=None)
    embedding = [None if row is None else table.embedding[row].tolist() for row in positions]
    return frame.select(
        pl.col("source"),
        pl.Series("embedding", embedding, pl.Array(pl.Float32, width)),
        pl.Series("num_views", [0 if row is None else table.num_views[row] for row in positions], pl.Int64),
        pl.Series("problem", [problems.get(fact["source"]) for fact in facts], pl.String),
        pl.exclude("source"),
    )


def _result(out: Path, skipped: tuple[tuple[Path, str], ...], already_done: bool) -> EmbedResult:
    import polars as pl

    frame = pl.read_parquet(out)
    bad = frame.filter(pl.col("problem").is_not_null())
    return EmbedResult(
        out=out,
        num_scans=frame.height - bad.height,
        dim=len(frame.filter(pl.col("problem").is_null())["embedding"][0]),
        dense=_dense_folder(out) if frame["dense"].is_not_null().any() else None,
        problems=tuple(zip(bad["source"], bad["problem"], strict=True)),
        skipped=skipped,
        already_done=already_done,
    )


def _dense_folder(out: Path) -> Path:
    return out.with_name(f"{out.stem}_dense")
