import multiprocessing.forkserver
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from scanlore.errors import DataError
from scanlore.views.loader import Batch, LoaderPlan, batches, make_batch, scan_places, to_device
from scanlore.views.multicrop import MultiCropPolicy
from scanlore.views.policy import build_policy
from scanlore.views.sampler import sample
from scanlore.views.settings import AffineSettings, MultiCropSettings

SETTINGS = {
    "global_crops": {"number": 2, "size": 8, "area": (0.48, 1.0), "length": (0.5, 1.0)},
    "local_crops": {"number": 3, "size": 4, "area": (0.16, 0.48), "length": (0.2, 0.5)},
}


@pytest.fixture(scope="module", autouse=True)
def _fresh_forkserver():
    """A server that an earlier test started has not imported torch, and every worker would."""
    multiprocessing.forkserver._forkserver._stop()


@pytest.fixture(scope="module")
def plan(stored):
    policy = MultiCropPolicy(MultiCropSettings.model_validate(SETTINGS), seed=1, patch_size=2)
    return LoaderPlan(stored.select(ndim=3), policy, batch_size=2)


def assert_equal(one, other):
    assert (one.number, one.scans) == (other.number, other.scans)
    assert torch.equal(one.masks, other.masks)
    for name, group in one.groups.items():
        for field in ("pixels", "draws", "low", "high", "affines"):
            torch.testing.assert_close(
                getattr(group, field), getattr(other.groups[name], field), rtol=0, atol=0, equal_nan=True
            )


def test_shapes_and_types(plan):
    batch = make_batch(plan, 0)
    assert [tuple(group.pixels.shape) for group in batch.groups.values()] == [(4, 1, 8, 8, 8), (6, 1, 4, 4, 4)]
    assert [tuple(group.affines.shape) for group in batch.groups.values()] == [(4, 3, 4), (6, 3, 4)]
    assert all(group.pixels.dtype == torch.float16 for group in batch.groups.values())
    assert (batch.masks.shape, batch.masks.dtype, len(batch.scans)) == ((4, 64), torch.bool, 2)
    assert all(group.pixels.abs().max() <= 1 for group in batch.groups.values())


def test_hidden_cells_are_located():
    masks = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.bool)
    batch = to_device(Batch(0, [], {}, masks), torch.device("cpu"), clip=False)
    assert batch.places.tolist() == [0, 2, 11]
    assert batch.weights.tolist() == [0.5, 0.5, 1.0]


def test_views_are_crop_major_and_sampled_by_their_map(plan):
    batch, places = make_batch(plan, 3), scan_places(plan, 3)
    for row, (index, visit) in enumerate(places):
        entry = plan.scans.entry(index)
        assert batch.scans[row] == entry.id
        for crop, planned in enumerate(plan.policy.plan(entry, visit)["local"]):
            place, group = crop * 2 + row, batch.groups["local"]
            expected = sample(plan.scans.pyramid(index), planned.view, plan.policy.scaling(entry), "pretraining")
            assert torch.equal(group.pixels[place, 0], expected.half())
            np.testing.assert_array_equal(group.affines[place], planned.view.matrix)
            np.testing.assert_array_equal(group.draws[place], planned.draw)


def test_same_batches_for_any_number_of_workers(plan):
    streams = [list(batches(plan, 0, 4, workers)) for workers in (0, 1, 2)]
    assert [batch.number for batch in streams[0]] == [0, 1, 2, 3]
    for stream in streams[1:]:
        for one, other in zip(streams[0], stream, strict=True):
            assert_equal(one, other)


def test_a_batch_alone_is_that_of_the_stream(plan):
    *_, last = batches(plan, 0, 4, 0)
    assert_equal(last, make_batch(plan, 3))
    assert_equal(last, next(batches(plan, 3, 4, 0)))


def test_batches_differ(plan):
    first, second = make_batch(plan, 0), make_batch(plan, 1)
    assert not torch.equal(first.masks, second.masks)
    assert not torch.equal(first.groups["global"].pixels, second.groups["global"].pixels)


def test_the_same_scan_gives_other_views_at_every_visit(plan):
    alone = replace(plan, batch_size=5)
    first, second = make_batch(alone, 0), make_batch(alone, 1)
    row, again = 0, second.scans.index(first.scans[0])
    assert not torch.equal(first.groups["global"].affines[row], second.groups["global"].affines[again])


def test_a_pass_visits_every_scan_once_and_visits_are_counted(plan):
    places = [place for number in range(10) for place in scan_places(plan, number)]
    assert Counter(places) == Counter((index, visit) for visit in range(4) for index in range(5))
    orders = [[index for index, visit in places if visit == wanted] for wanted in range(4)]
    assert len(set(map(tuple, orders))) > 1


def test_ranks_share_a_pass(plan):
    ranks = [replace(plan, batch_size=1, rank=rank, world_size=2) for rank in (0, 1)]
    for number in range(6):
        together = [place for rank in ranks for place in scan_places(rank, number)]
        assert together == scan_places(plan, number)
    assert not torch.equal(make_batch(ranks[0], 0).masks, make_batch(ranks[1], 0).masks)


def test_views_do_not_depend_on_the_number_of_ranks(plan):
    ranks = [make_batch(replace(plan, batch_size=1, rank=rank, world_size=2), 2) for rank in (0, 1)]
    whole = make_batch(plan, 2)
    split = torch.cat([rank.groups["global"].pixels for rank in ranks])
    assert torch.equal(split[[0, 2, 1, 3]], whole.groups["global"].pixels)


