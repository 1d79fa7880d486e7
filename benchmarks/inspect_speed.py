"""Inspecting DICOM folders: files per second and core, against a bare read of the same headers with pydicom."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import Row, best_of, cpu_name, print_table, set_threads

set_threads(1)

import numpy as np  # noqa: E402
import pydicom  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid  # noqa: E402

import scanlore  # noqa: E402

SIZE = 256
NUM_PRIVATE = 40
NUM_SLICES = 100
"""Slices of a series; each series lies in its own folder."""

TEXTS = {
    "StudyDate": "20240131",
    "SeriesDate": "20240131",
    "AcquisitionDate": "20240131",
    "StudyTime": "101500",
    "AcquisitionTime": "101612.5",
    "AccessionNumber": "A1",
    "Modality": "CT",
    "Manufacturer": "SIEMENS",
    "InstitutionName": "Hospital",
    "StudyDescription": "CT abdomen",
    "SeriesDescription": "Abdomen portal venous 1.0",
    "PatientName": "Doe^Jane",
    "PatientID": "17",
    "PatientSex": "F",
    "PatientAge": "047Y",
    "BodyPartExamined": "ABDOMEN",
    "ProtocolName": "Abdomen",
    "ConvolutionKernel": "B30f",
    "SoftwareVersions": "syngo",
    "PatientPosition": "HFS",
    "RescaleType": "HU",
}
NUMBERS = {
    "SliceThickness": 1,
    "KVP": 120,
    "DataCollectionDiameter": 500,
    "ReconstructionDiameter": 360,
    "ExposureTime": 500,
    "XRayTubeCurrent": 200,
    "RescaleIntercept": -1024,
    "RescaleSlope": 1,
    "WindowCenter": 40,
    "WindowWidth": 400,
}


def write_series(folder: Path, first: Dataset, pixels: bytes) -> None:
    """Write slices with some 110 elements each, as a scanner does: private ones and nested sequences among them."""
    folder.mkdir()
    first.SeriesInstanceUID = generate_uid()
    for index in range(NUM_SLICES):
        first.SOPInstanceUID = generate_uid()
        first.InstanceNumber = index + 1
        first.ImagePositionPatient = [-180, -180, float(index)]
        first.PixelData = pixels
        first.save_as(folder / f"{index:05d}.dcm", enforce_file_format=True)


def example() -> Dataset:
    """Return a header without what differs between slices."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.StudyInstanceUID = generate_uid()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for keyword, value in (TEXTS | NUMBERS).items():
        setattr(dataset, keyword, value)
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113100", "DCM", "Basic profile"
    dataset.DeidentificationMethodCodeSequence = [code] * 4
    dataset.ProcedureCodeSequence = [code]
    block = dataset.private_block(0x0029, "VENDOR CSA HEADER", create=True)
    for number in range(NUM_PRIVATE):
        block.add_new(number, "OB", b"\0" * (4000 if number == 0 else 16))
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.7, 0.7]
    dataset.Rows = dataset.Columns = SIZE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    return dataset


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--files", type=int, default=1000, help="how many DICOM files to make; beyond 3000 several processes read"
    )
    num_series = max(1, parser.parse_args().files // NUM_SLICES)
    pixels = np.zeros((SIZE, SIZE), np.int16).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num_series):
            write_series(Path(folder) / str(number), example(), pixels)
        files = sorted(Path(folder).rglob("*.dcm"))
        seconds, bare = best_of(
            5,
            lambda: scanlore.inspect(folder, num_workers=0),
            lambda: [pydicom.dcmread(file, stop_before_pixels=True) for file in files],
        )
    ours, limit, device = len(files) / seconds, len(files) / bare, cpu_name(1)
    print_table(
        [
            Row("inspect, DICOM files a second", f"{ours:.0f}", f"{limit:.0f}", ours, ">= 500", device),
            Row("inspect / bare pydicom header read", f"{ours:.0f}", f"{limit:.0f}", ours / limit, "", device),
        ]
    )


if __name__ == "__main__":
    main()
