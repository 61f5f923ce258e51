"""The tables of the page: the leaderboard, what each dataset's answer rests on, and those of `report.tables`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from poolbench.report import statements
from poolbench.report.answers import answers
from poolbench.report.board import BASELINE, Board, Column, Row
from poolbench.report.comparing import Pair
from poolbench.report.evidence import Evidence
from poolbench.report.page.markup import LEFT, attributes, badge, cell_id, facts, heads, interval, link, lost
from poolbench.report.page.matrix import MARKS, joint
from poolbench.report.table import Table, p_number
from poolbench.report.tables import cell_text, memory_text, time_text

Entry = tuple[str, Any, str]
"""(HTML, value to sort by or None, class)."""

NAMES = ("pool", "model", "setting", "dataset")
"""Columns by which all rows are sorted; by others, which mean something within a dataset, rows are sorted within it."""


# ---------------------------------------------------------------------------------------------------------- leaderboard


def leaderboard(evidence: Evidence) -> str:
    """A line a setting and dataset, datasets one after the other, best first. Sorting starts with the better end."""
    board = evidence.board
    options = any(row.options or row.code for row in board.rows)
    modes = {column.metric.mode for column in board.columns}
    best_first = "-" if modes == {"max"} else ""
    columns = [("pool", "pool", ""), ("model", "model", ""), *([("setting", "setting", "")] if options else []),
               ("dataset", "dataset", ""), ("test score", "score", best_first), ("s", "std", ""), ("n", "n", "-"),
               ("without a number", "lost", "-"), (f"against {BASELINE}", "difference", best_first),
               ("p", "p", ""), ("parameters", "parameters", "")]  # fmt: skip
    for i, gauge in enumerate(board.gauges):
        suffix = f", {gauge}" if len(board.gauges) > 1 else ""
        columns += [(f"time an epoch{suffix}", f"time{i}", ""), (f"peak memory{suffix}", f"memory{i}", "")]
    pairs = [(row, column) for column in board.columns for row in evidence.on(column)]
    lines = "\n".join(
        _line(i, board, row, column, _entries(evidence, row, column, options)) for i, (row, column) in enumerate(pairs)
    )
    head = "".join(
        f'<th scope="col" data-key="{key}" data-first="{first}"{LEFT if key in NAMES else ""}>'
        f'<button type="button">{escape(name)}</button></th>'
        for name, key, first in columns
    )
    on = f" Time and memory: {escape(str(board.gauges[0]))}." if len(board.gauges) == 1 else ""
    return (
        '<section class="part" aria-label="Table"><h3>All numbers</h3>\n'
        '<p class="soft"><span class="shown" role="status"></span>s is the standard deviation over the n splits or '
        f"seeds.{on} Click a heading to sort; scores, costs and differences are sorted within a dataset.</p>\n"
        f'<div class="wide long"><table class="leaderboard"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{lines}\n</tbody></table></div></section>"
    )


def _entries(evidence: Evidence, row: Row, column: Column, options: bool) -> list[Entry]:
    board = evidence.board
    cell, metric, pair = board.cells[row, column], column.metric, evidence.pairs.get((row, column))
    found, compared = cell.estimate, pair.found if pair else None
    other = f' <span class="lost">other code {escape(row.code[:8])}</span>' if row.code else ""
    score_text = "–" if found is None else metric.said(found)
    score_text += f", {cell.close} close" if cell.close else ""
    mark = MARKS.get(pair.verdict, "") if pair else ""
    verdict = pair.verdict if pair and mark else ""
    names = [
        (escape(row.pool) + badge(row), row.pool, "l"),
        (escape(row.model), row.model, "l"),
        *([(escape(row.options) + other, row.options, "l setting")] if options else []),
        (escape(column.dataset), column.dataset, "l"),
    ]
    numbers: list[tuple[str, Any, str]] = [
        (score_text, found and found.mean, "score"),
        ("–" if found is None or found.std is None else metric.text(found.std), found and found.std, ""),
        (str(found.n if found else 0), found.n if found else 0, ""),
        (", ".join(cell.lost), lost(cell), "lost"),
        (f"{mark}{metric.gap(compared.difference)} {metric.unit}" if compared else "–",
         compared and compared.difference, verdict),
        (p_number(compared.p if compared else None), compared and compared.p, ""),
        ("–" if cell.parameters is None else f"{cell.parameters:,}", cell.parameters, ""),
    ]  # fmt: skip
    for gauge in board.gauges:
        cost = cell.costs.get(gauge)
        numbers += [
            (time_text(cost.epoch if cost else None), cost and cost.epoch, ""),
            (memory_text(cost.memory if cost else None), cost and cost.memory, ""),
        ]
    id = cell_id(board, row, column)
    return names + [(link(id, text), value, kind) for text, value, kind in numbers]


def _line(order: int, board: Board, row: Row, column: Column, entries: Iterable[Entry]) -> str:
    said = attributes({"order": order, "group": board.columns.index(column), **facts(board, row, (column,))})
    cells = "".join(
        f'<td data-value="{"" if value is None else escape(str(value))}" class="{kind}">{text}</td>'
        for text, value, kind in entries
    )
    return f"<tr{said}>{cells}</tr>"


# ------------------------------------------------------------------------------------------------------------- datasets


def in_words(evidence: Evidence) -> str:
    """What everybody opens the page for: over datasets, then a sentence a dataset."""
    over = [_paragraph(statements.sentences(evidence.board, one)) for one in evidence.compared if one.means]
    said = "\n".join(
        f'<p class="answer" data-dataset="{escape(column.dataset)}"><strong>{escape(column.dataset)}</strong> '
        f"{escape(' '.join(answers(evidence, column)))}</p>"
        for column in evidence.board.columns
    )
    title = f"In words: does pooling beat {BASELINE}?"
    return f'<section class="part" aria-label="In words"><h3>{title}</h3>\n{"".join(over)}{said}</section>'


def _paragraph(sentences: Sequence[str]) -> str:
    head, *lines = map(escape, sentences)
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f'<div class="answer" data-dataset=""><p>{head}</p><ul>{items}</ul></div>\n'


def comparisons(evidence: Evidence) -> str:
    """What the answers rest on, a table a dataset, folded."""
    return "\n".join(_dataset(evidence, column) for column in evidence.board.columns)


def _dataset(evidence: Evidence, column: Column) -> str:
    board = evidence.board
    found = [evidence.pairs[row, column] for row in evidence.on(column) if (row, column) in evidence.pairs]
    if not found:
        return ""
    name, reach = escape(column.dataset), _reach(found)
    lines = "\n".join(_compared(board, pair, reach) for pair in found)
    head = heads([("pool", True), ("score", False), (f"difference to {BASELINE}", False),
                  ("all at once", False), ("", False), ("p", False), ("in words", True)])  # fmt: skip
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    title = f"{name}, each against {BASELINE}"
    return f'<details class="part" data-dataset="{name}"><summary>{title}</summary>\n{table}</details>'


def _reach(found: Sequence[Pair]) -> float:
    """The largest distance from 0 that an interval of a dataset has, the scale of its drawings."""
    ends = [abs(end) for pair in found for end in (pair.found.joint_low, pair.found.joint_high) if end is not None]
    return max(ends, default=0.0)


def _compared(board: Board, pair: Pair, reach: float) -> str:
    row, column, metric, found = pair.row, pair.column, pair.column.metric, pair.found
    id, kind = cell_id(board, row, column), pair.verdict if pair.verdict in MARKS else ""
    bar = interval(found.difference, found.joint_low, found.joint_high, reach, kind)
    return (
        f'<tr{attributes(facts(board, row, (column,)))}><td class="l">{escape(board.name(row))}{badge(row)}</td>'
        f'<td class="score">{link(id, cell_text(board.cells[row, column], column))}</td>'
        f"<td>{link(id, f'{metric.gap(found.difference)} {metric.unit}')}</td>"
        f"<td>{link(id, joint(pair))}</td><td>{bar}</td><td>{link(id, p_number(found.p))}</td>"
        f'<td class="l text {kind}">{escape(pair.words)}</td></tr>'
    )


# --------------------------------------------------------------------------------------------------------- other tables


def folded(board: Board, table: Table, rows: Mapping[str, Row]) -> str:
    """A table of `report.tables`, whose numbers lead to the rows that they were made of, by the name in front."""
    place = 1 if table.name == "failures" else 0  # where the name stands
    lines = []
    for entries in table.rows:
        row = rows[entries[place]]
        said = {**facts(board, row, board.columns, said=False), **({"dataset": entries[0]} if place else {})}
        cells = "".join(_table_cell(table, entries, i) for i in range(len(entries)))
        lines.append(f"<tr{attributes(said)}>{cells}</tr>")
    head = heads([(name, i < table.left) for i, name in enumerate(table.header)])
    body = "\n".join(lines)
    return (
        f'<details class="part"><summary>{escape(table.title)}</summary>\n<div class="wide"><table>'
        f"<caption>{escape(table.caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>\n{body}\n</tbody></table></div></details>"
    )


def _table_cell(table: Table, entries: Sequence[str], i: int) -> str:
    if i < table.left:
        return f"<td{LEFT}>{escape(entries[i])}</td>"
    return f'<td><a class="cell" href="#pool={quote(entries[0])}">{escape(entries[i])}</a></td>'
