"""Figures of a board, settings sorted by what the evidence says. Colours are some that colour-blind people tell apart
(Okabe & Ito, 2008) and mean something: blue is better than no pooling or on the front, orange worse, black controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from poolbench.report.board import BASELINE, Board, Cell, Column, Gauge, Metric, Row
from poolbench.report.canvas import INK, Canvas, Line, Markers, Words, text_width
from poolbench.report.diagnostics import diagnostics
from poolbench.report.drawn import Drawn, beside, joined, named, pairs, panel_width
from poolbench.report.evidence import Evidence, Shade
from poolbench.report.learning import curves
from poolbench.report.panels import (
    COLOURS,
    EDGE,
    GAP,
    GREY,
    HEAD,
    NOTE,
    Axis,
    End,
    Look,
    Panel,
    costs_axis,
    labels,
    legend,
    linear,
    names_axis,
    names_size,
)
from poolbench.statistics import LEVEL, Ranking

BETTER, WORSE = COLOURS[:2]


def draw(evidence: Evidence) -> list[Drawn]:
    """All figures of a board for which it holds numbers."""
    board = evidence.board
    made = [_scores(evidence), *(_costs(board, gauge, i) for i, gauge in enumerate(board.gauges, 1))]
    made += [_ranks(board), *curves(evidence), diagnostics(evidence)]
    return [figure for figure in made if figure is not None]


# ------------------------------------------------------------------------------------------------------------- scores


def _scores(evidence: Evidence) -> Drawn | None:
    """Mean and interval of every setting, a panel a dataset, the single units behind them; first the gain over all
    datasets, by which settings are sorted."""
    board, rows = evidence.board, evidence.rows
    columns = [c for c in board.columns if any(board.cells[row, c].scores for row in rows)]
    if not columns:
        return None
    gains = {row: shade for row in rows if (shade := evidence.shade_over_datasets(row))}
    first = bool(gains)
    canvas, across = Canvas(), min(5, len(columns)) + first
    names = [board.name(row) for row in rows]
    texts = [text for c in columns for text in (c.dataset, named(c.metric), _counts(board, c))]
    begin, line = beside(names, 23)
    width, height = panel_width(texts, 170 if across < 4 else 115), line * len(names)
    notes = [", ".join(board.cells[row, column].lost) for row in rows for column in columns]
    pitch = width + max(GAP, *(text_width(note, NOTE) + 10 for note in notes)), HEAD + height + 52
    panels = []
    if gains:
        panels.append(Panel(canvas, "all datasets", begin, HEAD, width, height, _gains_axis(evidence, gains),
                            names_axis(names)))  # fmt: skip
        _gains(panels[0], evidence, gains)
    for i, column in enumerate(columns, first):
        left, top = begin + i % across * pitch[0], HEAD + i // across * pitch[1]
        values = [value for row in rows for value in _extent(board.cells[row, column], column.metric)]
        panel = Panel(canvas, column.dataset, left, top, width, height, linear(values, 4), names_axis(names))
        panel.grid(across=False)
        _baselines(panel, board, column)
        for y, row in enumerate(rows):
            _score_line(panel, y, board.cells[row, column], column.metric, _look(evidence, row, column))
        panel.frame([named(column.metric), _counts(board, column)])
        if i % across == 0:
            panel.names()
        panels.append(panel)
    canvas.width = begin + across * pitch[0] + EDGE
    canvas.height = math.ceil((len(columns) + first) / across) * pitch[1]
    if evidence.pairs:
        side = f"than {BASELINE}, for all operators at once" + (", over datasets by a point" if first else "")
        undecided = "not shown, or nothing is compared"
        legend(canvas, [(f"better {side}", Look(BETTER, "o")), (f"worse {side}", Look(WORSE, "o")),
                        (undecided, Look(GREY, "o")), (BASELINE, Look(INK, "s"))])  # fmt: skip
    text = (
        f"Mean test score with its {LEVEL:.0%} interval for {len(rows)} settings on {joined(columns)}, those that gain "
        f"most over {BASELINE} first."
    )
    return Drawn("scores", f"Scores with {LEVEL:.0%} intervals", text, canvas, tuple(panels))


def _gains_axis(evidence: Evidence, gains: Mapping[Row, Shade]) -> Axis:
    ends = [100 * end for row in gains for end in evidence.over[row].mean.interval()]
    return linear([0.0, *(100 * shade.gain for shade in gains.values()), *ends], 4)


def _gains(panel: Panel, evidence: Evidence, gains: Mapping[Row, Shade]) -> None:
    """The mean gain over no pooling over datasets, in points, with its interval."""
    panel.grid(across=False)
    draw = panel.canvas.marks.append
    draw(Line([panel.at(0, panel.y.high), panel.at(0, panel.y.low)], INK, 0.8, ":"))
    for y, row in enumerate(evidence.rows):
        if shade := gains.get(row):
            interval, look = evidence.over[row].mean.interval(), _look_of(shade)
            draw(Line([panel.at(100 * end, y) for end in interval], look.colour, 1.8))
            draw(Markers([panel.at(100 * shade.gain, y)], look.marker, look.colour, 7))
        elif evidence.board.baseline(row) == row:
            draw(Markers([panel.at(0, y)], "s", INK, 7))
    counts = sorted({evidence.over[row].datasets for row in gains})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    panel.frame([f"gain over {BASELINE}, points", f"n = {n} datasets"])
    panel.names()


def _look_of(shade: Shade | None) -> Look:
    if shade is None or shade.certainty <= 0.5:
        return Look(GREY, "o")
    return Look(BETTER if shade.gain > 0 else WORSE, "o")


def _look(evidence: Evidence, row: Row, column: Column) -> Look:
    if row.pool == BASELINE:
        return Look(INK, "s")
    return _look_of(evidence.shade(row, column))


def _extent(cell: Cell, metric: Metric) -> list[float]:
    return [*cell.scores.values(), *(metric.reach(cell.estimate) if cell.estimate else ())]


def _baselines(panel: Panel, board: Board, column: Column) -> None:
    for row in board.rows:
        found = board.cells[row, column].estimate
        if row.pool == BASELINE and not row.code and found is not None:
            ends = (panel.at(found.mean, panel.y.high), panel.at(found.mean, panel.y.low))
            panel.canvas.marks.append(Line(ends, INK, 0.8, ":"))


def _score_line(panel: Panel, y: int, cell: Cell, metric: Metric, look: Look) -> None:
    found, draw = cell.estimate, panel.canvas.marks.append
    if found is not None:
        draw(Markers([panel.at(value, y + 0.26) for value in cell.scores.values()], "o", look.colour, 3, 0.35))
        if ends := metric.reach(found):
            draw(Line([panel.at(end, y) for end in ends], look.colour, 1.8))
        draw(Markers([panel.at(found.mean, y)], look.marker, look.colour, 7))
    if cell.lost:
        at = panel.right + 4, panel.at(panel.x.low, y)[1]
        draw(Words(at, ", ".join(cell.lost), NOTE, "start", WORSE))


def _counts(board: Board, column: Column) -> str:
    counts = sorted({len(board.cells[row, column].scores) for row in board.rows} - {0})
    return f"n = {counts[0]} {column.unit}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]} {column.unit}"


# -------------------------------------------------------------------------------------------------------------- costs


def pareto(points: Sequence[tuple[float, float]], sign: int = 1) -> list[int]:
    """Which (cost, score) points no other beats in one and equals in the other, by rising cost.

    Args:
        sign: 1 where a higher score is better, -1 where a lower one is.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or sign * points[i][1] > sign * points[front[-1]][1]:
            front.append(i)
    return front


