import pytest

from scanlore.corpus.place import corpus_salt
from scanlore.corpus.salt import make_salt, read_salt, salt_check, salt_file
from scanlore.errors import ConfigError


def test_salt_is_drawn_once_for_its_owner_alone(tmp_path):
    path = salt_file(tmp_path / "C")
    first = make_salt(path)
    assert make_salt(path) == read_salt(path) == first
    assert path.stat().st_mode & 0o077 == 0


def test_corpora_side_by_side_share_a_salt(tmp_path):
    assert salt_file(tmp_path / "A") == salt_file(tmp_path / "B") == tmp_path / "scanlore.salt"


@pytest.mark.parametrize("text", ["", "nothing", "00ff", "zz" * 16])
def test_what_is_no_salt_is_refused(tmp_path, text):
    (tmp_path / "salt").write_text(text)
    with pytest.raises(ConfigError, match="salt"):
        read_salt(tmp_path / "salt")


def test_a_corpus_refuses_another_salt(tmp_path, scans, build_corpus):
    build_corpus(scans, tmp_path / "C")
    make_salt(tmp_path / "other")
    with pytest.raises(ConfigError, match="not the salt this corpus was made with"):
        corpus_salt(tmp_path / "C", tmp_path / "other")
    with pytest.raises(ConfigError, match="the salt of this corpus is not there"):
        corpus_salt(tmp_path / "C", None)


def test_the_check_does_not_tell_the_salt():
    assert salt_check(b"a" * 16) != salt_check(b"b" * 16)
    assert (b"a" * 16).hex() not in salt_check(b"a" * 16)
