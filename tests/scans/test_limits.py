import os

import pytest

from scanlore.errors import DataError
from scanlore.scans.limits import LARGE, bytes_there, check_promise


@pytest.mark.parametrize(
    ("promised", "there", "packed"), [(10, 10, False), (1032, 1, True), (LARGE * 200, LARGE, True)]
)
def test_what_can_be_is_believed(promised, there, packed):
    check_promise(promised, there, "a", is_packed=packed)


@pytest.mark.parametrize(
    ("promised", "there", "packed", "words"),
    [
        (11, 10, False, "truncated: 10 bytes where 11 are promised"),
        (-1, 10, False, "truncated"),
        (1033, 1, True, "truncated: 1 compressed bytes where 1033 are promised"),
        (LARGE + 1, LARGE // 201, True, "too large: 4975124 compressed bytes promise 1000000001"),
    ],
)
def test_what_cannot_be_is_refused(promised, there, packed, words):
    with pytest.raises(DataError, match=words):
        check_promise(promised, there, "a", is_packed=packed)


def test_a_hole_counts_for_little(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(4096))
    os.truncate(path, 50 * LARGE)
    if path.stat().st_blocks * 512 > LARGE:
        pytest.skip("files have no holes here")
    assert 4096 <= bytes_there(path) < LARGE
    os.truncate(path, 8192)
    assert bytes_there(path) == 8192
