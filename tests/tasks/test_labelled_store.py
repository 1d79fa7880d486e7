import json
import pickle
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from factories import label_volume, write_mask, write_msd_task, write_nifti_file, write_nnunet_task, write_png
from scanlore.corpus.store import shard_path
from scanlore.errors import DataError
from scanlore.scans.intensity import intensity_stats
from scanlore.tasks.labelled_case import content_ids, read_case
from scanlore.tasks.labelled_store import build_labelled_store, open_labelled_store
from scanlore.tasks.segmentation import load_segmentation_task

SHAPE = (12, 14, 10)
ALL = (slice(None),) * 3


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return load_segmentation_task(write_msd_task(tmp_path_factory.mktemp("task"), 4, channels=("T1", "T2")))


@pytest.fixture(scope="module")
def store(task, tmp_path_factory):
    return build_labelled_store(task, [2, 0], tmp_path_factory.mktemp("store"))


def test_cases_in_the_order_asked_for(task, store):
    assert (len(store), store.names, store.problems) == (2, ("case_002", "case_000"), ())
    assert store.shapes == [SHAPE, SHAPE]
    assert store.spacings == [(1.0, 1.0, 1.0)] * 2
    assert store.content_ids[1] == content_ids(task.cases[0])


def test_scan_and_mask_come_back(task, store):
    labelled, entry = read_case(task.cases[0], task), store.case(1)
    for channel, pyramid, stats in zip(labelled.scan.voxels, entry.pyramids, entry.stats, strict=True):
        np.testing.assert_array_equal(pyramid.read(0, ALL) * pyramid.slope + pyramid.intercept, channel)
        assert asdict(stats) == asdict(intensity_stats(channel))
    labels = entry.labels.read(0, ALL)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, labelled.mask)


def test_foreground_voxels_are_of_their_class(store):
    entry = store.case(0)
    labels = entry.labels.read(0, ALL)
    assert {label: len(voxels) for label, voxels in entry.foreground.items()} == {
        label: min(1000, int((labels == label).sum())) for label in (1, 2)
    }
    for label, voxels in entry.foreground.items():
        assert (labels[tuple(voxels.T)] == label).all()
        assert len(np.unique(voxels, axis=0)) == len(voxels)


def test_class_voxels_are_counted(store):
    assert store.class_voxels == {label: 2 * int((label_volume(SHAPE) == label).sum()) for label in (1, 2)}


def test_many_voxels_are_drawn(tmp_path):
    task = load_segmentation_task(write_msd_task(tmp_path / "t", 2, (24, 24, 24)))
    entry = build_labelled_store(task, [0, 1], tmp_path / "s").case(0)
    again = build_labelled_store(task, [0], tmp_path / "again").case(0)
    assert len(entry.foreground[1]) == 1000
    np.testing.assert_array_equal(entry.foreground[1], again.foreground[1])


def test_a_store_travels_to_workers(store):
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.case(0).labels.read(0, ALL), store.case(0).labels.read(0, ALL))


