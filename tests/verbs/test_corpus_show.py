import json
from dataclasses import asdict

import pytest

from factories import write_nifti_file
from scanlore.corpus.salt import make_salt, salt_check, salt_file
from scanlore.errors import ConfigError, DataError
from scanlore.scans.metadata import hashed
from scanlore.verbs.corpus_show import names_of, show_corpus
from stored_rows import dropped, failed, row, stored

ROWS = (
    row(0, dataset="OASIS", modality="MR", sequence="T1", body_part="brain", spacing=[1.0, 1.0, 2.0]),
    row(1, dataset="OASIS", modality="CT", highres=True),
    dropped(2, dataset="NLST", modality="CT"),
    row(3, (24, 32), format="image2d"),
    failed(4),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("project") / "C"
    stored(root, ROWS)
    return root


def test_counts(corpus):
    result = show_corpus(corpus)
    assert result.counts == {"kept": 3, "dropped": 1, "failed": 1}
    assert result.datasets == [
        {"dataset": "OASIS", "kept": 2, "dropped": 0, "failed": 0},
        {"dataset": "unknown", "kept": 1, "dropped": 0, "failed": 1},
        {"dataset": "NLST", "kept": 0, "dropped": 1, "failed": 0},
    ]
    assert [(line["modality"], line["kept"]) for line in result.modalities] == [("CT", 1), ("unknown", 1), ("MR", 1)]
    assert {line["body_part"] for line in result.body_parts} == {"brain", "unknown"}
    assert {line["sequence"] for line in result.sequences} == {"T1", "not MR", "unknown"}
    assert result.reasons == {"too few slices (slices_above: 24)": 1, "missing slices": 1}
    assert result.failed == [(ROWS[4]["source"], "missing slices: 2 of 40")]
    assert result.dropped == []
    assert result.store_bytes > 0


def test_kinds(corpus):
    volumes, images = show_corpus(corpus).kinds
    assert volumes == {
        "kind": "3D nifti", "scans": 2, "channels": 2, "highres": 1, "median shape": "40 x 50 x 30",
        "median spacing (mm)": "1.00 x 1.00 x 2.00",
    }  # fmt: skip
    assert (images["kind"], images["median spacing (mm)"]) == ("2D image2d", "unknown")


def test_result_is_json(corpus, tmp_path):
    result = show_corpus(corpus, tmp_path / "page.html")
    assert json.loads(json.dumps(asdict(result), default=str))["counts"]["kept"] == 3


def test_page_is_written_where_it_is_wanted_alone(corpus, tmp_path):
    assert show_corpus(corpus).page is None
    path = tmp_path / "new" / "page.html"
    assert show_corpus(corpus, path).page == path
    assert "Corpus report" in path.read_text(encoding="utf-8")
    assert not (corpus / "report.html").exists()


def test_a_place_that_cannot_be_written(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        show_corpus(corpus, tmp_path / "file" / "page.html")


def test_no_corpus(tmp_path):
    with pytest.raises(DataError, match="is no corpus"):
        show_corpus(tmp_path)


def test_names_are_in_the_lists_and_not_on_the_page(tmp_path):
    scan = write_nifti_file(tmp_path / "scans" / "Zyxgrafen.nii")
    salt = make_salt(salt_file(tmp_path / "C"))
    second = write_nifti_file(tmp_path / "scans" / "Zyxgrafen_2.nii")
    known = {path: hashed(salt, path.resolve()) for path in (scan, second)}
    rows = [row(0), failed(1, source=known[scan]), failed(2), dropped(3, source=known[second]), dropped(4)]
    stored(tmp_path / "C", rows)
    (tmp_path / "C" / "corpus.json").write_text(
        json.dumps({"format_version": 2, "salt": salt_check(salt), "rules": {}})
    )
    page = tmp_path / "page.html"
    result = show_corpus(tmp_path / "C", page, [tmp_path / "scans"])
    assert {name for name, _ in result.failed} == {scan.as_posix(), failed(2)["source"]}
    assert result.dropped == [(second.as_posix(), "20 slices (slices_above: 24)")]
    assert "zyxgrafen" not in page.read_text(encoding="utf-8").lower()


def test_names_need_the_salt_of_the_corpus(corpus, tmp_path):
    make_salt(tmp_path / "other.salt")
    with pytest.raises(ConfigError, match="not the salt"):
        show_corpus(corpus, names=[tmp_path], salt=tmp_path / "other.salt")


def test_names_by_hash(tmp_path):
    scan = write_nifti_file(tmp_path / "a.nii")
    assert names_of([tmp_path], b"salt") == {hashed(b"salt", scan.resolve()): scan.as_posix()}
