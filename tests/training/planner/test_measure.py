import math
import shutil

import pytest
import torch

from scanlore.errors import DataError
from scanlore.training.planner import measure
from tiny_pretraining import tiny_plan, tiny_settings

CPU = torch.device("cpu")


def test_two_steps_are_done(tiny_corpus):
    found = measure(tiny_settings(), tiny_plan(tiny_corpus, tiny_settings()), CPU)
    assert found.peak_bytes > 0
    assert math.isfinite(found.loss)


def test_a_store_that_cannot_be_read_is_told(tiny_corpus, tmp_path):
    copied = shutil.copytree(tiny_corpus, tmp_path / "corpus")
    plan = tiny_plan(copied, tiny_settings())
    for shard in copied.rglob("*"):
        if shard.is_file() and shard.suffix not in (".parquet", ".json"):
            shard.unlink()
    with pytest.raises(DataError):
        measure(tiny_settings(), plan, CPU)