def test_what_workers_import_is_light():
    code = (
        "import sys, scanlore.tasks.labelled_index; print(*sorted({'torch', 'polars', 'nibabel'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_a_finished_store_is_opened(task, store):
    before = shard_path(store.root, 0).stat().st_mtime_ns
    assert build_labelled_store(task, [2, 0], store.root) == store
    assert shard_path(store.root, 0).stat().st_mtime_ns == before


def test_a_store_of_other_cases_is_built_again(task, tmp_path):
    build_labelled_store(task, [0, 1, 2], tmp_path)
    assert build_labelled_store(task, [3], tmp_path).names == ("case_003",)
    assert open_labelled_store(tmp_path).names == ("case_003",)


def test_an_unfinished_store_is_built_again(task, tmp_path):
    build_labelled_store(task, [0], tmp_path)
    (tmp_path / "index.json").unlink()
    shard_path(tmp_path, 0).write_bytes(b"half")
    assert build_labelled_store(task, [0], tmp_path).case(0).labels.read(0, ALL).shape == SHAPE


def test_changed_files_are_read_again(tmp_path):
    task = load_segmentation_task(write_msd_task(tmp_path / "t", 1))
    first = build_labelled_store(task, [0], tmp_path / "s").content_ids
    write_nifti_file(task.cases[0].images[0], SHAPE, seed=9)
    assert build_labelled_store(task, [0], tmp_path / "s").content_ids != first


def test_a_damaged_store(task, tmp_path):
    build_labelled_store(task, [0], tmp_path)
    shard_path(tmp_path, 0).write_bytes(b"half")
    with pytest.raises(DataError, match="shard 00000 is damaged"):
        open_labelled_store(tmp_path)
    with pytest.raises(DataError, match="holds no labelled store"):
        open_labelled_store(tmp_path / "nothing")


def test_images(tmp_path):
    task = load_segmentation_task(write_nnunet_task(tmp_path / "t", 2, shape=(20, 24)))
    entry = build_labelled_store(task, [0, 1], tmp_path / "s").case(0)
    assert (entry.shape, entry.spacing, entry.through_axis) == ((20, 24), None, None)
    assert entry.foreground[2].shape[1] == 2
    np.testing.assert_array_equal(entry.labels.read(0, ALL[:2]), label_volume((20, 24)))


@pytest.mark.parametrize("value", [0.0, 0.3, 70000.0])
def test_constant_scans_are_stored(tmp_path, value):
    task = load_segmentation_task(write_msd_task(tmp_path / "t", 1))
    write_nifti_file(task.cases[0].images[0], voxels=np.full(SHAPE, value), dtype="float32")
    pyramid = build_labelled_store(task, [0], tmp_path / "s").case(0).pyramids[0]
    np.testing.assert_allclose(pyramid.read(0, ALL) * pyramid.slope + pyramid.intercept, value, rtol=1e-6)


def test_a_bad_case_is_left_out(tmp_path):
    task = load_segmentation_task(write_msd_task(tmp_path / "t", 3))
    write_mask(task.cases[1].mask, voxels=np.full(SHAPE, 9))
    store = build_labelled_store(task, [0, 1, 2], tmp_path / "s")
    assert store.names == ("case_000", "case_002")
    [(name, reason)] = store.problems
    assert name == "case_001"
    assert "holds 9" in reason
    assert build_labelled_store(task, [0, 1, 2], tmp_path / "s").problems == store.problems


def test_too_many_bad_cases(tmp_path):
    task = load_segmentation_task(write_msd_task(tmp_path / "t", 3))
    for case in task.cases[:2]:
        case.images[0].write_bytes(b"x")
    with pytest.raises(DataError, match=r"2 of 3 scans cannot be used, more than max_bad = 0\.01") as caught:
        build_labelled_store(task, [0, 1, 2], tmp_path / "s")
    assert "--set max_bad=0.67" in str(caught.value)
    assert len(build_labelled_store(task, [0, 1, 2], tmp_path / "s", max_bad=0.67)) == 1


def test_a_class_without_any_voxel(tmp_path):
    task = load_segmentation_task(write_msd_task(tmp_path / "t", 2))
    for case in task.cases:
        write_mask(case.mask, voxels=np.ones(SHAPE))
    with pytest.raises(DataError, match="no voxel of 'blob' in 2 training cases"):
        build_labelled_store(task, [0, 1], tmp_path / "s")
    store = build_labelled_store(task, [0, 1], tmp_path / "s", needs_every_class=False)
    assert store.class_voxels[2] == 0
    assert set(store.case(0).foreground) == {1}


def test_masks_without_foreground(tmp_path):
    task = load_segmentation_task(write_msd_task(tmp_path / "t", 1))
    write_mask(task.cases[0].mask, voxels=np.zeros(SHAPE))
    assert build_labelled_store(task, [0], tmp_path / "s", needs_every_class=False).case(0).foreground == {}


def test_no_cases(task, tmp_path):
    with pytest.raises(DataError, match="no cases to train on"):
        build_labelled_store(task, [], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_another_format_is_built_again(task, tmp_path):
    build_labelled_store(task, [0], tmp_path)
    facts = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(facts | {"format_version": 0, "cases": []}))
    assert len(build_labelled_store(task, [0], tmp_path)) == 1


def test_a_case_without_mask(tmp_path):
    write_png(tmp_path / "1.png")
    write_png(tmp_path / "2.png")
    write_mask(tmp_path / "m.png", (20, 24))
    (tmp_path / "cases.csv").write_text("image,mask\n1.png,\n2.png,m.png\n")
    task = load_segmentation_task(tmp_path / "cases.csv")
    assert build_labelled_store(task, [0, 1], tmp_path / "s").problems == (("1", f"{tmp_path}/1.png: has no mask"),)
