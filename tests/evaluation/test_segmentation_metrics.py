import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from scanlore.evaluation.segmentation_metrics import (
    agreement,
    dice,
    hd95,
    jaccard,
    mask_metrics,
    nsd,
    score_case,
    scored_classes,
    surface,
    surface_distances,
)

LABELS = {0: "background", 1: "front", 2: "back"}


def line(*indices, length=8):
    """A mask of one row."""
    mask = np.zeros((1, length), dtype=bool)
    mask[0, list(indices)] = True
    return mask


def found(reference, prediction, spacing=(1.0, 1.0)):
    return agreement(reference, prediction, spacing)


def values(rows, metric):
    return {row["class_or_region"]: row["value"] for row in rows if row["metric"] == metric}


def blobs(shape, seed):
    """Label values 0, 1 and 2 in smooth patches that reach the border."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return np.digitize(noise, np.quantile(noise, [0.5, 0.8])).astype(np.uint8)


def test_overlaps_by_hand():
    # Three and two voxels, one shared: dice 2/5, jaccard 1/4
    result = found(line(1, 2, 3), line(3, 4))
    assert dice(result) == pytest.approx(2 / 5)
    assert jaccard(result) == pytest.approx(1 / 4)


def test_surface_is_the_mask_without_its_erosion():
    mask = np.zeros((5, 5), dtype=bool)
    mask[:4, 1:4] = True
    expected = mask.copy()
    expected[1:3, 2] = False  # the upper side lies on the border of the array, beyond which is outside
    assert (surface(mask) == expected).all()
    cube = np.ones((3, 3, 3), dtype=bool)
    assert surface(cube).sum() == 26


def test_diagonal_neighbours_do_not_make_a_surface():
    mask = np.ones((5, 5), dtype=bool)
    mask[0, 0] = False
    assert not surface(mask)[1:4, 1:4].any()


def test_distances_by_hand():
    distances = surface_distances(line(1, 2, 5), line(2), (3.0, 0.5))
    assert sorted(distances) == [0, 0.5, 1.5]


def test_hd95_takes_the_worse_direction():
    # From the prediction {2, 6} to the reference {2}: 0 and 4, 95 % of the way 3.8; back: 0
    assert hd95(found(line(2), line(2, 6))) == pytest.approx(3.8)
    assert hd95(found(line(2, 6), line(2))) == pytest.approx(3.8)


def test_spacing_of_each_axis_counts():
    reference, prediction = np.zeros((6, 6, 6), dtype=bool), np.zeros((6, 6, 6), dtype=bool)
    reference[1, 1, 1], prediction[2, 3, 1] = True, True
    # One step of 3 mm and two of 2 mm: 5 mm
    assert hd95(agreement(reference, prediction, (3.0, 2.0, 9.0))) == pytest.approx(5)


def test_nsd_counts_the_tolerance_as_near():
    # Distances 0 and 2 from the prediction, 0 from the reference
    result = found(line(2), line(2, 4))
    assert nsd(result, 2.0) == 1
    assert nsd(result, 1.9) == pytest.approx(2 / 3)


@pytest.mark.parametrize("step", [0.1, 1 / 3, float(np.float32(1.0000001)), 0.2])
def test_rounding_never_decides_what_is_near(step):
    for start in range(12):
        length = 12 + round(1 / step)
        result = found(line(start, length=length), line(start + round(1 / step), length=length), (1.0, step))
        assert nsd(result, 1.0) == 1


def test_equal_masks():
    mask = blobs((9, 8, 7), 0) == 1
    result = agreement(mask, mask, (1.0, 1.0, 1.0))
    assert (dice(result), jaccard(result), hd95(result), nsd(result, 0.0)) == (1, 1, 0, 1)


@pytest.mark.parametrize(
    ("reference", "prediction", "reason", "overlap"),
    [
        ([], [], "absent in reference and prediction", None),
        ([1], [], "absent in prediction", 0),
        ([], [1], "absent in reference", 0),
    ],
)
def test_rules_for_empty_masks(reference, prediction, reason, overlap):
    rows = score_case(*(line(*mask).astype(np.uint8) for mask in (reference, prediction)), {1: "a"}, (1.0, 1.0))
    assert {row["metric"]: row["value"] for row in rows} == {
        "dice": overlap, "jaccard": overlap, "hd95": None, "nsd@1mm": overlap,
    }  # fmt: skip
    assert {row["reason"] for row in rows if row["value"] is None} == {reason}


def test_every_class_but_background_is_scored():
    rows = score_case(blobs((9, 8), 0), blobs((9, 8), 1), LABELS, (1.0, 1.0), 2.5)
    assert [(row["class_or_region"], row["metric"]) for row in rows] == [
        (name, metric) for name in ("front", "back") for metric in ("dice", "jaccard", "hd95", "nsd@2.5mm")
    ]
    assert {row["unit"] for row in rows if row["metric"] == "hd95"} == {"mm"}
    assert scored_classes(LABELS, ignore=2) == {1: "front"}


def test_images_of_unknown_size_are_measured_in_pixels():
    rows = score_case(line(1).astype(np.uint8), line(3).astype(np.uint8), {1: "a"}, None)
    assert [(row["metric"], row["unit"], row["value"]) for row in rows][2:] == [
        ("hd95", "px", 2),
        ("nsd@1px", "fraction", 0),
    ]


def test_ignored_voxels_count_for_nothing():
    reference = np.array([[1, 1, 9, 9, 0]])
    prediction = np.array([[1, 1, 1, 2, 0]])
    rows = score_case(reference, prediction, {**LABELS, 9: "ignore"}, (1.0, 1.0), ignore=9)
    assert values(rows, "dice") == {"front": 1, "back": None}


def test_labels_of_any_integer_type_and_value():
    reference, prediction = np.zeros((4, 5), dtype=np.int16), np.zeros((4, 5), dtype=np.uint8)
    reference[1, 1:4], prediction[1, 2:4] = 200, 200
    assert values(score_case(reference, prediction, {0: "background", 200: "a"}, (1.0, 1.0)), "dice") == {"a": 0.8}


def test_the_box_changes_nothing():
    reference, prediction = blobs((9, 8, 7), 0), blobs((9, 8, 7), 1)
    wide = [np.pad(mask, 4) for mask in (reference, prediction)]
    assert score_case(reference, prediction, LABELS, (1.0, 2.0, 3.0)) == score_case(*wide, LABELS, (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("shape", "spacing"), [((14, 12, 10), (1.0, 1.0, 1.0)), ((14, 12, 10), (0.7, 0.9, 4.0)), ((24, 20), (0.5, 1.5))]
)
@pytest.mark.parametrize("seed", range(3))
def test_against_monai(shape, spacing, seed):
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    masks = [blobs(shape, seed), blobs(shape, seed + 10)]
    rows = score_case(*masks, LABELS, spacing, tolerance=2.0)
    truth, answer = (
        torch.nn.functional.one_hot(torch.from_numpy(mask).long(), 3).movedim(-1, 0)[None] for mask in masks
    )
    expected = {
        "dice": monai.compute_dice(answer, truth, include_background=False),
        "jaccard": monai.compute_iou(answer, truth, include_background=False),
        "hd95": monai.compute_hausdorff_distance(answer, truth, percentile=95, spacing=spacing),
        "nsd@2mm": monai.compute_surface_dice(answer, truth, [2.0, 2.0], spacing=spacing),
    }
    for metric, value in expected.items():
        assert list(values(rows, metric).values()) == pytest.approx(value[0].tolist(), rel=1e-5), metric


def test_metrics_are_named_with_tolerance_and_version():
    metrics = mask_metrics(1.0)
    assert list(metrics) == ["dice", "jaccard", "hd95", "nsd@1mm"]
    assert [metric.unit for metric in metrics.values()] == ["fraction", "fraction", "mm", "fraction"]
    assert all(metric.version == 1 for metric in metrics.values())
