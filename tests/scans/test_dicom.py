import os

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from factories import ROTATION, edit_dicom, smooth_volume, write_dicom_series
from scanlore.errors import DataError
from scanlore.scans import dicom_group
from scanlore.scans.dicom import dicom_header, dicom_series, read_dicom_series

STORED = (smooth_volume((10, 12, 14)) * 1000).astype(np.uint16)


def only_group(folder):
    (group,), skipped = dicom_series(folder)
    assert skipped == []
    return group


def test_axial_series_against_the_affine_computed_by_hand(tmp_path):
    scan = read_dicom_series(only_group(write_dicom_series(tmp_path)))
    by_hand = [[-0.7, 0, 0, 20], [0, -0.7, 0, 30], [0, 0, 3, 5], [0, 0, 0, 1]]
    np.testing.assert_allclose(scan.original.affine, by_hand)
    np.testing.assert_array_equal(scan.voxels[0], STORED.transpose(2, 1, 0)[::-1, ::-1])
    assert scan.original.shape == (14, 12, 10)
    assert (scan.through_axis, scan.metadata.modality, scan.metadata.patient) == (2, "MR", None)
    assert scan.spacing == pytest.approx((0.7, 0.7, 3))
    assert scan.affine[:3, 3] == pytest.approx((20 - 13 * 0.7, 30 - 11 * 0.7, 5))


def test_oblique_series_against_the_affine_computed_by_hand(tmp_path):
    scan = read_dicom_series(only_group(write_dicom_series(tmp_path, oblique=True)))
    expected = np.diag([-1, -1, 1]) @ ROTATION @ np.diag([0.7, 0.7, 3])
    np.testing.assert_allclose(scan.original.affine[:3, :3], expected, atol=1e-6)


