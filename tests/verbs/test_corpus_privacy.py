"""Marker strings in every text of headers, file names and folder names: none is found in anything that is written."""

import gzip
import json
import zipfile

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from factories import write_dicom_series, write_mask, write_nifti_file, write_png
from scanlore.corpus.index import Corpus
from scanlore.verbs.corpus_build import build_corpus, curate_corpus
from scanlore.verbs.corpus_change import export_corpus, join_table, verify_corpus
from scanlore.verbs.corpus_show import show_corpus
from scanlore.verbs.corpus_split import split_corpus

MARKER = "Zyxgrafen"
TEXT_VRS = {"LO": 60, "LT": 200, "PN": 60, "SH": 15, "ST": 200, "UC": 200, "UT": 200, "AE": 15, "CS": 15}
DATES = {"DA": "19030405", "TM": "060708", "DT": "19030405060708"}
NEEDED = ("Modality", "PhotometricInterpretation", "SpecificCharacterSet", "NumberOfFrames", "ImageType")


def mark_dicom(path, modality=None):
    """Put the marker into every text tag of the dictionary, into a private tag and into a nested sequence."""
    dataset = pydicom.dcmread(path)
    for tag, (vr, *_) in DicomDictionary.items():
        keyword = pydicom.datadict.keyword_for_tag(tag)
        if tag >> 16 in (0, 2) or keyword in NEEDED:
            continue
        if vr in TEXT_VRS:
            dataset.add_new(tag, vr, MARKER.upper() if vr in ("CS", "AE") else f"{MARKER} text")
        elif vr in DATES:
            dataset.add_new(tag, vr, DATES[vr])
    dataset.PatientID, dataset.AccessionNumber = f"{MARKER}-7", f"{MARKER[:8]}-8"
    block = dataset.private_block(0x0011, f"{MARKER} private", create=True)
    block.add_new(1, "LO", f"{MARKER} secret")
    nested = Dataset()
    nested.CodeMeaning, nested.PatientName = f"{MARKER} nested", f"{MARKER}^Nested"
    dataset.RequestAttributesSequence = [nested]
    if modality:
        dataset.Modality = modality
    dataset.save_as(path, enforce_file_format=True)


def write_marked(folder):
    """Write scans of several formats, sound and broken, whose headers, names and folders hold the marker."""
    place = folder / f"{MARKER}_patient" / f"study {MARKER}"
    for path in write_dicom_series(place / f"series_{MARKER}").iterdir():
        mark_dicom(path)
    for number, path in enumerate(sorted(write_dicom_series(place / f"gap_{MARKER}", seed=3).iterdir())):
        mark_dicom(path)
        if number == 4:
            path.rename(path.with_name(f"{MARKER}.dcm"))
    broken = place / f"gap_{MARKER}" / f"{MARKER}.dcm"
    broken.write_bytes(broken.read_bytes()[:900])
    report = next(iter(write_dicom_series(place / "report", seed=4, shape=(1, 12, 14)).iterdir()))
    mark_dicom(report, modality="SR")
    report.rename(report.with_name(f"{MARKER}_report.dcm"))
    nifti = write_nifti_file(place / f"sub-{MARKER}_T1w.nii", seed=1)
    image = nib.load(nifti)
    image.header["descrip"], image.header["aux_file"] = f"{MARKER} scan".encode(), f"{MARKER}.mat".encode()
    image.header["intent_name"] = MARKER.encode()
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), nifti)
    sidecar = {key: f"{MARKER} {key}" for key in ("InstitutionName", "PatientName", "Manufacturer", "BodyPartExamined")}
    nifti.with_suffix(".json").write_text(json.dumps(sidecar))
    (place / f"{MARKER}.nii.gz").write_bytes(gzip.compress(nifti.read_bytes()[:700]))
    (place / f"other_{MARKER}.nii").write_bytes(MARKER.encode() * 100)
    itk = sitk.GetImageFromArray(np.random.default_rng(5).integers(0, 900, (10, 12, 14)).astype(np.int16))
    itk.SetMetaData("PatientName", MARKER)
    sitk.WriteImage(itk, str(place / f"{MARKER}.nrrd"))
    sitk.WriteImage(itk + 1, str(place / f"{MARKER}.mha"))
    (place / f"bad_{MARKER}.nrrd").write_text(f"NRRD0004\ntype: {MARKER}\n")
    png = write_png(place / f"{MARKER}.png", (20, 24))
    facts = PngImagePlugin.PngInfo()
    facts.add_text("Author", MARKER)
    with Image.open(png) as pixels:
        pixels.load()
    pixels.save(png, pnginfo=facts)
    (place / f"notes.{MARKER}").write_text(MARKER)
    (place / f"letter_{MARKER}.txt").write_text(MARKER)
    with zipfile.ZipFile(place / f"{MARKER}.zip", "w") as archive:
        archive.write(write_nifti_file(folder / "in the archive.nii", seed=7), f"{MARKER}/{MARKER}_T2w.nii")
        archive.writestr(f"{MARKER}/broken_{MARKER}.nii", MARKER * 200)
        archive.writestr(f"{MARKER}.{MARKER}", MARKER)
    (folder / "in the archive.nii").unlink()
    write_mask(place / "labels" / f"{MARKER}_seg.nii.gz", (12, 14, 10))
    return folder


def occurrences(folder):
    """Return the files whose name or contents hold the marker in any case."""
    needle = MARKER.lower()
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        texts = (content.lower(), content.replace(b"\0", b"").lower())
        if needle in path.name.lower() or any(needle.encode() in text for text in texts):
            found.append(path)
    return found


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    return write_marked(tmp_path_factory.mktemp("marked"))


def test_the_marker_is_everywhere_in_what_is_read(marked):
    assert len(occurrences(marked)) > 30


def test_nothing_that_is_written_holds_the_marker(marked, tmp_path):
    out = tmp_path / "C"
    result = build_corpus(marked, out, ["slices_above=4"], workers=1)
    assert result.counts["kept"] >= 4
    assert result.counts["failed"] >= 3
    table = tmp_path / "table.csv"
    table.write_text(f"participant_id,sex,age,diagnosis,name\nsub-{MARKER},female,47,{MARKER},{MARKER}\n")
    assert join_table(out, table, "participant_id").num_rows_matched >= 1
    table.unlink()
    curate_corpus(out, None, ["slices_above=5"])
    split_corpus(out, "scan", fractions={"train": 0.5, "test": 0.5})
    verify_corpus(out, [marked])
    show_corpus(out, html=out / "report.html")
    export_corpus(out, tmp_path / "exported")
    assert occurrences(tmp_path) == []
    frame = Corpus(out).frame()
    assert set(frame["patient"].drop_nulls().str.len_chars()) == {16}
    assert "47" not in str(frame["age_band"].to_list())
    assert "1903" not in (out / "data.json").read_text()
    # Closed vocabularies alone: the marker in Manufacturer is another vendor, in BodyPartExamined nothing
    assert set(frame["vendor"].drop_nulls()) <= {"other"}
    assert frame["body_part"].drop_nulls().is_empty()


def test_hashes_differ_between_projects(marked, tmp_path):
    patients = []
    for project in "ab":
        (tmp_path / project).mkdir()
        build_corpus(marked, tmp_path / project / "C", ["slices_above=4"], workers=1)
        patients.append(set(Corpus(tmp_path / project / "C").frame()["patient"].drop_nulls()))
    assert patients[0]
    assert patients[0].isdisjoint(patients[1])
