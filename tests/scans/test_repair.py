import numpy as np
import pytest

from scanlore.errors import DataError
from scanlore.scans.repair import repair_nonfinite


def test_each_channel_is_repaired_with_its_own_mean():
    voxels = np.array([[[1, 3, np.nan]], [[10, np.inf, -np.inf]]], np.float32)
    repaired, num_bad = repair_nonfinite(voxels)
    np.testing.assert_array_equal(repaired, [[[1, 3, 2]], [[10, 10, 10]]])
    assert num_bad == 3
    assert np.isnan(voxels[0, 0, 2])


def test_finite_voxels_are_the_same_array():
    for voxels in (np.ones((1, 2, 2)), np.ones((1, 2, 2), np.int16)):
        assert repair_nonfinite(voxels)[0] is voxels


def test_a_channel_without_finite_voxels_is_refused():
    with pytest.raises(DataError, match="no voxel is a finite number in a channel"):
        repair_nonfinite(np.array([[[1.0]], [[np.nan]]]))
