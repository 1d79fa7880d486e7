import sys
from types import SimpleNamespace

import polars as pl
import pytest

from scanlore.corpus.curate import curate
from scanlore.corpus.index import completed, index_frame
from scanlore.corpus.settings import Curation, load_rules

VOLUME = {"status": "kept", "ndim": 3, "scan_shape": [64, 64, 64], "spacing": [1.0, 1.0, 1.0], "bytes": 10**6}


def table(*rows):
    return index_frame([VOLUME | {"source": f"s{number}", "channel": 0} | row for number, row in enumerate(rows)])


def reasons(frame, **rules):
    return curate(frame, Curation(**rules))["reason"].to_list()


def kept(frame, **rules):
    return set(curate(frame, Curation(**rules)).filter(pl.col("status") == "kept")["source"])


@pytest.mark.parametrize(
    ("row", "rules", "reason"),
    [
        ({"role": "label"}, {}, "label map (drop_labels)"),
        ({"p0_05": 3.0, "p99_95": 3.0}, {}, "empty or constant (drop_constant)"),
        ({"p0_05": 3.0, "p99_95": 3.5}, {}, None),
        ({"scout": True}, {}, "scout (drop_scouts)"),
        ({"scan_shape": [64, 64, 24]}, {}, "24 slices (slices_above: 24)"),
        ({"scan_shape": [64, 64, 1]}, {}, "1 slice (slices_above: 24)"),
        ({"scan_shape": [64, 64, 25]}, {}, None),
        ({"ndim": 2, "scan_shape": [20, 20], "spacing": None}, {"min_field_of_view_mm": 50}, None),
        ({"spacing": [1.0, 0.78, 1.0]}, {"min_field_of_view_mm": 50}, "49.92 mm (min_field_of_view_mm: 50)"),
        ({"scan_shape": [50, 64, 64]}, {"min_field_of_view_mm": 50}, None),
        ({"spacing": [1.0, 1.0, 6.6]}, {"max_spacing_mm": 6.5}, "6.6 mm (max_spacing_mm: 6.5)"),
        ({"spacing": [1.0, 1.0, 6.5000001]}, {"max_spacing_mm": 6.5}, None),
        ({"spacing": [0.7812499, 1.0, 1.0]}, {"min_field_of_view_mm": 50}, None),
        ({"bytes": 199_999}, {"min_file_kb": 200}, "199.999 kB (min_file_kb: 200)"),
        ({"bytes": 200_000}, {"min_file_kb": 200}, None),
        ({"sequence": "SWI"}, {"keep": {"sequence": ["T1", "T2"]}}, "SWI (keep.sequence: T1, T2)"),
        ({}, {"keep": {"sequence": ["T1"]}}, "unknown (keep.sequence: T1)"),
        ({}, {"keep": {"sequence": ["T1", None]}}, None),
        ({"contrast": True}, {"keep": {"contrast": [False]}}, "yes (keep.contrast: no)"),
        ({"contrast": False}, {"keep": {"contrast": [False]}}, None),
        ({"field_strength": 3.0}, {"keep": {"field_strength": [1.5]}}, "3.0 (keep.field_strength: 1.5)"),
        ({"field_strength": 3.0}, {"keep": {"field_strength": [3]}}, None),
    ],
)
def test_rule_about_one_row(row, rules, reason):
    assert reasons(table(row), **rules) == [reason]


def test_first_rule_that_hits_is_named():
    flagged = curate(table({"scout": True, "scan_shape": [2, 2, 2]}), Curation())
    assert flagged.select("status", "rule", "value").row(0) == ("dropped", "drop_scouts", "scout")


def test_unknown_passes_all_but_allow_lists():
    frame = pl.DataFrame({"source": ["a"]})
    assert curate(frame, load_rules("3dino"))["status"].to_list() == ["kept"]
    assert curate(frame, load_rules("s3d"))["rule"].to_list() == ["keep.sequence"]


def test_highres():
    frame = table({}, {"scan_shape": [64, 64, 48]}, {"ndim": 2})
    assert curate(frame, Curation())["highres"].to_list() == [True, False, False]


def test_failed_rows_stay_as_they_are():
    row = {"source": "a", "status": "failed", "rule": "colour", "reason": "colour: 3 channels"}
    frame = index_frame([row])
    assert curate(frame, Curation()).equals(frame)


