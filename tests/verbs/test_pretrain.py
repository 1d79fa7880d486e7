import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from factories import write_nifti_file
from scanlore.errors import ConfigError, DataError, ModelError, ScanloreError
from scanlore.modelfolder.checkpoint_reader import read_checkpoint
from scanlore.modelfolder.folder import read_tensors
from scanlore.modelfolder.reference import load_model
from scanlore.modelfolder.seen import seen_status
from scanlore.training.metrics import read_rows
from scanlore.verbs.pretrain import pretrain

SHORT = ["training.steps=2"]


@pytest.fixture(scope="module")
def finished(tiny_corpus, tiny_recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    return pretrain(tiny_corpus, tiny_recipe, out, device="cpu")


def files(out):
    """Return size and time of every file but TensorBoard's."""
    paths = (path for path in out.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    return {str(path.relative_to(out)): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def test_the_files_of_a_run(finished):
    assert set(files(finished.out)) == {
        "config.yaml",
        "run.json",
        "run.log",
        "data.json",
        "scans.txt",
        "metrics.jsonl",
        "timings.jsonl",
        "report.html",
        "previews/first_batch.png",
        *(
            f"checkpoints/step_{step:08d}/{name}"
            for step in (4, 6)
            for name in (".metadata", "__0_0.distcp", "state.json")
        ),
        "model/model.safetensors",
        "model/heads.safetensors",
        "model/scans.txt",
        "model/model.json",
        "model/README.md",
    }


def test_the_result(finished):
    assert (finished.state, finished.steps) == ("new", 6)
    assert finished.model == finished.out / "model"
    assert finished.metrics["step"] == 6
    assert {"feature_std", "effective_rank"} <= finished.metrics.keys()


def test_metrics_are_computed_values_alone(finished):
    rows = read_rows(finished.out / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert ["feature_std" in row for row in rows] == [False, False, True, False, False, True]
    assert not {"seconds", "data_wait", "scans_per_second"} & rows[0].keys()
    assert all(0 <= row["data_wait"] <= 1 for row in read_rows(finished.out / "timings.jsonl"))


def test_the_configuration_is_whole_and_has_no_auto_that_matters(tiny_corpus, tiny_recipe, tmp_path):
    overrides = [*SHORT, "training.precision=auto", "health.every=0"]
    pretrain(tiny_corpus, tiny_recipe, tmp_path / "run", overrides, device="cpu")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["training"]["precision"] in ("bf16", "fp32")
    assert config["optim"]["betas"] == [0.9, 0.999]
    assert len(config["corpus"]) == 16


def test_the_record_and_the_data(finished, tiny_corpus):
    record = json.loads((finished.out / "run.json").read_text())
    assert (record["command"], record["status"]) == ("pretrain", "finished")
    assert json.loads((finished.out / "data.json").read_text())["num_entries"] == 8


def test_the_model_embeds_scans(finished, tmp_path):
    scans = [write_nifti_file(tmp_path / f"{seed}.nii", (28, 30, 26), seed=seed) for seed in (20, 21)]
    model = load_model(finished.out)
    embeddings = model.embed(scans)
    assert embeddings.shape == (2, 192)
    assert np.isfinite(embeddings).all()
    assert not np.allclose(embeddings[0], embeddings[1])


def test_the_model_is_the_teacher_of_the_last_checkpoint(finished):
    state = read_checkpoint(finished.out / "checkpoints" / "step_00000006", ("teacher.",))
    for name, tensor in load_model(finished.out).backbone.state_dict().items():
        assert torch.equal(tensor, state[f"teacher.backbone.{name}"])
    both = [load_model(reference).backbone.state_dict() for reference in (finished.out, f"{finished.out}@6")]
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])


def test_a_finished_run_says_so_and_changes_nothing(finished, tiny_corpus, tiny_recipe):
    before = files(finished.out)
    again = pretrain(tiny_corpus, tiny_recipe, finished.out, device="cpu")
    assert (again.state, again.metrics) == ("finished", finished.metrics)
    assert files(finished.out) == before


def test_other_settings_are_refused_with_the_differing_keys(finished, tiny_corpus, tiny_recipe):
    before = files(finished.out)
    with pytest.raises(ConfigError) as caught:
        pretrain(tiny_corpus, tiny_recipe, finished.out, ["optim.lr=1e-5", "seed=3"], device="cpu")
    assert "other settings: optim.lr: 0.002 -> 1e-05; seed: 0 -> 3" in str(caught.value)
    assert files(finished.out) == before


def test_another_corpus_is_refused(finished, tiny_corpus_2d, tiny_recipe_2d, tiny_corpus, tiny_recipe, tmp_path):
    copied = tmp_path / "moved"
    shutil.copytree(tiny_corpus, copied)  # the same corpus elsewhere is the same corpus
    assert pretrain(copied, tiny_recipe, finished.out, device="cpu").state == "finished"
    with pytest.raises(ConfigError, match="corpus: "):
        pretrain(tiny_corpus_2d, tiny_recipe_2d, finished.out, device="cpu")


def test_a_folder_that_is_no_run_is_refused(tiny_corpus, tiny_recipe, tmp_path):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(ConfigError, match="is no run folder"):
        pretrain(tiny_corpus, tiny_recipe, tmp_path, device="cpu")
    assert os.listdir(tmp_path) == ["thesis.tex"]


def refused(kind, *args):
    with pytest.raises(kind) as caught:
        pretrain(*args, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refused_calls_leave_no_folder(tiny_corpus, tiny_corpus_2d, tiny_recipe, tmp_path):
    out = tmp_path / "run"
    text = refused(DataError, tiny_corpus_2d, tiny_recipe, out)
    assert "a 3D recipe needs at least 2 scans with more than 24 slices; the corpus has 0" in text
    assert "28 slices" in refused(DataError, tiny_corpus, tiny_recipe, out, ["data.slices_above=28"])
    assert "is no corpus" in refused(DataError, tmp_path, tiny_recipe, out)
    assert "did you mean '3dino-vit-s'" in refused(ConfigError, tiny_corpus, "3dino-vit-m", out)
    assert "unknown setting 'optim.lrr'" in refused(ConfigError, tiny_corpus, tiny_recipe, out, ["optim.lrr=1"])
    labelled = [f"health.labelled={tmp_path / 'nowhere'}"]
    assert "nowhere" in refused(DataError, tiny_corpus, tiny_recipe, out, labelled)
    with pytest.raises(ConfigError, match="no device 'gpu'"):
        pretrain(tiny_corpus, tiny_recipe, out, device="gpu")
    assert os.listdir(tmp_path) == []


def test_a_mistyped_key_is_answered_without_torch(tmp_path):
    program = (
        "import sys; from scanlore.errors import ConfigError; from scanlore.verbs.pretrain import pretrain\n"
        "try: pretrain('C', '3dino-vit-s', 'R', ['optim.lrr=1'])\n"
        "except ConfigError as error: print(error)\n"
        "print(sorted({'torch', 'polars', 'sklearn', 'scipy', 'matplotlib', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    message, heavy = done.stdout.splitlines()
    assert "unknown setting 'optim.lrr'; did you mean 'optim.lr'?" in message
    assert "torch" not in heavy
    assert "polars" not in heavy
    assert os.listdir(tmp_path) == []


def test_a_damaged_checkpoint_is_one_line_and_removing_it_goes_on(tiny_corpus, tiny_recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr("scanlore.verbs.pretrain_run._export", lambda *_: exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny_corpus, tiny_recipe, out, device="cpu")
    monkeypatch.undo()
    last = out / "checkpoints" / "step_00000006"
    (last / "__0_0.distcp").write_bytes(b"")
    text = refused(ModelError, tiny_corpus, tiny_recipe, out)
    assert f"{last}: the checkpoint cannot be read" in text
    shutil.rmtree(last)
    assert pretrain(tiny_corpus, tiny_recipe, out, device="cpu").state == "continued"
    assert [row["step"] for row in read_rows(out / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_labelled_scans_give_knn_accuracy(tiny_corpus, tiny_recipe, tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for number, name in enumerate("ab"):
            for seed in range(count):
                path = tmp_path / "labelled" / split / name / f"{split}{seed}.nii"
                write_nifti_file(path, (28, 30, 26), seed=100 * number + 10 * count + seed)
    overrides = [*SHORT, f"health.labelled={tmp_path / 'labelled'}"]
    result = pretrain(tiny_corpus, tiny_recipe, tmp_path / "run", overrides, device="cpu")
    assert result.metrics["knn_accuracy"] in (0, 0.25, 0.5, 0.75, 1)


def test_collapse_is_noted_with_its_remedy(tiny_corpus, tiny_recipe, tmp_path, monkeypatch):
    def constant(pyramid, view, scaling, rule, outside=None):
        return torch.zeros(view.size)

    monkeypatch.setattr("scanlore.views.loader.sample", constant)
    monkeypatch.setattr("scanlore.verbs.looks.sample", constant)
    result = pretrain(tiny_corpus, tiny_recipe, tmp_path / "run", SHORT, device="cpu")
    assert result.warnings == json.loads((tmp_path / "run" / "run.json").read_text())["warnings"]
    assert result.warnings[0].startswith("step 2: collapse: embeddings of different scans are nearly equal")
    assert "Lower optim.lr" in result.warnings[0]
    assert result.warnings[0] in (tmp_path / "run" / "run.log").read_text()


def test_no_looks(tiny_corpus, tiny_recipe, tmp_path):
    result = pretrain(tiny_corpus, tiny_recipe, tmp_path / "run", [*SHORT, "health.every=0"], device="cpu")
    assert "feature_std" not in result.metrics
    assert result.warnings == []


@pytest.mark.parametrize("kind", ["images", "slices of volumes"])
def test_a_2d_recipe(tiny_corpus, tiny_corpus_2d, tiny_recipe_2d, tmp_path, kind):
    corpus = tiny_corpus_2d if kind == "images" else tiny_corpus
    result = pretrain(corpus, tiny_recipe_2d, tmp_path / "run", SHORT, device="cpu")
    scan = write_nifti_file(tmp_path / "scan.nii", (28, 30, 26), seed=20)
    assert load_model(result.model).embed(scan).shape == (1, 192)


STAGED = {
    "stages": {
        "base": {},
        "highres": {"start_step": 2, "views": {"global_crops": {"size": 24}}, "backbone": {"image_size": 24}},
    }
}


@pytest.fixture
def staged_recipe(tiny_recipe, tmp_path):
    path = tmp_path / "staged.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(Path(tiny_recipe).read_text()) | STAGED, sort_keys=False))
    return str(path)


def test_stages_follow_each_other_with_their_heads(tiny_corpus, staged_recipe, tmp_path):
    out = tmp_path / "run"
    command = (tiny_corpus, staged_recipe, out, ["training.steps=3", "training.checkpoint_every=1"])
    result = pretrain(*command, device="cpu")
    assert (result.state, result.steps, result.model) == ("new", 3, out / "model")
    log = (out / "stages" / "highres" / "run.log").read_text()
    assert "pos_embed" in log
    assert "resized from 2x2x2 to 3x3x3" in log
    assert load_model(out).preprocessing.input_size == 24
    assert load_model(f"{out / 'stages' / 'base'}@2").preprocessing.input_size == 16
    before = files(out)
    assert pretrain(*command, device="cpu").state == "finished"
    assert files(out) == before


def test_a_staged_run_that_was_interrupted_goes_on_where_it_was(tiny_corpus, staged_recipe, tmp_path, monkeypatch):
    import scanlore.verbs.pretrain_run as module

    out, export = tmp_path / "run", module._export

    def fail_in_the_second_stage(plan, folder, *rest):
        if "highres" in str(folder):
            raise KeyboardInterrupt
        export(plan, folder, *rest)

    monkeypatch.setattr(module, "_export", fail_in_the_second_stage)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny_corpus, staged_recipe, out, ["training.steps=3"], device="cpu")
    monkeypatch.undo()
    base = files(out / "stages" / "base")
    assert pretrain(tiny_corpus, staged_recipe, out, ["training.steps=3"], device="cpu").state == "continued"
    assert files(out / "stages" / "base") == base
    assert (out / "model" / "model.json").is_file()


def test_a_run_can_continue_another_and_says_what_it_loaded(finished, tiny_corpus, tiny_recipe, tmp_path):
    out = tmp_path / "run"
    overrides = [*SHORT, "training.export_at=[1]", "optim.lr=1e-9", "health.every=1"]
    pretrain(tiny_corpus, tiny_recipe, out, overrides, device="cpu", weights=finished.out)
    old, new = (load_model(path).backbone.state_dict() for path in (finished.out, out))
    assert all(torch.allclose(old[name], new[name], atol=1e-5) for name in old)
    old, new = (read_tensors(path / "model" / "heads.safetensors") for path in (finished.out, out))
    assert all(torch.allclose(old[name], new[name], atol=1e-5) for name in old)
    assert "loaded: 175 tensors" in (out / "run.log").read_text()
    assert [row["step"] for row in read_rows(out / "metrics.jsonl")] == [0, 1, 2]
    assert load_model(f"{out}@1").num_parameters == load_model(out).num_parameters


def test_what_the_start_saw_was_seen(finished, tiny_corpus_2d, tiny_corpus, tiny_recipe, tmp_path):
    pretrain(tiny_corpus, tiny_recipe, tmp_path / "run", [*SHORT, "data.slices_above=25"], "cpu", finished.out)
    assert seen_status(tmp_path / "run", ["0" * 32]) == "none"
    (finished_ids,) = [path.read_text().splitlines() for path in [finished.out / "scans.txt"]]
    assert seen_status(tmp_path / "run", [finished_ids[0].split()[0]]) == "scan"


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(tiny_corpus, tiny_recipe, finished, tmp_path):
    out = tmp_path / "run"
    text = refused(
        ModelError, tiny_corpus, tiny_recipe, out, ["backbone.num_registers=2", f"start.weights={finished.out}"]
    )
    assert "register" in text
    assert "continues a model (--weights MODEL" in refused(
        ConfigError, tiny_corpus, tiny_recipe, out, ["start.needed=true"]
    )
    text = refused(ConfigError, tiny_corpus, tiny_recipe, out, ["training.batch_size=9"])
    assert "training.batch_size 9 is larger than the corpus of 8 scans" in text
    assert os.listdir(tmp_path) == []


def test_a_dry_run_writes_nothing(tiny_corpus, tiny_recipe, tmp_path):
    result = pretrain(tiny_corpus, tiny_recipe, tmp_path / "run", device="cpu", dry_run=True)
    assert result.state == "planned"
    (plan,) = result.plan
    rows = {row["what"]: row for row in plan.rows()}
    assert {"batch", "memory of a device", "disk", "whole run"} <= rows.keys()
    assert 0.5 < rows["memory of a device"]["measured / estimated"] < 2
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_torchrun(tiny_corpus, tiny_recipe, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "scanlore"]
    command = ["pretrain", tiny_corpus, "--recipe", tiny_recipe, "--out", tmp_path / "run", "--set", "training.steps=3"]
    for _ in range(2):  # the second call finds it finished
        done = subprocess.run([*launch, *command], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
    assert [row["step"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3]
    assert load_model(tmp_path / "run").num_parameters > 5e6


def labelled_folder(root):
    for split, count in (("train", 4), ("test", 2)):
        for number, name in enumerate("ab"):
            for seed in range(count):
                write_nifti_file(root / split / name / f"{split}{seed}.nii", (28, 30, 26), seed=100 * number + seed)
    return root


def test_a_guard_that_stops_leaves_a_checkpoint_and_the_reason(
    finished, tiny_corpus, tiny_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr("scanlore.verbs.looks.knn_accuracy", lambda *_: levels.pop(0))
    levels = [0.9, 0.5, 0.5, 0.5]
    labelled = labelled_folder(tmp_path / "labelled")
    guarded = [f"health.labelled={labelled}", "health.every=1", "start.guard=stop", "start.guard_patience=2"]
    with pytest.raises(ScanloreError, match="getting worse than its start") as caught:
        pretrain(tiny_corpus, tiny_recipe, tmp_path / "run", guarded, "cpu", finished.out)
    assert "best was 0.900 at step 0" in str(caught.value)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert os.listdir(tmp_path / "run" / "checkpoints")


def test_heads_that_do_not_fit_are_refused_before_anything_is_written(tiny_corpus, tiny_recipe, finished, tmp_path):
    other = ["method.head.prototypes=32", f"start.weights={finished.out}"]
    text = refused(ModelError, tiny_corpus, tiny_recipe, tmp_path / "run", other)
    assert f"{finished.out}: " in text
    assert "start.heads=fresh" in text
    assert os.listdir(tmp_path) == []


def test_where_a_run_goes_on_may_change(tiny_corpus, tiny_recipe, finished):
    elsewhere = ["parallel.activation_checkpointing=full", "training.num_workers=1"]
    assert pretrain(tiny_corpus, tiny_recipe, finished.out, elsewhere, device="cpu").state == "finished"


def test_a_scan_that_turns_to_nan_on_the_way_is_skipped_and_named(tiny_corpus, tiny_recipe, tmp_path, monkeypatch):
    from scanlore.views import loader

    sample, calls = loader.sample, []

    def broken_once(*args):
        calls.append(args)
        return sample(*args) * (float("nan") if 6 <= len(calls) < 10 else 1)

    monkeypatch.setattr(loader, "sample", broken_once)
    monkeypatch.setattr("scanlore.verbs.pretrain_run._blame", lambda batch: f"scan {batch.scans[0]}")
    out = tmp_path / "run"
    result = pretrain(tiny_corpus, tiny_recipe, out, ["training.steps=3", "health.every=0"], device="cpu")
    assert result.steps == 3
    log = (out / "run.log").read_text()
    assert "step 1 was skipped: its gradients are not finite" in log
    assert "step 1: scan " in log


def test_scans_with_voxels_that_are_not_finite_are_named():
    from scanlore.verbs.pretrain_run import _blame
    from tiny_pretraining import random_batch, tiny_settings

    batch = random_batch(tiny_settings(), num_scans=3)
    assert _blame(batch) == ""
    batch.groups["local"].pixels[4, 0, 0, 0, 0] = float("inf")  # crop-major: the second local crop of scan 1
    assert _blame(batch) == "voxels that are not finite in scan 1"
