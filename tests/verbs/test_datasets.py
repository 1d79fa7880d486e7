import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from factories import write_nifti_file, write_png
from scanlore.cli_datasets import datasets_app
from scanlore.errors import ConfigError, DataError
from scanlore.tasks.catalogue import catalogue, dataset
from scanlore.tasks.classification import load_classification_task
from scanlore.verbs import datasets
from scanlore.verbs.datasets import convert_dataset, fetch_dataset, list_datasets, next_commands, show_dataset


def run(*arguments):
    return CliRunner().invoke(datasets_app, [*map(str, arguments)], catch_exceptions=False)


def test_list_has_a_row_for_every_dataset():
    assert [row["dataset"] for row in list_datasets()] == list(catalogue())


def test_list_filters():
    rows = list_datasets(kind="segmentation", modality="mr", access="open")
    assert "msd-hippocampus" in {row["dataset"] for row in rows}
    assert {(row["kind"], row["access"]) for row in rows} == {("segmentation", "open")}
    assert all("MR" in row["modality"] for row in rows)


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"kind": "segmentasion"}, "did you mean 'segmentation'"),
        ({"modality": "MRT"}, "--modality"),
        ({"access": "free"}, "one of open, registration"),
    ],
)
def test_a_wrong_filter_is_answered_with_the_right_ones(filters, words):
    with pytest.raises(ConfigError, match=words):
        list_datasets(**filters)


def test_list_prints_a_table_and_json():
    assert "openmind" in run("list", "--kind", "corpus").stdout
    rows = json.loads(run("list", "--kind", "corpus", "--json").stdout)
    assert {"dataset", "licence", "how many", "access"} <= set(rows[0])
    assert "no dataset" in run("list", "--kind", "corpus", "--modality", "EM").stdout


def test_show_says_all_and_what_to_run_next():
    shown = show_dataset("Task04_Hippocampus")
    assert shown["licence"] == "CC BY-SA 4.0"
    assert shown["how to get it"] == "scanlore datasets fetch msd-hippocampus --out FOLDER"
    assert "imagesTr" in shown["how it must lie"]
    assert shown["next"] == ["scanlore adapt MODEL FOLDER --protocol transfer --out RUN"]
    assert "licence: CC BY-SA 4.0" in run("show", "msd-hippocampus").stdout


def test_show_says_what_is_not_known():
    assert show_dataset("nlst")["licence"] == "not known: see the homepage"
    assert "next" not in show_dataset("s3d-pretraining")


@pytest.mark.parametrize("name", list(catalogue()))
def test_every_dataset_can_be_shown(name):
    assert json.loads(run("show", name, "--json").stdout)["id"] == name


