from dataclasses import replace

import pytest
import torch

from scanlore.adaptation.segmentation_settings import TransferSettings
from scanlore.adaptation.transfer import build_segmenter_network, resting, sgd_of
from scanlore.backbones.build import build_backbone
from scanlore.backbones.settings import ResEncSettings
from scanlore.backbones.unique import unique_state
from scanlore.errors import ModelError
from scanlore.modelfolder.model import Model
from scanlore.modelfolder.preprocessing import Preprocessing
from scanlore.registry import BACKBONES

TRAINING = {"steps": 100, "batch_size": 2}
STEM = "encoder.stem.convs.0.conv.weight"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    tiny = replace(BACKBONES["resenc-tiny"], features=(4, 8), blocks=(1, 1))
    monkeypatch.setitem(BACKBONES, "resenc-tiny", tiny)


def model(in_channels=1, untrained=False):
    architecture = ResEncSettings(name="resenc-tiny", in_channels=in_channels)
    facts = {"architecture": architecture.model_dump(), "provenance": {"untrained": untrained}}
    preprocessing = Preprocessing(ndim=3, input_size=16, in_channels=in_channels)
    return Model("m", build_backbone(architecture, 7), preprocessing, facts)


def settings(**changes):
    return TransferSettings(training=TRAINING, **changes).resolved(untrained=False)


def states(source, num_channels=1, **changes):
    network = build_segmenter_network(source, num_channels, 3, settings(**changes), seed=1)
    return unique_state(source.backbone), unique_state(network)


def same(states, prefix):
    before, after = states
    return {torch.equal(before[name], after[name]) for name in after if name.startswith(prefix)}


def test_the_encoder_alone_is_transferred():
    found = states(model())
    assert same(found, "encoder.") == {True}
    assert same(found, "decoder.transpconvs.0.weight") == {False}


def test_all_is_transferred_but_the_heads():
    found = states(model(), transfer="all")
    assert same(found, "encoder.") == same(found, "decoder.stages.") == same(found, "decoder.transpconvs.") == {True}
    assert {t.shape[0] for name, t in found[1].items() if "seg_layers" in name and name.endswith("weight")} == {3}


def test_both_spellings_of_a_weight_are_filled():
    network = build_segmenter_network(model(), 1, 3, settings(), seed=1)
    state = network.state_dict()
    twins = [name for name in state if ".all_modules.0." in name and not name.startswith("decoder.encoder.")]
    assert twins
    assert all(torch.equal(state[name], state[name.replace("all_modules.0", "conv")]) for name in twins)


def test_equal_channels_give_what_one_gave():
    source = model()
    network = build_segmenter_network(source, 4, 3, settings(), seed=1)
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        one, four = source.backbone.maps(x), network.maps(x.expand(-1, 4, -1, -1, -1))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, four, strict=True))


def test_a_random_stem_starts_afresh():
    before, after = states(model(), num_channels=4, stem="random")
    assert not torch.allclose(after[STEM], before[STEM].repeat(1, 4, 1, 1, 1) / 4)
    assert same((before, after), "encoder.stages.") == {True}


def test_of_one_channel_the_stem_is_always_transferred():
    assert same(states(model(), stem="random"), "encoder.stem.") == {True}


def test_several_channels_cannot_become_others():
    with pytest.raises(ModelError, match="pretrained on 2 channels, the task has 3"):
        states(model(in_channels=2), num_channels=3)


def test_an_untrained_model_is_drawn_by_the_seed_of_the_trial():
    source = model(untrained=True)
    one, two, again = (
        unique_state(build_segmenter_network(source, 1, 3, settings(), seed))[STEM] for seed in (1, 2, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, two)


def test_what_auto_decides():
    def decided(untrained, **changes):
        found = TransferSettings(training=TRAINING, **changes).resolved(untrained)
        return found.warmups, found.lr

    assert decided(False) == ("decoder-then-whole", 1e-3)
    assert decided(False, transfer="all") == ("whole", 1e-3)
    assert decided(False, train="decoder") == ("whole", 1e-3)
    assert decided(True) == ("none", 1e-2)
    assert decided(True, lr=0.1, warmups="whole") == ("whole", 0.1)
    assert decided(True, momentum=0.9) == ("none", 0.1)
    assert decided(False, momentum=0.9) == ("decoder-then-whole", 0.01)


@pytest.mark.parametrize(
    ("changes", "share"),
    [({}, 0.05), ({"warmups": "whole"}, 0.0), ({"train": "decoder"}, 1.0), ({"warmup": 0.2}, 0.2)],
)
def test_how_long_the_encoder_rests(changes, share):
    rests = resting(settings(**changes), new_stem=False)
    assert (rests("encoder.stages.0.x"), rests(STEM), rests("decoder.stages.0.x")) == (share, share, 0.0)


def test_a_new_stem_may_learn_while_the_encoder_rests():
    rests = resting(settings(freeze_stem=False), new_stem=True)
    assert (rests(STEM), rests("encoder.stages.0.x")) == (0.0, 0.05)
    assert resting(settings(), new_stem=True)(STEM) == 0.05


def test_the_warmups_of_the_optimiser():
    assert sgd_of(settings()).warmups == (0.05, 0.05)
    assert sgd_of(settings(warmups="whole")).warmups == (0.05,)
    assert sgd_of(settings(warmups="none")).warmups == ()
