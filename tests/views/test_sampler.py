import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scanlore.corpus.levels import build_label_levels, build_levels, level_factors
from scanlore.corpus.store import Pyramid, ShardWriter, encode, shard_path
from scanlore.scans.intensity import LinearMap
from scanlore.views.sampler import choose_level, sample, sample_labels
from scanlore.views.view import View, box_map, compose, flip_map, quarter_turn_map, rotation_matrix, slice_map

PLAIN = LinearMap(1.0, 0.0, -np.inf, np.inf)
SHAPE = (12, 14, 10)
NOISE = np.random.default_rng(0).integers(-500, 1500, SHAPE).astype(np.int16)
TOLERANCE = 1e-4 * 2000


def taken(pyramid, matrix, size, rule="evaluation"):
    return sample(pyramid, View(matrix, size), PLAIN, rule).numpy()


def tilted(matrix):
    """The same map but for a tilt too small to matter, which is not axis-aligned any more."""
    return matrix + np.pad(np.full((len(matrix), matrix.shape[1] - 1), 1e-9), ((0, 0), (0, 1)))


@pytest.mark.parametrize("rule", ["pretraining", "evaluation"])
def test_identity_gives_the_voxels(pyramid_of, rule):
    view = taken(pyramid_of(NOISE), np.eye(3, 4), SHAPE, rule)
    assert view.dtype == np.float32
    np.testing.assert_allclose(view, NOISE, atol=TOLERANCE)


@pytest.mark.parametrize("axes", [(True, False, False), (False, True, True), (True, True, True)])
def test_flips_are_numpys(pyramid_of, axes):
    view = taken(pyramid_of(NOISE), flip_map(SHAPE, np.array(axes)), SHAPE)
    np.testing.assert_allclose(view, np.flip(NOISE, np.flatnonzero(axes)), atol=TOLERANCE)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_quarter_turns_are_numpys(pyramid_of, plane, turns):
    size = (9, 9, 9)
    matrix = compose(box_map([1, 2, 0], size, size), quarter_turn_map(size, plane, turns))
    expected = np.rot90(NOISE[1:10, 2:11, :9], turns, plane)
    np.testing.assert_allclose(taken(pyramid_of(NOISE), matrix, size), expected, atol=TOLERANCE)


@pytest.mark.parametrize("size", [(8, 8, 4), (10, 12, 6), (9, 7, 5)])
def test_crop_agrees_with_torch(pyramid_of, size):
    crop = NOISE[1:11, 2:14, 3:9]
    matrix = box_map([1, 2, 3], crop.shape, size)
    expected = F.interpolate(torch.from_numpy(crop).float()[None, None], size, mode="trilinear", align_corners=False)
    np.testing.assert_allclose(taken(pyramid_of(NOISE), matrix, size), expected[0, 0], atol=TOLERANCE)


def test_enlarged_scan_agrees_with_torch_and_repeats_its_edges(pyramid_of):
    size = (31, 20, 25)
    expected = F.interpolate(torch.from_numpy(NOISE).float()[None, None], size, mode="trilinear", align_corners=False)
    view = taken(pyramid_of(NOISE), box_map([0, 0, 0], SHAPE, size), size)
    np.testing.assert_allclose(view, expected[0, 0], atol=TOLERANCE)


def test_image_agrees_with_torch(pyramid_of):
    image = NOISE[..., 0]
    expected = F.interpolate(torch.from_numpy(image).float()[None, None], (9, 21), mode="bilinear", align_corners=False)
    view = taken(pyramid_of(image), box_map([0, 0], image.shape, (9, 21)), (9, 21))
    np.testing.assert_allclose(view, expected[0, 0], atol=TOLERANCE)


@pytest.mark.parametrize("size", [(12, 14, 10), (7, 16, 9)])
def test_oblique_path_agrees_with_the_aligned_one(pyramid_of, size):
    matrix = compose(box_map([0.3, 1.2, 0], [9, 12.5, 10], size), flip_map(size, np.array([True, False, True])))
    assert not View(tilted(matrix), size).is_axis_aligned()
    oblique, aligned = (taken(pyramid_of(NOISE), some, size) for some in (tilted(matrix), matrix))
    np.testing.assert_allclose(oblique, aligned, atol=TOLERANCE * 5)


