import pytest
import torch

from scanlore.errors import ModelError
from scanlore.training import checkpoint
from scanlore.training.checkpoint import checkpoint_path, checkpoint_steps, load_checkpoint, save_checkpoint


def save(run, *steps, keep=2):
    for step in steps:
        save_checkpoint(run, step, {"step": step, "method": {"weight": torch.full((3,), float(step))}}, keep)


def test_round_trip(tmp_path):
    save(tmp_path, 4)
    state = load_checkpoint(tmp_path, 4)
    assert state["step"] == 4
    assert torch.equal(state["method"]["weight"], torch.full((3,), 4.0))


def test_the_newest_are_kept(tmp_path):
    save(tmp_path, 9, 10, 11, 100, keep=2)
    assert checkpoint_steps(tmp_path) == [11, 100]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_00000011", "step_00000100"]


def test_no_checkpoints(tmp_path):
    assert checkpoint_steps(tmp_path) == []


def test_what_a_kill_left_is_ignored_and_overwritten(tmp_path):
    save(tmp_path, 2)
    left = tmp_path / "checkpoints" / ".step_00000004.tmp"
    left.mkdir()
    (left / "state.pt").write_bytes(b"half")
    assert checkpoint_steps(tmp_path) == [2]
    save(tmp_path, 4)
    assert checkpoint_steps(tmp_path) == [2, 4]
    assert not left.exists()


def test_a_kill_while_writing_leaves_the_one_before(tmp_path, monkeypatch):
    save(tmp_path, 2)

    def killed(state, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 4)
    assert checkpoint_steps(tmp_path) == [2]
    assert load_checkpoint(tmp_path, 2)["step"] == 2


@pytest.mark.parametrize("content", [b"", b"garbage", "half", None])
def test_damage_is_one_line_that_says_what_to_do(tmp_path, content):
    save(tmp_path, 2)
    path = checkpoint_path(tmp_path, 2) / "state.pt"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-200] if content == "half" else content)
    with pytest.raises(ModelError) as caught:
        load_checkpoint(tmp_path, 2)
    assert "\n" not in str(caught.value)
    assert "step_00000002: the checkpoint cannot be read" in str(caught.value)
    assert "remove this folder" in str(caught.value)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path, capsys):
    save_checkpoint(tmp_path, 2, {"step": Evil()}, keep=1)
    with pytest.raises(ModelError):
        load_checkpoint(tmp_path, 2)
    assert capsys.readouterr().out == ""
