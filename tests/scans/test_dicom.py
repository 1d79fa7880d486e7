import os
import traceback

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from factories import ROTATION, smooth_volume, write_dicom_series
from scanlore.errors import DataError
from scanlore.scans.dicom import dicom_header, dicom_series, read_dicom_series

STORED = (smooth_volume((10, 12, 14)) * 1000).astype(np.uint16)


def only_group(folder):
    (group,), skipped = dicom_series(folder)
    assert skipped == []
    return group


def edit(path, **tags):
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


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
        edit(path, SeriesInstanceUID=pydicom.dcmread(next(tmp_path.glob("*.dcm"))).SeriesInstanceUID)
        path.rename(tmp_path / f"b{path.name}")
    for path in write_dicom_series(tmp_path / "c", (5, 8, 8), seed=2).iterdir():
        path.rename(tmp_path / f"c{path.name}")
    groups, _ = dicom_series(tmp_path)
    assert [len(group) for group in groups] == [4, 5, 3]


def test_what_is_no_image_is_skipped_with_a_reason(tmp_path):
    write_dicom_series(tmp_path, (2, 4, 4))
    (tmp_path / "junk.dcm").write_bytes(b"no DICOM at all")
    structure = write_dicom_series(tmp_path / "s", (1, 4, 4)) / "im0000.dcm"
    edit(structure, Rows=None)
    structure.rename(tmp_path / "structure.dcm")
    _, skipped = dicom_series(tmp_path)
    assert skipped == [
        (tmp_path / "junk.dcm", "not a DICOM file"),
        (tmp_path / "structure.dcm", "not a scan: DICOM without an image"),
    ]


def test_slices_are_rescaled_one_by_one(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    for index, path in enumerate(group):
        edit(path, RescaleSlope=str(0.5 + index), RescaleIntercept="2")
    scan = read_dicom_series(group)
    expected = STORED * (0.5 + np.arange(10))[:, None, None] + 2
    assert scan.voxels.dtype == np.float32
    np.testing.assert_allclose(scan.voxels[0], expected.transpose(2, 1, 0)[::-1, ::-1])


def test_hounsfield_units_stay_integers(tmp_path):
    group = only_group(write_dicom_series(tmp_path, modality="CT"))
    for path in group:
        edit(path, RescaleSlope="1", RescaleIntercept="-1024")
    scan = read_dicom_series(group)
    assert scan.voxels.dtype == np.int16
    assert scan.voxels.min() == -1024


def test_monochrome1_is_inverted(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    for path in group:
        edit(path, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    voxels = read_dicom_series(group).voxels
    np.testing.assert_array_equal(voxels[0], 4095 - STORED.transpose(2, 1, 0)[::-1, ::-1])


def compress_with_itk(path):
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.KeepOriginalImageUIDOn()
    writer.Execute(SimpleITK.ReadImage(str(path)))


def compress_with_pydicom(path):
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)


@pytest.mark.parametrize("compress", [compress_with_itk, compress_with_pydicom])
def test_compressed_series(tmp_path, compress):
    group = only_group(write_dicom_series(tmp_path, modality="CT"))
    for path in group:
        compress(path)
        edit(path, RescaleSlope="2", RescaleIntercept="-5")
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed
    voxels = read_dicom_series(group).voxels
    np.testing.assert_array_equal(voxels[0], 2 * STORED.astype(int).transpose(2, 1, 0)[::-1, ::-1] - 5)


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
    edit(path, SpacingBetweenSlices=4)
    assert read_dicom_series([path]).spacing == pytest.approx((0.7, 0.7, 4))
    edit(path, SpacingBetweenSlices=None, SliceThickness=None)
    with pytest.raises(DataError, match="without slice spacing or thickness"):
        read_dicom_series([path])


def position(path, height):
    edit(path, ImagePositionPatient=[-20, -30, height])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda group: group.pop(4), "not evenly spaced: gaps of 3 to 6 mm"),
        (lambda group: position(group[4], 5 + 4 * 3 + 0.05), "not evenly spaced"),
        (lambda group: position(group[4], 5 + 3 * 3), "1 of 10 slices lie where another one lies"),
        (lambda group: edit(group[4], ImageOrientationPatient=None), "no image orientation"),
        (lambda group: edit(group[4], ImageOrientationPatient=[1, 0, 0, 0, 0, 1]), "differ in orientation"),
        (lambda group: edit(group[4], PixelSpacing=None), "no pixel spacing"),
        (lambda group: edit(group[4], PixelSpacing=[0.8, 0.7]), "differ in size or pixel spacing"),
        (lambda group: edit(group[4], SamplesPerPixel=3, PhotometricInterpretation="RGB"), "colour"),
        (lambda group: edit(group[4], PixelData=b"\0\0"), "pixels cannot be read"),
        (lambda group: edit(group[4], NumberOfFrames=2), "multi-frame"),
        (lambda group: group[4].write_bytes(b"junk"), "not a DICOM file"),
    ],
)
def test_spoilt_series_is_refused(tmp_path, spoil, words):
    group = only_group(write_dicom_series(tmp_path))
    spoil(group)
    with pytest.raises(DataError, match=words) as caught:
        read_dicom_series(group)
    assert "\n" not in str(caught.value)


