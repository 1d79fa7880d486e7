import functools
import http.server
import threading

import pytest
import torch

from scanlore.errors import ModelError
from scanlore.modelfolder.licences import DINOV2
from scanlore.modelfolder.published import download
from scanlore.modelfolder.weights import open_weights


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves a folder in place of Meta's server."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / "served").mkdir()
    handler = functools.partial(Handler, directory=tmp_path / "served")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("SCANLORE_DINOV2_URL", f"http://127.0.0.1:{server.server_port}/dinov2/")
    monkeypatch.setenv("SCANLORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.0)
    yield tmp_path / "served"
    server.shutdown()
    thread.join()
    server.server_close()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("name", "path"), [("vits14", ""), ("vits14_reg", "_reg4")])
def test_a_published_model_is_downloaded_once(server, tmp_path, flat, name, path):
    folder = server / "dinov2" / "dinov2_vits14"
    folder.mkdir(parents=True)
    torch.save(flat, folder / f"dinov2_vits14{path}_pretrain.pth")
    weights = open_weights(f"dinov2:{name}")
    assert torch.equal(weights.backbone["cls_token"], flat["cls_token"])
    assert (weights.name, weights.facts["licence"]) == (f"dinov2:{name}", DINOV2)
    (folder / f"dinov2_vits14{path}_pretrain.pth").unlink()
    assert torch.equal(open_weights(f"dinov2:{name}").backbone["norm.bias"], flat["norm.bias"])
    kept = [file.name for file in (tmp_path / "cache" / "dinov2").iterdir() if file.suffix != ".lock"]
    assert kept == [f"dinov2_vits14{path}_pretrain.pth"]


def test_a_file_the_server_lacks_is_one_line(server, tmp_path):
    with pytest.raises(ModelError, match=r"no such file.*download http://.*dinov2_vitb14_pretrain\.pth") as error:
        open_weights("dinov2:vitb14")
    assert "\n" not in str(error.value)
    assert [file.suffix for file in (tmp_path / "cache" / "dinov2").iterdir()] == [".lock"]


def test_no_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("SCANLORE_DINOV2_URL", "http://127.0.0.1:9/dinov2")
    monkeypatch.setenv("SCANLORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.0)
    with pytest.raises(ModelError, match=r"cannot be downloaded: .*name it: dinov2:FILE") as error:
        open_weights("dinov2:vitl14_reg")
    assert "\n" not in str(error.value)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SCANLORE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot be kept: .*set SCANLORE_CACHE"):
        open_weights("dinov2:vits14")


@pytest.mark.parametrize(("rest", "says"), [("vits16", "did you mean 'vits14'"), ("", "names no model")])
def test_an_unknown_name_lists_the_known(rest, says):
    with pytest.raises(ModelError, match=f"{says}|vitg14_reg.*{says}"):
        open_weights(f"dinov2:{rest}")


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("SCANLORE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / "scanlore"
