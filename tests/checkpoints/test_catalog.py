"""The downloader, against a small server on this computer."""

import functools
import hashlib
import http.server
import shlex
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import checkpoints
from checkpoints import catalog, convert
from checkpoints.catalog import PUBLISHED, File, download, main, published
from tests.checkpoints.foreign_models import CONFIGS, Foreign

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the server's attributes say how badly."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if self.path != "/file":
            return self.send_error(404)
        start = int(asked.split("=")[1].rstrip("-")) if asked and server.ranges else 0
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + 1000])
        server.pause.wait(10)
        self.wfile.write(CONTENT[start + 1000 : server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.ranges, httpd.cut, httpd.asked = True, None, []
    httpd.pause = threading.Event()
    httpd.pause.set()
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/file"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


class Folder(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, silently."""

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(server, tmp_path):
    """A server of a folder -> its path and URL."""
    (tmp_path / "hub").mkdir()
    handler = functools.partial(Folder, directory=str(tmp_path / "hub"))
    server.RequestHandlerClass = handler
    return tmp_path / "hub", server.url.removesuffix("/file")


def files(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_fetched_once(server, tmp_path):
    seen = []
    path = download(File("w.pt", server.url, SHA), tmp_path / "a", lambda *p: seen.append(p))
    assert path.read_bytes() == CONTENT and files(tmp_path / "a") == ["w.pt"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert download(File("w.pt", server.url, SHA), tmp_path / "a") == path
    assert server.asked == [None]
    path.write_bytes(b"damaged")
    assert download(File("w.pt", server.url, SHA), tmp_path / "a").read_bytes() == CONTENT


def test_a_broken_connection_is_gone_on_from(server, tmp_path):
    server.cut = 300_000
    with pytest.raises(ValueError, match="cannot be downloaded"):
        download(File("w.pt", server.url, SHA), tmp_path)
    assert files(tmp_path) == ["w.pt.part"]
    kept = (tmp_path / "w.pt.part").stat().st_size
    assert 0 < kept <= 300_000
    server.cut, seen = None, []
    path = download(File("w.pt", server.url, SHA), tmp_path, lambda *p: seen.append(p))
    assert path.read_bytes() == CONTENT
    assert seen[0][0] > kept and seen[-1] == (len(CONTENT), len(CONTENT))
    assert server.asked == [None, f"bytes={kept}-"]
    assert files(tmp_path) == ["w.pt"]


def test_a_server_without_ranges_starts_again(server, tmp_path):
    (tmp_path / "w.pt.part").write_bytes(CONTENT[:1000])
    server.ranges = False
    assert download(File("w.pt", server.url), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_already_too_long_starts_again(server, tmp_path):
    (tmp_path / "w.pt.part").write_bytes(CONTENT + b"more")
    assert download(File("w.pt", server.url, SHA), tmp_path).read_bytes() == CONTENT


def test_two_at_once_do_not_mix(server, tmp_path):
    """The second is told at once; what the first one has written by then is left alone."""
    server.pause.clear()
    first = threading.Thread(target=download, args=(File("w.pt", server.url), tmp_path))
    first.start()
    try:
        while not server.asked:
            time.sleep(0.01)
        with pytest.raises(ValueError, match=r"another download into .* is going on: wait until"):
            download(File("w.pt", server.url), tmp_path)
    finally:
        server.pause.set()
        first.join()
    assert server.asked == [None]
    assert (tmp_path / "w.pt").read_bytes() == CONTENT
    assert files(tmp_path) == ["w.pt"]
    assert download(File("w.pt", server.url), tmp_path) == tmp_path / "w.pt"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is at hand on Linux")
def test_a_full_disk_is_not_the_networks_fault(server, tmp_path):
    (tmp_path / "w.pt.part").symlink_to("/dev/full")
    with pytest.raises(ValueError, match=r"w.pt.part cannot be written \(No space.* room, or"):
        download(File("w.pt", server.url), tmp_path)


def test_places_that_take_no_file(server, tmp_path):
    (tmp_path / "w.pt.part").mkdir()
    with pytest.raises(ValueError, match=r"w.pt.part cannot be written \(Is a dir.*another folder"):
        download(File("w.pt", server.url), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot be a folder: there is a file of that name"):
        download(File("w.pt", server.url), tmp_path / "file")


def test_a_wrong_file_is_not_kept(server, tmp_path):
    with pytest.raises(ValueError, match="sha256 differs"):
        download(File("w.pt", server.url, "0" * 64), tmp_path)
    assert files(tmp_path) == []


def test_not_found_and_no_network(server, tmp_path):
    (tmp_path / "w.pt.part").write_bytes(CONTENT[:1000])
    with pytest.raises(ValueError, match=r"answers 404 Not Found") as caught:
        download(File("w.pt", server.url + "s"), tmp_path)
    assert files(tmp_path) == ["w.pt.part"], "to be gone on from"
    assert "\n" not in str(caught.value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/w.pt"
    with pytest.raises(ValueError, match=r"check the network .* or fetch http") as caught:
        download(File("w.pt", url), tmp_path)
    assert "\n" not in str(caught.value)


def test_the_command(server, tmp_path, capsys, monkeypatch):
    entry = catalog.Published("one", "a test", "taming", "MIT", "here", (File("f", server.url),))
    monkeypatch.setattr(catalog, "PUBLISHED", (entry,))
    main([])
    assert "one" in capsys.readouterr().out
    main(["one", "--to", str(tmp_path)])
    assert (tmp_path / "one" / "f").read_bytes() == CONTENT
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{tmp_path / 'one' / 'f'}: sha256 {SHA}, unchecked, none is known here"
    assert last == f"next: python -m checkpoints.convert {tmp_path}/one/f one --format taming"
    entry = catalog.Published("one", "", "taming", "", "", (File("f", server.url, SHA),))
    monkeypatch.setattr(catalog, "PUBLISHED", (entry,))
    main(["one", "--to", str(tmp_path)])
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'one' / 'f'}: sha256 as published\n")
    with pytest.raises(SystemExit) as stop:
        main(["two"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith("choose one of one\n")


@pytest.mark.parametrize("layout", ["taming", "diffusers", "llamagen"])
def test_what_it_says_next_makes_a_bundle(hub, tmp_path, capsys, monkeypatch, layout):
    """Each entry's own file names and options, with tiny models for weights."""
    folder, url = hub
    for real in (e for e in PUBLISHED if e.layout == layout):
        weights, *config = (file.name for file in real.files)
        torch.save({"state_dict": Foreign(layout).state}, folder / weights)
        if layout == "diffusers":
            save_file(Foreign(layout).state, folder / weights)
        for name in config:
            (folder / name).write_text(CONFIGS[layout])
        served = tuple(File(file.name, f"{url}/{file.name}") for file in real.files)
        monkeypatch.setattr(catalog, "PUBLISHED", (replace(real, files=served),))
        monkeypatch.chdir(tmp_path)
        main([real.name, "--to", "a cache"])
        command = shlex.split(capsys.readouterr().out.splitlines()[-1])
        assert command[:4] == ["next:", "python", "-m", "checkpoints.convert"]
        convert.main(command[4:])
        made = checkpoints.load(real.name).vqgan.config
        assert made.unit_range == (real.name == "amused-256")
        assert made.resolution == (64 if layout == "taming" else 256)  # as its .yaml says


def test_entries_are_whole():
    assert len({entry.name for entry in PUBLISHED}) == len(PUBLISHED)
    for entry in PUBLISHED:
        assert published(entry.name) is entry
        assert entry.licence and entry.source.startswith("https://") and entry.files
        assert entry.layout in ("taming", "llamagen", "diffusers")
        for file in entry.files:
            assert file.url.startswith("https://") and "/" not in file.name
