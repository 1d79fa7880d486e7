import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from factories import smooth_volume, write_dicom_series, write_nifti_file, write_png
from scanlore.corpus.index import Corpus
from scanlore.corpus.settings import CorpusSettings
from scanlore.corpus.store import ShardWriter
from scanlore.errors import ConfigError, DataError
from scanlore.verbs.corpus_build import build_corpus as build_corpus_verb
from scanlore.verbs.corpus_show import show_corpus

VOXELS = np.arange(12 * 14 * 10).reshape(12, 14, 10)


def rows(out):
    return {(Path(row["source"]).name, row["channel"]): row for row in Corpus(out).frame().to_dicts()}


def statuses(out):
    return {name: (row["status"], row["reason"]) for (name, _), row in rows(out).items()}


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
    found = statuses(tmp_path / "C")
    assert found["good.nii.gz"] == ("kept", None)
    assert found["thin.nii.gz"] == ("dropped", "4 slices (slices_above: 4)")
    assert found["constant.nii.gz"] == ("dropped", "empty or constant (drop_constant)")
    assert found["truncated.nii.gz"][0] == "failed"
    assert "\n" not in found["truncated.nii.gz"][1]


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
    found = statuses(tmp_path / "C")
    reason = f"duplicate of {folder / 'a.nii.gz'} (drop_duplicates)"
    assert found["b.nii"] == found["c.nii"] == ("dropped", reason)
    assert found["a.nii.gz"] == found["d.nii"] == found["series"] == ("kept", None)
    assert found["x.nii"] == ("dropped", f"duplicate of {folder / 'series'} (drop_duplicates)")


def test_duplicates_can_be_kept(tmp_path, build_corpus):
    for name in "ab":
        write_nifti_file(tmp_path / "in" / f"{name}.nii", voxels=VOXELS)
    settings = CorpusSettings.model_validate({"curation": {"slices_above": 4, "drop_duplicates": False}})
    assert build_corpus(tmp_path / "in", tmp_path / "C", settings=settings).counts["kept"] == 2


def test_channels_are_rows(tmp_path, build_corpus):
    write_nifti_file(tmp_path / "in" / "a.nii.gz", channels=3)
    build_corpus(tmp_path / "in", tmp_path / "C")
    found = rows(tmp_path / "C")
    assert sorted(found) == [("a.nii.gz", 0), ("a.nii.gz", 1), ("a.nii.gz", 2)]
    assert {row["status"] for row in found.values()} == {"kept"}
    assert len({row["id"] for row in found.values()}) == 3


def test_images(tmp_path, build_corpus):
    write_png(tmp_path / "in" / "grey.png", (20, 24))
    write_png(tmp_path / "in" / "deep.png", (20, 24), seed=5, bits=16)
    assert build_corpus(tmp_path / "in", tmp_path / "C").counts["kept"] == 2
    assert {row["ndim"] for row in rows(tmp_path / "C").values()} == {2}


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
    before = rows(tmp_path / "C")
    write_nifti_file(scans / "scan1.nii.gz", seed=8)
    assert build_corpus(scans, tmp_path / "C").num_new == 1
    after = rows(tmp_path / "C")
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
from scanlore.corpus.settings import CorpusSettings
from scanlore.scans.find import find_sources

SETTINGS = CorpusSettings.model_validate_json(sys.argv[3])
append, record, index = module.ShardWriter.append, module._Journal.append, module.write_index
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
        write = module.write_atomically
        module.write_atomically = lambda path, text: die() if path.name == "corpus.json" else write(path, text)
    elif moment == "begun":
        module._read_rows = lambda out: die()
    elif moment == "first line":
        module._Journal.append = dying_first_line
    elif moment == "voxels":
        module.ShardWriter.append = dying_append
    elif moment in ("line", "half a line"):
        module._Journal.append = lambda *args: dying_record(*args, moment != "line")
    elif moment == "before the index":
        module.write_index = lambda *args: die()
    elif moment == "behind the index":
        module.write_index = lambda *args: (index(*args), die())

