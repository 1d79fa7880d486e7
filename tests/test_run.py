import errno
import json
import logging

import pytest
import yaml

from scanlore.errors import ConfigError, DataError
from scanlore.run import Run, check_run, environment, write_atomically

SETTINGS = {"optim": {"lr": 1e-3, "betas": (0.9, 0.95)}, "seed": 0}


def finished(out):
    run = Run(out, "pretrain", SETTINGS)
    with run.logging():
        logging.getLogger("scanlore").info("at work")
    return run


def test_new_folder_is_not_created_by_a_check(tmp_path):
    assert check_run(tmp_path / "R", "pretrain", SETTINGS) == "new"
    assert not (tmp_path / "R").exists()


def test_empty_folder_is_free(tmp_path):
    assert check_run(tmp_path, "pretrain", SETTINGS) == "new"


def test_states(tmp_path):
    out = tmp_path / "R"
    assert Run(out, "pretrain", SETTINGS).state == "new"
    assert check_run(out, "pretrain", SETTINGS) == "continued"
    assert Run(out, "pretrain", SETTINGS).state == "continued"
    assert finished(out).state == "continued"
    assert check_run(out, "pretrain", SETTINGS) == "finished"


def test_what_a_run_leaves(tmp_path):
    finished(tmp_path / "R")
    assert {path.name for path in (tmp_path / "R").iterdir()} == {"config.yaml", "run.json", "run.log"}
    assert yaml.safe_load((tmp_path / "R" / "config.yaml").read_text())["optim"] == {"lr": 1e-3, "betas": [0.9, 0.95]}
    record = json.loads((tmp_path / "R" / "run.json").read_text())
    assert (record["command"], record["status"]) == ("pretrain", "finished")
    assert {"started", "ended", "wall_seconds", "environment"} <= record.keys()
    assert "INFO at work" in (tmp_path / "R" / "run.log").read_text()


def test_other_settings_are_listed(tmp_path):
    finished(tmp_path / "R")
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.001 -> 0\.1; seed: 0 -> 1") as error:
        check_run(tmp_path / "R", "pretrain", {"optim": {"lr": 0.1, "betas": [0.9, 0.95]}, "seed": 1})
    assert "\n" not in str(error.value)


def test_another_command_is_refused(tmp_path):
    finished(tmp_path / "R")
    with pytest.raises(ConfigError, match="holds a 'pretrain' run"):
        check_run(tmp_path / "R", "adapt", SETTINGS)


@pytest.mark.parametrize("text", [None, "[]", "{}", '{"command"', "\x00"])
def test_foreign_folders_are_refused(tmp_path, text):
    (tmp_path / "thesis.docx").touch()
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match="is no run folder") as error:
        Run(tmp_path, "pretrain", SETTINGS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "config.yaml").exists()


def test_file_as_out_is_refused(tmp_path):
    (tmp_path / "R").touch()
    with pytest.raises(ConfigError, match="is no run folder"):
        check_run(tmp_path / "R", "pretrain", SETTINGS)


def test_failure_is_recorded_logged_and_raised(tmp_path):
    run = Run(tmp_path / "R", "pretrain", SETTINGS)
    with pytest.raises(ZeroDivisionError), run.logging():
        _ = 1 / 0
    assert json.loads((tmp_path / "R" / "run.json").read_text())["status"] == "failed"
    assert "ZeroDivisionError" in (tmp_path / "R" / "run.log").read_text()
    assert check_run(tmp_path / "R", "pretrain", SETTINGS) == "continued"


def test_time_adds_up_over_calls(tmp_path):
    run = finished(tmp_path / "R")
    run.note(wall_seconds=100.0)
    again = Run(tmp_path / "R", "pretrain", SETTINGS)
    with again.logging():
        pass
    assert again.record["wall_seconds"] >= 100
    assert again.record["started"] == run.record["started"]


def test_log_ends_with_the_run(tmp_path):
    finished(tmp_path / "R")
    before = (tmp_path / "R" / "run.log").read_text()
    logging.getLogger("scanlore").warning("later")
    assert (tmp_path / "R" / "run.log").read_text() == before


def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "f"
    write_atomically(path, "old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomically_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_environment_names_versions_and_no_machine():
    import platform

    facts = environment()
    assert {"scanlore", "python", "torch", "numpy"} <= facts.keys()
    assert platform.node() not in " ".join(facts.values()).split()


def test_an_interrupted_run_says_so_and_runs_again_when_continued(tmp_path):
    def interrupt():
        run = Run(tmp_path / "r", "pretrain", {"seed": 0})
        with run.logging():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "interrupted"
    Run(tmp_path / "r", "pretrain", {"seed": 0})
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "running"


def test_a_full_disk_is_one_line(tmp_path):
    def fill():
        with Run(tmp_path / "r", "pretrain", {"seed": 0}).logging():
            raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(DataError, match="the disk is full"):
        fill()


def test_a_folder_with_a_config_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "config.yaml").write_text("mine: 1", encoding="utf-8")
    with pytest.raises(ConfigError, match="no run folder"):
        check_run(tmp_path, "pretrain", {"seed": 0})


def test_a_run_killed_before_its_settings_were_written_begins_again(tmp_path):
    Run(tmp_path / "r", "pretrain", {"seed": 0})
    (tmp_path / "r" / "config.yaml").unlink()
    assert check_run(tmp_path / "r", "pretrain", {"seed": 1}) == "new"
