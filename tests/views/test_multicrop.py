import pickle
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from scanlore.views.multicrop import MultiCropPolicy, random_rectangle
from scanlore.views.settings import MultiCropSettings

CROPS = {"global_crops": {"number": 2, "size": 6, "area": (0.48, 1.0), "length": (0.5, 1.0)}}


def policy_of(seed=0, **settings):
    return MultiCropPolicy(MultiCropSettings.model_validate(CROPS | settings), seed, patch_size=2)


def lengths(view):
    """Edges of the view in source voxels."""
    turned = np.abs(view.matrix[:, :-1])
    return turned @ np.asarray(view.size)


def corners(view):
    grid = np.array(list(product(*((-0.5, edge - 0.5) for edge in view.size))))
    return grid @ view.matrix[:, :-1].T + view.matrix[:, -1]


def views(policy, entry, group, visits=150):
    return [planned.view for visit in range(visits) for planned in policy.plan(entry, visit)[group]]


def test_group_sizes():
    assert policy_of().group_sizes() == {"global": (2, (6, 6, 6)), "local": (8, (48, 48, 48))}
    assert policy_of(ndim=2).group_sizes()["global"] == (2, (6, 6))


def test_same_key_same_plan(entry_of):
    first, again = (policy_of().plan(entry_of((30, 32, 28)), 3) for _ in range(2))
    for group in ("global", "local"):
        for one, other in zip(first[group], again[group], strict=True):
            np.testing.assert_array_equal(one.view.matrix, other.view.matrix)
            np.testing.assert_array_equal(one.draw, other.draw)


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_view_of_every_scan_visit_and_seed_is_another(entry_of, ndim):
    shape = (30, 32, 28)
    keys = product((0, 1), ("a", "b"), (0, 1))
    plans = [policy_of(seed, ndim=ndim).plan(entry_of(shape, name=name), visit) for seed, name, visit in keys]
    matrices = {planned.view.matrix.tobytes() for plan in plans for group in plan.values() for planned in group}
    assert len(matrices) == 8 * 10


@pytest.mark.parametrize(
    ("group", "area", "length"), [("global", (0.48, 1), (0.5, 1)), ("local", (0.16, 0.48), (0.2, 0.5))]
)
@pytest.mark.parametrize("through", [0, 1, 2])
def test_area_and_length_stay_within_their_bounds(entry_of, group, area, length, through):
    shape = np.array((60, 62, 58))
    plane = [axis for axis in range(3) if axis != through]
    edges = np.array([lengths(view) for view in views(policy_of(), entry_of(tuple(shape), through), group)])
    areas = edges[:, plane].prod(1) / shape[plane].prod()
    shares = edges[:, through] / shape[through]
    ratios = edges[:, plane[0]] / edges[:, plane[1]]
    for values, (low, high) in ((areas, area), (shares, length), (ratios, (0.9, 1 / 0.9))):
        assert low - 1e-9 <= values.min() < low + 0.2 * (high - low)
        assert high + 1e-9 >= values.max() > high - 0.2 * (high - low)


@pytest.mark.parametrize(("shape", "ndim"), [((30, 32, 28), 3), ((90, 20, 9), 3), ((30, 32, 28), 2), ((40, 11), 2)])
@pytest.mark.parametrize("group", ["global", "local"])
def test_crops_lie_inside_the_scan(entry_of, shape, ndim, group):
    for view in views(policy_of(ndim=ndim), entry_of(shape), group, visits=30):
        places = corners(view)
        inside = (places >= -0.5 - 1e-9) & (places <= np.asarray(shape) - 0.5 + 1e-9)
        assert inside.all()


def test_axis_aligned_whatever_the_turns(entry_of):
    for view in views(policy_of(quarter_turn=1.0, flip=0.5), entry_of((30, 32, 28)), "global", visits=20):
        assert view.is_axis_aligned()


def test_turns_and_flips_follow_their_probabilities(entry_of):
    plain = views(policy_of(flip=0, quarter_turn=0), entry_of((30, 32, 28)), "local", visits=5)
    assert all(np.all(np.diag(view.matrix[:, :3]) > 0) for view in plain)
    flipped = [
        np.diag(view.matrix[:, :3]) < 0
        for view in views(policy_of(flip=0.3, quarter_turn=0), entry_of((30, 32, 28)), "local")
    ]
    np.testing.assert_allclose(np.mean(flipped, axis=0), 0.3, atol=0.05)
    unturned = [
        np.all(np.diag(view.matrix[:, :3]) > 0)
        for view in views(policy_of(flip=0, quarter_turn=0.3), entry_of((30, 32, 28)), "local")
    ]
    assert abs(np.mean(unturned) - 0.7**3) < 0.06


