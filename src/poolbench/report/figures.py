"""Figures of a board, in colours that colour-blind people tell apart (Okabe & Ito, 2008), with a marker a setting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from poolbench.errors import RunError
from poolbench.report.canvas import INK, Canvas, Line, Markers, Words, text_width
from poolbench.report.leaderboard import BASELINE, Board, Cell, Column, Gauge, Metric, Row
from poolbench.report.panels import (
    COLOURS,
    EDGE,
    GAP,
    GREY,
    HEAD,
    NOTE,
    NUMBER,
    TITLE,
    Axis,
    Look,
    Panel,
    costs_axis,
    legend,
    linear,
    named,
    names_axis,
    names_size,
    within,
)
from poolbench.statistics import LEVEL, Ranking

MARKERS = ("o", "^", "D", "v", "P", "X", "<", ">")
CONTROL_MARKERS = ("p", "h")
LINES = ("-", "--", ":", "-.")
SMOOTHED = 9
"""Epochs over which a learning curve is averaged."""


@dataclass(frozen=True)
class Drawn:
    """A figure, its file name without an ending, its title, and what it shows for those who cannot see it."""

    name: str
    title: str
    text: str
    canvas: Canvas
    panels: tuple[Panel, ...] = ()

    def save(self, stem: Path) -> list[Path]:
        """Write `stem`.svg and `stem`.png; returns the files."""
        paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("svg", "png")]
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            paths[0].write_text(self.canvas.svg(), encoding="utf-8")
            paths[1].write_bytes(self.canvas.png())
        except OSError as error:
            raise RunError(f"cannot write {stem}: {(error.strerror or str(error)).lower()}") from error
        return paths


def draw(board: Board) -> list[Drawn]:
    """All figures of a board for which it holds numbers."""
    made = [_scores(board), *(_costs(board, gauge, i) for i, gauge in enumerate(board.gauges, 1))]
    made += [_ranks(board), _curves(board), _diagnostics(board)]
    return [figure for figure in made if figure is not None]


# --------------------------------------------------------------------------------------------------------- shared parts


def looks_of(rows: Iterable[Row]) -> dict[Row, Look]:
    """The baseline in ink, other controls grey, each operator a colour and a marker."""
    looks, operators, controls = {}, 0, 0
    for row in rows:
        if row.pool == BASELINE:
            looks[row] = Look(INK, "s", "-")
        elif row.control:
            looks[row] = Look(GREY, CONTROL_MARKERS[controls % 2], LINES[1 + controls % 2])
            controls += 1
        else:
            line = LINES[operators // len(COLOURS) % len(LINES)]
            looks[row] = Look(COLOURS[operators % len(COLOURS)], MARKERS[operators % len(MARKERS)], line)
            operators += 1
    return looks


def _legend(canvas: Canvas, board: Board, looks: Mapping[Row, Look], rows: Iterable[Row], line: bool = False) -> None:
    """One legend for all panels, below them."""
    shown = set(rows)
    entries = [(board.name(r), looks[r] if line else replace(looks[r], line="")) for r in board.rows if r in shown]
    legend(canvas, entries)


def _beside(names: Iterable[str], least: float) -> tuple[float, float]:
    """Where panels begin that have names at their left, and the height of each line, `least` at the least."""
    width, height = names_size(names)
    return EDGE + width + 6, max(least, height + 5)


def _panel_width(titles: Iterable[str], least: float) -> float:
    """As wide as a panel has to be for titles that stay clear of their neighbours'."""
    return max(least, *(text_width(title, TITLE) - GAP / 2 for title in titles))


def _named(metric: Metric) -> str:
    return f"test {metric.name}" + (" (less is better)" if metric.mode == "min" else "")


# ------------------------------------------------------------------------------------------------------------- scores


