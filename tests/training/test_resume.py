"""A run that is killed and repeated leaves the same bytes as one that was not."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from scanlore.verbs.pretrain import pretrain

COMMAND = "import sys; from scanlore.verbs.pretrain import pretrain; pretrain(*sys.argv[1:4], sys.argv[4:])"
OVERRIDES = ["training.steps=10", "training.checkpoint_every=3", "backbone.drop_path=0.2", "health.every=4"]
PATIENCE = 120


def start(corpus, recipe, out, *overrides):
    # A session of its own, so that a signal can reach the loader's processes as well, as in a Slurm job
    return subprocess.Popen([sys.executable, "-c", COMMAND, corpus, recipe, out, *overrides], start_new_session=True)


def wait_while(condition):
    end = time.monotonic() + PATIENCE
    while condition():
        assert time.monotonic() < end
        time.sleep(0.0005)


def kill_when(happened, process):
    """Kill a run as soon as something has happened, and see that the loader workers it started end as well."""
    wait_while(lambda: not happened() and process.poll() is None)
    started = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    wait_while(lambda: any(map(is_running, started)))


def num_rows(out):
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def content(out):
    names = ("metrics.jsonl", "model/model.safetensors", "model/model.json")
    return {name: (out / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def uninterrupted(tiny_corpus, tiny_recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    pretrain(tiny_corpus, tiny_recipe, out, OVERRIDES, device="cpu")
    return content(out)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_run_killed_twice_leaves_the_same_bytes(tiny_corpus, tiny_recipe, tmp_path, uninterrupted, num_workers):
    out = tmp_path / "run"
    command = (tiny_corpus, tiny_recipe, out, *OVERRIDES, f"training.num_workers={num_workers}")
    step = random.Random(num_workers).randrange(1, 6)
    half_written = out / "checkpoints" / ".step_00000006.tmp"
    kill_when(lambda: num_rows(out) >= step, start(*command))
    kill_when(half_written.exists, start(*command))
    assert start(*command).wait(PATIENCE) == 0
    assert content(out) == uninterrupted
    assert sorted(os.listdir(out / "checkpoints")) == ["step_00000009", "step_00000010"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_job_that_is_told_to_stop_ends_well_and_goes_on(tiny_corpus, tiny_recipe, tmp_path, uninterrupted, number):
    out = tmp_path / "run"
    command = (tiny_corpus, tiny_recipe, out, *OVERRIDES, "training.num_workers=1")
    process = start(*command)
    wait_while(lambda: num_rows(out) < 4 and process.poll() is None)
    os.killpg(process.pid, number)
    assert process.wait(PATIENCE) == 0
    stopped = num_rows(out)
    assert 4 <= stopped < 10
    assert f"step_{stopped:08d}" in os.listdir(out / "checkpoints")
    assert start(*command).wait(PATIENCE) == 0
    assert content(out) == uninterrupted


def descendants(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            for child in map(int, file.read().split()):
                found += [child, *descendants(child)]
    return found


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
