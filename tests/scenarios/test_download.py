"""Downloading the trace from a local server that fails in the ways in which servers and networks fail."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from jaxcec.scenarios.alibaba import download as module
from jaxcec.scenarios.alibaba.download import SHA256, URL, download, main

CSV = b"M1,1,j_1,1,Terminated,10,20,100.00,0.5\n" * 20_000


def member(name, content=CSV, **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(*members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=0) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


GOOD = packed(member("batch_task.csv"))


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; `behaviour` names the fault of each successive request, the last for all later ones."""

    content = GOOD
    behaviour = ("well",)

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/batch_task.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        how = server.behaviour[min(len(server.asked), len(server.behaviour)) - 1]
        content, first = server.content, 0
        if isinstance(how, int):
            return self.send_error(how)
        if asked and how != "ignores ranges":
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
        if asked and first >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if asked and how != "ignores ranges" else 200)
        if how == "wrong range":
            self.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        elif asked:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        rest = content[first:]
        if how == "wrong bytes":
            rest = bytes(len(rest))
        self.wfile.write(rest[: {"cuts": len(rest) // 2, "sends nothing": 0}.get(how, len(rest))])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def fetch(server, tmp_path):
    def fetch_and_read(content=GOOD, *behaviour, sha256=None):
        server.content, server.behaviour, server.asked = content, behaviour or ("well",), []
        digest = sha256 or hashlib.sha256(content).hexdigest()
        return download(tmp_path, url=server.url, sha256=digest).read_bytes()

    return fetch_and_read


def left(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


def test_the_archive_is_downloaded_checked_and_unpacked(fetch, tmp_path):
    assert fetch() == CSV and left(tmp_path) == ["batch_task.csv"]


def test_a_broken_connection_is_resumed_where_it_broke_off(fetch, server, tmp_path):
    assert fetch(GOOD, "cuts", "cuts", "well") == CSV
    half = len(GOOD) // 2
    assert server.asked == [None, f"bytes={half}-", f"bytes={half + (len(GOOD) - half) // 2}-"]
    assert left(tmp_path) == ["batch_task.csv"]


def test_a_server_error_is_retried(fetch, server):
    assert fetch(GOOD, 503, "cuts", 500, "well") == CSV and len(server.asked) == 4


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(fetch, server):
    assert fetch(GOOD, "cuts", "ignores ranges") == CSV and server.asked[1]


def test_another_call_resumes_the_partial_file(fetch, server, tmp_path):
    with pytest.raises(OSError, match=r"broke off; .*\.part is kept, run the command again"):
        fetch(GOOD, "cuts", "sends nothing")
    assert left(tmp_path) == ["batch_task.tar.gz.part"]
    assert fetch() == CSV and server.asked == [f"bytes={len(GOOD) // 2}-"]


def test_a_complete_partial_file_is_not_downloaded_again(fetch, tmp_path):
    (tmp_path / "batch_task.tar.gz.part").write_bytes(GOOD)
    assert fetch() == CSV


def test_a_partial_file_longer_than_the_archive_is_downloaded_again(fetch, tmp_path):
    (tmp_path / "batch_task.tar.gz.part").write_bytes(GOOD + b"more")
    assert fetch() == CSV


def test_a_range_that_was_not_requested_is_not_appended(fetch, tmp_path):
    (tmp_path / "batch_task.tar.gz.part").write_bytes(GOOD[:100])
    with pytest.raises(OSError, match=r"the server sent bytes 0-\d+/\d+; expected bytes 100-"):
        fetch(GOOD, "wrong range")
    assert (tmp_path / "batch_task.tar.gz.part").read_bytes() == GOOD[:100]


def test_an_archive_with_a_wrong_checksum_is_refused_and_removed(fetch, tmp_path):
    with pytest.raises(ValueError, match=r"sha256 is [0-9a-f]{64}; expected [0-9a-f]{64}; the download was removed"):
        fetch(GOOD, "cuts", "wrong bytes")
    assert left(tmp_path) == []


def test_an_archive_that_is_too_large_is_refused(fetch, monkeypatch):
    monkeypatch.setattr(module, "_LARGEST_ARCHIVE", 1000)
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        fetch()


def test_a_missing_file_is_not_requested_again(fetch, server):
    with pytest.raises(OSError, match="the server answered 404"):
        fetch(GOOD, 404)
    assert len(server.asked) == 1


LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}


@pytest.mark.parametrize(
    "content, message",
    [
        (packed(member("../batch_task.csv")), r"holds '../batch_task.csv'; expected one file batch_task.csv"),
        (packed(member("/tmp/batch_task.csv")), r"holds '/tmp/batch_task.csv'; expected one file"),
        (packed(member("batch_task.csv", b"", **LINK)), r"holds 'batch_task.csv'; expected one file"),
        (packed(member("batch_task.csv"), member("../other")), r"holds '../other'; expected one file"),
        (packed(member("batch_task.csv"), member("batch_task.csv")), r"holds 'batch_task.csv'; expected one file"),
        (packed(), "empty; expected batch_task.csv"),
        (GOOD[: len(GOOD) // 2], "not a complete .tar.gz archive"),
        (b"no archive", "not a complete .tar.gz archive"),
    ],
)
def test_an_archive_with_any_other_content_is_refused(content, message, fetch, tmp_path):
    outside = left(tmp_path.parent)
    with pytest.raises(ValueError, match=message):
        fetch(content)
    assert "batch_task.csv" not in left(tmp_path) and left(tmp_path.parent) == outside


def test_a_file_that_is_too_large_is_not_unpacked(fetch, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_LARGEST_MEMBER", len(CSV) - 1)
    with pytest.raises(ValueError, match=rf"batch_task.csv has {len(CSV):,} bytes; must be at most {len(CSV) - 1:,}"):
        fetch()
    assert "batch_task.csv" not in left(tmp_path)


def test_the_command_downloads_the_file_and_reports_errors(server, tmp_path, capsys):
    command = ["download", "--to", str(tmp_path / "new"), "--url", server.url]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2 and f"expected {SHA256}" in capsys.readouterr().err
    main([*command, "--sha256", hashlib.sha256(GOOD).hexdigest()])
    assert (tmp_path / "new" / "batch_task.csv").read_bytes() == CSV
    with pytest.raises(SystemExit):
        main([*command, "--sha256", "abc"])
    assert "sha256: got 'abc'; must be 64 hexadecimal digits" in capsys.readouterr().err
    assert URL.startswith("http://aliopentrace.")
