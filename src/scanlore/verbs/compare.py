"""The verb `compare`: whether one trial is better than another, on the cases both were scored on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scanlore.errors import ConfigError, DataError
from scanlore.scans.failures import counted

if TYPE_CHECKING:
    from scanlore.evaluation.paired import PairedDifference
    from scanlore.evaluation.tables import Tables

METRIC_OF = {"classification": "macro_auroc", "segmentation": "dice"}
FEW = 10
"""Below so many patients, resampling them says little about others."""


@dataclass(frozen=True)
class CompareResult:
    """What `compare` found.

    Attributes:
        first: The folder of the first trial's tables.
        second: That of the second.
        metric: The metric compared.
        unit: Its unit.
        found: The difference, first minus second, with interval, p-values and numbers of cases.
        verdict: The same in one sentence.
        warnings: Doubts about the comparison.
    """

    first: Path
    second: Path
    metric: str
    unit: str
    found: PairedDifference
    verdict: str
    warnings: tuple[str, ...]


def compare(first: str | Path, second: str | Path, metric: str | None = None, seed: int = 0) -> CompareResult:
    """Compare two trials on the cases both were scored on.

    The interval and the first p-value come from resampling patients (cases, where patients are unknown), the second
    p-value from the Wilcoxon signed-rank test over patients, for metrics that single cases have.

    Args:
        first: A folder of `scanlore adapt` or `scanlore evaluate`, or one of `scanlore predict` that was evaluated.
        second: Another one, scored on the same task.
        metric: `dice`, `jaccard`, `hd95`, `nsd@1mm` for segmentation; `macro_auroc`, `accuracy`, `balanced_accuracy`,
            `macro_f1` for classification. `None` for `dice` or `macro_auroc`.
        seed: Of the resampling.

    Raises:
        ConfigError: An argument is wrong.
        DataError: A folder holds no results, or the two have no scored case in common.
    """
    if seed < 0:
        raise ConfigError(f"must be 0 or more, got {seed}", where="seed")
    folders = [_tables_folder(Path(folder)) for folder in (first, second)]
    from scanlore.evaluation.paired import compare_segmentations, compare_trials
    from scanlore.evaluation.tables import read_tables

    tables = [read_tables(folder) for folder in folders]
    kind = _common_kind(tables, folders)
    metric = metric or METRIC_OF[kind]
    if kind == "segmentation":
        found = compare_segmentations(tables[0].results, tables[1].results, metric, seed)
    else:
        found = compare_trials(tables[0].predictions, tables[1].predictions, metric, seed)
    if not math.isfinite(found.difference):
        raise DataError(
            f"{metric} is undefined for one of the two trials", where=folders[0], fix="choose another metric"
        )
    unit = _unit(tables[0], metric)
    warnings = tuple(_warnings(tables, found, folders))
    return CompareResult(folders[0], folders[1], metric, unit, found, _verdict(found, metric, unit), warnings)


def _tables_folder(folder: Path) -> Path:
    """Return where the tables of a folder lie: those of a folder of predictions lie in its `evaluation`."""
    inner = folder / "evaluation"
    return inner if not (folder / "results.parquet").is_file() and inner.is_dir() else folder


def _common_kind(tables: list[Tables], folders: list[Path]) -> str:
    kinds = []
    for table, folder in zip(tables, folders, strict=True):
        if table.trials.height != 1:
            raise DataError(f"holds {table.trials.height} trials where one was expected", where=folder)
        # Runs from before there was another kind do not say it
        kinds.append(table.trials["task_kind"][0] or "classification")
    if kinds[0] != kinds[1]:
        raise DataError(f"the first is a trial of {kinds[0]}, the second one of {kinds[1]}", where=folders[1])
    return str(kinds[0])


def _unit(tables: Tables, metric: str) -> str:
    return str(tables.results.filter(tables.results["metric"] == metric)["unit"][0])


def _warnings(tables: list[Tables], found: PairedDifference, folders: list[Path]) -> list[str]:
    warnings = []
    prints = [table.trials["task_fingerprint"][0] for table in tables]
    if prints[0] != prints[1]:
        warnings.append("the task had other cases, masks or label names when the second was scored")
    if len({table.trials["patients"][0] for table in tables} | {"known"}) > 1:
        warnings.append("patients are unknown: cases are taken as independent")
    if found.num_patients < FEW:
        number = counted(found.num_patients, "independent case")
        warnings.append(f"{number}: too few for a bootstrap, whose interval is too narrow then")
    for folder, missing in zip(reversed(folders), (found.only_first, found.only_second), strict=True):
        if missing:
            more = f"{', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}"
            number = counted(len(missing), "case")
            warnings.append(f"{folder} has no value for {number} of the other: {more}")
    return warnings


def _verdict(found: PairedDifference, metric: str, unit: str) -> str:
    in_unit = "" if unit == "fraction" else f" {unit} (less is better)"
    ranks = "" if found.wilcoxon_p is None else f", Wilcoxon p {_p(found.wilcoxon_p)}"
    cases = counted(found.num_cases, "common case")
    units = f" of {found.num_patients} patients" if found.num_patients != found.num_cases else ""
    interval = f"95 % interval {found.low:+.4f} to {found.high:+.4f}), bootstrap p {_p(found.p)}{ranks}"
    if math.isnan(found.low):
        interval = "a single patient has no interval)"
    return (
        f"{metric} {found.first:.4f} against {found.second:.4f}{in_unit}: difference {found.difference:+.4f} "
        f"({interval}; {cases}{units}"
    )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"
