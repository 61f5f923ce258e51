"""Fetching: where data comes from, in which order, and everything that can go wrong on the way."""

from __future__ import annotations

import base64
import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import re
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from poolbench.data.cache import cache_dir, workspace
from poolbench.data.sources import fetch
from poolbench.data.sources.download import download
from poolbench.data.sources.tu import TUDataset
from poolbench.data.sources.unpack import unpack
from poolbench.errors import PoolBenchError

Mirror = Callable[..., Path]
FilesOf = Callable[..., dict[str, str]]


def zipped(members: dict[str, str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return buffer.getvalue()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_of: FilesOf) -> Mirror:
    """`mirror(name, **changed)` puts TUDataset/NAME.zip into a folder that POOLBENCH_MIRROR names."""
    folder = tmp_path / "mirror"
    (folder / "TUDataset").mkdir(parents=True)
    monkeypatch.setenv("POOLBENCH_MIRROR", str(folder))

    def put(name: str, content: bytes | None = None, **changed: str | None) -> Path:
        path = folder / "TUDataset" / f"{name}.zip"
        path.write_bytes(zipped(files_of(name, **changed)) if content is None else content)
        return path

    return put


@dataclass
class Server:
    url: str
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def give(self, path: str, body: bytes, announced: int | None = None) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body) if announced is None else announced))
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[path] = answer

    def missing(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(404)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server; what it was not told to give it does not have (404). POOLBENCH_MIRROR names it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.answers.get(self.path, state.missing)(self)

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    state = Server(f"http://127.0.0.1:{httpd.server_port}")
    monkeypatch.setenv("POOLBENCH_MIRROR", state.url)
    fetch._unlisted.cache_clear()
    monkeypatch.setattr("poolbench.data.sources.download.READ_TIMEOUT", 0.3)
    monkeypatch.setattr("poolbench.data.sources.download.CONNECT_TIMEOUT", 0.3)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()


def refused(name: str, **arguments: object) -> str:
    """The message of a load that must fail: one line, exit code 2."""
    with pytest.raises(PoolBenchError) as caught:
        TUDataset(name, **arguments).load()
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    return str(caught.value)


def left_in(cache: Path) -> list[str]:
    """What is in the cache but locks."""
    return [str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


# ---------------------------------------------------------------- order


def test_folder_mirror(mirror: Mirror, cache: Path) -> None:
    path = mirror("TINY")
    raw = TUDataset("TINY").load()
    assert raw.num_graphs == 3
    assert raw.provenance["kind"] == "mirror" and raw.provenance["where"] == "TUDataset/TINY.zip"
    assert raw.provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (cache / "TUDataset/TINY/raw/TINY_A.txt").is_file() and (cache / "TUDataset/TINY/parsed-v1.pt").is_file()


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("place", ["TUDataset/", "graphkerneldatasets/", ""])
def test_mirrors_of_several_layouts(scheme: str, place: str, tmp_path: Path, files_of: FilesOf) -> None:
    folder = tmp_path / "a mirror" / place
    folder.mkdir(parents=True)
    (folder / "TINY.zip").write_bytes(zipped(files_of("TINY")))
    base = tmp_path / "a mirror"
    assert TUDataset("TINY", mirror=base.as_uri() if scheme else str(base)).load().num_graphs == 3


def test_web_mirror(server: Server, files_of: FilesOf) -> None:
    server.give("/base/TUDataset/TINY.zip", zipped(files_of("TINY")))
    raw = TUDataset("TINY", mirror=f"{server.url.replace('//', '//user:secret@')}/base/").load()
    assert raw.provenance["where"] == f"{server.url}/base/TUDataset/TINY.zip"
    assert "secret" not in json.dumps(raw.provenance)


def told(server: Server, tmp_path: Path, login: str, answer: Callable[[BaseHTTPRequestHandler], None]) -> list[str]:
    """The logins that come with the requests when /x, which answers so, is downloaded with `login` in its address."""
    logins = []

    def note(handler: BaseHTTPRequestHandler) -> None:
        logins.append(base64.b64decode(handler.headers.get("Authorization", "").removeprefix("Basic ")).decode())
        (answer if handler.path == "/x?token=secret" else server.missing)(handler)

    server.answers.update(dict.fromkeys(["/x?token=secret", "/y"], note))
    with pytest.raises(PoolBenchError) as caught:
        download(f"{server.url.replace('//', f'//{login}@')}/x?token=secret", tmp_path / "x")
    assert login not in str(caught.value) and "secret" not in str(caught.value)
    return logins


@pytest.mark.parametrize(
    ("login", "meant"), [("user:p%40ss", "user:p@ss"), ("token", "token:"), ("user:%E2%82%AC:1", "user:€:1")]
)
def test_login_in_the_address_is_sent(server: Server, tmp_path: Path, login: str, meant: str) -> None:
    assert told(server, tmp_path, login, server.missing) == [meant]


def test_login_is_not_told_to_where_a_redirect_leads(server: Server, tmp_path: Path) -> None:
    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{server.url.replace('127.0.0.1', 'localhost')}/y")
        handler.end_headers()

    assert told(server, tmp_path, "user:pass", elsewhere) == ["user:pass", ""]


@pytest.mark.parametrize("url", ["nonsense", "ftp://me:pw@host/x", "http://", "https://me:pw@ho st/x?token=pw"])
def test_what_is_no_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(PoolBenchError, match="no http") as caught:
        download(url, tmp_path / "x")
    assert "pw" not in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "x").exists()


def test_cache_comes_first(mirror: Mirror, cache: Path) -> None:
    path = mirror("TINY")
    TUDataset("TINY").load()
    path.unlink()
    raw = TUDataset("TINY").load()
    assert raw.provenance["kind"] == "mirror"
    (cache / "TUDataset/TINY/parsed-v1.pt").unlink()
    assert TUDataset("TINY").load().provenance == raw.provenance


@pytest.mark.parametrize("place", ["TINY", "TINY/raw"])
def test_files_that_somebody_put_into_the_cache(unpacked: Callable[..., Path], cache: Path, place: str) -> None:
    unpacked("TINY", cache / "TUDataset" / place)
    raw = TUDataset("TINY").load()
    assert raw.provenance["kind"] == "cache" and len(raw.provenance["files_sha256"]) == 64
    assert str(cache) not in json.dumps(raw.provenance)


@pytest.mark.parametrize("place", ["TUDataset/TINY.zip", "TUDataset/TINY/TINY.zip"])
def test_a_zip_that_somebody_put_into_the_cache(cache: Path, place: str, files_of: FilesOf) -> None:
    (cache / place).parent.mkdir(parents=True)
    (cache / place).write_bytes(zipped(files_of("TINY")))
    assert TUDataset("TINY").load().provenance["kind"] == "cache"
    assert (cache / place).is_file()


def test_files_that_change_are_read_anew(unpacked: Callable[..., Path], cache: Path) -> None:
    unpacked("TINY", cache / "TUDataset/TINY/raw")
    before = TUDataset("TINY").load()
    unpacked("TINY", cache / "TUDataset/TINY/raw", graph_labels="1\n1\n2\n")
    assert TUDataset("TINY").load().fingerprint() != before.fingerprint()


def test_shipped_mutag(cache: Path) -> None:
    pytest.importorskip("grakel", reason="no wheel for this Python")
    raw = TUDataset("MUTAG").load()
    assert raw.provenance["kind"] == "shipped" and raw.stats()["graphs"] == 188
    assert left_in(cache) == ["TUDataset/MUTAG/parsed-v1.pt"]


def test_shipped_data_is_found_without_importing_its_package() -> None:
    """Nor what downloads would need."""
    code = (
        "import sys; from poolbench.data.sources import fetch; fetch.shipped_folder('MUTAG'); "
        "sys.exit(not {'grakel', 'requests'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env=_environment()).returncode == 0


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_dir("/given") == Path("/given")
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("POOLBENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/poolbench")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path("/home/me/.cache/poolbench")


# ---------------------------------------------------------------- nobody has it


def test_nothing_is_touched_before_load(cache: Path) -> None:
    TUDataset("TINY", mirror="/no/such/folder")
    assert not cache.exists()


def test_no_data_and_no_network_names_the_three_ways(cache: Path) -> None:
    message = refused("PROTEINS")
    assert str(cache / "TUDataset/PROTEINS") in message and "POOLBENCH_MIRROR" in message
    assert "poolbench prepare dataset=PROTEINS" in message and "refused" in message


def test_unknown_names_are_told_with_the_nearest() -> None:
    assert "unknown TU dataset 'PROTEINZ' (did you mean PROTEINS, PROTEINS_full?)" in refused("PROTEINZ")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "A B", 3])
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(PoolBenchError, match="is no name"):
        TUDataset(name)


