"""A corpus from three hundred damaged files and two sound ones."""

import json
import subprocess
import sys

from damaged import write_damaged
from factories import write_nifti_file
from scanlore.corpus.index import Corpus
from scanlore.scans.find import find_sources

BUILD = """
import json, resource, sys
from scanlore.verbs.corpus_build import build_corpus
if __name__ == "__main__":
    result = build_corpus(sys.argv[1], sys.argv[2], ["slices_above=4"], workers=2)
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps([result.counts, len(result.skipped), max(peaks)]))
"""


def test_damaged_files_end_no_build_and_each_is_accounted_for(tmp_path):
    write_damaged(tmp_path / "in")
    for seed in (1, 2):
        write_nifti_file(tmp_path / "in" / f"sound{seed}.nii.gz", seed=seed)
    (tmp_path / "build.py").write_text(BUILD)
    command = [sys.executable, str(tmp_path / "build.py"), str(tmp_path / "in"), str(tmp_path / "C")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    counts, num_skipped, peak = json.loads(done.stdout.splitlines()[-1])
    assert counts["kept"] >= 2
    assert counts["failed"] > 50
    assert peak < 2_000_000  # kilobytes
    account = json.loads((tmp_path / "C" / "data.json").read_text())
    assert account["num_files_skipped"] == num_skipped == len(account["skipped"])
    sources, skipped = find_sources([tmp_path / "in"])
    assert account["num_files"] == len({file for source in sources for file in source.files}) + len(skipped) > 302
    assert (account["num_scans"], sum(account["num_rows"].values())) == (len(sources), sum(counts.values()))
    rows = Corpus(tmp_path / "C").frame(["status", "reason"])
    assert all(reason and "\n" not in reason for status, reason in rows.iter_rows() if status == "failed")
