import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from helpers.data import download
from helpers.data.download import download_archive, main

NAME = "stage1_train.zip"


def pack(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


GOOD = pack({f"{n}/images/{n}.png": bytes([n]) * 40_000 for n in range(20)})


def sum_of(content):
    return hashlib.sha256(content).hexdigest()


class Server:
    """A server on loopback that can break off, ignore ranges and answer errors."""

    def __init__(self):
        self.content, self.knows_ranges, self.break_after = GOOD, True, []
        self.requests = []  # the Range header of each request
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/bbbc/"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.requests.append(asked)
        content = self.content
        if content is None:
            handler.send_error(404)
            return
        start = int(asked[6:-1]) if asked and self.knows_ranges else 0
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        stop = start + self.break_after.pop(0) if self.break_after else len(content)
        handler.wfile.write(content[start:stop])
        handler.close_connection = True


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def fetch(server, folder, sha256=None):
    return download_archive(
        NAME, folder, base_url=server.url, sha256=sha256 or sum_of(server.content)
    )


def test_an_archive_is_downloaded_once(server, tmp_path):
    path = fetch(server, tmp_path)
    assert path.read_bytes() == GOOD
    assert fetch(server, tmp_path) == path
    assert server.requests == [None]
    assert [item.name for item in tmp_path.iterdir()] == [NAME]


def test_a_broken_transfer_is_resumed_at_once(server, tmp_path):
    server.break_after = [100_000, 200_000]
    assert fetch(server, tmp_path).read_bytes() == GOOD
    assert server.requests == [None, "bytes=100000-", "bytes=300000-"]


def test_a_later_call_goes_on_where_the_first_stopped(server, tmp_path, monkeypatch):
    server.break_after = [100_000, 50_000]
    monkeypatch.setattr(download, "N_ATTEMPTS", 2)
    with pytest.raises(ConnectionError, match=r"0\.1 MB are kept in .*\.part"):
        fetch(server, tmp_path)
    assert not (tmp_path / NAME).exists()
    assert fetch(server, tmp_path).read_bytes() == GOOD
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.knows_ranges = False
    server.break_after = [100_000]
    assert fetch(server, tmp_path).read_bytes() == GOOD
    assert server.requests == [None, "bytes=100000-"]


def test_a_part_that_is_whole_is_not_asked_for_again(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(GOOD)
    assert fetch(server, tmp_path).read_bytes() == GOOD


def test_a_part_that_is_too_long_is_thrown_away(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(GOOD + b"more")
    assert fetch(server, tmp_path).read_bytes() == GOOD


def test_a_damaged_archive_is_refused_and_deleted(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(b"of another file")
    with pytest.raises(ValueError, match=r"damaged: its SHA-256 is not .* deleted"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fetch(server, tmp_path).read_bytes() == GOOD


def test_a_damaged_archive_in_the_folder_is_replaced(server, tmp_path):
    (tmp_path / NAME).write_bytes(GOOD[:-5])
    assert fetch(server, tmp_path).read_bytes() == GOOD


@pytest.mark.parametrize(
    "content, words",
    [
        (pack({"../out.png": b"x"}), "unsafe name"),
        (GOOD.replace(bytes([3]) * 40_000, bytes([4]) * 40_000), "does not match its checksum"),
        (b"<html>not found</html>", "not a zip file"),
    ],
)
def test_without_a_checksum_the_archive_is_looked_into(server, tmp_path, content, words):
    server.content = content
    with pytest.raises(ValueError, match=words):
        download_archive(NAME, tmp_path, base_url=server.url)
    assert list(tmp_path.iterdir()) == []


def test_without_a_published_checksum_the_first_one_counts(server, tmp_path):
    path = download_archive(NAME, tmp_path, base_url=server.url)
    path.unlink()
    server.content = pack({"other.png": b"x"})
    with pytest.raises(ValueError, match="damaged"):
        download_archive(NAME, tmp_path, base_url=server.url)


def test_only_web_addresses_are_asked(tmp_path):
    with pytest.raises(ValueError, match="must start with https://"):
        download_archive(NAME, tmp_path, base_url="file:///etc/")


def test_the_command_says_what_it_did(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(download.SHA256, NAME, sum_of(GOOD))
    arguments = ["--folder", str(tmp_path), "--base-url", server.url]
    assert main([*arguments, "--with-test"]) == 0
    train, test = capsys.readouterr().out.splitlines()
    assert "0.8 MB, matches its published checksum" in train
    assert "stage1_test.zip" in test
    assert "No checksum is published" in test


def test_the_command_fails_with_one_message(server, tmp_path, capsys):
    server.content = None
    assert main(["--folder", str(tmp_path), "--base-url", server.url]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "the server answers 404" in errors[0]


def test_the_command_fails_on_another_file(server, tmp_path, capsys):
    assert main(["--folder", str(tmp_path), "--base-url", server.url]) == 1
    assert "stage1_train.zip is damaged" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
