import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from corpora import build_tiny, given_of
from factories import write_nifti_file
from scanlore.corpus.build import BuildPlan, build
from scanlore.corpus.settings import Curation
from scanlore.corpus.workers import _in_order, in_this_process, on_cluster
from scanlore.errors import ConfigError


def test_results_come_in_order_and_few_are_in_flight(tmp_path, scans):
    running, most = [], []

    def work(one):
        running.append(one)
        most.append(len(running))
        time.sleep(0.01 * (3 - given.index(one)))
        running.remove(one)
        return given.index(one)

    given = given_of(scans)
    with ThreadPoolExecutor(3) as pool:
        assert list(_in_order(pool, work, given, 2)) == [0, 1, 2]
    assert max(most) <= 2


def test_one_process_yields_what_is_prepared(scans):
    assert [prepared.rows[0]["scan_shape"] for prepared in in_this_process(given_of(scans))] == [[12, 14, 10]] * 3


def test_a_scheduler_that_does_not_answer_is_one_line(scans, monkeypatch):
    pytest.importorskip("distributed")
    with pytest.raises(ConfigError, match="no Dask scheduler answers"):
        list(on_cluster(given_of(scans), "tcp://127.0.0.1:9"))


def test_a_cluster_writes_the_same_bytes_though_a_worker_is_killed(tmp_path, voxel_files):
    distributed = pytest.importorskip("distributed")
    for seed in range(12):
        write_nifti_file(tmp_path / "in" / f"{seed:02d}.nii.gz", (24, 26, 22), seed=seed)
    build_tiny(tmp_path / "in", tmp_path / "one", rules={"slices_above": 4})
    with distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        done = []

        def progress(number, total):
            done.append(number)
            if number == 2:
                os.kill(victim, signal.SIGKILL)

        plan = BuildPlan(Curation(slices_above=4), scheduler=cluster.scheduler_address)
        result = build(given_of(tmp_path / "in"), tmp_path / "two", plan, (), progress)
    assert result.counts == {"kept": 12, "dropped": 0, "failed": 0}
    assert done == list(range(1, 13))
    assert voxel_files(tmp_path / "one") == voxel_files(tmp_path / "two")


def test_a_script_without_a_main_guard_is_told_so(tmp_path, scans):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport scanlore\nscanlore.build_corpus(sys.argv[1], sys.argv[2], ['slices_above=4'], workers=2)\n"
    )
    command = [sys.executable, str(script), str(scans), str(tmp_path / "C")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "if __name__ == '__main__'" in done.stderr
    assert not (tmp_path / "C" / "index.parquet").exists()
