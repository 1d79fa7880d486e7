import pickle

import pytest

from scanlore.errors import ConfigError, DataError, MissingDependencyError, ModelError, ScanloreError, nearest


def test_says_where_what_and_how_to_mend_it():
    assert str(DataError("is broken", where="a.nii", fix="copy it again")) == "a.nii: is broken (copy it again)"
    assert str(DataError("is broken", where="a.nii")) == "a.nii: is broken"
    assert str(DataError("is broken")) == "is broken"


@pytest.mark.parametrize("kind", [ScanloreError, ConfigError, DataError, ModelError, MissingDependencyError])
@pytest.mark.parametrize("parts", [{}, {"where": "w"}, {"fix": "f"}, {"where": "w", "fix": "f"}])
def test_pickles(kind, parts, tmp_path):
    error = kind("what", **parts)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.what, copy.fix) == (str(error), "what", parts.get("fix"))


def test_pickles_with_a_path(tmp_path):
    copy = pickle.loads(pickle.dumps(DataError("what", where=tmp_path)))
    assert str(copy) == f"{tmp_path}: what"


def test_every_kind_is_a_scanlore_error():
    assert all(issubclass(kind, ScanloreError) for kind in (ConfigError, DataError, ModelError, MissingDependencyError))


def test_nearest():
    assert nearest("lerning_rate", ["weight_decay", "learning_rate"]) == "; did you mean 'learning_rate'?"
    assert nearest("x", ["weight_decay"]) == ""
    assert nearest("x", []) == ""