def _scores(board: Board) -> Drawn | None:
    """Mean and interval of every setting, a panel a dataset, the single units behind them."""
    columns = [c for c in board.columns if any(board.cells[row, c].scores for row in board.rows)]
    if not columns:
        return None
    looks, canvas, across = looks_of(board.rows), Canvas(), min(5, len(columns))
    names = [board.name(row) for row in board.rows]
    labels = [label for c in columns for label in (c.dataset, _named(c.metric), _counts(board, c))]
    begin, line = _beside(names, 23)
    width, height = _panel_width(labels, 170 if across < 4 else 115), line * len(names)
    notes = [", ".join(board.cells[row, column].lost) for row in board.rows for column in columns]
    pitch = width + max(GAP, *(text_width(note, NOTE) + 10 for note in notes)), HEAD + height + 52
    panels = []
    for i, column in enumerate(columns):
        left, top = begin + i % across * pitch[0], HEAD + i // across * pitch[1]
        values = [value for row in board.rows for value in _extent(board.cells[row, column])]
        panel = Panel(canvas, column.dataset, left, top, width, height, linear(values, 4), names_axis(names))
        panel.grid(across=False)
        _baselines(panel, board, column)
        for y, row in enumerate(board.rows):
            _score_line(panel, y, board.cells[row, column], looks[row])
        panel.frame([_named(column.metric), _counts(board, column)])
        if i % across == 0:
            panel.names()
        panels.append(panel)
    canvas.width = begin + across * pitch[0] + EDGE
    canvas.height = math.ceil(len(columns) / across) * pitch[1]
    text = f"Mean test score with its {LEVEL:.0%} interval for {len(board.rows)} settings on {_joined(columns)}."
    return Drawn("scores", f"Scores with {LEVEL:.0%} intervals", text, canvas, tuple(panels))


def _extent(cell: Cell) -> list[float]:
    found = cell.estimate
    interval = [end for end in (found.low, found.high) if end is not None] if found else []
    return [*cell.scores.values(), *interval]


def _baselines(panel: Panel, board: Board, column: Column) -> None:
    for row in board.rows:
        found = board.cells[row, column].estimate
        if row.pool == BASELINE and not row.code and found is not None:
            ends = (panel.at(found.mean, panel.y.high), panel.at(found.mean, panel.y.low))
            panel.canvas.marks.append(Line(ends, INK, 0.8, ":"))


def _score_line(panel: Panel, y: int, cell: Cell, look: Look) -> None:
    found, draw = cell.estimate, panel.canvas.marks.append
    if found is not None:
        draw(Markers([panel.at(value, y + 0.26) for value in cell.scores.values()], "o", look.colour, 3, 0.35))
        if found.low is not None and found.high is not None:
            draw(Line([panel.at(found.low, y), panel.at(found.high, y)], look.colour, 1.8))
        draw(Markers([panel.at(found.mean, y)], look.marker, look.colour, 7))
    if cell.lost:
        at = panel.right + 4, panel.at(panel.x.low, y)[1]
        draw(Words(at, ", ".join(cell.lost), NOTE, "start", COLOURS[1]))


def _counts(board: Board, column: Column) -> str:
    counts = sorted({len(board.cells[row, column].scores) for row in board.rows} - {0})
    return f"n = {counts[0]} {column.unit}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]} {column.unit}"


def _joined(columns: Sequence[Column]) -> str:
    return ", ".join(column.dataset for column in columns)


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
    """Score against time per epoch and against peak memory by one gauge, with the Pareto front."""
    columns = [c for c in board.columns if any(gauge in board.cells[row, c].costs for row in board.rows)]
    found = {(c, what): points for c in columns for what in SIDES if (points := _cost_points(board, c, gauge, what))}
    if not found:
        return None
    axes = {at: (costs_axis([x for x, _ in points.values()]), _scores_axis(board, at[0], points))
            for at, points in found.items()}  # fmt: skip
    canvas, panels = _pairs(columns, SIDES, axes, 140)
    looks = looks_of(board.rows)
    labels = {"epoch": "seconds a training epoch", "memory": f"peak memory ({gauge.memory}), MB"}
    for (column, what), panel in panels.items():
        _cost_panel(panel, board, column, found[column, what], looks)
        panel.frame([labels[what]], _named(column.metric), numbered=True)
    _legend(canvas, board, looks, {row for points in found.values() for row in points})
    text = f"Test score against time and memory on {gauge}, with the Pareto front, for {_joined(columns)}."
    name = "costs" if len(board.gauges) == 1 else f"costs-{number}"
    return Drawn(name, f"Score against cost on {gauge}", text, canvas, tuple(panels.values()))


