import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from factories import write_nifti_file, write_png
from scanlore import cli
from scanlore.errors import ConfigError, DataError, ModelError
from scanlore.evaluation.paired import compare_trials
from scanlore.evaluation.tables import read_table
from scanlore.verbs.adapt import adapt


def write_task(folder, num_cases=20):
    """Images bright on the side their class names, two a patient, and one without label."""
    rng = np.random.default_rng(0)
    rows = ["image,label,patient"]
    for index in range(num_cases):
        pixels = rng.integers(0, 60, (16, 16)).astype(np.uint8)
        right = index % 4 > 1
        pixels[:, slice(8, 16) if right else slice(0, 8)] += 150
        write_png(folder / f"{index}.png", pixels=pixels)
        rows.append(f"{index}.png,{'right' if right else 'left'},name-{index // 2}")
    write_png(folder / "unlabelled.png", (16, 16))
    (folder / "labels.csv").write_text("\n".join([*rows, "unlabelled.png,,"]) + "\n")
    return folder / "labels.csv"


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "task")


def run(task, out, protocol="knn", overrides=("k=3",), model="pixels:8", **options):
    return adapt(model, task, out, protocol, overrides=overrides, device="cpu", **options)


def test_knn(task, tmp_path):
    result = run(task, tmp_path / "run")
    assert (result.num_train, result.num_val, result.num_test, result.patients) == (16, 0, 4, "known")
    assert {row.metric: row.value for row in result.rows} == dict.fromkeys(
        ["macro_auroc", "accuracy", "balanced_accuracy", "macro_f1"], 1.0
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "config.yaml", "predictions.parquet", "results.parquet", "run.json", "run.log", "trials.parquet",
    ]  # fmt: skip


def test_linear_probe(task, tmp_path):
    result = run(task, tmp_path / "run", "linear-probe", ["steps=50", "last_layers=[1]"])
    assert result.rows[0].value == 1
    assert (result.num_train, result.num_val, result.num_test) == (12, 4, 4)
    trial = read_table(tmp_path / "run", "trials").row(0, named=True)
    assert (trial["num_configs"], trial["source"], trial["seen"]) == (26, "run", "unknown")
    assert trial["selection"] == "best macro_auroc on validation"
    sealed = json.loads((tmp_path / "run" / "run.json").read_text())["sealed"]
    assert sealed["chosen"] == json.loads(trial["chosen"])


def test_predictions_name_no_patient(task, tmp_path):
    run(task, tmp_path / "run")
    table = read_table(tmp_path / "run", "predictions")
    assert "name-" not in str(table["patient"].to_list())
    assert table.group_by("split").len().sort("split").rows() == [(None, 1), ("test", 4)]
    assert table.filter(pl.col("case") == "unlabelled.png")["probabilities"][0].sum() == pytest.approx(1)
    assert table.filter(pl.col("split") == "test")["patient"].n_unique() == 2


def test_predictions_name_classes(task, tmp_path):
    run(task, tmp_path / "run")
    for row in read_table(tmp_path / "run", "predictions").iter_rows(named=True):
        assert row["classes"] == ["left", "right"]
        assert row["predicted"] == row["classes"][int(np.argmax(row["probabilities"]))]
        assert row["target_class"] == (None if row["target"] is None else row["classes"][row["target"]])


def test_all_bad_scans_are_seen_before_a_refusal(task, tmp_path):
    for number in (0, 7, 13):
        (task.parent / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"3 of 21 scans.*13\.png.*`--set features\.max_bad=0\.15`"):
        run(task, tmp_path / "run")
    assert (tmp_path / "run" / "run.log").read_text().count("skipped") == 3
    assert len(run(task, tmp_path / "more", overrides=["k=3", "features.max_bad=0.15"]).problems) == 3


def test_the_command_prints_a_skipped_scan_once(task, tmp_path, monkeypatch, capsys, caplog):
    (task.parent / "0.png").write_bytes(b"broken")
    arguments = ["adapt", "pixels:8", task, "--out", tmp_path / "run", "--protocol", "knn"]
    monkeypatch.setattr(sys, "argv", ["scanlore", *map(str, arguments)])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr()
    assert printed.err.count("skipped") == 1
    assert "1 skipped; patients known; chosen: k " in printed.out
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_the_same_call_again_returns_the_results(task, tmp_path):
    first = run(task, tmp_path / "run")
    stamp = (tmp_path / "run" / "trials.parquet").stat().st_mtime_ns
    again = run(task, tmp_path / "run")
    assert (first.already_finished, again.already_finished) == (False, True)
    assert (again.rows, again.trial) == (first.rows, first.trial)
    assert (tmp_path / "run" / "trials.parquet").stat().st_mtime_ns == stamp


def test_other_settings_or_labels_are_refused(task, tmp_path):
    run(task, tmp_path / "run")
    with pytest.raises(ConfigError, match="k: 3 -> 4"):
        run(task, tmp_path / "run", overrides=["k=4"])
    task.write_text(task.read_text().replace("0.png,left", "0.png,right", 1))
    with pytest.raises(ConfigError, match="task_fingerprint"):
        run(task, tmp_path / "run")


def test_an_unreadable_test_case_is_named(task, tmp_path):
    run(task, tmp_path / "whole")
    case = read_table(tmp_path / "whole", "predictions").filter(pl.col("split") == "test")["case"][0]
    (task.parent / case).write_bytes(b"broken")
    result = run(task, tmp_path / "run")
    assert list(result.problems) == [case]
    assert result.rows[0].n == 3
    assert result.num_test == 3
    row = read_table(tmp_path / "run", "results").filter(pl.col("case") == case).row(0, named=True)
    assert row["value"] is None
    assert row["reason"].startswith("not read")


def test_volumes_and_networks(tmp_path):
    for index in range(8):
        write_nifti_file(tmp_path / "task" / "ab"[index % 2] / f"{index}.nii.gz", (8, 9, 7), seed=index)
    result = run(tmp_path / "task", tmp_path / "run", model="pixels:4")
    assert (result.patients, result.num_test) == ("unknown", 2)


def test_two_models_can_be_compared(task, tmp_path):
    for model in ("pixels:8", "pixels:1"):
        run(task, tmp_path / model, model=model)
    tables = [read_table(tmp_path / model, "predictions") for model in ("pixels:8", "pixels:1")]
    assert compare_trials(*tables, "accuracy").num_cases == 4


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"protocol": "linear"}, ConfigError, "no protocol 'linear'"),
        ({"overrides": ["kk=3"]}, ConfigError, "unknown setting 'kk'"),
        ({"seed": -1}, ConfigError, "seed: must be 0 or more"),
        ({"task": "nowhere"}, DataError, "does not exist"),
        ({"model": "nowhere"}, ModelError, "no such model"),
    ],
)
def test_a_refused_call_leaves_no_folder(task, tmp_path, change, kind, message):
    with pytest.raises(kind, match=message):
        run(**{"task": task, "out": tmp_path / "run"} | change)
    assert not (tmp_path / "run").exists()


def test_a_mistyped_setting_is_answered_without_torch_or_polars():
    code = """
import sys
from scanlore.errors import ConfigError
from scanlore.verbs.adapt import adapt
try:
    adapt("m", "t", "o", "knn", overrides=["kk=1"])
except ConfigError:
    print({"torch", "polars", "sklearn"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
