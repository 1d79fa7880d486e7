import numpy as np
import pytest

from scanlore.corpus.index import StoredScans
from scanlore.modelfolder.seen import LENGTH, seen_status, write_seen

IDS = [f"{number:032x}" for number in (1 << 100, 2 << 100, 3 << 100)]


@pytest.fixture
def run(tmp_path):
    write_seen(tmp_path / "run", StoredScans(tmp_path, {"id": np.array(IDS)}))
    return tmp_path / "run"


def test_a_scan_of_pretraining_is_recognised(run):
    assert seen_status(run, [f"{9 << 100:032x}", IDS[1]]) == "scan"
    assert seen_status(run, [f"{9 << 100:032x}"]) == "none"


def test_a_checkpoint_knows_what_its_run_saw(run):
    assert seen_status(f"{run}@20", [IDS[0]]) == "scan"


def test_ids_are_cut(run):
    assert {len(line) for line in (run / "scans.txt").read_text().split()} == {LENGTH}


def test_an_untrained_network_saw_nothing(run):
    assert seen_status("random:resenc-tiny", IDS) == "none"
    assert seen_status(f"random:{run}", IDS) == "none"


def test_a_model_that_does_not_say_is_unknown(tmp_path):
    assert seen_status(tmp_path, IDS) == "unknown"
