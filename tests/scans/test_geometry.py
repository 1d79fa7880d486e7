from itertools import permutations, product

import numpy as np
import pytest

from factories import affine_of
from scanlore.errors import DataError
from scanlore.scans.geometry import (
    check_affine,
    from_ras,
    orientation_code,
    settled_affine,
    spacing_of,
    through_axis,
    to_ras,
)
from scanlore.scans.scan import Geometry

ORIENTATIONS = [
    "".join(pair[side] for pair, side in zip(order, sides, strict=True))
    for order in permutations(("LR", "PA", "IS"))
    for sides in product((0, 1), repeat=3)
]
IDENTITY = ((0, 1), (1, 1), (2, 1))


def world(affine, index):
    return affine[:3, :3] @ index + affine[:3, 3]


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_ras_round_trip_keeps_every_voxel_at_its_place(axcodes, oblique):
    affine = affine_of(axcodes, (1.0, 1.5, 2.0), oblique)
    voxels = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    ras, ras_affine, axes = to_ras(voxels, affine)
    assert orientation_code(axes) == axcodes
    assert np.diag(ras_affine)[:3].min() > 0.9
    back = from_ras(ras, Geometry((3, 4, 5), affine, axes))
    np.testing.assert_array_equal(back, voxels)
    place = np.argwhere(ras[0] == voxels[0, 1, 3, 2])[0]
    np.testing.assert_allclose(world(ras_affine, place), world(affine, np.array([1, 3, 2])))


def test_from_ras_takes_volumes_without_channels():
    ras, _, axes = to_ras(np.arange(24).reshape(1, 2, 3, 4), affine_of("PIL"))
    np.testing.assert_array_equal(from_ras(ras[0], Geometry((2, 3, 4), None, axes)), np.arange(24).reshape(2, 3, 4))


def test_from_ras_refuses_another_grid():
    with pytest.raises(DataError, match=r"\(2, 3, 4\) do not lie on the scan's grid \(3, 2, 4\)"):
        from_ras(np.zeros((2, 3, 4)), Geometry((2, 3, 4), None, ((1, 1), (0, 1), (2, 1))))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a * np.nan, "not finite"),
        (lambda a: a * 0, "size of zero"),
        (lambda a: a[:, [0, 0, 2, 3]], "singular"),
        (lambda a: a @ [[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], r"sheared axes: by 5\.7 degrees"),
    ],
)
def test_unusable_affines_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        check_affine(change(affine_of("RAS")), "scan.nii")


def test_rounded_affine_passes():
    check_affine(affine_of("LPS", (0.7, 0.7, 3.0), oblique=True).round(3), "scan.nii")


SHEARED = affine_of("LPS", (1.0, 2.0, 3.0), oblique=True) @ np.array(
    [[1, 0, 0.2, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
)


def test_a_usable_affine_needs_no_assumption():
    affine = affine_of("PIR", (1.0, 2.0, 3.0), oblique=True)
    settled, problems = settled_affine(affine, (9, 9, 9), (5.0, 5.0, 5.0), "a.nii")
    assert settled is affine
    assert problems == ()


def test_refusal_names_the_option():
    with pytest.raises(DataError, match=r"sheared axes: .*--assume-spacing header"):
        settled_affine(SHEARED, (1, 2, 3), None, "a.nii")
    with pytest.raises(DataError, match=r"no geometry: nothing .*--assume-spacing header"):
        settled_affine(None, (1, 2, 3), None, "a.nii", "no geometry: nothing")


def test_a_sheared_affine_becomes_the_nearest_rotation():
    settled, (problem,) = settled_affine(SHEARED, (9, 9, 9), "header", "a.nii")
    lengths = np.linalg.norm(SHEARED[:3, :3], axis=0)
    assert spacing_of(settled) == pytest.approx(tuple(lengths))
    check_affine(settled, "a.nii")
    np.testing.assert_array_equal(settled[:3, 3], SHEARED[:3, 3])
    # polar decomposition: no rotation is closer, and R^T D is symmetric
    symmetric = (settled[:3, :3] / lengths).T @ (SHEARED[:3, :3] / lengths)
    np.testing.assert_allclose(symmetric, symmetric.T, atol=1e-12)
    assert np.linalg.det(settled[:3, :3]) * np.linalg.det(SHEARED[:3, :3]) > 0
    assert problem == "spacing assumed: 1 x 2 x 3.007 mm, nearest rectangular axes"


@pytest.mark.parametrize("affine", [None, np.full((4, 4), np.nan), np.diag([1.0, 0, 1, 1])])
def test_without_directions_the_axes_are_taken_as_ras(affine):
    settled, (problem,) = settled_affine(affine, (1, 2, 3), "header", "a.nii")
    np.testing.assert_array_equal(settled, np.diag([1.0, 2, 3, 1]))
    assert problem == "spacing assumed: 1 x 2 x 3 mm, axes taken as right, anterior, superior"
    given, _ = settled_affine(affine, (0, 0, 0), (4.0, 5.0, 6.0), "a.nii")
    np.testing.assert_array_equal(given, np.diag([4.0, 5, 6, 1]))


@pytest.mark.parametrize("stated", [(0, 1, 1), (np.nan, 1, 1), (-1, 1, 1), ()])
def test_a_header_without_voxel_sizes_is_no_help(stated):
    with pytest.raises(DataError, match="no voxel size: the header states none"):
        settled_affine(None, stated, "header", "a.nii")


def test_spacing_of_oblique():
    assert spacing_of(affine_of("PIR", (0.5, 2.0, 3.0), oblique=True)) == pytest.approx((0.5, 2.0, 3.0))


@pytest.mark.parametrize(
    ("spacing", "file_axis"),
    [
        ((1, 1, 3), 2),
        ((1, 3, 1.005), 1),
        ((3, 1, 1), 0),
        ((1, 1, 1), 2),
        ((1, 2, 3), 2),
        ((0.5, 0.5, 0.5), 2),
    ],
)
def test_through_axis_is_found_in_the_file(spacing, file_axis):
    assert through_axis(spacing, IDENTITY) == file_axis
    assert through_axis(spacing, ((1, -1), (2, -1), (0, 1))) == (1, 2, 0)[file_axis]
