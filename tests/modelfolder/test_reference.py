import os
import pickle

import pytest
import torch
import torch.distributed.checkpoint as dcp
import yaml

from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings
from scanlore.errors import ModelError
from scanlore.modelfolder.reference import load_model, preprocessing_of
from scanlore.views.settings import AffineSettings

VIEWS = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))


def refused(reference, says, **options):
    with pytest.raises(ModelError, match=says) as error:
        load_model(reference, **options)
    assert "\n" not in str(error.value)


def save_checkpoint(state, folder):
    tensors = {f"method.{name}": tensor for name, tensor in state.items()}
    writer = dcp.FileSystemWriter(folder)
    planner = dcp.DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    dcp.save(tensors, storage_writer=writer, planner=planner, no_dist=True)


@pytest.fixture
def run(tmp_path, architecture):
    """A pretraining run with a checkpoint at step 2, whose teacher has weights of seed 7."""
    views = {
        "ndim": 3,
        "scaling": "window",
        "window": [-100, 300],
        "global_crops": {"number": 2, "size": 8, "area": [0.4, 1]},
    }
    folder = tmp_path / "R" / "checkpoints" / "step_00000002"
    folder.mkdir(parents=True)
    config = {"backbone": architecture.model_dump(mode="json"), "views": views}
    (tmp_path / "R" / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "R" / "run.json").write_text('{"command": "pretrain", "status": "running"}')
    weights = build_backbone(architecture, 7).state_dict()
    method = {f"teacher.backbone.{name}": tensor for name, tensor in weights.items()}
    method |= {f"student.backbone.{name}": tensor + 1 for name, tensor in weights.items()} | {"teacher.head.x": VIEWS}
    save_checkpoint(method, folder)
    return tmp_path / "R"


@pytest.mark.parametrize(("ndim", "size"), [(2, 224), (3, 96)])
def test_random_network(ndim, size):
    model, again = load_model("random:vit-tiny", ndim=ndim), load_model("random:vit-tiny", ndim=ndim)
    assert (model.preprocessing.ndim, model.preprocessing.input_size) == (ndim, size)
    assert not model.training
    assert model(torch.zeros(1, 1, *(size,) * ndim)).shape == (1, 24)
    assert torch.equal(model.backbone.pos_embed, again.backbone.pos_embed)
    assert model.facts["provenance"]["untrained"]


@pytest.mark.parametrize(("ndim", "size", "spacing"), [(2, 224, None), (3, 16, 1.0)])
def test_random_cnn(ndim, size, spacing):
    model = load_model("random:resenc-tiny", ndim=ndim)
    seen = model.preprocessing
    assert (seen.ndim, seen.input_size, seen.scaling, seen.resize) == (ndim, size, "zscore", "centre-crop")
    assert (seen.spacing, seen.outside) == (spacing, 0.0)
    assert model(torch.randn(1, 1, *(size,) * ndim)).shape == (1, 12)
    assert model.facts["architecture"]["name"] == "resenc-tiny"


def test_random_like_a_cnn(cnn_folder):
    model, trained = load_model(f"random:{cnn_folder}"), load_model(cnn_folder)
    assert model.preprocessing == trained.preprocessing
    assert model.backbone.settings == trained.backbone.settings
    assert not torch.equal(model.backbone(VIEWS), trained.backbone(VIEWS))


def test_a_method_without_a_teacher_at_step(run):
    cnn = build_backbone(ResEncSettings(name="resenc-tiny"), 7)
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"backbone": cnn.settings.model_dump(mode="json")}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    state = {f"backbone.{name}": tensor for name, tensor in cnn.state_dict().items()} | {"densify.0.token": VIEWS}
    save_checkpoint(state, run / "checkpoints" / "step_00000002")
    assert torch.equal(load_model(f"{run}@2").backbone(VIEWS), cnn(VIEWS))


def test_random_network_is_for_volumes_where_nothing_is_said():
    assert load_model("random:vit-tiny").preprocessing.ndim == 3


def test_random_like_a_model_has_other_weights_and_the_same_preprocessing(folder):
    model, trained = load_model(f"random:{folder}"), load_model(folder)
    assert model.preprocessing == trained.preprocessing
    assert model.backbone.settings == trained.backbone.settings
    assert not torch.equal(model.backbone.pos_embed, trained.backbone.pos_embed)
    assert model.facts["provenance"]["untrained"]


@pytest.mark.parametrize("ndim", [2, 3])
def test_pixels(ndim):
    model = load_model("pixels:8", ndim=ndim)
    x = torch.rand(2, 1, *(8,) * ndim) * 2 - 1
    assert (model.preprocessing.ndim, model.preprocessing.input_size, model.num_parameters) == (ndim, 8, 0)
    assert model(x).shape == (2, 8**ndim)


