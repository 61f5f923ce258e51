"""One HTML file that says what was found, from file:// and without a network: no part of it lies elsewhere.

The tables are in the file as plain HTML; its script sorts and filters them, and shows the records behind a number.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from poolbench import __version__
from poolbench.records.attempts import run_folder
from poolbench.records.clock import hardware
from poolbench.records.gathered import key, places
from poolbench.records.record import RECORD, Record
from poolbench.report.figures import Drawn
from poolbench.report.leaderboard import (
    BASELINE,
    MEMORY,
    Board,
    Cell,
    Column,
    Row,
    Run,
    Versus,
    answers,
    epoch_seconds,
    memory_measure,
    p_number,
    score,
)
from poolbench.report.report import Report
from poolbench.report.tables import Table, cell_text, in_domain_text, memory_text, tables, time_text
from poolbench.statistics import LEVEL, POWER

Link = Callable[[Record], str]
"""A record to where it lies, from the page."""

FIELDS = ("record", "status", "seed", "fold", "score", "selected epoch", "time an epoch", "peak memory", "hardware",
          "code", "git")  # fmt: skip


def page(
    report: Report, figures: Mapping[str, Sequence[Drawn]], results: Path, out: Path, gathered: bool = False
) -> str:
    """The page of a report.

    Args:
        figures: the figures of each board, by its slug.
        results: the folder of the records.
        out: the folder that the page will lie in, from which it links to the records.
        gathered: link to the gathered records, with which the page is handed on, also where the runs' own files are
            there.
    """
    runs = [run for board in report.boards for cell in board.cells.values() for run in cell.runs]
    lost = sum(run.status != "done" for run in runs)
    summary = (
        f"{len(runs)} runs, {lost} of them without a number. Written by PoolBench {__version__} (poolbench report)."
    )
    parts = {
        "summary": escape(summary),
        "notes": f'<div class="notes">{"".join(map(_paragraph, report.notes))}</div>' if report.notes else "",
        "protocols": _options(board.protocol for board in report.boards),
        "datasets": _options(column.dataset for board in report.boards for column in board.columns),
        "models": _options(row.model for board in report.boards for row in board.rows),
        "boards": "\n".join(_board(board, figures.get(board.slug, ())) for board in report.boards),
        "reading": _READING,
        "data": _data(report, _links(results, out, gathered)),
    }
    template = files("poolbench.report").joinpath("page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _options(names: Iterable[str]) -> str:
    return "".join(f"<option>{escape(name)}</option>" for name in sorted(set(names), key=str.lower))


_MEASURES = "; ".join(f"{name}: {text}" for name, text in MEMORY.items())

_READING = f"""<p>A number with ± is the mean over n resampled splits (or seeds on one fixed split) and half the width
of its {LEVEL:.0%} interval. Resampled splits share graphs, so the variance of the mean is (1/n + n_test/n_train) s²
(Nadeau &amp; Bengio, 2003), in intervals and tests alike. Pools are compared with {BASELINE} on the same splits; p is
corrected after Holm over the settings that are compared on a dataset, and the interval of a difference is that of the
pair alone. “No detectable difference” names the true difference that so many runs would have shown with probability
{POWER}: it is no proof that two pools are alike. Failed, pruned and missing runs are counted and are in no mean. A
control shows what a pool is worth that learns nothing: {BASELINE} pools not at all, random-dense and random-sparse pool
at random. Time and memory are medians over runs, apart for each kind of hardware and measure of memory; time is that of
the processor where one thread of it did everything; memory is one of {_MEASURES}.</p>
<p>Point at a number for its details, click it for its records. The address of this page holds the filters and the
order.</p>"""


# --------------------------------------------------------------------------------------------------------------- boards


def _board(board: Board, figures: Sequence[Drawn]) -> str:
    shown = "\n".join(
        f"<figure><h4>{escape(figure.title)}</h4>{_labelled(figure)}\n"
        f"<figcaption>{escape(figure.text)}</figcaption></figure>"
        for figure in figures
    )
    kept = [table for table in tables(board) if table.name in ("over-datasets", "ranks", "failures")]
    answered = "\n".join(_answer(board, column) for column in board.columns)
    sections = "\n".join(_dataset(board, column) for column in board.columns)
    more = "\n".join(f"<h3>{escape(table.title)}</h3>\n{_table(table)}" for table in kept)
    no_ranks = _paragraph(board.ranking) if isinstance(board.ranking, str) else ""
    return (
        f'<article data-protocol="{escape(board.protocol)}">\n<h2>{escape(board.protocol)}</h2>\n'
        f"{answered}\n{_leaderboard(board)}\n{sections}\n{more}\n{no_ranks}\n<h3>Figures</h3>\n{shown}\n</article>"
    )


def _labelled(figure: Drawn) -> str:
    return figure.canvas.inline().replace("<svg ", f'<svg role="img" aria-label="{escape(figure.text)}" ', 1)


def _cell_id(board: Board, row: Row, column: Column) -> str:
    return f"{board.slug}.{board.rows.index(row)}.{board.columns.index(column)}"


def _link(board: Board, row: Row, column: Column, text: str) -> str:
    """A number that leads to its records; what has no number leads nowhere."""
    if text in ("", "–"):
        return text
    id = escape(_cell_id(board, row, column))
    return f'<a class="cell" href="#cell={id}" data-cell="{id}">{escape(text)}</a>'


Entry = tuple[str, Any, str]
"""(HTML, value to sort by or None, class)."""


def _leaderboard(board: Board) -> str:
    """A line a setting and dataset. Sorting by a column starts with its better end."""
    options = any(row.options or row.code for row in board.rows)
    modes = {column.metric.mode for column in board.columns}
    best_first = "-" if modes == {"max"} else ""
    heads = [("pool", "pool", ""), ("model", "model", ""), *([("setting", "setting", "")] if options else []),
             ("dataset", "dataset", ""), ("test score", "score", best_first), ("s", "std", ""), ("n", "n", "-"),
             ("without a number", "lost", "-"), (f"against {BASELINE}", "difference", best_first), ("Holm p", "p", ""),
             ("parameters", "parameters", "")]  # fmt: skip
    for i, gauge in enumerate(board.gauges):
        suffix = f", {gauge}" if len(board.gauges) > 1 else ""
        heads += [(f"time an epoch{suffix}", f"time{i}", ""), (f"peak memory{suffix}", f"memory{i}", "")]
    versus = {(v.row, v.column): v for v in board.versus}
    pairs = [(row, column) for column in board.columns for row in board.rows]
    lines = [
        _line(i, board, row, column, _entries(board, row, column, versus.get((row, column)), options))
        for i, (row, column) in enumerate(pairs)
    ]
    head = "".join(
        f'<th scope="col" data-key="{key}" data-first="{first}"{_LEFT if key in _NAMES else ""}>'
        f'<button type="button">{escape(name)}</button></th>'
        for name, key, first in heads
    )
    on = f" Time and memory: {escape(str(board.gauges[0]))}." if len(board.gauges) == 1 else ""
    caption = (
        f'<caption><span class="shown"></span>s is the standard deviation over the n splits or seeds.{on}</caption>'
    )
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table class="leaderboard">{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


_LEFT = ' class="l"'
_NAMES = ("pool", "model", "setting", "dataset")


def _entries(board: Board, row: Row, column: Column, versus: Versus | None, options: bool) -> list[Entry]:
    cell, metric = board.cells[row, column], column.metric
    found, compared = cell.estimate, versus.comparison if versus else None
    badge = ' <span class="badge">control</span>' if row.control else ""
    other = f' <span class="lost">other code {escape(row.code[:8])}</span>' if row.code else ""
    score_text = (
        "–" if found is None else metric.text(found.mean) + (f" ± {metric.text(found.half)}" if found.half else "")
    )
    score_text += f", {cell.close} close" if cell.close else ""
    mark = {"better": "▲ ", "worse": "▼ "}.get(versus.verdict, "") if versus else ""
    verdict = versus.verdict if versus and mark else ""
    names = [
        (escape(row.pool) + badge, row.pool, "l"),
        (escape(row.model), row.model, "l"),
        *([(escape(row.options) + other, row.options, "l")] if options else []),
        (escape(column.dataset), column.dataset, "l"),
    ]
    numbers: list[tuple[str, Any, str]] = [
        (score_text, found and found.mean, "score"),
        ("–" if found is None or found.std is None else metric.text(found.std), found and found.std, ""),
        (str(found.n if found else 0), found.n if found else 0, ""),
        (", ".join(cell.lost), _lost(cell), "lost"),
        (f"{mark}{metric.gap(compared.difference)} {metric.unit}" if compared else "–",
         compared and compared.difference, verdict),
        (p_number(versus.corrected if versus else None), versus and versus.corrected, ""),
        ("–" if cell.parameters is None else f"{cell.parameters:,}", cell.parameters, ""),
    ]  # fmt: skip
    for gauge in board.gauges:
        cost = cell.costs.get(gauge)
        numbers += [
            (time_text(cost.epoch if cost else None), cost and cost.epoch, ""),
            (memory_text(cost.memory if cost else None), cost and cost.memory, ""),
        ]
    return names + [(_link(board, row, column, text), value, kind) for text, value, kind in numbers]


def _lost(cell: Cell) -> int:
    return cell.count("failed") + cell.count("pruned") + cell.missing


def _line(order: int, board: Board, row: Row, column: Column, entries: Iterable[Entry]) -> str:
    cell = board.cells[row, column]
    attributes = {
        "order": order, "pool": board.name(row), "model": row.model, "dataset": column.dataset,
        "control": int(row.control), "lost": int(_lost(cell) > 0),
    }  # fmt: skip
    said = "".join(f' data-{name}="{escape(str(value))}"' for name, value in attributes.items())
    cells = "".join(
        f'<td data-value="{"" if value is None else escape(str(value))}"{f" class={kind}" if kind else ""}>{text}</td>'
        for text, value, kind in entries
    )
    return f"<tr{said}>{cells}</tr>"


# ------------------------------------------------------------------------------------------------------------- datasets


def _answer(board: Board, column: Column) -> str:
    """What everybody opens the page for, in a sentence."""
    name, said = escape(column.dataset), escape(" ".join(answers(board, column)))
    return (
        f'<section data-dataset="{name}"><p class="answer"><strong>Does pooling beat {BASELINE} on {name}?</strong> '
        f"{said}</p></section>"
    )


def _dataset(board: Board, column: Column) -> str:
    """The comparisons that the answer rests on."""
    found = [versus for versus in board.versus if versus.column == column]
    name = escape(column.dataset)
    lines = "\n".join(_compared(board, versus, _reach(found)) for versus in found)
    head = "".join(
        f"<th{_LEFT if left else ''}>{escape(text)}</th>"
        for text, left in (
            ("pool", True), ("score", False), (f"difference to {BASELINE}", False), (f"{LEVEL:.0%} interval", False),
            ("", False), ("Holm p", False), ("P(better)", False), ("in words", True),
        )
    )  # fmt: skip
    if not found:
        return ""
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    return f'<section data-dataset="{name}"><h3>{name}</h3>\n{table}</section>'


def _reach(found: Sequence[Versus]) -> float:
    """The largest distance from 0 that an interval of a dataset has, the scale of its drawings."""
    ends = [abs(end) for v in found if v.comparison for end in (v.comparison.low, v.comparison.high) if end is not None]
    return max(ends, default=0.0)


def _compared(board: Board, versus: Versus, reach: float) -> str:
    def link(text: str) -> str:
        return _link(board, versus.row, versus.column, text)

    metric, found = versus.column.metric, versus.comparison
    badge = ' <span class="badge">control</span>' if versus.row.control else ""
    value = cell_text(board.cells[versus.row, versus.column], versus.column)
    gap = f"{metric.gap(found.difference)} {metric.unit}" if found else "–"
    low, high = (found.low, found.high) if found else (None, None)
    interval = "–" if low is None or high is None else f"{metric.gap(low)} to {metric.gap(high)}"
    kind = versus.verdict if versus.verdict in ("better", "worse") else ""
    return (
        f'<tr><td class="l">{escape(board.name(versus.row))}{badge}</td>'
        f'<td class="score">{link(value)}</td><td>{link(gap)}</td><td>{link(interval)}</td>'
        f"<td>{_range(versus, reach)}</td><td>{link(p_number(versus.corrected))}</td>"
        f"<td>{link('–' if versus.improvement is None else f'{versus.improvement:.2f}')}</td>"
        f'<td class="l text {kind}">{escape(versus.words)}</td></tr>'
    )


def _range(versus: Versus, reach: float) -> str:
    """The interval of a difference as a bar around 0."""
    found = versus.comparison
    if found is None or found.low is None or found.high is None or reach == 0:
        return ""

    def x(value: float) -> float:
        return round(80 + 74 * value / reach, 1)

    colour = {"better": "var(--better)", "worse": "var(--worse)"}.get(versus.verdict, "currentColor")
    return (
        '<svg class="range" width="160" height="14" aria-hidden="true"><path d="M80 0V14" stroke="var(--zero)"/>'
        f'<path d="M{x(found.low)} 7H{x(found.high)}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x(found.difference)}" cy="7" r="3.5" fill="{colour}"/></svg>'
    )


def _table(table: Table) -> str:
    """A table whose numbers lead to the rows of the leaderboard that they were made of, by the name in front."""
    head = "".join(f"<th{_LEFT if i < table.left else ''}>{escape(name)}</th>" for i, name in enumerate(table.header))
    rows = "\n".join(f"<tr>{''.join(_table_cell(table, row, i) for i in range(len(row)))}</tr>" for row in table.rows)
    return (
        f'<div class="wide"><table><caption>{escape(table.caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _table_cell(table: Table, row: Sequence[str], i: int) -> str:
    if i < table.left:
        return f"<td{_LEFT}>{escape(row[i])}</td>"
    return f'<td><a class="cell" href="#pool={quote(row[0])}">{escape(row[i])}</a></td>'


# -------------------------------------------------------------------------------------------------------------- records


def _data(report: Report, link: Link) -> str:
    """What the page's script needs, as JSON that no `</script>` in it can end."""
    cells, settings = {}, {}
    for board in report.boards:
        for (row, column), cell in board.cells.items():
            cells[_cell_id(board, row, column)] = _cell_data(row, column, cell, link)
            settings[row.key] = json.dumps(json.loads(row.key), indent=1)
    numbers = {key: str(i) for i, key in enumerate(settings)}
    for found in cells.values():
        found["setting"] = numbers[found["setting"]]
    data = {"fields": FIELDS, "cells": cells, "settings": {numbers[key]: text for key, text in settings.items()}}
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _cell_data(row: Row, column: Column, cell: Cell, link: Link) -> dict[str, Any]:
    return {
        "title": f"{row.label} on {column.dataset}, {row.model}",
        "lines": _details(column, cell),
        "setting": row.key,
        "runs": [_run_data(run, column, link) for run in cell.runs],
    }


