"""`scanlore demo`: the whole path in minutes, on a made cohort or on the user's own folder, told on one page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scanlore.errors import DataError
from scanlore.run import check_place

if TYPE_CHECKING:
    from scanlore.tasks.classification import ClassificationTask

T = TypeVar("T")
NUM_SCANS = 180
RECIPES = {3: "3dino-vit-tiny-demo", 2: "dinov2-vit-tiny-cpu"}
# A run on images should end in minutes as well; the recipe's own length is for an hour
OVERRIDES = {3: [], 2: ["training.steps=150"]}
PROTOCOLS = {"knn": None, "linear-probe": "linear-probe-cpu"}


@dataclass(frozen=True)
class DemoResult:
    """What the demo left.

    Attributes:
        page: The report.
        rows: Score of each model under each protocol.
        verdict: One sentence on whether pretraining helped.
        timings: Step and seconds.
    """

    page: Path
    rows: list[dict[str, Any]]
    verdict: str
    timings: list[dict[str, Any]]


@dataclass
class Story:
    """What has happened so far; the page is written from it."""

    out: Path
    device: str
    timings: list[dict[str, Any]]

    def timed(self, label: str, work: Callable[[], T]) -> T:
        """Do one step, say so, and note its seconds."""
        import typer

        typer.echo(f"{label} ...", err=True)
        started = time.monotonic()
        result = work()
        self.timings.append({"step": label, "seconds": round(time.monotonic() - started, 1)})
        return result


def demo(out: str | Path, data: str | Path | None = None, device: str = "auto") -> DemoResult:
    """Run the whole path: cohort, corpus, pretraining, embeddings, probes beside an untrained network, one page.

    Args:
        out: Folder for everything; the same call again goes on where it stopped.
        data: Your own scans: a folder per class, a table, or just a folder (then nothing is scored).
        device: `auto`, `cpu`, `cuda` ...

    Raises:
        DataError: The data cannot be used.
        MissingDependencyError: The made cohort needs nilearn.
    """
    from scanlore.verbs.corpus_build import build_corpus
    from scanlore.verbs.demo_page import write_demo_page
    from scanlore.verbs.embed import embed
    from scanlore.verbs.pretrain import pretrain

    check_place(Path(out))
    story = Story(Path(out), device, [])
    source = Path(data) if data is not None else story.timed("making a cohort", lambda: _cohort(story.out))
    task = _task(source, is_given=data is not None)
    scans = _unlabelled(source, task)
    corpus = story.timed("building the corpus", lambda: build_corpus(scans, story.out / "corpus"))
    ndim = _ndim(corpus.out)
    run = story.timed(
        "pretraining",
        lambda: pretrain(corpus.out, RECIPES[ndim], story.out / "pretrained", OVERRIDES[ndim], device),
    )
    paths = [case.image for case in task.cases] if task else scans
    story.timed("embedding", lambda: embed(run.out, paths, story.out / "embeddings.parquet", device=device))
    rows = _scores(story, source, run.out) if task else []
    verdict = _verdict(story, rows)
    page = story.out / "report.html"
    write_demo_page(page, story.timings, corpus.out, scans, run, task, rows, verdict, is_made=data is None)
    return DemoResult(page, rows, verdict, story.timings)


def _cohort(out: Path) -> Path:
    from scanlore.tasks.brain_cohort import make_cohort

    labels = out / "cohort" / "labels.csv"
    if labels.is_file():  # written last, so the cohort is whole
        return labels
    return make_cohort(out / "cohort", num_scans=NUM_SCANS)


def _task(source: Path, is_given: bool) -> ClassificationTask | None:
    """Load the labels; a folder of the user's without classes is taken as unlabelled scans."""
    from scanlore.tasks.classification import load_classification_task

    if not source.exists():
        raise DataError("there is nothing", where=source, fix="--data takes a folder of scans or a table")
    try:
        return load_classification_task(source)
    except DataError:
        if is_given and source.is_dir():
            return None
        raise


def _unlabelled(source: Path, task: ClassificationTask | None) -> list[Path]:
    """Return the scans to pretrain on: never those that are tested on."""
    if task is None:
        return [source]
    from scanlore.tasks.splits import complete_splits

    splits = complete_splits(task, seed=0, needs_val=False)
    return [case.image for case, split in zip(task.cases, splits.of_case, strict=True) if split != "test"]


def _ndim(corpus: Path) -> int:
    from scanlore.corpus.index import Corpus

    opened = Corpus(corpus)
    return 3 if len(opened.select(ndim=3)) >= len(opened.select(ndim=2)) else 2


def _scores(story: Story, source: Path, run: Path) -> list[dict[str, Any]]:
    import typer

    from scanlore.scans.failures import counted
    from scanlore.verbs.adapt import adapt

    models = {"pretrained": str(run), "untrained": f"random:{run}", "raw pixels": "pixels:32"}
    rows = []
    for protocol, recipe in PROTOCOLS.items():
        for name, reference in models.items():
            out = story.out / "trials" / f"{protocol}-{name.replace(' ', '-')}"
            result = story.timed(
                f"{protocol} on {name}",
                lambda out=out, reference=reference, protocol=protocol, recipe=recipe: adapt(  # type: ignore[misc]
                    reference, source, out, protocol, recipe=recipe, device=story.device
                ),
            )
            if result.problems:
                typer.echo(f"{counted(len(result.problems), 'scan')} skipped, listed in {out / 'run.json'}", err=True)
            score = next(row for row in result.rows if row.metric == "macro_auroc" and row.class_name is None)
            rows.append(
                {
                    "protocol": protocol,
                    "model": name,
                    "value": score.value,
                    "low": score.low,
                    "high": score.high,
                    "test scans": score.n,
                }
            )
    return rows


def _verdict(story: Story, rows: list[dict[str, Any]]) -> str:
    """Say with paired statistics whether pretraining helped, for each protocol."""
    if not rows:
        return "Nothing was scored: the data has no labels."
    from scanlore.evaluation.paired import compare_trials
    from scanlore.evaluation.tables import read_table

    sentences = []
    for protocol in PROTOCOLS:
        folder = story.out / "trials"
        pretrained = read_table(folder / f"{protocol}-pretrained", "predictions")
        found = compare_trials(pretrained, read_table(folder / f"{protocol}-untrained", "predictions"))
        resolved = "better than" if found.low > 0 else "worse than" if found.high < 0 else "not told apart from"
        sentences.append(
            f"{protocol}: the pretrained network is {resolved} the untrained one "
            f"(AUROC difference {found.difference:+.3f}, 95 % interval {found.low:+.3f} to {found.high:+.3f}, "
            f"{found.num_cases} test scans)"
        )
    return ". ".join(sentences) + "."
