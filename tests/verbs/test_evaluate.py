import json
import os
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import polars as pl
import pytest

from factories import write_msd_task, write_nifti_file, write_png
from scanlore.errors import ConfigError, DataError
from scanlore.evaluation.tables import read_tables, write_tables
from scanlore.registry import BACKBONES
from scanlore.run import Run
from scanlore.tasks.segmentation import load_segmentation_task
from scanlore.tasks.splits import complete_splits
from scanlore.verbs.adapt import adapt
from scanlore.verbs.evaluate import evaluate

SHAPE = (7, 8, 6)
LABELS = {"0": "background", "1": "front", "2": "back"}


def mask_of(seed, shape=SHAPE):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[1:4, 1 : 4 + seed % 3] = 1
    mask[4:6, 2:6] = 2
    return mask


def write_mask(path, voxels, axcodes="RAS", spacing=(1.0, 1.0, 2.0)):
    return write_nifti_file(path, voxels=voxels, dtype="uint8", axcodes=axcodes, spacing=spacing)


def write_task(folder, num_cases=6):
    """A task in the layout of the Medical Segmentation Decathlon."""
    names = [f"case_{index}" for index in range(num_cases)]
    for index, name in enumerate(names):
        write_nifti_file(folder / "imagesTr" / f"{name}.nii.gz", SHAPE, (1.0, 1.0, 2.0), seed=index)
        write_mask(folder / "labelsTr" / f"{name}.nii.gz", mask_of(index))
    training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    facts = {"modality": {"0": "MRI"}, "labels": LABELS, "training": training}
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


def write_masks(folder, num_cases=6, change=lambda mask: mask):
    for index in range(num_cases):
        write_mask(folder / f"case_{index}.nii.gz", change(mask_of(index)))
    return folder


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "task")


@pytest.fixture
def masks(tmp_path):
    return write_masks(tmp_path / "masks")


def of_set(result):
    return {(row.metric, row.class_name): row.value for row in result.rows}


def made_by(folder, model, **noted):
    """Make a folder of masks look as `scanlore predict` leaves it."""
    run = Run(folder.parent / "run", "predict", {"model": str(model)})
    run.note(status="finished", **noted)
    for path in (folder.parent / "run").iterdir():
        path.replace(folder / path.name)


def test_equal_masks(task, masks):
    result = evaluate(masks, task)
    names = [(metric, name) for metric in ("dice", "jaccard", "hd95", "nsd@1mm") for name in (None, "front", "back")]
    assert of_set(result) == {name: 0 if name[0] == "hd95" else 1 for name in names}
    assert (result.cases, result.num_scored, result.num_left_out, result.patients) == ("all", 6, 0, "unknown")
    assert sorted(path.name for path in (masks / "evaluation").iterdir()) == [
        "config.yaml", "predictions.parquet", "results.parquet", "run.json", "run.log", "trials.parquet",
    ]  # fmt: skip


def test_tables(task, masks, tmp_path):
    result = evaluate(masks, task, out=tmp_path / "scores", tolerance=2.5)
    tables = read_tables(tmp_path / "scores")
    trial = tables.trials.row(0, named=True)
    assert (trial["task_kind"], trial["source"], trial["classes"]) == ("segmentation", "imported", ["front", "back"])
    assert set(tables.results["metric"]) == {"dice", "jaccard", "hd95", "nsd@2.5mm"}
    assert tables.results.filter(pl.col("case") == "case_3").height == 8
    assert tables.predictions["mask"][0] == os.path.join("..", "masks", "case_0.nii.gz")
    assert {trial["trial"], result.trial} == set(tables.predictions["trial"]) == set(tables.results["trial"])


def test_distances_are_those_of_the_scan(task, tmp_path):
    # The last of the slices, which are 2 mm apart, is missing
    masks = write_masks(tmp_path / "masks", change=lambda mask: np.where(np.arange(SHAPE[2]) < 5, mask, 0))
    values = of_set(evaluate(masks, task))
    assert values["hd95", "back"] == 2
    assert values["nsd@1mm", "back"] < 1