def _details(column: Column, cell: Cell) -> list[str]:
    metric, found = column.metric, cell.estimate
    lines = []
    if found is not None:
        lines.append(f"test {metric.name} {metric.text(found.mean)} over n = {found.n} {column.unit}")
    if found is not None and found.std is not None:
        lines.append(f"standard deviation {metric.text(found.std)}")
    if found is not None and found.low is not None and found.high is not None:
        lines.append(f"{LEVEL:.0%} interval {metric.text(found.low)} to {metric.text(found.high)}")
    if cell.in_domain is not None:
        lines.append(f"in domain {in_domain_text(cell, column)}")
    lines.append(
        f"{column.unit}: " + ", ".join(metric.text(value) for value in cell.scores.values()) if cell.scores else ""
    )
    lines.append(", ".join(cell.lost))
    return [line for line in lines if line]


def _run_data(run: Run, column: Column, link: Link) -> dict[str, Any]:
    record = run.record
    found, epoch, git = score(record, column.metric), record.selected_epoch, record.provenance.git
    fold = record.config.get("fold")
    values = (
        "", run.status, run.seed, "–" if fold is None else str(fold),
        "–" if found is None else column.metric.text(found), "–" if epoch is None else str(epoch + 1),
        time_text(epoch_seconds(record)), _memory(record), hardware(record),
        f"{record.code or '–'}{' (close)' if run.close else ''}",
        f"{git[:8]}{' + changes' if record.provenance.dirty else ''}" if git else "–",
    )  # fmt: skip
    return {
        "id": f"{run.id}/{record.attempt}",
        "href": link(record),
        "values": values,
        "reason": "" if run.status == "done" else run.reason,
    }


def _memory(record: Record) -> str:
    peak = record.memory_peak
    return memory_text(peak) if peak is None else f"{memory_text(peak)} ({memory_measure(record)})"


def _links(results: Path, out: Path, gathered: bool) -> Link:
    """Where a record lies, from the page: its own file, or the one that it is gathered in."""
    files, start = places(results), out.resolve()

    @cache
    def address(target: Path) -> str:
        return quote(Path(os.path.relpath(target.resolve(), start)).as_posix())

    def link(record: Record) -> str:
        kept = files.get(key(record))
        if kept and gathered:
            return address(kept)
        own = run_folder(results, record.id) / str(record.attempt) / RECORD
        return address(kept if kept and not own.is_file() else own)

    return link