def _pairs(
    columns: Sequence[Column],
    sides: tuple[str, str],
    axes: Mapping[tuple[Column, str], tuple[Axis, Axis]],
    height: float,
) -> tuple[Canvas, dict[tuple[Column, str], Panel]]:
    """A sheet with two panels side by side for each column; where there are no axes, there is no panel."""
    width = _panel_width((column.dataset for column in columns), 250)
    margin = EDGE + 22 + max(text_width(text, NUMBER) for _, y in axes.values() for _, text in y.ticks)
    pitch = margin + width + EDGE, HEAD + height + 34
    shown = [column for column in columns if any((column, side) in axes for side in sides)]
    canvas = Canvas(2 * pitch[0] + EDGE, len(shown) * pitch[1])
    panels = {}
    for i, column in enumerate(shown):
        for j, side in enumerate(sides):
            if (column, side) in axes:
                left, top = margin + j * pitch[0], HEAD + i * pitch[1]
                panels[column, side] = Panel(canvas, column.dataset, left, top, width, height, *axes[column, side])
    return canvas, panels


def _cost_points(board: Board, column: Column, gauge: Gauge, what: str) -> dict[Row, tuple[float, float]]:
    """(cost, score) of each row that has both."""
    points = {}
    for row in board.rows:
        cell = board.cells[row, column]
        cost = cell.costs.get(gauge)
        spent = getattr(cost, what) if cost else None
        if spent and math.isfinite(spent) and cell.estimate is not None:
            points[row] = (spent if what == "epoch" else spent / 1e6, cell.estimate.mean)
    return points


def _scores_axis(board: Board, column: Column, rows: Iterable[Row]) -> Axis:
    found = [estimate for row in rows if (estimate := board.cells[row, column].estimate)]
    return linear([value for one in found for value in (one.mean, one.low, one.high) if value is not None], 5)


def _cost_panel(
    panel: Panel, board: Board, column: Column, points: Mapping[Row, tuple[float, float]], looks: Mapping[Row, Look]
) -> None:
    panel.grid()
    draw, placed = panel.canvas.marks.append, [*points.values()]
    front = [panel.at(*placed[i]) for i in pareto(placed, column.metric.sign)]
    if len(front) > 1:
        # A step goes up where the next point is reached.
        steps = [(x, y) for (_, before), (x, after) in pairwise(front) for y in (before, after)]
        draw(Line([front[0], *steps], INK, 0.9, "--"))
    for row, (cost, _) in points.items():
        found = board.cells[row, column].estimate
        if found is not None and found.low is not None and found.high is not None:
            draw(Line([panel.at(cost, found.low), panel.at(cost, found.high)], looks[row].colour, alpha=0.45))
    for row, point in points.items():
        draw(Markers([panel.at(*point)], looks[row].marker, looks[row].colour, 7))


# -------------------------------------------------------------------------------------------------------------- ranks


def _ranks(board: Board) -> Drawn | None:
    """Demšar's critical-difference diagram: settings on one line are not told apart."""
    found = board.ranking
    if isinstance(found, str):
        return None
    text = (
        f"Average ranks over {found.datasets} datasets: "
        + ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
        + f"; critical difference {found.critical_difference:.2f}."
    )
    return Drawn("ranks", f"Average ranks over {found.datasets} datasets", text, _rank_diagram(found))


def _rank_diagram(found: Ranking) -> Canvas:
    k, axis, top = len(found.names), 290.0, 54.0
    half = math.ceil(k / 2)
    labels = [f"{name}  {rank:.2f}" if i < half else f"{rank:.2f}  {name}"
              for i, (name, rank) in enumerate(zip(found.names, found.ranks, strict=True))]  # fmt: skip
    width, height = names_size(labels)
    margin, step = EDGE + width + 10, height + 6
    bars = top + 18 + 11.5 * len(found.cliques)
    canvas = Canvas(axis + 2 * margin, bars + step * half + 11)
    draw = canvas.marks.append

    def x(rank: float) -> float:
        return margin + axis * (rank - 1) / (k - 1)

    draw(Line([(x(1), top), (x(k), top)], INK, 1.2))
    for tick in range(1, k + 1):
        draw(Line([(x(tick), top - 5), (x(tick), top)], INK))
        if k <= 16 or tick == 1 or tick % 5 == 0:  # side by side, more numbers would run into each other
            draw(Words((x(tick), top - 11), str(tick), NUMBER))
    _critical_difference_bar(canvas, found.critical_difference, x(1), axis / (k - 1), axis)
    for i, (first, last) in enumerate(found.cliques):
        y = top + 10 + 11.5 * i
        draw(Line([(x(found.ranks[first]) - 3.6, y), (x(found.ranks[last]) + 3.6, y)], COLOURS[0], 3.5))
    for i, (label, rank) in enumerate(zip(labels, found.ranks, strict=True)):
        left = i < half
        y = bars + step * (i if left else k - 1 - i) + 7
        edge = margin - 6 if left else margin + axis + 6
        draw(Line([(x(rank), top), (x(rank), y), (edge, y)], INK, 0.8))
        draw(Markers([(x(rank), top)], "o", INK, 4))
        canvas.marks += named((edge - 4, y), label, "end") if left else named((edge + 4, y), label, "start")
    return canvas


