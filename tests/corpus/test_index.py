import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from scanlore.corpus.index import FORMAT_VERSION, STATS, Corpus, index_frame, read_index, schema, write_index
from scanlore.corpus.store import ShardWriter, encode
from scanlore.errors import DataError

VOXELS = np.arange(12 * 14 * 10, dtype=np.int16).reshape(12, 14, 10)


def entry_row(writer, number, ndim=3, **facts):
    levels, factors, spacing = [VOXELS, VOXELS[::2, ::2]], [1, 1, 1, 2, 2, 1], [1.0, 1.0, 2.5]
    if ndim == 2:
        levels, factors, spacing = [VOXELS[0], VOXELS[0, ::2, ::2]], [1, 1, 2, 2], None
    shape = list(levels[0].shape)
    return {
        **{"source": f"{number:016x}", "id": f"{number:032x}", "status": "kept", "ndim": ndim, "channel": 0},
        **{"scan_shape": shape, "shape": shape, "spacing": spacing, "through_axis": 2 if ndim == 3 else None},
        **{"slope": 2.0, "intercept": -1.0, "shard": writer.shard, "level_factors": factors},
        "level_offsets": writer.append([encode(level) for level in levels]),
        **{name: float(place) for place, name in enumerate(STATS)},
        **facts,
    }


@pytest.fixture
def corpus(tmp_path):
    writer = ShardWriter(tmp_path)
    rows = [entry_row(writer, number, split="test" if number else "train") for number in range(3)]
    rows += [entry_row(writer, 3, ndim=2), entry_row(writer, 4, status="dropped"), {"source": "5", "status": "failed"}]
    writer.close()
    write_index(tmp_path, index_frame(rows))
    (tmp_path / "corpus.json").write_text(json.dumps({"format_version": FORMAT_VERSION, "salt": "", "rules": {}}))
    return Corpus(tmp_path)


def test_entry_and_voxels(corpus):
    stored = corpus.select(ndim=3)
    entry, pyramid = stored.entry(1), stored.pyramid(1)
    assert (len(stored), entry.id) == (3, f"{1:032x}")
    assert (entry.shape, entry.scan_shape) == ((12, 14, 10), (12, 14, 10))
    assert (entry.through_axis, entry.spacing, entry.stats.p95) == (2, (1.0, 1.0, 2.5), 6.0)
    assert (pyramid.factors, pyramid.slope, pyramid.intercept) == (((1, 1, 1), (2, 2, 1)), 2.0, -1.0)
    np.testing.assert_array_equal(pyramid.read(0, (slice(None),) * 3), VOXELS)


def test_image_entry(corpus):
    entry = corpus.select(ndim=2).entry(0)
    assert (entry.scan_shape, entry.through_axis, entry.spacing) == ((14, 10), None, None)


def test_select_by_axes_slices_and_split(corpus):
    assert [len(corpus.select(ndim)) for ndim in (None, 2, 3)] == [4, 1, 3]
    assert [len(corpus.select(3, slices_above=slices)) for slices in (9, 10)] == [3, 0]
    assert len(corpus.select(None, slices_above=10)) == 1
    assert corpus.select(split="test").content_ids == [f"{number:032x}" for number in (1, 2)]


def test_no_such_split(corpus):
    with pytest.raises(DataError, match="splits: test, train; did you mean 'test'"):
        corpus.select(split="tets")


def test_without(corpus):
    left = corpus.select().without({f"{1:032x}", "other"})
    assert [entry.id[-1] for entry in map(left.entry, range(len(left)))] == ["0", "2", "3"]
    assert left.pyramid(1).levels == corpus.select().pyramid(2).levels


def test_stored_scans_pickle_small(corpus):
    stored = corpus.select()
    assert pickle.loads(pickle.dumps(stored)).entry(2) == stored.entry(2)
    assert all(not isinstance(column, list) for column in stored.columns.values())


def test_fingerprint_follows_the_kept_contents_and_splits(corpus):
    before, split = corpus.fingerprint(), corpus.fingerprint("train")
    frame = corpus.frame()
    write_index(corpus.root, frame.reverse().reverse())
    assert (corpus.fingerprint(), corpus.fingerprint("train")) == (before, split)
    write_index(corpus.root, frame.slice(1))
    assert before != corpus.fingerprint()


def test_index_has_its_columns_and_no_others(corpus):
    frame = corpus.frame(["source", "status"])
    write_index(corpus.root, frame.with_columns(name=frame["source"]))
    assert read_index(corpus.root).schema == schema()


def test_no_corpus(tmp_path):
    with pytest.raises(DataError, match="is no corpus"):
        Corpus(tmp_path)


@pytest.mark.parametrize("change", [lambda path: path.rename(path.with_name("journal.jsonl")), Path.unlink])
def test_unfinished_corpus(corpus, change):
    change(corpus.root / "index.parquet")
    with pytest.raises(DataError, match="unfinished"):
        Corpus(corpus.root)


VERSIONS = [
    ('{"format_version": 1}', "store format 1"),
    ('{"format_ver', "damaged"),
    ('{"format_version": 2}', "damaged"),
]


@pytest.mark.parametrize(("text", "message"), VERSIONS)
def test_manifest_of_another_version_or_damaged(corpus, text, message):
    (corpus.root / "corpus.json").write_text(text)
    with pytest.raises(DataError, match=message):
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
