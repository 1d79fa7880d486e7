import json
import os

import pytest

from scanlore.errors import ModelError
from scanlore.modelfolder.facts import read_facts


def refused(folder, says):
    with pytest.raises(ModelError, match=says) as error:
        read_facts(folder)
    assert "\n" not in str(error.value)


def test_facts_are_the_files(folder):
    assert read_facts(folder) == json.loads((folder / "model.json").read_text())


def test_truncated(folder):
    os.truncate(folder / "model.json", 40)
    refused(folder, r"model\.json: is damaged")


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"format_version": 1}', "\ufffe"])
def test_foreign(folder, text):
    (folder / "model.json").write_text(text, encoding="utf-8")
    refused(folder, r"model\.json: is damaged")


def test_other_format(folder):
    (folder / "model.json").write_text('{"format_version": 99}')
    refused(folder, "has format 99")
