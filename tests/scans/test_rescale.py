import numpy as np
import pytest

from scanlore.scans.rescale import rescale, rescale_in_place

STORED = np.array([0, 1, 4095], np.uint16)


def test_nothing_to_do_returns_the_same_array():
    assert rescale(STORED, 1.0, 0.0) is STORED


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, "int16"), (20, 0, "int32"), (1e6, 0, "float32"), (0.5, 0, "float32"), (1, -0.5, "float32")],
)
def test_smallest_exact_type(slope, intercept, dtype):
    scaled = rescale(STORED, slope, intercept)
    assert scaled.dtype == dtype
    np.testing.assert_allclose(scaled, STORED * np.float64(slope) + intercept)


def test_products_beyond_the_type_do_not_wrap():
    np.testing.assert_array_equal(rescale(np.array([60000], np.uint16), 1, -32768), [27232])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("scale", [(1, 0), (1, -1024), (2, 5), (0.5, 0), (-1, 0), (70000, 1), (1, 40000)])
def test_in_place_is_the_same(dtype, scale):
    stored = np.arange(60).reshape(5, 3, 4).astype(dtype)
    expected = rescale(stored.copy(), *scale)
    work = stored.copy()
    result = rescale_in_place(work, *scale)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == expected.dtype
    assert np.shares_memory(result, work) == (expected.itemsize == stored.itemsize)
