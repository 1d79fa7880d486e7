import json
import re

import pytest
import yaml

from scanlore.reports.run_page import write_run_page

EVIL = '<b onload="x">'


@pytest.fixture
def make_run(tmp_path):
    def make(name="run", steps=20, settings=None, looks=None, **record):
        run = tmp_path / name
        (run / "previews").mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"command": "pretrain", "status": "running"} | record))
        plain = {"training": {"steps": 40}, "method": {"name": "dino", "head": {"prototypes": 64}}} | (settings or {})
        (run / "config.yaml").write_text(yaml.safe_dump(plain))
        fixed = {"patch": 3.0, "koleo": 0.1, "lr": 1e-3, "grad_norm_backbone": 2.0, "teacher_entropy": 3.0}
        looks, first = looks or {}, min(looks or [1])
        rows = [{"step": n, "loss": 9 - n / 9} | fixed | looks.get(n, {}) for n in range(first, steps + 1)]
        times = [{"step": n, "seconds": 2.0, "data_wait": 0.25, "scans_per_second": 8.0} for n in range(1, steps + 1)]
        for file, lines in (("metrics", rows), ("timings", times)):
            (run / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        return run

    return make


def page_of(run, is_running=False):
    write_run_page(run, is_running)
    return (run / "report.html").read_text(encoding="utf-8")


def charts(text):
    return re.findall(r"<figcaption><b>(.*?)</b>", text)


def test_everything_measured_is_drawn(make_run):
    looks = {0: {"feature_std": 0.5, "effective_rank": 5.0, "knn_accuracy": 0.7}, 20: {"feature_std": 0.4}}
    assert charts(page_of(make_run(looks=looks))) == [
        *("Loss", "Loss terms", "Learning rate", "Gradient norms", "kNN accuracy", "Spread of embeddings"),
        *("Effective rank", "Teacher entropy", "Speed", "Waiting for data"),
    ]


def test_it_reloads_itself_only_while_the_run_goes_on(make_run):
    run = make_run()
    assert 'http-equiv="refresh"' in page_of(run, is_running=True)
    assert 'http-equiv="refresh"' not in page_of(run)


@pytest.mark.parametrize(
    ("status", "is_running", "shown"),
    [("running", True, "running"), ("running", False, "ended"), ("failed", False, "failed")],
)
def test_status(make_run, status, is_running, shown):
    assert f'<span class="badge {shown}">{shown}</span>' in page_of(make_run(status=status), is_running)


def test_time_left_is_told_from_the_recent_speed(make_run):
    assert "<b>40 s</b><span>left" in page_of(make_run(), is_running=True)


def test_knn_is_compared_with_the_start(make_run):
    text = page_of(make_run(looks={0: {"knn_accuracy": 0.7}, 10: {"knn_accuracy": 0.8}, 20: {"knn_accuracy": 0.75}}))
    assert "0.700 at the start, best 0.800 at step 10" in text
    assert re.search(r'class="name"[^>]*>start<', text)


def test_a_method_that_cannot_collapse_has_no_alarm_level(make_run):
    looks = {5: {"feature_std": 0.5, "effective_rank": 5.0}}
    run = make_run(looks=looks)
    assert re.search(r'class="name"[^>]*>collapse<', page_of(run))
    rows = (run / "metrics.jsonl").read_text().replace("teacher_entropy", "lr")
    (run / "metrics.jsonl").write_text(rows)
    assert not re.search(r'class="name"[^>]*>collapse<', page_of(run))


def test_warnings_failure_and_skipped_steps_are_told(make_run):
    run = make_run(looks={7: {"skipped": True}}, warnings=["step 5: collapse"], status="failed")
    (run / "run.log").write_text("2026 INFO started\n2026 INFO ended: out of luck\n2026 INFO failed after 1 s\n")
    items = re.findall(r"<li>(.*?)</li>", page_of(run))
    assert items[:2] == ["failed: out of luck", "step 5: collapse"]
    assert items[2].endswith("the last of them is 7")


def test_everything_is_escaped_and_local(make_run):
    run = make_run(settings={EVIL: EVIL}, warnings=[EVIL], environment={EVIL: EVIL})
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, EVIL: 1.0, "loss": 1.0, "other": 2.0}) + "\n")
    text = page_of(run)
    assert "<b onload" not in text
    assert text.count("&lt;b onload=") >= 6
    assert not re.search(r"https?://|url\(|@import|<script|<link", text)


def test_pictures_are_inside(make_run):
    run = make_run()
    for name in ("first_batch.png", "step_00000003.png", "step_00000012.png", "step_00000007.png"):
        (run / "previews" / name).write_bytes(b"\x89PNG")
    assert re.findall(r'<img src="([^"]{14})[^>]*alt="(.*?)"', page_of(run)) == [
        ("data:image/png", title) for title in ("Views of the first batch", "Rebuilt at step 3", "Rebuilt at step 12")
    ]


def test_a_run_that_has_not_begun(tmp_path):
    assert "No step is done yet." in page_of(tmp_path)


def test_settings_have_dotted_keys(make_run):
    assert "<code>training.steps</code></dt><dd>40</dd>" in page_of(make_run())


@pytest.fixture
def staged(make_run, tmp_path):
    whole = make_run("whole", steps=0, settings={"stages": {"base": {}, "fine": {}, "last": {}}})
    return (
        whole,
        make_run("whole/stages/base", steps=40, status="finished"),
        make_run("whole/stages/fine", warnings=["w"]),
    )


def test_stages_follow_each_other_on_one_page(staged):
    text = page_of(staged[0])
    assert re.findall(r'<a href="(stages/.*?)"', text) == ["stages/base/report.html", "stages/fine/report.html"]
    assert re.findall(r"<tr><td>.*?</td><td>(.*?)</td><td>(.*?)</td>", text) == [
        ("finished", "40 of 40"), ("running", "20 of 40"), ("not begun", "")
    ]  # fmt: skip
    assert re.search(r'class="break" d="M665.3', text)  # behind 39.25 of 59 steps
    assert "fine: w" in text
    assert "of 40, stage fine" in text


def test_no_line_joins_two_stages(staged):
    assert {path.count("M") for path in re.findall(r'class="line c0" d="(.*?)"', page_of(staged[0]))} == {2}


def test_the_page_of_a_stage_writes_that_of_the_whole_run(staged):
    text = page_of(staged[2])
    assert '<a href="../../report.html">' in text
    assert 'http-equiv="refresh"' not in text
    assert 'http-equiv="refresh"' in (staged[0] / "report.html").read_text()