def test_files_are_sorted_along_the_normal_whatever_their_names(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    assert [pydicom.dcmread(path).InstanceNumber for path in group] == list(range(1, 11))
    assert group != sorted(group)
    np.testing.assert_array_equal(read_dicom_series(sorted(group)).voxels, read_dicom_series(group).voxels)


def test_header(tmp_path):
    header = dicom_header(only_group(write_dicom_series(tmp_path)))
    assert (header.format, header.shape, header.num_channels) == ("dicom", (14, 12, 10), 1)
    assert (header.orientation, header.dtype) == ("LPS", "uint16")
    assert header.spacing == pytest.approx((0.7, 0.7, 3))


def test_series_and_orientations_of_one_folder_are_told_apart(tmp_path):
    write_dicom_series(tmp_path, (3, 8, 8), seed=0)
    for path in write_dicom_series(tmp_path / "b", (4, 8, 8), seed=1, oblique=True).iterdir():
        edit_dicom(path, SeriesInstanceUID=pydicom.dcmread(next(tmp_path.glob("*.dcm"))).SeriesInstanceUID)
        path.rename(tmp_path / f"b{path.name}")
    for path in write_dicom_series(tmp_path / "c", (5, 8, 8), seed=2).iterdir():
        path.rename(tmp_path / f"c{path.name}")
    groups, _ = dicom_series(tmp_path)
    assert [len(group) for group in groups] == [4, 5, 3]


def test_what_is_no_image_is_skipped_with_a_reason(tmp_path):
    write_dicom_series(tmp_path, (2, 4, 4))
    (tmp_path / "junk.dcm").write_bytes(b"no DICOM at all")
    structure = write_dicom_series(tmp_path / "s", (1, 4, 4)) / "im0000.dcm"
    edit_dicom(structure, Rows=None)
    structure.rename(tmp_path / "structure.dcm")
    _, skipped = dicom_series(tmp_path)
    assert skipped == [
        (tmp_path / "junk.dcm", "not a DICOM file"),
        (tmp_path / "structure.dcm", "not a scan: DICOM without an image"),
    ]


def test_slices_are_rescaled_one_by_one(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    for index, path in enumerate(group):
        edit_dicom(path, RescaleSlope=str(0.5 + index), RescaleIntercept="2")
    scan = read_dicom_series(group)
    expected = STORED * (0.5 + np.arange(10))[:, None, None] + 2
    assert scan.voxels.dtype == np.float32
    np.testing.assert_allclose(scan.voxels[0], expected.transpose(2, 1, 0)[::-1, ::-1])


def test_hounsfield_units_stay_integers(tmp_path):
    group = only_group(write_dicom_series(tmp_path, modality="CT"))
    for path in group:
        edit_dicom(path, RescaleSlope="1", RescaleIntercept="-1024")
    scan = read_dicom_series(group)
    assert scan.voxels.dtype == np.int16
    assert scan.voxels.min() == -1024


def test_monochrome1_is_inverted(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    for path in group:
        edit_dicom(path, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    voxels = read_dicom_series(group).voxels
    np.testing.assert_array_equal(voxels[0], 4095 - STORED.transpose(2, 1, 0)[::-1, ::-1])


def test_enhanced_multi_frame_file_equals_the_series(tmp_path):
    series = only_group(write_dicom_series(tmp_path / "series", oblique=True))
    path = enhanced(series, tmp_path / "enhanced.dcm")
    one, many = read_dicom_series([path]), read_dicom_series(series)
    np.testing.assert_allclose(one.affine, many.affine, atol=1e-9)
    np.testing.assert_array_equal(one.voxels, many.voxels)


def enhanced(series, path):
    """One file with the slices in falling order and the geometry in functional groups."""
    classic = [pydicom.dcmread(file) for file in reversed(series)]
    whole = pydicom.dcmread(series[0])
    frames = []
    for dataset in classic:
        position, groups = Dataset(), Dataset()
        position.ImagePositionPatient = dataset.ImagePositionPatient
        groups.PlanePositionSequence = [position]
        frames.append(groups)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = whole.ImageOrientationPatient
    measures.PixelSpacing = whole.PixelSpacing
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    del whole.ImagePositionPatient, whole.ImageOrientationPatient, whole.PixelSpacing
    whole.PerFrameFunctionalGroupsSequence, whole.SharedFunctionalGroupsSequence = frames, [shared]
    whole.NumberOfFrames = len(frames)
    whole.PixelData = b"".join(dataset.PixelData for dataset in classic)
    whole.save_as(path)
    return path


def test_single_slice_takes_its_thickness_from_the_header(tmp_path):
    (path,) = only_group(write_dicom_series(tmp_path, (1, 6, 8)))
    assert read_dicom_series([path]).spacing == pytest.approx((0.7, 0.7, 3))
    edit_dicom(path, SpacingBetweenSlices=4)
    assert read_dicom_series([path]).spacing == pytest.approx((0.7, 0.7, 4))
    edit_dicom(path, SpacingBetweenSlices=None, SliceThickness=None)
    with pytest.raises(DataError, match="no geometry: a single slice without spacing or thickness"):
        read_dicom_series([path])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda group: edit_dicom(group[4], ImageOrientationPatient=None),
            "no geometry: the header has no image orient",
        ),
        (lambda group: edit_dicom(group[4], ImageOrientationPatient=[0] * 6), "no geometry: .* two perpendicular dir"),
        (
            lambda group: edit_dicom(group[4], ImageOrientationPatient=[1, 0, 0, 0, 0, 1]),
            "mixed slices: .* orientation",
        ),
        (lambda group: edit_dicom(group[4], PixelSpacing=None), "no geometry: the header has no pixel spacing"),
        (lambda group: edit_dicom(group[4], PixelSpacing=[0, 0]), "no geometry: the pixel spacing is not positive"),
        (lambda group: edit_dicom(group[4], PixelSpacing=[0.8, 0.7]), "mixed slices: .* pixel spacing"),
        (lambda group: edit_dicom(group[4], PhotometricInterpretation="PALETTE COLOR"), "colour: "),
        (lambda group: edit_dicom(group[4], PixelData=b"\0\0"), "truncated: 2 bytes where 336 are promised"),
        (lambda group: edit_dicom(group[4], NumberOfFrames=2), "truncated: 336 bytes where 672 are promised"),
        (lambda group: edit_dicom(group[4], NumberOfFrames=2, Rows=6), "no geometry: 2 frames without their positions"),
        (lambda group: edit_dicom(group[4], ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaic: "),
        (lambda group: group[4].write_bytes(b"junk"), "not a DICOM file"),
        (lambda group: group[4].unlink(), "not readable as DICOM: no such file or directory"),
    ],
)
def test_spoilt_series_is_refused(tmp_path, spoil, words):
    group = only_group(write_dicom_series(tmp_path))
    spoil(group)
    for read in (read_dicom_series, dicom_header):
        with pytest.raises(DataError, match=words) as caught:
            read(group)
        assert "\n" not in str(caught.value)


def test_a_damaged_header_only_skips_the_file(tmp_path, caplog, recwarn):
    group = only_group(write_dicom_series(tmp_path))
    edit_dicom(group[0], NumberOfFrames="11")
    group[0].write_bytes(group[0].read_bytes().replace(b"IS\x02\x0011", b"IS\x02\x001A"))
    (rest,), skipped = dicom_series(tmp_path)
    assert skipped == [(group[0], "not readable as DICOM: ValueError")]
    assert rest == group[1:]
    assert not recwarn.list
    assert not caplog.records


def test_headers_are_read_once_and_again_when_the_files_change(tmp_path, monkeypatch):
    group = only_group(write_dicom_series(tmp_path))
    monkeypatch.setattr(dicom_group, "read_file", None)
    assert dicom_header(group).shape == (14, 12, 10)
    monkeypatch.undo()
    edit_dicom(group[0], BodyPartExamined="KNEE", PixelData=None)
    with pytest.raises(DataError, match="truncated: no pixels"):
        dicom_header(group)


def test_grouping_remembers_a_limited_number_of_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_group, "NUM_REMEMBERED", 2)
    monkeypatch.setattr(dicom_group, "_remembered", {})
    for number in range(4):
        write_dicom_series(tmp_path / str(number), (2, 4, 4), seed=number)
        dicom_series(tmp_path / str(number))
    assert len(dicom_group._remembered) == 2


def test_gaps_are_put_down_to_the_files_that_cannot_be_read(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    os.truncate(group[3], 400)
    structure = write_dicom_series(tmp_path / "s", (1, 4, 4), modality="CT") / "im0000.dcm"
    edit_dicom(structure, Rows=None)
    structure.rename(tmp_path / "structure.dcm")
    (tmp_path / "notes.txt").write_text("words")
    (left,), _ = dicom_series(tmp_path)
    for read in (read_dicom_series, dicom_header):
        with pytest.raises(DataError, match="missing slices: 1 of 10, 1 file beside them cannot be read"):
            read(left)
