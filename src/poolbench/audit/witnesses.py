"""Which recorded runs are done again, to show that two versions of the code come to the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poolbench.records.digests import count
from poolbench.records.equivalence import Covered, Links
from poolbench.records.record import Record
from poolbench.report.leaderboard import dataset_name

EACH = 3
"""Witnesses of a group at the least, where it has so many."""

Version = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Effort:
    """How much is done to show that two versions come to the same.

    cost: seconds that a witness may take. epochs: so many of its first are compared where there are digests; None: it
    is run to its end. close: versions that are merely close are linked, too. both: whether the old version is run here
    as well, for a record.
    """

    cost: float
    epochs: int | None
    close: bool = False
    both: Callable[[Record], bool] = lambda record: False

    def stop(self, record: Record) -> int | None:
        """After so many epochs a witness is stopped; None: it has to come to its end, to be compared."""
        return self.epochs if record.digests and not self.close else None

    def seconds(self, record: Record) -> float:
        """About how long a witness takes, by how long it took."""
        total, stop = record.time.total or 0.0, self.stop(record)
        share = 1.0 if stop is None else min(stop / max(count(record.digests or ""), 1), 1.0)
        return total * (share + self.both(record))


@dataclass(frozen=True)
class Group:
    """Records of one version of the code, and of others that are linked to it, that a link is to be shown for.

    old: the version of the witnesses; new: the installed one. over: no record was under the cost, and these are the
    cheapest. unseen: datasets that no witness is of, with the seconds of their cheapest record.
    """

    covers: Covered
    old: str
    new: str
    records: tuple[Record, ...]
    witnesses: tuple[Record, ...]
    over: bool = False
    unseen: tuple[tuple[str, float], ...] = ()

    def seconds(self, effort: Effort) -> float:
        return sum(map(effort.seconds, self.witnesses))

    def __str__(self) -> str:
        return f"{self.covers} ({self.old})"


def groups(records: Iterable[Record], links: Links, installed: Version, effort: Effort) -> list[Group]:
    """What is to be shown, the cheapest first; a group whose records all failed or were pruned has no witnesses.

    Args:
        installed: the version of the installed code for a configuration.
    """
    found: dict[tuple[Covered, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        new = installed(record.config)
        shown = links.of(record, new)
        if record.code is not None and shown != "same" and not (effort.close and shown == "close"):
            found[Covered.of(record.config), new][record.code].append(record)
    made = [_group(covers, new, versions, effort)
            for (covers, new), by_version in found.items()
            for versions in _linked(by_version, covers, links)]  # fmt: skip
    return sorted(made, key=lambda group: (group.seconds(effort), str(group)))


def _linked(by_version: Mapping[str, list[Record]], covers: Covered, links: Links) -> list[dict[str, list[Record]]]:
    """The versions, put together where they are linked: one of them then stands for all."""
    parts: list[dict[str, list[Record]]] = []
    for version, records in sorted(by_version.items()):
        part = next((p for p in parts if links.between(covers, next(iter(p)), version) == "same"), None)
        if part is None:
            parts.append(part := {})
        part[version] = records
    return parts


def _group(covers: Covered, new: str, versions: Mapping[str, list[Record]], effort: Effort) -> Group:
    def chosen(version: str) -> Group:
        witnesses, over = _witnesses([record for record in versions[version] if record.done], effort)
        unseen = _cheapest(versions[version], effort, {dataset_name(record) for record in witnesses})
        return Group(covers, version, new, everything, witnesses, over, unseen)

    everything = tuple(record for records in versions.values() for record in records)
    made = [chosen(version) for version in sorted(versions)]
    return min(made, key=lambda group: (not group.witnesses, group.over, group.seconds(effort)))


def _witnesses(records: Sequence[Record], effort: Effort) -> tuple[tuple[Record, ...], bool]:
    """The first of each dataset, and further ones up to `EACH`, in the order of a hash, of those under the cost; where
    none is, the cheapest of each dataset, `EACH` at the most. And whether none was."""
    under = sorted((r for r in records if effort.seconds(r) <= effort.cost), key=_order)
    if not under:
        return tuple(_firsts(sorted(records, key=effort.seconds))[:EACH]), bool(records)
    firsts = _firsts(under)
    taken = {id(record) for record in firsts}
    others = [record for record in under if id(record) not in taken]
    return tuple(firsts + others[: max(EACH - len(firsts), 0)]), False


def _order(record: Record) -> str:
    """Nobody's choice, and the same on every machine."""
    return hashlib.sha256(f"{record.id} {record.attempt}".encode()).hexdigest()


def _firsts(records: Iterable[Record]) -> list[Record]:
    """The first record of each dataset."""
    found: dict[str, Record] = {}
    for record in records:
        found.setdefault(dataset_name(record), record)
    return list(found.values())


def _cheapest(records: Iterable[Record], effort: Effort, seen: set[str]) -> tuple[tuple[str, float], ...]:
    """The datasets that are not among those seen, and the seconds of their cheapest record."""
    found = _firsts(sorted((r for r in records if r.done and dataset_name(r) not in seen), key=effort.seconds))
    return tuple((dataset_name(record), effort.seconds(record)) for record in found)
