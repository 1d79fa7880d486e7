import json
from dataclasses import replace

import nibabel as nib
import polars as pl
import pytest

from factories import write_msd_task, write_nnunet_task
from scanlore.errors import ConfigError, DataError, ModelError
from scanlore.evaluation.tables import read_tables
from scanlore.modelfolder.segmenter import load_segmenter
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.tasks.labelled_case import content_ids
from scanlore.tasks.segmentation import load_segmentation_task
from scanlore.training.checkpoint import Saver
from scanlore.verbs.adapt import adapt
from scanlore.verbs.hold_out import held_out_ids
from scanlore.verbs.pretrain import pretrain

FAST = [
    "training.steps=4",
    "training.batch_size=2",
    "training.checkpoint_every=2",
    "training.num_workers=0",
    "training.precision=fp32",
    "inference.mirror=false",
]
LINEAR = [*FAST, "val_every=2"]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    tiny = replace(BACKBONES["resenc-tiny"], features=(4, 8), blocks=(1, 1), input_size=16)
    monkeypatch.setitem(BACKBONES, "resenc-tiny", tiny)
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 24, 4, 2))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_msd_task(tmp_path_factory.mktemp("task") / "Task", num_cases=10)


def run(task, out, *overrides, model="random:resenc-tiny", protocol="transfer", **options):
    fast = FAST if protocol == "transfer" else LINEAR
    return adapt(model, task, out, protocol, None, [*fast, *overrides], device="cpu", **options)


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found}


def test_what_a_run_leaves(task, tmp_path):
    result = run(task, tmp_path / "A")
    masks = {path for path in files(tmp_path / "A") if path.startswith("predictions/") and path.endswith(".nii.gz")}
    assert len(masks) == result.num_test == 2
    assert files(tmp_path / "A") - masks == {
        "config.yaml",
        "run.json",
        "run.log",
        "metrics.jsonl",
        "timings.jsonl",
        "predictions/labels.json",
        "predictions.parquet",
        "results.parquet",
        "trials.parquet",
        *(
            f"checkpoints/step_{step:08d}/{name}"
            for step in (2, 4)
            for name in (".metadata", "__0_0.distcp", "state.json")
        ),
        "model/model.json",
        "model/model.safetensors",
        "model/README.md",
    }
    assert {row.metric for row in result.rows} == {"dice", "jaccard", "hd95", "nsd@1mm"}
    assert run(task, tmp_path / "A").already_finished


def test_the_trial_says_how_it_came_about(task, tmp_path):
    run(task, tmp_path / "A", labels="50%", seed=3)
    trial = read_tables(tmp_path / "A").trials.row(0, named=True)
    wanted = {
        "task_kind": "segmentation",
        "protocol": "transfer",
        "labels": "0.5",
        "num_labelled": 3,
        "num_test": 2,
        "num_val": 2,
        "seed": 3,
        "schedule": "4 steps, none, peak 0.01",
        "selection": "last",
        "patients": "unknown",
        "seen": "none",
        "input_size": 14,
    }
    assert {key: trial[key] for key in wanted} == wanted


def test_masks_lie_on_the_grid_of_their_scans(task, tmp_path):
    run(task, tmp_path / "A")
    for row in read_tables(tmp_path / "A").predictions.iter_rows(named=True):
        mask, scan = nib.load(tmp_path / "A" / row["mask"]), nib.load(task / "imagesTr" / f"{row['case']}.nii.gz")
        assert mask.shape == scan.shape
        assert (mask.affine == scan.affine).all()


def test_seeds_share_their_test_cases_and_budgets_are_nested(task, tmp_path):
    def cases(name, **options):
        run(task, tmp_path / name, "training.steps=1", "training.checkpoint_every=1", **options)
        record = json.loads((tmp_path / name / "run.json").read_text())
        return set(record["training_cases"]), set(read_tables(tmp_path / name).predictions["case"])

    few, many, other = cases("few", labels=2), cases("many", labels=4), cases("other", labels=2, seed=1)
    assert len(few[0]) == 2
    assert few[0] < many[0]
    assert few[0] != other[0]
    assert few[1] == many[1] == other[1]


