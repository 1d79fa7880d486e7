import numpy as np
import pytest

from factories import write_nifti_file, write_png
from scanlore.errors import DataError
from scanlore.verbs import demo as verb

SHORT = ["training.steps=2", "training.batch_size=4", "training.num_workers=0"]


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(verb, "OVERRIDES", {3: SHORT, 2: SHORT})
    monkeypatch.setattr(verb, "NUM_SCANS", 12)


def test_a_labelled_folder_of_volumes_ends_in_a_page_and_a_verdict(short, tmp_path):
    for number in range(8):
        for label in "ab":
            seed = number + 10 * ord(label)
            write_nifti_file(tmp_path / "data" / label / f"{number}.nii.gz", (28, 30, 26), seed=seed)
    result = verb.demo(tmp_path / "out", tmp_path / "data")
    page = result.page.read_text()
    assert {row["model"] for row in result.rows} == {"pretrained", "untrained", "raw pixels"}
    assert "AUROC difference" in result.verdict
    assert result.verdict in page
    assert "Not a medical device" in page


def test_scans_that_are_tested_on_are_never_pretrained_on(short, tmp_path):
    task = verb._task(make_labelled(tmp_path), is_given=True)
    used = {path.name for path in verb._unlabelled(tmp_path / "data", task)}
    assert used == {"0.png", "1.png", "2.png", "10.png", "11.png", "12.png"}


def make_labelled(root):
    for number in range(4):
        for label, first in (("a", 0), ("b", 10)):
            split = "test" if number == 3 else "train"
            write_png(root / "data" / split / label / f"{first + number}.png", seed=first + number)
    return root / "data"


@pytest.mark.slow
def test_the_made_cohort(short, tmp_path):
    pytest.importorskip("nilearn")
    result = verb.demo(tmp_path)
    assert np.isfinite([row["value"] for row in result.rows]).all()
    assert "The scans are made" in result.page.read_text()


@pytest.mark.slow
def test_images_and_no_labels(short, tmp_path):
    for number in range(6):
        write_png(tmp_path / "data" / f"{number}.png", (64, 60), seed=number)
    result = verb.demo(tmp_path / "out", tmp_path / "data")
    assert result.rows == []
    assert "Nothing was scored" in result.page.read_text()


def test_data_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="there is nothing"):
        verb.demo(tmp_path / "out", tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
