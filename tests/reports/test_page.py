import re

import pytest

from scanlore.reports.page import Section, write_page

PNG = b"\x89PNG\r\n\x1a\n0000"


@pytest.fixture
def page(tmp_path):
    def write(*sections, title="Report"):
        path = tmp_path / "new" / "report.html"
        write_page(path, title, list(sections))
        return path.read_text(encoding="utf-8")

    return write


def test_page_needs_no_network(page):
    text = page(Section("Scores", "Some text.", [{"model": "a"}], PNG, "A picture."))
    assert not re.search(r"https?://|//[a-z]|url\(|@import|<script|<link", text)
    assert re.findall(r'src="([^"]{14})', text) == ["data:image/png"]


def test_everything_is_escaped(page):
    evil = '<b onload="x">'
    text = page(Section(evil, evil, [{evil: evil}], PNG, evil), title=evil)
    assert "<b" not in text.replace("<body>", "")
    # title, h1, h2, label, p, th, td, alt, figcaption
    assert text.count("&lt;b onload=") == 9


def test_footer_says_what_it_is_not(page):
    assert "Not a medical device." in re.search(r"<footer>(.*)</footer>", page(Section("Empty"))).group(1)


@pytest.mark.parametrize(
    ("value", "cell"),
    [(0.123456, "0.1235"), (None, "-"), (float("nan"), "-"), (True, "yes"), (12345, "12,345"), ("x", "x")],
)
def test_cells_are_readable(page, value, cell):
    assert f">{cell}</td>" in page(Section("T", table=[{"a": value}]))


def test_columns_are_those_of_all_rows(page):
    text = page(Section("T", table=[{"a": 1}, {"b": 2, "a": 3}]))
    assert re.findall(r"<th [^>]*>(.*?)</th>", text) == ["a", "b"]


def test_paragraphs(page):
    assert page(Section("T", "one\n\ntwo")).count("<p>") == 2


def test_a_failed_page_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.html"
    write_page(path, "old", [])
    with pytest.raises(TypeError):
        write_page(path, "new", [Section("T", figure="not bytes")])
    assert "old" in path.read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
