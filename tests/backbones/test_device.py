import pytest
import torch

from scanlore.backbones.device import autocast, pick_device, resolve_precision
from scanlore.errors import ConfigError


def test_known_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta", ""])
def test_missing_devices(name):
    with pytest.raises(ConfigError, match="no device"):
        pick_device(name)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision(precision, dtype):
    cpu = torch.device("cpu")
    assert resolve_precision(precision, cpu) == precision
    with autocast(precision, cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