def test_an_interrupted_run_goes_on_to_the_same_end(task, tmp_path, monkeypatch):
    run(task, tmp_path / "whole")
    save = Saver.save

    def killed(saver, step, *rest):
        save(saver, step, *rest)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(task, tmp_path / "cut")
    monkeypatch.undo()
    _shrink(monkeypatch)
    run(task, tmp_path / "cut")
    for name in ("metrics.jsonl", "model/model.safetensors", "predictions/case_001.nii.gz"):
        paths = [tmp_path / out / name for out in ("whole", "cut")]
        assert paths[0].exists() == paths[1].exists()
        assert not paths[0].exists() or paths[0].read_bytes() == paths[1].read_bytes()


def _shrink(monkeypatch):
    tiny = replace(BACKBONES["resenc-tiny"], features=(4, 8), blocks=(1, 1), input_size=16)
    monkeypatch.setitem(BACKBONES, "resenc-tiny", tiny)


@pytest.mark.parametrize("model", ["random:vit-tiny", "random:resenc-tiny"])
def test_a_linear_decoder_reads_any_backbone(task, tmp_path, model):
    overrides = ["views.patch=[16,16,16]", "last_layers=2"]
    result = run(task, tmp_path / "A", *overrides, model=model, protocol="linear-decoder")
    assert result.chosen["step"] in (2, 4)
    scaling = "zscore" if "resenc" in model else "percentile-0.05-99.95"
    assert load_segmenter(tmp_path / "A").preprocessing.scaling == scaling


def test_several_channels(tmp_path):
    task = write_msd_task(tmp_path / "T", num_cases=6, channels=("T1", "T2"))
    run(task, tmp_path / "A")
    assert load_segmenter(tmp_path / "A").preprocessing.channels == ("T1", "T2")


def test_images(tmp_path):
    task = write_nnunet_task(tmp_path / "T", num_cases=6, shape=(20, 24))
    result = run(task, tmp_path / "A", "views.patch=[16,16]")
    assert result.num_test == 1
    assert len(list((tmp_path / "A" / "predictions").glob("*.png"))) == 1


def test_a_fold_of_the_task_is_its_test_set(tmp_path):
    task = write_nnunet_task(tmp_path / "T", num_cases=6)
    names = [f"case_{number:03d}" for number in range(6)]
    (task / "splits_final.json").write_text(json.dumps([{"train": names[2:], "val": names[:2]}]))
    run(task, tmp_path / "A", "fold=0")
    tables = read_tables(tmp_path / "A")
    assert sorted(tables.predictions["case"]) == names[:2]
    assert tables.trials["fold"].to_list() == [0]


def test_a_broken_test_scan_is_a_row_with_its_reason(tmp_path):
    task = write_msd_task(tmp_path / "T", num_cases=10)
    run(task, tmp_path / "A", "training.steps=1", "training.checkpoint_every=1")
    broken = read_tables(tmp_path / "A").predictions["case"][0]
    (task / "imagesTr" / f"{broken}.nii.gz").write_bytes(b"no scan")
    result = run(task, tmp_path / "B")
    assert list(result.problems) == [broken]
    rows = read_tables(tmp_path / "B").results.filter(pl.col("case") == broken)
    assert rows["reason"][0].startswith("not read:")