def test_oblique_image_and_oblique_slice(pyramid_of):
    image = NOISE[:, :, 4]
    np.testing.assert_allclose(taken(pyramid_of(image), tilted(np.eye(2, 3)), image.shape), image, atol=TOLERANCE * 5)
    view = taken(pyramid_of(NOISE), tilted(slice_map(2, 4.0)), image.shape)
    np.testing.assert_allclose(view, image, atol=TOLERANCE * 5)


def test_oblique_map_reads_a_ramp_where_it_leads(pyramid_of):
    ramp = 100 * np.arange(16)[:, None, None] + 10 * np.arange(16)[:, None] + np.arange(16)
    matrix = np.array([[0.8, -0.6, 0, 6.0], [0.6, 0.8, 0, 3.0], [0, 0, 1, 4.0]])
    places = np.stack(np.meshgrid(*map(np.arange, (6, 6, 6)), indexing="ij"), -1) @ matrix[:, :3].T + matrix[:, 3]
    view = taken(pyramid_of(ramp), matrix, (6, 6, 6))
    np.testing.assert_allclose(view, places @ [100, 10, 1], atol=0.1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_of_a_volume(pyramid_of, axis):
    pyramid, size = pyramid_of(NOISE), tuple(np.delete(SHAPE, axis))
    np.testing.assert_allclose(taken(pyramid, slice_map(axis, 4.0), size), np.take(NOISE, 4, axis), atol=TOLERANCE)
    between = np.take(NOISE, [4, 5], axis).mean(axis)
    np.testing.assert_allclose(taken(pyramid, slice_map(axis, 4.5), size), between, atol=TOLERANCE)


def test_outside_the_scan_its_edge_is_repeated(pyramid_of):
    view = taken(pyramid_of(NOISE), box_map([-3, -3, -3], [20, 20, 16], (20, 20, 16)), (20, 20, 16))
    np.testing.assert_allclose(view, np.pad(NOISE, ((3, 5), (3, 3), (3, 3)), mode="edge"), atol=TOLERANCE)


def test_view_wholly_outside_the_scan_is_its_edge(pyramid_of):
    view = taken(pyramid_of(NOISE), box_map([40, 0, 0], [4, 14, 10], (4, 14, 10)), (4, 14, 10))
    np.testing.assert_allclose(view, np.broadcast_to(NOISE[-1:], (4, 14, 10)), atol=TOLERANCE)


@pytest.mark.parametrize("rule", ["pretraining", "evaluation"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [40, 28, 26, 20, 14, 10, 9])
def test_ramp_keeps_its_place_through_every_level(pyramid_of, size, axis, rule):
    shape = (40, 39, 37)
    ramp = np.broadcast_to(100 * np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)]), shape)
    matrix = box_map([0, 0, 0], shape, (size,) * 3)
    line = np.moveaxis(taken(pyramid_of(ramp), matrix, (size,) * 3, rule), axis, 0).reshape(size, -1)
    expected = 100 * (matrix[axis, axis] * np.arange(size) + matrix[axis, 3])
    inner = (expected > 200) & (expected < 100 * (shape[axis] - 5))
    assert inner.sum() >= size - 8
    np.testing.assert_allclose(line[inner], np.broadcast_to(expected[inner, None], line[inner].shape), atol=0.6)