def test_a_mirror_without_the_dataset_is_said(mirror: Mirror) -> None:
    mirror("OTHER")
    assert "does not have it" in refused("TINY")


def test_a_mirror_that_does_not_exist() -> None:
    assert "POOLBENCH_MIRROR=/no/such/folder is neither" in refused("TINY", mirror="/no/such/folder")
    assert "POOLBENCH_MIRROR=ftp://host/x is neither" in refused("TINY", mirror="ftp://me:pw@host/x")


@pytest.mark.parametrize(
    ("base", "text"),
    [
        ("http://[::1", "POOLBENCH_MIRROR=http://[::1 is no address (Invalid IPv6 URL)"),
        ("http://me:pw@[::1/x?token=pw", "POOLBENCH_MIRROR=http://[::1/x is no address"),
        ("http://host:port", "POOLBENCH_MIRROR=http://host:port is no address (Port could not be cast"),
        ("file://[", "POOLBENCH_MIRROR=file://[ is no address"),
        ("~nobody-here/x", "POOLBENCH_MIRROR=~nobody-here/x cannot be read"),
        ("/" + "x" * 300, "cannot be read"),
        ("/no\nsuch", "POOLBENCH_MIRROR=/no such is neither"),
        ("/no\0such", "POOLBENCH_MIRROR=/no\\x00such is neither"),
    ],
)
def test_a_mirror_that_is_no_address(base: str, text: str) -> None:
    message = refused("TINY", mirror=base)
    assert text in message and "give the base that holds TUDataset/" in message and "pw" not in message


