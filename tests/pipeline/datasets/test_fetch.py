from __future__ import annotations

import errno
import gzip
import hashlib
import shutil
import socket
import threading
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from pipeline.datasets import fetch as fetching
from pipeline.datasets.fetch import FetchError, by_hand, fetch, fetch_archives, verify_archive
from pipeline.datasets.manifest import Archive, Manifest
from pipeline.terminal.errors import ReidpipeError

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``cuts`` connections are cut after 100 kB, ``requests`` are recorded.

    version: headers that name the content; if_range: whether the server knows that header; errors:
    statuses of the next answers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts = 0
        self.ranges = True
        self.content = CONTENT
        self.version: dict[str, str] = {}
        self.if_range = True
        self.errors: list[int] = []
        self.requests: list[str | None] = []

    def url(self, path: str = "data.zip") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if self.path == "/absent":
            self.send_error(404)
            return
        if server.errors:
            self.send_error(server.errors.pop())
            return
        content = server.content
        start = 0
        meant = self.headers.get("If-Range")
        if server.if_range and meant and meant not in server.version.values():
            wanted = None
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        for name, value in server.version.items():
            self.send_header(name, value)
        kind = "text/html" if self.path == "/page" else "application/zip"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if server.cuts > 0:
            server.cuts -= 1
            self.wfile.write(content[start : start + 100_000])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def archive(*urls: str, **changes: Any) -> Archive:
    fields: dict[str, Any] = {
        "name": "data.zip",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "checksum_source": "computed here",
        "urls": urls,
    }
    return Archive(**fields | changes)


def manifest(policy: str, *archives: Archive, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "id": "sample",
        "title": "Sample-1",
        "year": 2020,
        "kind": "reid",
        "policy": policy,
        "licence": "none",
        "citation": (),
        "notice": "",
        "archives": archives,
    }
    return Manifest(**fields | changes)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/data.zip"


def test_a_file_arrives_whole_and_is_not_fetched_again(tmp_path: Path, server: Server) -> None:
    path = fetch(archive(server.url()), tmp_path)
    assert path.read_bytes() == CONTENT
    assert fetch(archive(server.url()), tmp_path) == path
    assert server.requests == [None]
    assert names(tmp_path) == ["data.zip"]


