import numpy as np
import pytest

from scanlore.errors import ModelError
from scanlore.reports.pca import fit_basis, sample_tokens
from scanlore.reports.pca_basis import KeptBasis, load_basis, save_basis


@pytest.fixture
def kept():
    features = np.random.default_rng(0).standard_normal((6, 4, 4, 4))
    return KeptBasis(fit_basis(*sample_tokens(features)), "abc", 11, "random:vit-tiny", 3)


def test_what_is_saved_is_read(kept, tmp_path):
    save_basis(tmp_path / "b.npz", kept)
    back = load_basis(tmp_path / "b.npz")
    assert (back.weights, back.layer, back.model, back.num_scans) == ("abc", 11, "random:vit-tiny", 3)
    features = np.ones((6, 2, 2))
    np.testing.assert_array_equal(
        back.basis.rgb(back.basis.scores(features)), kept.basis.rgb(kept.basis.scores(features))
    )
    assert [path.name for path in tmp_path.iterdir()] == ["b.npz"]


def test_other_files_are_refused(kept, tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_basis(tmp_path / "b.npz")
    save_basis(tmp_path / "b.npz", kept)
    whole = (tmp_path / "b.npz").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "b.npz").write_bytes(content)
        with pytest.raises(ModelError, match="no basis"):
            load_basis(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", features=np.ones(3))
    with pytest.raises(ModelError, match="no basis"):
        load_basis(tmp_path / "c.npz")


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    np.savez(tmp_path / "b.npz", mean=np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(ModelError, match="no basis"):
        load_basis(tmp_path / "b.npz")
    assert not capsys.readouterr().out


def test_damaged_numbers_are_refused(kept, tmp_path):
    save_basis(tmp_path / "b.npz", kept)
    arrays = dict(np.load(tmp_path / "b.npz"))
    for name, value in (("low", np.full(3, np.nan)), ("axes", np.ones((3, 6)))):
        np.savez(tmp_path / "c.npz", **(arrays | {name: value}))
        with pytest.raises(ModelError, match="damaged"):
            load_basis(tmp_path / "c.npz")
