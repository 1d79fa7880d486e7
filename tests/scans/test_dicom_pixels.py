import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless

from factories import edit_dicom, smooth_volume, write_dicom_picture, write_dicom_series
from scanlore.errors import DataError
from scanlore.scans.dicom import dicom_series, read_dicom_series

STORED = (smooth_volume((4, 12, 14)) * 1000).astype(np.uint16)


def compress_with_itk(path, name):
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor(name)
    writer.KeepOriginalImageUIDOn()
    writer.Execute(SimpleITK.ReadImage(str(path)))


def compress(path, name):
    if name != "RLE":
        compress_with_itk(path, name)
        return
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)


@pytest.mark.parametrize("codec", ["JPEG", "JPEG2000", "RLE"])
def test_compressed_series(tmp_path, codec, capfd):
    (group,), _ = dicom_series(write_dicom_series(tmp_path, STORED.shape, modality="CT"))
    for path in group:
        compress(path, codec)
        edit_dicom(path, RescaleSlope="2", RescaleIntercept="-5")
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed
    voxels = read_dicom_series(group).voxels
    np.testing.assert_array_equal(voxels[0], 2 * STORED.astype(int).transpose(2, 1, 0)[::-1, ::-1] - 5)
    assert capfd.readouterr().err == ""


def as_picture(name, path):
    """One of pydicom's own examples as a 2D image with stored numbers."""
    dataset = pydicom.dcmread(get_testdata_file(name))
    for keyword in ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "ImageType"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.Modality = "US"
    dataset.save_as(path)
    return path


def test_jpeg_ls_is_lossless(tmp_path):
    packed = as_picture("MR_small_jpeg_ls_lossless.dcm", tmp_path / "a.dcm")
    expected = pydicom.dcmread(get_testdata_file("MR_small.dcm")).pixel_array
    np.testing.assert_array_equal(read_dicom_series([packed]).voxels[0], expected)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_padded.dcm",
        "MR_small_jp2klossless.dcm",
        "image_dfl.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "examples_jpeg2k.dcm",
    ],
)
def test_stored_forms_against_pydicom(tmp_path, name):
    path = as_picture(name, tmp_path / "a.dcm")
    expected = pydicom.pixels.pixel_array(pydicom.dcmread(path))
    expected = expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1)
    np.testing.assert_array_equal(read_dicom_series([path]).voxels, expected)


@pytest.mark.parametrize(("signed", "expected"), [(0, 4095 - 7), (1, -8)])
def test_bits_that_are_not_stored_do_not_count(tmp_path, signed, expected):
    path = write_dicom_picture(tmp_path / "a.dcm", np.full((4, 6), 0x7FF8 if signed else 0x8FF8))
    edit_dicom(path, BitsStored=12, HighBit=11, PixelRepresentation=signed)
    assert (read_dicom_series([path]).voxels == expected).all()


def test_a_file_that_names_the_other_plain_encoding_is_read_as_it_is(tmp_path):
    path = write_dicom_picture(tmp_path / "a.dcm", STORED[0])
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"))
    np.testing.assert_array_equal(read_dicom_series([path]).voxels[0], STORED[0])


def test_slices_of_different_types_keep_their_values(tmp_path):
    (group,), _ = dicom_series(write_dicom_series(tmp_path, STORED.shape))
    edit_dicom(group[0], PixelRepresentation=1, PixelData=(-STORED[0].astype(np.int16)).tobytes())
    voxels = read_dicom_series(group).voxels[0, ::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_array_equal(voxels, [-STORED[0].astype(int), *STORED[1:].astype(int)])


def test_damaged_compressed_pixels_are_refused_without_a_word_of_the_decoder(tmp_path, capfd):
    path = write_dicom_picture(tmp_path / "a.dcm", STORED[0])
    compress_with_itk(path, "JPEG")
    dataset = pydicom.dcmread(path)
    dataset.Modality = "US"
    data = dataset.PixelData
    dataset.PixelData = data[:40] + b"\xff\x00" * 20 + data[80:]
    dataset.save_as(path)
    with pytest.raises(DataError, match=r"the pixels cannot be read: \w+$"):
        read_dicom_series([path])
    assert capfd.readouterr().err == ""
