import numpy as np
import pytest
import torch
from torch import nn

from factories import affine_of, smooth_volume
from scanlore.errors import ModelError
from scanlore.inference.predict_scan import predict_scan
from scanlore.modelfolder.segmentation_preprocessing import SegmentationPreprocessing
from scanlore.modelfolder.segmenter import Segmenter
from scanlore.scans.geometry import volume_scan
from scanlore.scans.scan import Geometry, Scan

LABELS = {0: "background", 1: "grey", 7: "bright"}


class Threshold(nn.Module):
    """The label of a voxel is what its value says: above -0.5 class 1, above 0.5 class 2 (scaled to [-1, 1])."""

    def forward(self, x):
        value = x[:, :1]
        return torch.cat([-value, torch.full_like(value, 0.5), 3 * value - 1], 1)


class Where(nn.Module):
    """Says class 1 in the part of a window with the lower indices: mirroring must cancel it, to the background."""

    def forward(self, x):
        ramp = torch.linspace(1, -1.01, x.shape[2]).reshape(1, 1, -1, *(1,) * (x.ndim - 3)).expand_as(x)
        return torch.cat([torch.zeros_like(x), ramp], 1)


def segmenter(network=None, **changes):
    facts = {"ndim": 3, "patch": (8, 8, 8), "scaling": "window", "window": (0, 1000), "labels": LABELS, "outside": -1.0}
    return Segmenter(network or Threshold(), SegmentationPreprocessing(**facts | changes))


def thresholded(voxels):
    value = voxels.astype(float) / 500 - 1
    return np.where(value > 0.5, 7, np.where(value > -0.5, 1, 0))


def volume(shape=(19, 14, 11), spacing=(1.0, 1.0, 1.0), axcodes="RAS", oblique=False, dtype="int16"):
    voxels = (smooth_volume(shape) * 1000).astype(dtype)
    return volume_scan(voxels[None], affine_of(axcodes, spacing, oblique))


@pytest.mark.parametrize("patch", [(8, 8, 8), (4, 16, 5), (32, 32, 32), (19, 14, 11)])
@pytest.mark.parametrize("overlap", [0.5, 0.75])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_make_no_difference_to_a_network_of_single_voxels(patch, overlap, batch_size):
    scan = volume()
    found = predict_scan(segmenter(patch=patch), scan, overlap=overlap, batch_size=batch_size)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, thresholded(scan.voxels[0]))


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAR", "IPL"])
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_any_axis_order(axcodes, oblique, dtype):
    scan = volume(axcodes=axcodes, oblique=oblique, dtype=dtype)
    np.testing.assert_array_equal(predict_scan(segmenter(), scan), thresholded(scan.voxels[0]))


def blobs(shape, spacing):
    """A scan whose values change over millimetres, not voxels."""
    axes = [(np.arange(edge) - edge / 2) * step for edge, step in zip(shape, spacing, strict=True)]
    distance = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))
    return volume_scan((1000 * np.exp(-distance / 60)).astype(np.float32)[None], affine_of("RAS", spacing))


@pytest.mark.parametrize("wanted", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (0.7, 0.9, 1.3)])
@pytest.mark.parametrize("spacing", [(0.8, 0.8, 2.5), (1.0, 1.5, 0.5)])
def test_another_spacing_changes_only_voxels_near_a_threshold(spacing, wanted):
    scan = blobs((24, 20, 16), spacing)
    found = predict_scan(segmenter(spacing=wanted), scan)
    values = scan.voxels[0].astype(float) / 500 - 1
    is_far = (np.abs(values - 0.5) > 0.12) & (np.abs(values + 0.5) > 0.12)
    assert is_far.mean() > 0.8
    np.testing.assert_array_equal(found[is_far], thresholded(scan.voxels[0])[is_far])


