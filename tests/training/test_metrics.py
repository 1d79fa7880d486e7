import json
import math
import os

import pytest
from PIL import Image

from scanlore.training import metrics
from scanlore.training.metrics import MetricsWriter, read_rows


@pytest.fixture(autouse=True)
def no_board(monkeypatch):
    monkeypatch.setattr(metrics, "_tensorboard", lambda out, start: None)


def write(out, start, *steps):
    writer = MetricsWriter(out, start)
    for step in steps:
        writer.write({"step": step, "loss": step / 3}, {"step": step, "seconds": 0.1})
    writer.close()


def test_values_and_timings_are_in_files_of_their_own(tmp_path):
    write(tmp_path, 0, 1, 2)
    assert read_rows(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": 2 / 3}]
    assert read_rows(tmp_path / "timings.jsonl") == [{"step": 1, "seconds": 0.1}, {"step": 2, "seconds": 0.1}]


def test_rows_behind_the_checkpoint_are_cut_on_resume(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    write(tmp_path / "a", 0, 1, 2, 3, 4)
    write(tmp_path / "b", 0, 1, 2, 3)
    write(tmp_path / "b", 2, 3, 4)
    for name in ("metrics.jsonl", "timings.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_last_line_cut_short_is_left_out(tmp_path):
    write(tmp_path, 0, 1, 2)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert [row["step"] for row in read_rows(path)] == [1]


def test_cutting_replaces_the_file_instead_of_writing_over_it(tmp_path):
    write(tmp_path, 0, 1, 2)
    os.link(tmp_path / "metrics.jsonl", tmp_path / "before")
    write(tmp_path, 1)
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1]
    assert [row["step"] for row in read_rows(tmp_path / "before")] == [1, 2]


def test_a_loss_that_is_not_finite_can_be_read_back(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write({"step": 1, "loss": math.nan}, {"step": 1})
    writer.close()
    assert math.isnan(read_rows(tmp_path / "metrics.jsonl")[0]["loss"])


def test_rows_are_on_disk_before_the_run_ends(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write({"step": 1}, {"step": 1})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1}
    writer.close()


def test_no_file_no_rows(tmp_path):
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_a_picture_goes_to_the_board_where_it_is(tmp_path, monkeypatch):
    class Board:
        def add_image(self, name, image, step, dataformats):
            shown.append((name, image.shape, step, dataformats))

        def close(self):
            pass

    shown = []
    monkeypatch.setattr(metrics, "_tensorboard", lambda out, start: Board())
    Image.new("RGB", (4, 3), "red").save(tmp_path / "views.png")
    writer = MetricsWriter(tmp_path, 0)
    writer.add_picture("first batch", tmp_path / "views.png", 1)
    writer.add_picture("missing", tmp_path / "nowhere.png", 1)
    writer.close()
    assert shown == [("first batch", (3, 4, 3), 1, "HWC")]
