import numpy as np
import pytest
from pydicom import uid

from factories import edit_dicom, write_dicom_picture, write_dicom_series
from scanlore.scans.dicom import dicom_series
from scanlore.scans.dicom_kinds import why_no_picture, why_no_scan


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [
        (uid.BasicTextSRStorage, "structured report"),
        (uid.XRayRadiationDoseSRStorage, "structured report"),
        (uid.KeyObjectSelectionDocumentStorage, "key object selection"),
        (uid.GrayscaleSoftcopyPresentationStateStorage, "presentation state"),
        (uid.RTStructureSetStorage, "radiotherapy object"),
        (uid.RTDoseStorage, "radiotherapy object"),
        (uid.SegmentationStorage, "segmentation"),
        (uid.SpatialRegistrationStorage, "spatial registration"),
        (uid.EncapsulatedPDFStorage, "encapsulated document"),
        (uid.TwelveLeadECGWaveformStorage, "waveform"),
        (uid.RawDataStorage, "raw data"),
        (uid.MRSpectroscopyStorage, "spectroscopy"),
        (uid.VideoEndoscopicImageStorage, "video"),
        (uid.VLWholeSlideMicroscopyImageStorage, "whole-slide image"),
        (uid.MRImageStorage, None),
        (uid.EnhancedMRImageStorage, None),
        (uid.CTImageStorage, None),
        (uid.DigitalMammographyXRayImageStorageForPresentation, None),
        (uid.VLEndoscopicImageStorage, None),
        (uid.PositronEmissionTomographyImageStorage, None),
        (uid.BreastTomosynthesisImageStorage, None),
        ("", None),
    ],
)
def test_what_is_no_scan(sop_class, kind):
    assert why_no_scan(sop_class, "MR") == kind


def test_the_modality_says_it_where_the_class_does_not():
    assert [why_no_scan("", code) for code in ("SR", "SEG", "RTSTRUCT", "KO", "MR", "")] == [
        *("structured report", "segmentation", "radiotherapy object", "key object selection", None, None)
    ]


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ((uid.SecondaryCaptureImageStorage, "OT", "", ""), "secondary capture"),
        ((uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage, "CT", "", ""), "secondary capture"),
        ((uid.SecondaryCaptureImageStorage, "CR", "", ""), None),
        ((uid.CTImageStorage, "CT", "DERIVED\\SECONDARY\\SCREEN SAVE", ""), "screen capture"),
        ((uid.UltrasoundImageStorage, "US", "DERIVED\\SECONDARY", "YES"), "screen capture"),
        ((uid.UltrasoundImageStorage, "US", "ORIGINAL\\PRIMARY", "YES"), None),
        ((uid.CTImageStorage, "CT", "", ""), None),
    ],
)
def test_screens_are_no_pictures(facts, kind):
    assert why_no_picture(*facts) == kind


def test_they_are_skipped_with_a_reason(tmp_path):
    write_dicom_series(tmp_path, (2, 4, 4))
    grey = np.ones((4, 4))
    report = write_dicom_picture(tmp_path / "r.dcm", grey, "SR", SOPClassUID=uid.BasicTextSRStorage)
    edit_dicom(report, Rows=None, PixelData=None)
    write_dicom_picture(tmp_path / "s.dcm", grey, "OT", SOPClassUID=uid.SecondaryCaptureImageStorage)
    write_dicom_picture(tmp_path / "z.dcm", grey, "MR", SOPClassUID=uid.MediaStorageDirectoryStorage)
    groups, skipped = dicom_series(tmp_path)
    assert [len(group) for group in groups] == [2]
    assert [reason for _, reason in skipped] == [
        "not a scan: DICOM structured report",
        "not a scan: DICOM secondary capture",
        "DICOMDIR: the files it lists are read themselves",
    ]


def test_a_secondary_capture_with_geometry_is_a_slice(tmp_path):
    for path in write_dicom_series(tmp_path, (2, 4, 4), modality="CT").iterdir():
        edit_dicom(path, SOPClassUID=uid.SecondaryCaptureImageStorage)
    groups, skipped = dicom_series(tmp_path)
    assert ([len(group) for group in groups], skipped) == ([2], [])
