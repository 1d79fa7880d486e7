import numpy as np
import pytest

from factories import write_nifti_file, write_png
from scanlore.corpus.prepare import content_id, foreground_box, prepare, source_row
from scanlore.corpus.settings import Curation
from scanlore.scans.find import find_sources

LOOSE = Curation(slices_above=4, highres_above=11)


def prepared(path, curation=LOOSE):
    return prepare(find_sources([path])[0][0], curation, b"salt")


def test_kept_volume_has_a_frame_per_level(tmp_path):
    result = prepared(write_nifti_file(tmp_path / "a.nii.gz", (20, 22, 18)))
    row = result.rows[0]
    assert row["status"] == "kept"
    assert len(result.frames[0]) == len(row["level_factors"]) / 3 == len(row["level_affines"]) / 16 > 1


def test_affines_hold_the_crop(tmp_path):
    voxels = np.zeros((12, 14, 10))
    voxels[3:9, 2:12, 1:8] = np.random.default_rng(0).integers(1, 900, (6, 10, 7))
    row = prepared(write_nifti_file(tmp_path / "a.nii.gz", spacing=(0.5, 1.0, 2.0), voxels=voxels)).rows[0]
    assert (row["box_start"], row["shape"], row["scan_shape"]) == ([3, 2, 1], [6, 10, 7], [12, 14, 10])
    level = np.reshape(row["level_affines"][:16], (4, 4))
    np.testing.assert_allclose(level[:3, 3], [-30.0, 19.25, 10.0])
    np.testing.assert_allclose(np.diag(level), [0.5, 1.0, 2.0, 1.0])


@pytest.mark.parametrize(("above", "status"), [(9, "kept"), (10, "dropped")])
def test_slice_rule_counts_the_shortest_axis(tmp_path, above, status):
    row = prepared(write_nifti_file(tmp_path / "a.nii.gz", (12, 14, 10)), Curation(slices_above=above)).rows[0]
    assert row["status"] == status
    assert row.get("reason") == (None if status == "kept" else "10 slices (slices_above: 10)")


def test_slice_rule_leaves_images_alone(tmp_path):
    assert prepared(write_png(tmp_path / "a.png"), Curation(slices_above=100)).rows[0]["status"] == "kept"


def test_highres_marks_volumes_with_enough_slices(tmp_path):
    paths = [write_nifti_file(tmp_path / f"{edge}.nii.gz", (edge, 14, 13)) for edge in (11, 12)]
    assert [prepared(path).rows[0]["highres"] for path in paths] == [False, True]


def test_source_that_vanished_is_a_failed_row(tmp_path):
    path = write_nifti_file(tmp_path / "a.nii.gz")
    source = find_sources([path])[0][0]
    path.unlink()
    row = prepare(source, LOOSE, b"salt").rows[0]
    assert row["status"] == "failed"
    assert row["source"] == source_row(source)["source"] == str(path)


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
