import numpy as np
import pytest
import torch

from factories import write_nifti_file, write_png
from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import backbone_settings
from scanlore.errors import ConfigError, DataError, ModelError
from scanlore.inference.lattice import at_voxels
from scanlore.inference.patch_maps import check_grid, patch_maps, pick_layer
from scanlore.modelfolder.model import Model
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.scans.read import read_scan


def model(ndim=3, name="vit-tiny", size=8, **preprocessing):
    options = {"patch_size": 4, "image_size": 8} if name == "vit-tiny" else {}
    settings = backbone_settings({"name": name, "ndim": ndim} | options, "test")
    facts = Preprocessing.model_validate({"ndim": ndim, "input_size": size, "crop": "none"} | preprocessing)
    return Model(name, build_backbone(settings, 0), facts)


class Brightness(torch.nn.Module):
    """Gives the mean of each patch as its only feature."""

    patch_size, num_layers, ndim = 2, 1, 2
    map_strides = (2,)

    def forward_features(self, x, layers):
        from scanlore.backbones.features import Features

        pool = torch.nn.functional.avg_pool2d if x.ndim == 4 else torch.nn.functional.avg_pool3d
        return Features([x.flatten(1)], [pool(x, 2)], norm="none")


@pytest.fixture
def volume(tmp_path):
    return read_scan(write_nifti_file(tmp_path / "a.nii", (12, 16, 10), axcodes="PSL", spacing=(1, 1, 3)))


def test_a_volume_is_seen_whole(volume):
    maps = patch_maps(model(), volume, 11)
    assert maps.features.shape == (192, 4, 4, 4)  # 16 voxels are 4 patches of 4
    assert maps.attention.shape == (3, 4, 4, 4)
    assert maps.lattice.grid == (4, 4, 4)


def test_a_grid_may_be_asked_for(volume):
    assert patch_maps(model(), volume, 11, grid=5).lattice.grid == (5, 5, 5)
    assert patch_maps(model(size=8, input_shape=(8, 4, 8)), volume, 11, grid=4).lattice.grid == (4, 2, 4)


@pytest.mark.parametrize("ndim", [2, 3])
def test_maps_lie_where_the_scan_is_bright(volume, ndim):
    facts = Preprocessing.model_validate({"ndim": ndim, "input_size": 16, "crop": "none"})
    maps = patch_maps(Model("bright", Brightness(), facts), volume, 0)
    back = at_voxels(maps.features, maps.lattice, [np.arange(size) for size in volume.shape])[0]
    assert np.corrcoef(back.ravel(), volume.voxels[0].ravel())[0, 1] > 0.9


def test_slices_are_stacked_across_the_through_axis(volume):
    maps = patch_maps(model(2), volume, 11)
    assert volume.through_axis == 0
    assert maps.features.shape == (192, volume.shape[0], *maps.lattice.grid[1:])
    assert maps.attention.shape[1:] == maps.lattice.grid


def test_an_image(tmp_path):
    maps = patch_maps(model(2), read_scan(write_png(tmp_path / "a.png", (24, 40))), 11)
    assert maps.features.shape == (192, 10, 10)
    np.testing.assert_allclose(maps.lattice.high, (23.5, 39.5))


def test_of_several_channels_the_first_is_shown(tmp_path):
    both = read_scan(write_nifti_file(tmp_path / "b.nii", (12, 16, 10), channels=2))
    first = read_scan(
        write_nifti_file(tmp_path / "a.nii", (12, 16, 10), voxels=np.moveaxis(both.voxels, 0, -1)[..., 0])
    )
    np.testing.assert_array_equal(patch_maps(model(), both, 3).features, patch_maps(model(), first, 3).features)


def test_a_cnn_has_features_alone(volume):
    cnn = model(name="resenc-tiny", size=16, resize="centre-crop", spacing=1.0)
    layer = pick_layer(cnn, None)
    maps = patch_maps(cnn, volume, layer)
    assert (layer, maps.attention, maps.features.shape) == (3, None, (128, 4, 2, 2))
    assert patch_maps(cnn, volume, layer, grid=3).lattice.grid == (3, 3, 3)


def test_a_network_that_keeps_a_spacing_sees_as_much_as_is_allowed(volume, monkeypatch):
    cnn = model(name="resenc-tiny", size=16, resize="centre-crop", spacing=1.0)
    assert volume.shape[0] * volume.spacing[0] == 30  # mm, of one voxel each
    assert patch_maps(cnn, volume, 3).lattice.grid[0] == 4
    monkeypatch.setattr("scanlore.inference.patch_maps.WIDEST", {3: 24})
    assert patch_maps(cnn, volume, 3).lattice.grid[0] == 3


def test_layers_are_counted_from_both_ends():
    assert [pick_layer(model(), layer) for layer in (None, -1, 0, -12)] == [11, 11, 0, 0]
    for layer in (12, -13):
        with pytest.raises(ConfigError, match="layers 0 to 11"):
            pick_layer(model(), layer)


def test_grids_that_cannot_be_used_are_refused():
    for grid in (0, 21):
        with pytest.raises(ConfigError, match="takes 1 to 20 patches of 4 voxels"):
            check_grid(model(), grid)
    check_grid(model(), None)
    with pytest.raises(ConfigError, match="takes 2 to 20"):
        check_grid(model(name="resenc-tiny", size=16), 1)


def test_a_volume_model_refuses_an_image(tmp_path):
    with pytest.raises(ModelError, match="takes volumes"):
        patch_maps(model(), read_scan(write_png(tmp_path / "a.png", (8, 8))), 11)


def test_features_that_are_no_numbers_are_refused(volume):
    broken = model()
    torch.nn.init.constant_(broken.backbone.norm.weight, float("nan"))
    with pytest.raises(DataError, match="not finite"):
        patch_maps(broken, volume, 11)
