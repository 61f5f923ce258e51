"""From a results folder to tables, figures and a page: which records count, and what is written where."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from poolbench.errors import PoolBenchError, nearest
from poolbench.records.changes import upgrade
from poolbench.records.counting import Counted, Version, counted
from poolbench.records.equivalence import Covered, Links
from poolbench.records.forgotten import Forgotten
from poolbench.records.frame import flatten
from poolbench.records.gathered import Gist, Wanted, found_records, gather
from poolbench.records.record import Record
from poolbench.records.version import installed_code
from poolbench.report.board import Board
from poolbench.report.evidence import Evidence
from poolbench.report.leaderboard import Place, boards, dataset_name, protocol_name
from poolbench.report.table import document
from poolbench.report.tables import results, tables
from poolbench.wording import count

T = TypeVar("T")

LEGACY = "legacy-"
"""Protocols of this prefix repeat how an old paper did it, and stand in a table only where they are asked for."""


def of_folder(results: Path, query: Sequence[str] = (), all_code: bool = False, curves: bool = False) -> Report:
    """`build` of the records in a results folder; only those of the datasets and protocols of the query are read.

    Args:
        curves: draw learning curves, of the runs that are there with theirs.

    Raises `PoolBenchError` where there are no records, and as `build` does.
    """
    links = Links.read(results)
    broken: list[str] = []
    notes = Forgotten.read(results).notes()
    try:
        made = build(found_records(results, curves, _may_answer(query), broken), query, links, all_code)
    except PoolBenchError:  # all records know better what was meant
        broken.clear()
        try:
            made = build(gather(results, curves, broken=broken), query, links, all_code)
        except PoolBenchError as error:
            raise PoolBenchError(". ".join([str(error), *notes])) from error
    if broken:
        first = broken[0] + (f", and {len(broken) - 1} more" if len(broken) > 1 else "")
        notes.append(f"{count(len(broken), 'line')} of the gathered records could not be read: {first}.")
    return replace(made, notes=(*made.notes, *notes))


# ------------------------------------------------------------------------------------------------------ which of them


@dataclass(frozen=True)
class Report:
    """The boards of a selection of records, and what was left out of them."""

    boards: tuple[Board, ...]
    notes: tuple[str, ...]
    """What was asked for, and what was left out, a sentence each."""

    @cached_property
    def evidence(self) -> tuple[Evidence, ...]:
        """What each board says."""
        return tuple(map(Evidence, self.boards))

    def written(self, format: str) -> str:
        """All tables as `md` or `tex`, or the results as one `csv` file."""
        if format == "csv":
            return document([results(board) for board in self.boards], (), format)
        return document([table for one in self.evidence for table in tables(one)], self.notes, format)


def build(
    records: Iterable[Record],
    query: Sequence[str] = (),
    links: Links | None = None,
    all_code: bool = False,
    current: Version = installed_code,
) -> Report:
    """The boards of those records that a query asks for, as though there were no others.

    Args:
        query: words such as `dataset=PROTEINS` or `pool=mincut,topk`: group choices, dotted names of the
            configuration, `status`, `id`, `task` or `code`, with one or more values.
        links: which versions of the code come to the same.
        all_code: show other versions of the code too, as rows of their own.
        current: the version of the code for a configuration.

    Raises:
        PoolBenchError: a query that no record answers.
    """
    links = links or Links()
    found = counted(records, links, current)
    chosen = answering(found, query, lambda one: one.record)
    installed = any(one.kind for one in chosen)
    chosen = standing(chosen, links)
    notes = [f"Only runs with {' '.join(query)}."] if query else []
    notes += _code_notes(chosen, installed, all_code)
    shown = [one for one in chosen if all_code or one.kind]
    tested = [one for one in shown if one.record.config.get("evaluate_test", True)]
    if len(tested) < len(shown):
        notes.append(f"{count(len(shown) - len(tested), 'run')} without an evaluation of the test split, left out.")
    wanted = {v for key, values in map(_parsed, query) if key == "protocol" for v in values}
    kept = [one for one in tested if not protocol_name(one.record).startswith(LEGACY) or wanted]
    left_out = Counter(protocol_name(one.record) for one in tested)
    left_out -= Counter(protocol_name(one.record) for one in kept)
    notes += [f"{count(n, 'run')} under {name}, left out (protocol={name} shows them)." for name, n in left_out.items()]
    if not kept:
        raise PoolBenchError("no record is left for a table: " + " ".join(notes))
    return Report(tuple(boards(kept)), tuple(notes))


def standing(found: Sequence[Counted], links: Links) -> list[Counted]:
    """The same; where none is of the installed version, what counts in a cell (`kind`) is the version of most runs."""
    if any(one.kind for one in found):
        return list(found)
    cells: dict[Place, list[Counted]] = defaultdict(list)
    for one in found:
        cells[Place.of(one.record)].append(one)
    made = []
    for cell in cells.values():
        covers = Covered.of(cell[0].record.config)
        most = _most(one.version for one in cell for _ in range(1 + one.record.done))
        code = _most(str(one.record.code) for one in cell if one.version == most)
        made += [replace(one, kind=links.between(covers, str(one.record.code), code)) for one in cell]
    return made


def _most(versions: Iterable[str]) -> str:
    counts = Counter(versions)
    return min(counts, key=lambda version: (-counts[version], version))


def _code_notes(chosen: Sequence[Counted], installed: bool, all_code: bool) -> list[str]:
    """What is to be said of versions of the code."""
    notes = []
    if not installed:
        notes.append(
            "No record was made by the code of this PoolBench; the tables show the version of most runs of a cell."
        )
    if others := sum(one.kind is None for one in chosen):
        fate = "in rows of their own and not compared" if all_code else "left out (--all-code shows them)"
        notes.append(f"{count(others, 'run')} of other versions of the code, {fate}.")
    if close := sum(one.kind == "close" for one in chosen):
        notes.append(
            f"{count(close, 'run')} of a version of the code whose numbers are close and not the same: they count, and "
            "cells say how many."
        )
    return notes


# --------------------------------------------------------------------------------------------------------------- query


def _parsed(word: str) -> tuple[str, list[str]]:
    key, equals, values = word.partition("=")
    if not equals or not key or not all(values.split(",")):
        raise PoolBenchError(f"{word!r} is no query; write KEY=VALUE[,VALUE...], such as dataset=PROTEINS")
    if second := re.search(r",(?=[A-Za-z_][\w.]*=)", values):
        raise PoolBenchError(
            f"{word!r}: keys are separated by spaces and values of a key by commas; write "
            f"{word[: len(key) + 1 + second.start()]} {word[len(key) + 1 + second.end() :]}"
        )
    return key, values.split(",")


def answering(found: Sequence[T], query: Sequence[str], record_of: Callable[[T], Record]) -> list[T]:
    """What has one of the values for every key of the query. Raises `PoolBenchError` where nothing has."""
    kept = list(found)
    for key, values in map(_parsed, query):
        said = [_said(record_of(one), key) for one in found]
        answer = {id(one) for one, texts in zip(found, said, strict=True)
                  if any(_same(value, text) for value in values for text in texts)}  # fmt: skip
        if not any(said):
            known = {name for one in found for name in _names(record_of(one))}
            raise PoolBenchError(f"{key} is no key of these records{nearest(key, sorted(known))}")
        all_said = sorted({text for texts in said for text in texts})
        for value in values:
            if not any(_same(value, text) for text in all_said):
                choices = nearest(value, all_said) or (
                    f"; there are {', '.join(all_said)}" if len(all_said) < 40 else ""
                )
                raise PoolBenchError(f"no record has {key}={value}{choices}")
        kept = [one for one in kept if id(one) in answer]
    if not kept:
        raise PoolBenchError(f"no record answers {' '.join(query)}")
    return kept


def _may_answer(query: Sequence[str]) -> Wanted | None:
    """Whether a record answers what a query says of dataset and protocol; None where it says nothing."""
    asked = [(key, values) for key, values in map(_parsed, query) if key in ("dataset", "protocol")]

    def answers(gist: Gist | Record) -> bool:
        return all(any(_same(value, text) for value in values for text in _said(gist, key)) for key, values in asked)

    return answers if asked else None


def _said(record: Gist | Record, key: str) -> set[str]:
    """What a record says to the key of a query; nothing where it lacks the key."""
    config = record.config
    values: list[Any] = [(config.get("names") or {}).get(key)]
    if key == "dataset":
        values.append(dataset_name(record))
    elif key == "protocol":
        values.append(protocol_name(record))
    elif key in ("status", "id", "task", "code"):
        values.append(getattr(record, key))
    said = {_text(value) for value in values if value is not None}
    if said:
        return said
    node: Any = upgrade(config)
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return set()
        node = node[name]
    return set() if isinstance(node, Mapping) else {_text(node)}


def _names(record: Record) -> set[str]:
    config = upgrade(record.config)
    return {"status", "id", "task", "code", *(config.get("names") or {}), *flatten(config)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _same(asked: str, said: str) -> bool:
    if asked.lower() == said.lower():
        return True
    try:
        return float(asked) == float(said)
    except ValueError:
        return False
