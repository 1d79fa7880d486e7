import re

import numpy as np
import pytest

from corpora import SALT, given_of
from factories import write_dicom_series, write_mask, write_nifti_file, write_png
from scanlore.corpus.prepare import Origin, content_id, foreground_box, given, header_rows, prepare
from scanlore.scans.find import find_sources
from scanlore.scans.metadata import hashed


def prepared(path):
    return prepare(given_of(path)[0])


def test_volume_has_a_frame_per_level_and_facts_of_the_whole(tmp_path):
    result = prepared(write_nifti_file(tmp_path / "a.nii.gz", (20, 22, 18), spacing=(0.5, 1.0, 2.0)))
    row = result.rows[0]
    assert len(result.frames[0]) == len(row["level_factors"]) / 3 > 1
    assert (row["role"], row["ndim"], row["dtype"]) == ("image", 3, "int16")
    assert (row["scan_shape"], row["spacing"]) == ([20, 22, 18], [0.5, 1.0, 2.0])
    assert np.reshape(row["affine"], (4, 4))[3].tolist() == [0, 0, 0, 1]


def test_box_of_the_foreground(tmp_path):
    voxels = np.zeros((12, 14, 10))
    voxels[3:9, 2:12, 1:8] = np.random.default_rng(0).integers(1, 900, (6, 10, 7))
    row = prepared(write_nifti_file(tmp_path / "a.nii.gz", voxels=voxels)).rows[0]
    assert (row["box_start"], row["shape"], row["scan_shape"]) == ([3, 2, 1], [6, 10, 7], [12, 14, 10])


def test_label_maps_are_stored_as_labels(tmp_path):
    row = prepared(write_mask(tmp_path / "labelsTr" / "a.nii.gz", (20, 22, 18))).rows[0]
    assert (row["role"], row["dtype"], row["fingerprint"]) == ("label", "uint8", None)


def test_plane_follows_the_slices(tmp_path):
    row = prepared(write_nifti_file(tmp_path / "a.nii.gz", (20, 22, 18), spacing=(4.0, 1.0, 1.0))).rows[0]
    assert (row["through_axis"], row["plane"]) == (0, "sagittal")
    assert prepared(write_png(tmp_path / "a.png")).rows[0]["plane"] is None


def test_source_that_vanished_is_a_failed_row(tmp_path):
    one = given_of(write_nifti_file(tmp_path / "a.nii.gz"))[0]
    one.source.path.unlink()
    row = prepare(one).rows[0]
    assert row["status"] == "failed"
    assert row["source"] == one.key


def test_names_are_kept_as_hashes_alone(tmp_path):
    folder = write_dicom_series(tmp_path / "jane" / "series")
    write_nifti_file(tmp_path / "jane" / "doe.nii.gz")
    nifti, series = sorted(given_of(tmp_path), key=lambda one: one.source.kind, reverse=True)
    assert nifti.row["file"] == hashed(SALT, "doe")
    assert nifti.row["relative"] == hashed(SALT, "jane/doe.nii.gz")
    assert nifti.key == hashed(SALT, (tmp_path / "jane" / "doe.nii.gz").resolve())
    assert (series.row["file"], series.row["num_files"]) == (hashed(SALT, "series"), len(list(folder.iterdir())))
    assert not re.search("jane|doe|series", str(nifti.row) + str(series.row))


def test_headers_tell_what_rules_need(tmp_path):
    one = given(find_sources([write_dicom_series(tmp_path / "s")])[0][0], Origin(SALT))
    row = header_rows(one)[0]
    whole = prepare(one).rows[0]
    assert {name: whole[name] for name in row} | {"scan_shape": row["scan_shape"], "spacing": row["spacing"]} == row
    assert sorted(row["scan_shape"]) == sorted(whole["scan_shape"])


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
def test_content_id_does_not_depend_on_the_dtype(dtype):
    voxels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    assert content_id(voxels.astype(dtype)) == content_id(voxels)
    assert content_id(voxels.astype(dtype)[::-1]) != content_id(voxels)
    assert content_id(voxels.reshape(4, 3, 5)) != content_id(voxels)


def test_content_id_does_not_depend_on_the_memory_order():
    voxels = np.arange(60).reshape(3, 4, 5)
    assert content_id(np.asfortranarray(voxels)) == content_id(voxels)


def test_foreground_box_is_tight():
    voxels = np.zeros((6, 7, 8))
    voxels[2, 3, 1] = voxels[4, 3, 6] = 1
    assert foreground_box(voxels, 0.5) == (slice(2, 5), slice(3, 4), slice(1, 7))


def test_foreground_box_of_nothing_is_the_whole():
    assert foreground_box(np.zeros((2, 3)), 0.0) == (slice(0, 2), slice(0, 3))
