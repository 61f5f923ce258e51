"""Axes with round numbers, panels in rows, and one legend below them: what the figures of a report share.

Every panel has the size that it is asked for, and the sheet is as large as that takes: nothing is squeezed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from textwrap import wrap
from typing import Literal

from poolbench.report.canvas import INK, Canvas, Line, Markers, Point, Words, text_width

GREY = "#858585"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, less black (the ink) and yellow (too pale on white)."""
TITLE, NAME, NUMBER, NOTE = 10.0, 9.0, 8.0, 7.0
"""Sizes of letters: titles, names and labels, numbers at ticks, notes."""
GAP = 30.0
"""Between two panels side by side: numbers at the ticks of both have room there."""
EDGE = 8.0
"""Around everything."""
HEAD = 24.0
"""Above a panel, for its title."""
MOST = 12
"""Lines of a panel that can be told apart."""
LONGEST = 64
"""Letters of a name that stand in one line."""
LEADING = 11.0
"""From one line of a name to the next."""


# ---------------------------------------------------------------------------------------------------------------- axes


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, which may be the smaller one. ticks: (value, its text)."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def part(self, value: float) -> float:
        """Where a value lies, 0 at `low` and 1 at `high`."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(values: Iterable[float], most: int, margin: float = 0.06, least: float = 0.0) -> Axis:
    """An axis around values with `most` + 1 ticks at the most.

    Args:
        margin: left empty on either side, in parts of the values' range. least: the range that is shown at least.
    """
    found = [*values] or [0.0, 1.0]
    low, high = min(found), max(found)
    room = max(margin * (high - low), (least - (high - low)) / 2)
    if room <= 1e-10 * max(abs(low), abs(high)):  # one value, up to rounding
        room = 0.05 * abs(low) or 0.05
    low, high = low - room, high + room
    return Axis(low, high, _ticks(low, high, most))


def _ticks(low: float, high: float, most: int) -> tuple[tuple[float, str], ...]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 2.5, 5, 10)):
        inside = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        if len(inside) <= most + 1:
            break
    places = next((d for d in range(5) if math.isclose(step, round(step, d), rel_tol=1e-6)), None)
    plain = places is not None and max(abs(low), abs(high)) < 1e6
    return tuple((i * step, f"{i * step:.{places}f}" if plain else f"{i * step:.5g}") for i in inside)


def costs_axis(values: Sequence[float]) -> Axis:
    """Of costs, all above 0: logarithmic where they span some factor."""
    low, high = min(values), max(values)
    if high < 3 * low:
        # A per cent of memory is no difference to look at: never stretch less than a fifth over the whole axis.
        return linear(values, 6, margin=0.12, least=0.2 * high)
    low, high = low / 1.3, high * 1.3
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [m * 10.0**power for power in powers for m in (1, 2, 5)]
    return Axis(low, high, tuple((v, f"{v:g}") for v in values if low <= v <= high), logarithmic=True)


def names_axis(names: Sequence[str]) -> Axis:
    """A name a line, downwards."""
    return Axis(len(names) - 0.4, -0.6, tuple(enumerate(names)))


# -------------------------------------------------------------------------------------------------------------- panels


@dataclass(frozen=True)
class Panel:
    """A rectangle of a canvas with an axis in each direction."""

    canvas: Canvas
    title: str
    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def at(self, x: float, y: float) -> Point:
        """Where (x, y) lies on the canvas."""
        return self.left + self.width * self.x.part(x), self.bottom - self.height * self.y.part(y)

    def grid(self, across: bool = True) -> None:
        """Pale lines at the ticks of the x axis and, `across`, of the y axis."""
        ends = [((x, self.top), (x, self.bottom)) for x, _ in (self.at(v, self.y.low) for v, _ in self.x.ticks)]
        if across:
            ends += [((self.left, y), (self.right, y)) for _, y in (self.at(self.x.low, v) for v, _ in self.y.ticks)]
        self.canvas.marks += [Line(pair, GREY, 0.6, alpha=0.25) for pair in ends]

    def frame(self, below: Sequence[str] = (), beside: str = "", numbered: bool = False) -> None:
        """The title, both axes and what stands at them.

        Args:
            below: lines under the x axis. beside: along the y axis. numbered: the y axis has numbers.
        """
        draw = self.canvas.marks.append
        if self.title:
            draw(Words((self.left + self.width / 2, self.top - 12), self.title, TITLE))
        draw(Line([(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)], INK, 0.8))
        for value, _ in self.x.ticks:
            x, _ = self.at(value, self.y.low)
            draw(Line([(x, self.bottom), (x, self.bottom + 3)], INK, 0.8))
        self.canvas.marks += self._x_numbers()
        for i, line in enumerate(below):
            draw(Words((self.left + self.width / 2, self.bottom + 24 + 12 * i), line, NAME))
        for value, text in self.y.ticks if numbered else ():
            _, y = self.at(self.x.low, value)
            draw(Line([(self.left - 3, y), (self.left, y)], INK, 0.8))
            draw(Words((self.left - 5, y), text, NUMBER, "end"))
        if beside:
            draw(Words((self.left - self.numbers - 16, self.top + self.height / 2), beside, NAME, turned=True))

    def _x_numbers(self) -> list[Words]:
        """The numbers at every tick, at every second or fewer: as many as do not meet."""
        numbers = [
            Words((self.at(value, self.y.low)[0], self.bottom + 10), text, NUMBER) for value, text in self.x.ticks
        ]
        every = (numbers[::nth] for nth in range(1, len(numbers) + 1))
        return next((kept for kept in every if all(a.box[2] + 2 < b.box[0] for a, b in pairwise(kept))), [])

    @property
    def numbers(self) -> float:
        """The width of the numbers at the y axis."""
        return max((text_width(text, NUMBER) for _, text in self.y.ticks), default=0.0)

    def names(self) -> None:
        """The names at the y axis."""
        for value, name in self.y.ticks:
            self.canvas.marks += named((self.left - 6, self.at(self.x.low, value)[1]), name, "end")


def named(at: Point, name: str, anchor: Literal["start", "end"]) -> list[Words]:
    """A name around a height, in several lines where it is long."""
    lines = _wrapped(name)
    top = at[1] - LEADING * (len(lines) - 1) / 2
    return [Words((at[0], top + LEADING * i), line, NAME, anchor) for i, line in enumerate(lines)]


def names_size(names: Iterable[str]) -> tuple[float, float]:
    """The width and the height that any of the names takes up."""
    lines = [_wrapped(name) for name in names]
    return max(text_width(line, NAME) for each in lines for line in each), LEADING * max(map(len, lines))


def _wrapped(name: str) -> list[str]:
    return wrap(name, LONGEST, break_on_hyphens=False) or [""]


def within(points: Sequence[Point], low: float, high: float) -> list[list[Point]]:
    """The parts of a line that lie between two heights; where one is not finite, the line is broken."""
    parts: list[list[Point]] = [[]]
    for (x, y), (next_x, next_y) in pairwise(points):
        run, rise = next_x - x, next_y - y
        first, second = (0.0, 1.0) if low <= y <= high else (1.0, 0.0)
        if rise and math.isfinite(rise):
            first, second = sorted(((low - y) / rise, (high - y) / rise))
        enters, leaves = max(0.0, first), min(1.0, second)
        if not enters < leaves or not math.isfinite(rise):
            parts.append([])
            continue
        if enters > 0 or not parts[-1]:
            parts.append([(x + enters * run, y + enters * rise)])
        parts[-1].append((x + leaves * run, y + leaves * rise))
        if leaves < 1:
            parts.append([])
    return [part for part in parts if part]


# ----------------------------------------------------------------------------------------------------------- line ends


@dataclass(frozen=True)
class End:
    """Where a line ends, and what is written beside it."""

    at: Point
    label: str
    colour: str


def labels(panel: Panel, ends: Sequence[End], step: float) -> None:
    """The name of each line beside its end, as near as the others leave room."""
    ordered = sorted(ends, key=lambda end: end.at[1])
    for i, (end, height) in enumerate(zip(ordered, apart([end.at[1] for end in ordered], step), strict=True)):
        y = min(max(height, panel.top + step * i), panel.bottom - step * (len(ordered) - 1 - i))
        panel.canvas.marks.append(
            Line([end.at, (panel.right + 14, y), (panel.right + 18, y)], end.colour, 0.6, alpha=0.6)
        )
        panel.canvas.marks += named((panel.right + 21, y), end.label, "start")


def apart(heights: Sequence[float], step: float) -> list[float]:
    """Rising heights with `step` between them at least, each group around where it would be."""
    groups: list[list[float]] = []  # of heights less the steps before them, which only have to rise
    for i, height in enumerate(heights):
        groups.append([height - i * step])
        while len(groups) > 1 and fmean(groups[-2]) > fmean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = [fmean(group) for group in groups for _ in group]
    return [height + i * step for i, height in enumerate(placed)]


# -------------------------------------------------------------------------------------------------------------- legend


@dataclass(frozen=True)
class Look:
    """line: of `canvas.DASHES`; empty: markers alone."""

    colour: str
    marker: str
    line: str = ""


def legend(canvas: Canvas, entries: Sequence[tuple[str, Look]]) -> None:
    """All entries below what is drawn, in as many columns as fit; the canvas grows by them."""
    width, height = names_size(name for name, _ in entries)
    across, down = width + 44, height + 3
    columns = min(max(1, int((canvas.width - 2 * EDGE) / across)), len(entries))
    lines = math.ceil(len(entries) / columns)
    columns = math.ceil(len(entries) / lines)
    canvas.width = max(canvas.width, columns * across + 2 * EDGE)
    left, top = (canvas.width - columns * across) / 2, canvas.height + 1 + down / 2
    for i, (name, look) in enumerate(entries):
        x, y = left + i // lines * across, top + i % lines * down
        if look.line:
            canvas.marks.append(Line([(x, y), (x + 24, y)], look.colour, 1.4, look.line))
        canvas.marks.append(Markers([(x + 12, y)], look.marker, look.colour, 7))
        canvas.marks += named((x + 30, y), name, "start")
    canvas.height += lines * down + EDGE
