"""Where raw files come from: a package that ships them, a mirror, the official host."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from poolbench.data.sources.download import NotThere, Unreachable, download, public
from poolbench.errors import PoolBenchError

log = logging.getLogger(__name__)

_MANIFEST_LIMIT = 1 << 26


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
        return dict(json.loads((folder / "provenance.json").read_text()))
    except (OSError, ValueError):
        return None


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
    scheme = urllib.parse.urlsplit(base).scheme.lower()
    if scheme in ("http", "https"):
        return _from_web_mirror(name, base.rstrip("/"), paths, work)
    folder = Path(urllib.request.url2pathname(urllib.parse.urlsplit(base).path)) if scheme == "file" else Path(base)
    folder = folder.expanduser()
    if not folder.is_dir():
        raise NoMirror(
            f"POOLBENCH_MIRROR={public(base)} is neither a folder nor a file:// or http(s):// address; "
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
        except NotThere:
            continue
        try:
            download(f"{base}/manifest.json", work / "manifest.json", limit=_MANIFEST_LIMIT)
            listing = (work / "manifest.json").read_bytes()
        except (NotThere, Unreachable):
            listing = b""
        _check_manifest(name, public(url), path, digest, listing)
        facts = {"kind": "mirror", "where": public(url), "sha256": digest, "retrieved": now()}
        return Archive(work / "archive.zip", facts, public(url))
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
