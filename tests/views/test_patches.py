import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from labelled_cases import SHAPES, Store, three_cases
from scanlore.corpus.store import Pyramid
from scanlore.errors import ConfigError
from scanlore.scans.intensity import intensity_stats, linear_map
from scanlore.views.affine_settings import PatchSettings
from scanlore.views.patches import LabelledPlan, draw_patch, labelled_batches, make_labelled_batch, to_device_labelled
from scanlore.views.sampler import sample_labels

STILL = {"rotation_probability": 0, "scale_probability": 0, "flip": 0, "intensity": {"enabled": False}}


STORE = three_cases()


def plan_of(store=STORE, batch_size=3, **settings):
    patch = {"patch": (12, 12, 12), "spacing": (1.0, 1.0, 1.0)} | settings
    return LabelledPlan(store, PatchSettings.model_validate(patch), batch_size, seed=1)


def assert_equal(one, other):
    assert (one.number, one.cases) == (other.number, other.cases)
    for field in ("pixels", "labels", "draws"):
        torch.testing.assert_close(getattr(one, field), getattr(other, field), rtol=0, atol=0, equal_nan=True)


def test_shapes_and_types():
    batch = make_labelled_batch(plan_of(), 0)
    assert (batch.pixels.shape, batch.pixels.dtype) == ((3, 2, 12, 12, 12), torch.float16)
    assert (batch.labels.shape, batch.labels.dtype) == ((3, 12, 12, 12), torch.int16)
    assert batch.draws.shape[:2] == (3, 2)
    assert {0} < set(batch.labels.unique().tolist()) <= {0, 1, 2}


def test_same_batches_for_any_number_of_workers_and_any_start():
    streams = [list(labelled_batches(plan_of(), 0, 3, workers)) for workers in (0, 2)]
    for one, other in zip(*streams, strict=True):
        assert_equal(one, other)
    assert_equal(streams[0][2], next(labelled_batches(plan_of(), 2, 3, 0)))
    assert not torch.equal(streams[0][0].pixels, streams[0][1].pixels)


def test_ranks_share_no_patch():
    ranks = [make_labelled_batch(replace(plan_of(), rank=rank, world_size=2), 3) for rank in (0, 1)]
    assert not torch.equal(ranks[0].pixels, ranks[1].pixels)
    assert ranks[0].cases == make_labelled_batch(plan_of(), 6).cases


def test_cases_are_drawn_uniformly():
    cases = [name for number in range(150) for name in make_labelled_batch(plan_of(patch=(4, 4, 4)), number).cases]
    counts = [cases.count(f"case{number}") for number in range(3)]
    assert min(counts) > 120


@pytest.mark.parametrize(("batch_size", "num_forced"), [(1, 0), (2, 1), (3, 1), (6, 2), (12, 4)])
def test_the_last_third_holds_foreground(batch_size, num_forced):
    found = np.zeros(batch_size)
    for number in range(40):
        batch = make_labelled_batch(plan_of(batch_size=batch_size, patch=(3, 3, 3), **STILL), number)
        found += batch.labels.flatten(1).any(1).numpy()
    assert np.all(found[batch_size - num_forced :] == 40)
    assert np.all(found[: batch_size - num_forced] < 20)


def test_classes_are_forced_equally_often():
    middles = []
    for number in range(200):
        rng = np.random.default_rng(number)
        view = draw_patch(rng, STORE.case(2), plan_of(**STILL).settings, (3, 3, 3), is_forced=True)
        middles.append(int(sample_labels(STORE.case(2).labels, view)[1, 1, 1]))
    assert 70 < middles.count(1) < 130


def test_a_forced_patch_of_a_case_without_foreground_lies_anywhere():
    empty = replace(STORE.case(0), foreground={1: np.empty((0, 3), np.int64)})
    view = draw_patch(np.random.default_rng(0), empty, plan_of().settings, (12, 12, 12), is_forced=True)
    assert view.size == (12, 12, 12)


def test_one_map_for_all_channels_and_the_labels():
    plan = plan_of(rotation_probability=1, scale_probability=1, intensity={"enabled": False})
    batch = make_labelled_batch(plan, 0)
    for row, name in enumerate(batch.cases):
        entry = STORE.case(int(name[-1]))
        scaling = [linear_map("zscore", stats) for stats in entry.stats]
        is_bright = [
            pixels.float() > 700 * s.gain + s.bias for pixels, s in zip(batch.pixels[row], scaling, strict=True)
        ]
        agreement = [(bright == (batch.labels[row] > 0)).float().mean() for bright in is_bright]
        assert min(agreement) > 0.97


