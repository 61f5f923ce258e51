"""What lies behind each number, as data for the page's script: the words of a cell, and its runs with the file and the
line of each record."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from poolbench.records.attempts import run_folder, run_ids
from poolbench.records.clock import hardware
from poolbench.records.gathered import key, places
from poolbench.records.record import RECORD, Record
from poolbench.report.board import Cell, Column, Row, Run, epoch_seconds, memory_measure
from poolbench.report.evidence import Evidence
from poolbench.report.leaderboard import score
from poolbench.report.page.charts import Chart
from poolbench.report.page.markup import cell_id, facts
from poolbench.report.page.matrix import over_datasets_data, pair_lines
from poolbench.report.tables import in_domain_text, memory_text, time_text
from poolbench.statistics import LEVEL

FIELDS = ("run", "record", "status", "seed", "fold", "score", "selected epoch", "time an epoch", "peak memory",
          "hardware", "code", "git")  # fmt: skip


class Where(NamedTuple):
    """A record's address from the page, and how people say it."""

    href: str
    text: str


Link = Callable[[Record], Where]


def links(results: Path, out: Path, gathered: bool) -> Link:
    """Where a record lies, from the page: its own file, or the file and line that it is gathered in."""
    files, start, ids = places(results), out.resolve(), run_ids(results)

    @cache
    def address(target: Path) -> str:
        return quote(Path(os.path.relpath(target.resolve(), start)).as_posix())

    def own(record: Record) -> Path:
        return run_folder(results, record.id) / str(record.attempt) / RECORD

    def link(record: Record) -> Where:
        kept = files.get(key(record))
        if kept and (gathered or record.id not in ids or not own(record).is_file()):
            return Where(f"{address(kept.path)}#L{kept.line}", f"{kept.path.name}, line {kept.line}")
        return Where(address(own(record)), RECORD)

    return link


def data(boards: Sequence[Evidence], charts: Sequence[Chart], link: Link) -> str:
    """As JSON that no `</script>` in it can end."""
    cells: dict[str, dict[str, Any]] = {}
    settings: dict[str, str] = {}
    for evidence in boards:
        board = evidence.board
        for (row, column), cell in board.cells.items():
            settings.setdefault(row.key, str(len(settings)))
            cells[cell_id(board, row, column)] = {
                "title": f"{board.name(row)} on {column.dataset}, {row.model}",
                "lines": _details(evidence, row, column, cell),
                "setting": settings[row.key],
                "runs": [_run(run, column, link) for run in cell.runs],
                **facts(board, row, (column,)),
            }
        for id, row, lines, behind in over_datasets_data(evidence):
            cells[id] = {"title": f"{board.name(row)} over datasets, {row.model}", "lines": lines,
                         "setting": settings[row.key], "of": behind}  # fmt: skip
    made = {
        "fields": FIELDS,
        "cells": cells,
        "settings": {number: json.dumps(json.loads(text), indent=1) for text, number in settings.items()},
        "charts": charts,
    }
    return json.dumps(made, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _details(evidence: Evidence, row: Row, column: Column, cell: Cell) -> list[str]:
    metric, found = column.metric, cell.estimate
    pair = evidence.pairs.get((row, column))
    lines = pair_lines(pair) if pair else []
    if found is not None:
        lines.append(f"test {metric.name} {metric.said(found)} over n = {found.n} {column.unit}")
    if found is not None and (ends := metric.reach(found)):
        lines.append(f"{LEVEL:.0%} interval of the score {metric.text(ends[0])} to {metric.text(ends[1])}")
    if cell.in_domain is not None:
        lines.append(f"in domain {in_domain_text(cell, column)}")
    for gauge, cost in cell.costs.items():
        on = f" on {gauge.hardware}" if len(cell.costs) > 1 else ""
        lines.append(f"{time_text(cost.epoch)} an epoch, peak memory {memory_text(cost.memory)}{on}")
    if cell.scores:
        lines.append(f"{column.unit}: " + ", ".join(metric.text(value) for value in cell.scores.values()))
    return [*lines, ", ".join(cell.lost)] if cell.lost else lines


def _run(run: Run, column: Column, link: Link) -> dict[str, Any]:
    record = run.record
    found, epoch, git = score(record, column.metric), record.selected_epoch, record.provenance.git
    fold, where = record.config.get("fold"), link(record)
    values = (
        f"{run.id}/{record.attempt}", where.text, run.status, run.seed, "–" if fold is None else str(fold),
        "–" if found is None else column.metric.text(found), "–" if epoch is None else str(epoch + 1),
        time_text(epoch_seconds(record)), _memory(record), hardware(record),
        f"{record.code or '–'}{' (close)' if run.close else ''}",
        f"{git[:8]}{' + changes' if record.provenance.dirty else ''}" if git else "–",
    )  # fmt: skip
    return {"href": where.href, "values": values, "reason": "" if run.status == "done" else run.reason}


def _memory(record: Record) -> str:
    peak = record.memory_peak
    return memory_text(peak) if peak is None else f"{memory_text(peak)} ({memory_measure(record)})"
