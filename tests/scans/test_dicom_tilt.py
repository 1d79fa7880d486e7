import numpy as np
import pytest

from factories import edit_dicom, write_dicom_series
from scanlore.errors import DataError
from scanlore.scans.dicom import dicom_header, dicom_series, read_dicom_series

SHAPE = (6, 10, 12)


def ramp(points):
    """A field that is linear in millimetres (LPS), so that linear interpolation is exact."""
    return points @ [3.0, 5.0, 2.0] + 400


def tilted(folder, row_shift=1.0, column_shift=0.0):
    (group,), _ = dicom_series(write_dicom_series(folder, SHAPE, spacing=(3.0, 0.7, 0.7), modality="CT"))
    rows, columns = np.indices(SHAPE[1:])
    for index, path in enumerate(group):
        position = np.array([-20 + index * column_shift, -30 + index * row_shift, 5 + index * 3])
        points = position + np.stack([columns * 0.7, rows * 0.7, 0 * rows], -1)
        pixels = np.rint(ramp(points) * 10).astype(np.uint16)
        edit_dicom(path, ImagePositionPatient=position.tolist(), PixelData=pixels.tobytes(), RescaleSlope=0.1)
    return group


@pytest.mark.parametrize("shifts", [(1.0, 0.0), (-0.9, 0.0), (0.7, 0.0), (0.0, 0.4), (0.5, -0.6)])
def test_slices_lie_upright_where_they_were(tmp_path, shifts):
    scan = read_dicom_series(tilted(tmp_path, *shifts))
    degrees = np.degrees(np.arctan2(np.hypot(*shifts), 3))
    assert scan.problems == (f"gantry tilt: {degrees:.1f} degrees, resampled",)
    assert scan.spacing == pytest.approx((0.7, 0.7, 3))
    indices = np.argwhere(np.ones(scan.shape))
    lps = (indices @ scan.affine[:3, :3].T + scan.affine[:3, 3]) * [-1, -1, 1]
    corner = np.array([-20, -30]) + np.rint((lps[:, 2:] - 5) / 3) * shifts[::-1]
    place = (lps[:, :2] - corner) / 0.7
    inside = ((place > -1e-6) & (place < [11 + 1e-6, 9 + 1e-6])).all(1)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(scan.voxels[0][tuple(indices[inside].T)], ramp(lps[inside]), atol=0.06)


def test_nothing_is_cut_off_and_the_first_slice_stays(tmp_path):
    group = tilted(tmp_path, 0.7)
    scan = read_dicom_series(group)
    assert scan.original.shape == dicom_header(group).shape == (12, 10 + 5, 6)
    upright = scan.voxels[0, ::-1, ::-1].transpose(2, 1, 0)
    straight = read_dicom_series(group[:1]).voxels[0, ::-1, ::-1, 0].T
    np.testing.assert_array_equal(upright[0, :10], straight)
    assert (upright[0, 10:] == scan.voxels.min()).all()
    assert (upright[5, :5] == scan.voxels.min()).all()
    np.testing.assert_allclose(upright[5, 5:], read_dicom_series(group[5:]).voxels[0, ::-1, ::-1, 0].T)


def test_header_says_the_same(tmp_path):
    group = tilted(tmp_path, 1.0)
    header, scan = dicom_header(group), read_dicom_series(group)
    assert header.problems == scan.problems == ("gantry tilt: 18.4 degrees, resampled",)
    assert header.shape == scan.original.shape
    assert header.spacing == pytest.approx((0.7, 0.7, 3))


def test_integers_stay_integers(tmp_path):
    group = tilted(tmp_path)
    for path in group:
        edit_dicom(path, RescaleSlope=1, RescaleIntercept=-1000)
    assert read_dicom_series(group).voxels.dtype == np.int16


def test_more_than_a_gantry_can_tilt_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"sheared slices: by 53\.1 degrees"):
        read_dicom_series(tilted(tmp_path, 4.0))
