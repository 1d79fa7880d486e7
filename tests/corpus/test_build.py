import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corpora import SMALL, given_of, rows_by_name
from factories import smooth_volume, write_dicom_series, write_nifti_file, write_png
from scanlore.corpus.build import BuildPlan, build
from scanlore.corpus.index import Corpus
from scanlore.corpus.settings import Curation
from scanlore.corpus.store import ShardWriter
from scanlore.errors import ConfigError, DataError

VOXELS = np.arange(12 * 14 * 10).reshape(12, 14, 10)


def statuses(out, folder):
    return {name: (row["status"], row["reason"]) for (name, _), row in rows_by_name(out, folder).items()}


def test_kept_dropped_and_failed_rows(tmp_path, build_corpus):
    folder = tmp_path / "in"
    write_nifti_file(folder / "good.nii.gz")
    write_nifti_file(folder / "thin.nii.gz", (12, 14, 4))
    write_nifti_file(folder / "constant.nii.gz", voxels=np.full((12, 14, 10), 7))
    broken = write_nifti_file(folder / "truncated.nii.gz", seed=1)
    os.truncate(broken, broken.stat().st_size // 2)
    result = build_corpus(folder, tmp_path / "C")
    assert result.counts == {"kept": 1, "dropped": 2, "failed": 1}
    assert result.num_new == 4
    assert [Path(name).name for name, _ in result.failed] == ["truncated.nii.gz"]
    found = statuses(tmp_path / "C", folder)
    assert found["good.nii.gz"] == ("kept", None)
    assert found["thin.nii.gz"] == ("dropped", "4 slices (slices_above: 4)")
    assert found["constant.nii.gz"] == ("dropped", "empty or constant (drop_constant)")
    assert found["truncated.nii.gz"][0] == "failed"
    assert "\n" not in found["truncated.nii.gz"][1]


def test_scans_that_are_dropped_are_stored(tmp_path, build_corpus):
    write_nifti_file(tmp_path / "in" / "good.nii.gz")
    write_nifti_file(tmp_path / "in" / "thin.nii.gz", (12, 14, 4))
    build_corpus(tmp_path / "in", tmp_path / "C")
    build_corpus(tmp_path / "in", tmp_path / "C", rules={"slices_above": 3})
    stored = Corpus(tmp_path / "C").select()
    assert [stored.entry(index).scan_shape for index in range(2)] == [(12, 14, 10), (12, 14, 4)]
    assert stored.pyramid(1).read(0, (slice(None),) * 3).any()


def test_duplicates_across_formats_and_dtypes(tmp_path, build_corpus):
    folder = tmp_path / "in"
    write_nifti_file(folder / "a.nii.gz", voxels=VOXELS)
    write_nifti_file(folder / "b.nii", voxels=VOXELS, dtype="float32")
    write_nifti_file(folder / "c.nii", voxels=VOXELS[::-1, ::-1], axcodes="LPS")
    write_nifti_file(folder / "d.nii", voxels=VOXELS + 1)
    write_dicom_series(folder / "series")
    volume = (smooth_volume((10, 12, 14)) * 1000).astype(np.uint16)
    write_nifti_file(folder / "x.nii", voxels=volume.transpose(2, 1, 0), axcodes="LPS")
    build_corpus(folder, tmp_path / "C")
    found = statuses(tmp_path / "C", folder)
    keys = {one.source.path.name: one.key for one in given_of(folder)}
    reason = f"duplicate of {keys['a.nii.gz']} (drop_duplicates)"
    assert found["b.nii"] == found["c.nii"] == ("dropped", reason)
    assert found["a.nii.gz"] == found["d.nii"] == found["series"] == ("kept", None)
    assert found["x.nii"] == ("dropped", f"duplicate of {keys['series']} (drop_duplicates)")


def test_duplicates_are_stored_once_and_can_be_kept(tmp_path, build_corpus):
    for name in "ab":
        write_nifti_file(tmp_path / "in" / f"{name}.nii", voxels=VOXELS)
    rules = SMALL | {"drop_duplicates": False}
    assert build_corpus(tmp_path / "in", tmp_path / "C", rules=rules).counts["kept"] == 2
    first, second = Corpus(tmp_path / "C").frame()["level_offsets"].to_list()
    assert first == second


def test_channels_are_rows(tmp_path, build_corpus):
    write_nifti_file(tmp_path / "in" / "a.nii.gz", channels=3)
    build_corpus(tmp_path / "in", tmp_path / "C")
    found = rows_by_name(tmp_path / "C", tmp_path / "in")
    assert sorted(found) == [("a.nii.gz", 0), ("a.nii.gz", 1), ("a.nii.gz", 2)]
    assert {row["status"] for row in found.values()} == {"kept"}
    assert len({row["id"] for row in found.values()}) == 3


def test_images(tmp_path, build_corpus):
    write_png(tmp_path / "in" / "grey.png", (20, 24))
    write_png(tmp_path / "in" / "deep.png", (20, 24), seed=5, bits=16)
    assert build_corpus(tmp_path / "in", tmp_path / "C").counts["kept"] == 2
    assert {row["ndim"] for row in rows_by_name(tmp_path / "C", tmp_path / "in").values()} == {2}


def test_second_call_does_nothing(tmp_path, scans, build_corpus, voxel_files):
    assert build_corpus(scans, tmp_path / "C").num_new == 3
    before = voxel_files(tmp_path / "C")
    again = build_corpus(scans, tmp_path / "C")
    assert (again.num_new, again.counts["kept"]) == (0, 3)
    assert voxel_files(tmp_path / "C") == before


def test_new_file_is_added(tmp_path, scans, build_corpus):
    build_corpus(scans, tmp_path / "C")
    write_nifti_file(scans / "another.nii.gz", seed=7)
    result = build_corpus(scans, tmp_path / "C")
    assert (result.num_new, result.counts["kept"]) == (1, 4)
    stored = Corpus(tmp_path / "C").select()
    for index, seed in enumerate((0, 1, 2, 7)):
        largest = (smooth_volume((12, 14, 10), seed) * 1000).astype(np.int16).sum()
        assert stored.pyramid(index).read(0, (slice(None),) * 3).sum() == largest


def test_changed_file_is_read_again(tmp_path, scans, build_corpus):
    build_corpus(scans, tmp_path / "C")
    before = rows_by_name(tmp_path / "C", scans)
    write_nifti_file(scans / "scan1.nii.gz", seed=8)
    assert build_corpus(scans, tmp_path / "C").num_new == 1
    after = rows_by_name(tmp_path / "C", scans)
    assert after["scan1.nii.gz", 0]["id"] != before["scan1.nii.gz", 0]["id"]
    assert after["scan0.nii.gz", 0] == before["scan0.nii.gz", 0]
    assert len(after) == 3


def test_touched_file_is_no_duplicate_of_itself(tmp_path, scans, build_corpus):
    build_corpus(scans, tmp_path / "C")
    os.utime(scans / "scan1.nii.gz", ns=(1, 1))
    result = build_corpus(scans, tmp_path / "C")
    assert (result.num_new, result.counts) == (1, {"kept": 3, "dropped": 0, "failed": 0})


def test_duplicate_stays_when_its_twin_changes(tmp_path, scans, build_corpus):
    shutil.copy(scans / "scan0.nii.gz", scans / "twin.nii.gz")
    assert build_corpus(scans, tmp_path / "C").counts["dropped"] == 1
    write_nifti_file(scans / "scan0.nii.gz", seed=8)
    assert build_corpus(scans, tmp_path / "C").counts == {"kept": 4, "dropped": 0, "failed": 0}


def test_mended_file_is_read_again(tmp_path, scans, build_corpus):
    (scans / "scan1.nii.gz").write_bytes(b"nothing")
    assert build_corpus(scans, tmp_path / "C").counts["failed"] == 1
    write_nifti_file(scans / "scan1.nii.gz", seed=1)
    assert build_corpus(scans, tmp_path / "C").counts == {"kept": 3, "dropped": 0, "failed": 0}


def test_two_workers_write_the_same_bytes(tmp_path, scans, build_corpus, voxel_files):
    shutil.copy(scans / "scan0.nii.gz", scans / "twin.nii.gz")
    build_corpus(scans, tmp_path / "one")
    build_corpus(scans, tmp_path / "two", workers=2)
    assert voxel_files(tmp_path / "one") == voxel_files(tmp_path / "two")


# A kill, at moments chosen in the forked children of one process that has done nothing before
KILLED = """
import os, signal, sys
from pathlib import Path
import scanlore.corpus.build as module
import scanlore.corpus.journal as journals
import scanlore.corpus.flags as flags
import scanlore.corpus.place as place
from corpora import build_tiny

append, record, index = journals.ShardWriter.append, journals.Journal._append, flags.write_index
calls = []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying_append(writer, frames):
    calls.append(1)
    if len(calls) == 2:
        append(writer, frames[:1])
        die()
    return append(writer, frames)

def dying_record(journal, rows, writer, half):
    calls.append(1)
    record(journal, rows, writer)
    if len(calls) == 3:
        size = journal.path.stat().st_size
        os.truncate(journal.path, size - 40 * half)
        die()

def dying_first_line(journal, rows, writer):
    record(journal, rows, writer)
    os.truncate(journal.path, 5)
    die()

def begin(moment):
    if moment == "no manifest":
        write = place.write_atomically
        place.write_atomically = lambda path, text: die() if path.name == "corpus.json" else write(path, text)
    elif moment == "begun":
        module.Journal = lambda *args, **more: die()
    elif moment == "first line":
        journals.Journal._append = dying_first_line
    elif moment == "voxels":
        journals.ShardWriter.append = dying_append
    elif moment in ("line", "half a line"):
        journals.Journal._append = lambda *args: dying_record(*args, moment != "line")
    elif moment == "before the index":
        flags.write_index = lambda *args: die()
    elif moment == "behind the index":
        flags.write_index = lambda *args: (index(*args), die())

for moment in sys.argv[3:]:
    child = os.fork()
    if child == 0:
        begin(moment)
        build_tiny(Path(sys.argv[1]), Path(sys.argv[2]) / moment)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, moment
"""
MOMENTS = ["begun", "first line", "voxels", "line", "half a line", "before the index", "behind the index"]


def kill_builds(scans, folder, moments):
    command = [sys.executable, "-c", KILLED, str(scans), str(folder), *moments]
    place = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": place})


def test_killed_builds_go_on_to_the_same_bytes(tmp_path, scans, build_corpus, voxel_files):
    shutil.copy(scans / "scan0.nii.gz", scans / "twin.nii.gz")
    build_corpus(scans, tmp_path / "whole")
    moments = ["no manifest", *MOMENTS]
    kill_builds(scans, tmp_path / "killed", moments)
    for moment in moments:
        out = tmp_path / "killed" / moment
        with pytest.raises(DataError, match=r"unfinished|is no corpus"):
            Corpus(out)
        build_corpus(scans, out)
        assert voxel_files(out) == voxel_files(tmp_path / "whole"), moment
        assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


def test_killed_additions_go_on_to_the_same_bytes(tmp_path, scans, build_corpus, voxel_files):
    shutil.copy(scans / "scan0.nii.gz", scans / "scan00.nii.gz")
    build_corpus(scans, tmp_path / "whole")
    for moment in MOMENTS:
        shutil.copytree(tmp_path / "whole", tmp_path / "killed" / moment)
    os.utime(scans / "scan0.nii.gz", ns=(1, 1))
    write_nifti_file(scans / "scan1.nii.gz", seed=8)
    for seed in (5, 6):
        write_nifti_file(scans / f"scan{seed}.nii.gz", seed=seed)
    build_corpus(scans, tmp_path / "whole")
    kill_builds(scans, tmp_path / "killed", MOMENTS)
    for moment in MOMENTS:
        build_corpus(scans, tmp_path / "killed" / moment)
        assert voxel_files(tmp_path / "killed" / moment) == voxel_files(tmp_path / "whole"), moment


def test_lost_voxels_are_read_again(tmp_path, scans, build_corpus, voxel_files, monkeypatch):
    """A machine that goes down may lose voxels that the journal names."""
    build_corpus(scans, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("scanlore.corpus.flags.write_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_corpus(scans, tmp_path / "C")
    ends = [json.loads(line)["end"] for line in (tmp_path / "C" / "journal.jsonl").read_text().splitlines()]
    os.truncate(tmp_path / "C" / "shards" / "00000.b2s", ends[1] + 10)
    assert build_corpus(scans, tmp_path / "C").num_new == 2
    assert voxel_files(tmp_path / "C") == voxel_files(tmp_path / "whole")


def test_torn_line_is_cut_off_before_the_next_is_written(tmp_path, scans, build_corpus, voxel_files, monkeypatch):
    build_corpus(scans, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("scanlore.corpus.flags.write_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_corpus(scans, tmp_path / "C")
        journal = tmp_path / "C" / "journal.jsonl"
        os.truncate(journal, journal.stat().st_size - 30)
        with pytest.raises(ZeroDivisionError):
            build_corpus(scans, tmp_path / "C")
    assert build_corpus(scans, tmp_path / "C").num_new == 0
    assert voxel_files(tmp_path / "C") == voxel_files(tmp_path / "whole")


def test_full_disk_is_one_line_and_the_next_call_finishes(tmp_path, scans, build_corpus, voxel_files, monkeypatch):
    build_corpus(scans, tmp_path / "whole")
    append, calls = ShardWriter.append, []

    def full(writer, frames):
        calls.append(1)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(writer, frames)

    with monkeypatch.context() as patched:
        patched.setattr(ShardWriter, "append", full)
        with pytest.raises(DataError, match="the disk is full") as error:
            build_corpus(scans, tmp_path / "C")
    assert "\n" not in str(error.value)
    assert build_corpus(scans, tmp_path / "C").num_new == 2
    assert voxel_files(tmp_path / "C") == voxel_files(tmp_path / "whole")


def test_other_rules_change_flags_and_read_nothing(tmp_path, scans, build_corpus, voxel_files):
    build_corpus(scans, tmp_path / "C")
    before = voxel_files(tmp_path / "C")
    with pytest.raises(DataError, match="no scan is kept: 3 x too few slices"):
        build_corpus(scans, tmp_path / "C", rules={"slices_above": 10})
    assert set(Corpus(tmp_path / "C").frame()["reason"]) == {"10 slices (slices_above: 10)"}
    assert build_corpus(scans, tmp_path / "C").num_new == 0
    assert voxel_files(tmp_path / "C") == before


def test_foreign_folder_is_refused_and_left_alone(tmp_path, scans, build_corpus):
    with pytest.raises(ConfigError, match="is no corpus"):
        build_corpus(scans, scans)
    assert {path.suffix for path in scans.iterdir()} == {".gz"}


def test_file_as_out_is_refused(tmp_path, scans, build_corpus):
    with pytest.raises(ConfigError, match="is no corpus"):
        build_corpus(scans, scans / "scan0.nii.gz")


def test_two_builds_at_once_are_refused(tmp_path, scans, build_corpus):
    build_corpus(scans, tmp_path / "C")
    with (tmp_path / "C" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process"):
            build_corpus(scans, tmp_path / "C")


def test_progress_counts_the_sources(tmp_path, scans):
    seen = []
    build(given_of(scans), tmp_path / "C", BuildPlan(Curation(slices_above=4)), (), lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("has_new", [False, True])
def test_damaged_shard_is_refused_with_and_without_new_scans(tmp_path, scans, build_corpus, has_new):
    build_corpus(scans, tmp_path / "C")
    shard = tmp_path / "C" / "shards" / "00000.b2s"
    os.truncate(shard, shard.stat().st_size - 1)
    if has_new:
        write_nifti_file(scans / "new.nii.gz", seed=9)
    with pytest.raises(DataError, match=r"shard 00000 is damaged: .*corpus verify"):
        build_corpus(scans, tmp_path / "C")


def test_sources_that_are_gone_are_counted(tmp_path, scans, build_corpus):
    for seed in (5, 6):
        for path in write_dicom_series(scans / str(seed), seed=seed).iterdir():
            path.rename(scans / f"{seed}{path.name}")
    assert build_corpus(scans, tmp_path / "C").num_gone == 0
    (scans / "scan1.nii.gz").unlink()
    assert build_corpus(scans, tmp_path / "C").num_gone == 1


def test_failed_rows_say_how_to_mend_them(tmp_path, scans, build_corpus):
    for seed in (3, 4):
        write_nifti_file(scans / f"{seed}.nii", seed=seed).rename(scans / f"{seed}.nii.gz")
    result = build_corpus(scans, tmp_path / "C")
    assert result.failed[0][1].endswith("(rename it .nii)")
    assert result.rules == {"not a gzip file but a plain NIfTI file": 2}


def test_every_file_is_accounted_for(tmp_path, scans, build_corpus):
    write_dicom_series(scans / "series")
    (scans / "broken.nii").write_bytes(b"nothing")
    skipped = [(scans / "notes.txt", "not a scan")]
    build_corpus(scans, tmp_path / "C", skipped=skipped)
    account = json.loads((tmp_path / "C" / "data.json").read_text())
    num_slices = len(list((scans / "series").iterdir()))
    assert account["num_files"] == 3 + num_slices + 1 + 1
    assert (account["num_scans"], account["num_rows"]) == (5, {"kept": 4, "dropped": 0, "failed": 1})
    assert [len(account[name]) for name in ("failed", "skipped")] == [1, 1]


def test_names_of_datasets_reach_scans_that_are_known(tmp_path, scans, build_corpus):
    build_corpus(scans, tmp_path / "C")
    assert build_corpus(scans, tmp_path / "C", dataset="ours", licence="CC-BY-4.0").num_new == 0
    assert set(Corpus(tmp_path / "C").frame()["dataset"]) == {"ours"}


def test_a_file_that_kills_its_reader_is_one_failed_scan(tmp_path, scans, monkeypatch):
    """The forkserver's children unpickle what they are sent, and die of this one wherever they meet it."""
    given = given_of(scans)
    deadly = replace(given[1], origin=Deadly())
    result = build([given[0], deadly, given[2]], tmp_path / "C", BuildPlan(Curation.model_validate(SMALL), 2))
    assert result.counts == {"kept": 2, "dropped": 0, "failed": 1}
    assert result.failed[0][1].startswith("reader crashed: ")


class Deadly:
    assume_spacing = dataset = licence = None

    def __reduce__(self):
        return os._exit, (1,)
