import pytest

from scanlore.corpus.index import index_frame
from scanlore.reports.corpus_charts import MAX_BARS, bar, colours, hierarchy, simple_bars, stacked_bars
from scanlore.reports.corpus_counts import described
from stored_rows import row

PALETTE = {"MR": "c0", "CT": "c1", "unknown": "unknown"}


def frame_of(**columns):
    values = zip(*columns.values(), strict=True)
    return described(index_frame([row(n, **dict(zip(columns, some, strict=True))) for n, some in enumerate(values)]))


def test_colours_are_distinct_and_unknown_is_muted():
    found = colours(["a", "unknown", *"bcdefgh"])
    assert [found[name] for name in "abcdefg"] == [f"c{place}" for place in range(7)]
    assert (found["h"], found["unknown"]) == ("rest", "unknown")


def test_stacked_bars():
    frame = frame_of(dataset=["a", "a", "b", None], modality=["CT", "MR", "MR", "MR"])
    bars = stacked_bars(frame, "dataset", "modality", PALETTE)
    assert [(one.label, one.count, one.share) for one in bars] == [("a", 2, 1.0), ("b", 1, 0.5), ("unknown", 1, 0.5)]
    assert [(part.label, part.count, part.colour) for part in bars[0].parts] == [("MR", 1, "c0"), ("CT", 1, "c1")]
    assert bars[0].text == "a: 2 (MR 1, CT 1)"


def test_one_dataset_alone_fills_its_bar():
    (one,) = stacked_bars(frame_of(dataset=["a"], modality=[None]), "dataset", "modality", PALETTE)
    assert (one.share, one.parts[0].colour) == (1.0, "unknown")


def test_no_row_is_left_out_of_too_many_bars():
    names = [*(f"d{n:03d}" for n in range(MAX_BARS + 3)), None]
    bars = stacked_bars(frame_of(dataset=names), "dataset", "modality", PALETTE)
    assert [one.label for one in bars[-2:]] == ["3 others", "unknown"]
    assert sum(one.count for one in bars) == len(names)


def test_simple_bars_put_the_unknown_last():
    bars = simple_bars([("unknown", 5), ("a", 1)])
    assert [(one.label, one.share, one.parts[0].colour) for one in bars] == [
        ("a", 0.2, "c0"),
        ("unknown", 1, "unknown"),
    ]
    assert bars[0].text == "a: 1"


def test_no_bars_of_nothing():
    assert simple_bars([]) == []
    assert bar("a", {}, 0, PALETTE).share == 0.0


def test_hierarchy_adds_up():
    frame = frame_of(vendor=["ge", "ge", "ge", None], modality=["MR"] * 4, field_strength=[3.0, 3.0, None, 1.5])
    ge, unknown = hierarchy(frame, ("vendor", "field_strength"))
    assert (ge.label, ge.count, ge.share, unknown.label, unknown.share) == ("ge", 3, 0.75, "unknown", 0.25)
    assert [(child.label, child.share, child.colour) for child in ge.children] == [
        ("3.0 T", 0.5, ge.colour),
        ("unknown", 0.25, "unknown"),
    ]
    assert [child.colour for child in unknown.children] == ["unknown"]


def test_small_parts_are_one_that_names_them_all():
    frame = frame_of(vendor=["ge"] * 98 + ["canon", "agfa"])
    ge, others = hierarchy(frame, ("vendor",))
    assert ge.has_label
    assert (others.label, others.count, others.has_label) == ("agfa, canon", 2, False)
    assert others.text == "agfa: 1 (1.0%); canon: 1 (1.0%)"


@pytest.mark.parametrize("label", ["unknown", "not MR"])
def test_what_says_little_is_never_among_others(label):
    modality = "CT" if label == "not MR" else "MR"
    sequences = ["T1"] * 96 + ["T2", "PD", None, None]
    frame = frame_of(sequence=sequences, modality=["MR"] * 98 + [modality] * 2)
    assert [node.label for node in hierarchy(frame, ("sequence",))] == ["T1", "PD, T2", label]
