"""What the page's script draws: curves over dials, and cost against gain, a small panel a dataset.

Numbers are those of the cells; the script turns them into marks alone, so that a panel is as wide as the screen and
holds what the filters leave.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from poolbench.report.board import BASELINE, Column, Gauge, Row
from poolbench.report.dial import STEEP, Curve, Sheet
from poolbench.report.evidence import Evidence
from poolbench.report.page.markup import cell_id
from poolbench.report.panels import COLOURS, MOST

Chart = dict[str, Any]


def costs(evidence: Evidence) -> list[Chart]:
    """Seconds a training epoch against the gain over no pooling, a panel a dataset, baseline and measure of costs."""
    board = evidence.board
    bases = [(group.baseline, group.rows) for group in evidence.groups if group.baseline]
    made = []
    for gauge, (baseline, rows), column in product(board.gauges, bases, board.columns):
        pools = Counter(row.pool for row in rows)
        points = [
            [*point, row.pool if pools[row.pool] == 1 else board.name(row)]
            for row in rows
            if (point := _point(evidence, row, column, gauge))
        ]
        if len(points) > 1:
            of = f", {baseline.label}, {baseline.model}" if len(bases) > 1 else ""
            on = f", {gauge.hardware}" if len(board.gauges) > 1 else ""
            made.append({"kind": "cost", "title": f"{column.dataset}{of}{on}", "x": "seconds a training epoch",
                         "y": f"gain over {BASELINE}, {column.metric.unit}", "points": points})  # fmt: skip
    return made


def _point(evidence: Evidence, row: Row, column: Column, gauge: Gauge) -> list[str | float | None] | None:
    """Cell, seconds, and gain with the ends of its interval, towards the better side; None without one of them."""
    cost = evidence.board.cells[row, column].costs.get(gauge)
    seconds = cost.epoch if cost else None
    if not seconds or not math.isfinite(seconds):
        return None
    gain = None if row in evidence.board.twins else _gained(evidence, (row, column))
    return [cell_id(evidence.board, row, column), _short(seconds), *gain] if gain else None


def _short(value: float) -> float:
    return float(f"{value:.6g}")


# --------------------------------------------------------------------------------------------------------------- curves


def curves(sheets: Sequence[Sheet], evidence: Evidence) -> list[Chart]:
    """Two panels a sheet, of scores and of gains over no pooling, and more where it has more than `MOST` lines."""
    places = {id(cell): place for place, cell in evidence.board.cells.items()}
    made = []
    for sheet in sheets:
        each = math.ceil(len(sheet.curves) / math.ceil(len(sheet.curves) / MOST))
        blocks = [sheet.curves[i : i + each] for i in range(0, len(sheet.curves), each)]
        for i, block in enumerate(blocks):
            part = f", {i + 1} of {len(blocks)}" if len(blocks) > 1 else ""
            values, metric = sheet.values, sheet.column.metric
            less = " (less is better)" if metric.mode == "min" else ""
            for y, ends in ((f"test {metric.name}{less}", _scored), (f"gain over {BASELINE}, {metric.unit}", _gained)):
                lines = [_line(curve, k, evidence, places, ends) for k, curve in enumerate(block)]
                if sum(bool(line["points"]) for line in lines) > (ends is _gained):
                    made.append({
                        "kind": "dial", "title": f"{sheet.title} by {sheet.key}{part}", "x": sheet.key, "y": y,
                        "log": values[0] > 0 and values[-1] > STEEP * values[0], "lines": lines,
                    })  # fmt: skip
    return made


Ends = list[float | None]
"""A middle and the ends of its interval."""
Place = tuple[Row, Column]


def _line(
    curve: Curve,
    number: int,
    evidence: Evidence,
    places: Mapping[int, Place],
    ends: Callable[[Evidence, Place], Ends | None],
) -> dict[str, Any]:
    colour = "ink" if curve.row.pool == BASELINE else "grey" if curve.row.control else COLOURS[number % len(COLOURS)]
    cells = curve.cells.items() if curve.level is None else [(None, curve.level)]
    found = [(places[id(cell)], value) for value, cell in cells]
    points = [[cell_id(evidence.board, *at), value, *said] for at, value in found if (said := ends(evidence, at))]
    return {"name": curve.label, "colour": colour, "points": points}


def _scored(evidence: Evidence, at: Place) -> Ends | None:
    found = evidence.board.cells[at].estimate
    if found is None:
        return None
    low, high = at[1].metric.reach(found) or (None, None)
    return [_short(found.mean), _end(low), _end(high)]


def _gained(evidence: Evidence, at: Place) -> Ends | None:
    """Towards the better side, in points where the metric has them; 0 of a baseline."""
    row, column = at
    if evidence.board.baseline(row) == row:
        return [0.0, None, None] if evidence.board.cells[at].scores else None
    pair = evidence.pairs.get(at)
    if pair is None:
        return None
    found, factor = pair.found, column.metric.sign * (100 if column.metric.points else 1)
    low, high = (_end(None if end is None else factor * end) for end in (found.joint_low, found.joint_high))
    return [_short(factor * found.difference), *((low, high) if factor > 0 else (high, low))]


def _end(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else _short(value)
