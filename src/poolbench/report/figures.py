"""Figures of a board, in colours that colour-blind people tell apart (Okabe & Ito, 2008) and with a marker a setting.

matplotlib is imported when something is drawn. Figures are made without pyplot: no window, no global state.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from poolbench.errors import RunError
from poolbench.report.leaderboard import BASELINE, Board, Cell, Column, Gauge, Metric, Row
from poolbench.statistics import LEVEL, Ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1a1a1a"
"""Of text, axes and the baseline; in a page it becomes the colour of the page's text."""
PAPER = "#ffffff"
GREY = "#858585"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, less black (the ink) and yellow (too pale on white)."""
MARKERS = ("o", "^", "D", "v", "P", "X", "<", ">")
CONTROL_MARKERS = ("p", "h")
LINES = ("-", "--", ":", "-.")
SMOOTHED = 9
"""Epochs over which a learning curve is averaged."""
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "svg.hashsalt": "poolbench",  # the same figure, the same file
    **{
        key: INK
        for key in ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    },
}


@dataclass(frozen=True)
class Drawn:
    """A figure, its file name without an ending, its title, and what it shows for those who cannot see it."""

    name: str
    title: str
    text: str
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """The figure on white, as the text of an SVG file."""
        buffer = io.StringIO()
        with _styled():
            self.figure.savefig(buffer, format="svg", facecolor=PAPER, metadata={"Date": None})
        self.figure.set_layout_engine("none")  # it is laid out now, and need not be once more
        return buffer.getvalue()

    def save(self, stem: Path) -> list[Path]:
        """Write `stem`.svg and `stem`.png; returns the files."""
        paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("svg", "png")]
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            paths[0].write_text(self.svg, encoding="utf-8")
            with _styled():
                self.figure.savefig(paths[1], dpi=160, facecolor=PAPER)
        except OSError as error:
            raise RunError(f"cannot write {stem}: {(error.strerror or str(error)).lower()}") from error
        return paths

    def inline(self, prefix: str) -> str:
        """The figure as an <svg> element in the colours of the page around it; `prefix` keeps its ids its own."""
        svg = self.svg[self.svg.index("<svg") :].replace(INK, "currentColor").replace(f"fill: {PAPER}", "fill: none")
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)


def _styled() -> Any:
    from matplotlib import rc_context

    return rc_context(STYLE)


def draw(board: Board) -> list[Drawn]:
    """All figures of a board for which it holds numbers."""
    with _styled():
        made = [_scores(board), *(_costs(board, gauge, i) for i, gauge in enumerate(board.gauges, 1))]
        made += [_ranks(board), _curves(board), _diagnostics(board)]
    return [figure for figure in made if figure is not None]


# --------------------------------------------------------------------------------------------------------- shared parts


@dataclass(frozen=True)
class _Look:
    colour: str
    marker: str
    line: str = "-"


def _looks(board: Board) -> dict[Row, _Look]:
    """The baseline in ink, other controls grey, each operator a colour and a marker."""
    looks, operators, controls = {}, 0, 0
    for row in board.rows:
        if row.pool == BASELINE:
            looks[row] = _Look(INK, "s")
        elif row.control:
            looks[row] = _Look(GREY, CONTROL_MARKERS[controls % 2], LINES[1 + controls % 2])
            controls += 1
        else:
            line = LINES[operators // len(COLOURS) % len(LINES)]
            looks[row] = _Look(COLOURS[operators % len(COLOURS)], MARKERS[operators % len(MARKERS)], line)
            operators += 1
    return looks


def _panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, Any]:
    """A grid of axes, `width` x `height` inches each; returns the figure and the [rows, columns] array."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def _legend(figure: Figure, board: Board, looks: dict[Row, _Look], rows: Iterable[Row], line: bool = False) -> None:
    """One legend for all panels, below them."""
    from matplotlib.lines import Line2D

    shown = [row for row in board.rows if row in set(rows)]
    handles = [
        Line2D(
            [],
            [],
            color=looks[r].colour,
            marker=looks[r].marker,
            ls=looks[r].line if line else "none",
            label=board.name(r),
        )
        for r in shown
    ]
    longest = max(len(board.name(row)) for row in shown)
    across = max(1, int(figure.get_figwidth() / (0.45 + 0.075 * longest)))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(across, len(shown)), frameon=False)


def _named(metric: Metric) -> str:
    return f"test {metric.name}" + (" (less is better)" if metric.mode == "min" else "")


# ------------------------------------------------------------------------------------------------------------- scores


