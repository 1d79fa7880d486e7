import json
import subprocess
import sys

import pytest

from factories import write_nifti_file, write_png
from scanlore import cli


def run(capsys, monkeypatch, *arguments):
    """Run the command line in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["scanlore", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()


@pytest.fixture
def call(capsys, monkeypatch):
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


@pytest.fixture
def scans(tmp_path):
    for name in "ab":
        write_nifti_file(tmp_path / "scans" / f"{name}.nii.gz", shape=(28, 30, 26), seed=ord(name))
    (tmp_path / "scans" / "notes.txt").write_text("no scan")
    return tmp_path / "scans"


def test_inspect_prints_a_row_per_scan_and_counts(call, scans):
    code, out, _ = call("inspect", scans)
    assert code == 0
    assert "28 x 30 x 26" in out
    assert "2 scans, 0 with problems, 1 other file skipped" in out


def test_inspect_writes_nothing(call, scans, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    call("inspect", scans)
    assert sorted(tmp_path.rglob("*")) == before


def test_inspect_as_json(call, scans):
    _, out, _ = call("inspect", scans, "--json")
    assert [scan["shape"] for scan in json.loads(out)["scans"]] == [[28, 30, 26]] * 2


def test_corpus_build_show_and_nothing_new(call, scans, tmp_path):
    code, out, _ = call("corpus", "build", scans, "--out", tmp_path / "c", "--workers", 1)
    assert (code, "2 new sources; 2 kept" in out) == (0, True)
    assert "nothing new" in call("corpus", "build", scans, "--out", tmp_path / "c", "--workers", 1)[1]
    assert "3D nifti" in call("corpus", "show", tmp_path / "c")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect", "nowhere"], "no such file or folder"),
        (["inspekt", "x"], "inspect"),
        (["corpus", "build", "nowhere", "--out", "c"], "no such file or folder"),
        (["corpus", "build", ".", "--out", "c", "--set", "slices_abov=3"], "'slices_above'"),
        (["corpus", "show", "nowhere"], "is no corpus"),
        (["pretrain", "nowhere", "--out", "r", "--recipe", "3dino-vit-s"], "is no corpus"),
        (["pretrain", "c", "--out", "r", "--recipe", "3dino-vit-x"], "3dino-vit-s"),
        (["pretrain", "c", "--out", "r", "--recipe", "3dino-vit-s", "--set", "optim.lrr=1"], "optim.lr"),
        (["pretrain", "c", "--out", "r"], "--recipe"),
        (["embed", "nowhere", ".", "--out", "e.parquet"], "no scans"),
        (["embed", "random:vit-tiny", ".", "--out", "e.csv"], "parquet"),
        (["adapt", "random:vit-tiny", "nowhere", "--out", "a", "--protocol", "knn"], "nowhere"),
        (["adapt", "random:vit-tiny", ".", "--out", "a", "--protocol", "knnn"], "did you mean 'knn'"),
        (["recipes", "show", "3dino"], "no recipe"),
        (["models", "show", "vit-tin"], "did you mean 'vit-tiny'"),
        (["demo", "--out", "d", "--data", "nowhere"], "nowhere"),
        (["corpus", "build", ".", "--out", "c", "--workers", "0"], "workers"),
        (["pretrain", "c", "--out", "r", "--recipe", "3dino-vit-s", "--set", "steps=4"], "'training.steps'"),
        (["pretrain", "c", "--out", "r", "--recipe", "3dino-vit-s", "--set", "training=4"], "group of settings"),
    ],
)
def test_wrong_arguments_get_one_answer_and_code_2(call, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments)
    assert code == 2
    assert said in out + err
    assert "Traceback" not in out + err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["corpus", "build", "scans", "--out", "file/c"],
        ["adapt", "pixels:8", "scans", "--protocol", "knn", "--out", "file/a"],
        ["demo", "--out", "file/d"],
        ["embed", "pixels:8", "scans", "--out", "file/e.parquet"],
    ],
)
def test_a_place_below_a_file_is_refused(call, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    for label in "ab":
        for number in range(4):
            write_png(tmp_path / "scans" / label / f"{number}.png", seed=number + ord(label))
    (tmp_path / "file").write_text("")
    code, _, err = call(*arguments)
    assert code == 2
    assert "is a file" in err


def test_an_interruption_ends_with_130_and_says_how_to_go_on(call, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("scanlore.verbs.inspect.inspect", interrupted)
    code, _, err = call("inspect", tmp_path)
    assert code == 130
    assert "the same command goes on" in err


def test_empty_folder_and_text_files_are_named(call, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    code, _, err = call("corpus", "build", tmp_path, "--out", tmp_path / "c")
    assert code == 2
    assert "no scans; 1 file skipped, e.g. a.txt" in err


def test_a_defect_of_ours_ends_with_code_1(call, monkeypatch, tmp_path):
    monkeypatch.setattr("scanlore.verbs.inspect.inspect", lambda *_: 1 / 0)
    code, _, err = call("inspect", tmp_path)
    assert code == 1
    assert "internal error: ZeroDivisionError" in err


def test_lists_name_recipes_and_models(call):
    assert "3dino-vit-l" in call("recipes", "list")[1]
    assert "random:PATH" in call("models", "list")[1]
    assert json.loads(call("models", "list", "--json")[1])["networks"][0]["name"] == "vit-tiny"


def test_shown_recipes_have_every_default(call):
    assert "koleo_weight: 0.1" in call("recipes", "show", "3dino-vit-s")[1]
    assert "learning_rates" in call("recipes", "show", "linear-probe")[1]


def test_doctor_names_the_cpu(call):
    code, out, _ = call("doctor", "--json")
    assert code == 0
    assert json.loads(out)["devices"][0]["device"] == "cpu"


def test_embed_and_adapt_from_the_shell(call, tmp_path):
    for label, level in (("dark", 40), ("bright", 200)):
        for number in range(6):
            import numpy as np

            grey = np.random.default_rng(number).integers(0, level, (20, 24)).astype(np.uint8)
            write_png(tmp_path / "t" / label / f"{number}.png", pixels=grey)
    code, out, _ = call("embed", "pixels:8", tmp_path / "t", "--out", tmp_path / "e.parquet")
    assert (code, "12 scans, 64 numbers each" in out) == (0, True)
    code, out, _ = call("adapt", "pixels:8", tmp_path / "t", "--protocol", "knn", "--out", tmp_path / "a")
    assert (code, "macro_auroc" in out) == (0, True)


HEAVY = ("torch", "monai", "polars", "sklearn", "matplotlib")
FAST = [
    ["--help"],
    ["inspekt"],
    ["recipes", "list"],
    ["models", "list"],
    ["pretrain", "c", "--out", "r", "--recipe", "3dino-vit-s", "--set", "optim.lrr=1"],
    ["adapt", "m", "t", "--out", "a", "--protocol", "knn", "--set", "kk=1"],
]


@pytest.mark.parametrize("arguments", FAST, ids=lambda arguments: " ".join(arguments[:2]))
def test_nothing_heavy_is_imported_for_help_and_typos(arguments, tmp_path):
    code = (
        "import sys; sys.argv = ['scanlore', *sys.argv[1:]]\n"
        "from scanlore.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert "heavy: []" in done.stdout, done.stdout + done.stderr


def test_the_commands_of_a_corpus(call, scans, tmp_path):
    corpus = tmp_path / "c"
    assert "2 kept" in call("corpus", "build", scans, "--out", corpus, "--workers", 1)[1]
    assert "seen by" not in call("corpus", "build", scans, "--out", corpus, "--dry-run")[1]
    assert "too few slices" in call("corpus", "curate", corpus, "--set", "slices_above=26", "--dry-run")[1]
    assert call("corpus", "split", corpus, "--by", "scan", "--fractions", "train=0.5,test=0.5")[0] == 0
    assert "2 entries checked, 0 damaged" in call("corpus", "verify", corpus)[1]
    assert "2 scans" in call("corpus", "export", corpus, "--out", tmp_path / "e")[1]
    code, out, _ = call("corpus", "show", corpus)
    assert (code, "report.html" in out, (corpus / "report.html").is_file()) == (0, True, True)
    assert json.loads(call("corpus", "show", corpus, "--json")[1])["counts"]["kept"] == 2


def test_damage_that_is_not_mended_ends_with_code_2(call, scans, tmp_path):
    call("corpus", "build", scans, "--out", tmp_path / "c", "--workers", 1)
    shard = tmp_path / "c" / "shards" / "00000.b2s"
    shard.write_bytes(shard.read_bytes()[:100])
    code, out, err = call("corpus", "verify", tmp_path / "c")
    assert (code, "2 damaged" in out, "corpus verify CORPUS PATH" in err) == (2, True, True)
    assert call("corpus", "verify", tmp_path / "c", scans, "--workers", 1)[0] == 0
