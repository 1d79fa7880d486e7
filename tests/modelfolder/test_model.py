import numpy as np
import pytest
import torch
from PIL import Image

from factories import smooth_volume, write_nifti_file, write_png
from scanlore.backbones.build import build_backbone
from scanlore.backbones.pixels import Pixels
from scanlore.backbones.settings import ResEncSettings, ViTSettings
from scanlore.errors import DataError, ModelError
from scanlore.modelfolder.model import Model, choose_embedding, normalised
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.registry import SCALINGS
from scanlore.scans.read import read_scan


@pytest.fixture
def scan(tmp_path):
    return read_scan(write_nifti_file(tmp_path / "a.nii", (20, 24, 18)))


def pixels(size=8, ndim=3, **preprocessing):
    settings = Preprocessing.model_validate({"ndim": ndim, "input_size": size} | preprocessing)
    return Model("pixels", Pixels(size, ndim), settings)


def network(ndim=3, in_channels=1, **preprocessing):
    values = {"name": "vit-tiny", "ndim": ndim, "patch_size": 4, "image_size": 8, "in_channels": in_channels}
    backbone = build_backbone(ViTSettings.model_validate(values), 0)
    settings = {"ndim": ndim, "input_size": 8, "in_channels": in_channels, "embedding": "mean"} | preprocessing
    return Model("net", backbone, Preprocessing.model_validate(settings))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_views_stay_in_range(scan, scaling, ndim):
    window = (100, 600) if scaling == "window" else None
    views = pixels(ndim=ndim, scaling=scaling, window=window, crop="none").views(scan)
    assert views.shape == ((18, 1, 8, 8) if ndim == 2 else (1, 1, 8, 8, 8))
    assert views.dtype == torch.float32
    assert views.std() > 0.1
    if scaling != "zscore":
        assert views.abs().max() <= 1


def test_whole_scan_at_its_own_size_is_the_scaled_scan(tmp_path):
    voxels = smooth_volume((8, 8, 8)) * 1000
    scan = read_scan(write_nifti_file(tmp_path / "a.nii", voxels=voxels))
    view = pixels(crop="none", scaling="window", window=(0, 1000)).views(scan)[0, 0]
    np.testing.assert_allclose(view, voxels.astype(np.int16) / 500 - 1, atol=1e-5)


def test_crop_is_the_foreground(tmp_path):
    voxels = np.zeros((20, 24, 18))
    voxels[3:11, 10:18, 6:14] = np.random.default_rng(0).integers(100, 900, (8, 8, 8))
    scan = read_scan(write_nifti_file(tmp_path / "a.nii", voxels=voxels))
    view = pixels(scaling="window", window=(0, 1000)).views(scan)[0, 0]
    np.testing.assert_allclose(view, voxels[3:11, 10:18, 6:14] / 500 - 1, atol=1e-5)


CROP = {"resize": "centre-crop", "scaling": "window", "window": (0, 1000), "outside": -5.0, "crop": "none"}


def noise_file(path, shape, spacing=(1, 1, 1)):
    voxels = np.random.default_rng(0).integers(100, 900, shape)
    return voxels / 500 - 1, read_scan(write_nifti_file(path, voxels=voxels, spacing=spacing))


def test_a_view_in_the_scans_own_voxels_is_its_middle(tmp_path):
    expected, scan = noise_file(tmp_path / "a.nii", (12, 14, 10), spacing=(1, 2, 3))
    view = pixels(**CROP).views(scan)[0, 0]
    np.testing.assert_allclose(view, expected[2:10, 3:11, 1:9], atol=1e-5)


def test_a_view_larger_than_the_scan_lies_around_it(tmp_path):
    expected, scan = noise_file(tmp_path / "a.nii", (4, 8, 6))
    view = pixels(**CROP).views(scan)[0, 0]
    np.testing.assert_allclose(view[2:6, :, 1:7], expected, atol=1e-5)
    assert (view[:2] == -5).all()
    assert (view[:, :, 7:] == -5).all()