def _scores(board: Board) -> Drawn | None:
    """Mean and interval of every setting, a panel a dataset, the single units behind them."""
    columns = [c for c in board.columns if any(board.cells[row, c].scores for row in board.rows)]
    if not columns:
        return None
    looks, across = _looks(board), min(5, len(columns))
    down = math.ceil(len(columns) / across)
    figure, axes = _panels(down, across, 3.3 if across < 4 else 2.4, 0.9 + 0.32 * len(board.rows), sharey=True)
    for place, column in zip(axes.flat, columns, strict=False):
        _score_panel(place, board, column, looks)
    for place in axes.flat[len(columns) :]:
        place.set_visible(False)
    text = f"Mean test score with its {LEVEL:.0%} interval for {len(board.rows)} settings on {_joined(columns)}."
    return Drawn("scores", f"Scores with {LEVEL:.0%} intervals", text, figure)


def _score_panel(place: Axes, board: Board, column: Column, looks: dict[Row, _Look]) -> None:
    height = len(board.rows)
    for y, row in enumerate(board.rows):
        cell, look = board.cells[row, column], looks[row]
        found = cell.estimate
        if found is not None:
            below = [y + 0.26] * len(cell.scores)
            place.plot(list(cell.scores.values()), below, "o", color=look.colour, alpha=0.35, ms=3, mew=0)
            if found.low is not None and found.high is not None:
                place.plot([found.low, found.high], [y, y], color=look.colour, lw=1.8, solid_capstyle="butt")
            place.plot([found.mean], [y], marker=look.marker, color=look.colour, ms=6)
            if row.pool == BASELINE and not row.code:
                place.axvline(found.mean, color=INK, lw=0.8, ls=":", zorder=0)
        if cell.lost:
            place.text(1.01, y, ", ".join(cell.lost), transform=place.get_yaxis_transform(), va="center", size=7,
                       color=COLOURS[1])  # fmt: skip
    place.set_yticks(range(height), [board.name(row) for row in board.rows])
    place.set_ylim(height - 0.4, -0.7)
    place.tick_params(axis="y", length=0)
    place.grid(axis="x", color=GREY, alpha=0.25, lw=0.6)
    place.set_axisbelow(True)
    place.margins(x=0.06)
    place.locator_params(axis="x", nbins=4)
    place.set_title(column.dataset)
    place.set_xlabel(f"{_named(column.metric)}, {_counts(board, column)}")


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


def _costs(board: Board, gauge: Gauge, number: int) -> Drawn | None:
    """Score against time per epoch and against peak memory by one gauge, with the Pareto front."""
    columns = [c for c in board.columns if any(gauge in board.cells[row, c].costs for row in board.rows)]
    looks = _looks(board)
    figure, axes = _panels(len(columns), 2, 3.9, 2.6)
    shown: set[Row] = set()
    for (left, right), column in zip(axes, columns, strict=True):
        shown |= _cost_panel(left, board, column, gauge, looks, "epoch", 1.0)
        shown |= _cost_panel(right, board, column, gauge, looks, "memory", 1e-6)
        left.set_xlabel("seconds a training epoch")
        right.set_xlabel(f"peak memory ({gauge.memory}), MB")
    if not shown:
        return None
    _legend(figure, board, looks, shown)
    text = f"Test score against time and memory on {gauge}, with the Pareto front, for {_joined(columns)}."
    name = "costs" if len(board.gauges) == 1 else f"costs-{number}"
    return Drawn(name, f"Score against cost on {gauge}", text, figure)


def _cost_panel(
    place: Axes, board: Board, column: Column, gauge: Gauge, looks: dict[Row, _Look], what: str, scale: float
) -> set[Row]:
    points = {}
    for row in board.rows:
        cell = board.cells[row, column]
        cost = cell.costs.get(gauge)
        spent = getattr(cost, what) if cost else None
        if spent and cell.estimate is not None:
            points[row] = (spent * scale, cell.estimate.mean)
            _with_interval(place, points[row], cell, looks[row])
    front = [list(points.values())[i] for i in pareto(list(points.values()), column.metric.sign)]
    if len(front) > 1:
        place.plot(*zip(*front, strict=True), color=INK, lw=0.9, ls="--", drawstyle="steps-post", zorder=0)
    if points:
        _logarithmic(place, [x for x, _ in points.values()])
    place.grid(color=GREY, alpha=0.25, lw=0.6)
    place.set_axisbelow(True)
    place.set_ylabel(_named(column.metric))
    place.set_title(column.dataset)
    return set(points)


