import pytest

from scanlore.errors import ConfigError
from scanlore.tasks.patch_size import check_patch, patch_for


def test_the_median_scan_rounded_up():
    shapes = [(35, 50, 36), (35, 49, 30), (34, 51, 44)]
    assert patch_for(shapes, [(1.0, 1.0, 1.0)] * 3, (1.0, 1.0, 1.0), 8, 160) == (40, 56, 40)


def test_at_the_target_spacing():
    assert patch_for([(40, 40, 10)], [(1.0, 1.0, 4.0)], (1.0, 1.0, 2.0), 8, 160) == (40, 40, 24)
    assert patch_for([(40, 40, 10)], [(1.0, 1.0, 4.0)], None, 8, 160) == (40, 40, 16)


def test_scans_without_spacing_are_taken_as_they_are():
    assert patch_for([(60, 33)], [None], (0.5, 0.5), 16, 160) == (64, 48)


def test_the_longest_edge_is_a_multiple_as_well():
    assert patch_for([(512, 512, 300)], [None], None, 32, 170) == (160, 160, 160)


def test_a_multiple_stays_in_spite_of_rounded_spacings():
    assert patch_for([(64, 64, 64)], [(1.0000001,) * 3], (1.0,) * 3, 32, 160) == (64, 64, 64)


def test_the_last_stage_keeps_more_than_a_voxel():
    assert patch_for([(10, 10, 10)], [None], None, 32, 160) == (64, 64, 64)
    assert patch_for([(100, 100, 10)], [None], None, 32, 160) == (128, 128, 32)


def test_every_patch_fits():
    for edge in range(1, 200, 7):
        check_patch(patch_for([(edge, 2 * edge, 33)], [None], None, 16, 100), 16)


def test_too_short_a_longest_edge():
    with pytest.raises(ConfigError, match="take 64 or more"):
        patch_for([(100, 100, 100)], [None], None, 32, 40)


@pytest.mark.parametrize(
    ("patch", "nearest"),
    [((40, 50, 40), "40 x 48 x 40"), ((3, 16, 16), "8 x 16 x 16"), ((8, 8), "16 x 16"), ((0, -4, 60), "8 x 8 x 64")],
)
def test_the_nearest_that_fits_is_named(patch, nearest):
    with pytest.raises(ConfigError, match=f"the nearest that fits is {nearest}"):
        check_patch(patch, 8)