def test_a_view_has_its_own_spacing(tmp_path):
    expected, scan = noise_file(tmp_path / "a.nii", (10, 12, 16), spacing=(2, 2, 1))
    model = pixels(spacing=1.0, **CROP)
    (affine,) = model.view_affines(scan)
    np.testing.assert_allclose(affine[:, :3], np.diag([0.5, 0.5, 1]))
    np.testing.assert_allclose(affine @ [3.5, 3.5, 3.5, 1], [4.5, 5.5, 7.5])
    between = expected[4:6, 5:7, 7:9] @ [0.5, 0.5]
    centre = model.views(scan)[0, 0, 3:5, 3:5, 3:5].mean()
    assert centre == pytest.approx(between.mean(), abs=1e-4)


def test_edges_of_a_view_may_differ(tmp_path):
    expected, scan = noise_file(tmp_path / "a.nii", (12, 14, 10))
    view = pixels(input_shape=(4, 8, 6), **CROP).views(scan)[0, 0]
    np.testing.assert_allclose(view, expected[4:8, 3:11, 2:8], atol=1e-5)


def test_slices_in_their_own_spacing(tmp_path):
    _, scan = noise_file(tmp_path / "a.nii", (12, 14, 3), spacing=(2, 1, 5))
    affines = pixels(ndim=2, spacing=1.0, **CROP).view_affines(scan)
    assert len(affines) == 3
    np.testing.assert_allclose(affines[1][:, :2], [[0.5, 0], [0, 1], [0, 0]])
    np.testing.assert_allclose(affines[1] @ [3.5, 3.5, 1], [5.5, 6.5, 1])


def test_an_image_without_spacing_is_taken_as_it_is(tmp_path):
    scan = read_scan(write_png(tmp_path / "a.png", (20, 24)))
    (affine,) = pixels(ndim=2, spacing=1.0, **CROP).view_affines(scan)
    np.testing.assert_allclose(affine, [[1, 0, 6], [0, 1, 8]])


def test_a_view_per_channel(tmp_path):
    path = write_nifti_file(tmp_path / "a.nii", (10, 10, 10), channels=3)
    alone = write_nifti_file(tmp_path / "b.nii", (10, 10, 10), seed=2)
    views = pixels().views(read_scan(path))
    assert views.shape == (3, 1, 8, 8, 8)
    torch.testing.assert_close(views[2:], pixels().views(read_scan(alone)))


def channels_of_unlike_depth(tmp_path):
    voxels = np.zeros((10, 10, 12, 2))
    voxels[..., 2:9, 0] = np.random.default_rng(0).integers(100, 900, (10, 10, 7))
    voxels[..., :, 1] = np.random.default_rng(1).integers(100, 900, (10, 10, 12))
    return [
        read_scan(write_nifti_file(tmp_path / f"{name}.nii", voxels=part))
        for name, part in (("both", voxels), ("first", voxels[..., 0]), ("second", voxels[..., 1]))
    ]


def test_slices_of_channels_with_unlike_foreground(tmp_path):
    both, first, second = channels_of_unlike_depth(tmp_path)
    model = pixels(ndim=2)
    views = model.views(both)
    assert len(views) == len(model.view_affines(both)) == 7 + 12
    torch.testing.assert_close(views, torch.cat([model.views(first), model.views(second)]))


def test_2d_model_sees_slices_of_a_volume(scan):
    model = pixels(ndim=2, max_slices=4, crop="none")
    affines = model.view_affines(scan)
    assert [matrix[2, 2] for matrix in affines] == [2, 6, 11, 15]
    assert all(np.all(matrix[2, :2] == 0) for matrix in affines)
    views = model.views(scan)
    middle = pixels(ndim=2, crop="none", scaling="percentile-0.05-99.95").views(scan)[6]
    torch.testing.assert_close(views[1], middle)


def test_2d_model_on_an_image(tmp_path):
    scan = read_scan(write_png(tmp_path / "a.png", (20, 24)))
    assert pixels(ndim=2).views(scan).shape == (1, 1, 8, 8)


def test_3d_model_refuses_an_image(tmp_path):
    scan = read_scan(write_png(tmp_path / "a.png", (20, 24)))
    with pytest.raises(ModelError, match=r"net: the model takes volumes.*2D model"):
        network().views(scan)


