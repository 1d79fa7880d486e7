import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from damaged import NUM_FILES, write_damaged

READ_ALL = """
import json, resource, sys
from pathlib import Path
from scanlore.errors import DataError
from scanlore.scans.find import find_sources
from scanlore.scans.read import read_header, read_scan
from scanlore.verbs.inspect import inspect

folder = Path(sys.argv[1])
inspected = inspect(folder)
sources, skipped = find_sources([folder])
said, num_read = [reason for _, reason in skipped], 0
for source in sources:
    print(source.name, file=sys.stderr, flush=True)
    for read in (read_header, read_scan):
        try:
            read(source, assume_spacing="header")
            num_read += read is read_scan
        except DataError as error:
            said.append(error.what)
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({
    "peak": peak * 1024,
    "num_read": num_read,
    "sources": [[str(file) for file in source.files] for source in sources if source.number == 1],
    "skipped": [str(path) for path, _ in skipped],
    "inspected": len(inspected.scans) + len(inspected.problems) - len(sources),
    "inspected_skipped": len(inspected.skipped) - len(skipped),
    "said": said,
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def outcome(folder):
    assert len(set(write_damaged(folder, seed=0))) == NUM_FILES
    command = [sys.executable, "-c", READ_ALL, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_file_is_accounted_for_once(folder, outcome):
    files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    on_disk = {str(path) for path in files if not (path.is_symlink() and path.is_dir())}
    accounted = Counter([*outcome["skipped"], *(file for files in outcome["sources"] for file in files)])
    members = {name for name in accounted if ".zip/" in name}
    archives = {f"{name.partition('.zip/')[0]}.zip" for name in members}
    assert set(accounted) - members | archives == on_disk
    twice = {name for name, count in accounted.items() if count > 1}
    assert {Path(name).parts[-2:] for name in twice} == {("twice.zip", "a.nii")}
    assert (outcome["inspected"], outcome["inspected_skipped"]) == (0, 0)


def test_memory_stays_small(outcome):
    assert outcome["peak"] < 2 * 10**9


def test_damage_is_told_without_names(outcome):
    assert 0 < outcome["num_read"] < NUM_FILES
    words = " ".join(outcome["said"])
    assert not any(name in words for name in ("evil", "passwd", "/", "DOE", "foreign", "nnnn"))


def test_the_same_seed_gives_the_same_files(tmp_path):
    def content(seed):
        root = tmp_path / f"{seed}" / f"{len(list(tmp_path.iterdir()))}"
        written = write_damaged(root, seed)
        return {path.relative_to(root): path.read_bytes() for path in written if "damaged" in path.parts[-3:]}

    first, again, other = content(1), content(1), content(2)
    assert first == again
    assert first != other
