import nibabel as nib
import numpy as np
import polars as pl
import pytest

from factories import affine_of, smooth_volume, write_mask, write_nifti_file, write_png
from scanlore.corpus.export import TABLE, export
from scanlore.corpus.index import Corpus
from scanlore.corpus.store import shard_path
from scanlore.errors import ConfigError, DataError
from scanlore.scans.read import read_scan

EVERYTHING = {"slices_above": 0, "drop_labels": False}


@pytest.fixture
def exported(tmp_path, build_corpus):
    """Build a corpus of the folder `in` and export it whole; returns the rows and the one scan that was written."""

    def run():
        build_corpus(tmp_path / "in", tmp_path / "C", rules=EVERYTHING)
        corpus = Corpus(tmp_path / "C")
        export(corpus, tmp_path / "out", corpus.frame())
        table = pl.read_csv(tmp_path / "out" / TABLE, separator="\t")
        return corpus.frame().row(0, named=True), read_scan(tmp_path / "out" / table["file"][0])

    return run


@pytest.mark.parametrize(("dtype", "oblique"), [("int16", True), ("uint16", False), ("float32", True)])
def test_a_volume_lies_on_its_own_grid(tmp_path, exported, dtype, oblique):
    voxels = np.pad(smooth_volume((12, 14, 10)) * 900, 3) * (1.01 if dtype == "float32" else 60)
    voxels = voxels if dtype != "int16" else voxels / 60
    write_nifti_file(tmp_path / "in" / "a.nii.gz", axcodes="LPS", dtype=dtype, voxels=voxels, oblique=oblique)
    row, written = exported()
    scan = read_scan(tmp_path / "in" / "a.nii.gz")
    assert min(row["box_start"]) >= 2  # what was cropped is filled up
    np.testing.assert_allclose(written.voxels, scan.voxels, atol=0.501 * row["slope"] * (dtype == "float32"))
    assert written.voxels.dtype.kind == scan.voxels.dtype.kind.replace("u", "i")
    np.testing.assert_allclose(written.affine, scan.affine, atol=1e-4)


def test_hot_spots_come_back(tmp_path, exported):
    voxels = smooth_volume((22, 24, 20)) * 5
    voxels[5, 5, 5] = 70000
    write_nifti_file(tmp_path / "in" / "a.nii.gz", dtype="float32", voxels=voxels)
    row, written = exported()
    assert row["dtype"] == "float16"
    assert written.voxels.max() == pytest.approx(70000, rel=1e-3)


def test_labels_stay_labels(tmp_path, exported):
    write_mask(tmp_path / "in" / "a_seg.nii.gz")
    row, written = exported()
    assert (row["role"], written.voxels.dtype) == ("label", np.uint8)
    assert set(np.unique(written.voxels)) == {0, 1, 2}


@pytest.mark.parametrize("bits", [8, 16])
def test_an_image_is_a_png(tmp_path, exported, bits):
    write_png(tmp_path / "in" / "a.png", bits=bits)
    _, written = exported()
    np.testing.assert_array_equal(written.voxels, read_scan(tmp_path / "in" / "a.png").voxels)
    assert written.voxels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert [path.suffix for path in sorted((tmp_path / "out").iterdir())] == [".png", ".tsv"]


def test_an_image_of_fractions_is_a_tiff(tmp_path, exported):
    write_png(tmp_path / "in" / "a.tif", pixels=smooth_volume((20, 24)))
    _, written = exported()
    assert written.voxels.dtype == np.float32
    assert [path.suffix for path in sorted((tmp_path / "out").iterdir())] == [".tif", ".tsv"]


def test_no_name_or_place_reaches_the_folder(tmp_path, build_corpus):
    write_nifti_file(tmp_path / "MARKER" / "MARKER^NAME.nii.gz")
    build_corpus(tmp_path / "MARKER", tmp_path / "C")
    corpus = Corpus(tmp_path / "C")
    result = export(corpus, tmp_path / "out", corpus.frame())
    files = sorted((tmp_path / "out").iterdir())
    assert result.num_files == len(files) - 1 == 1
    assert files[0].name == f"{corpus.frame()['id'][0]}.nii.gz"
    text = (tmp_path / "out" / TABLE).read_text()
    source = corpus.frame().row(0, named=True)
    assert not any(word in text for word in ("MARKER", source["source"], source["file"], source["relative"]))
    assert b"MARKER" not in nib.load(files[0]).header.binaryblock


def test_equal_voxels_at_two_places_are_two_files(tmp_path, build_corpus):
    for number, shift in enumerate((0, 5)):
        path = write_nifti_file(tmp_path / "in" / f"{number}.nii.gz")
        affine = affine_of()
        affine[0, 3] += shift
        nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), affine), path)
    build_corpus(tmp_path / "in", tmp_path / "C", rules=EVERYTHING | {"drop_duplicates": False})
    corpus = Corpus(tmp_path / "C")
    export(corpus, tmp_path / "out", corpus.frame())
    places = [nib.load(path).affine[0, 3] for path in sorted((tmp_path / "out").glob("*.nii.gz"))]
    assert abs(places[0] - places[1]) == pytest.approx(5)


def test_a_folder_in_use_is_refused(scans, tmp_path, build_corpus):
    build_corpus(scans, tmp_path / "C")
    corpus = Corpus(tmp_path / "C")
    with pytest.raises(ConfigError, match="is not empty"):
        export(corpus, scans, corpus.frame())


def test_damage_is_refused_and_leaves_no_folder(scans, tmp_path, build_corpus):
    build_corpus(scans, tmp_path / "C")
    corpus = Corpus(tmp_path / "C")
    shard_path(tmp_path / "C", 0).write_bytes(b"short")
    with pytest.raises(DataError, match=r"3 of 3 scans are damaged in the store .*corpus verify"):
        export(corpus, tmp_path / "out", corpus.frame())
    assert not (tmp_path / "out").exists()