SIDES = ("epoch", "memory")
"""Costs of `leaderboard.Cost`, seconds and bytes."""


def _costs(board: Board, gauge: Gauge, number: int) -> Drawn | None:
    """Score against time per epoch and against peak memory by one gauge; the Pareto front alone is named."""
    points = {(i, side): found for i, column in enumerate(board.columns) for side, what in enumerate(SIDES)
              if (found := _cost_points(board, column, gauge, what))}  # fmt: skip
    if not points:
        return None
    fronts = {at: _front(found, board.columns[at[0]].metric.sign) for at, found in points.items()}
    room, leading = names_size(board.name(row) for front in fronts.values() for row in front)
    axes = {at: (costs_axis([x for x, _ in found.values()]), linear([y for _, y in found.values()], 5, margin=0.1))
            for at, found in points.items()}  # fmt: skip
    height = max(140.0, (leading + 1) * (1 + max(map(len, fronts.values()))))
    canvas, panels = pairs([column.dataset for column in board.columns], axes, height, room + 26)
    beneath = ("seconds a training epoch", f"peak memory ({gauge.memory}), MB")
    for at, panel in panels.items():
        _cost_panel(panel, board, points[at], fronts[at], leading + 1)
        panel.frame([beneath[at[1]]], named(board.columns[at[0]].metric), numbered=True)
    legend(canvas, [("on the Pareto front, by means alone", Look(BETTER, "o")), ("other operators", Look(GREY, "o")),
                    ("controls", Look(INK, "s"))])  # fmt: skip
    columns = [board.columns[i] for i in sorted({i for i, _ in points})]
    text = f"Test score against time and memory on {gauge}, with the Pareto front, for {joined(columns)}."
    name = "costs" if len(board.gauges) == 1 else f"costs-{number}"
    return Drawn(name, f"Score against cost on {gauge}", text, canvas, tuple(panels.values()))