def _critical_difference_bar(canvas: Canvas, difference: float, start: float, unit: float, axis: float) -> None:
    """The critical difference in the scale of the axis, with an arrow head where it is longer than the axis."""
    end, beyond, draw = start + min(unit * difference, axis), unit * difference > axis, canvas.marks.append
    draw(Line([(start, 21.5), (end, 21.5)], INK, 1.2))
    draw(Line([(start, 18), (start, 25)], INK, 1.2))
    draw(Markers([(end, 21.5)], ">", INK, 6) if beyond else Line([(end, 18), (end, 25)], INK, 1.2))
    text = f"critical difference {difference:.2f}" + (", beyond the axis" if beyond else "")
    draw(Words(((start + end) / 2, 11), text, NUMBER))


# ------------------------------------------------------------------------------------------------------------- curves


def _curves(board: Board) -> Drawn | None:
    """Validation loss and metric by epoch: the median of the runs, smoothed, while half of them still train."""
    names = {column: {"loss": "loss", "metric": column.metric.name} for column in board.columns}
    columns = [c for c in board.columns if any(_curve(board.cells[r, c], "val/loss") for r in board.rows)]
    found = {(c, side): lines for c in columns for side, name in names[c].items() if (lines := _lines(board, c, name))}
    if not found:
        return None
    axes = {at: (linear([1, *map(len, lines.values())], 6), _curves_axis(lines)) for at, lines in found.items()}
    canvas, panels = _pairs(columns, ("loss", "metric"), axes, 125)
    looks = looks_of(board.rows)
    for (column, side), panel in panels.items():
        panel.grid()
        for row, line in found[column, side].items():
            _curve_line(panel, line, looks[row])
        panel.frame(["epoch"], f"validation {names[column][side]}", numbered=True)
    _legend(canvas, board, looks, {row for lines in found.values() for row in lines}, line=True)
    text = (
        f"Validation loss and metric by epoch, for {_joined(columns)}: the median of the runs while half of them still "
        f"train, as a running mean over {SMOOTHED} epochs."
    )
    return Drawn("curves", "Learning curves", text, canvas, tuple(panels.values()))


def _lines(board: Board, column: Column, name: str) -> dict[Row, list[float]]:
    """What is drawn of each row that has it, an epoch each."""
    curves = {row: _curve(board.cells[row, column], f"val/{name}") for row in board.rows}
    return {row: _smooth(_middle(found)) for row, found in curves.items() if found}


