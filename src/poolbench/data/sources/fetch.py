"""Where raw files come from: the cache, a package that ships them, a mirror, the official host.

Everything that is fetched passes through a workspace that belongs to one process at a time (a file lock, which dies
with its process) and reaches the cache by one rename. A cut download, a full disk or a killed process therefore never
leaves anything that would later be taken for a dataset.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import http.client
import importlib.metadata
import importlib.util
import json
import logging
import lzma
import os
import re
import shutil
import stat
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from poolbench.errors import PoolBenchError

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
"""Seconds for a host to answer at all."""
READ_TIMEOUT = 30.0
"""Seconds without a single byte after which a download counts as stuck."""
LOCK_TIMEOUT = 3600.0
"""Seconds to wait for another process that prepares the same dataset."""

_BLOCK = 1 << 20
_MANIFEST_LIMIT = 1 << 26
_MAX_MEMBERS = 10_000
# Text of digits packs about 30 times with LZMA. Small archives may pack better than that by chance.
_MAX_RATIO, _RATIO_FREE, _MAX_BYTES = 200, 1 << 28, 1 << 36


_DRIVE = re.compile("[A-Za-z]:")  # C:file is absolute too, on Windows


class CacheNotWritable(PoolBenchError):
    """The cache folder cannot be written to. Whoever finds the data there already need not care."""


@dataclass(frozen=True)
class Archive:
    """A zip file at hand, and where it came from (see `RawGraphs.provenance`)."""

    path: Path
    provenance: dict[str, Any]
    origin: str
    """Its path or address, for messages."""


def cache_dir(folder: str | os.PathLike[str] | None = None) -> Path:
    """`folder`, else POOLBENCH_DATA, else `poolbench` in the user's cache folder (XDG_CACHE_HOME is honoured)."""
    if chosen := folder or os.environ.get("POOLBENCH_DATA"):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG says that a relative path in the variable is to be ignored.
    base = Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()
    return base / "poolbench"


def shipped_folder(name: str) -> Archive | None:
    """The unpacked files of a TU dataset that an installed package ships, or None.

    GraKeL carries MUTAG among its test data. It is found without being imported, which would cost seconds.
    """
    spec = importlib.util.find_spec("grakel")
    for root in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(root) / "tests" / "data" / name
        if (folder / f"{name}_A.txt").is_file():
            version = importlib.metadata.version("grakel")
            facts = {"kind": "shipped", "where": f"grakel {version}", "sha256": None, "retrieved": now()}
            return Archive(folder, facts, str(folder))
    return None


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---------------------------------------------------------------- one process at a time, all or nothing


