import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from factories import edit_dicom, smooth_volume, write_dicom_series
from scanlore.errors import DataError
from scanlore.scans.dicom import dicom_header, dicom_series, read_dicom_series


def series(folder, num_slices=10):
    (group,), skipped = dicom_series(write_dicom_series(folder, (num_slices, 6, 8)))
    assert skipped == []
    return group


def copy(path, name, **tags):
    target = path.parent / name
    target.write_bytes(path.read_bytes())
    return edit_dicom(target, SOPInstanceUID=generate_uid(), **tags)


def position(path, height, row=0.0):
    edit_dicom(path, ImagePositionPatient=[-20, -30 + row, height])


def refusals(group):
    for read in (read_dicom_series, dicom_header):
        with pytest.raises(DataError) as caught:
            read(group)
        yield caught.value.what


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda group: [group.pop(4), group.pop(6)], "missing slices: 2 of 10"),
        (lambda group: [group.pop(4), group.pop(4), group.pop(4)], "missing slices: 3 of 10"),
        (lambda group: position(group[4], 5 + 4 * 3 + 0.05), "uneven slices: gaps of 2.95 to 3.05 mm"),
        (lambda group: position(group[9], 5 + 9 * 3 + 1.5), "uneven slices: gaps of 3 to 4.5 mm"),
        (lambda group: position(group[4], 5 + 4 * 3, 0.5), "uneven slices: shifted within their plane by up to 0.5 mm"),
    ],
)
def test_gaps_have_their_own_names(tmp_path, spoil, what):
    group = series(tmp_path)
    spoil(group)
    assert set(refusals(group)) == {what}


def test_positions_rounded_by_the_scanner_pass(tmp_path):
    group = series(tmp_path)
    for index, path in enumerate(group):
        position(path, round(5 + index * 3 + (-1) ** index * 0.004, 3))
    scan = read_dicom_series(group)
    assert scan.spacing[2] == pytest.approx(3, abs=1e-3)
    assert scan.problems == ()


def test_the_same_object_twice_is_left_out(tmp_path):
    alone = read_dicom_series(series(tmp_path))
    for path in sorted(tmp_path.iterdir())[:3]:
        (tmp_path / f"again-{path.name}").write_bytes(path.read_bytes())
    (group,), _ = dicom_series(tmp_path)
    scan = read_dicom_series(group)
    assert len(group) == 13
    assert scan.problems == dicom_header(group).problems == ("duplicate slices: 3 copies left out",)
    np.testing.assert_array_equal(scan.voxels, alone.voxels)


def test_a_whole_copy_of_a_series_is_left_out(tmp_path):
    group = series(tmp_path)
    copies = [copy(path, f"copy{path.name}") for path in group]
    scan = read_dicom_series(group + copies)
    assert scan.problems == ("duplicate slices: 10 copies left out",)
    assert scan.num_channels == 1


def test_equal_pixels_under_another_identifier_are_copies(tmp_path):
    group = series(tmp_path)
    extra = copy(group[4], "copy.dcm")
    scan = read_dicom_series([*group, extra])
    assert scan.problems == dicom_header([*group, extra]).problems == ("duplicate slices: 1 copy left out",)
    np.testing.assert_array_equal(scan.voxels, read_dicom_series(group).voxels)


def test_a_place_with_two_different_slices_is_refused(tmp_path):
    group = series(tmp_path)
    position(group[4], 5 + 3 * 3)
    group.pop(3)
    extra = copy(group[4], "other.dcm", PixelData=bytes(6 * 8 * 2))
    with pytest.raises(DataError, match="missing slices"):
        read_dicom_series([*group, extra])
    position(group[3], 5 + 4 * 3)
    position(copy(group[2], "filled.dcm"), 5 + 3 * 3)
    with pytest.raises(DataError, match="duplicate slices: 1 of 10 positions hold several that differ"):
        read_dicom_series([*group, extra, tmp_path / "filled.dcm"])


def test_mostly_repeated_positions_are_no_copies(tmp_path):
    group = series(tmp_path)
    others = [copy(path, f"b{path.name}", PixelData=bytes(6 * 8 * 2)) for path in group[1:]]
    assert set(refusals(group + others)) == {"duplicate slices: 9 of 10 positions hold several that differ"}


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("TemporalPositionIdentifier", (1, 2, 10)),
        ("EchoTime", (9, 50, 100)),
        ("DiffusionBValue", (0.0, 50.0, 1000.0)),
        ("AcquisitionNumber", (1, 2, 3)),
        ("AcquisitionTime", ("093000", "093000.5", "100000")),
        ("ContentTime", ("093000", "093001", "100000")),
        ("InstanceNumber", (1, 11, 21)),
    ],
)
def test_repeated_positions_are_channels_in_their_order(tmp_path, keyword, values):
    volumes = [(smooth_volume((4, 6, 8), seed) * 1000).astype(np.uint16) for seed in range(3)]
    first = series(tmp_path, 4)
    group = []
    for volume, value, name in zip(volumes, values, "cab", strict=True):
        for path, pixels in zip(first, volume, strict=True):
            tags = {"InstanceNumber": 1, keyword: value, "PixelData": pixels.tobytes()}
            group.append(copy(path, f"{name}{path.name}", **tags))
    scan, header = read_dicom_series(group), dicom_header(group)
    assert scan.num_channels == header.num_channels == 3
    assert scan.problems == header.problems == ("several volumes: 3 at the same positions, read as channels",)
    np.testing.assert_array_equal(scan.voxels, np.stack(volumes).transpose(0, 3, 2, 1)[:, ::-1, ::-1])


def test_time_points_of_one_multi_frame_file_are_channels(tmp_path):
    first = series(tmp_path, 4)
    whole = pydicom.dcmread(first[0])
    frames = []
    for time in (2, 1):
        for path in first:
            groups, place, content = Dataset(), Dataset(), Dataset()
            place.ImagePositionPatient = pydicom.dcmread(path).ImagePositionPatient
            content.TemporalPositionIndex = time
            groups.PlanePositionSequence, groups.FrameContentSequence = [place], [content]
            frames.append(groups)
    whole.PerFrameFunctionalGroupsSequence, whole.NumberOfFrames = frames, 8
    stored = (smooth_volume((8, 6, 8)) * 1000).astype(np.uint16)
    whole.PixelData = stored.tobytes()
    whole.save_as(tmp_path / "enhanced.dcm")
    scan = read_dicom_series([tmp_path / "enhanced.dcm"])
    assert scan.problems == ("several volumes: 2 at the same positions, read as channels",)
    later, earlier = stored.reshape(2, 4, 6, 8).transpose(0, 3, 2, 1)[:, ::-1, ::-1]
    np.testing.assert_array_equal(scan.voxels, [earlier, later])
