import sys
import tracemalloc
from contextlib import suppress

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from factories import edit_dicom, write_dicom_picture, write_dicom_series
from scanlore.errors import DataError
from scanlore.scans import dicom_file, dicom_pixels
from scanlore.scans.dicom import dicom_header, dicom_series, group_dicom, read_dicom_series
from scanlore.scans.limits import limited_memory


def picture(folder):
    return write_dicom_picture(folder / "a.dcm", np.arange(16 * 20).reshape(16, 20))


def outcome(path):
    """What reading a file says, and the bytes of memory it takes."""
    tracemalloc.start()
    what = ""
    try:
        read_dicom_series(path if isinstance(path, list) else [path])
    except DataError as error:
        what = error.what
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return what, peak


@pytest.mark.parametrize("length", [0, 1, 100, 132, 200, 400, 700, 800, -300, -1])
def test_a_file_cut_anywhere_is_skipped(tmp_path, length):
    path = picture(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    groups, ((skipped, _),) = group_dicom([path])
    assert (groups, skipped) == ([], path)
    with pytest.raises(DataError):
        read_dicom_series([path])


@pytest.mark.parametrize("trial", range(40))
def test_flipped_bits_never_raise_anything_else(tmp_path, trial):
    rng = np.random.default_rng(trial)
    (group,), _ = dicom_series(write_dicom_series(tmp_path, (3, 6, 8)))
    content = np.frombuffer(group[1].read_bytes(), np.uint8).copy()
    places = rng.integers(0, len(content), 1 + trial // 2)
    content[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    group[1].write_bytes(content.tobytes())
    for found in [group, *dicom_series(tmp_path)[0]]:
        for read in (read_dicom_series, dicom_header):
            with suppress(DataError):
                read(found)


@pytest.mark.parametrize(
    "tags", [{"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 2**31 - 1}, {"BitsAllocated": 65535}]
)
def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path, tags):
    what, peak = outcome(edit_dicom(picture(tmp_path), **tags))
    assert what.startswith(("truncated: 640 bytes where", "the pixels cannot be read"))
    assert peak < 1e6


def test_absurd_sizes_of_compressed_pixels_are_refused(tmp_path):
    path = picture(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"\0" * 500])
    dataset.Rows = dataset.Columns = 65535
    dataset.save_as(path)
    what, peak = outcome(path)
    assert what == f"too large: 8589672450 bytes unpacked from {path.stat().st_size}"
    assert peak < 1e6


@pytest.mark.parametrize("tags", [{"Rows": 0}, {"BitsAllocated": 0}, {"BitsAllocated": 12}, {"SamplesPerPixel": 7}])
def test_sizes_that_make_no_sense(tmp_path, tags):
    with pytest.raises(DataError):
        read_dicom_series([edit_dicom(picture(tmp_path), **tags)])


def test_sequences_nested_without_end(tmp_path):
    path = picture(tmp_path)
    opening = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    good = path.read_bytes()
    place = good.index(b"\x08\x00\x60\x00CS")
    path.write_bytes(good[:place] + opening * 5000 + good[place:])
    _, skipped = group_dicom([path])
    assert skipped == [(path, "not readable as DICOM: RecursionError")]


def test_an_element_that_claims_four_gigabytes(tmp_path):
    path = picture(tmp_path)
    good = path.read_bytes()
    place = good.index(b"\x08\x00\x60\x00CS")
    path.write_bytes(good[:place] + b"\x08\x00\x06\x00UT\0\0\xfe\xff\xff\xff" + good[place:])
    what, peak = outcome(path)
    assert what
    assert peak < 1e6


def test_a_volume_is_in_memory_once(tmp_path):
    (group,), _ = dicom_series(write_dicom_series(tmp_path, (40, 128, 128), modality="CT"))
    for path in group:
        edit_dicom(path, RescaleSlope=1, RescaleIntercept=-1024, PixelRepresentation=1)
    outcome(group)  # imports
    assert outcome(group)[1] < 2 * 40 * 128 * 128 * 2


def test_a_stream_larger_than_the_header_says_is_not_unpacked(tmp_path, monkeypatch):
    path = picture(tmp_path)
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG2000")
    writer.Execute(SimpleITK.ReadImage(str(path)))
    edit_dicom(path, Modality="US")
    assert outcome(path)[0] == ""
    edit_dicom(path, Rows=10, Columns=32)
    monkeypatch.setattr(dicom_pixels, "sitk", None)
    assert outcome(path)[0] == "damaged: the pixels are not those of the header"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux holds a process to a limit")
def test_memory_can_be_limited_for_a_while():
    with limited_memory(10**8), pytest.raises(MemoryError):
        np.ones(10**8)
    assert np.ones(10**7).size == 10**7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux holds a process to a limit")
def test_a_deflated_bomb_does_not_fill_the_memory(tmp_path, monkeypatch):
    path = picture(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.PixelData = bytes(10**8)
    dataset.Rows = dataset.Columns = 7000
    dataset.save_as(path)
    del dataset
    monkeypatch.setattr(dicom_file, "MOST_MEMORY", 10**7)
    assert outcome(path)[0] == "not readable as DICOM: not enough memory"