@pytest.mark.parametrize("tilt", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [40, 28, 20, 14, 10, 9])
def test_ramp_keeps_its_place_through_every_level_of_float16(tmp_path, size, axis, tilt):
    shape = (40, 39, 37)
    ramp = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)]), shape)
    factors = tuple(level_factors(shape, 2))
    writer = ShardWriter(tmp_path)
    offsets = writer.append([encode(level) for level in build_levels(ramp.astype(np.float16), list(factors))])
    writer.close()
    stored = Pyramid(factors, tuple((str(shard_path(tmp_path, 0)), offset) for offset in offsets), 0.5, -7.0)
    matrix = box_map([0, 0, 0], shape, (size,) * 3)
    view = taken(stored, tilted(matrix) if tilt else matrix, (size,) * 3)
    expected = matrix[axis, axis] * np.arange(size) + matrix[axis, 3]
    inner = (expected > 2) & (expected < shape[axis] - 5)
    line = np.moveaxis(view, axis, 0).reshape(size, -1)[inner]
    np.testing.assert_allclose(line, np.broadcast_to(0.5 * expected[inner, None] - 7, line.shape), atol=0.01)


def test_intensities_are_mapped_and_clipped_behind_the_interpolation():
    stored = np.array([[0, 100], [200, 300]], np.int16)
    pyramid = Pyramid(((1, 1),), (stored,), slope=0.5, intercept=-20.0)
    scaling = LinearMap(gain=0.02, bias=-1.0, low=-1.0, high=1.0)
    view = sample(pyramid, View(np.eye(2, 3), (2, 2)), scaling, "pretraining").numpy()
    np.testing.assert_allclose(view, np.clip(0.02 * (stored * 0.5 - 20) - 1, -1, 1), atol=1e-6)


def level(shape, steps, rule, through_axis=2):
    factors = level_factors(shape, through_axis)
    return factors[choose_level(tuple(factors), np.asarray(steps, float), rule)]


def test_evaluation_takes_no_coarser_level_than_the_view():
    assert level((64, 64, 64), (1.99, 1.99, 1.99), "evaluation") == (1, 1, 1)
    assert level((64, 64, 64), (2, 2, 1), "evaluation") == (2, 2, 1)
    assert level((64, 64, 64), (2, 2, 2), "evaluation") == (2, 2, 2)
    assert level((64, 64, 64), (4, 4, 3.9), "evaluation") == (4, 4, 2)


def test_pretraining_takes_levels_up_to_a_root_of_two_coarser():
    assert level((64, 64, 64), (1.41, 1.41, 1.41), "pretraining") == (1, 1, 1)
    assert level((64, 64, 64), (1.42, 1.42, 1.41), "pretraining") == (2, 2, 1)
    assert level((64, 64, 64), (2.83, 2.83, 2.83), "pretraining") == (4, 4, 4)


@pytest.mark.parametrize("rule", ["pretraining", "evaluation"])
def test_thick_slices_never_ask_for_more_than_the_scan_has(rule):
    assert level((128, 128, 20), (4, 4, 0.2), rule) == (4, 4, 1)
    assert level((64, 64, 64), (0.3, 0.3, 0.3), rule) == (1, 1, 1)


@pytest.mark.parametrize("rule", ["pretraining", "evaluation"])
def test_slice_of_a_thin_axis_uses_the_in_plane_levels(rule):
    assert level((128, 128, 20), (4, 4, 0), rule) == (4, 4, 1)


def test_far_view_takes_the_coarsest_level():
    assert level((64, 64, 64), (50, 50, 50), "evaluation") == (4, 4, 4)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_whole_voxels_are_not_interpolated(pyramid_of, turns):
    size = (16, 16, 10)
    matrix = compose(box_map([-2, -1, 0], size, size), quarter_turn_map(size, (0, 1), turns))
    expected = np.rot90(np.pad(NOISE, ((2, 2), (1, 1), (0, 0)), mode="edge"), turns)
    np.testing.assert_array_equal(taken(pyramid_of(NOISE), matrix, size), expected)


LABELS = (NOISE % 4).astype(np.uint8)
LABEL_PYRAMID = Pyramid(((1, 1, 1),), (LABELS,), 1.0, 0.0)