@contextmanager
def workspace(cache: Path, key: str) -> Iterator[Path]:
    """An empty folder inside `cache` that no other process has for the same `key`; gone afterwards.

    Being inside the cache it is on the same disk, so that a finished folder moves to its place by one rename.

    Raises `CacheNotWritable`, or `PoolBenchError` for a full disk or a lock that is held for an hour.
    """
    folder = cache / ".partial" / key
    with writing(cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{key}.lock"))
        try:
            _acquire(lock, key)
        except Timeout as error:
            raise PoolBenchError(
                f"dataset {key}: another process has been preparing it for {LOCK_TIMEOUT:g} s; "
                f"end that process, or set POOLBENCH_DATA to another folder than {cache}"
            ) from error
        try:
            shutil.rmtree(folder, ignore_errors=True)  # what a killed process left: nobody else can hold it now
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()


def _acquire(lock: FileLock, key: str) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that prepares %s", key)
        lock.acquire(timeout=LOCK_TIMEOUT)


@contextmanager
def writing(cache: Path) -> Iterator[None]:
    """Turn what a disk refuses into one line that names the cache folder and what to do."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise PoolBenchError(
                f"cache folder {cache}: {reason}; free some space, or set POOLBENCH_DATA to a folder on another disk"
            ) from error
        raise CacheNotWritable(
            f"cache folder {cache} cannot be written to ({reason}); set POOLBENCH_DATA to one that can be"
        ) from error


# ---------------------------------------------------------------- finding and fetching an archive


def fetch_archive(
    name: str, mirror_paths: Iterable[str], official: str, work: Path, mirror: str | None = None
) -> Archive:
    """The archive of dataset `name` from the mirror, else from the official host.

    Args:
        name: for messages.
        mirror_paths: paths relative to the mirror's base, tried in this order.
        official: URL on the official host.
        work: a folder of this process (`workspace`), into which a download goes.
        mirror: folder, `file://` or `http(s)://` base; POOLBENCH_MIRROR where None.

    Raises `Absent` where nobody has it, and `PoolBenchError` where a download was cut short, or its SHA-256 is
    not the expected one.
    """
    tried = []
    base = mirror or os.environ.get("POOLBENCH_MIRROR", "")
    if base:
        try:
            if found := _from_mirror(name, base, list(mirror_paths), work):
                return found
            tried.append(f"the mirror {_public(base)} does not have it")
        except _Unreachable as error:
            tried.append(f"the mirror {_public(base)}: {error}")
    try:
        sha256 = download(official, work / "archive.zip")
        provenance = {"kind": "host", "where": official, "sha256": sha256, "retrieved": now()}
        return Archive(work / "archive.zip", provenance, official)
    except _NotThere:
        tried.append(f"{official} does not exist")
    except _Unreachable as error:
        tried.append(f"{urllib.parse.urlsplit(official).hostname}: {error}")
    raise Absent("; ".join(tried))


class Absent(PoolBenchError):
    """Nobody has the dataset; the caller knows which three ways there are to supply it."""


class NoMirror(PoolBenchError):
    """The mirror is not where it is said to be, or no longer."""


class _NotThere(PoolBenchError):
    """The server answered, and does not have the file."""


class _Unreachable(PoolBenchError):
    """The server did not answer, or refused."""


def _from_mirror(name: str, base: str, paths: list[str], work: Path) -> Archive | None:
    """The first of `paths` that the mirror has, checked against the mirror's manifest where there is one."""
    scheme = urllib.parse.urlsplit(base).scheme.lower()
    if scheme in ("http", "https"):
        return _from_web_mirror(name, base.rstrip("/"), paths, work)
    folder = Path(urllib.request.url2pathname(urllib.parse.urlsplit(base).path)) if scheme == "file" else Path(base)
    folder = folder.expanduser()
    if not folder.is_dir():
        raise NoMirror(
            f"POOLBENCH_MIRROR={_public(base)} is neither a folder nor a file:// or http(s):// address; "
            "give the base that holds TUDataset/, or unset it"
        )
    for path in paths:
        if (folder / path).is_file():
            try:
                digest = file_sha256(folder / path)
                manifest = folder / "manifest.json"
                listing = manifest.read_bytes() if manifest.is_file() else b""
            except OSError as error:
                raise PoolBenchError(f"dataset {name}: {folder / path} cannot be read ({error.strerror})") from error
            _check_manifest(name, str(folder / path), path, digest, listing)
            facts = {"kind": "mirror", "where": path, "sha256": digest, "retrieved": now()}
            return Archive(folder / path, facts, str(folder / path))
    return None


def _from_web_mirror(name: str, base: str, paths: list[str], work: Path) -> Archive | None:
    for path in paths:
        url = f"{base}/{urllib.parse.quote(path)}"
        try:
            digest = download(url, work / "archive.zip")
        except _NotThere:
            continue
        try:
            download(f"{base}/manifest.json", work / "manifest.json", limit=_MANIFEST_LIMIT)
            listing = (work / "manifest.json").read_bytes()
        except (_NotThere, _Unreachable):
            listing = b""
        _check_manifest(name, _public(url), path, digest, listing)
        facts = {"kind": "mirror", "where": _public(url), "sha256": digest, "retrieved": now()}
        return Archive(work / "archive.zip", facts, _public(url))
    return None


def _check_manifest(name: str, where: str, path: str, digest: str, listing: bytes) -> None:
    """Compare with `{"entries": [{"path": ..., "sha256": ...}]}`; what is not listed is not checked."""
    try:
        entries = json.loads(listing)["entries"] if listing else []
        expected = {entry["path"]: entry.get("sha256") for entry in entries}.get(path)
    except (ValueError, KeyError, TypeError):
        log.warning("the manifest beside %s cannot be read; its checksums are not used", where)
        return
    if expected and expected.lower() != digest:
        raise PoolBenchError(
            f"dataset {name}: SHA-256 of {where} is {digest}, its manifest says {expected}; "
            "fetch the file again, it is damaged or was replaced"
        )


def _public(url: str) -> str:
    """`url` without user name, password and query, which belong in no record and no message."""
    parts = urllib.parse.urlsplit(url)
    if not parts.netloc:
        return url
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


# ---------------------------------------------------------------- download


class _PatientHTTP(http.client.HTTPConnection):
    """Two timeouts where urllib knows one: a short one to connect, a longer one for each read."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(READ_TIMEOUT)


class _PatientHTTPS(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(READ_TIMEOUT)


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PatientHTTP, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PatientHTTPS, req)


def download(url: str, target: Path, limit: int | None = None) -> str:
    """Stream `url` to `target` and return its SHA-256 (hex). Proxies are taken from the environment, as urllib does.

    Raises `PoolBenchError` where the file is not there, the host does not answer in time, or fewer bytes came than
    were announced; then no `target` is left. `OSError` of the disk passes through.
    """
    opener = urllib.request.build_opener(_HTTPHandler, _HTTPSHandler)
    try:
        response = opener.open(_request(url), timeout=CONNECT_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        kind = _NotThere if error.code in (404, 410) else _Unreachable
        raise kind(f"{_public(url)} answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _Unreachable(_plain(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Unreachable(_plain(error)) from error
    except ValueError as error:
        raise PoolBenchError(f"{_public(url)} is no address that can be fetched ({error})") from error
    try:
        with response, open(target, "wb") as file:
            return _stream(url, response, file, limit)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _request(url: str) -> urllib.request.Request:
    """A GET of `url`; `user:password@` in it becomes the header that urllib does not make of it."""
    parts = urllib.parse.urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    bare = urllib.parse.urlunsplit(parts._replace(netloc=host))
    request = urllib.request.Request(bare, headers={"User-Agent": "poolbench"})
    if login:
        token = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")  # never told to where a redirect leads
    return request


def _stream(url: str, response: http.client.HTTPResponse, file: BinaryIO, limit: int | None) -> str:
    announced = response.headers.get("Content-Length", "")
    digest, got = hashlib.sha256(), 0
    while True:
        try:
            # read1 returns what is there: a slow link is not stuck, only one that sends nothing at all
            block = response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            of = f" of {announced}" if announced else ""
            raise PoolBenchError(
                f"download of {_public(url)} broke off after {got}{of} bytes ({_plain(error)}); "
                "nothing was kept, try again"
            ) from error
        if not block:
            break
        digest.update(block)
        got += len(block)
        if limit is not None and got > limit:
            raise _Unreachable(f"{_public(url)} is larger than {limit} bytes")
        file.write(block)
    if announced.isdecimal() and got != int(announced):
        raise PoolBenchError(
            f"download of {_public(url)} was cut short: {got} of {announced} bytes; nothing was kept, try again"
        )
    return digest.hexdigest()


def _plain(reason: object) -> str:
    """A reason in a few words, on one line."""
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return " ".join(str(reason).split()) or type(reason).__name__


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- unpacking


def unpack(archive: Archive, target: Path, wanted: Callable[[str], bool], folders: bool = False) -> list[str]:
    """Unpack the members whose file name is `wanted` into the new folder `target`, without their folders.

    With `folders`, a member's name is its path less the archive's top folder, and it is unpacked there.

    Raises `PoolBenchError` for an archive that is corrupt, that would write outside the target, holds links, or would
    grow to an implausible size. `OSError` of the disk passes through. A target of a failed call is incomplete: unpack
    inside a `workspace` and rename.
    """
    target.mkdir()
    try:
        with zipfile.ZipFile(archive.path) as held:
            members = held.infolist()
            _refuse_dangerous(archive, members)
            chosen = [m for m in members if not m.is_dir() and wanted(_member_name(m, folders))]
            for member in chosen:
                place = target / _member_name(member, folders)
                place.parent.mkdir(parents=True, exist_ok=True)
                with held.open(member) as source, open(place, "xb") as file:
                    _copy(source, file)  # zipfile stops at the declared size and checks the CRC
    except FileExistsError as error:
        twice = Path(error.filename).name
        raise PoolBenchError(f"archive {archive.origin} holds {twice} twice; fetch it again") from error
    # NotImplementedError: unknown compression; RuntimeError: encrypted
    except (_Damaged, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise PoolBenchError(
            f"archive {archive.origin} is corrupt or cannot be read ({reason}); nothing was kept, fetch it again"
        ) from error
    return [_member_name(member, folders) for member in chosen]


def _member_name(member: zipfile.ZipInfo, folders: bool) -> str:
    parts = PurePosixPath(member.filename).parts
    return "/".join(parts[1:] if folders else parts[-1:])


class _Damaged(Exception):
    pass


def _copy(source: Any, file: BinaryIO) -> None:
    while True:
        try:
            block = source.read(_BLOCK)
        except (EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise _Damaged(str(error) or "it ends too early") from error
        if not block:
            return
        file.write(block)


def _refuse_dangerous(archive: Archive, members: list[zipfile.ZipInfo]) -> None:
    """Everything is looked at before anything is written, also the members that nobody wants."""
    for member in members:
        # orig_filename: zipfile itself cuts names at NUL and turns the system's separator into '/'
        path = PurePosixPath(member.orig_filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or _DRIVE.match(str(path)):
            raise PoolBenchError(
                f"archive {archive.origin} holds {member.orig_filename!r}, which would be written outside its folder; "
                "it is refused, fetch it from a source that you trust"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise PoolBenchError(
                f"archive {archive.origin} holds the link {member.orig_filename!r}; a dataset has none, it is refused"
            )
    unpacked = sum(member.file_size for member in members)
    packed = max(archive.path.stat().st_size, 1)
    if len(members) > _MAX_MEMBERS or unpacked > _MAX_BYTES or unpacked > max(_RATIO_FREE, _MAX_RATIO * packed):
        raise PoolBenchError(
            f"archive {archive.origin} ({packed} bytes) would unpack to {unpacked} bytes in {len(members)} files, "
            "which no dataset does; it is refused"
        )
