"""Which versions of the code come to the same: what `poolbench equivalent` has shown, by running witnesses again.

results/equivalence.jsonl   a line each link: from, to, what it covers, the witnesses; lines are only ever added

Each line ends with a seal, a short hash over the line before and itself, so that a line that was edited or taken out by
hand is found. It is no signature: who wants to deceive can seal a file of his own.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
from filelock import FileLock
from msgspec import Struct

from poolbench.disk import cannot_write, put
from poolbench.errors import PoolBenchError
from poolbench.records.changes import first
from poolbench.records.record import Record

log = logging.getLogger(__name__)

EQUIVALENCE = "equivalence.jsonl"

COST = 60.0
"""Seconds that a witness may take."""
EPOCHS = 5

Kind = Literal["same", "close"]


class Covered(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a link holds for: an operator with its model template and protocol, by the first names of their classes."""

    pool: str
    model: str
    protocol: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Covered:
        """What the run of a configuration belongs to."""
        named = {group: str((config.get(group) or {}).get("_target_")) for group in ("pool", "model", "protocol")}
        return cls(**{group: first(target) for group, target in named.items()})

    def __str__(self) -> str:
        return ", ".join(name.rpartition(".")[2] for name in (self.pool, self.model, self.protocol))


class Witness(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record whose run was done again: its id and dataset, and what was compared.

    epochs: how many, by their digests; None: none. end: whether the numbers at the end were (metrics of all parts,
    losses, the selected epoch).
    """

    id: str
    dataset: str
    epochs: int | None
    end: bool


class Link(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"old": "from", "new": "to"}):
    """One version of the code shown to come to what another one does.

    kind: `same`, every number compared has the same bits; `close`, see `audit.verdict`. machine: on which witnesses
    were run again. date: ISO 8601. commit: of the code that ran. both: the old version was run on this machine too;
    else what it came to is what the records say. seal: see above, empty in a link that was not written yet.
    """

    old: str
    new: str
    kind: Kind
    covers: Covered
    witnesses: tuple[Witness, ...]
    machine: str
    date: str
    commit: str | None = None
    both: bool = False
    seal: str = ""


# --------------------------------------------------------------------------------------------------------- the file


_SEAL = re.compile(rb',"seal":"([0-9a-f]*)"\}$')
"""The end of a line: the seal is its last field."""


def _seal(before: bytes, line: bytes) -> str:
    """Of a line with an empty seal, after the line `before`."""
    return hashlib.sha256(before + b"\n" + line).hexdigest()[:8]


def _sealed(before: bytes, link: Link) -> bytes:
    line = msgspec.json.encode(msgspec.structs.replace(link, seal=""))
    return msgspec.json.encode(msgspec.structs.replace(link, seal=_seal(before, line)))


def _read(path: Path) -> tuple[list[Link], str | None]:
    """The links of a file up to the first line that is none, or whose seal does not fit; and what is wrong there."""
    decoder, before = msgspec.json.Decoder(Link), b""
    found: list[Link] = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else (), 1):
        fate = "links from there on do not count; restore the file, or remove the rest of it"
        try:
            link = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return found, f"{path}, line {number}: not a link ({error}): {fate}"
        if link.seal != _seal(before, _SEAL.sub(b',"seal":""}', line)):
            return found, f"{path}, line {number}: its seal does not fit, so it or the line before was changed: {fate}"
        found.append(link)
        before = line
    return found, None


def append(results: Path, link: Link) -> None:
    """Add a link to those of a results folder: its line is there whole or not at all.

    Raises:
        PoolBenchError: a line of the file is broken; nothing behind it would count. RunError: it cannot be written.
    """
    path = Path(results) / EQUIVALENCE
    try:
        with FileLock(path.with_name(f".{path.name}.lock")):
            if broken := _read(path)[1]:
                raise PoolBenchError(broken)
            lines = path.read_bytes().splitlines() if path.is_file() else []
            lines.append(_sealed(lines[-1] if lines else b"", link))
            put(path, b"".join(line + b"\n" for line in lines))
    except OSError as error:
        raise cannot_write(path, error) from error


class Links:
    """The links of a results folder.

    Args:
        links: in any order. broken: what is wrong with the file that they come from.
    """

    def __init__(self, links: Iterable[Link] = (), broken: str | None = None) -> None:
        self.links = tuple(links)
        self.broken = broken

    @classmethod
    def read(cls, results: Path) -> Links:
        """Those in `results`; none where there is no file. Where a line is broken, those before it, and an error is
        logged that names the line."""
        links, broken = _read(Path(results) / EQUIVALENCE)
        if broken:
            log.error("error: %s", broken)
        return cls(links, broken)

    def between(self, covers: Covered, a: str | None, b: str | None) -> Kind | None:
        """Whether two versions come to the same for what is covered, directly or by way of others; None: not shown."""
        if a is None or b is None:
            return None
        kinds: tuple[Kind, ...] = ("same", "close")
        return next((kind for kind in kinds if self.least(covers, a, kind) == self.least(covers, b, kind)), None)

    def of(self, record: Record, version: str) -> Kind | None:
        """Whether a record counts as one of `version`, a version of the code for its configuration."""
        if record.code == version:
            return "same"
        return self.between(Covered.of(record.config), record.code, version) if self.links else None

    def least(self, covers: Covered, version: str, kind: Kind = "close") -> str:
        """The least, by its name, of all versions that come to what `version` does: one name for all of them."""
        return self._least.get((covers, version, kind), version)

    @cached_property
    def _least(self) -> dict[tuple[Covered, str, Kind], str]:
        same, close = _Neighbours(set), _Neighbours(set)
        for link in self.links:
            for one, other in ((link.old, link.new), (link.new, link.old)):
                close[link.covers, one].add(other)
                if link.kind == "same":
                    same[link.covers, one].add(other)
        kinds: tuple[tuple[Kind, _Neighbours], ...] = (("same", same), ("close", close))
        return {
            (covers, version, kind): min(_reached(neighbours, covers, version))
            for kind, neighbours in kinds
            for covers, version in list(neighbours)
        }


_Neighbours = defaultdict[tuple[Covered, str], set[str]]


def _reached(neighbours: _Neighbours, covers: Covered, start: str) -> set[str]:
    reached, todo = {start}, [start]
    while todo:
        new = neighbours[covers, todo.pop()] - reached
        reached |= new
        todo += new
    return reached
