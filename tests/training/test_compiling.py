import copy

import pytest
import torch

from scanlore.methods.contract import Progress
from scanlore.registry import BACKBONES, BackboneEntry
from scanlore.training.compiling import compile_blocks, is_compiled, recompute, repeated_parts, uncompiled
from scanlore.training.parallel_settings import ParallelSettings
from tiny_pretraining import random_batch, tiny_method, tiny_settings

START = Progress(0, 10)


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    monkeypatch.setitem(BACKBONES, "vit-tiny", BackboneEntry("vit", 96, 3, 3))


def terms_and_gradients(method, settings):
    torch.manual_seed(3)
    terms = method(random_batch(settings), START)
    torch.stack(list(terms.values())).sum().backward()
    return terms, {name: p.grad for name, p in method.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("positions", ["learned", "rope"])
@pytest.mark.parametrize("change", [recompute, lambda method: compile_blocks(method, "eager", fullgraph=True)])
def test_nothing_changes_but_memory_and_time(change, positions):
    settings = tiny_settings("backbone.drop_path=0.4", f"backbone.positions={positions}")
    plain = tiny_method(settings).train()
    changed = copy.deepcopy(plain)
    change(changed)
    for found, wanted in zip(*(terms_and_gradients(m, settings) for m in (changed, plain)), strict=True):
        assert found.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name])
    assert changed.state_dict().keys() == plain.state_dict().keys()


def test_only_what_learns_is_recomputed():
    method = tiny_method(tiny_settings())
    recompute(method)
    assert ["forward" in vars(block) for block in method.student.backbone.blocks] == [True] * 3
    assert ["forward" in vars(block) for block in method.teacher.backbone.blocks] == [False] * 3


def test_repeated_parts_of_a_transformer():
    method = tiny_method(tiny_settings())
    assert repeated_parts(method) == [*method.student.backbone.blocks, *method.teacher.backbone.blocks]


def test_repeated_parts_of_a_cnn_are_its_stages():
    from scanlore.backbones.build import build_backbone
    from scanlore.backbones.settings import backbone_settings

    network = build_backbone(backbone_settings({"name": "resenc-tiny", "ndim": 3}, "test"), 0)
    assert repeated_parts(network) == [*network.encoder.stages, *network.decoder.stages]


@pytest.mark.parametrize(
    ("compile_", "device", "wanted"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("on", "cpu", True), ("off", "cuda", False)],
)
def test_compiled_on_cuda_alone_by_default(compile_, device, wanted):
    assert is_compiled(ParallelSettings(compile=compile_), torch.device(device)) is wanted


def test_looks_compile_nothing():
    calls = []

    def backend(graph, inputs):
        calls.append(graph)
        return graph.forward

    method = tiny_method(tiny_settings())
    compile_blocks(method, backend)
    views = torch.zeros(1, 1, 16, 16, 16)
    with uncompiled():
        method.exported().forward_features(views)
    assert not calls
    method.exported().forward_features(views)
    assert calls
