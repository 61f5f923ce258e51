"""Learning curves, a dozen lines a panel: the first epochs of many operators in one panel are a tangle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

from poolbench.report.board import BASELINE, Board, Cell, Column, Row
from poolbench.report.canvas import Line, Markers
from poolbench.report.drawn import Drawn, looks_of, pairs
from poolbench.report.evidence import Evidence
from poolbench.report.panels import MOST, Axis, End, Look, Panel, labels, linear, names_size, within

SMOOTHED = 9
"""Epochs over which a learning curve is averaged."""


def curves(evidence: Evidence) -> list[Drawn]:
    """Validation loss and metric by epoch, a figure a dataset."""
    columns = [c for c in evidence.board.columns if _kept(evidence, c)]
    return [
        _figure(evidence, column, "curves" if len(columns) == 1 else f"curves-{i}")
        for i, column in enumerate(columns, 1)
    ]


def _kept(evidence: Evidence, column: Column) -> list[Row]:
    """The settings of which there are curves, the best ones first."""
    return [row for row in evidence.on(column) if _curve(evidence.board.cells[row, column], "val/loss")]


def _figure(evidence: Evidence, column: Column, file: str) -> Drawn:
    board, names = evidence.board, ("loss", column.metric.name)
    blocks = _blocks(_kept(evidence, column))
    lines = {(i, side): found for i, rows in enumerate(blocks) for side, name in enumerate(names)
             if (found := _lines(board, rows, column, name))}  # fmt: skip
    of = f" of {len(blocks)}"
    titles = [f"{column.dataset}, {i}{of}" if len(blocks) > 1 else column.dataset for i in range(1, len(blocks) + 1)]
    axes = {at: (linear([1, *map(len, found.values())], 6), _curves_axis(found)) for at, found in lines.items()}
    room, leading = names_size(board.name(row) for found in lines.values() for row in found)
    height = max(125.0, (leading + 1) * (1 + max(map(len, lines.values()))))
    canvas, panels = pairs(titles, axes, height, room + 26)
    for at, panel in panels.items():
        panel.grid()
        looks = looks_of(lines[at])
        drawn = [_curve_line(panel, line, looks[row], board.name(row)) for row, line in lines[at].items()]
        panel.frame(["epoch"], f"validation {names[at[1]]}", numbered=True)
        labels(panel, [end for end in drawn if end], leading + 1)
    text = (
        f"Validation loss and metric by epoch on {column.dataset}, those that gain most over {BASELINE} first: the "
        f"median of the runs while half of them still train, as a running mean over {SMOOTHED} epochs."
    )
    return Drawn(file, f"Learning curves on {column.dataset}", text, canvas, tuple(panels.values()))


def _blocks(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in their order, `MOST` together, with the baselines in each."""
    bases = [row for row in rows if row.pool == BASELINE][: MOST // 2]
    others = [row for row in rows if row not in bases]
    count = math.ceil(len(others) / (MOST - len(bases))) or 1
    each = math.ceil(len(others) / count)
    return [bases + others[i * each : (i + 1) * each] for i in range(count)] if rows else []


def _lines(board: Board, rows: Sequence[Row], column: Column, name: str) -> dict[Row, list[float]]:
    """What is drawn of each row that has it, an epoch each."""
    curves = {row: _curve(board.cells[row, column], f"val/{name}") for row in rows}
    return {row: _smooth(_middle(found)) for row, found in curves.items() if found}


def _curve_line(panel: Panel, line: Sequence[float], look: Look, name: str) -> End | None:
    """A line with markers; its end where it is within the panel."""
    points = [panel.at(epoch, value) for epoch, value in enumerate(line, 1)]
    parts = within(points, panel.top, panel.bottom)
    for part in parts:
        panel.canvas.marks.append(Line(part, look.colour, 1.4, look.line))
    marked = [(x, y) for x, y in points[:: max(1, len(line) // 6)] if panel.top <= y <= panel.bottom]
    panel.canvas.marks.append(Markers(marked, look.marker, look.colour, 5))
    end = parts[-1][-1] if parts else marked[-1] if marked else None
    return End(end, name, look.colour) if end else None


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
