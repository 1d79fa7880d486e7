import pytest

from scanlore.errors import DataError
from scanlore.tasks.label_map import found_label_map, label_map, parse_label_map


@pytest.mark.parametrize(
    "raw", [{"0": "background", "1": "liver"}, {"background": 0, "liver": 1}, {"a": "0", "1": "b"}]
)
def test_both_directions_are_read(raw):
    assert list(parse_label_map(raw, "f").names) == [0, 1]


def test_classes_are_numbered_by_rising_value():
    labels = label_map({255: "tumour", 0: "background", 7: "liver"}, "f")
    assert labels.names == {0: "background", 1: "liver", 2: "tumour"}
    assert labels.index_of == {0: 0, 7: 1, 255: 2}
    assert labels.ignore is None


def test_ignore_is_above_the_classes():
    labels = parse_label_map({"background": 0, "ignore": 1, "liver": 2}, "f")
    assert labels.names == {0: "background", 1: "liver"}
    assert labels.index_of == {0: 0, 1: 2, 2: 1}
    assert labels.ignore == 2


def test_found_values_get_names():
    assert found_label_map([3, 1], "f").names == {0: "background", 1: "label 1", 2: "label 3"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "has no labels"),
        ([], "has no labels"),
        ({"background": 0, "whole tumour": [1, 2]}, r"'whole tumour' is a region of several values, \[1, 2\]"),
        ({"1": "liver"}, "has no value 0"),
        ({"0": "background"}, "no class besides the background"),
        ({"0": "background", "1": "a", "2": "a"}, "calls two values 'a'"),
        ({"background": 0, "a": 1, "b": 1}, "names the value 1 twice"),
        ({"background": 0, "a": -1}, "negative"),
        ({"background": 0, "a": True}, "'a': True is no value"),
        ({"background": 0, "a": None}, "'a': None is no value"),
        ({"background": "none", "a": "1"}, "'background': 'none' is no value"),
    ],
)
def test_refused(raw, message):
    with pytest.raises(DataError, match=message) as caught:
        parse_label_map(raw, "dataset.json")
    assert "\n" not in str(caught.value)
