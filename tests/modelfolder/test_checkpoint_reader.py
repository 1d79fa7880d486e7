import pickle

import pytest
import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from scanlore.errors import ModelError
from scanlore.modelfolder.checkpoint_reader import read_checkpoint, read_metadata, read_numbers
from scanlore.training.checkpoint import Saver, checkpoint_path
from scanlore.training.parallel import World

TENSORS = {
    "method.teacher.a": torch.arange(12.0).reshape(3, 4),
    "method.student.a": torch.tensor(2.5),
    "method.teacher.b": torch.ones(0, 4, dtype=torch.bfloat16),
    "optimizer.step.teacher.a": torch.tensor(3),
}


@pytest.fixture
def folder(tmp_path):
    saver = Saver(tmp_path, 1, World(0, 1, torch.device("cpu")))
    saver.save(2, TENSORS, {"step": 2})
    saver.wait()
    return checkpoint_path(tmp_path, 2)


def test_tensors_of_the_method_by_their_names_in_it(folder):
    found = read_checkpoint(folder)
    assert found.keys() == {"teacher.a", "student.a", "teacher.b"}
    assert all(torch.equal(found[name], TENSORS[f"method.{name}"]) for name in found)
    assert found["teacher.b"].dtype == torch.bfloat16


def test_a_part_of_them(folder):
    assert read_checkpoint(folder, ("teacher.b", "student.")).keys() == {"teacher.b", "student.a"}


def test_numbers(folder):
    assert read_numbers(folder) == {"step": 2}


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def metadata_with(folder, **values):
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    for name, value in values.items():
        setattr(metadata, name, value)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def test_a_crafted_pickle_is_refused_and_not_executed(folder, capsys):
    metadata_with(folder, planner_data=Evil())
    with pytest.raises(ModelError, match=r"builtins\.print, which is refused"):
        read_checkpoint(folder)
    assert capsys.readouterr().out == ""


def test_a_crafted_tensor_is_refused_and_not_executed(folder, capsys):
    place = next(iter(pickle.loads((folder / ".metadata").read_bytes()).storage_data.values()))
    torch.save(Evil(), folder / "evil")
    data = (folder / place.relative_path).read_bytes()
    (folder / place.relative_path).write_bytes((folder / "evil").read_bytes() + data)
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(folder)
    assert capsys.readouterr().out == ""


def test_files_elsewhere_are_refused(folder):
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    for place in metadata.storage_data.values():
        place.relative_path = "../../elsewhere"
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(ModelError, match="outside its folder"):
        read_checkpoint(folder)


@pytest.mark.parametrize("thing", [[1, 2], Metadata({"method.a": BytesStorageMetadata()}, storage_data={})])
def test_other_things_are_refused(folder, thing):
    (folder / ".metadata").write_bytes(pickle.dumps(thing))
    with pytest.raises(ModelError):
        read_metadata(folder)


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "state.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half"])
def test_damage_is_one_line_that_says_what_to_do(folder, name, damage):
    path = folder / name
    content = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(content[: len(content) // 2] if damage == "half" else b"")
    with pytest.raises(ModelError) as caught:
        read_numbers(folder) if name == "state.json" else read_checkpoint(folder)
    assert "\n" not in str(caught.value)
    assert "step_00000002: the checkpoint cannot be read: " in str(caught.value)
    assert "remove this folder" in str(caught.value)