def test_positions_rounded_by_the_scanner_pass(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    for index, path in enumerate(group):
        position(path, round(5 + index * 3 + (-1) ** index * 0.004, 3))
    assert read_dicom_series(group).spacing[2] == pytest.approx(3, abs=1e-3)


def test_tilted_gantry_is_refused(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    for index, path in enumerate(group):
        edit(path, ImagePositionPatient=[-20, -30 + index, 5 + index * 3])
    with pytest.raises(DataError, match="sheared by 18"):
        read_dicom_series(group)


def test_patient_is_a_salted_hash(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    first, again, other = (read_dicom_series(group, salt).metadata.patient for salt in (b"one", b"one", b"two"))
    assert first == again != other
    assert len(first) == 16


def test_nothing_of_the_patient_leaves(tmp_path):
    group = only_group(write_dicom_series(tmp_path, patient="SECRET^ALICE"))
    for path in group:
        edit(path, PatientBirthDate="19700101", StudyDescription="SECRET study", Modality="SECRETMODALITY")
    scan = read_dicom_series(group, b"salt")
    assert "SECRET" not in repr(scan)
    assert "SECRET" not in repr(dicom_header(group))
    assert scan.metadata.modality is None


def test_errors_do_not_quote_the_header(tmp_path):
    group = only_group(write_dicom_series(tmp_path, patient="SECRET^ALICE"))
    group[0].write_bytes(group[0].read_bytes().replace(b"-20.000000", b"SECRETWORD"))
    with pytest.raises(DataError, match="geometry is damaged") as caught:
        read_dicom_series(group)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_damaged_numbers_in_a_header_only_skip_the_file(tmp_path, caplog, recwarn):
    group = only_group(write_dicom_series(tmp_path))
    edit(group[0], NumberOfFrames="11")
    group[0].write_bytes(group[0].read_bytes().replace(b"IS\x02\x0011", b"IS\x02\x001A"))
    (rest,), skipped = dicom_series(tmp_path)
    assert skipped == [(group[0], "not readable as DICOM: ValueError")]
    assert rest == group[1:]
    assert not recwarn.list
    assert not caplog.records


def test_gaps_are_put_down_to_the_files_that_cannot_be_read(tmp_path):
    group = only_group(write_dicom_series(tmp_path))
    os.truncate(group[3], 400)
    structure = write_dicom_series(tmp_path / "s", (1, 4, 4), modality="CT") / "im0000.dcm"
    edit(structure, Rows=None)
    structure.rename(tmp_path / "structure.dcm")
    (tmp_path / "notes.txt").write_text("words")
    (left,), _ = dicom_series(tmp_path)
    expected = "1 of 10 files cannot be read, so the slices are not evenly spaced: gaps of 3 to 6 mm"
    for read in (read_dicom_series, dicom_header):
        with pytest.raises(DataError, match=f"{expected}.*{group[3].name}"):
            read(left)
