import pickle
from dataclasses import replace

import numpy as np
import pytest

from scanlore.views.affine import AffinePolicy, Patch, grid_steps, random_turn
from scanlore.views.affine_settings import AffineSettings, GeometrySettings

SMALL = {"size": 8, "masks": {"block": 4}}
STILL = SMALL | {"rotation_probability": 0, "scale_probability": 0, "flip": 0}


def policy_of(seed=0, **settings):
    return AffinePolicy(AffineSettings.model_validate(SMALL | settings), seed)


def still_policy(**settings):
    return policy_of(**(STILL | settings))


def view_of(policy, entry, visit=0):
    (planned,) = policy.plan(entry, visit)["views"]
    assert planned.draw.size == 0
    return planned.view


def middle(view):
    return view.matrix @ [*((edge - 1) / 2 for edge in view.size), 1]


def turns(**settings):
    rng = np.random.default_rng(0)
    geometry = GeometrySettings.model_validate(settings)
    return np.array([random_turn(rng, geometry) for _ in range(4000)])


def test_one_group_of_one_view():
    assert policy_of().group_sizes() == {"views": (1, (8, 8, 8))}
    assert policy_of(ndim=2).group_sizes() == {"views": (1, (8, 8))}


def test_same_key_same_plan_and_every_other_key_another(entry_of):
    again = view_of(policy_of(), entry_of((30, 32, 28)), 3)
    np.testing.assert_array_equal(view_of(policy_of(), entry_of((30, 32, 28)), 3).matrix, again.matrix)
    keys = [(0, "a", 3), (1, "a", 3), (0, "b", 3), (0, "a", 4)]
    found = {
        view_of(policy_of(seed), entry_of((30, 32, 28), name=name), visit).matrix.tobytes()
        for seed, name, visit in keys
    }
    assert len(found) == 4