def _with_interval(place: Axes, point: tuple[float, float], cell: Cell, look: _Look) -> None:
    half = cell.estimate.half if cell.estimate else None
    if half is not None:
        place.errorbar(*point, yerr=half, color=look.colour, lw=1, alpha=0.45, zorder=1)
    place.plot(*point, marker=look.marker, color=look.colour, ms=6, zorder=2)


def _logarithmic(place: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where values span some factor, with plain numbers at its ticks."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, StrMethodFormatter

    low, high = min(values), max(values)
    if high < 3 * low:
        # A per cent of memory is no difference to look at: never stretch less than a fifth over the whole axis.
        room = max(0.12 * (high - low), (0.2 * high - (high - low)) / 2)
        place.set_xlim(low - room, high + room)
        place.locator_params(axis="x", nbins=6)
        return
    place.set_xscale("log")
    place.set_xlim(low / 1.3, high * 1.3)
    place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    place.xaxis.set_minor_locator(NullLocator())
    place.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    place.xaxis.set_minor_formatter(NullFormatter())


# -------------------------------------------------------------------------------------------------------------- ranks


def _ranks(board: Board) -> Drawn | None:
    """Demšar's critical-difference diagram: settings on one line are not told apart."""
    found = board.ranking
    if isinstance(found, str):
        return None
    figure = _rank_diagram(found)
    text = (
        f"Average ranks over {found.datasets} datasets: "
        + ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
        + f"; critical difference {found.critical_difference:.2f}."
    )
    return Drawn("ranks", f"Average ranks over {found.datasets} datasets", text, figure)


def _rank_diagram(found: Ranking) -> Figure:
    from matplotlib.figure import Figure

    k, step = len(found.names), 0.24
    half = math.ceil(k / 2)
    margin = 0.25 + 0.08 * (6 + max(len(name) for name in found.names))  # inches for names and ranks on either side
    axis = 4.0
    bars = 0.16 * len(found.cliques)
    top = 0.75
    width, height = axis + 2 * margin, top + 0.25 + bars + step * half + 0.15
    figure = Figure(figsize=(width, height))
    place = figure.add_axes((0, 0, 1, 1))
    place.set_xlim(0, width)
    place.set_ylim(height, 0)  # inches from the top
    place.axis("off")

    def x(rank: float) -> float:
        return margin + axis * (rank - 1) / (k - 1)

    place.plot([x(1), x(k)], [top, top], color=INK, lw=1.2)
    for tick in range(1, k + 1):
        place.plot([x(tick)] * 2, [top - 0.07, top], color=INK, lw=1)
        if k <= 16 or tick == 1 or tick % 5 == 0:  # side by side, more numbers would run into each other
            place.text(x(tick), top - 0.11, str(tick), ha="center", va="bottom", size=8)
    _critical_difference_bar(place, found.critical_difference, x(1), axis / (k - 1) * found.critical_difference, axis)
    for i, (first, last) in enumerate(found.cliques):
        y = top + 0.14 + 0.16 * i
        place.plot([x(found.ranks[first]) - 0.05, x(found.ranks[last]) + 0.05], [y, y], color=COLOURS[0], lw=3.5)
    for i, (name, rank) in enumerate(zip(found.names, found.ranks, strict=True)):
        left = i < half
        y = top + 0.25 + bars + step * (i if left else k - 1 - i) + 0.1
        edge = margin - 0.08 if left else margin + axis + 0.08
        place.plot([x(rank), x(rank), edge], [top, y, y], color=INK, lw=0.8)
        place.plot([x(rank)], [top], "o", color=INK, ms=3.5)
        place.text(edge + (-0.06 if left else 0.06), y, f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}",
                   ha="right" if left else "left", va="center", size=8.5)  # fmt: skip
    return figure


def _critical_difference_bar(place: Axes, difference: float, start: float, length: float, axis: float) -> None:
    """The critical difference in the scale of the axis, with an arrow head where it is longer than the axis."""
    end = start + min(length, axis)
    beyond = length > axis
    place.plot([start, end], [0.3, 0.3], color=INK, lw=1.2)
    place.plot([start, start], [0.25, 0.35], color=INK, lw=1.2)
    place.plot([end], [0.3], marker=">" if beyond else "|", color=INK, ms=5)
    text = f"critical difference {difference:.2f}" + (", beyond the axis" if beyond else "")
    place.text((start + end) / 2, 0.23, text, ha="center", va="bottom", size=8)


# ------------------------------------------------------------------------------------------------------------- curves