def test_rules_are_idempotent_and_forget_earlier_flags():
    frame = table({"id": "x"}, {"id": "x"}, {"scan_shape": [9, 9, 9], "patient": "p"})
    strict = curate(frame, Curation(slices_above=70))
    loose = curate(strict, Curation(slices_above=0))
    assert strict["status"].to_list() == ["dropped"] * 3
    assert loose.equals(curate(frame, Curation(slices_above=0)))
    assert curate(loose, Curation(slices_above=0)).equals(loose)


def test_first_kept_of_equal_scans_stays():
    frame = table({"id": "x", "scan_shape": [9, 9, 9]}, {"id": "x"}, {"id": "x"}, {"id": "y"}, {})
    duplicate = "duplicate of s1 (drop_duplicates)"
    assert reasons(frame) == ["9 slices (slices_above: 24)", None, duplicate, None, None]
    assert kept(frame, drop_duplicates=False) == {"s1", "s2", "s3", "s4"}


@pytest.fixture
def fingerprints(monkeypatch):
    """Fingerprints that are numbers, whose distance is their difference."""

    def distance(one, two):
        return abs(int(one) - int(two))

    def near_pairs(prints, most):
        places = [(one, two) for two in range(len(prints)) for one in range(two)]
        return [pair for pair in places if distance(prints[pair[0]], prints[pair[1]]) <= most]

    module = SimpleNamespace(distance=distance, near_pairs=near_pairs)
    monkeypatch.setitem(sys.modules, "scanlore.corpus.fingerprint", module)


@pytest.mark.usefixtures("fingerprints")
def test_largest_of_near_duplicates_stays():
    frame = table({"fingerprint": "1"}, {"fingerprint": "3", "scan_shape": [70, 64, 64]}, {"fingerprint": "9"}, {})
    reason = "near-duplicate of s1 at 2 (near_duplicates: 2)"
    assert reasons(frame, near_duplicates=2) == [reason, None, None, None]
    assert kept(frame) == {"s0", "s1", "s2", "s3"}


@pytest.mark.usefixtures("fingerprints")
def test_near_duplicates_are_of_one_kind_and_of_several_sources():
    image = {"ndim": 2, "scan_shape": [64, 64], "spacing": None, "fingerprint": "1"}
    frame = table(image, {"fingerprint": "1"}, {"source": "s1", "channel": 1, "fingerprint": "1"})
    assert reasons(frame, near_duplicates=0) == [None] * 3


def patients(count, volumes=1, dataset="big"):
    return [
        {"source": f"{patient}.{volume}", "patient": f"p{patient}", "dataset": dataset}
        for patient in range(count)
        for volume in range(volumes)
    ]


def test_fraction_is_nested_by_patient_and_free_of_order():
    frame = table(*patients(200, 2), {"dataset": "other"})
    half, fifth = (kept(frame, fraction={"big": share}) for share in (0.5, 0.2))
    assert fifth < half
    assert 140 < len(half) < 260
    assert "s400" in half
    assert all((f"{number}.0" in half) == (f"{number}.1" in half) for number in range(200))
    assert kept(frame.reverse(), fraction={"big": 0.5}) == half != kept(frame, fraction={"big": 0.5}, seed=1)
    assert kept(frame, fraction={"*": 0.0}) == set()


def test_most_patients_of_a_dataset():
    frame = table(*patients(9, 2), *patients(9, dataset="small"), {"dataset": "big"})
    few, more = (kept(frame, max_patients={"big": count}) for count in (3, 5))
    assert few < more
    assert [len({name.split(".")[0] for name in some if name.endswith(".1")}) for some in (few, more)] == [3, 5]
    assert "s27" in few
    reason = set(reasons(frame, max_patients={"big": 8})) - {None}
    assert reason == {"patient 9 (max_patients: 8)"}


def test_volumes_of_a_patient_that_are_kept_already_count():
    rows = patients(2, 5)
    rows[0] |= {"scan_shape": [3, 3, 3]}
    names = kept(table(*rows), volumes_per_patient={"*": 4, "other": 1})
    assert sum(name.startswith("0.") for name in names) == sum(name.startswith("1.") for name in names) == 4
    assert "0.0" not in names


def test_result_is_a_whole_index_in_order():
    frame = pl.DataFrame({"source": ["b", "a"]})
    assert curate(frame, Curation(fraction={"*": 1.0}, max_patients={"*": 1}))["source"].to_list() == ["b", "a"]
    assert curate(frame, Curation()).columns == completed(frame).columns