@pytest.mark.parametrize("ndim", [2, 3])
def test_view_keeps_its_size_in_mm_and_lies_inside(entry_of, ndim):
    shape = (30, 32, 28)[:ndim]
    policy, entry = still_policy(ndim=ndim, spacing=1.5), entry_of(shape)
    entry = replace(entry, spacing=(1.0, 3.0, 0.75)[:ndim])
    starts = []
    for visit in range(300):
        view = view_of(policy, entry, visit)
        steps = np.array([1.5, 0.5, 2.0])[:ndim]
        np.testing.assert_allclose(view.matrix[:, :-1], np.diag(steps))
        starts.append(view.matrix[:, -1] + 0.5 - steps / 2)
    room = np.array(shape) - 8 * steps
    np.testing.assert_allclose(np.min(starts, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.max(starts, axis=0), np.floor(room), atol=1e-9)


def test_whole_voxels_stay_whole(entry_of):
    for visit in range(20):
        matrix = view_of(
            policy_of(rotation_probability=0, scale_probability=0, spacing=None), entry_of((9, 8, 5)), visit
        )
        np.testing.assert_array_equal(matrix.matrix, np.rint(matrix.matrix))


def test_scan_without_spacing_and_no_spacing_asked_for_are_taken_as_they_are(entry_of):
    entry = entry_of((30, 32, 28))
    for policy, scan in (
        (still_policy(spacing=2.0), entry),
        (still_policy(spacing=None), replace(entry, spacing=(1, 2, 3))),
    ):
        np.testing.assert_array_equal(view_of(policy, scan).matrix[:, :3], np.eye(3))


@pytest.mark.parametrize("edge", [3, 4, 7, 8])
def test_larger_patch_surrounds_its_scan_evenly(entry_of, edge):
    for visit in range(5):
        start = view_of(still_policy(), entry_of((edge, 12, 12)), visit).matrix[0, -1]
        assert start == -((8 - edge + 1) // 2)


def test_rotation_turns_in_mm(entry_of):
    entry = replace(entry_of((40, 40, 40)), spacing=(1.0, 1.0, 4.0))
    view = view_of(still_policy(rotation_probability=1, spacing=2.0), entry)
    turned = view.matrix[:, :3] * np.array([[1.0], [1.0], [4.0]])
    np.testing.assert_allclose(turned.T @ turned, 4 * np.eye(3), atol=1e-9)
    assert not view.is_axis_aligned()


def test_turning_keeps_the_middle(entry_of):
    entry = entry_of((40, 40, 40))
    still = view_of(still_policy(), entry)
    room = middle(still) - middle(view_of(still_policy(flip=1), entry))
    np.testing.assert_allclose(room, np.rint(room))
    patch = Patch((8, 8, 8), *grid_steps(None, None, 3))
    turned = patch.map(turns(rotation_probability=1)[0], np.array([20.0, 18.0, 7.5]))
    np.testing.assert_allclose(turned @ [3.5, 3.5, 3.5, 1], [20, 18, 7.5])


def test_probabilities():
    found = turns()
    scales = np.cbrt(np.abs(np.linalg.det(found)))
    is_diagonal = (np.abs(found - found * np.eye(3)) == 0).all((1, 2))
    assert np.mean(~is_diagonal) == pytest.approx(0.2, abs=0.02)
    assert np.mean(np.abs(scales - 1) > 1e-9) == pytest.approx(0.2, abs=0.02)
    flipped = np.diagonal(found[is_diagonal], axis1=1, axis2=2) < 0
    np.testing.assert_allclose(flipped.mean(0), 0.5, atol=0.03)


def test_scale_is_isotropic_and_half_of_it_enlarges():
    found = turns(rotation_probability=0, scale_probability=1, flip=0)
    steps = np.diagonal(found, axis1=1, axis2=2)
    np.testing.assert_array_equal(steps, np.broadcast_to(steps[:, :1], steps.shape))
    assert np.mean(steps[:, 0] < 1) == pytest.approx(0.5, abs=0.03)
    assert 0.7 <= steps.min() < 0.71
    assert 1.39 < steps.max() <= 1.4


def test_angles_stay_within_their_bound():
    found = turns(ndim=2, rotation_probability=1, scale_probability=0, flip=0)
    angles = np.rad2deg(np.arctan2(found[:, 1, 0], found[:, 0, 0]))
    assert 29 < angles.max() <= 30
    assert -30 <= angles.min() < -29


def test_slices_of_volumes_lie_across_the_right_axis(entry_of):
    entry = entry_of((40, 30, 32), through_axis=1)
    view = view_of(policy_of(ndim=2, rotation_probability=1), entry)
    assert view.matrix.shape == (3, 3)
    assert np.all(view.matrix[1, :2] == 0)
    assert 3 <= view.matrix[1, 2] < 27


def test_masks(entry_of):
    masks = policy_of().masks(0, 0, 50)
    assert masks.shape == (50, 8)
    assert np.all((masks.sum(1) >= 4) & (masks.sum(1) <= 7))
    assert not np.array_equal(masks, policy_of().masks(1, 0, 50))
    assert not np.array_equal(masks, policy_of().masks(0, 1, 50))
    assert policy_of(masks=None).masks(0, 0, 50) is None


def test_policy_is_picklable(entry_of):
    policy = pickle.loads(pickle.dumps(policy_of()))
    np.testing.assert_array_equal(
        view_of(policy, entry_of((9, 9, 9))).matrix, view_of(policy_of(), entry_of((9, 9, 9))).matrix
    )


def test_patch_near_a_voxel_holds_it_and_wastes_nothing():
    patch = Patch((8, 8, 8), *grid_steps(None, None, 3))
    shape = (20, 20, 5)
    for voxel, starts in (((10, 0, 4), (6, 0, 0)), ((10, 19, 0), (6, 12, -3)), ((3, 17, 2), (0, 12, -2))):
        np.testing.assert_array_equal(patch.centre_near(np.array(voxel), shape) - 3.5, starts)


def test_voxel_in_the_middle_stays_there():
    patch = Patch((8, 8), *grid_steps((1.0, 1.0), (0.5, 2.0), 2))
    centre = patch.centre_near(np.array([30, 30]), (60, 60))
    assert np.all(np.abs(centre - 30) <= 0.5)
