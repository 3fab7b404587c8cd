"""Published sets are downloaded whole or not at all, from a server on loopback here."""

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest

from helpers.command import main
from helpers.data.sets import SETS, fetch


def pack(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


GOOD = pack({f"{n}/images/{n}.png": bytes([n]) * 40_000 for n in range(20)})


class Answer(BaseHTTPRequestHandler):
    """Answers with what its server holds, or with an error if that is nothing."""

    def do_GET(self):
        self.server.n_requests += 1
        if self.server.content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pooch.core.time, "sleep", lambda _: None)
    known = hashlib.sha256(GOOD).hexdigest()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.content, server.n_requests = GOOD, 0
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        for name, sha256 in (("bbbc038", known), ("bbbc038_test", None), ("tnbc", known)):
            address = f"http://127.0.0.1:{server.server_port}/{SETS[name].file}"
            changed = SETS[name]._replace(address=address, sha256=sha256)
            monkeypatch.setitem(SETS, name, changed)
        yield server
        server.shutdown()


def test_an_archive_is_downloaded_once(server, tmp_path):
    path = fetch("bbbc038", tmp_path / "new")
    assert path == tmp_path / "new" / "stage1_train.zip"
    assert path.read_bytes() == GOOD
    assert fetch("bbbc038", tmp_path / "new") == path
    assert server.n_requests == 1
    path.write_bytes(GOOD[:-1])
    assert fetch("bbbc038", tmp_path / "new").read_bytes() == GOOD


def test_what_stays_damaged_is_not_kept(server, tmp_path):
    server.content = GOOD[:-100] + bytes(100)
    with pytest.raises(ValueError, match=r"stage1_train.zip .* is damaged: its SHA-256 is not"):
        fetch("bbbc038", tmp_path)
    with pytest.raises(ValueError, match=r"is damaged .* and was deleted"):
        fetch("bbbc038_test", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unsafe_names_are_refused(server, tmp_path):
    server.content = pack({"../outside.png": b"x"})
    with pytest.raises(ValueError, match="unsafe name"):
        fetch("bbbc038_test", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_wrong_in_a_line(server, tmp_path, capsys):
    assert main(["data"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name}: " in listed for name in SETS) and "CC BY 4.0" in listed
    assert main(["data", "tnbc", "--folder", str(tmp_path)]) == 0
    assert (tmp_path / "tnbc.zip").read_bytes() == GOOD
    assert main(["data", "bbbc038", "--folder", str(tmp_path)]) == 0
    assert "CC0" in capsys.readouterr().out
    server.content = None
    assert main(["data", "bbbc038_test", "--folder", str(tmp_path)]) == 1
    assert "404" in capsys.readouterr().err
    assert main(["data", "nothing", "--folder", str(tmp_path)]) == 1
    assert "must be one of bbbc038, bbbc038_test, stardist" in capsys.readouterr().err
