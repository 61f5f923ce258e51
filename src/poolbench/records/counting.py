"""Which records count: each run once, by the installed version of the code or one that is linked to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from poolbench.records.equivalence import Covered, Kind, Links
from poolbench.records.record import Record
from poolbench.records.version import installed_code

Version = Callable[[Mapping[str, Any]], str]
"""A configuration to the version of the code that its run consists of, such as `version.installed_code`."""


@dataclass(frozen=True)
class Counted:
    """The record that stands for a run.

    version: of the code, one name for all that are linked. kind: how its version is linked to the one asked for; None:
    it is not.
    """

    record: Record
    version: str
    kind: Kind | None


def counted(records: Iterable[Record], links: Links, version: Version = installed_code) -> list[Counted]:
    """One record of each run and of each set of linked versions, by the run's identity.

    It is the one by the version asked for, or by one that comes to the same; of several the latest.

    Args:
        version: the version asked for.
    """
    best: dict[tuple[str, str], tuple[tuple[Any, ...], Counted]] = {}
    known: dict[tuple[bytes, str | None], tuple[str, str, Kind | None]] = {}
    for record in records:
        alike = record.alike, record.code
        if alike not in known:
            asked, code = version(record.config), str(record.code)
            kind = links.of(record, asked)
            known[alike] = asked, asked if kind else links.least(Covered.of(record.config), code), kind
        asked, name, kind = known[alike]
        one, code = Counted(record, name, kind), str(record.code)
        rank = code == asked, kind == "same", record.schema, record.attempt, code
        run = record.setting, one.version
        if run not in best or rank > best[run][0]:
            best[run] = rank, one
    return [best[run][1] for run in sorted(best)]
