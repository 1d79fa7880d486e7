import subprocess
import sys
from importlib.util import find_spec

import pytest

from scanlore.registry import BACKBONES, METHODS, PROTOCOLS, BackboneEntry, unusable_reason


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_a_module(name):
    assert find_spec(METHODS[name].module) is not None
    assert METHODS[name].note


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_are_whole(name):
    entry = BACKBONES[name]
    if entry.family == "vit":
        assert entry.embed_dim % entry.num_heads == 0
        assert entry.ffn in ("mlp", "swiglu")
    else:
        assert len(entry.features) == len(entry.blocks) == entry.depth
        assert entry.features[-1] == entry.embed_dim
        assert entry.input_size % 2 ** (entry.depth - 1) == 0
    assert entry.note


def test_protocols_say_what_they_are():
    assert all(PROTOCOLS.values())


def test_every_method_can_use_a_backbone():
    for method in METHODS:
        assert any(unusable_reason(method, name) is None for name in BACKBONES)


def test_unusable_backbone_is_named_with_those_that_are(monkeypatch):
    monkeypatch.setitem(BACKBONES, "cnn", BackboneEntry("cnn", 32, 4, 1, capabilities=("maps",)))
    reason = unusable_reason("dino", "cnn")
    assert "method 'dino' needs tokens, which 'cnn' lacks" in reason
    assert reason.endswith("it can use vit-tiny, vit-small, vit-base, vit-large, vit-giant")


def test_names_and_settings_come_without_torch():
    code = (
        "import sys, scanlore.registry, scanlore.config, scanlore.run, scanlore.backbones.settings,"
        " scanlore.views.settings, scanlore.corpus.settings, scanlore.modelfolder.preprocessing;"
        "sys.exit(str({'torch', 'polars', 'sklearn', 'nibabel', 'matplotlib'} & set(sys.modules) or ''))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == ""
