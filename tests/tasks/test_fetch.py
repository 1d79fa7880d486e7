import hashlib
import http.server
import json
import shutil
import threading
from collections import namedtuple

import pytest

from scanlore.errors import ConfigError, DataError
from scanlore.tasks.catalogue import RemoteFile
from scanlore.tasks.datasets.fetch import fetch_file

DATA = bytes(range(256)) * 2000
OTHER = DATA[::-1]
Usage = namedtuple("Usage", "total used free")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.data` as the server's settings say, and notes what it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if server.status_codes:
            status = server.status_codes.pop(0)
            if status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        etag = f'"{hashlib.md5(server.data).hexdigest()}"'
        start = 0
        wanted = self.headers.get("Range")
        if wanted and server.has_ranges and self.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(server.data):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.data[start:]
        self.send_response(206 if start else 200)
        if server.gives_length:
            self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.data) - 1}/{len(server.data)}")
        if server.gives_etag:
            self.send_header("ETag", etag)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.data, server.asked, server.cut_after, server.status_codes = DATA, [], [], []
    server.has_ranges = server.gives_etag = server.gives_length = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def remote(server, **checksums):
    return RemoteFile(name="scans.tar", url=f"http://127.0.0.1:{server.server_port}/scans.tar?download=1", **checksums)


def fetch(server, folder, **options):
    checksums = {key: options.pop(key) for key in ("md5", "sha256") if key in options}
    return fetch_file(remote(server, **checksums), folder, wait_seconds=0, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_is_checked(server, tmp_path):
    seen = []
    result = fetch(server, tmp_path / "new", md5=hashlib.md5(DATA).hexdigest(), advance=lambda *at: seen.append(at))
    assert result.path.read_bytes() == DATA
    assert (result.is_checked, result.already_done, result.num_bytes) == (True, False, len(DATA))
    assert result.sha256 == hashlib.sha256(DATA).hexdigest()
    assert names(tmp_path / "new") == ["scans.tar"]
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))


def test_a_file_that_is_there_is_not_asked_for_again(server, tmp_path):
    fetch(server, tmp_path)
    again = fetch(server, tmp_path)
    assert (again.already_done, again.is_checked, len(server.asked)) == (True, False, 1)


def test_a_cut_connection_is_resumed_where_it_stopped(server, tmp_path):
    server.cut_after = [1000, 5000]
    assert fetch(server, tmp_path, md5=hashlib.md5(DATA).hexdigest()).path.read_bytes() == DATA
    assert [asked for _, asked in server.asked] == [None, "bytes=1000-", "bytes=6000-"]


def test_a_later_call_goes_on_with_what_an_earlier_one_left(server, tmp_path):
    server.cut_after = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"connection broke.*the same command goes on from here"):
        fetch(server, tmp_path)
    assert names(tmp_path) == ["scans.tar.part", "scans.tar.part.json"]
    server.cut_after, server.asked[:] = [], []
    assert fetch(server, tmp_path).path.read_bytes() == DATA
    assert server.asked[0][1] == "bytes=1000-"
    assert names(tmp_path) == ["scans.tar"]


def test_a_server_without_ranges_is_asked_for_the_whole(server, tmp_path):
    server.has_ranges = False
    server.cut_after = [1000]
    assert fetch(server, tmp_path).path.read_bytes() == DATA


def test_a_server_that_names_no_version_is_asked_for_the_whole(server, tmp_path):
    server.gives_etag = False
    server.cut_after = [1000]
    assert fetch(server, tmp_path).path.read_bytes() == DATA
    assert [asked for _, asked in server.asked] == [None, None]


def test_a_server_that_always_breaks_is_given_up(server, tmp_path):
    server.has_ranges = False
    server.cut_after = [1000] * 50
    with pytest.raises(DataError, match="connection broke"):
        fetch(server, tmp_path)
    assert len(server.asked) < 10


def test_a_file_that_changed_in_between_is_not_mixed(server, tmp_path):
    server.cut_after = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(DataError):
        fetch(server, tmp_path)
    server.cut_after, server.data = [], OTHER
    assert fetch(server, tmp_path).path.read_bytes() == OTHER


def test_a_part_of_another_link_is_not_used(server, tmp_path):
    (tmp_path / "scans.tar.part").write_bytes(OTHER[:1000])
    facts = {"url": "http://elsewhere/scans.tar", "version": '"x"', "total": len(DATA)}
    (tmp_path / "scans.tar.part.json").write_text(json.dumps(facts))
    assert fetch(server, tmp_path).path.read_bytes() == DATA
    assert server.asked[0][1] is None


def test_a_part_that_is_whole_is_only_checked(server, tmp_path):
    (tmp_path / "scans.tar.part").write_bytes(DATA)
    facts = {"url": remote(server).url, "version": '"x"', "total": len(DATA)}
    (tmp_path / "scans.tar.part.json").write_text(json.dumps(facts))
    assert fetch(server, tmp_path).path.read_bytes() == DATA
    assert server.asked == []


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match=f"was not kept: its md5 is {hashlib.md5(DATA).hexdigest()}"):
        fetch(server, tmp_path, md5="0" * 32)
    assert names(tmp_path) == []


def test_a_file_of_the_users_with_another_checksum_stays(server, tmp_path):
    (tmp_path / "scans.tar").write_bytes(b"mine")
    with pytest.raises(DataError, match="is there, and its sha256"):
        fetch(server, tmp_path, sha256=hashlib.sha256(DATA).hexdigest())
    assert (tmp_path / "scans.tar").read_bytes() == b"mine"


@pytest.mark.parametrize(("code", "words"), [(404, "has no such file"), (403, "refuses access"), (401, "a login")])
def test_a_refusal_is_said_at_once(server, tmp_path, code, words):
    server.status_codes = [code]
    with pytest.raises(DataError, match=words) as error:
        fetch(server, tmp_path)
    assert len(server.asked) == 1
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.status_codes = [503, 429, 200]
    assert fetch(server, tmp_path).path.read_bytes() == DATA


def test_a_server_that_is_not_there(server, tmp_path):
    file = RemoteFile(name="a.tar", url="http://127.0.0.1:9/a.tar")
    with pytest.raises(DataError, match="the server cannot be reached"):
        fetch_file(file, tmp_path, wait_seconds=0)


def test_a_disk_that_is_too_small(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 90, 10))
    with pytest.raises(DataError, match="the disk is too small"):
        fetch(server, tmp_path)
    assert not (tmp_path / "scans.tar").exists()


@pytest.fixture
def proxy(server):
    """A proxy that answers for every host, with what the server has."""
    return f"http://127.0.0.1:{server.server_port}"


def test_a_proxy_of_the_environment_is_used(server, proxy, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    file = RemoteFile(name="a.tar", url="http://no-such-host.invalid/a.tar")
    assert fetch_file(file, tmp_path, wait_seconds=0).path.read_bytes() == DATA
    assert server.asked[0][0] == "http://no-such-host.invalid/a.tar"


def test_a_proxy_that_is_given_is_used(server, proxy, tmp_path):
    file = RemoteFile(name="a.tar", url="http://no-such-host.invalid/a.tar")
    fetch_file(file, tmp_path, proxy=proxy, wait_seconds=0)
    assert server.asked[0][0] == "http://no-such-host.invalid/a.tar"


def test_a_proxy_that_is_no_address_is_refused(server, tmp_path):
    with pytest.raises(ConfigError, match="--proxy"):
        fetch(server, tmp_path, proxy="proxy:3128")
    assert server.asked == []