def _curves(board: Board) -> Drawn | None:
    """Validation loss and metric by epoch: the median of the runs, smoothed, while half of them still train."""
    looks = _looks(board)
    columns = [c for c in board.columns if any(_curve(board.cells[r, c], "val/loss") for r in board.rows)]
    if not columns:
        return None
    figure, axes = _panels(len(columns), 2, 3.9, 2.5)
    shown: set[Row] = set()
    for pair, column in zip(axes, columns, strict=True):
        for place, name in zip(pair, ("loss", column.metric.name), strict=True):
            shown |= _curve_panel(place, board, column, name, looks)
    _legend(figure, board, looks, shown, line=True)
    text = (
        f"Validation loss and metric by epoch, for {_joined(columns)}: the median of the runs while half of them still "
        f"train, as a running mean over {SMOOTHED} epochs."
    )
    return Drawn("curves", "Learning curves", text, figure)


def _curve_panel(place: Axes, board: Board, column: Column, name: str, looks: dict[Row, _Look]) -> set[Row]:
    lines = {}
    for row in board.rows:
        curves = _curve(board.cells[row, column], f"val/{name}")
        if curves:
            line, look = _smooth(_middle(curves)), looks[row]
            place.plot(range(1, len(line) + 1), line, color=look.colour, ls=look.line, marker=look.marker, lw=1.4, ms=4,
                       markevery=max(1, len(line) // 6))  # fmt: skip
            lines[row] = line
    place.set_visible(bool(lines))
    place.grid(color=GREY, alpha=0.25, lw=0.6)
    place.set_xlabel("epoch")
    place.set_ylabel(f"validation {name}")
    place.set_title(column.dataset)
    _without_outliers(place, [value for line in lines.values() for value in line])
    return set(lines)


def _without_outliers(place: Axes, values: Sequence[float]) -> None:
    """Leave the extreme hundredth of the values outside the axes: one peak must not flatten every curve."""
    import numpy as np

    finite = [value for value in values if math.isfinite(value)]
    if len(finite) > 100:
        low, high = np.quantile(finite, [0.005, 0.995])
        room = 0.08 * (high - low) or 0.5
        place.set_ylim(low - room, high + room)


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


def _diagnostics(board: Board) -> Drawn | None:
    """What the runs measured of their pools, mean over runs: a panel a measure, a colour a dataset."""
    levels = {(row, c): _levels(board.cells[row, c]) for row in board.rows for c in board.columns}
    rows = [row for row in board.rows if any(levels[row, c] for c in board.columns)]
    columns = [c for c in board.columns if any(levels[row, c] for row in rows)]
    if not rows:
        return None
    figure, axes = _panels(1, len(MEASURES), 2.4, 1.2 + 0.28 * len(rows), sharey=True)
    for place, (measure, name) in zip(axes[0], MEASURES.items(), strict=True):
        for i, column in enumerate(columns):
            aside = 0.5 * (i - (len(columns) - 1) / 2) / max(len(columns), 2)  # so that none hides another
            for y, row in enumerate(rows):
                for level, notes in enumerate(levels[row, column]):
                    values = [note[measure] for note in notes if isinstance(note.get(measure), int | float)]
                    if values:
                        look = {"marker": MARKERS[level % len(MARKERS)], "color": COLOURS[i % len(COLOURS)]}
                        place.plot([fmean(values)], [y + aside], ls="none", ms=4.5, **look)
        place.set_title(name)
        place.set_yticks(range(len(rows)), [board.name(row) for row in rows])
        place.set_ylim(len(rows) - 0.4, -0.6)
        place.tick_params(axis="y", length=0)
        place.grid(color=GREY, alpha=0.25, lw=0.6)
        place.set_axisbelow(True)
        place.margins(x=0.08)
        place.locator_params(axis="x", nbins=4)
    _diagnostics_legend(figure, [column.dataset for column in columns], max(map(len, levels.values())))
    text = f"{', '.join(MEASURES.values())} of {len(rows)} settings on {_joined(columns)}, mean over runs."
    return Drawn("diagnostics", "Pooling diagnostics", text, figure)


def _levels(cell: Cell) -> list[list[Mapping[str, Any]]]:
    """What the runs of a cell measured, by level."""
    found: list[list[Mapping[str, Any]]] = []
    for run in cell.runs:
        for level, note in enumerate((run.record.diagnostics.get("pooling") or {}).get("levels") or ()):
            if level == len(found):
                found.append([])
            found[level].append(note)
    return found


def _diagnostics_legend(figure: Figure, datasets: Sequence[str], levels: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], marker="s", ls="none", label=name)
        for i, name in enumerate(datasets)
    ]
    if levels > 1:
        handles += [
            Line2D([], [], color=GREY, marker=MARKERS[i % len(MARKERS)], ls="none", label=f"level {i + 1}")
            for i in range(levels)
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), frameon=False)
