"""The order in which the evidence puts settings, and how large and how sure each difference to no pooling is: what
figures and the page go by. All of it is read from a board; nothing is estimated a second time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from poolbench.report.board import BASELINE, Board, Column, Row
from poolbench.report.comparing import Compared, Pair, compared
from poolbench.statistics.datasets import REGIONS, Mean

LARGE = 0.9
"""The share of differences that are paler than the strongest colour: one outlier must not make all others pale."""


@dataclass(frozen=True)
class Shade:
    """How a difference is coloured."""

    gain: float
    """Towards the better side: above 0 is better, whichever way the metric goes."""
    size: float
    """From 0 to 1, in parts of what is large among the differences of its kind."""
    certainty: float
    """See `certainty`."""

    @property
    def side(self) -> str:
        return "better" if self.gain > 0 else "worse" if self.gain < 0 else ""


def certainty(difference: float, low: float | None, high: float | None) -> float:
    """How far the interval of a difference keeps away from 0, from 0 to 1.

    0 without an interval, at most 0.5 where it holds 0, 0.7 and more where it leaves 0 out, 1 where its nearer end is
    as far from 0 as from the difference.
    """
    if low is None or high is None or difference == 0:
        return 0.0
    reach = difference - low if difference > 0 else high - difference
    ratio = abs(difference) / reach if reach > 0 else math.inf
    return 0.5 * ratio if ratio <= 1 else min(1.0, 0.7 + 0.3 * (ratio - 1))


@dataclass(frozen=True)
class Group:
    """Settings that are compared with one baseline, best first, and the baseline among them at a difference of 0; or,
    without a baseline, settings that have none to be compared with."""

    baseline: Row | None
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Evidence:
    """What a board says of its settings."""

    board: Board

    @cached_property
    def compared(self) -> list[Compared]:
        """Its settings against no pooling."""
        return compared(self.board, BASELINE)

    @cached_property
    def pairs(self) -> Mapping[tuple[Row, Column], Pair]:
        return {at: pair for one in self.compared for at, pair in one.pairs.items()}

    @cached_property
    def over(self) -> Mapping[Row, Mean]:
        """What settings came to over datasets."""
        return {row: mean for one in self.compared for row, mean in one.means.items()}

    # ------------------------------------------------------------------------------------------------------- the order

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All rows of the board, each in one group."""
        by_baseline: dict[Row | None, list[Row]] = {}
        for row in self.board.rows:
            by_baseline.setdefault(self.board.baseline(row), []).append(row)
        alone = [row for other, rows in by_baseline.items() if other is None or len(rows) == 1 for row in rows]
        groups = [Group(other, self._sorted(rows)) for other, rows in by_baseline.items() if other and len(rows) > 1]
        groups.sort(key=lambda group: -sum((row, c) in self.pairs for row in group.rows for c in self.board.columns))
        return (*groups, *([Group(None, self._sorted(alone))] if alone else []))

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """All rows of the board, best first within each group."""
        return tuple(row for group in self.groups for row in group.rows)

    def on(self, column: Column) -> list[Row]:
        """The same by what was found on one dataset."""
        return [row for group in self.groups for row in sorted(group.rows, key=lambda row: self._key(row, [column]))]

    def _sorted(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        return tuple(sorted(rows, key=lambda row: self._key(row, self.board.columns)))

    def _key(self, row: Row, columns: Sequence[Column]) -> tuple[bool, float, float, str]:
        gain, name = self.gain(row, columns), self.board.name(row)
        means = [c.metric.sign * found.mean for c in columns if (found := self.board.cells[row, c].estimate)]
        return gain is None, -(gain or 0.0), -fmean(means) if means else math.inf, name

    def gain(self, row: Row, columns: Sequence[Column]) -> float | None:
        """By which rows are sorted: the estimate over datasets, or the mean of the differences on those that are given;
        0 of a baseline, None where nothing is compared."""
        one = self.over.get(row)
        if one is not None and len(columns) == len(self.board.columns):
            return one.mean.expected
        if self.board.baseline(row) == row:
            return 0.0
        shades = {column: self.shade(row, column) for column in columns}
        found = [shade.gain / self._unit(column) for column, shade in shades.items() if shade]
        return fmean(found) if found else None

    def _unit(self, column: Column) -> float:
        """What a difference is counted in where they are averaged: points, or what is large on the dataset."""
        return 1.0 if all(c.metric.points for c in self.board.columns) else self._scales[column] or 1.0

    # ----------------------------------------------------------------------------------------------------- the colours

    def shade(self, row: Row, column: Column) -> Shade | None:
        """That of a setting on a dataset; None where nothing is compared."""
        pair = self.pairs.get((row, column))
        if pair is None:
            return None
        found, size = pair.found, _part(pair.gain, self._scales[column])
        return Shade(pair.gain, size, certainty(found.difference, found.joint_low, found.joint_high))

    def shade_over_datasets(self, row: Row) -> Shade | None:
        """That of a setting over datasets; None where there is no such gain.

        It is shown where more than a point is: of twenty intervals of operators that gain nothing one leaves 0 out.
        """
        one = self.over.get(row)
        if one is None:
            return None
        gain, scale = one.mean.expected, _large([abs(other.mean.expected) for other in self.over.values()])
        sure, shown = certainty(gain, *one.mean.interval()), one.decision(REGIONS[0]) in ("better", "worse")
        return Shade(gain, _part(gain, scale), max(sure, 0.7) if shown else min(sure, 0.5))

    @cached_property
    def _scales(self) -> dict[Column, float]:
        """What is large: one for all datasets that are measured in points, and one for each other."""
        found: dict[Column, list[float]] = {column: [] for column in self.board.columns}
        for pair in self.pairs.values():
            found[pair.column].append(abs(pair.gain))
        points = [size for column, sizes in found.items() if column.metric.points for size in sizes]
        return {column: _large(points if column.metric.points else sizes) for column, sizes in found.items()}


def _part(gain: float, scale: float) -> float:
    return min(1.0, abs(gain) / scale) if scale else 0.0


def _large(sizes: Sequence[float]) -> float:
    ordered = sorted(sizes)
    return ordered[math.floor(LARGE * (len(ordered) - 1))] if ordered else 0.0