def test_no_heavy_import_for_list_and_show():
    code = (
        "import sys; from typer.testing import CliRunner; from scanlore.cli_datasets import datasets_app;"
        "[CliRunner().invoke(datasets_app, words) for words in (['list'], ['show', 'openmind'])];"
        "print({'torch', 'polars', 'numpy', 'nibabel', 'sklearn'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "set()\n"


def test_convert_makes_a_task_and_names_the_next_command(tmp_path):
    for label in ("benign", "malignant"):
        write_png(tmp_path / "in" / label / "a.png", seed=len(label))
        write_png(tmp_path / "in" / label / "a_mask.png")
    result = convert_dataset("busi", tmp_path / "in", tmp_path / "out")
    assert len(load_classification_task(result.made[0]).cases) == result.num_cases == 2
    assert result.next_command == f"scanlore adapt MODEL {result.made[0]} --protocol linear-probe --out RUN"
    again = run("convert", "busi", tmp_path / "in", "--out", tmp_path / "out")
    assert "was made before" in again.stdout


def test_convert_takes_a_voxel_size(tmp_path):
    arrays = {f"{split}_images": np.zeros((2, 28, 28, 28), np.uint8) for split in ("train", "val", "test")}
    labels = {f"{split}_labels": np.array([[0], [1]], np.uint8) for split in ("train", "val", "test")}
    np.savez(tmp_path / "organmnist3d.npz", **arrays, **labels)
    done = run("convert", "medmnist-organ-3d", tmp_path, "--out", tmp_path / "out", "--assume-spacing", "1,1,1")
    assert "6 cases" in done.stdout
    with pytest.raises(ConfigError, match="have no header"):
        convert_dataset("medmnist-organ-3d", tmp_path, tmp_path / "other", "header")


@pytest.fixture
def built(monkeypatch):
    """Calls of the verbs that build a corpus and join a table."""
    calls = []

    def build_corpus(paths, out, workers=None, assume_spacing=None):
        calls.append(("build", paths, out, assume_spacing))
        return SimpleNamespace(num_new=2, counts={"kept": 2, "dropped": 1, "failed": 0})

    def join_table(corpus, table, key, on):
        calls.append(("join", corpus, table.read_text().splitlines(), key, on))
        return SimpleNamespace(num_rows_matched=2, on=on, columns=["sequence"])

    monkeypatch.setattr("scanlore.verbs.corpus_build.build_corpus", build_corpus)
    monkeypatch.setattr("scanlore.verbs.corpus_change.join_table", join_table)
    return calls


def test_a_corpus_is_built_under_its_name_and_its_table_joined(tmp_path, built):
    write_nifti_file(tmp_path / "in" / "OpenMind" / "ds000001" / "sub-01" / "a.nii.gz")
    table = tmp_path / "in" / "openneuro_metadata.csv"
    table.write_text("image_path,modality,age\nOpenMind/ds000001/sub-01/a.nii.gz,T1w,30\n")
    result = convert_dataset("openmind", tmp_path / "in", tmp_path / "C", "header")
    assert built == [
        ("build", [f"openmind={tmp_path / 'in'}"], tmp_path / "C", "header"),
        (
            "join",
            tmp_path / "C",
            ["path,patient,modality,age", "OpenMind/ds000001/sub-01/a.nii.gz,ds000001/sub-01,T1w,30"],
            "path",
            "relative",
        ),
    ]
    assert (result.num_cases, result.made) == (3, (tmp_path / "C",))
    assert "2 scans found, by relative; columns sequence" in result.notes[0]


def test_a_table_that_matches_nothing_does_not_undo_the_corpus(tmp_path, built, monkeypatch):
    def join_table(*_):
        raise DataError("matches no row of the index")

    monkeypatch.setattr("scanlore.verbs.corpus_change.join_table", join_table)
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-01\n")
    result = convert_dataset("openneuro", tmp_path, tmp_path / "C")
    assert "participants.tsv not joined: matches no row of the index" in result.notes[0]


def test_a_corpus_without_its_table_is_refused_before_anything_is_built(tmp_path, built):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=r"openneuro_metadata\.csv"):
        convert_dataset("openmind", tmp_path / "in", tmp_path / "C")
    assert built == []


@pytest.mark.parametrize(("name", "words"), [("fastmri-knee", "fill in the form"), ("s3d-pretraining", "proprietary")])
def test_without_a_direct_link_fetch_says_what_to_do(tmp_path, name, words):
    with pytest.raises(ConfigError, match=words) as error:
        fetch_dataset(name, tmp_path / "new")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_fetch_takes_another_file_and_names_the_next_commands(tmp_path, monkeypatch):
    (tmp_path / "bloodmnist_64.npz").write_bytes(b"here")
    asked = []

    def fetch_file(remote, folder, proxy, advance):
        asked.append((remote.name, proxy))
        return SimpleNamespace(path=folder / remote.name, num_bytes=4, sha256="ab", is_checked=True, already_done=False)

    monkeypatch.setattr("scanlore.tasks.datasets.fetch.fetch_file", fetch_file)
    result = fetch_dataset("medmnist-blood", tmp_path, "bloodmnist_64.npz", "http://p:1")
    assert asked == [("bloodmnist_64.npz", "http://p:1")]
    assert result.next_commands[0].startswith(
        f"scanlore datasets convert medmnist-blood {tmp_path / 'bloodmnist_64.npz'}"
    )
    out = run("fetch", "msd-spleen", "--out", tmp_path).stdout
    assert f"next: tar -xf {tmp_path / 'Task09_Spleen.tar'} -C {tmp_path}" in out
    assert f"adapt MODEL {tmp_path / 'Task09_Spleen'}" in out


def test_fetch_refuses_a_file_that_is_none_of_its(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'bloodmnist_64\.npz'"):
        fetch_dataset("medmnist-blood", tmp_path, "bloodmnist_46.npz")


def test_the_next_commands_of_every_kind_name_the_verbs_that_take_it():
    kinds = {entry.kind: " ".join(next_commands(dataset(entry.id))) for entry in catalogue().values()}
    assert "pretrain" in kinds["corpus"]
    assert set(datasets.PROTOCOLS) == {kind for kind, text in kinds.items() if "adapt" in text}