def test_channels_are_scaled_on_their_own():
    plan = plan_of(patch=(20, 24, 18), store=Store(STORE.entries[:1]), **STILL)
    batch = make_labelled_batch(plan, 0)
    np.testing.assert_allclose(batch.pixels.float().mean((0, 2, 3, 4)), 0, atol=2e-3)
    np.testing.assert_allclose(batch.pixels[0].float().flatten(1).std(1), 1, atol=2e-3)


def test_patch_larger_than_the_scan_is_filled():
    plan = plan_of(patch=(32, 32, 32), store=Store(STORE.entries[:1]), outside=-5.0, **STILL)
    batch = make_labelled_batch(plan, 0)
    outside = batch.pixels[:, 0] == -5
    assert outside.flatten(1).sum(1).tolist() == [32**3 - 20 * 24 * 18] * 3
    assert not batch.labels[outside].any()
    assert sorted(batch.labels[0].unique().tolist()) == [0, 1, 2]


def test_spacing_of_the_patch():
    entry = replace(STORE.case(0), spacing=(0.5, 1.0, 2.0))
    settings = plan_of(spacing=(1.0, 1.0, 4.0), **STILL).settings
    view = draw_patch(np.random.default_rng(0), entry, settings, (6, 6, 6), is_forced=False)
    np.testing.assert_allclose(view.matrix[:, :3], np.diag([2, 1, 2]))


@pytest.mark.parametrize("is_forced", [False, True])
def test_slices_of_volumes(is_forced):
    settings = plan_of(ndim=2, patch=(12, 12), spacing=None).settings
    places = []
    for number in range(60):
        view = draw_patch(np.random.default_rng(number), STORE.case(0), settings, (12, 12), is_forced)
        assert np.all(view.matrix[2, :2] == 0)
        places.append(view.matrix[2, 2])
    assert set(places) <= ({1, 2, 3, 16, 17} if is_forced else set(range(18)))
    assert len(set(places)) >= 5


def test_images():
    labels = np.zeros((20, 24), np.uint8)
    labels[4:8, 5:9] = 1
    entry = replace(
        STORE.case(0),
        shape=(20, 24),
        spacing=None,
        through_axis=None,
        pyramids=(Pyramid(((1, 1),), (100 * labels.astype(np.int16),), 1.0, 0.0),),
        stats=(intensity_stats(100 * labels.astype(np.int16)),),
        labels=Pyramid(((1, 1),), (labels,), 1.0, 0.0),
        foreground={1: np.argwhere(labels)},
    )
    batch = make_labelled_batch(plan_of(store=Store((entry,)), ndim=2, patch=(16, 16), spacing=None), 0)
    assert (batch.pixels.shape, batch.labels.shape) == ((3, 1, 16, 16), (3, 16, 16))
    assert batch.labels[2].any()


def test_constant_scans_are_never_nan():
    flat = Pyramid(((1, 1, 1),), (np.full(SHAPES[0], 7, np.int16),), 1.0, 0.0)
    stats = intensity_stats(np.full(SHAPES[0], 7, np.int16))
    entry = replace(STORE.case(0), pyramids=(flat, flat), stats=(stats, stats))
    for number in range(20):
        batch = make_labelled_batch(plan_of(store=Store((entry,))), number)
        assert to_device_labelled(batch, torch.device("cpu")).pixels.isfinite().all()


def test_to_device_changes_intensities_alone():
    plan = plan_of(batch_size=12)
    plain, batch = make_labelled_batch(plan, 0), to_device_labelled(make_labelled_batch(plan, 0), torch.device("cpu"))
    drawn = ~plain.draws.isnan().all(-1)
    same = (batch.pixels == plain.pixels.float()).flatten(2).all(-1)
    assert batch.pixels.dtype == torch.float32
    assert torch.equal(same, ~drawn)
    assert torch.equal(batch.labels, plain.labels)


@pytest.mark.parametrize("settings", [{"patch": "auto"}, {"spacing": "auto"}])
def test_auto_must_be_replaced_first(settings):
    with pytest.raises(ConfigError, match="still 'auto'"):
        make_labelled_batch(plan_of(**settings), 0)


def test_plan_is_picklable():
    assert_equal(make_labelled_batch(pickle.loads(pickle.dumps(plan_of())), 0), make_labelled_batch(plan_of(), 0))