for moment in sys.argv[4:]:
    child = os.fork()
    if child == 0:
        begin(moment)
        module.build(find_sources([Path(sys.argv[1])])[0], Path(sys.argv[2]) / moment, SETTINGS, 1)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, moment
"""
MOMENTS = ["begun", "first line", "voxels", "line", "half a line", "before the index", "behind the index"]


def kill_builds(scans, folder, settings, moments):
    command = [sys.executable, "-c", KILLED, str(scans), str(folder), settings.model_dump_json(), *moments]
    subprocess.run(command, check=True)


def test_killed_builds_go_on_to_the_same_bytes(tmp_path, scans, build_corpus, voxel_files):
    settings = CorpusSettings.model_validate({"curation": {"slices_above": 4}})
    shutil.copy(scans / "scan0.nii.gz", scans / "twin.nii.gz")
    build_corpus(scans, tmp_path / "whole", settings=settings)
    moments = ["no manifest", *MOMENTS]
    kill_builds(scans, tmp_path / "killed", settings, moments)
    for moment in moments:
        out = tmp_path / "killed" / moment
        with pytest.raises(DataError, match=r"unfinished|is no corpus"):
            Corpus(out)
        build_corpus(scans, out, settings=settings)
        assert voxel_files(out) == voxel_files(tmp_path / "whole"), moment
        assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


def test_killed_additions_go_on_to_the_same_bytes(tmp_path, scans, build_corpus, voxel_files):
    settings = CorpusSettings.model_validate({"curation": {"slices_above": 4}})
    shutil.copy(scans / "scan0.nii.gz", scans / "scan00.nii.gz")
    build_corpus(scans, tmp_path / "whole", settings=settings)
    for moment in MOMENTS:
        shutil.copytree(tmp_path / "whole", tmp_path / "killed" / moment)
    os.utime(scans / "scan0.nii.gz", ns=(1, 1))
    write_nifti_file(scans / "scan1.nii.gz", seed=8)
    for seed in (5, 6):
        write_nifti_file(scans / f"scan{seed}.nii.gz", seed=seed)
    build_corpus(scans, tmp_path / "whole", settings=settings)
    kill_builds(scans, tmp_path / "killed", settings, MOMENTS)
    for moment in MOMENTS:
        build_corpus(scans, tmp_path / "killed" / moment, settings=settings)
        assert voxel_files(tmp_path / "killed" / moment) == voxel_files(tmp_path / "whole"), moment


def test_lost_voxels_are_read_again(tmp_path, scans, build_corpus, voxel_files, monkeypatch):
    """A machine that goes down may lose voxels that the journal names."""
    build_corpus(scans, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("scanlore.corpus.build.write_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_corpus(scans, tmp_path / "C")
    ends = [json.loads(line)["end"] for line in (tmp_path / "C" / "journal.jsonl").read_text().splitlines()]
    os.truncate(tmp_path / "C" / "shards" / "00000.b2s", ends[1] + 10)
    assert build_corpus(scans, tmp_path / "C").num_new == 2
    assert voxel_files(tmp_path / "C") == voxel_files(tmp_path / "whole")


def test_torn_line_is_cut_off_before_the_next_is_written(tmp_path, scans, build_corpus, voxel_files, monkeypatch):
    build_corpus(scans, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("scanlore.corpus.build.write_index", lambda *_: 1 / 0)
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


class DeadlyToUnpickle:
    def __reduce__(self):
        return os._exit, (1,)


def test_dead_worker_is_one_line(tmp_path, scans, build_corpus, monkeypatch):
    monkeypatch.setattr("scanlore.corpus.build._begin", lambda *_: DeadlyToUnpickle())
    with pytest.raises(DataError, match=r"a worker died.* near .*scan0.nii.gz") as error:
        build_corpus(scans, tmp_path / "C", workers=2)
    assert "\n" not in str(error.value)


def test_other_settings_are_refused_with_the_key(tmp_path, scans, build_corpus):
    build_corpus(scans, tmp_path / "C")
    with pytest.raises(ConfigError, match=r"curation\.slices_above: 4 -> 24"):
        build_corpus(scans, tmp_path / "C", settings=CorpusSettings())


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


def test_nothing_fit_to_be_kept_is_refused(tmp_path, build_corpus):
    write_nifti_file(tmp_path / "in" / "thin.nii.gz", (12, 14, 3))
    with pytest.raises(DataError, match="no scan is fit to be kept: 1 x too few slices"):
        build_corpus(tmp_path / "in", tmp_path / "C")


def test_patient_is_a_salted_hash_and_no_header_text_stays(tmp_path, build_corpus):
    for number in range(3):
        patient = "ZZYZX^OTHER" if number == 2 else "ZZYZX^JANE"
        write_dicom_series(tmp_path / "in" / f"s{number}", seed=number, patient=patient)
    for name in ("C", "D"):
        build_corpus(tmp_path / "in", tmp_path / name)
    first, second = (Corpus(tmp_path / name).frame()["patient"].to_list() for name in ("C", "D"))
    assert first[0] == first[1] != first[2]
    assert set(first).isdisjoint(second)
    for path in (path for path in (tmp_path / "C").rglob("*") if path.is_file()):
        assert b"ZZYZX" not in path.read_bytes(), path
    assert (tmp_path / "C" / "salt").stat().st_mode & 0o077 == 0


def test_progress_counts_the_sources(tmp_path, scans):
    from scanlore.corpus.build import build
    from scanlore.scans.find import find_sources

    seen = []
    settings = CorpusSettings.model_validate({"curation": {"slices_above": 4}})
    build(find_sources([scans])[0], tmp_path / "C", settings, 1, lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("has_new", [False, True])
def test_damaged_shard_is_refused_with_and_without_new_scans(tmp_path, scans, build_corpus, has_new):
    build_corpus(scans, tmp_path / "C")
    shard = tmp_path / "C" / "shards" / "00000.b2s"
    os.truncate(shard, shard.stat().st_size - 1)
    if has_new:
        write_nifti_file(scans / "new.nii.gz", seed=9)
    with pytest.raises(DataError, match=r"shard 00000 is damaged: .*build into a new folder"):
        build_corpus(scans, tmp_path / "C")


def test_sources_that_are_gone_are_counted(tmp_path, scans, build_corpus):
    for seed in (5, 6):
        for path in write_dicom_series(scans / str(seed), seed=seed).iterdir():
            path.rename(scans / f"{seed}{path.name}")
    assert build_corpus(scans, tmp_path / "C").num_gone == 0
    (scans / "scan1.nii.gz").unlink()
    assert build_corpus(scans, tmp_path / "C").num_gone == 1


def test_name_that_is_not_utf8_does_not_stop_a_build(tmp_path, scans):
    write_nifti_file(scans / "plain.nii", seed=8).rename(scans / "caf\udce9.nii")
    result = build_corpus_verb(scans, tmp_path / "C", ["curation.slices_above=4"], workers=1)
    assert result.counts["kept"] == 3
    assert result.skipped == ((f"{scans.as_posix()}/caf\\xe9.nii", "file name is not UTF-8: rename it"),)


def test_failed_rows_say_how_to_mend_them_and_are_summed_up_by_kind(tmp_path, scans, build_corpus):
    for seed in (3, 4):
        write_nifti_file(scans / f"{seed}.nii", seed=seed).rename(scans / f"{seed}.nii.gz")
    assert build_corpus(scans, tmp_path / "C").failed[0][1].endswith("(rename it .nii)")
    assert show_corpus(tmp_path / "C").reasons == {"not a gzip file but a plain NIfTI file": 2}
