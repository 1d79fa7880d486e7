import torch
from torch import nn

from scanlore.backbones.unique import spellings, unique_state


def test_a_tensor_has_one_name_the_first(small):
    network = small("resenc-tiny")
    state, full = unique_state(network), network.state_dict()
    assert len(state) == len(list(network.parameters())) < len(full)
    assert "encoder.stem.convs.0.conv.weight" in state
    assert not [name for name in state if "all_modules" in name or name.startswith("decoder.encoder.")]
    assert sum(len(names) for names in spellings(network).values()) == len(full)


def test_names_of_one_tensor_hold_the_same(small):
    full = small("resenc-tiny").state_dict()
    for names in spellings(small("resenc-tiny")).values():
        assert all(torch.equal(full[name], full[names[0]]) for name in names)


def test_a_network_without_twins_keeps_all_names():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert list(unique_state(network)) == list(network.state_dict())


def test_the_memory_is_the_modules():
    network = nn.Linear(2, 2)
    unique_state(network)["weight"].zero_()
    assert not network.weight.any()
