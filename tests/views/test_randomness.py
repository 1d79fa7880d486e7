import numpy as np
import pytest

from scanlore.views.randomness import factor_around_one, keyed_generator, keyed_seed


def test_generator_depends_on_the_whole_key_alone():
    draws = [
        keyed_generator(*key).random() for key in ((0, 1, "a"), (0, 1, "a"), (0, 2, "a"), (1, 1, "a"), (0, 1, "b"))
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4


def test_draws_are_the_same_for_ever():
    assert keyed_generator(0, "order").permutation(6).tolist() == [5, 2, 0, 1, 4, 3]
    assert keyed_seed(0, "step") == 5098192799807135273


def test_seed_fits_torch():
    assert all(0 <= keyed_seed(number) < 2**63 for number in range(100))
    assert len({keyed_seed(number) for number in range(100)}) == 100


@pytest.mark.parametrize(("bounds", "share_below"), [((0.7, 1.5), 0.5), ((1.2, 1.5), 0), ((0.5, 1.0), 1)])
def test_factors_lie_on_either_side_of_one_equally_often(bounds, share_below):
    rng = np.random.default_rng(0)
    factors = np.array([factor_around_one(rng, bounds) for _ in range(2000)])
    assert bounds[0] <= factors.min() < factors.max() <= bounds[1]
    assert np.mean(factors < 1) == pytest.approx(share_below, abs=0.04)
