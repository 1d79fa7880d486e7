import errno
import threading

import pytest
import torch

from scanlore.errors import ModelError, ScanloreError
from scanlore.modelfolder.checkpoint_reader import read_checkpoint, read_numbers
from scanlore.training import checkpoint
from scanlore.training.checkpoint import Saver, checkpoint_path, checkpoint_steps, load_checkpoint, newest_checkpoint
from scanlore.training.parallel import World

ALONE = World(0, 1, torch.device("cpu"))


def tensors(value):
    return {"method.weight": torch.full((3,), float(value))}


def save(run, *steps, keep=2):
    saver = Saver(run, keep, ALONE)
    for step in steps:
        saver.save(step, tensors(step), {"step": step})
    saver.wait()


def test_round_trip(tmp_path):
    save(tmp_path, 4)
    found = tensors(0)
    assert load_checkpoint(checkpoint_path(tmp_path, 4), found) == {"step": 4}
    assert torch.equal(found["method.weight"], torch.full((3,), 4.0))


def test_the_newest_are_kept(tmp_path):
    save(tmp_path, 9, 10, 11, 100, keep=2)
    assert checkpoint_steps(tmp_path) == [11, 100]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_00000011", "step_00000100"]
    assert newest_checkpoint(tmp_path, ALONE) == checkpoint_path(tmp_path, 100)


def test_no_checkpoints(tmp_path):
    assert checkpoint_steps(tmp_path) == []
    assert newest_checkpoint(tmp_path, ALONE) is None


def test_what_a_kill_left_is_ignored_and_overwritten(tmp_path):
    save(tmp_path, 2)
    left = tmp_path / "checkpoints" / ".step_00000004.tmp"
    left.mkdir()
    (left / "__0_0.distcp").write_bytes(b"half")
    assert checkpoint_steps(tmp_path) == [2]
    save(tmp_path, 4)
    assert checkpoint_steps(tmp_path) == [2, 4]
    assert not left.exists()


def test_what_is_saved_is_the_state_at_that_time(tmp_path, monkeypatch):
    """Training goes on while a checkpoint is written."""
    go_on, original = threading.Event(), checkpoint._write_tensors
    monkeypatch.setattr(checkpoint, "_write_tensors", lambda *args: (go_on.wait(10), original(*args)))
    saver, state = Saver(tmp_path, 2, ALONE), tensors(1)
    saver.save(1, state, {})
    state["method.weight"].zero_()
    assert checkpoint_steps(tmp_path) == []
    go_on.set()
    saver.wait()
    assert read_checkpoint(checkpoint_path(tmp_path, 1))["weight"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "full"), OSError),
        (RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0"), OSError),
        (RuntimeError("something else\nand more"), ModelError),
    ],
)
def test_what_cannot_be_written_is_told_by_the_next_save(tmp_path, monkeypatch, error, kind):
    save(tmp_path, 2)

    def failing(*args):
        raise error

    monkeypatch.setattr(torch, "save", failing)
    saver = Saver(tmp_path, 2, ALONE)
    saver.save(4, tensors(4), {})
    with pytest.raises(kind) as caught:
        saver.save(6, tensors(6), {})
    assert kind is ModelError or caught.value.errno == errno.ENOSPC
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000002"]
    assert read_numbers(checkpoint_path(tmp_path, 2)) == {"step": 2}


def test_a_failure_is_seen_before_the_next_save(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_write_tensors", lambda *args: 1 / 0)
    saver = Saver(tmp_path, 2, ALONE)
    assert not saver.has_failed
    saver.save(4, tensors(4), {})
    saver.close()
    assert saver.has_failed


@pytest.mark.parametrize(
    "other",
    [
        {"method.weight": torch.zeros(4)},
        {"method.weight": torch.zeros(3), "method.bias": torch.zeros(3)},
        {"method.other": torch.zeros(3)},
        {},
    ],
)
def test_the_checkpoint_of_another_network_is_refused(tmp_path, other):
    save(tmp_path, 2)
    with pytest.raises(ModelError, match="of another network") as caught:
        load_checkpoint(checkpoint_path(tmp_path, 2), other)
    assert isinstance(caught.value, ScanloreError)


def test_an_exception_of_torch_that_is_no_exception_is_told(tmp_path, monkeypatch):
    from torch.distributed.checkpoint.api import CheckpointException

    save(tmp_path, 2)

    def failing(*args, **kwargs):
        raise CheckpointException("load", {0: (RuntimeError("first line\nsecond"), None)})

    monkeypatch.setattr(checkpoint, "load", failing)
    with pytest.raises(ModelError, match="cannot be read: first line"):
        load_checkpoint(checkpoint_path(tmp_path, 2), tensors(0))
