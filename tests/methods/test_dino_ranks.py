import numpy as np
import pytest

from dino_ranks import dino_step, teachers_after_a_step

# KoLeo among the scans of a process is another loss when there are more processes; the rest is the same
ALONE = ["method.koleo_weight=0"]
GATHERED = ["method.koleo=gathered", "method.koleo_weight=3"]


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(
    "overrides",
    [ALONE, [*ALONE, "method.centering=softmax"], GATHERED, [*GATHERED, "method.gram={}", "views.gram_size=32"]],
)
def test_two_processes_equal_one_on_the_same_batch(gloo_pool, overrides, bare):
    ranks, alone = gloo_pool.run(dino_step, 2, overrides, bare), dino_step(0, 1, overrides, bare)
    for name, value in alone["terms"].items():
        assert np.mean([rank["terms"][name] for rank in ranks]) == pytest.approx(value, rel=1e-5, abs=1e-7), name
    for rank in ranks:
        assert rank["grads"].keys() == alone["grads"].keys()
        for name, gradient in alone["grads"].items():
            np.testing.assert_allclose(
                rank["grads"][name], gradient, rtol=0, atol=2e-5 * abs(gradient).max(), err_msg=name
            )
        np.testing.assert_allclose(rank["center"], alone["center"], atol=1e-6)


def test_koleo_of_each_process_alone_is_another_loss(gloo_pool):
    ranks, alone = gloo_pool.run(dino_step, 2, [], False), dino_step(0, 1, [], False)
    assert abs(np.mean([rank["terms"]["koleo"] for rank in ranks]) - alone["terms"]["koleo"]) > 1e-3


def test_teachers_that_are_sharded_follow_as_whole_ones_do(gloo_pool):
    ranks, whole = gloo_pool.run(teachers_after_a_step, True), teachers_after_a_step(0, False)
    for rank in ranks:
        assert rank.keys() == whole.keys()
        for name, values in whole.items():
            np.testing.assert_array_equal(rank[name], values, err_msg=name)