def test_masks_in_another_orientation_are_turned(task, masks):
    path = write_mask(masks / "case_0.nii.gz", np.flip(mask_of(0), 0), axcodes="LAS")
    affine = nib.load(path).affine
    affine[0, 3] += SHAPE[0] - 1
    nib.save(nib.Nifti1Image(np.flip(mask_of(0), 0), affine), path)
    assert of_set(evaluate(masks, task))["dice", None] == 1


def test_missing_and_unusable_masks_have_a_reason(task, masks):
    (masks / "case_0.nii.gz").unlink()
    write_mask(masks / "case_1.nii.gz", mask_of(1)[:-1])
    write_mask(masks / "case_2.nii.gz", np.where(mask_of(2) == 2, 7, 0))
    write_mask(masks / "case_3.nii.gz", mask_of(3), spacing=(1.0, 1.0, 3.0))
    (masks / "case_4.nii.gz").write_bytes(b"broken")
    result = evaluate(masks, task)
    assert (result.num_scored, of_set(result)["dice", None]) == (1, 1)
    reasons = list(result.problems.values())
    assert list(result.problems) == [f"case_{index}" for index in range(5)]
    for reason, words in zip(reasons, ["no prediction", "shape", "holds 7", "than its scan", "damaged"], strict=True):
        assert words in reason
    results = read_tables(result.out).results
    assert results.filter(pl.col("case") == "case_0")["reason"].to_list() == ["no prediction"]


def test_masks_of_a_model_are_scored_on_the_test_cases(task, masks):
    made_by(masks, "somewhere/else", provenance={"protocol": "transfer", "labels": "10", "task": "x", "other": 1})
    result = evaluate(masks, task)
    cases = load_segmentation_task(task)
    test = complete_splits(cases, 0, needs_val=True).indices("test")
    tables = read_tables(result.out)
    assert tables.predictions["case"].to_list() == [cases.cases[index].name for index in test]
    assert set(tables.predictions["split"]) == {"test"}
    assert (result.cases, result.num_scored, result.num_left_out) == ("test", len(test), 6 - len(test))
    trial = tables.trials.row(0, named=True)
    assert (trial["model"], trial["protocol"], trial["labels"]) == ("somewhere/else", "transfer", "10")
    assert evaluate(masks, task, out=masks / "all", cases="all").num_scored == 6


def test_the_trial_that_fitted_the_model_is_named(task, masks, tmp_path):
    fit = {"trial": "abc", "model": "S3D", "protocol": "transfer", "seed": 3, "seen": "none", "task_fingerprint": "x"}
    (tmp_path / "adapted").mkdir()
    write_tables(tmp_path / "adapted", [fit], [], [])
    made_by(masks, tmp_path / "adapted" / "model")
    result = evaluate(masks, task)
    trial = read_tables(result.out).trials.row(0, named=True)
    assert result.trial == "abc"
    assert {key: trial[key] for key in ("model", "seed", "seen")} == {"model": "S3D", "seed": 3, "seen": "none"}
    assert trial["task_fingerprint"] == load_segmentation_task(task).fingerprint()


def test_names_decide_what_values_mean(task, tmp_path):
    masks = write_masks(tmp_path / "masks", change=lambda mask: np.choose(mask, [0, 2, 1]))
    (masks / "labels.json").write_text(json.dumps({"0": "background", "1": "back", "2": "front"}))
    assert of_set(evaluate(masks, task))["dice", None] == 1
    (masks / "labels.json").write_text(json.dumps({"0": "background", "1": "liver"}))
    with pytest.raises(DataError, match="the masks are of background, liver, the task of background, front, back"):
        evaluate(masks, task, out=tmp_path / "other")


def test_images_with_masks_in_a_table(tmp_path):
    rows = ["image,mask,patient,split"]
    for index in range(5):
        write_png(tmp_path / f"{index}.png", (9, 8), seed=index)
        mask = write_png(tmp_path / "truth" / f"m{index}.png", pixels=mask_of(index, (9, 8)))
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "masks" / f"{index}.png").write_bytes(mask.read_bytes())
        rows.append(f"{index}.png,truth/m{index}.png,p{index // 2},{'test' if index > 1 else 'train'}")
    (tmp_path / "task.csv").write_text("\n".join(rows))
    result = evaluate(tmp_path / "masks", tmp_path / "task.csv")
    assert (result.cases, result.num_scored, result.patients) == ("test", 3, "known")
    assert [row.unit for row in result.rows if row.metric == "hd95"] == ["px"] * 3
    assert of_set(result)["nsd@1px", "label 1"] == 1


