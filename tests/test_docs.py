"""What the documentation says is run: Python blocks as they stand, and every command it names exists."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from factories import write_nifti_file
from scanlore.cli import app
from scanlore.config import recipe_names

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                if line.startswith("scanlore "):
                    yield line.partition("#")[0].split()[1:]


def resolve(words):
    """Return the command that the words name and its option names."""
    command = get_command(app)
    while getattr(command, "commands", None):
        command = command.commands[words.pop(0)]
    return command, {name for parameter in command.params for name in parameter.opts}


def test_every_command_in_the_documentation_exists():
    named = list(commands())
    assert len(named) > 15
    for words in named:
        _, options = resolve(words)
        assert {word for word in words if word.startswith("--")} <= options


def test_every_recipe_in_the_documentation_exists():
    shipped = {*recipe_names("pretrain"), *recipe_names("adapt"), "mine.yaml"}
    for words in commands():
        asked = [after for word, after in pairwise(words) if word == "--recipe"]
        assert set(asked) <= shipped


def test_every_page_is_in_the_navigation():
    def listed(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for value in (entry.values() if isinstance(entry, dict) else entry) for page in listed(value)]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(listed(nav)) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:])


@pytest.mark.slow
def test_the_python_example_of_get_started_runs(tmp_path):
    rows = ["image,label,patient,split"]
    for number in range(1, 9):
        for label in "ab":
            write_nifti_file(tmp_path / "scans" / f"{label}{number}.nii.gz", (28, 30, 26), seed=number)
            rows.append(f"scans/{label}{number}.nii.gz,{label},{label}{number},{'test' if number > 5 else 'train'}")
    # Voxels of both classes are equal; duplicates are dropped from the corpus and the path still ends in numbers
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    (example,) = blocks(ROOT / "docs" / "get-started.md", "python")
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "macro_auroc" in done.stdout
    assert "(1, 192)" in done.stdout
