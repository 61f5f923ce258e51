"""The matrix: a line an operator, a column a dataset, each cell its difference to no pooling.

Colour says which is better and how large the difference is, saturation how sure it is (`evidence.certainty`): a
difference whose interval holds 0 is nearly grey, however large it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from poolbench.report.board import BASELINE, Column, Row, points
from poolbench.report.comparing import Pair
from poolbench.report.evidence import Evidence, Group, Shade
from poolbench.report.page.markup import all_id, attributes, badge, cell_id, facts, interval, link
from poolbench.statistics import LEVEL
from poolbench.statistics.datasets import REGIONS, Mean

MARKS = {"better": "▲ ", "worse": "▼ "}
"""Of differences whose interval for all at once leaves 0 out."""


def matrix(evidence: Evidence) -> str:
    """The section of a board; empty where nothing is compared."""
    board = evidence.board
    if not evidence.pairs:
        return ""
    over = bool(evidence.over)
    head = f'<th scope="col" class="l">pool</th>{_ALL_HEAD if over else ""}' + "".join(map(_head, board.columns))
    several = len(evidence.groups) > 1
    bodies = "\n".join(_group(evidence, group, over, several) for group in evidence.groups)
    alike = all(column.metric.points for column in board.columns)
    unit = "In points (hundredths of the metric). " if alike else "In points, or in the metric that is named. "
    by = "the gain over all datasets" if len(board.columns) > 1 else "the difference"
    beyond = ", or over datasets more than a point is shown" if over else ""
    lost = " *: some runs have no number." if any(cell.lost for cell in board.cells.values()) else ""
    return (
        f'<section class="part" aria-label="Matrix"><h3>Difference to {BASELINE}, by operator and dataset</h3>\n'
        f'{_legend()}\n<div class="wide"><table class="matrix" aria-describedby="how.{escape(board.slug)}">\n'
        f"<thead><tr>{head}</tr></thead>\n{bodies}\n</table></div>\n"
        f'<p class="soft" id="how.{escape(board.slug)}">{unit}Best first, by {by}. ▲ and ▼: '
        f"the interval for all at once leaves 0 out{beyond}. Point at a number, or go to it with the arrow keys, for "
        f"its interval, n and cost; click it, or press Enter, for its records.{lost}</p></section>"
    )


_ALL_HEAD = f'<th scope="col" class="all">all datasets</th><th scope="col" class="reach">{LEVEL:.0%} interval</th>'


def _head(column: Column) -> str:
    metric = column.metric
    what = "" if metric.name == "accuracy" else metric.name + (", less is better" if metric.mode == "min" else "")
    small = f"<small>{escape(what)}</small>" if what else ""
    return f'<th scope="col" data-dataset="{escape(column.dataset)}">{escape(column.dataset)}{small}</th>'


def _legend() -> str:
    """The same colours as in the cells, from much worse to much better, for both kinds of intervals."""

    def swatches(certainty: float) -> str:
        sides = [("worse", size / 3) for size in (3, 2, 1)] + [("better", size / 3) for size in (1, 2, 3)]
        return "".join(f'<i class="shade {side}" style="--s:{size:.2f};--c:{certainty}"></i>' for side, size in sides)

    return (
        f'<p class="legend">worse <span>{swatches(1)}</span> better, shown at {LEVEL:.0%}; '
        f"<span>{swatches(0.3)}</span> not shown</p>"
    )


def _group(evidence: Evidence, group: Group, over: bool, several: bool) -> str:
    board = evidence.board
    lines = "\n".join(_line(evidence, group, row, over) for row in group.rows)
    span = 1 + 2 * over + len(board.columns)
    title = (
        f"against {board.name(group.baseline)} in the model {group.baseline.model}"
        if group.baseline
        else f"scores alone: there is no {BASELINE} with the same settings to compare with"
    )
    head = f'<tr class="group"><th scope="rowgroup" colspan="{span}"><span>{escape(title)}</span></th></tr>'
    return f"<tbody>{head if several else ''}\n{lines}\n</tbody>"


def _line(evidence: Evidence, group: Group, row: Row, over: bool) -> str:
    board = evidence.board
    kind = ' class="base"' if row == group.baseline else ""
    twin = board.twins.get(row)
    same = f' <span class="badge">same network as {escape(board.name(twin))}</span>' if twin else ""
    cells = "".join(_cell(evidence, row, column) for column in board.columns)
    said = attributes(facts(board, row, board.columns, said=False))
    named = board.name_beside(row, group.baseline) if group.baseline not in (None, row) else board.name(row)
    name = f'<th scope="row" class="l">{escape(named)}{badge(row)}{same}</th>'
    return f"<tr{kind}{said}>{name}{_all(evidence, row) if over else ''}{cells}</tr>"


def _all(evidence: Evidence, row: Row) -> str:
    """What a row came to over datasets: the gain, and its interval."""
    shade = evidence.shade_over_datasets(row)
    if shade is None:
        text = "0" if evidence.board.baseline(row) == row else "–"
        return f'<td class="all">{text}</td><td class="reach"></td>'
    one, name = evidence.over[row], evidence.board.name(row)
    label = f"{name} over {one.datasets} datasets: {'; '.join(over_lines(one))}"
    text = link(all_id(evidence.board, row), _signed(points(shade.gain)), label)
    low, high = one.mean.interval()
    reach = max(abs(end) for other in evidence.over.values() for end in other.mean.interval())
    kind = shade.side if shade.certainty > 0.5 else ""
    return (
        f'<td class="all shade {shade.side}"{_style(shade)}>{text}</td>'
        f'<td class="reach">{interval(shade.gain, low, high, reach, kind)}</td>'
    )


def over_lines(one: Mean) -> list[str]:
    """What a setting came to over datasets, in words."""
    (low, high), (least, most), (small, large) = one.mean.interval(), one.next.interval(), REGIONS
    return [
        f"mean gain over {BASELINE} {points(one.mean.expected)} points",
        f"{LEVEL:.0%} interval {points(low)} to {points(high)}",
        f"on the next dataset {points(least)} to {points(most)}",
        f"{one.decision(small)} within {100 * small:g} point, {one.decision(large)} within {100 * large:g} points",
    ]


def _cell(evidence: Evidence, row: Row, column: Column) -> str:
    board = evidence.board
    cell, id, dataset = board.cells[row, column], cell_id(board, row, column), escape(column.dataset)
    shade, pair = evidence.shade(row, column), evidence.pairs.get((row, column))
    where = f"{board.name(row)} on {column.dataset}"
    if shade is None or pair is None:
        found = cell.estimate
        text = column.metric.text(found.mean) if found else ", ".join(cell.lost) or "–"
        label = f"{where}: test {column.metric.name} {text}" if found else f"{where}: {text}"
        return f'<td data-dataset="{dataset}"{"" if found else _LOST}>{link(id, text, label)}</td>'
    text = MARKS.get(pair.verdict, "") + _signed(column.metric.gap(pair.found.difference))
    if cell.lost:
        text += " *"
    label = f"{where}: {'; '.join(pair_lines(pair) + cell.lost)}"
    return f'<td data-dataset="{dataset}" class="shade {shade.side}"{_style(shade)}>{link(id, text, label)}</td>'


_LOST = ' class="lost"'


def pair_lines(pair: Pair) -> list[str]:
    """A difference in words."""
    found, metric = pair.found, pair.column.metric
    ends = "no interval"
    if found.joint_low is not None:
        ends = f"{LEVEL:.0%} interval for all at once {joint(pair)}"
    how = "graph by graph" if pair.by == "graphs" else "by whole runs"
    return [
        f"difference to {BASELINE} {metric.gap(found.difference)} {metric.unit}, {ends}, {how}, n = {pair.counted}",
        pair.words,
    ]


def joint(pair: Pair) -> str:
    """The interval for all at once, in words; a dash where there is none."""
    return pair.column.metric.between(pair.found.joint_low, pair.found.joint_high)


def _signed(text: str) -> str:
    return text if text.startswith("-") or not text.strip("0.") else f"+{text}"


def _style(shade: Shade) -> str:
    return f' style="--s:{shade.size:.2f};--c:{shade.certainty:.2f}"'


def over_datasets_data(evidence: Evidence) -> Iterable[tuple[str, Row, list[str], list[str]]]:
    """For each row with a gain over datasets: its id, the row, what is said of it, and the ids of its cells."""
    board = evidence.board
    for row, one in evidence.over.items():
        behind = [cell_id(board, row, column) for column in board.columns if (row, column) in evidence.pairs]
        yield all_id(board, row), row, over_lines(one), behind