@pytest.mark.parametrize("edge", ["0", "-3", "8.5", "big", "\u00b2"])
def test_pixels_of_no_size(edge):
    refused(f"pixels:{edge}", "is no edge in voxels")


def test_model_folder_and_the_run_that_holds_it(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    folder.rename(run / "model")
    for path in (run, str(run), run / "model"):
        assert load_model(path).facts["licence"] == "CC0"


def test_run_at_step(run, architecture):
    model = load_model(f"{run}@2")
    expected = build_backbone(architecture, 7).eval()
    assert torch.equal(model.forward_features(VIEWS).maps[0], expected.forward_features(VIEWS).maps[0])
    assert (model.preprocessing.scaling, model.preprocessing.window) == ("window", (-100, 300))
    assert model.facts["provenance"] == {"run": "R", "step": 2}


def test_run_at_a_step_it_does_not_have(run):
    refused(f"{run}@3", r"no checkpoint at step 3 \(it has 2\)")


def test_unfinished_run_names_the_way_on(run):
    refused(run, "not finished")


def test_random_like_an_unfinished_run(run):
    refused(f"random:{run}", "not finished")


def test_damaged_checkpoint(run):
    os.truncate(next((run / "checkpoints" / "step_00000002").glob("*.distcp")), 500)
    refused(f"{run}@2", "step_00000002: the checkpoint cannot be read")


def test_checkpoint_that_would_execute_something(run):
    (run / "checkpoints" / "step_00000002" / ".metadata").write_bytes(pickle.dumps(os.system))
    refused(f"{run}@2", "the checkpoint cannot be read: it holds posix.system, which is refused")


def test_checkpoint_of_another_kind_of_run(run):
    (run / "config.yaml").write_text("protocol: knn\n")
    refused(f"{run}@2", "is no pretraining run")


@pytest.mark.parametrize("folder_exists", [True, False])
def test_no_such_model(tmp_path, folder_exists):
    if folder_exists:
        (tmp_path / "modell").mkdir()
    hint = "did you mean" if folder_exists else "RUN@STEP"
    refused(tmp_path / "model", f"there is no such model.*{hint}")


def test_folder_that_is_no_model(tmp_path):
    (tmp_path / "weights.pt").touch()
    for path in (tmp_path, tmp_path / "weights.pt", f"random:{tmp_path}"):
        refused(path, r"is no model folder \(a model is .*random:NAME")


@pytest.mark.parametrize("reference", ["", "random:", "pixels:", "/", "."])
def test_references_of_nothing(reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(reference, "model")


def test_nearest_name():
    refused("random:vit-tinny", "no backbone 'vit-tinny'.*did you mean 'vit-tiny'")


def test_preprocessing_of_views():
    views = {"ndim": 2, "scaling": "zscore", "window": None, "global_crops": {"size": 48}}
    preprocessing = preprocessing_of(views, "mean")
    assert (preprocessing.ndim, preprocessing.input_size, preprocessing.scaling) == (2, 48, "zscore")


@pytest.mark.parametrize(("size", "shape"), [(8, (8, 8, 8)), ([8, 16, 12], (8, 16, 12)), ([8, 8, 8], (8, 8, 8))])
def test_preprocessing_of_affine_views(size, shape):
    views = {"policy": "affine", "ndim": 3, "scaling": "zscore", "window": None}
    preprocessing = preprocessing_of(views | {"size": size, "spacing": 1.5, "outside": 0.0}, "mean")
    assert (preprocessing.shape, preprocessing.input_size) == (shape, max(shape))
    assert (preprocessing.spacing, preprocessing.outside, preprocessing.resize) == (1.5, 0.0, "centre-crop")


def test_preprocessing_of_default_affine_views():
    preprocessing = preprocessing_of(AffineSettings().model_dump(mode="json"), "cls")
    assert (preprocessing.shape, preprocessing.spacing, preprocessing.scaling) == ((160,) * 3, 1.0, "zscore")


def test_a_name_of_a_network_alone_gets_its_prefix():
    refused("vit-tiny", "did you mean 'random:vit-tiny'")


def test_random_of_nothing_lists_the_networks():
    refused("random:", "names no backbone .*vit-tiny, vit-small")


def test_steps_are_listed_in_words(run):
    for step in (5, 16):
        other = run / "checkpoints" / f"step_{step:08d}"
        other.mkdir()
        (other / ".metadata").touch()
    refused(f"{run}@3", r"it has 2, 5 and 16")
