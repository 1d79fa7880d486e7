import io

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from PIL import Image

from scanlore.reports.figures import embedding_scatter, loss_curves, mid_slices, pca_panel, score_bars


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def place_of_white(png, column):
    """Middle of what is white in one of three columns, as fractions `(row, column)` of it."""
    third = np.array_split(pixels(png), 3, axis=1)[column]
    return np.argwhere((third > 240).all(-1)).mean(0) / third.shape[:2]


@pytest.mark.parametrize(
    ("plane", "axis", "end", "where"),
    [
        (0, 1, "high", (0.5, 0.25)),  # sagittal: anterior is left
        (0, 2, "high", (0.25, 0.5)),  # superior is up
        (1, 0, "high", (0.5, 0.25)),  # coronal: the patient's right is left
        (1, 2, "high", (0.25, 0.5)),
        (2, 0, "low", (0.5, 0.75)),  # axial: the patient's left is right
        (2, 1, "high", (0.25, 0.5)),  # anterior is up
    ],
)
def test_planes_are_the_right_way_round(plane, axis, end, where):
    volume = np.zeros((20, 20, 20))
    np.moveaxis(volume, axis, 0)[slice(10, None) if end == "high" else slice(10)] = 1
    np.testing.assert_allclose(place_of_white(mid_slices(volume), plane), where, atol=0.06)


def test_proportions_follow_spacing():
    flat, tall = (pixels(mid_slices(np.ones((10, 10, 10)), (1, 1, step))).shape for step in (1, 2))
    assert tall[0] == pytest.approx(2 * flat[0], rel=0.01)


def test_pca_panel_shows_the_colours_of_the_grid():
    rgb = np.zeros((2, 2, 2, 3))
    rgb[..., 0] = 1
    picture = pixels(pca_panel(np.random.default_rng(0).random((8, 8, 8)), rgb))
    red = (picture[..., 0] > 240) & (picture[..., 1:] < 15).all(-1)
    assert red[len(red) // 2 :].mean() > 0.8
    assert not red[: len(red) // 2 - 8].any()


def test_images_are_drawn_as_they_are():
    image = np.zeros((10, 20))
    image[:5] = 1
    picture = pixels(mid_slices(image))
    assert picture[: len(picture) // 3].mean() > 200 > 50 > picture[-len(picture) // 3 :].mean()
    assert pixels(pca_panel(image, np.ones((2, 4, 3)))).shape[0] > picture.shape[0]


def test_plots_take_gaps_and_missing_values():
    rows = [{"step": 1, "loss": 2.0, "dino": 1.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 1.0}]
    scores = [{"model": "a", "value": 0.7, "low": 0.6, "high": 0.8}, {"model": "b", "value": None}]
    assert pixels(loss_curves(rows, ["dino"])).std() > 0
    assert pixels(loss_curves([])).std() > 0
    assert pixels(score_bars(scores, "AUROC")).std() > 0


def test_score_interval_changes_the_picture():
    narrow, wide = ([{"model": "a", "value": 0.5, "low": 0.5 - w, "high": 0.5 + w}] for w in (0.01, 0.2))
    assert score_bars(narrow) != score_bars(wide)


def test_scatter_has_a_colour_for_each_label():
    matrix = np.random.default_rng(0).random((12, 5))
    few, many = (pixels(embedding_scatter(matrix, labels)) for labels in ([0] * 12, [0, 1] * 6))
    orange = np.array([0xD5, 0x5E, 0x00])
    assert not (np.abs(few - orange).sum(-1) < 60).any()
    assert (np.abs(many - orange).sum(-1) < 120).any()


def test_no_global_figures_are_left():
    mid_slices(np.ones((4, 4, 4)))
    assert not _pylab_helpers.Gcf.get_all_fig_managers()