def _curve_line(panel: Panel, line: Sequence[float], look: Look) -> None:
    points = [panel.at(epoch, value) for epoch, value in enumerate(line, 1)]
    for part in within(points, panel.top, panel.bottom):
        panel.canvas.marks.append(Line(part, look.colour, 1.4, look.line))
    marked = [(x, y) for x, y in points[:: max(1, len(line) // 6)] if panel.top <= y <= panel.bottom]
    panel.canvas.marks.append(Markers(marked, look.marker, look.colour, 5))


def _curves_axis(lines: Mapping[Row, Sequence[float]]) -> Axis:
    """It leaves the extreme hundredth of the values out: one peak must not flatten every curve."""
    import numpy as np

    finite = [value for line in lines.values() for value in line if math.isfinite(value)]
    if len(finite) > 100:
        return linear([float(end) for end in np.quantile(finite, [0.005, 0.995])], 5, margin=0.08)
    return linear(finite, 5)


def _curve(cell: Cell, name: str) -> list[list[float]]:
    """The values of each run that kept its curve, an epoch each."""
    rows = [[epoch.get(name) for epoch in run.record.curve] for run in cell.runs]
    return [
        [v if isinstance(v, int | float) else math.nan for v in row] for row in rows if any(v is not None for v in row)
    ]


def _middle(curves: Sequence[Sequence[float]]) -> list[float]:
    """The median of the runs at each epoch that half of them reached."""
    enough = math.ceil(len(curves) / 2)
    middle = []
    for epoch in range(max(map(len, curves))):
        values = [curve[epoch] for curve in curves if len(curve) > epoch]
        if len(values) < enough:
            break
        finite = [value for value in values if math.isfinite(value)]
        middle.append(median(finite) if finite else math.nan)
    return middle


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value and of those up to `SMOOTHED` // 2 before and after it."""
    reach = SMOOTHED // 2
    return [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


# -------------------------------------------------------------------------------------------------------- diagnostics


MEASURES = {
    "ratio": "nodes kept",
    "entropy": "entropy of assignments",
    "collapsed": "clusters collapsed",
    "density": "density",
    "connected": "connected graphs",
    "spectral_distance": "spectral distance",
}
"""Shown of what `learn.diagnostics.pooling` measures, with its name in the figure."""
OF_KNOWN = {"recall": "salient nodes kept", "kept_salient": "salient of the kept", "nmi": "NMI with known clusters"}
"""Shown where the dataset says so much of its nodes."""


def _diagnostics(board: Board) -> Drawn | None:
    """What the runs measured of their pools, mean over runs: a panel a measure, a colour a dataset."""
    levels = {(row, c): _levels(board.cells[row, c]) for row in board.rows for c in board.columns}
    rows = [row for row in board.rows if any(levels[row, c] for c in board.columns)]
    columns = [c for c in board.columns if any(levels[row, c] for row in rows)]
    if not rows:
        return None
    canvas, names = Canvas(), [board.name(row) for row in rows]
    measures = MEASURES | {m: title for m, title in OF_KNOWN.items() if _measured(rows, columns, levels, m)}
    begin, line = _beside(names, 20)
    width, height = 130.0, line * len(rows)
    panels = []
    for i, (measure, title) in enumerate(measures.items()):
        found = _measured(rows, columns, levels, measure)
        x = linear([value for value, *_ in found], 4, margin=0.08)
        left = begin + i * (width + GAP)
        panel = Panel(canvas, title, left, HEAD, width, height, x, names_axis(names))
        panel.grid()
        for value, y, column, level in found:
            shape, colour = MARKERS[level % len(MARKERS)], COLOURS[column % len(COLOURS)]
            canvas.marks.append(Markers([panel.at(value, y)], shape, colour, 5))
        panel.frame()
        panels.append(panel)
    panels[0].names()
    canvas.width, canvas.height = panels[-1].right + GAP / 2 + EDGE, panels[-1].bottom + 20
    _diagnostics_legend(canvas, [column.dataset for column in columns], max(map(len, levels.values())))
    text = f"{', '.join(measures.values())} of {len(rows)} settings on {_joined(columns)}, mean over runs."
    return Drawn("diagnostics", "Pooling diagnostics", text, canvas, tuple(panels))


def _measured(
    rows: Sequence[Row], columns: Sequence[Column], levels: Mapping[tuple[Row, Column], _Levels], measure: str
) -> list[tuple[float, float, int, int]]:
    """(mean over runs, height, number of the dataset, level) of a measure, datasets above each other in a line."""
    found = []
    for i, column in enumerate(columns):
        aside = 0.5 * (i - (len(columns) - 1) / 2) / max(len(columns), 2)  # so that none hides another
        for y, row in enumerate(rows):
            for level, notes in enumerate(levels[row, column]):
                values = [note[measure] for note in notes if isinstance(note.get(measure), int | float)]
                if values and math.isfinite(mean := fmean(values)):
                    found.append((mean, y + aside, i, level))
    return found


_Levels = list[list[Mapping[str, Any]]]
"""What the runs of a cell measured, by level."""


def _levels(cell: Cell) -> _Levels:
    found: _Levels = []
    for run in cell.runs:
        for level, note in enumerate((run.record.diagnostics.get("pooling") or {}).get("levels") or ()):
            if level == len(found):
                found.append([])
            found[level].append(note)
    return found


def _diagnostics_legend(canvas: Canvas, datasets: Sequence[str], levels: int) -> None:
    entries = [(name, Look(COLOURS[i % len(COLOURS)], "s")) for i, name in enumerate(datasets)]
    if levels > 1:
        entries += [(f"level {i + 1}", Look(GREY, MARKERS[i % len(MARKERS)])) for i in range(levels)]
    legend(canvas, entries)