def test_a_cache_in_the_home_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLBENCH_DATA", "~nobody-here/x")
    with pytest.raises(
        PoolBenchError, match=r"cache folder ~nobody-here/x: .*; set POOLBENCH_DATA to one that there is"
    ):
        cache_dir()


@pytest.mark.parametrize("text", ["", "[]", '{"kind": 3, "where": "x"}', "[" * 100_000, "\xff"])
def test_a_note_of_where_files_came_from_that_is_none(unpacked: Callable[..., Path], cache: Path, text: str) -> None:
    unpacked("TINY", cache / "TUDataset/TINY/raw")
    (cache / "TUDataset/TINY/raw/provenance.json").write_text(text, encoding="latin-1")
    assert TUDataset("TINY").load().provenance["kind"] == "cache"


def test_official_host_is_the_last_resort(server: Server, monkeypatch: pytest.MonkeyPatch, files_of: FilesOf) -> None:
    monkeypatch.setattr("poolbench.data.sources.tu.HOST", f"{server.url}/host")
    server.give("/host/TINY.zip", zipped(files_of("TINY")))
    raw = TUDataset("TINY").load()
    assert raw.provenance["kind"] == "host"
    assert server.asked[:2] == ["/manifest.json", "/TUDataset/TINY.zip"] and server.asked[-1] == "/host/TINY.zip"