def _cost_points(board: Board, column: Column, gauge: Gauge, what: str) -> dict[Row, tuple[float, float]]:
    """(cost, score) of each row that has both; a network that goes by two names is one."""
    points = {}
    for row in board.rows:
        cell = board.cells[row, column]
        cost = cell.costs.get(gauge)
        spent = getattr(cost, what) if cost else None
        if spent and math.isfinite(spent) and cell.estimate is not None and row not in board.twins:
            points[row] = (spent if what == "epoch" else spent / 1e6, cell.estimate.mean)
    return points


def _front(points: Mapping[Row, tuple[float, float]], sign: int) -> list[Row]:
    rows = list(points)
    return [rows[i] for i in pareto(list(points.values()), sign)]


def _cost_panel(
    panel: Panel, board: Board, points: Mapping[Row, tuple[float, float]], front: Sequence[Row], step: float
) -> None:
    panel.grid()
    draw = panel.canvas.marks.append
    placed = [panel.at(*points[row]) for row in front]
    if len(placed) > 1:
        # A step goes up where the next point is reached.
        steps = [(x, y) for (_, before), (x, after) in pairwise(placed) for y in (before, after)]
        draw(Line([placed[0], *steps], INK, 0.9, "--"))
    for row in sorted(points, key=lambda row: (row in front, row.control)):
        colour = INK if row.control else BETTER if row in front else GREY
        draw(Markers([panel.at(*points[row])], "s" if row.control else "o", colour, 7 if row in front else 5))
    labels(panel, [End(at, board.name(row), GREY) for row, at in zip(front, placed, strict=True)], step)


# -------------------------------------------------------------------------------------------------------------- ranks


def _ranks(board: Board) -> Drawn | None:
    """Average ranks, best first, each with a bar as wide as the critical difference: two that do not meet differ."""
    found = board.ranking
    if isinstance(found, str):
        return None
    text = (
        f"Average ranks over {found.datasets} datasets: "
        + ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
        + f"; critical difference {found.critical_difference:.2f}."
    )
    controls = {board.name(row) for row in board.rows if row.control}
    canvas, panel = _rank_panel(found, controls)
    return Drawn("ranks", f"Average ranks over {found.datasets} datasets", text, canvas, (panel,))


def _rank_panel(found: Ranking, controls: set[str]) -> tuple[Canvas, Panel]:
    names = [f"{name}  {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True)]
    begin, line = beside(names, 17)
    canvas, half, k = Canvas(), found.critical_difference / 2, len(names)
    ticks = range(1, k + 1) if k <= 12 else (1, *range(5, k + 1, 5))
    x = Axis(0.5, k + 0.5, tuple((rank, str(rank)) for rank in ticks))
    panel = Panel(canvas, "", begin, EDGE, 330.0, line * k, x, names_axis(names))
    panel.grid(across=False)
    draw = canvas.marks.append
    for y, (name, rank) in enumerate(zip(found.names, found.ranks, strict=True)):
        far = rank - found.ranks[0] > found.critical_difference
        colour = INK if name in controls else WORSE if far else BETTER
        ends = [panel.at(max(panel.x.low, rank - half), y), panel.at(min(panel.x.high, rank + half), y)]
        draw(Line(ends, colour, 3.0, alpha=0.3))
        draw(Markers([panel.at(rank, y)], "s" if name in controls else "o", colour, 7))
    panel.frame([f"average rank over {found.datasets} datasets, 1 is best"])
    panel.names()
    canvas.width, canvas.height = panel.right + EDGE + GAP, panel.bottom + 36
    entries = [("not told apart from the best (Nemenyi)", Look(BETTER, "o")), ("worse than the best", Look(WORSE, "o")),
               ("controls", Look(INK, "s")),
               (f"bar: critical difference {found.critical_difference:.2f}; bars that do not meet differ",
                Look(GREY, "o", "-"))]  # fmt: skip
    legend(canvas, entries)
    return canvas, panel
