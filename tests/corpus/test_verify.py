import os

import polars as pl
import pytest

from factories import write_nifti_file
from scanlore.corpus.index import Corpus
from scanlore.corpus.store import shard_path
from scanlore.corpus.verify import damaged


@pytest.fixture
def corpus(scans, tmp_path, build_corpus):
    build_corpus(scans, tmp_path / "C")
    return tmp_path / "C", Corpus(tmp_path / "C").frame()


def flip(root, offset):
    with shard_path(root, 0).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def test_a_sound_corpus(corpus):
    assert damaged(*corpus) == []


@pytest.mark.parametrize("place", [0, 20, 17, 300])
def test_one_flipped_bit_anywhere(corpus, place):
    root, frame = corpus
    flip(root, frame["level_offsets"][1][0] + place)
    assert damaged(root, frame) == [1]


def test_the_last_byte_and_a_truncated_shard(corpus):
    root, frame = corpus
    size = shard_path(root, 0).stat().st_size
    flip(root, size - 1)
    assert damaged(root, frame) == [2]
    os.truncate(shard_path(root, 0), frame["level_offsets"][2][0] - 1)
    assert damaged(root, frame) == [1, 2]


def test_every_level_counts(tmp_path, build_corpus):
    write_nifti_file(tmp_path / "in" / "a.nii.gz", (40, 40, 40))
    build_corpus(tmp_path / "in", tmp_path / "C")
    frame = Corpus(tmp_path / "C").frame()
    offsets = frame["level_offsets"][0].to_list()
    assert len(offsets) > 2
    for offset in offsets:
        assert damaged(tmp_path / "C", frame) == []
        flip(tmp_path / "C", offset + 100)
        assert damaged(tmp_path / "C", frame) == [0]
        flip(tmp_path / "C", offset + 100)


def test_a_missing_shard(corpus):
    root, frame = corpus
    shard_path(root, 0).unlink()
    assert damaged(root, frame) == [0, 1, 2]


def test_rows_without_voxels_are_passed_and_twins_share_their_damage(corpus):
    root, frame = corpus
    lost = frame.head(1).with_columns(pl.lit(None, pl.Int64).alias("shard"))
    frame = pl.concat([lost, frame, frame])
    flip(root, frame["level_offsets"][2][-1] + 40)
    assert damaged(root, frame) == [2, 5]


def test_blocks_are_put_together(corpus, monkeypatch):
    monkeypatch.setattr("scanlore.corpus.verify.BLOCK_BYTES", 100)
    assert damaged(*corpus) == []
