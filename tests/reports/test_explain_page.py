import json

from scanlore.reports import explain_page
from scanlore.reports.explain_page import write_explain_page


def add_scan(out, name, heads=True):
    folder = out / "scans" / name
    folder.mkdir(parents=True)
    rows = [{"model": "m", "patches": "2 x 2"}]
    (folder / "facts.json").write_text(json.dumps({"ndim": 2, "notes": ["A note."], "models": rows}))
    (folder / "panel.png").write_bytes(b"panel")
    if heads:
        (folder / "m_heads.png").write_bytes(b"heads")


def test_every_scan_and_problem_is_on_the_page(tmp_path):
    add_scan(tmp_path, "a<b>")
    add_scan(tmp_path, "c", heads=False)
    (tmp_path / "scans" / "unfinished").mkdir()
    write_explain_page(tmp_path, [{"model": "m"}], [("bad.nii", "damaged & gone")])
    page = (tmp_path / "report.html").read_text()
    assert "a&lt;b&gt;" in page
    assert "damaged &amp; gone" in page
    assert "unfinished" not in page
    assert page.count("<img") == 3
    assert page.count("A note.") == 2


def test_a_page_of_many_scans_stays_readable(tmp_path, monkeypatch):
    monkeypatch.setattr(explain_page, "NUM_SHOWN", 2)
    for name in "abc":
        add_scan(tmp_path, name, heads=False)
    write_explain_page(tmp_path, [{"model": "m"}], [])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == 2
    assert "The pictures of 1 more" in page
