import traceback
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from factories import edit_dicom, write_dicom_picture, write_dicom_series
from scanlore.errors import DataError
from scanlore.scans.dicom import dicom_header, group_dicom, read_dicom_series
from scanlore.scans.dicom_metadata import identity_of, sequence_of_times
from scanlore.scans.metadata import Metadata

MARKER = "AVASARALA"
BORN = "19470813"
TEXT = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "CS")
NEEDED = ("Modality", "PhotometricInterpretation")


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def facts(**tags):
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return identity_of(dataset).facts


def marked_series(folder):
    """A series with the marker in every text tag, in private tags, sequences, dates and file names."""
    folder = write_dicom_series(folder / MARKER, (3, 6, 8), patient=MARKER)
    for path in list(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        for tag, (vr, _, _, is_retired, keyword) in DicomDictionary.items():
            if vr in TEXT and keyword not in NEEDED and not is_retired and tag >> 16 > 2:
                dataset.add_new(tag, vr, MARKER)
            elif vr == "DA" and not is_retired:
                dataset.add_new(tag, vr, BORN)
        dataset.private_block(0x000B, MARKER, create=True).add_new(0x01, "LO", MARKER)
        inner, outer = Dataset(), Dataset()
        inner.PatientName = outer.CodeMeaning = MARKER
        outer.ReferencedPatientSequence = [inner]
        dataset.RequestAttributesSequence = [outer]
        dataset.save_as(path)
        path.rename(folder / f"{MARKER}{path.name}")
    return sorted(folder.iterdir())


def outcome(read, files):
    """What a call lets out: its result, or its error with the traceback, without the path that is meant to be there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return repr(read(files, b"salt"))
    except DataError as error:
        return f"{error.what} {error.fix}" + "".join(traceback.format_exception(error)).replace(str(error.where), "")


def test_no_word_of_a_header_leaves(tmp_path):
    files = marked_series(tmp_path)
    scan, header = read_dicom_series(files, b"salt"), dicom_header(files, b"salt")
    assert scan.metadata == header.metadata
    assert len(scan.metadata.patient) == len(scan.metadata.site) == 16
    for words in (repr(scan), repr(header)):
        assert MARKER not in words
        assert BORN[:4] not in words


def test_no_word_of_a_damaged_header_leaves(tmp_path):
    files = marked_series(tmp_path)
    good = files[0].read_bytes()
    begin = good.index(MARKER.encode())
    rng = np.random.default_rng(0)
    for trial in range(60):
        bad = bytearray(good[: rng.integers(begin, len(good))] if trial % 2 else good)
        for place in rng.integers(140, len(bad), 40):
            bad[place] = rng.integers(256)
        files[0].write_bytes(bad)
        _, skipped = group_dicom(files)
        assert not [reason for _, reason in skipped if MARKER in reason]
        for read in (read_dicom_series, dicom_header):
            assert MARKER not in outcome(read, files)


def test_all_facts_of_a_header():
    found = facts(
        Modality="MR",
        SeriesDescription="t1_mprage_sag_Gd",
        ProtocolName="Knee",
        BodyPartExamined="BRAIN",
        ImageType=["ORIGINAL", "PRIMARY", "M"],
        Manufacturer="SIEMENS",
        MagneticFieldStrength="1.494",
        PatientSex="F",
        PatientAge="047Y",
    )
    assert found == Metadata("MR", "T1", "brain", True, False, "siemens", 1.5, "F", "45-49")


def test_an_empty_header_says_nothing():
    assert identity_of(Dataset()).hashed(b"salt") == Metadata()


@pytest.mark.parametrize(
    ("tags", "band"),
    [
        ({"PatientBirthDate": "19600401", "StudyDate": "20200331"}, "55-59"),
        ({"PatientBirthDate": "19600401", "StudyDate": "", "AcquisitionDate": "20200402"}, "60-64"),
        ({"PatientBirthDate": "19600401", "PatientAge": "001M", "StudyDate": "20200331"}, "0-4"),
        ({"PatientBirthDate": "19600401"}, None),
        ({"PatientBirthDate": "20300101", "StudyDate": "20200331"}, None),
        ({"PatientBirthDate": "00000000", "StudyDate": "20200331"}, None),
    ],
)
def test_age(tags, band):
    assert facts(**tags).age_band == band


@pytest.mark.parametrize(
    ("agent", "series", "contrast"),
    [("Gadovist", "T1", True), ("NONE", "T1 +C", False), ("", "T1 +C", True), ("", "T1", None)],
)
def test_contrast(agent, series, contrast):
    assert facts(Modality="MR", ContrastBolusAgent=agent, SeriesDescription=series).contrast is contrast


def test_scouts():
    assert facts(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]).scout is True
    assert facts(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]).scout is False
    assert facts(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], SeriesDescription="Topogram").scout is True
    assert facts().scout is None


def test_only_mr_has_a_sequence():
    assert facts(Modality="CT", SeriesDescription="T1", MagneticFieldStrength=3).sequence is None


@pytest.mark.parametrize(
    ("kinds", "times", "sequence"),
    [
        ("SE", (500, 15, None, None), "T1"),
        ("SE", (4000, 100, None, None), "T2"),
        ("SE", (2500, 20, None, None), "PD"),
        ("SE\\IR", (9000, 120, 2500, None), "T2-FLAIR"),
        ("SE\\IR", (2200, 12, 900, None), "T1-FLAIR"),
        ("SE\\IR", (4000, 40, 160, None), "STIR"),
        ("GR\\IR", (2300, 3, 900, None), "T1"),
        ("GR", (700, 25, None, None), "T2star"),
        ("EP\\SE", (5000, 80, None, 1000), "DWI"),
        ("EP\\GR", (2000, 30, None, None), None),
        ("SE", (1500, 50, None, None), None),
        ("", (500, 15, None, None), None),
        ("SE", (None, None, None, None), None),
    ],
)
def test_times_say_the_sequence_where_words_do_not(kinds, times, sequence):
    assert sequence_of_times(kinds, *times) == sequence


def test_damaged_times_say_nothing():
    dataset = Dataset()
    dataset.Modality, dataset.ScanningSequence = "MR", "SE"
    dataset.add_new("RepetitionTime", "LO", "soon")
    assert identity_of(dataset).facts.sequence is None


def test_identities_are_salted_hashes(tmp_path):
    path = write_dicom_picture(tmp_path / "a.dcm", np.ones((4, 4)), PatientID="sub-17", StudyInstanceUID="1.2.3")
    bare = write_dicom_picture(tmp_path / "b.dcm", np.ones((4, 4)), PatientID=" 17 ", StudyInstanceUID="1.2.4")
    one, other = (read_dicom_series([file], b"salt").metadata for file in (path, bare))
    assert one.patient == other.patient != one.study != other.study
    assert read_dicom_series([path], b"pepper").metadata.patient != one.patient
    assert read_dicom_series([path]).metadata.patient is None
    edit_dicom(path, PatientID="")
    assert dicom_header([path], b"salt").metadata.patient is None


def test_the_identity_is_not_printed():
    dataset = Dataset()
    dataset.PatientID = MARKER
    assert MARKER not in repr(identity_of(dataset))
