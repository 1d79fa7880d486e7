import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from PIL import Image

from factories import write_dicom_series, write_nifti_file, write_png
from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings
from scanlore.errors import ConfigError, DataError, ModelError
from scanlore.inference.predict_scan import predict_scan
from scanlore.modelfolder.segmentation_preprocessing import SegmentationPreprocessing
from scanlore.modelfolder.segmenter import load_segmenter, save_segmenter
from scanlore.registry import BACKBONES
from scanlore.scans.read import read_scan
from scanlore.verbs.predict import predict

LABELS = {0: "background", 1: "inner", 2: "outer"}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    tiny = replace(BACKBONES["resenc-tiny"], features=(4, 8), blocks=(1, 1))
    monkeypatch.setitem(BACKBONES, "resenc-tiny", tiny)


def model(folder, ndim=3, in_channels=1):
    settings = ResEncSettings(name="resenc-tiny", ndim=ndim, in_channels=in_channels, out_channels=3)
    facts = {"ndim": ndim, "in_channels": in_channels, "patch": (8,) * ndim, "labels": LABELS}
    architecture = {"backbone": settings.model_dump(mode="json"), "decoder": "unet"}
    provenance = {"task": "rings"}
    save_segmenter(
        folder / "model", build_backbone(settings, 3), architecture, SegmentationPreprocessing(**facts), provenance
    )
    return folder


@pytest.fixture
def scans(tmp_path):
    orders = ("RAS", "LPS", "IPL")
    return [
        write_nifti_file(tmp_path / "scans" / f"{index}.nii.gz", (9, 7, 8), axcodes=order, seed=index, oblique=True)
        for index, order in enumerate(orders)
    ]


def run(tmp_path, paths, **options):
    return predict(tmp_path / "A", paths, tmp_path / "P", mirror=False, device="cpu", **options)


def test_a_mask_for_every_scan(scans, tmp_path):
    (tmp_path / "scans" / "notes.txt").touch()
    segmenter = load_segmenter(model(tmp_path / "A"))
    result = run(tmp_path, tmp_path / "scans")
    assert (list(result.masks), result.labels, result.num_kept) == (["0", "1", "2"], LABELS, 0)
    assert (result.problems, [path.name for path, _ in result.skipped]) == ((), ["notes.txt"])
    for scan, mask in zip(scans, result.masks.values(), strict=True):
        assert nib.load(mask).shape == nib.load(scan).shape
        np.testing.assert_array_equal(nib.load(mask).affine, nib.load(scan).affine)
        expected = predict_scan(segmenter, read_scan(scan), mirror=False)
        np.testing.assert_array_equal(read_scan(mask).voxels[0], expected)
        assert len(np.unique(expected)) > 1
    assert json.loads((tmp_path / "P" / "labels.json").read_text()) == {str(k): name for k, name in LABELS.items()}
    with Image.open(tmp_path / "P" / "previews" / "0.png") as picture:
        assert min(picture.size) > 100
    table = pl.read_parquet(tmp_path / "P" / "predictions.parquet")
    assert table["mask"].to_list() == ["0.nii.gz", "1.nii.gz", "2.nii.gz"]
    record = json.loads((tmp_path / "P" / "run.json").read_text())
    assert (record["status"], record["provenance"]) == ("finished", {"task": "rings"})


def test_nothing_but_what_is_promised_is_written(scans, tmp_path):
    model(tmp_path / "A")
    run(tmp_path, scans[:1])
    promised = {"0.nii.gz", "config.yaml", "labels.json", "predictions.parquet", "previews", "run.json", "run.log"}
    assert {path.name for path in (tmp_path / "P").iterdir()} == promised


def test_the_same_call_again_changes_nothing(scans, tmp_path):
    model(tmp_path / "A")
    first = run(tmp_path, scans)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "P").rglob("*")}
    again = run(tmp_path, scans)
    assert (first.already_finished, again.already_finished, again.masks) == (False, True, first.masks)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "P").rglob("*")} == before


