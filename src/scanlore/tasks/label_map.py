"""Label maps: which stored value of a mask means which class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scanlore.errors import DataError

BACKGROUND, IGNORE = "background", "ignore"
MAX_CLASSES = 32767
NUM_NAMED = 5


@dataclass(frozen=True)
class LabelMap:
    """Stored values and the classes they mean.

    Attributes:
        names: Class number to name, consecutive from 0, the background.
        index_of: Stored value to class number; `ignore` for the values that say nothing.
        ignore: Number of voxels that no loss and no score looks at, one above the classes; `None` without any.
    """

    names: dict[int, str]
    index_of: dict[int, int]
    ignore: int | None


def label_map(named: Mapping[int, str], where: object) -> LabelMap:
    """Number the classes by rising stored value; a class called `ignore` is none (nnU-Net's ignore label).

    Args:
        named: Stored value to class name; 0 is the background.
        where: The file that says so, for the message.

    Raises:
        DataError: There is no background, no class besides it, a negative value, or one name for two values.
    """
    if 0 not in named:
        raise DataError("the label map has no value 0", where=where, fix='0 is the background: "0": "background"')
    if min(named) < 0 or len(named) > MAX_CLASSES:
        raise DataError("the label map has negative values or too many", where=where)
    classes = [value for value in sorted(named) if value == 0 or named[value].lower() != IGNORE]
    names = [named[value] for value in classes]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise DataError(f"the label map calls two values {repeated[0]!r}", where=where, fix="give each its own name")
    if len(classes) < 2:
        raise DataError("the label map has no class besides the background", where=where)
    index_of = {value: classes.index(value) if value in classes else len(classes) for value in sorted(named)}
    return LabelMap(dict(enumerate(names)), index_of, len(classes) if len(named) > len(classes) else None)


def parse_label_map(raw: object, where: object) -> LabelMap:
    """Read `{"0": "background", "1": "liver"}` (MSD) or `{"background": 0, "liver": 1}` (nnU-Net v2).

    Args:
        raw: What the file holds under its labels.
        where: The file, for the message.

    Raises:
        DataError: It is something else, has regions (a name with several values), or as `label_map`.
    """
    if not isinstance(raw, dict) or not raw:
        raise DataError("has no labels", where=where, fix='write "labels": {"0": "background", "1": ...}')
    named: dict[int, str] = {}
    for key, value in raw.items():
        number, name = _pair(str(key), value, where)
        if number in named:
            raise DataError(f"the label map names the value {number} twice", where=where)
        named[number] = name
    return label_map(named, where)


def _pair(key: str, value: object, where: object) -> tuple[int, str]:
    if isinstance(value, list):
        fix = "give every voxel one class; overlapping regions are not supported"
        raise DataError(f"the label {key!r} is a region of several values, {value}", where=where, fix=fix)
    if _is_whole(key) and isinstance(value, str):
        return int(key), value
    if isinstance(value, int | str) and not isinstance(value, bool) and _is_whole(str(value)):
        return int(value), key
    what = f"the label {key!r}: {value!r} is no value with its name"
    raise DataError(what, where=where, fix='write "1": "liver" or "liver": 1')


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def found_label_map(values: Iterable[int], where: object) -> LabelMap:
    """Name the values found in masks `label 1`, `label 2` ...; 0 is the background whether it was found or not.

    Raises:
        DataError: As `label_map`.
    """
    return label_map({value: f"label {value}" for value in sorted(values)} | {0: BACKGROUND}, where)


def listed(values: Iterable[object]) -> str:
    """Return the first few values as text, with dots where there are more."""
    texts = [str(value) for value in values]
    return ", ".join(texts[:NUM_NAMED]) + (", ..." if len(texts) > NUM_NAMED else "")
