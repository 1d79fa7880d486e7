import numpy as np
import pytest

from factories import write_nifti_file, write_png
from scanlore.inference.dense import dense_features, grid_affine, write_dense
from scanlore.inference.extract import extract
from scanlore.scans.read import read_scan


def test_cells_lie_at_the_centre_of_their_voxels():
    # A view of 8 voxels at every second scan voxel from 10 on; cells of 4: centres 1.5 and 5.5 of the view.
    affine = grid_affine([[2, 10]], (8,), (2,), None)
    assert (affine @ [[0, 1], [1, 1]])[0].tolist() == [13, 21]


def test_scan_affine_is_applied_last():
    scan_affine = np.diag([2.0, 3, 4, 1])
    scan_affine[:3, 3] = 5, 6, 7
    affine = grid_affine(np.c_[np.eye(3), np.ones(3)], (4, 4, 4), (2, 2, 2), scan_affine)
    assert (affine @ [1, 1, 1, 1]).tolist() == [2 * 3.5 + 5, 3 * 3.5 + 6, 4 * 3.5 + 7, 1]


def test_a_slice_of_a_volume_maps_two_axes_to_three():
    affine = grid_affine([[1, 0, 0], [0, 1, 0], [0, 0, 9]], (4, 4), (4, 4), np.diag([2.0, 2, 2, 1]))
    assert (affine @ [1, 2, 1]).tolist() == [2, 4, 18, 1]


def test_a_written_volume_has_grid_and_affine(model, tmp_path):
    path = write_nifti_file(tmp_path / "a.nii.gz", (4, 4, 4), spacing=(1, 2, 3), channels=2, oblique=True)
    extract(model, [path], visit=lambda scan: write_dense(tmp_path / "a.npz", scan))
    scan = read_scan(path)
    with np.load(tmp_path / "a.npz") as file:
        features, affine = file["features"], file["affine"]
    assert (features.shape, features.dtype) == ((1, 2, 2, 2), np.float16)
    corner = scan.voxels[:, :2, :2, :2].mean()
    assert features[0, 0, 0, 0] == pytest.approx(corner, rel=1e-3)
    np.testing.assert_allclose(affine @ [0, 0, 0, 1], scan.affine @ [0.5, 0.5, 0.5, 1])
    assert list(tmp_path.glob(".*")) == []


def test_an_image_keeps_voxel_units(model, tmp_path):
    seen = []
    extract(model, [write_png(tmp_path / "a.png", (4, 4))], visit=seen.append)
    features, affine = dense_features(seen[0])
    assert features.shape == (1, 2, 2)
    assert (affine @ [1, 0, 1]).tolist() == [2.5, 0.5, 1]