def test_cut_connections_are_continued_not_repeated(tmp_path: Path, server: Server) -> None:
    server.cuts = 2
    assert fetch(archive(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=200000-"]


def test_a_killed_download_is_continued(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:1234])
    assert fetch(archive(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=1234-"]


def test_a_complete_part_needs_no_request(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT)
    fetch(archive(server.url()), tmp_path)
    assert server.requests == []
    (tmp_path / "data.zip").rename(tmp_path / "data.zip.part")
    fetch(archive(server.url(), size=None), tmp_path)  # only the server knows the size: 416
    assert server.requests == [f"bytes={len(CONTENT)}-"]


def test_a_server_without_ranges_starts_over(tmp_path: Path, server: Server) -> None:
    server.ranges = False
    (tmp_path / "data.zip.part").write_bytes(b"x" * 5000)
    assert fetch(archive(server.url()), tmp_path).read_bytes() == CONTENT


def test_bytes_are_kept_as_they_are_sent(tmp_path: Path, server: Server) -> None:
    """Apache calls a .tar.gz ``Content-Encoding: gzip``, whatever was asked for."""
    server.content = gzip.compress(CONTENT * 2, 1, mtime=0)
    server.version = {"Content-Encoding": "gzip"}
    server.cuts = 1
    sent = {"sha256": hashlib.sha256(server.content).hexdigest(), "size": len(server.content)}
    path = fetch(archive(server.url(), md5=None, **sent), tmp_path)
    assert path.read_bytes() == server.content
    assert server.requests == [None, "bytes=100000-"]
    unknown = {"sha256": None, "md5": None, "size": None, "checksum_source": None}
    path = fetch(archive(server.url(), name="b.zip", **unknown), tmp_path)
    assert path.read_bytes() == server.content


def test_beginning_from_zero_comes_to_an_end(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def endless(url: str, part: Path, *_: Any, **__: Any) -> None:
        calls.append(len(calls))
        if part.exists():
            part.unlink()
        else:
            part.write_bytes(CONTENT[:1000])
        if len(calls) > 50:
            raise AssertionError("it goes on for ever")
        raise requests.ConnectionError("not this way")

    monkeypatch.setattr(fetching, "_stream", endless)
    with pytest.raises(FetchError, match="not this way"):
        fetch(archive(server.url()), tmp_path)
    assert len(calls) <= 2 * fetching._ATTEMPTS


@pytest.mark.parametrize("stale", [CONTENT[:500] + b"x" * 500, b"x" * 400_000])
def test_a_part_of_another_version_is_replaced(
    tmp_path: Path, server: Server, stale: bytes
) -> None:
    (tmp_path / "data.zip.part").write_bytes(stale)
    assert fetch(archive(server.url()), tmp_path).read_bytes() == CONTENT


ETAG, DATE = {"ETag": '"one"'}, {"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
NO_CHECKSUM: dict[str, Any] = {"size": None, "sha256": None, "checksum_source": None}


def interrupted(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """A file without a checksum whose download was cut after 100,000 bytes and given up."""
    unchecked = archive(server.url(), **NO_CHECKSUM)
    server.cuts = 1
    with monkeypatch.context() as patch:
        patch.setattr(fetching.time, "sleep", _killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(unchecked, folder)
    assert (folder / "data.zip.part").read_bytes() == CONTENT[:100_000]
    server.requests.clear()
    return unchecked


def _killed(seconds: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("version", [ETAG, DATE, DATE | {"ETag": 'W/"weak"'}])
def test_without_a_checksum_the_same_version_is_continued(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, version: dict[str, str]
) -> None:
    server.version = version
    unchecked = interrupted(tmp_path, server, monkeypatch)
    assert fetch(unchecked, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=100000-"]
    assert names(tmp_path) == ["data.zip"]


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("version", [ETAG, DATE, {}])
def test_without_a_checksum_versions_are_not_spliced(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    version: dict[str, str],
    if_range: bool,
) -> None:
    server.version, server.if_range = version, if_range
    unchecked = interrupted(tmp_path, server, monkeypatch)
    server.content = CONTENT[::-1]
    server.version = {name: value.replace("1", "2") + "x" for name, value in version.items()}
    assert fetch(unchecked, tmp_path).read_bytes() == CONTENT[::-1]
    assert names(tmp_path) == ["data.zip"]


def test_a_part_of_unknown_origin_is_not_continued_without_a_checksum(
    tmp_path: Path, server: Server
) -> None:
    (tmp_path / "data.zip.part").write_bytes(b"x" * 1234)
    unchecked = archive(server.url(), **NO_CHECKSUM)
    assert fetch(unchecked, tmp_path).read_bytes() == CONTENT
    assert server.requests == [None]


def test_passing_errors_are_tried_again(tmp_path: Path, server: Server) -> None:
    server.errors = [502, 504]
    assert fetch(archive(server.url()), tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_the_name_of_a_fetched_file_is_flushed(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr(fetching, "flush_folder", lambda path: flushed.append((path, names(path))))
    fetch(archive(server.url()), tmp_path)
    assert flushed == [(tmp_path, ["data.zip"])]


def test_the_next_source_is_tried(tmp_path: Path, server: Server) -> None:
    sources = archive(dead_url(), server.url("absent"), server.url("page"), server.url())
    assert fetch(sources, tmp_path).read_bytes() == CONTENT


def test_all_sources_failing_names_each(tmp_path: Path, server: Server) -> None:
    dead = dead_url()
    with pytest.raises(FetchError) as caught:
        fetch(archive(dead, server.url("absent")), tmp_path, dataset="sample")
    message = str(caught.value)
    assert "\n" not in message
    assert f"{dead}: " in message and "Connection refused" in message
    assert f"{server.url('absent')}: HTTP 404 Not Found" in message
    assert "reidpipe prepare sample --archive data.zip" in message
    assert names(tmp_path) == []


def test_wrong_content_is_removed_and_told(tmp_path: Path, server: Server) -> None:
    server.content = bytes(len(CONTENT))
    with pytest.raises(FetchError) as caught:
        fetch(archive(server.url()), tmp_path)
    found = hashlib.sha256(server.content).hexdigest()
    expected = hashlib.sha256(CONTENT).hexdigest()
    assert f"found sha256 {found}, expected {expected}, file removed" in str(caught.value)
    assert names(tmp_path) == []


def test_wrong_size_is_noticed_before_it_is_loaded(tmp_path: Path, server: Server) -> None:
    with pytest.raises(FetchError, match="found 300000 bytes, expected 7"):
        fetch(archive(server.url(), size=7), tmp_path)
    assert names(tmp_path) == []


def test_full_disk_is_an_oserror_and_the_part_is_kept(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:100])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 299_899))
    with pytest.raises(OSError, match="No space left") as caught:
        fetch(archive(server.url()), tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["data.zip.part"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 299_900))
    assert fetch(archive(server.url()), tmp_path).read_bytes() == CONTENT


def test_a_users_archive_is_checked_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"
    path.write_bytes(CONTENT)
    verify_archive(path, archive())
    md5 = hashlib.md5(CONTENT).hexdigest()
    verify_archive(path, archive(sha256=None, md5=md5))
    with pytest.raises(FetchError, match=f"found md5 {md5}, expected {'0' * 32}.*--root DIR"):
        verify_archive(path, archive(sha256=None, md5="0" * 32), dataset="sample")
    with pytest.raises(FetchError, match="found 300000 bytes, expected 1"):
        verify_archive(path, archive(size=1))
    assert path.read_bytes() == CONTENT
    with pytest.raises(FetchError, match="found no file"):
        verify_archive(tmp_path / "gone.zip", archive())


def test_direct_archives_come_in_order(tmp_path: Path, server: Server) -> None:
    wanted = [
        archive(server.url(), name="a.zip"),
        archive(server.url(), name="b.zip", content="lists"),
    ]
    paths = fetch_archives(manifest("direct", *wanted), tmp_path / "new")
    assert [path.name for path in paths] == ["a.zip", "b.zip"]
    only = fetch_archives(manifest("direct", *wanted), tmp_path / "other", content=("lists",))
    assert [path.name for path in only] == ["b.zip"]


@pytest.mark.parametrize("policy", ["manual", "request", "never", "direct"])
def test_terms_are_respected(tmp_path: Path, server: Server, policy: str) -> None:
    home = {} if policy == "never" else {"homepage": "https://example.org/sample"}
    sample = manifest(policy, archive(), **home)
    with pytest.raises(FetchError, match="reidpipe prepare sample --root DIR") as caught:
        fetch_archives(sample, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert ("https://example.org/sample" in message) == (policy != "never")
    assert server.requests == []


def test_lists_may_be_fetched_where_images_may_not(tmp_path: Path, server: Server) -> None:
    lists = archive(server.url(), name="lists.txt", content="lists")
    sample = manifest("manual", archive(), lists)
    assert fetch_archives(sample, tmp_path, content=("lists",)) == [tmp_path / "lists.txt"]
    with pytest.raises(FetchError, match="accept its terms"):
        fetch_archives(sample, tmp_path)


def test_a_withdrawn_dataset_has_no_address() -> None:
    message = by_hand(manifest("never"))
    assert "://" not in message and "withdrawn" in message
    assert isinstance(FetchError(""), ReidpipeError)