def test_not_on_the_host_either(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolbench.data.sources.tu.HOST", f"{server.url}/host")
    assert "/host/TINY.zip does not exist" in refused("TINY")


# ---------------------------------------------------------------- bad servers


def test_a_cut_download_is_told_and_leaves_nothing(server: Server, cache: Path, files_of: FilesOf) -> None:
    whole = zipped(files_of("TINY"))
    server.give("/TUDataset/TINY.zip", whole[:-100], announced=len(whole))
    assert f"cut short: {len(whole) - 100} of {len(whole)} bytes" in refused("TINY")
    assert left_in(cache) == []
    server.give("/TUDataset/TINY.zip", whole)
    assert TUDataset("TINY").load().num_graphs == 3


def test_a_cut_download_of_unknown_size_is_told(server: Server, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nabcde\r\n5\r\nab")
        handler.close_connection = True

    server.answers["/x"] = answer
    with pytest.raises(PoolBenchError, match="was cut short: 7 bytes"):
        download(f"{server.url}/x", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_files_arrive_as_they_are(server: Server, tmp_path: Path) -> None:
    """Also where the server calls a packed file packed for the way: its SHA-256 is that of the packed one."""
    packed = gzip.compress(b"text")

    def answer(handler: BaseHTTPRequestHandler) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(packed)))
        handler.end_headers()
        handler.wfile.write(packed)

    server.answers["/x.gz"] = answer
    assert download(f"{server.url}/x.gz", tmp_path / "x.gz") == hashlib.sha256(packed).hexdigest()
    assert (tmp_path / "x.gz").read_bytes() == packed


def test_what_is_too_large_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.give("/x", b"0123456789")
    with pytest.raises(PoolBenchError, match="is larger than 9 bytes"):
        download(f"{server.url}/x", tmp_path / "x", limit=9)
    assert not (tmp_path / "x").exists()


def test_a_server_that_hangs_in_the_middle(server: Server, cache: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"PK")
        handler.wfile.flush()
        time.sleep(30)

    server.answers["/TUDataset/TINY.zip"] = answer
    start = time.monotonic()
    assert "broke off after 2 of 1000 bytes (no answer in time)" in refused("TINY")
    assert time.monotonic() - start < 15 and left_in(cache) == []


def dribble(handler: BaseHTTPRequestHandler, text: bytes) -> None:
    """A byte every 50 ms, until nobody listens."""
    with contextlib.suppress(OSError):
        for byte in text * 600:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.05)


