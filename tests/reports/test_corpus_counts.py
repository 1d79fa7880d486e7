import pytest

from scanlore.corpus.index import index_frame
from scanlore.reports.corpus_counts import by_status, described, lost, problems, rules, tally
from stored_rows import dropped, failed, row


def described_rows(*rows):
    return described(index_frame(rows))


@pytest.mark.parametrize(
    ("column", "known", "text"),
    [
        ("dataset", {}, "unknown"),
        ("sequence", {}, "unknown"),
        ("sequence", {"modality": "MR", "sequence": "T1"}, "T1"),
        ("sequence", {"modality": "MR"}, "unknown"),
        ("sequence", {"modality": "CT"}, "not MR"),
        ("field_strength", {"modality": "CT"}, "not MR"),
        ("field_strength", {"modality": "MR", "field_strength": 3.0}, "3.0 T"),
        ("contrast", {"contrast": True}, "with contrast"),
        ("contrast", {"contrast": False}, "no contrast"),
        ("contrast", {}, "unknown"),
        ("plane", {"shape": (9, 9)}, "2D image"),
        ("plane", {"plane": "axial"}, "axial"),
    ],
)
def test_categories_in_words(column, known, text):
    assert described_rows(row(0, **known))[column].to_list() == [text]


def test_tally_is_ordered_by_count_and_name():
    frame = described_rows(*(row(n, dataset=name) for n, name in enumerate("bbcaa")), row(9))
    assert tally(frame, "dataset") == [("a", 2), ("b", 2), ("c", 1), ("unknown", 1)]


def test_counts_by_status():
    frame = described_rows(row(0, dataset="a"), dropped(1, dataset="a"), dropped(2, dataset="a"), failed(3))
    assert by_status(frame, "dataset") == [
        {"dataset": "a", "kept": 1, "dropped": 2, "failed": 0},
        {"dataset": "unknown", "kept": 0, "dropped": 0, "failed": 1},
    ]


def test_rules_with_their_values():
    frame = index_frame(
        [
            *(dropped(n, value=f"{slices} slices") for n, slices in enumerate((9, 20, 12))),
            dropped(3, "drop_duplicates", "duplicate of 0123456789abcdef"),
            failed(4),
            failed(5, "missing slices: 3 of 9"),
            row(6),
        ]
    )
    assert rules(frame) == [
        {"status": "dropped", "rule": "too few slices (slices_above: 24)", "rows": 3, "values": "9 to 20 slices"},
        {"status": "dropped", "rule": "duplicate (drop_duplicates)", "rows": 1, "values": ""},
        {"status": "failed", "rule": "missing slices", "rows": 2, "values": ""},
    ]


def test_one_value_is_no_range():
    frame = index_frame([dropped(0, "max_spacing_mm: 6.5", "9.0 mm"), dropped(1, "max_spacing_mm: 6.5", "9.0 mm")])
    assert rules(frame)[0]["values"] == "9 mm"


def test_lost_rows_name_their_rule_in_words():
    assert lost(index_frame([row(0), dropped(1)]))["rule"].to_list() == ["too few slices (slices_above: 24)"]


def test_nothing_lost():
    assert rules(index_frame([row(0)])) == []


def test_problems_are_counted_by_name():
    texts = ("gantry tilt: 12.0 degrees, resampled", "gantry tilt: 3 degrees; spacing assumed: 1 mm", None)
    frame = index_frame([row(n, problems=text) for n, text in enumerate(texts)])
    assert problems(frame) == [("gantry tilt", 2), ("spacing assumed", 1)]
