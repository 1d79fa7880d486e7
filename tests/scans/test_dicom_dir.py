import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from factories import write_dicom_picture
from scanlore.errors import DataError
from scanlore.scans.dicom_dir import dicomdir_files, is_dicomdir

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def write_dicomdir(folder, *references):
    records = []
    for reference in references:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE" if reference else "PATIENT"
        if reference:
            record.ReferencedFileID = reference
        records.append(record)
    directory = Dataset()
    directory.SOPClassUID = MediaStorageDirectoryStorage
    directory.DirectoryRecordSequence = records
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    folder.mkdir(exist_ok=True)
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


def test_files_are_those_listed_and_there(tmp_path):
    disc = tmp_path / "disc"
    for name in ("A/IM1", "A/IM2", "small/im3", "IM4"):
        write_dicom_picture(disc / name, np.ones((4, 4)))
    path = write_dicomdir(disc, None, ["A", "IM2"], ["A", "IM1"], ["A", "IM1"], ["SMALL", "IM3"], ["A", "IM9"], "IM4")
    files, missing = dicomdir_files(path)
    assert files == [disc / "A" / "IM1", disc / "A" / "IM2", disc / "IM4", disc / "small" / "im3"]
    assert missing == [disc / "A" / "IM9"]
    assert is_dicomdir(path)
    assert not is_dicomdir(disc / "IM4")


@pytest.mark.parametrize(
    "reference", [["..", "out"], ["A", "..", "..", "out"], ["{root}", "out"], ["link"], ["A"], ["."]]
)
def test_nothing_outside_is_taken(tmp_path, reference):
    write_dicom_picture(tmp_path / "out", np.ones((4, 4)))
    (tmp_path / "disc" / "A").mkdir(parents=True)
    (tmp_path / "disc" / "link").symlink_to(tmp_path / "out")
    path = write_dicomdir(tmp_path / "disc", [part.format(root=tmp_path) for part in reference])
    files, missing = dicomdir_files(path)
    assert files == []
    assert len(missing) == 1


def test_a_damaged_one_is_one_error(tmp_path):
    path = write_dicomdir(tmp_path, ["A", "IM1"])
    path.write_bytes(path.read_bytes().replace(b"A\\IM1 ", b"\xfe\xff\0\xe0\xff\xff"))
    assert dicomdir_files(path)[0] == []
    with pytest.raises(DataError, match="the DICOMDIR cannot be read: no such file or directory"):
        dicomdir_files(tmp_path / "none")
