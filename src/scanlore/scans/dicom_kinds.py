"""What a DICOM object is: a scan, a single picture, or something else."""

from __future__ import annotations

FLAT_MODALITIES = frozenset(
    ("CR", "DX", "MG", "IO", "PX", "RG", "XA", "RF", "US", "ES", "XC", "OP", "GM", "SM", "DMS", "OPT", "IVUS")
)
"""Projections and photographs: a single frame without geometry is a 2D image of its own."""

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

_DIRECTORY = "1.2.840.10008.1.3.10"
_STORAGE = "1.2.840.10008.5.1.4.1.1."

_CLASSES = {
    "4.2": "spectroscopy",
    "9": "waveform",
    "11": "presentation state",
    "30": "parametric map",
    "66.1": "spatial registration",
    "66.2": "spatial fiducials",
    "66.3": "spatial registration",
    "66.4": "segmentation",
    "66.5": "segmentation",
    "66.6": "tractography",
    "66.7": "segmentation",
    "66": "raw data",
    "67": "real-world value mapping",
    "68": "surface scan",
    "77.1.1.1": "video",
    "77.1.2.1": "video",
    "77.1.4.1": "video",
    "77.1.6": "whole-slide image",
    "78": "ophthalmic measurement",
    "79": "ophthalmic measurement",
    "88.59": "key object selection",
    "88": "structured report",
    "104": "encapsulated document",
    "481": "radiotherapy object",
    "501": "inspection object",
}
"""Storage classes below `_STORAGE` that are no scans; the longest that fits counts."""

_MODALITIES = {
    "SEG": "segmentation",
    "PR": "presentation state",
    "KO": "key object selection",
    "SR": "structured report",
    "REG": "spatial registration",
    "FID": "spatial fiducials",
    "RTSTRUCT": "radiotherapy object",
    "RTDOSE": "radiotherapy object",
    "RTPLAN": "radiotherapy object",
    "RTIMAGE": "radiotherapy object",
    "RTRECORD": "radiotherapy object",
    "DOC": "encapsulated document",
    "ECG": "waveform",
    "HD": "waveform",
    "EPS": "waveform",
    "AU": "waveform",
    "RWV": "real-world value mapping",
    "PLAN": "plan",
}

_SCREEN_WORDS = ("SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", "SCREENSHOT", "SCREEN CAPTURE", "DOSE REPORT", "DOSE_INFO")


def is_directory(sop_class: str) -> bool:
    """Whether a class of objects is the DICOMDIR."""
    return sop_class == _DIRECTORY


def why_no_scan(sop_class: str, modality: str) -> str | None:
    """Return what an object is that is never a scan, such as `structured report`; `None` where it may be one.

    Args:
        sop_class: Unique identifier of its kind.
        modality: DICOM code.
    """
    if is_directory(sop_class):
        return "directory"
    if sop_class.startswith(_STORAGE):
        parts = sop_class.removeprefix(_STORAGE).split(".")
        for length in range(len(parts), 0, -1):
            if found := _CLASSES.get(".".join(parts[:length])):
                return found
    return _MODALITIES.get(modality)


def why_no_picture(sop_class: str, modality: str, image_type: str, burnt_in: str) -> str | None:
    """Return what an image without slice geometry is that shows no patient but a screen; `None` where it may be one.

    Secondary captures of projections (`CR`, `DX` ...) count as pictures: public collections are often stored so.

    Args:
        sop_class: Unique identifier of its kind.
        modality: DICOM code.
        image_type: Values parted by backslashes.
        burnt_in: `YES` where annotations are part of the pixels.
    """
    image_type = image_type.upper()
    is_derived = image_type.startswith("DERIVED")
    if any(word in image_type for word in _SCREEN_WORDS) or (is_derived and burnt_in.upper() == "YES"):
        return "screen capture"
    is_secondary = sop_class == SECONDARY_CAPTURE or sop_class.startswith(f"{SECONDARY_CAPTURE}.")
    if modality == "SC" or (is_secondary and modality not in FLAT_MODALITIES):
        return "secondary capture"
    return None
