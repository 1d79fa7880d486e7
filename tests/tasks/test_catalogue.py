import re
import subprocess
import sys
from pathlib import Path

import pytest

from scanlore.config import validate
from scanlore.errors import ConfigError
from scanlore.tasks.catalogue import (
    ACCESS,
    FACTS,
    KINDS,
    Dataset,
    catalogue,
    catalogue_names,
    dataset,
    dataset_named,
)

ENTRIES = list(catalogue().values())
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "datasets.md"


def test_every_entry_of_every_file_is_there():
    written = [
        line for path in FACTS.glob("*.yaml") for line in path.read_text().splitlines() if line.startswith("- id")
    ]
    assert len(written) == len(ENTRIES) > 60


@pytest.mark.parametrize("entry", ENTRIES, ids=catalogue_names())
def test_every_entry_is_whole(entry):
    assert entry.kind in KINDS
    assert entry.access in ACCESS
    assert (entry.size is None) == (entry.size_from is None)
    assert entry.licence is None or "unknown" not in entry.licence.lower()
    assert bool(entry.files) or entry.get, "no link, and nothing says what to do"
    assert entry.homepage or entry.get
    assert len(entry.layout.how) > 20
    assert entry.is_corpus == (entry.layout.kind in ("scans", "bids", "openmind", "fomo"))
    for file in entry.files:
        assert file.url.startswith("https://")
        assert entry.access == "open"


def test_no_two_datasets_share_a_name_or_a_folder():
    names = [(re.sub(r"\W|_", "", name.lower()), e.id) for e in ENTRIES for name in (e.id, *e.aliases)]
    assert len({name for name, _ in names}) == len(set(names))


def test_the_four_papers_and_the_collections_are_covered():
    assert {paper for entry in ENTRIES for paper in entry.papers} == {"3dino", "s3d", "dinov2-radiology", "medidino"}
    assert sum(name.startswith("medmnist-") for name in catalogue_names()) == 18
    assert sum(name.startswith("msd-") for name in catalogue_names()) == 10
    assert {f"D{number}" for number in range(1, 14)} - {"D3"} == {
        found[0] for e in ENTRIES if (found := re.match(r"D\d+", e.note or ""))
    }
    assert {"openmind", "fomo-60k", "fomo-300k"} <= set(catalogue_names())


@pytest.mark.parametrize("name", ["msd-hippocampus", "Task04_Hippocampus", "task04 hippocampus", "MSD_Hippocampus"])
def test_a_dataset_is_found_by_its_id_and_by_its_folder(name):
    assert dataset(name).id == "msd-hippocampus"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'msd-hippocampus'"):
        dataset("msd-hipocampus")
    assert dataset_named("patient 17") is None
    assert dataset_named("") is None


def test_an_entry_with_a_wrong_key_is_refused():
    with pytest.raises(ConfigError, match="license"):
        validate(Dataset, dataset("busi").model_dump() | {"license": "CC0"}, where="facts")


def test_the_catalogue_is_light():
    code = "import sys, scanlore.tasks.catalogue as c; c.catalogue(); print({'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "set()\n"


def test_the_page_lists_every_dataset_with_its_licence():
    rows = dict(re.findall(r"^\| `([^`]+)` \|(.*)$", PAGE.read_text(), flags=re.MULTILINE))
    assert list(rows) == catalogue_names()
    for entry in ENTRIES:
        cells = [cell.strip() for cell in rows[entry.id].split("|")]
        assert cells[:2] == [f"[{entry.title}]({entry.homepage})" if entry.homepage else entry.title, entry.kind]
        assert (entry.licence or "not known") in cells
        assert entry.access in cells
