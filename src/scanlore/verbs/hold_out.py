"""Which scans a labelled task tests on, whatever reads them next."""

from __future__ import annotations

from pathlib import Path


def held_out_ids(task: Path, fold: int | None = None) -> set[str]:
    """Return the content ids of the test scans of a labelled folder or table, one for each channel.

    Splits the task does not give are those `scanlore adapt` draws: the same for every model and every seed of a
    segmentation task, those of seed 0 for classification.

    Args:
        task: As `scanlore adapt` takes it.
        fold: Of its `splits_final.json`.

    Raises:
        DataError: It is no task, or a test scan cannot be read.
    """
    from scanlore.corpus.prepare import content_id
    from scanlore.scans.read import read_scan
    from scanlore.tasks.classification import load_classification_task
    from scanlore.tasks.labelled_case import content_ids
    from scanlore.tasks.segmentation import is_segmentation_task, load_segmentation_task, with_fold
    from scanlore.tasks.splits import complete_splits

    if is_segmentation_task(task):
        labelled = load_segmentation_task(task)
        if fold is not None:
            labelled = with_fold(labelled, fold)
        test = complete_splits(labelled, seed=0, needs_val=False).indices("test")
        return {name for index in test for name in content_ids(labelled.cases[index])}
    scored = load_classification_task(task)
    test = complete_splits(scored, seed=0, needs_val=True).indices("test")
    return {content_id(voxels) for index in test for voxels in read_scan(scored.cases[index].scan).voxels}
