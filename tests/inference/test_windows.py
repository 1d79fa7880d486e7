import numpy as np
import pytest

from scanlore.inference.windows import num_windows, spans, windows


@pytest.mark.parametrize(
    ("size", "patch", "overlap", "starts"),
    [
        (10, 4, 0.5, [0, 2, 4, 6]),
        (11, 4, 0.5, [0, 2, 4, 5, 7]),
        (10, 4, 0.75, [0, 1, 2, 3, 4, 5, 6]),
        (10, 4, 0.0, [0, 3, 6]),
        (4, 4, 0.5, [0]),
        (2, 4, 0.5, [-1]),
        (1, 4, 0.5, [-1]),
        (3, 1, 0.5, [0, 1, 2]),
    ],
)
def test_starts(size, patch, overlap, starts):
    assert [span.start for span in spans(size, patch, overlap)] == starts


@pytest.mark.parametrize(("size", "patch", "overlap"), [(23, 8, 0.5), (23, 8, 0.75), (5, 8, 0.5), (9, 3, 0.0)])
def test_weights_add_up_to_one_everywhere(size, patch, overlap):
    total = np.zeros(size)
    for span in spans(size, patch, overlap):
        assert span.weights.shape == total[span.place].shape
        assert span.place.start - span.start == span.inside.start
        assert (span.weights > 0).all()
        total[span.place] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_window_counts_most_at_its_centre():
    weights = spans(24, 8, 0.5)[2].weights
    assert weights[3:5].min() > 0.9 > 0.1 > weights[[0, -1]].max()
    np.testing.assert_allclose(weights, weights[::-1], rtol=1e-6)


def test_windows_cover_a_grid_in_rising_order_along_one_axis():
    grid, patch = (7, 9, 5), (4, 4, 6)
    seen = np.zeros(grid)
    starts = []
    for window in windows(grid, patch, 0.5, slow=1):
        seen[tuple(span.place for span in window)] += 1
        starts.append(window[1].start)
    assert seen.min() == 1
    assert starts == sorted(starts)
    assert len(starts) == num_windows(grid, patch, 0.5) == 3 * 4 * 1
