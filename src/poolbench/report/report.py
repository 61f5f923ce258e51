"""From a results folder to tables, figures and a page: which records count, and what is written where."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poolbench.errors import PoolBenchError, nearest
from poolbench.records.identity import installed_code
from poolbench.report.leaderboard import (
    Board,
    boards,
    column_key,
    dataset_name,
    flatten,
    protocol_key,
    protocol_name,
    row_key,
)
from poolbench.report.tables import tables, to_csv

LEGACY = "legacy-"
"""Protocols of this prefix repeat how an old paper did it, and stand in a table only where they are asked for."""

Record = Mapping[str, Any]


# ------------------------------------------------------------------------------------------------------ which of them


@dataclass(frozen=True)
class Report:
    """The boards of a selection of records, and what was left out of them."""

    boards: tuple[Board, ...]
    notes: tuple[str, ...]
    """What was asked for, and what was left out, a sentence each."""

    def written(self, format: str) -> str:
        """All tables as `md` or `tex`, or the results as one `csv` file."""
        if format == "csv":
            return to_csv([record for board in self.boards for record in tables(board)[0].records])
        comment = "% " if format == "tex" else ""
        notes = "\n".join(comment + note for note in self.notes)
        parts = [table.written(format) for board in self.boards for table in tables(board)]
        return "\n".join([*([notes + "\n"] if notes else []), *parts])


def build(
    records: Iterable[Record],
    query: Sequence[str] = (),
    all_code: bool = False,
    current: Callable[[Mapping[str, Any]], str] | None = None,
) -> Report:
    """The boards of those records that a query asks for.

    Args:
        query: words such as `dataset=PROTEINS` or `pool=mincut,topk`: group choices, dotted names of the
            configuration, `status`, `id`, `task` or `code`, with one or more values.
        all_code: show other versions of the code too, as rows of their own.
        current: the version of the code for a configuration; that of the installed PoolBench by default.

    Raises:
        PoolBenchError: a query that no record answers.
    """
    latest = _latest(records)
    others = _other_code(latest, current or installed_code)
    notes = [f"Only runs with {' '.join(query)}."] if query else []
    chosen = _answering(latest, query)
    shown = [r for r in chosen if all_code or r["id"] not in others.ids]
    notes += others.notes(sum(r["id"] in others.ids for r in chosen), all_code)
    tested = [r for r in shown if r["config"].get("evaluate_test", True)]
    if len(tested) < len(shown):
        notes.append(f"{_runs(len(shown) - len(tested))} without an evaluation of the test split, left out.")
    wanted = {v for key, values in map(_parsed, query) if key == "protocol" for v in values}
    kept = [r for r in tested if not protocol_name(r).startswith(LEGACY) or wanted]
    left_out = Counter(protocol_name(r) for r in tested) - Counter(protocol_name(r) for r in kept)
    notes += [f"{_runs(n)} under {name}, left out (protocol={name} shows them)." for name, n in left_out.items()]
    if not kept:
        raise PoolBenchError("no record is left for a table: " + " ".join(notes))
    return Report(tuple(boards(kept, others.ids)), tuple(notes))


def _latest(records: Iterable[Record]) -> list[Record]:
    """The latest attempt of each run."""
    latest: dict[str, Record] = {}
    for record in records:
        if record["id"] not in latest or record["attempt"] > latest[record["id"]]["attempt"]:
            latest[record["id"]] = record
    return [latest[id] for id in sorted(latest)]


@dataclass(frozen=True)
class _OtherCode:
    """The runs that were made by another version of the code than the tables are about."""

    ids: frozenset[str]
    installed: bool
    """Whether the tables are about the installed version, of which there are records."""

    def notes(self, count: int, shown: bool) -> list[str]:
        found = []
        if not self.installed:
            found.append(
                "No record was made by the code of this PoolBench; the tables show the version of most runs of a cell."
            )
        if count:
            fate = "in rows of their own and not compared" if shown else "left out (--all-code shows them)"
            found.append(f"{_runs(count)} of other versions of the code, {fate}.")
        return found


def _other_code(records: Sequence[Record], current: Callable[[Mapping[str, Any]], str]) -> _OtherCode:
    """What is not of the installed version; where nothing is, what is not of the version of most runs of its cell."""
    now = {r["id"] for r in records if r["provenance"].get("code") == current(r["config"])}
    if now:
        return _OtherCode(frozenset(r["id"] for r in records if r["id"] not in now), True)
    cells: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        cells[row_key(record), column_key(record), protocol_key(record)].append(record)
    others: set[str] = set()
    for found in cells.values():
        counts = Counter(str(r["provenance"].get("code")) for r in found for _ in range(1 + (r["status"] == "done")))
        best = min(counts, key=lambda code: (-counts[code], code))
        others |= {r["id"] for r in found if str(r["provenance"].get("code")) != best}
    return _OtherCode(frozenset(others), False)


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


# --------------------------------------------------------------------------------------------------------------- query


def _parsed(word: str) -> tuple[str, list[str]]:
    key, equals, values = word.partition("=")
    if not equals or not key or not all(values.split(",")):
        raise PoolBenchError(f"{word!r} is no query; write KEY=VALUE[,VALUE...], such as dataset=PROTEINS")
    return key, values.split(",")


def _answering(records: Sequence[Record], query: Sequence[str]) -> list[Record]:
    """The records that have one of the values for every key of the query."""
    kept = list(records)
    for key, values in map(_parsed, query):
        said = [_said(record, key) for record in records]
        if not any(said):
            known = {name for record in records for name in _names(record)}
            raise PoolBenchError(f"{key} is no key of these records{nearest(key, sorted(known))}")
        all_said = sorted({text for texts in said for text in texts})
        for value in values:
            if not any(_same(value, text) for text in all_said):
                choices = nearest(value, all_said) or (
                    f"; there are {', '.join(all_said)}" if len(all_said) < 40 else ""
                )
                raise PoolBenchError(f"no record has {key}={value}{choices}")
        kept = [r for r in kept if any(_same(v, text) for v in values for text in _said(r, key))]
    if not kept:
        raise PoolBenchError(f"no record answers {' '.join(query)}")
    return kept


def _said(record: Record, key: str) -> set[str]:
    """What a record says to the key of a query; nothing where it lacks the key."""
    config = record["config"]
    values: list[Any] = [(config.get("names") or {}).get(key)]
    if key == "dataset":
        values.append(dataset_name(record))
    elif key == "protocol":
        values.append(protocol_name(record))
    elif key in ("status", "id", "task"):
        values.append(record[key])
    elif key == "code":
        values.append(record["provenance"].get("code"))
    flat = flatten(config)
    said = {_text(value) for value in values if value is not None}
    return said | ({_text(flat[key])} if key in flat and not said else set())


def _names(record: Record) -> set[str]:
    return {"status", "id", "task", "code", *(record["config"].get("names") or {}), *flatten(record["config"])}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _same(asked: str, said: str) -> bool:
    if asked.lower() == said.lower():
        return True
    try:
        return float(asked) == float(said)
    except ValueError:
        return False
