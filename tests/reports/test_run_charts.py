import math
import re

import numpy as np
import pytest

from scanlore.reports.run_charts import NUM_BINS, Axes, chart, curve, number_text

AXES = Axes((0.0, 100.0))


def rows(values):
    return [{"step": step, "loss": value} for step, value in enumerate(values)]


def points(path):
    return np.array([float(number) for number in re.findall(r"-?[\d.]+", path)]).reshape(-1, 2)


def test_values_that_are_missing_or_not_finite_are_left_out():
    drawn = curve("loss", [{"step": 1}, *rows([1.0, math.nan, math.inf, None, True, 2])], "loss")
    assert drawn.steps.tolist() == [0, 5]
    assert drawn.values.tolist() == [1, 2]


def test_no_value_is_no_chart():
    assert chart("Loss", [curve("loss", rows([math.nan]), "loss")], AXES) is None


def test_a_curve_lies_where_its_values_are():
    drawn = chart("Loss", [curve("loss", rows(range(101)), "loss")], AXES)
    across, down = points(drawn.lines[0].path).T
    assert across == pytest.approx(np.arange(101) * 10, abs=0.1)
    assert np.all(np.diff(down) < 0)  # up is less in SVG
    assert 0 <= down[-1] < 100
    assert not drawn.lines[0].band


def test_a_long_curve_is_thinned_to_means_within_a_band():
    values = np.tile([1.0, 3.0], 5000)
    drawn = chart("Loss", [curve("loss", rows(values.tolist()), "loss")], Axes((0.0, 9999.0)))
    line = drawn.lines[0]
    assert len(points(line.path)) <= NUM_BINS
    assert np.ptp(points(line.path)[:, 1]) < 0.2 * np.ptp(points(line.band.rstrip("Z"))[:, 1])
    assert line.last == "3"


def test_a_level_widens_the_chart():
    drawn = chart("Loss", [curve("loss", rows([1.0, 2.0]), "loss")], AXES, levels=[(0.5, "alarm")])
    assert 0 < drawn.levels[0][0] < 0.5
    assert drawn.levels[0][1] == "alarm"


def test_logarithmic_heights():
    drawn = chart("Norm", [curve("norm", rows([0.01, 1.0, 100.0, 0.0]), "loss")], Axes((0.0, 3.0), is_log=True))
    down = points(drawn.lines[0].path)[:, 1]
    assert down[0] - down[1] == pytest.approx(down[1] - down[2], abs=0.2)
    assert {"0.01", "1", "100"} <= {text for _, text in drawn.y_ticks}


def test_one_spike_does_not_flatten_a_robust_chart():
    values = [1.0 + 0.1 * (step % 2) for step in range(200)]
    values[100] = 1e6
    drawn = chart("Loss", [curve("loss", rows(values), "loss")], Axes((0.0, 199.0), is_robust=True))
    assert np.ptp(points(drawn.lines[0].path)[:90, 1]) > 500


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e-9])
def test_a_flat_curve_is_drawn_inside(value):
    drawn = chart("Loss", [curve("loss", rows([value] * 3), "loss")], AXES)
    assert 0 <= points(drawn.lines[0].path)[0, 1] <= 1000
    assert drawn.text == f"Loss: loss {number_text(value)}"


def test_marks_are_few_and_inside():
    drawn = chart("Rate", [curve("rate", rows([1e-5, 4.2e-4]), "loss")], Axes((1.0, 125_000.0)))
    for ticks in (drawn.x_ticks, drawn.y_ticks):
        assert 2 <= len(ticks) <= 7
        assert all(0 <= place <= 1 for place, _ in ticks)
    assert "50k" in {text for _, text in drawn.x_ticks}


def test_a_line_is_parted_at_a_break():
    axes = Axes((0.0, 9999.0), breaks=((5000.5, "second"),))
    values = [0.0] * 5001 + [1.0] * 4999
    line = chart("Loss", [curve("loss", rows(values), "loss")], axes).lines[0]
    assert [len(set(points(part)[:, 1])) for part in line.path[1:].split("M")] == [1, 1]
