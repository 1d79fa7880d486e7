import os

import pytest
import torch
from safetensors.torch import save_file

from published_weights import teacher_state
from scanlore.errors import ModelError
from scanlore.modelfolder.published.files import read_weights_file


class Code:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def refused(path, says):
    with pytest.raises(ModelError, match=says) as error:
        read_weights_file(path)
    assert "\n" not in str(error.value)


def test_safetensors_and_torch_save_hold_the_same(tmp_path, flat):
    save_file(flat, tmp_path / "a.safetensors", {"made": "here"})
    torch.save(flat, tmp_path / "a.pth")
    first, second = (read_weights_file(tmp_path / name) for name in ("a.safetensors", "a.pth"))
    assert first.tensors.keys() == second.tensors.keys() == flat.keys()
    assert all(torch.equal(second.tensors[name], tensor) for name, tensor in first.tensors.items())
    assert (first.metadata, second.metadata) == ({"made": "here"}, {})


@pytest.mark.parametrize("wrapper", ["teacher", "student", "model", "state_dict"])
def test_what_checkpoints_keep_their_tensors_in(tmp_path, flat, wrapper):
    torch.save({wrapper: flat, "iteration": 7, "optimizer": {"state": {}}}, tmp_path / "a.pth")
    assert read_weights_file(tmp_path / "a.pth").tensors.keys() == flat.keys()


def test_the_teacher_of_a_checkpoint_is_taken(tmp_path, flat):
    torch.save({"student": {"x": torch.zeros(1)}} | teacher_state(flat), tmp_path / "a.pth")
    assert "backbone.cls_token" in read_weights_file(tmp_path / "a.pth").tensors


def test_code_is_refused_and_never_executed(tmp_path, flat):
    torch.save(flat | {"cls_token": Code(tmp_path / "executed")}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "holds code, posix.mkdir, which is not executed")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_half_a_file_is_refused(tmp_path, flat, name, share):
    path = tmp_path / name
    torch.save(flat, path) if name == "a.pth" else save_file(flat, path)
    os.truncate(path, int(path.stat().st_size * share))
    refused(path, f"{name}: cannot be read as weights")


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n", b"PK"])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_page_instead_of_the_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "cannot be read as weights")


def test_what_is_no_state_dict_is_refused(tmp_path):
    for content, says in ((torch.zeros(3), "holds a Tensor"), ([1], "holds a list"), ({"a": 1}, "no named tensors")):
        torch.save(content, tmp_path / "a.pth")
        refused(tmp_path / "a.pth", says)
    refused(tmp_path, "is a folder")
    refused(tmp_path / "b.pth", "no such file")
