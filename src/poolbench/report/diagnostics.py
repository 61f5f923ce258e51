"""What pools did to the graphs, as the runs measured it: nodes kept, how sure assignments are, what is left of the
structure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from poolbench.report.board import Cell, Column, Row
from poolbench.report.canvas import Canvas, Markers
from poolbench.report.drawn import MARKERS, Drawn, beside, joined
from poolbench.report.evidence import Evidence
from poolbench.report.panels import COLOURS, EDGE, GAP, GREY, HEAD, Look, Panel, legend, linear, names_axis

MEASURES = {
    "ratio": "nodes kept",
    "entropy": "entropy of assignments",
    "collapsed": "clusters collapsed",
    "density": "density",
    "connected": "connected graphs",
    "spectral_distance": "spectral distance",
}
"""Shown of what `learn.diagnostics.pooling` measures, with its name in the figure."""
OF_SOME = {
    "constant": "sums of S constant",
    "recall": "salient nodes kept",
    "kept_salient": "salient of the kept",
    "nmi": "NMI with known clusters",
}
"""Shown where records have them: older ones lack the sums, and only some datasets say which nodes matter."""


def diagnostics(evidence: Evidence) -> Drawn | None:
    """What the runs measured of their pools, mean over runs: a panel a measure, a colour a dataset."""
    board = evidence.board
    levels = {(row, c): _levels(board.cells[row, c]) for row in board.rows for c in board.columns}
    rows = [row for row in evidence.rows if any(levels[row, c] for c in board.columns)]
    columns = [c for c in board.columns if any(levels[row, c] for row in rows)]
    if not rows:
        return None
    canvas, names = Canvas(), [board.name(row) for row in rows]
    measures = MEASURES | {m: title for m, title in OF_SOME.items() if _measured(rows, columns, levels, m)}
    begin, line = beside(names, 20)
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
    _legend(canvas, [column.dataset for column in columns], max(map(len, levels.values())))
    text = f"{', '.join(measures.values())} of {len(rows)} settings on {joined(columns)}, mean over runs."
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


def _legend(canvas: Canvas, datasets: Sequence[str], levels: int) -> None:
    entries = [(name, Look(COLOURS[i % len(COLOURS)], "s")) for i, name in enumerate(datasets)]
    if levels > 1:
        entries += [(f"level {i + 1}", Look(GREY, MARKERS[i % len(MARKERS)])) for i in range(levels)]
    legend(canvas, entries)