def test_a_fine_grid_of_a_ramp_is_exact():
    ramp = np.broadcast_to(np.linspace(0, 1000, 24)[:, None, None], (24, 9, 9))
    scan = volume_scan(ramp[None].astype(np.float32), affine_of())
    found = predict_scan(segmenter(spacing=(0.5, 0.5, 0.5)), scan)
    np.testing.assert_array_equal(found, thresholded(ramp))


@pytest.mark.parametrize("mirror", [True, False])
def test_mirroring_averages_all_flips(mirror):
    scan = volume((8, 8, 8))
    found = predict_scan(segmenter(Where(), labels={0: "background", 1: "low"}), scan, mirror=mirror)
    assert found.any() != mirror


def test_outside_the_scan_windows_hold_their_value():
    seen = []

    class Keep(Threshold):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    scan = volume((4, 8, 8))
    predict_scan(segmenter(Keep(), outside=0.25), scan, mirror=False)
    (window,) = seen
    assert (window[0, 0, [0, 1, 6, 7]] == 0.25).all()
    np.testing.assert_allclose(window[0, 0, 2:6], scan.voxels[0] / 500 - 1, atol=1e-6)


def test_windows_are_blended_with_gaussian_weights():
    class Number(nn.Module):
        count = -1.0

        def forward(self, x):
            self.count += 1
            return torch.cat([torch.full_like(x, 0.5), torch.full_like(x, self.count)], 1)

    scan = volume((12, 8, 8))
    found = predict_scan(segmenter(Number(), labels={0: "no", 1: "yes"}), scan, mirror=False)
    # Window 0 says no up to voxel 7, window 1 yes from voxel 4 on: they meet in the middle
    assert found[:, 0, 0].tolist() == [0] * 6 + [1] * 6


def test_channels_and_images():
    pixels = np.stack([np.zeros((9, 13)), smooth_volume((9, 13)) * 1000]).astype(np.float32)
    image = Scan(pixels, None, None, None, Geometry((9, 13), None, ((0, 1), (1, 1))))

    class Second(Threshold):
        def forward(self, x):
            return super().forward(x[:, 1:])

    facts = {"ndim": 2, "patch": (8, 8), "in_channels": 2, "spacing": (2.0, 2.0)}
    np.testing.assert_array_equal(predict_scan(segmenter(Second(), **facts), image), thresholded(pixels[1]))


@pytest.mark.parametrize("value", [0, 5])
def test_a_constant_scan(value):
    scan = volume_scan(np.full((1, 6, 7, 8), value, np.int16), affine_of())
    network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2, affine=True), nn.Conv3d(2, 3, 1))
    assert set(np.unique(predict_scan(segmenter(network, scaling="zscore"), scan))) <= {0, 1, 7}


def test_other_channels_or_axes_are_refused():
    with pytest.raises(ModelError, match=r"takes 2 channels \(t1, flair\), this scan has 1"):
        predict_scan(segmenter(in_channels=2, channels=("t1", "flair")), volume())
    image = Scan(np.zeros((1, 9, 9)), None, None, None, Geometry((9, 9), None, ((0, 1), (1, 1))))
    with pytest.raises(ModelError, match="labels 3D scans, this is a 2D image"):
        predict_scan(segmenter(), image)


def test_labels_beyond_a_byte():
    scan = volume()
    found = predict_scan(segmenter(labels={0: "background", 1: "grey", 300: "bright"}), scan)
    assert found.dtype == np.int16
    assert set(np.unique(found)) == {0, 1, 300}


def test_a_large_slab_in_half_precision(monkeypatch):
    monkeypatch.setattr("scanlore.inference.slab.SMALL_BYTES", 0)
    scan = volume()
    is_other = predict_scan(segmenter(), scan) != thresholded(scan.voxels[0])
    assert is_other.mean() < 0.003


def test_progress_counts_windows():
    calls = []
    predict_scan(segmenter(), volume((16, 8, 8)), batch_size=2, progress=lambda *call: calls.append(call))
    assert calls == [(2, 3), (3, 3)]