@pytest.mark.parametrize("tilt", [False, True])
def test_outside_the_scan_is_what_was_asked_for(pyramid_of, tilt):
    matrix = box_map([-3, -3, -3], [20, 20, 16], (20, 20, 16))
    view = View(tilted(matrix) if tilt else matrix, (20, 20, 16))
    values = sample(pyramid_of(NOISE), view, PLAIN, "evaluation", outside=-7.0).numpy()
    expected = np.pad(NOISE.astype(float), ((3, 5), (3, 3), (3, 3)), constant_values=-7)
    np.testing.assert_allclose(values, expected, atol=TOLERANCE * 5)


def test_outside_counts_voxels_of_the_scan_and_not_of_its_level(pyramid_of):
    odd = NOISE[:11, :13, :9]
    matrix = box_map([-4, -4, -4], [20, 20, 20], (10, 10, 10))
    values = sample(pyramid_of(odd), View(matrix, (10, 10, 10)), PLAIN, "evaluation", outside=9999.0).numpy()
    places = 2 * np.arange(10) - 3.5
    inside = [np.sum((places >= -0.5) & (places <= edge - 0.5)) for edge in odd.shape]
    assert np.sum(values != 9999) == np.prod(inside)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("plane", [(0, 1), (1, 2)])
def test_labels_turn_with_their_scan(turns, plane):
    size = (9, 9, 9)
    matrix = compose(box_map([1, 2, 0], size, size), quarter_turn_map(size, plane, turns))
    found = sample_labels(LABEL_PYRAMID, View(matrix, size)).numpy()
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rot90(LABELS[1:10, 2:11, :9], turns, plane))


@pytest.mark.parametrize("tilt", [False, True])
def test_labels_outside_and_enlarged(tilt):
    matrix = box_map([-2, 0, 0], [16, 14, 10], (48, 42, 10))
    found = sample_labels(LABEL_PYRAMID, View(tilted(matrix) if tilt else matrix, (48, 42, 10)), outside=9).numpy()
    expected = np.pad(LABELS.repeat(3, 0).repeat(3, 1), ((6, 6), (0, 0), (0, 0)), constant_values=9)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_labels_of_a_slice(axis):
    found = sample_labels(LABEL_PYRAMID, View(slice_map(axis, 4.0), tuple(np.delete(SHAPE, axis))))
    np.testing.assert_array_equal(found, np.take(LABELS, 4, axis))


def test_labels_wholly_outside():
    found = sample_labels(LABEL_PYRAMID, View(box_map([40, 0, 0], [4, 4, 4], (4, 4, 4)), (4, 4, 4)))
    assert not found.any()


@pytest.mark.parametrize("tilt", [False, True])
def test_labels_of_coarser_levels_lie_where_they_are(tilt):
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[8:24, 16:32, 4:20] = 3
    factors = level_factors(labels.shape, 2)
    pyramid = Pyramid(tuple(factors), tuple(build_label_levels(labels, factors)), 1.0, 0.0)
    for size in (20, 10):
        matrix = box_map([0, 0, 0], labels.shape, (size,) * 3)
        found = sample_labels(pyramid, View(tilted(matrix) if tilt else matrix, (size,) * 3)).numpy()
        step = 40 // size
        np.testing.assert_array_equal(found, labels[step // 2 :: step, step // 2 :: step, step // 2 :: step])


def test_oblique_labels_follow_their_image(pyramid_of):
    wide = np.zeros((24, 24, 24), np.int16)
    wide[6:15, 8:20, 5:18] = 1000
    labels = Pyramid(((1, 1, 1),), ((wide > 0).astype(np.int16),), 1.0, 0.0)
    matrix = np.column_stack([rotation_matrix([0.4, 0.2, -0.3]), [4.0, 3.0, 5.0]])
    image = sample(pyramid_of(wide), View(matrix, (16, 16, 16)), PLAIN, "evaluation").numpy()
    found = sample_labels(labels, View(matrix, (16, 16, 16))).numpy()
    assert found.dtype == np.int16
    assert np.all(found[image > 999] == 1)
    assert np.all(found[image < 1] == 0)
    assert 0.1 < found.mean() < 0.9