def test_grey_views_for_a_network_of_three_channels(scan):
    model = network(ndim=2, in_channels=3)
    views = model.views(scan)
    assert views.shape[1:] == (3, 8, 8)
    assert torch.equal(views[:, 0], views[:, 2])
    assert model.embed(scan).shape == (1, 24)


COLOURS = {"ndim": 2, "in_channels": 3, "mean": (0.5, 0.25, 0.75), "std": (0.5, 0.25, 0.125)}


def test_colours_are_normalised_as_the_network_learned_them(scan):
    facts = network(**COLOURS).preprocessing
    views = normalised(torch.tensor([-1.0, 0.0, 1.0]).expand(3, 3, 3)[None], facts)
    np.testing.assert_allclose(views[0, :, 0], [[-1, 0, 1], [-1, 1, 3], [-6, -2, 2]])
    assert normalised(views, network().preprocessing) is views
    plain = network(**COLOURS | {"mean": None, "std": None}).views(scan)
    torch.testing.assert_close(network(**COLOURS).views(scan), normalised(plain, facts))


def test_a_colour_image_is_one_view_with_its_colours_in_proportion(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(16) * 16, np.arange(16)[:, None] * 8
    Image.fromarray(pixels).save(tmp_path / "a.png")
    scan = read_scan(tmp_path / "a.png")
    model = network(**COLOURS, crop="none", scaling="8bit")
    views = model.views(scan)
    assert (views.shape, len(model.view_affines(scan))) == ((1, 3, 8, 8), 1)
    values = views * torch.tensor(COLOURS["std"]).view(-1, 1, 1) + torch.tensor(COLOURS["mean"]).view(-1, 1, 1)
    assert values[0, 2].abs().max() < 1e-5
    np.testing.assert_allclose(values[0, 0].mean() / values[0, 1].mean(), 2, rtol=1e-3)
    assert network(ndim=2, crop="none").views(scan).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(("embedding", "width"), [("cls", 24), ("mean", 24), ("cls+mean", 48)])
def test_embedding_choices(scan, embedding, width):
    model = network(embedding=embedding)
    features = model.forward_features(model.views(scan))
    parts = {"cls": features.embeddings[-1], "mean": features.maps[-1].mean((2, 3, 4))}
    expected = torch.cat([parts[name] for name in embedding.split("+")], -1)
    assert expected.shape == (1, width)
    torch.testing.assert_close(choose_embedding(features, embedding), expected)
    np.testing.assert_allclose(model.embed(scan), expected.detach(), atol=1e-6)


def test_a_cnn_embeds_by_its_deepest_map(scan):
    backbone = build_backbone(ResEncSettings(name="resenc-tiny"), 0)
    model = Model("cnn", backbone, Preprocessing(ndim=3, input_size=16, resize="centre-crop", outside=0.0))
    expected = backbone.maps(model.views(scan))[-1].flatten(2).mean(-1)
    np.testing.assert_allclose(model.embed(scan), expected.detach(), atol=1e-6)
    assert [part.shape[1] for part in model.forward_features(model.views(scan), 2).embeddings] == [8, 12]


def test_embed_takes_paths_scans_and_sequences_of_them(tmp_path, scan):
    model, path = network(), tmp_path / "a.nii"
    other = write_nifti_file(tmp_path / "b.nii", (12, 12, 12), seed=3)
    rows = model.embed([path, str(other), scan])
    assert (rows.shape, rows.dtype) == ((3, 24), np.float32)
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_allclose(rows[0], model.embed(path)[0], atol=1e-6)
    assert not np.allclose(rows[0], rows[1])


def test_embed_is_deterministic(scan):
    np.testing.assert_array_equal(network().embed(scan), network().embed(scan))


def test_embed_is_the_mean_over_channels_and_slices(tmp_path):
    both, *_ = channels_of_unlike_depth(tmp_path)
    model = network(ndim=2)
    with torch.no_grad():
        expected = model(model.views(both)).mean(0)
    np.testing.assert_allclose(model.embed(both)[0], expected, atol=1e-6)


def test_embed_of_nothing_is_refused():
    with pytest.raises(DataError, match="no scan to embed"):
        network().embed([])


def test_counts():
    model = network()
    assert model.num_layers == 2
    assert model.num_parameters == sum(tensor.numel() for tensor in model.backbone.state_dict().values())
