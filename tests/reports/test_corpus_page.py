import re
import shutil
import subprocess

import pytest

from scanlore.reports.corpus_page import write_corpus_page
from stored_rows import dropped, failed, row, stored

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000")
ROWS = (
    row(0, dataset="OASIS", modality="MR", sequence="T1", body_part="brain", sex="F", age_band="40-44"),
    row(1, (60, 30, 30), dataset="OASIS", modality="MR", sequence="T2", spacing=[1.0, 1.0, 3.0], vendor="ge"),
    dropped(2, dataset="NLST", modality="CT", scan_shape=[30, 30, 20], spacing=[1.0, 1.0, 7.0]),
    row(3, (24, 32), format="image2d", problems="gantry tilt: 3 degrees"),
    failed(4, dataset="NLST"),
)


def write(folder, rows=ROWS):
    frame = stored(folder / "C", rows)
    path = folder / "report.html"
    write_corpus_page(path, folder / "C", frame, store_bytes=1_234_567, fingerprint="0123abcd")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


def cards_of(dom):
    """Return the visible cards of a document in order: their attributes."""
    tags = re.findall(r'<article class="scan"([^>]*)>', dom)
    return [dict(re.findall(r'data-(\w+)="([^"]*)"', tag)) for tag in tags if not re.search(r'" hidden=""', tag)]


def browse(page, address=""):
    call = [CHROMIUM, *FLAGS, "--dump-dom", f"{page.as_uri()}{address}"]
    return subprocess.run(call, capture_output=True, text=True, timeout=60, check=True).stdout


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def test_page_needs_no_network(text):
    assert not re.search(r"https?://|//[a-z]+\.|url\(|@import|<link|<iframe", text)
    assert set(re.findall(r'src="([^"]{10})', text)) == {"data:image"}
    assert "default-src 'none'; img-src data:" in text


def test_headline_counts(text):
    tiles = re.findall(r'<div class="tile"><b>(.*?)</b><span>(?:<i.*?</i>)?(.*?)</span>', text)
    assert tiles == [
        ("3", "kept"), ("1", "dropped"), ("1", "failed"), ("1", "datasets"), ("0", "patients"), ("0", "sites"),
        ("1.23 MB", "store"),
    ]  # fmt: skip


def test_rules_and_failures_are_listed_by_hash(text):
    part = text[text.index('id="lost"') : text.index('id="gallery"')]
    assert "too few slices (slices_above: 24)" in part
    assert "20 slices (slices_above: 24)" in part
    assert "missing slices: 2 of 40" in part
    assert all(one["source"][:16] in part for one in ROWS if one["status"] != "kept")


def test_page_says_what_it_shows_and_what_it_is_not(text):
    assert "4 of 4 stored scans shown" in text
    assert "Not a medical device." in text[text.index("<footer>") :]


def test_values_are_escaped(tmp_path):
    evil = '"><script>x</script>'
    text = write(tmp_path, [row(0, dataset=evil, modality=evil), failed(1, evil)]).read_text(encoding="utf-8")
    assert "<script>x" not in text
    assert text.count("&lt;script&gt;") > 3


@pytest.mark.parametrize("rows", [[row(0)], [dropped(0)], [failed(0)], [row(0, (9, 9), num_channels=3)]])
def test_small_corpora(tmp_path, rows):
    assert "Corpus report" in write(tmp_path, rows).read_text(encoding="utf-8")


def test_many_datasets_and_thumbnails(tmp_path):
    rows = [row(n, (16, 16), dataset=f"dataset-{n % 45:02d}", modality="DX") for n in range(320)]
    path = write(tmp_path, rows)
    text = path.read_text(encoding="utf-8")
    assert "300 of 320 stored scans shown, chosen evenly" in text
    assert all(f"<dt>dataset-{n:02d}</dt>" in text for n in range(45))
    assert path.stat().st_size < 10e6


@needs_chromium
def test_all_cards_in_a_browser(page):
    dom = browse(page)
    assert [card["dataset"] for card in cards_of(dom)] == ["NLST", "OASIS", "OASIS", "unknown"]
    assert 'id="controls" hidden' not in dom


@needs_chromium
def test_filters_and_sorting_in_a_browser(page):
    cards = cards_of(browse(page, "#dataset=OASIS&sort=voxels&order=falling"))
    assert [card["voxels"] for card in cards] == ["60000", "54000"]
    (card,) = cards_of(browse(page, "#text=T2+mr&status=kept"))
    assert card["voxels"] == "54000"


@needs_chromium
def test_unknown_values_come_last_in_either_order(page):
    for order, thickest in (("rising", ["3.0", "7.0"]), ("falling", ["7.0", "3.0"])):
        cards = cards_of(browse(page, f"#sort=thickest&order={order}"))
        assert [card["thickest"] for card in cards] == [*thickest, "-1.0", "-1.0"]


@needs_chromium
@pytest.mark.parametrize("width", [1200, 500])
def test_nothing_is_wider_than_the_window(page, tmp_path, width):
    shot = tmp_path / "shot.png"
    probe = tmp_path / "probe.html"
    script = "document.title = document.documentElement.scrollWidth > innerWidth ? 'too wide' : 'fits'"
    text = page.read_text(encoding="utf-8")
    free = re.sub(r"<meta http-equiv=.*?>", "", text)
    probe.write_text(free.replace("</body>", f"<script>{script}</script></body>"))
    call = [CHROMIUM, *FLAGS, f"--window-size={width},2000", f"--screenshot={shot}", "--dump-dom", probe.as_uri()]
    dom = subprocess.run(call, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "<title>fits</title>" in dom
    assert shot.stat().st_size > 20_000