def test_test_scans_seen_in_pretraining_are_told(task, tmp_path):
    from scanlore.verbs.corpus_build import build_corpus

    build_corpus([task / "imagesTr"], tmp_path / "C", ["slices_above=0"])
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "views: {policy: affine, size: 8, masks: {block: 4, ratio: [0.5, 0.5]}}\n"
        "backbone: {name: resenc-tiny}\nmethod: {name: s3d}\noptim: {name: sgd}\ndata: {slices_above: 0}\n"
        "training: {steps: 2, batch_size: 2, num_workers: 0, precision: fp32}\nhealth: {every: 2, scans: 4}\n"
    )
    for name, overrides, seen in (("R", [], "scan"), ("H", [f"data.hold_out={task}"], "none")):
        pretrain(tmp_path / "C", str(recipe), tmp_path / name, overrides, device="cpu")
        result = run(task, tmp_path / f"A{name}", model=str(tmp_path / name))
        assert result.seen == seen
        assert any("seen in pretraining" in warning for warning in result.warnings) == (seen == "scan")
        assert (tmp_path / name / "previews" / "step_00000002.png").is_file()


def test_held_out_scans_are_those_the_task_tests_on(task, tmp_path):
    result = run(task, tmp_path / "A", "training.steps=1", "training.checkpoint_every=1", seed=5)
    assert len(held_out_ids(task)) == result.num_test


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"protocol": "knn"}, ConfigError, "'knn' does not fit a task with masks"),
        ({"model": "random:vit-tiny"}, ModelError, "needs a network with a decoder of its own, which vit-tiny lacks"),
        ({"model": "pixels:8", "protocol": "linear-decoder"}, ModelError, "cannot use it"),
        ({"overrides": ["views.patch=[15,16,16]"]}, ConfigError, "the nearest that fits is 16 x 16 x 16"),
        ({"labels": "1%"}, ConfigError, "leaves no scan"),
        ({"labels": "99"}, ConfigError, "there are 6 training cases"),
        ({"labels": "few"}, ConfigError, "'few' is no number of labels"),
        ({"overrides": ["fold=0"]}, ConfigError, "has no splits_final.json"),
        ({"overrides": ["selection=best-val"]}, ConfigError, "needs val_every"),
        ({"overrides": ["training.stepss=4"]}, ConfigError, "did you mean 'training.steps'"),
    ],
)
def test_a_wrong_call_is_refused_and_leaves_nothing(task, tmp_path, options, error, message):
    arguments = {"model": "random:resenc-tiny", "protocol": "transfer", "overrides": [], "labels": "all"} | options
    fast = [] if arguments["protocol"] == "knn" else FAST if arguments["protocol"] == "transfer" else LINEAR
    overrides = [*fast, *arguments["overrides"]]
    with pytest.raises(error, match=message):
        adapt(
            arguments["model"],
            task,
            tmp_path / "A",
            arguments["protocol"],
            None,
            overrides,
            arguments["labels"],
            device="cpu",
        )
    assert not (tmp_path / "A").exists()


def test_a_task_with_labels_for_scans_is_refused_with_what_fits(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ConfigError, match="protocols for it: knn, linear-probe"):
        adapt("random:resenc-tiny", tmp_path, tmp_path / "A", "transfer")


def test_a_class_without_any_voxel_is_named(tmp_path):
    task = write_msd_task(tmp_path / "T", labels={"0": "background", "1": "one", "2": "two", "3": "three"})
    with pytest.raises(DataError, match="three"):
        run(task, tmp_path / "A")


def test_the_scans_of_a_fold_can_be_held_out(tmp_path):
    task = write_nnunet_task(tmp_path / "T", num_cases=6)
    names = [f"case_{number:03d}" for number in range(6)]
    (task / "splits_final.json").write_text(json.dumps([{"train": names[1:], "val": names[:1]}]))
    of_fold = content_ids(next(case for case in load_segmentation_task(task).cases if case.name == names[0]))
    assert held_out_ids(task, fold=0) == set(of_fold)


def test_two_cases_are_enough_where_nothing_is_chosen(tmp_path):
    task = write_msd_task(tmp_path / "T", num_cases=2)
    assert run(task, tmp_path / "A").num_test == 1
    with pytest.raises(DataError, match="none is left to choose by"):
        run(task, tmp_path / "B", "selection=best-val", "val_every=2")