def test_a_server_that_sends_byte_by_byte(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolbench.data.sources.download.GRACE", 0.5)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        dribble(handler, b"PK")

    server.answers["/TUDataset/TINY.zip"] = answer
    start = time.monotonic()
    assert re.search(r"TINY.zip came too slowly: \d+ of 1000 bytes in 1 s", refused("TINY"))
    assert time.monotonic() - start < 15 and left_in(cache) == []


def test_a_server_that_answers_byte_by_byte(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolbench.data.sources.download.ANSWER_TIMEOUT", 0.5)
    server.answers["/TUDataset/TINY.zip"] = lambda handler: dribble(handler, b"HTTP/1.0 200 OK\r\nX: y")
    start = time.monotonic()
    assert "no answer in time" in refused("TINY")
    assert time.monotonic() - start < 15


def test_limits_of_size_and_time(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, files_of: FilesOf
) -> None:
    """Of what is announced nothing need be read; what is not announced ends when it is there."""
    whole = zipped(files_of("TINY"))
    server.give("/TUDataset/TINY.zip", b"PK", announced=9 << 30)
    assert "TINY.zip is larger than 8 GiB; set POOLBENCH_DOWNLOAD_GIB to allow more" in refused("TINY")
    monkeypatch.setenv("POOLBENCH_DOWNLOAD_GIB", str(100 / 2**30))
    server.answers["/TUDataset/TINY.zip"] = lambda handler: handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + whole)
    assert "TINY.zip is larger than 9.31323e-08 GiB" in refused("TINY")
    monkeypatch.delenv("POOLBENCH_DOWNLOAD_GIB")
    monkeypatch.setenv("POOLBENCH_DOWNLOAD_HOURS", "1e-12")
    assert f"took more than 1e-12 h for {len(whole)} bytes; set POOLBENCH_DOWNLOAD_HOURS" in refused("TINY")
    assert left_in(cache) == []
    for wrong in ("0", "-1", "nan", "inf", "many"):
        monkeypatch.setenv("POOLBENCH_DOWNLOAD_HOURS", wrong)
        assert f"POOLBENCH_DOWNLOAD_HOURS={wrong} is no number above 0" in refused("TINY")
    monkeypatch.setenv("POOLBENCH_DOWNLOAD_HOURS", "1")
    assert TUDataset("TINY").load().num_graphs == 3


def test_a_server_that_never_answers(server: Server) -> None:
    server.answers["/TUDataset/TINY.zip"] = lambda handler: time.sleep(30)
    start = time.monotonic()
    assert "no answer in time" in refused("TINY")
    assert time.monotonic() - start < 15


def test_a_server_that_fails(server: Server) -> None:
    server.answers["/TUDataset/TINY.zip"] = lambda handler: handler.send_error(503)
    assert "503" in refused("TINY")


def test_a_page_in_place_of_an_archive(server: Server, cache: Path) -> None:
    server.give("/TUDataset/TINY.zip", b"<html>Please log in</html>")
    assert f"archive {server.url}/TUDataset/TINY.zip is corrupt" in refused("TINY")
    assert left_in(cache) == []


@pytest.mark.parametrize("web", [False, True])
def test_the_manifest_of_a_mirror_is_heeded(mirror: Mirror, server: Server, tmp_path: Path, web: bool) -> None:
    path = mirror("TINY")
    manifest = {"entries": [{"path": "TUDataset/TINY.zip", "sha256": "0" * 64}]}
    path.parents[1].joinpath("manifest.json").write_text(json.dumps(manifest))
    server.give("/TUDataset/TINY.zip", path.read_bytes())
    server.give("/manifest.json", json.dumps(manifest).encode())
    base = server.url if web else str(path.parents[1])
    assert "its manifest says 000" in refused("TINY", mirror=base)
    manifest["entries"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.parents[1].joinpath("manifest.json").write_text(json.dumps(manifest))
    server.give("/manifest.json", json.dumps(manifest).encode())
    assert TUDataset("TINY", mirror=base).load().num_graphs == 3


@pytest.mark.parametrize("web", [False, True])
@pytest.mark.parametrize(
    "listing",
    [b"", b"\xff", b"[]", b'{"entries": {}}', b'{"entries": [{"path": 3}]}',
     b'{"entries": [{"path": "x", "sha256": 7}]}', b'{"entries": [{"path": "x", "bytes": -1}]}', b"[" * 100_000,
     b'{"entries": [["path", "sha256"]]}'],
)  # fmt: skip
def test_a_manifest_that_is_none_is_said(
    mirror: Mirror, server: Server, caplog: pytest.LogCaptureFixture, listing: bytes, web: bool
) -> None:
    path = mirror("TINY")
    path.parents[1].joinpath("manifest.json").write_bytes(listing)
    server.give("/TUDataset/TINY.zip", path.read_bytes())
    server.give("/manifest.json", listing)
    assert TUDataset("TINY", mirror=server.url if web else str(path.parents[1])).load().num_graphs == 3
    assert "manifest.json is no manifest (" in caplog.text and "are not compared" in caplog.text


def test_a_manifest_that_cannot_be_had_is_said_once(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, files_of: FilesOf
) -> None:
    server.give("/TUDataset/TINY.zip", zipped(files_of("TINY")))
    for folder in ("one", "two"):
        TUDataset("TINY", data=tmp_path / folder).load()
    assert caplog.text.count(f"the mirror {server.url} has no manifest.json: checksums and sizes are not compared") == 1
    server.answers["/manifest.json"] = lambda handler: handler.send_error(503)
    TUDataset("TINY", data=tmp_path / "three").load()
    assert f"{server.url}/manifest.json cannot be had ({server.url}/manifest.json answered 503" in caplog.text


def test_a_manifest_says_how_large_a_file_is(server: Server, cache: Path, files_of: FilesOf) -> None:
    whole = zipped(files_of("TINY"))
    server.give("/TUDataset/TINY.zip", whole)
    for size, sound in ((len(whole) - 1, False), (len(whole), True)):
        server.give("/manifest.json", json.dumps({"entries": [{"path": "TUDataset/TINY.zip", "bytes": size}]}).encode())
        if sound:
            assert TUDataset("TINY").load().num_graphs == 3
        else:
            assert f"TINY.zip is larger than {size} bytes, which it should have" in refused("TINY")
            assert left_in(cache) == []


# ---------------------------------------------------------------- bad archives


def test_corrupt_archives_leave_nothing(mirror: Mirror, cache: Path, files_of: FilesOf) -> None:
    whole = zipped(files_of("TINY"))
    for content in (b"", b"no zip at all", whole[: len(whole) // 2], whole[:60] + b"XXXXXXXX" + whole[68:]):
        path = mirror("TINY", content)
        assert str(path) in refused("TINY")
        assert left_in(cache) == []


@pytest.mark.parametrize("member", ["../TINY_A.txt", "/etc/TINY_A.txt", "a/../../x", "..\\x", "C:\\x", "C:x"])
def test_archives_that_reach_outside_are_refused(
    mirror: Mirror, cache: Path, tmp_path: Path, member: str, files_of: FilesOf
) -> None:
    mirror("TINY", zipped({**files_of("TINY"), member: "1"}))
    message = refused("TINY")
    assert "outside its folder" in message and repr(member) in message
    assert left_in(cache) == [] and not (tmp_path / "TINY_A.txt").exists()


def test_links_are_refused(mirror: Mirror, cache: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        link = zipfile.ZipInfo("TINY/TINY_A.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    mirror("TINY", (tmp_path / "link.zip").read_bytes())
    assert "holds the link" in refused("TINY")
    assert left_in(cache) == []


def test_bombs_are_refused(mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolbench.data.sources.unpack._RATIO_FREE", 1 << 20)
    mirror("TINY", node_labels="0\n" * (1 << 20))
    assert "which no dataset does" in refused("TINY")
    assert left_in(cache) == []


def test_encrypted_or_unknown_compression(mirror: Mirror, files_of: FilesOf) -> None:
    whole = bytearray(zipped(files_of("TINY"), zipfile.ZIP_STORED))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = whole.find(signature)
        while at >= 0:
            whole[at + offset] = 97
            at = whole.find(signature, at + 4)
    mirror("TINY", bytes(whole))
    assert "is corrupt or cannot be read" in refused("TINY")


def test_a_name_that_is_not_the_utf8_it_says(mirror: Mirror, cache: Path) -> None:
    whole = zipped({"TINY/ü_A.txt": "1"}).replace("ü".encode(), b"\xfc\xfc")
    path = mirror("TINY", whole)
    assert f"archive {path} is corrupt or cannot be read ('utf-8' codec can't decode" in refused("TINY")
    assert left_in(cache) == []


def test_content_that_is_not_what_it_was_packed_by(mirror: Mirror, cache: Path, files_of: FilesOf) -> None:
    """The bzip2 reader says so by an OSError, as a disk would."""
    whole = zipped(files_of("TINY"), zipfile.ZIP_BZIP2).replace(b"BZh9", b"BZx9")
    path = mirror("TINY", whole)
    assert f"archive {path} is corrupt or cannot be read (Invalid data stream)" in refused("TINY")
    assert left_in(cache) == []


def test_lzma_that_asks_for_memory(mirror: Mirror, cache: Path, files_of: FilesOf) -> None:
    """Its reader makes room for the dictionary that it is told of: 4 GB by four bytes."""
    usual = struct.pack("<BI", 0x5D, 1 << 23)
    whole = zipped(files_of("TINY"), zipfile.ZIP_LZMA)
    assert usual in whole
    mirror("TINY", whole.replace(usual, struct.pack("<BI", 0x5D, 0xFFFFFFFF)))
    assert "cannot be read (LZMA with a dictionary of 4294967295 bytes)" in refused("TINY")
    assert left_in(cache) == []


def test_names_that_no_disk_takes(mirror: Mirror, cache: Path) -> None:
    for name in ("TINY_" + "A" * 300, "/".join(["TINY"] * 300), "\x1b[31mTINY_" + "A" * 300):
        mirror("TINY", zipped({name: "1"}))
        message = refused("TINY")
        assert "a name that is too long" in message and message.isprintable() and len(message) < 500
    assert left_in(cache) == []


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped({"x/raw/a": "1", "x/raw/a/b/c": "1"}))
    archive = fetch.Archive(tmp_path / "x.zip", {}, "x.zip")
    with pytest.raises(PoolBenchError, match=r"x\.zip holds \w twice"):
        unpack(archive, tmp_path / "files", lambda name: True, folders=True)


def test_a_member_without_a_name_is_passed_over(mirror: Mirror, files_of: FilesOf) -> None:
    """A name that begins with NUL is cut to nothing by zipfile, whose `is_dir` then fails."""
    whole = zipped({**files_of("TINY"), "?.txt": "1"})
    mirror("TINY", whole.replace(b"?.txt", b"\0.txt"))
    assert TUDataset("TINY").load().num_graphs == 3


def test_lzma_archives_are_read(mirror: Mirror, files_of: FilesOf) -> None:
    mirror("TINY", zipped(files_of("TINY"), zipfile.ZIP_LZMA))
    assert TUDataset("TINY").load().num_graphs == 3


def test_an_archive_of_something_else(mirror: Mirror, cache: Path, files_of: FilesOf) -> None:
    mirror("TINY", zipped(files_of("OTHER")))
    assert "holds no TINY_A.txt" in refused("TINY")
    assert left_in(cache) == []


def test_an_unsound_dataset_does_not_enter_the_cache(mirror: Mirror, cache: Path) -> None:
    path = mirror("TINY", graph_indicator=None)
    message = refused("TINY")
    assert "TINY_graph_indicator.txt is missing" in message and str(path) in message
    assert left_in(cache) == []


# ---------------------------------------------------------------- bad disks


def test_a_cache_that_cannot_be_written_to(mirror: Mirror, tmp_path: Path) -> None:
    mirror("TINY")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        message = refused("TINY", data=folder)
        assert f"cache folder {folder} cannot be written to" in message and "POOLBENCH_DATA" in message


def test_no_permission(mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: root may write anywhere."""
    mirror("TINY")
    monkeypatch.setattr(Path, "mkdir", _refuse(errno.EACCES))
    assert "Permission denied" in refused("TINY")


def test_a_read_only_cache_with_the_data_will_do(
    unpacked: Callable[..., Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked("TINY", cache / "TUDataset/TINY/raw")
    monkeypatch.setattr("poolbench.data.cache.FileLock", _refuse(errno.EROFS))
    assert TUDataset("TINY").load().num_graphs == 3
    assert not (cache / "TUDataset/TINY/parsed-v1.pt").exists()


def test_a_full_disk_while_unpacking(mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror("TINY")
    with monkeypatch.context() as patch:
        patch.setattr("poolbench.data.sources.unpack._copy", _refuse(errno.ENOSPC))
        assert "No space left on device; free some space" in refused("TINY")
    assert left_in(cache) == []
    assert TUDataset("TINY").load().num_graphs == 3


def test_a_full_disk_while_the_parsed_form_is_written(
    mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror("TINY")
    with monkeypatch.context() as patch:
        patch.setattr("poolbench.data.raw.torch.save", _refuse(errno.ENOSPC))
        assert "No space left on device" in refused("TINY")
    assert not any("parsed" in name for name in left_in(cache))
    assert TUDataset("TINY").load().num_graphs == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_a_limit_on_file_size_is_a_full_disk(mirror: Mirror, cache: Path) -> None:
    """The same for real, refused by the kernel in the middle of a file."""
    mirror("TINY", node_labels="3\n5\n3\n4\n4\n3\n" + "\n" * 100_000)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "from poolbench.data.sources.tu import TUDataset; from poolbench.errors import PoolBenchError\n"
        "try: TUDataset('TINY').load()\nexcept PoolBenchError as error: print(error)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, env=_environment(), capture_output=True, text=True
    )
    assert "File too large; free some space" in output.stdout
    assert left_in(cache) == []


def _refuse(number: int) -> Callable[..., None]:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


# ---------------------------------------------------------------- many processes

_LOAD = """
import sys, time
from poolbench.data.sources import tu
real = tu.unpack
def slow(*args):
    print("unpacks", flush=True)
    time.sleep(float(sys.argv[1]))
    return real(*args)
tu.unpack = slow
print(tu.TUDataset("TINY").load().fingerprint(), flush=True)
"""


def _environment() -> dict[str, str]:
    src = str(Path(fetch.__file__).parents[3])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([src, os.environ.get("PYTHONPATH", "")])}


def _start(seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _LOAD, str(seconds)]
    return subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, text=True)


def test_one_of_two_processes_unpacks(mirror: Mirror) -> None:
    mirror("TINY")
    outputs = [process.communicate(timeout=60)[0].split() for process in [_start(0.5), _start(0.5)]]
    assert sum("unpacks" in output for output in outputs) == 1
    assert outputs[0][-1] == outputs[1][-1]


def test_a_killed_process_holds_no_lock_and_leaves_no_dataset(mirror: Mirror, cache: Path) -> None:
    mirror("TINY")
    process = _start(60)
    assert process.stdout is not None and process.stdout.readline() == "unpacks\n"
    process.kill()
    process.wait()
    assert not (cache / "TUDataset/TINY").exists()
    start = time.monotonic()
    assert TUDataset("TINY").load().num_graphs == 3
    assert time.monotonic() - start < 30
    assert all(name.startswith("TUDataset/TINY/") for name in left_in(cache))


def test_a_lock_that_is_held_too_long(mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror("TINY")
    monkeypatch.setattr("poolbench.data.cache.LOCK_TIMEOUT", 0.2)
    with workspace(cache, "TUDataset-TINY"):
        assert "another process has been preparing it" in refused("TINY")