def test_slices_and_images_in_one_batch(stored):
    policy = MultiCropPolicy(MultiCropSettings.model_validate(SETTINGS | {"ndim": 2}), seed=1, patch_size=2)
    batch = make_batch(LoaderPlan(stored.select(), policy, batch_size=7), 0)
    affines = batch.groups["global"].affines
    assert batch.groups["global"].pixels.shape == (14, 1, 8, 8)
    assert affines.shape == (14, 3, 3)
    assert affines[:, -1].isnan().all(1).sum() == 4
    assert not affines[:, :2].isnan().any()


def test_to_device_applies_the_draws_and_keeps_the_bounds(plan):
    plain = make_batch(plan, 0)
    batch = to_device(make_batch(plan, 0), torch.device("cpu"), clip=True)
    for name, group in batch.groups.items():
        drawn = ~plain.groups[name].draws.isnan().all(1)
        same = (group.pixels == plain.groups[name].pixels.float()).flatten(1).all(1)
        assert group.pixels.dtype == torch.float32
        assert torch.equal(same, ~drawn)
        assert group.pixels.abs().max() <= 1


def test_interrupted_reading_leaves_no_worker(plan):
    others = set(multiprocessing.active_children())  # of tests before this one
    stream = batches(plan, 0, 50, 1)
    next(stream)
    stream.close()
    assert set(multiprocessing.active_children()) <= others


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_shard_is_one_line_from_a_worker_too(plan, tmp_path, workers):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "00000.b2s").write_bytes(bytes(5000))
    damaged = replace(plan, scans=replace(plan.scans, root=tmp_path))
    with pytest.raises(DataError) as error:
        list(batches(damaged, 0, 1, workers))
    assert "00000.b2s" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_worker_imports(plan, tmp_path):
    (tmp_path / "plan").write_bytes(pickle.dumps(plan))
    code = (
        "import pickle, sys\n"
        "from pathlib import Path\n"
        "plan = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "sys.modules['scanlore.views.loader'].make_batch(plan, 0)\n"
        "heavy = {'polars', 'sklearn', 'monai', 'matplotlib', 'SimpleITK', 'nibabel', 'pandas'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "plan")], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def affine_plan(stored):
    settings = AffineSettings.model_validate({"size": 16, "masks": {"block": 8}, "rotation_probability": 0.5})
    return LoaderPlan(stored.select(ndim=3), build_policy(settings, 1, 8), batch_size=5)


def test_affine_views_with_their_masks(affine_plan):
    batch = to_device(make_batch(affine_plan, 0), torch.device("cpu"), clip=False)
    group = batch.groups["views"]
    assert (group.pixels.shape, group.pixels.dtype) == ((5, 1, 16, 16, 16), torch.float32)
    assert (group.affines.shape, group.draws.shape, batch.masks.shape) == ((5, 3, 4), (5, 0), (5, 8))
    # Every scan has an axis shorter than the patch; z-scores of noise are hardly ever exactly 0
    assert torch.all((group.pixels == 0).flatten(1).float().mean(1) > 0.1)
    assert group.pixels.isfinite().all()


def test_same_affine_batches_for_any_number_of_workers(affine_plan):
    streams = [list(batches(affine_plan, 0, 3, workers)) for workers in (0, 2)]
    for one, other in zip(*streams, strict=True):
        assert_equal(one, other)
    assert not torch.equal(streams[0][0].masks, streams[0][1].masks)


def test_without_masks_there_are_none(affine_plan):
    settings = AffineSettings(size=16, masks=None)
    batch = make_batch(replace(affine_plan, policy=build_policy(settings, 1, 8)), 0)
    assert batch.masks.numel() == 0


def test_constant_scans_give_no_nan(affine_plan):
    columns = dict(affine_plan.scans.columns)
    columns |= {name: np.full(5, value) for name, value in {"minimum": 7, "maximum": 7, "mean": 7, "std": 0}.items()}
    batch = make_batch(replace(affine_plan, scans=replace(affine_plan.scans, columns=columns)), 0)
    assert torch.equal(batch.groups["views"].pixels, torch.zeros((5, 1, 16, 16, 16), dtype=torch.float16))


def test_batches_of_several_resolutions(plan):
    sizes = [(8, 4, 16), (6, 2, 8)]
    resolutions = [
        {"share": 0.5, "global_size": big, "local_size": small, "gram_size": fine} for big, small, fine in sizes
    ]
    settings = MultiCropSettings.model_validate(SETTINGS | {"gram_size": 16, "resolutions": resolutions})
    mixed = replace(plan, policy=MultiCropPolicy(settings, seed=1, patch_size=2))
    found = set()
    for batch in batches(mixed, 0, 8, 0):
        edges = tuple(batch.groups[name].pixels.shape[-1] for name in ("global", "local", "gram"))
        assert batch.masks.shape == (4, (edges[0] // 2) ** 3)
        found.add(edges)
    assert found == set(sizes)
    other_rank = replace(mixed, batch_size=1, rank=1, world_size=2)
    for number in range(4):
        shapes = [make_batch(one, number).groups["global"].pixels.shape[2:] for one in (mixed, other_rank)]
        assert shapes[0] == shapes[1]


def test_gram_views_show_what_the_global_ones_do_and_get_no_transforms(plan):
    settings = MultiCropSettings.model_validate(SETTINGS | {"gram_size": 8})
    batch = make_batch(replace(plan, policy=MultiCropPolicy(settings, seed=1, patch_size=2)), 0)
    before = batch.groups["gram"].pixels.float()
    assert torch.equal(batch.groups["gram"].pixels, batch.groups["global"].pixels)
    assert torch.equal(to_device(batch, torch.device("cpu"), clip=True).groups["gram"].pixels, before)
    assert not torch.equal(batch.groups["global"].pixels, before)
