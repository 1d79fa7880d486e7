import numpy as np

from scanlore.corpus.groups import groups


def test_chains_of_keys_and_pairs():
    found = groups(6, [np.array([0, 0, 1, -1, -1, -1]), np.array([-1, 0, -1, 0, 1, -1])], [(4, 5)])
    assert found[0] == found[1] == found[3]
    assert found[4] == found[5]
    assert len(set(found.tolist())) == 3


def test_nothing():
    assert groups(0).tolist() == []
    assert len(set(groups(3).tolist())) == 3