def test_the_same_call_again_computes_only_what_changed(task, masks):
    first = evaluate(masks, task)
    again = evaluate(masks, task)
    assert (first.already_done, again.already_done) == (False, True)
    assert (again.rows, again.trial) == (first.rows, first.trial)
    write_mask(masks / "case_1.nii.gz", np.zeros(SHAPE, np.uint8))
    changed = evaluate(masks, task)
    assert (changed.already_done, of_set(changed)["dice", None]) == (False, pytest.approx(5 / 6))
    with pytest.raises(ConfigError, match=r"tolerance: 1\.0 -> 2\.0"):
        evaluate(masks, task, tolerance=2.0)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"predictions": "nowhere"}, DataError, "nowhere: no such folder"),
        ({"task": "nowhere"}, DataError, "nowhere: does not exist"),
        ({"cases": "tests"}, ConfigError, "cases: must be one of auto, test, all, got 'tests'; did you mean 'test'"),
        ({"tolerance": -1.0}, ConfigError, "tolerance: must be a distance of 0 mm or more"),
        ({"tolerance": float("nan")}, ConfigError, "tolerance"),
        ({"seed": -1}, ConfigError, "seed: must be 0 or more"),
        ({"fold": 1}, ConfigError, "no splits_final.json"),
    ],
)
def test_a_refused_call_leaves_no_folder(task, masks, tmp_path, change, kind, message):
    with pytest.raises(kind, match=message):
        evaluate(**{"predictions": masks, "task": task, "out": tmp_path / "out"} | change)
    assert not (tmp_path / "out").exists()


def test_masks_of_other_cases_are_refused(task, tmp_path):
    write_mask(tmp_path / "masks" / "liver_1.nii.gz", mask_of(0))
    with pytest.raises(DataError, match=r"no mask is called like a case of the task \(case_0.*it holds liver_1.nii.gz"):
        evaluate(tmp_path / "masks", task)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it holds no masks"):
        evaluate(tmp_path / "empty", task)


def test_masks_of_no_test_case_are_refused(task, tmp_path):
    cases = load_segmentation_task(task)
    train = complete_splits(cases, 0, needs_val=False).indices("train")[0]
    write_mask(tmp_path / "masks" / f"{cases.cases[train].name}.nii.gz", mask_of(train))
    with pytest.raises(DataError, match=r"masks of 1 case, and of no test case.*--cases all"):
        evaluate(tmp_path / "masks", task, cases="test")


def test_torch_is_not_needed():
    code = "import sys, scanlore.verbs.evaluate, scanlore.evaluation.predicted_masks, scanlore.evaluation.paired"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_masks_none_of_which_fits_are_refused(task, tmp_path):
    masks = write_masks(tmp_path / "masks", change=lambda mask: mask[:-1])
    with pytest.raises(DataError, match=r"case_0.nii.gz: not one case can be scored; case_0: the mask has.*shape"):
        evaluate(masks, task)
    assert not (masks / "evaluation").exists()


def test_the_masks_of_a_trial_are_scored_on_its_test_cases(tmp_path, monkeypatch):
    tiny = replace(BACKBONES["resenc-tiny"], features=(4, 8), blocks=(1, 1), input_size=16)
    monkeypatch.setitem(BACKBONES, "resenc-tiny", tiny)
    task = write_msd_task(tmp_path / "T", num_cases=10)
    steps = ["training.steps=1", "training.batch_size=1", "training.num_workers=0", "training.precision=fp32"]
    result = adapt("random:resenc-tiny", task, tmp_path / "A", "transfer", overrides=steps, device="cpu")
    scored = evaluate(tmp_path / "A" / "predictions", task)
    assert (scored.cases, scored.num_scored, scored.problems) == ("test", result.num_test, {})
    assert [row.value for row in scored.rows] == [row.value for row in result.rows]
