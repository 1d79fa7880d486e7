from pathlib import Path

import pytest

from scanlore.inference.cases import group_cases, renamed
from scanlore.scans.find import Source


def sources(*names, kind="nifti"):
    return [Source(kind, Path(name), (Path(name),)) for name in names]


def grouped(names, num_channels=1, **options):
    cases = group_cases(sources(*names, **options), num_channels)
    return {case.name: [source.path.name for source in case.sources] for case in cases}


def test_each_file_is_a_case_of_its_stem():
    names = ["d/a.nii.gz", "d/b.v2.nii", "d/c_12.nii.gz"]
    assert list(grouped(names)) == ["a", "b.v2", "c_12"]


def test_channels_are_joined_in_order():
    names = ["d/b_0001.nii.gz", "d/b_0000.nii.gz", "d/a.nii.gz", "d/b_0002.nii.gz"]
    joined = {"b": ["b_0000.nii.gz", "b_0001.nii.gz", "b_0002.nii.gz"], "a": ["a.nii.gz"]}
    assert grouped(sorted(names), num_channels=3) == dict(sorted(joined.items()))
    # What does not fit the model is joined as well: the message then says how many channels there are
    assert grouped(sorted(names), num_channels=2) == dict(sorted(joined.items()))


def test_a_model_of_one_channel_takes_each_file():
    names = ["d/b_0000.nii.gz", "d/b_0001.nii.gz", "d/c_0000.nii.gz", "d/scan_2021.nii.gz"]
    assert list(grouped(names)) == ["b_0000", "b_0001", "c", "scan_2021"]


def test_numbers_that_do_not_count_from_zero_are_no_channels():
    names = ["d/scan_2020.nii.gz", "d/scan_2021.nii.gz", "d/b_0000.nii.gz", "d/b_0002.nii.gz"]
    assert len(grouped(names, num_channels=2)) == 4


def test_channels_are_of_one_folder():
    assert list(grouped(["d/a_0000.nii", "e/a_0001.nii"], num_channels=2)) == ["a", "a_0001"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x/p/a.nii", "x/q/a.nii", "x/q/b.nii"], ["p_a", "q_a", "b"]),
        (["x/1/s/a.nii", "x/2/s/a.nii"], ["1_s_a", "2_s_a"]),
        (["x/a.nii", "x/a.nii.gz"], ["a", "a_2"]),
        (["x/p/A.nii", "x/q/a.nii"], ["p_A", "q_a"]),
        (["x/a.nii", "x/y/a.nii"], ["a", "y_a"]),
    ],
)
def test_equal_names_are_told_apart(names, expected):
    assert list(grouped(names)) == expected


def test_series_of_one_folder():
    files = (Path("d/s/1.dcm"), Path("d/s/2.dcm"))
    series = [Source("dicom", Path("d/s"), files, number) for number in (1, 2)]
    assert [case.name for case in group_cases(series, 1)] == ["s", "s_2"]


def test_a_name_that_a_file_has_is_not_given_to_another():
    names = ["a/x.nii", "a/x.nii.gz", "a/x_2.nii"]
    assert grouped(names)["x_2"] == ["x_2.nii"]
    assert grouped(["a/x.nii.gz", "a/x_0000.nii.gz"]) == {"x": ["x.nii.gz"], "x_0000": ["x_0000.nii.gz"]}


def test_cases_that_got_another_name_are_listed():
    cases = group_cases(sources("d/a/x.nii", "d/b/x.nii", "d/y.nii", "d/z_0000.nii"), 1)
    assert renamed(cases) == {"a_x": "d/a/x.nii", "b_x": "d/b/x.nii"}
