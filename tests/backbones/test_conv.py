import os
import subprocess
import sys

import torch

from scanlore.backbones.conv import Conv3d
from scanlore.backbones.resenc import ResEnc
from scanlore.backbones.settings import ResEncSettings

# What is left uninitialised holds whatever was there before; here glibc fills it with 0x7f, which is a huge number
CODE = """
import torch
from scanlore.backbones.resenc import ResEnc
from scanlore.backbones.settings import ResEncSettings
torch.manual_seed(0)
network = ResEnc(ResEncSettings(name="resenc-tiny"))
for name, parameter in network.named_parameters():
    if name.endswith("norm.weight"):
        torch.nn.init.ones_(parameter)
x, gradients = torch.randn(1, 1, 16, 24, 16), []
for enabled in (False, True):
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        out = network(x)
    (out.float() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    parameters = dict(network.named_parameters()).values()
    gradients.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
print(float((gradients[1] - gradients[0]).norm() / gradients[0].norm()))
"""


def test_gradients_in_bfloat16_are_those_of_float32_where_an_edge_is_two():
    environment = os.environ | {"MALLOC_PERTURB_": "128"}
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert float(result.stdout) < 0.2


def test_it_is_torchs_elsewhere():
    torch.manual_seed(0)
    ours, x = Conv3d(2, 3, 3, padding=1), torch.randn(1, 2, 4, 4, 4)
    assert torch.equal(ours(x), torch.nn.Conv3d.forward(ours, x))
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
        assert ours(x[:, :, :2]).dtype == torch.float32


def test_every_convolution_of_the_u_net_is_of_this_kind():
    kinds = {type(m) for m in ResEnc(ResEncSettings(name="resenc-tiny")).modules() if isinstance(m, torch.nn.Conv3d)}
    assert kinds == {Conv3d}
