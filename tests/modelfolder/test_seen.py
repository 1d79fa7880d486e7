import numpy as np
import pytest

from scanlore.corpus.fingerprint import truncated
from scanlore.corpus.index import StoredScans, index_frame, write_index
from scanlore.modelfolder.seen import LENGTH, seen_status, write_seen

IDS = [f"{number:032x}" for number in (1 << 100, 2 << 100, 3 << 100)]
PRINT = np.random.default_rng(0).bytes(64).hex()


@pytest.fixture
def run(tmp_path):
    write_index(tmp_path, index_frame([{"id": IDS[0], "fingerprint": PRINT}, {"id": IDS[1]}]))
    write_seen(tmp_path / "run", StoredScans(tmp_path, {"id": np.array(IDS, "S32")}))
    return tmp_path / "run"


def test_a_scan_of_pretraining_is_recognised(run):
    assert seen_status(run, [f"{9 << 100:032x}", IDS[1]]) == "scan"
    assert seen_status(run, [f"{9 << 100:032x}"]) == "none"


def test_a_checkpoint_knows_what_its_run_saw(run):
    assert seen_status(f"{run}@20", [IDS[0]]) == "scan"


def test_ids_and_fingerprints_are_cut(run):
    first, *others = (run / "scans.txt").read_text().splitlines()
    assert first == f"{IDS[0][:LENGTH]} {truncated(PRINT)}"
    assert others == [name[:LENGTH] for name in IDS[1:]]
    assert len(first) == LENGTH + 1 + 32


def test_a_fingerprint_is_no_id(run):
    assert seen_status(run, [truncated(PRINT)]) == "none"


def test_older_files_hold_ids_alone(tmp_path):
    (tmp_path / "scans.txt").write_text(f"{IDS[0][:LENGTH]}\n")
    assert seen_status(tmp_path, [IDS[0]]) == "scan"
    assert seen_status(tmp_path, [IDS[1]]) == "none"


def test_an_untrained_network_saw_nothing(run):
    assert seen_status("random:resenc-tiny", IDS) == "none"
    assert seen_status(f"random:{run}", IDS) == "none"


def test_a_model_that_does_not_say_is_unknown(tmp_path):
    assert seen_status(tmp_path, IDS) == "unknown"
