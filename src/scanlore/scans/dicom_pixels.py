"""The stored numbers of a DICOM file, decompressed, before any rescaling."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage

from scanlore.errors import DataError

_PIXEL_GROUP = 0x0028
_LOOKUP_TAGS = ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "VOILUTSequence")


def stored_pixels(path: Path) -> npt.NDArray[np.integer]:
    """Read the pixels of a grey-level file.

    `MONOCHROME1` (low values are bright) is turned into the usual sense within the range of the stored bits.

    Args:
        path: A classic or multi-frame file, compressed or not.

    Returns:
        `(frames, rows, columns)` in the stored type.

    Raises:
        DataError: The image is a colour image.
    """
    dataset = pydicom.dcmread(path, force=True)
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise DataError("colour DICOM images are not scans", where=path, fix="save 2D colour images as PNG")
    pixels = _decode(dataset)
    pixels = pixels.reshape(-1, int(dataset.Rows), int(dataset.Columns))
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        signed = pixels.dtype.kind == "i"
        # Signed numbers are mirrored about -1/2, which is what ~ does; unsigned ones within their stored bits.
        pixels = ~pixels if signed else pixels.dtype.type(2 ** int(dataset.BitsStored) - 1) - pixels
    return pixels


def _decode(dataset: Any) -> npt.NDArray[Any]:
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and syntax != RLELossless:
        return _decode_with_itk(dataset)
    return np.asarray(dataset.pixel_array)


def _decode_with_itk(dataset: Any) -> npt.NDArray[Any]:
    """Decompress through a file that holds the pixel description and nothing about the patient.

    Without rescale tags and with a neutral class, the decoder returns stored numbers whatever the modality.
    """
    bare = Dataset()
    for element in dataset.group_dataset(_PIXEL_GROUP):
        if element.keyword not in _LOOKUP_TAGS:
            bare.add(element)
    if "NumberOfFrames" in dataset:
        bare.NumberOfFrames = dataset.NumberOfFrames
    bare.add(dataset["PixelData"])
    bare.SOPClassUID = SecondaryCaptureImageStorage
    bare.SOPInstanceUID = pydicom.uid.generate_uid()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    with TemporaryDirectory() as folder:
        file = Path(folder) / "pixels.dcm"
        bare.save_as(file, enforce_file_format=True)
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(file))))
