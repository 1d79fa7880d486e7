import pytest

from scanlore.corpus.reasons import count_rules, rule_of


@pytest.mark.parametrize(
    ("status", "reason", "rule"),
    [
        ("dropped", "22 slices (slices_above: 24)", "too few slices (slices_above: 24)"),
        ("dropped", "1 slice (slices_above: 24)", "too few slices (slices_above: 24)"),
        ("dropped", "duplicate of 3f2a (drop_duplicates)", "duplicate (drop_duplicates)"),
        ("dropped", "empty or constant (drop_constant)", "empty or constant (drop_constant)"),
        ("dropped", "SWI (keep.sequence: T1, T2)", "not in the allow list (keep.sequence: T1, T2)"),
        ("dropped", "draw 0.731 (fraction: 0.5)", "not drawn (fraction: 0.5)"),
        ("failed", "missing slices: 2 of 40", "missing slices"),
        ("failed", "the voxel axes are sheared by 5.2 degrees (a tilt)", "the voxel axes are sheared by n degrees"),
        ("failed", "2 of 28 files cannot be read, so 2D", "n of n files cannot be read, so 2D"),
    ],
)
def test_rule(status, reason, rule):
    assert rule_of(status, reason) == rule


def test_rules_are_counted_the_most_frequent_first():
    reasons = [("failed", "empty: a"), ("failed", "damaged: 1"), ("failed", "damaged: 2")]
    assert list(count_rules(reasons).items()) == [("damaged", 2), ("empty", 1)]
