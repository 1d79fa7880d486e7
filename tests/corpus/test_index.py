import json
import os
import pickle

import numpy as np
import pytest

from factories import smooth_volume, write_nifti_file, write_png
from scanlore.corpus.index import Corpus
from scanlore.errors import DataError
from scanlore.scans.intensity import intensity_stats


@pytest.fixture
def corpus(tmp_path, scans, build_corpus):
    write_png(scans / "image.png", (20, 24))
    build_corpus(scans, tmp_path / "C")
    return Corpus(tmp_path / "C")


def test_entry_and_voxels_are_the_scans(corpus):
    stored = corpus.select(ndim=3)
    entry, pyramid = stored.entry(0), stored.pyramid(0)
    voxels = (smooth_volume((12, 14, 10), seed=0) * 1000).astype(np.int16)
    box = tuple(
        slice(start, start + edge) for start, edge in zip(corpus.frame()["box_start"][1], entry.shape, strict=True)
    )
    assert (len(stored), entry.scan_shape, entry.through_axis, entry.spacing) == (3, (12, 14, 10), 2, (1, 1, 1))
    assert entry.stats == intensity_stats(voxels)
    assert pyramid.shape(0) == entry.shape
    values = pyramid.read(0, (slice(None),) * 3) * pyramid.slope + pyramid.intercept
    np.testing.assert_array_equal(values, voxels[box])


def test_select_by_axes_and_slices(corpus):
    assert [len(corpus.select(ndim)) for ndim in (None, 2, 3)] == [4, 1, 3]
    assert len(corpus.select(3, slices_above=9)) == 3
    assert len(corpus.select(3, slices_above=10)) == 0
    assert len(corpus.select(None, slices_above=10)) == 1


def test_image_entry(corpus):
    entry = corpus.select(ndim=2).entry(0)
    assert (entry.scan_shape, entry.through_axis, entry.spacing) == ((20, 24), None, None)


def test_stored_scans_pickle(corpus):
    stored = corpus.select()
    assert pickle.loads(pickle.dumps(stored)).entry(2) == stored.entry(2)


def test_fingerprint_follows_the_contents(tmp_path, corpus, scans, build_corpus):
    before = corpus.fingerprint()
    assert Corpus(corpus.root).fingerprint() == before
    write_nifti_file(scans / "new.nii.gz", seed=9)
    build_corpus(scans, corpus.root)
    assert Corpus(corpus.root).fingerprint() != before


def test_no_corpus(tmp_path):
    with pytest.raises(DataError, match="is no corpus"):
        Corpus(tmp_path)


def test_unfinished_corpus(corpus):
    (corpus.root / "journal.jsonl").touch()
    with pytest.raises(DataError, match="unfinished"):
        Corpus(corpus.root)


def test_corpus_without_index(corpus):
    (corpus.root / "index.parquet").unlink()
    with pytest.raises(DataError, match="unfinished"):
        Corpus(corpus.root)


def test_other_format(corpus):
    path = corpus.root / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(DataError, match="store format 99"):
        Corpus(corpus.root)


def test_damaged_manifest(corpus):
    (corpus.root / "corpus.json").write_text('{"format_ver')
    with pytest.raises(DataError, match="damaged"):
        Corpus(corpus.root)


def test_damaged_index(corpus):
    (corpus.root / "index.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError) as error:
        Corpus(corpus.root).select()
    assert "\n" not in str(error.value)


def test_missing_or_short_shard_is_refused_before_training(corpus):
    path = corpus.root / "shards" / "00000.b2s"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match="shard 00000 is damaged"):
        corpus.select()
    path.unlink()
    with pytest.raises(DataError, match="shard 00000 is missing"):
        corpus.select()