def test_crops_of_one_visit_come_from_one_slice(entry_of):
    policy, entry = policy_of(ndim=2), entry_of((40, 30, 32), through_axis=0)
    places = []
    for visit in range(60):
        plan = policy.plan(entry, visit)
        found = {planned.view.matrix[0, -1] for group in plan.values() for planned in group}
        assert all(np.all(planned.view.matrix[0, :-1] == 0) for planned in plan["global"])
        assert len(found) == 1
        places += found
    assert 4 <= min(places) < 10
    assert 30 < max(places) < 36
    assert all(place == int(place) for place in places)


def test_scaling_is_of_the_whole_scan(entry_of):
    scaling = policy_of().scaling(entry_of((9, 9, 9)))
    np.testing.assert_allclose(scaling(np.array([-50.0, 0.0, 495.0, 990.0, 5000.0])), [-1, -1, 0, 1, 1])
    window = policy_of(scaling="window", window=(100, 300)).scaling(entry_of((9, 9, 9)))
    np.testing.assert_allclose(window(np.array([100.0, 200.0, 300.0])), [-1, 0, 1])


def test_long_image_gives_the_largest_rectangle_within_the_aspect():
    edges = random_rectangle(np.random.default_rng(0), np.array([100.0, 20.0]), (0.48, 1), (0.9, 1.1))
    np.testing.assert_allclose(edges, [20 / 0.9, 20])
    edges = random_rectangle(np.random.default_rng(0), np.array([20.0, 100.0]), (0.48, 1), (0.9, 1.1))
    np.testing.assert_allclose(edges, [20, 22])


def test_policy_pickles(entry_of):
    policy = policy_of()
    copy = pickle.loads(pickle.dumps(policy))
    entry = entry_of((30, 32, 28))
    np.testing.assert_array_equal(
        copy.plan(entry, 1)["local"][7].view.matrix, policy.plan(entry, 1)["local"][7].view.matrix
    )


def test_policy_imports_neither_torch_nor_polars():
    code = "import sys, scanlore.views.multicrop; sys.exit(bool({'torch', 'polars'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_gram_views_are_the_global_ones_on_a_finer_grid(entry_of):
    plan = policy_of(gram_size=12).plan(entry_of((30, 32, 28)), 0)
    assert policy_of(gram_size=12).group_sizes()["gram"] == (2, (12, 12, 12))
    for gram, seen in zip(plan["gram"], plan["global"], strict=True):
        np.testing.assert_allclose(lengths(gram.view), lengths(seen.view))
        assert sorted(map(tuple, corners(gram.view).round(6))) == sorted(map(tuple, corners(seen.view).round(6)))
        assert np.isnan(gram.draw).all()
        assert gram.view.size == (12, 12, 12)


def test_gram_views_change_no_other_and_are_drawn_only_when_asked(entry_of):
    plain, asked = (policy_of(gram_size=size).plan(entry_of((30, 32, 28)), 0) for size in (None, 12))
    assert list(plain) == ["global", "local"]
    for group in plain:
        for one, other in zip(plain[group], asked[group], strict=True):
            np.testing.assert_array_equal(one.view.matrix, other.view.matrix)


RESOLUTIONS = [
    {"share": 0.7, "global_size": 6, "local_size": 4},
    {"share": 0.3, "global_size": 8, "local_size": 6},
]


def test_batches_take_turns_in_resolutions_by_their_shares():
    policy = policy_of(resolutions=RESOLUTIONS)
    drawn = [policy.for_batch(number).group_sizes() for number in range(600)]
    assert abs(np.mean([sizes["global"] == (2, (6, 6, 6)) for sizes in drawn]) - 0.7) < 0.05
    assert all(sizes["local"][1][0] == sizes["global"][1][0] - 2 for sizes in drawn)
    assert policy.for_batch(3) == policy.for_batch(3)
    assert policy_of(seed=1, resolutions=RESOLUTIONS).for_batch(3).settings.resolutions == ()
    assert [policy_of(1, resolutions=RESOLUTIONS).for_batch(n).settings for n in range(20)] != [
        policy.for_batch(n).settings for n in range(20)
    ]


def test_masks_follow_the_resolution_of_their_batch():
    policy = policy_of(resolutions=RESOLUTIONS)
    for number in range(10):
        batch = policy.for_batch(number)
        assert batch.masks(number, 0, 2).shape == (4, (batch.settings.global_crops.size // 2) ** 3)


def test_without_resolutions_the_plan_is_that_of_every_batch():
    policy = policy_of()
    assert policy.for_batch(5) is policy
