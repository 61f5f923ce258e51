"""Where raw files come from: a package that ships them, a mirror, the official host."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from poolbench.data.sources.download import NotThere, Unreachable, download, public
from poolbench.data.sources.unsound import said
from poolbench.errors import PoolBenchError

log = logging.getLogger(__name__)

_MANIFEST_LIMIT = 1 << 26


class _Entry(Struct):
    """What a mirror's manifest says of one file."""

    path: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")] | None = None
    bytes: Annotated[int, Meta(ge=0)] | None = None


class _Manifest(Struct):
    entries: list[_Entry]


_Listing = dict[str, _Entry]


@dataclass(frozen=True)
class Archive:
    """A zip file at hand, and where it came from (see `RawGraphs.provenance`)."""

    path: Path
    provenance: dict[str, Any]
    origin: str
    """Its path or address, for messages."""


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


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(folder: Path, names: Iterable[str]) -> str:
    """SHA-256 (hex) over the names and hashes of files that came without an archive."""
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def noted(folder: Path) -> dict[str, Any] | None:
    """The provenance that was noted when the files in `folder` came; None where somebody put them there."""
    try:
        facts = msgspec.json.decode((folder / "provenance.json").read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
    known = isinstance(facts, dict) and isinstance(facts.get("kind"), str) and isinstance(facts.get("where"), str)
    return facts if known else None


def at_hand(*places: Path) -> Archive | None:
    """The archive that somebody put into the cache, at the first of `places` where there is one."""
    for path in places:
        if path.is_file():
            facts = {"kind": "cache", "where": path.name, "sha256": file_sha256(path), "retrieved": now()}
            return Archive(path, facts, str(path))
    return None


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
            tried.append(f"the mirror {public(base)} does not have it")
        except Unreachable as error:
            tried.append(f"the mirror {public(base)}: {error}")
    try:
        sha256 = download(official, work / "archive.zip")
        provenance = {"kind": "host", "where": official, "sha256": sha256, "retrieved": now()}
        return Archive(work / "archive.zip", provenance, official)
    except NotThere:
        tried.append(f"{official} does not exist")
    except Unreachable as error:
        tried.append(f"{urllib.parse.urlsplit(official).hostname}: {error}")
    raise Absent("; ".join(tried))


class Absent(PoolBenchError):
    """Nobody has the dataset; the caller knows which three ways there are to supply it."""


class NoMirror(PoolBenchError):
    """The mirror is not where it is said to be, or no longer."""


def _from_mirror(name: str, base: str, paths: list[str], work: Path) -> Archive | None:
    """The first of `paths` that the mirror has, checked against the mirror's manifest where there is one."""
    try:
        parts = urllib.parse.urlsplit(base)
        _ = parts.port  # raises for one that is no number
    except ValueError as error:
        raise NoMirror(f"POOLBENCH_MIRROR={public(base)} is no address ({said(error)}); {_REMEDY}") from error
    if parts.scheme.lower() in ("http", "https"):
        return _from_web_mirror(name, base.rstrip("/"), paths, work)
    try:
        folder = Path(urllib.request.url2pathname(parts.path)) if parts.scheme.lower() == "file" else Path(base)
        folder = folder.expanduser()
        there = folder.is_dir()
    except (OSError, RuntimeError) as error:  # RuntimeError: the home folder of somebody who has none
        raise NoMirror(f"POOLBENCH_MIRROR={public(base)} cannot be read ({said(error)}); {_REMEDY}") from error
    if not there:
        raise NoMirror(
            f"POOLBENCH_MIRROR={public(base)} is neither a folder nor a file:// or http(s):// address; {_REMEDY}"
        )
    for path in paths:
        if (folder / path).is_file():
            try:
                digest = file_sha256(folder / path)
                listing = _folder_listing(folder)
            except OSError as error:
                raise PoolBenchError(f"dataset {name}: {folder / path} cannot be read ({error.strerror})") from error
            _compare(name, str(folder / path), digest, listing.get(path))
            facts = {"kind": "mirror", "where": path, "sha256": digest, "retrieved": now()}
            return Archive(folder / path, facts, str(folder / path))
    return None


_REMEDY = "give the base that holds TUDataset/, or unset it"


def _from_web_mirror(name: str, base: str, paths: list[str], work: Path) -> Archive | None:
    listing = _web_listing(base, work)
    for path in paths:
        url, entry = f"{base}/{urllib.parse.quote(path)}", listing.get(path)
        try:
            digest = download(url, work / "archive.zip", limit=None if entry is None else entry.bytes)
        except NotThere:
            continue
        _compare(name, public(url), digest, entry)
        facts = {"kind": "mirror", "where": public(url), "sha256": digest, "retrieved": now()}
        return Archive(work / "archive.zip", facts, public(url))
    return None


# ---------------------------------------------------------------- what a mirror says of its files


def _folder_listing(folder: Path) -> _Listing:
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return {}
    if manifest.stat().st_size > _MANIFEST_LIMIT:
        _unlisted(f"{manifest} is larger than {_MANIFEST_LIMIT} bytes")
        return {}
    return _listing(manifest.read_bytes(), str(manifest))


def _web_listing(base: str, work: Path) -> _Listing:
    where = f"{public(base)}/manifest.json"
    try:
        download(f"{base}/manifest.json", work / "manifest.json", limit=_MANIFEST_LIMIT)
    except NotThere:
        _unlisted(f"the mirror {public(base)} has no manifest.json")
        return {}
    except Unreachable as error:
        _unlisted(f"{where} cannot be had ({error})")
        return {}
    return _listing((work / "manifest.json").read_bytes(), where)


def _listing(text: bytes, where: str) -> _Listing:
    """`{"entries": [{"path": ..., "sha256": ..., "bytes": ...}]}` by path; empty where it is something else."""
    try:
        return {entry.path: entry for entry in msgspec.json.decode(text, type=_Manifest).entries}
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: no UTF-8
        _unlisted(f"{where} is no manifest ({said(error)})")
        return {}


@functools.cache
def _unlisted(why: str) -> None:
    """One word for each mirror, however many files come from it."""
    log.warning("%s: checksums and sizes are not compared", why)


def _compare(name: str, where: str, digest: str, entry: _Entry | None) -> None:
    """With what the manifest says; what is not listed is not checked."""
    if entry is not None and entry.sha256 is not None and entry.sha256.lower() != digest:
        raise PoolBenchError(
            f"dataset {name}: SHA-256 of {where} is {digest}, its manifest says {entry.sha256}; "
            "fetch the file again, it is damaged or was replaced"
        )
