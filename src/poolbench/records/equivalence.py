"""Which versions of the code come to the same: what `poolbench equivalent` has shown, by running witnesses again.

results/equivalence.jsonl   a line each link: from, to, what it covers, the witnesses; lines are only ever added
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from poolbench.errors import PoolBenchError
from poolbench.records.changes import first
from poolbench.records.record import Record

EQUIVALENCE = "equivalence.jsonl"

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


class Witness(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record whose run was done again: its id and dataset, and how many epochs were compared.

    digests: whether each epoch was compared by its digest; else the metrics and the selected epoch at the end were.
    """

    id: str
    dataset: str
    epochs: int | None
    digests: bool


class Link(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"old": "from", "new": "to"}):
    """One version of the code shown to come to what another one does.

    kind: `same`, every number compared has the same bits; `close`, see `audit.equivalence`. machine: on which witnesses
    were run again. date: ISO 8601. commit: of the code that ran.
    """

    old: str
    new: str
    kind: Kind
    covers: Covered
    witnesses: tuple[Witness, ...]
    machine: str
    date: str
    commit: str | None = None


class Links:
    """The links of a results folder.

    Args:
        links: in any order.
    """

    def __init__(self, links: Iterable[Link] = ()) -> None:
        self.links = tuple(links)

    @classmethod
    def read(cls, results: Path) -> Links:
        """Those in `results`; none where there is no file. Raises `PoolBenchError` for a line that is no link."""
        path = Path(results) / EQUIVALENCE
        if not path.is_file():
            return cls()
        decoder = msgspec.json.Decoder(Link)
        found = []
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                found.append(decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise PoolBenchError(f"{path}, line {number}: not a link ({error}); remove the line") from error
        return cls(found)

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