def test_an_interrupted_run_keeps_its_masks(scans, tmp_path, monkeypatch):
    model(tmp_path / "A")

    def stop(*arguments, **options):
        if list((tmp_path / "P").glob("*.nii.gz")):
            raise KeyboardInterrupt
        return predict_scan(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("scanlore.inference.predict_scan.predict_scan", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, scans)
    (first,) = (tmp_path / "P").glob("*.nii.gz")
    written = first.stat().st_mtime_ns
    result = run(tmp_path, scans)
    assert (result.num_kept, len(result.masks), first.stat().st_mtime_ns) == (1, 3, written)


def test_other_settings_or_scans_are_refused(scans, tmp_path):
    model(tmp_path / "A")
    run(tmp_path, scans)
    with pytest.raises(ConfigError, match="overlap"):
        run(tmp_path, scans, overlap=0.75)
    with pytest.raises(ConfigError, match="num_cases"):
        run(tmp_path, scans[:2])
    write_nifti_file(scans[0], (9, 7, 9))
    with pytest.raises(ConfigError, match="files"):
        run(tmp_path, scans)


def test_bad_scans_are_skipped_and_say_why(scans, tmp_path):
    model(tmp_path / "A")
    scans[0].write_bytes(b"broken")
    write_nifti_file(scans[1], (9, 7, 8), channels=2)
    result = run(tmp_path, scans)
    assert list(result.masks) == ["2"]
    assert [name for name, _ in result.problems] == [path.as_posix() for path in scans[:2]]
    assert result.problems[1][1] == "the segmenter takes 1 channel, this scan has 2"
    assert pl.read_parquet(tmp_path / "P" / "predictions.parquet")["mask"].to_list() == [None, None, "2.nii.gz"]


def test_channels_by_nnunets_names(tmp_path):
    model(tmp_path / "A", in_channels=2)
    for name in ("a_0000", "a_0001", "b_0000"):
        write_nifti_file(tmp_path / "scans" / f"{name}.nii.gz", (9, 7, 8))
    write_nifti_file(tmp_path / "scans" / "c.nii.gz", (9, 7, 8), channels=2)
    result = run(tmp_path, tmp_path / "scans")
    assert sorted(path.name for path in result.masks.values()) == ["a.nii.gz", "c.nii.gz"]
    assert [reason for _, reason in result.problems] == ["the segmenter takes 2 channels, this scan has 1"]


def test_series_and_equal_names(tmp_path):
    model(tmp_path / "A")
    write_dicom_series(tmp_path / "p" / "t1", (5, 9, 8))
    write_dicom_series(tmp_path / "q" / "t1", (5, 9, 8), seed=1)
    result = run(tmp_path, [tmp_path / "p", tmp_path / "q"])
    assert sorted(path.name for path in result.masks.values()) == ["p_t1.nii.gz", "q_t1.nii.gz"]


def test_images(tmp_path):
    model(tmp_path / "A", ndim=2)
    write_png(tmp_path / "scans" / "a.png", (20, 24))
    result = run(tmp_path, tmp_path / "scans")
    with Image.open(result.masks["a"]) as mask:
        assert (mask.size, mask.mode) == ((24, 20), "L")
        assert set(np.unique(np.asarray(mask))) <= set(LABELS)


def test_refused_calls_write_nothing(scans, tmp_path):
    model(tmp_path / "A")
    for options, error, words in (
        ({"overlap": 1.0}, ConfigError, "overlap: must be 0 or more and below 1"),
        ({"batch_size": 0}, ConfigError, "batch_size"),
        ({"paths": tmp_path / "A"}, DataError, "no scans"),
    ):
        with pytest.raises(error, match=words):
            run(tmp_path, **{"paths": scans} | options)
    with pytest.raises(ModelError, match="there is no such model"):
        predict(tmp_path / "B", scans, tmp_path / "P")
    with pytest.raises(ConfigError, match="no device"):
        predict(tmp_path / "A", scans, tmp_path / "P", device="tpu")
    assert not (tmp_path / "P").exists()


def test_not_one_scan_that_fits(tmp_path):
    model(tmp_path / "A")
    write_png(tmp_path / "scans" / "a.png")
    with pytest.raises(DataError, match=r"1 of 1 scans cannot be used: .*labels 3D scans, this is a 2D image"):
        run(tmp_path, tmp_path / "scans")
