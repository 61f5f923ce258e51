"""When our number agrees with a published one, when it differs, and when no verdict can be had: docs/reproduction.md.

Both sides ran on one dataset, so what is compared is what the recipe gives *on it*: no term for other graphs. What is
left is how much a number moves when its runs are made again. Of a mean over all folds of a cross-validation that is
what repeats of the cross-validation show, not what folds show: each graph is tested once in each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Literal

from poolbench.statistics import LEVEL, MARGIN, POWER, standard_error
from poolbench.statistics.runs import student

LEAST = 3
"""Fewer runs of ours say nothing."""
REPEATS = 5
"""Fewer repeats of a cross-validation do not say how much its mean moves, which is taken for the paper's too."""
MOST = 50
"""Runs, or repeats, beyond which nobody makes more for a cell."""

Verdict = Literal["agrees", "differs", "open"]


@dataclass(frozen=True)
class Margin:
    """How far a number may be from a published one.

    value: in our unit; or a factor (2: half to double), for errors, which are compared by their logarithms. floor:
    errors below it count as it, which is the last digit that the paper printed.
    """

    value: float = MARGIN
    factor: bool = False
    floor: float = 1e-300

    @property
    def bound(self) -> float:
        """Of the difference, or of the difference of logarithms."""
        return math.log(self.value) if self.factor else self.value


@dataclass(frozen=True)
class Side:
    """A mean of n numbers and their standard deviation; None: not known."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Judgement:
    """Ours against theirs.

    difference: ours - theirs, or the logarithm of ours over theirs. variance: of one of our n numbers. theirs: of their
    mean, None where our variance is taken for theirs, over `their_n`. All of this in our unit, or of logarithms.
    """

    difference: float
    variance: float | None
    n: int
    theirs: float | None
    their_n: int
    margin: Margin
    least: int
    """So many of ours it takes for a verdict."""

    @cached_property
    def _error(self) -> tuple[float, float] | None:
        if self.n < self.least or self.variance is None:
            return None
        return error(self.variance, self.n, self.theirs, self.their_n)

    def interval(self, level: float) -> tuple[float, float] | None:
        """Of the difference; None where we have too few numbers."""
        if self._error is None:
            return None
        half = student((1 + level) / 2, self._error[1]) * self._error[0]
        return self.difference - half, self.difference + half

    @cached_property
    def verdict(self) -> Verdict:
        """agrees: the 90 % interval lies within the margin. differs: the 95 % interval leaves out 0 and does not lie
        within it. open: neither."""
        inner, outer, bound = self.interval(2 * LEVEL - 1), self.interval(LEVEL), self.margin.bound
        if inner is None or outer is None:
            return "open"
        if -bound < inner[0] and inner[1] < bound:
            return "agrees"
        if outer[0] > 0 or outer[1] < 0:
            return "differs"
        return "open"

    @cached_property
    def needed(self) -> int | None:
        """How many numbers of ours decide, see `needed`; None where none do, or our spread is not known."""
        if self.variance is None:
            return None
        return needed(self.variance, self.theirs, self.their_n, self.margin, self.least)


def judge(ours: Side, theirs: Side, margin: Margin, least: int = LEAST) -> Judgement:
    """Our mean against a published one. Where no spread stands beside theirs, ours is taken for both.

    Args:
        least: so many of our numbers it takes.
    """
    means = [max(side.mean, margin.floor) if margin.factor else side.mean for side in (ours, theirs)]
    difference = math.log(means[0] / means[1]) if margin.factor else means[0] - means[1]
    scale = [1 / mean if margin.factor else 1.0 for mean in means]
    variance = None if ours.std is None else (ours.std * scale[0]) ** 2
    other = None if theirs.std is None else (theirs.std * scale[1]) ** 2 / theirs.n
    return Judgement(difference, variance, ours.n, other, theirs.n, margin, least)


def needed(variance: float, theirs: float | None, their_n: int, margin: Margin, least: int = LEAST) -> int | None:
    """How many numbers of ours show with the power `POWER` that there is no difference where there is none; None where
    no number up to `MOST` does, because theirs moves too much."""
    for n in range(least, MOST + 1):
        if power(*error(variance, n, theirs, their_n), margin.bound) >= POWER:
            return n
    return None


def error(variance: float, n: int, theirs: float | None, their_n: int) -> tuple[float, float]:
    """The standard error of a difference and its degrees of freedom (Welch and Satterthwaite's).

    Args:
        variance: of one of our n numbers. theirs: of their mean; None: variance / their_n.
    """
    own = variance / n
    if theirs is None:
        return math.sqrt(own + variance / their_n), n - 1
    total = own + theirs
    if not total:
        return 0.0, n - 1
    # One number of theirs says nothing of its freedom; ours stands for it.
    parts = own**2 / (n - 1) + (theirs**2 / (their_n - 1) if their_n > 1 else theirs**2 / (n - 1))
    return math.sqrt(total), total**2 / parts


def power(error: float, freedom: float, bound: float) -> float:
    """How often two equal means are shown to agree: that the 90 % interval lies within `bound` of 0."""
    from scipy.special import ndtr

    if not error:
        return 1.0
    reach = bound / error - student(LEVEL, freedom)
    return max(0.0, 2 * float(ndtr(reach)) - 1)


# -------------------------------------------------------------------------------------------------- a table as a whole


@dataclass(frozen=True)
class Whole:
    """What a table says as a whole, over the cells that have both numbers.

    bias: the mean of the differences, with its 95 % interval over cells. rmse: the root of their mean square. Both in
    our unit, or of logarithms. orders: Kendall's tau-b by dataset. tau, p: over all datasets, of pairs of methods on
    one dataset; p of so high a tau where the orders have nothing in common.
    """

    cells: int
    bias: float
    low: float | None
    high: float | None
    rmse: float
    orders: Mapping[str, float]
    tau: float | None
    p: float | None


def whole(differences: Sequence[float], pairs: Mapping[str, Sequence[tuple[float, float]]]) -> Whole | None:
    """None where there is no cell.

    Args:
        differences: of all cells. pairs: by dataset, ours and theirs of each method.
    """
    n = len(differences)
    if not n:
        return None
    mean = fmean(differences)
    rmse = math.sqrt(sum(d * d for d in differences) / n)
    low = high = None
    if n > 2:
        half = student((1 + LEVEL) / 2, n - 1) * standard_error(stdev(differences), n, 0.0)
        low, high = mean - half, mean + half
    tau, p = _over(list(pairs.values()))
    orders = {name: _tau(one) for name, one in pairs.items() if len(one) > 2 and _told(one)}
    return Whole(n, mean, low, high, rmse, orders, tau, p)


def _told(pairs: Sequence[tuple[float, float]]) -> bool:
    return all(len({pair[side] for pair in pairs}) > 1 for side in (0, 1))


def _tau(pairs: Sequence[tuple[float, float]]) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(*zip(*pairs, strict=True)).statistic)


def _over(sets: Sequence[Sequence[tuple[float, float]]]) -> tuple[float | None, float | None]:
    """Tau over the pairs of methods on one dataset, and how seldom shuffled orders come to as much (normal, without
    ties: Kendall, Rank Correlation Methods, 1948)."""
    from scipy.special import ndtr

    told = [one for one in sets if len(one) > 1]
    pairs = sum(len(one) * (len(one) - 1) // 2 for one in told)
    if pairs < 3:
        return None, None
    score = sum(
        _sign(a[0] - b[0]) * _sign(a[1] - b[1]) for one in told for i, a in enumerate(one) for b in one[i + 1 :]
    )
    variance = sum(len(one) * (len(one) - 1) * (2 * len(one) + 5) / 18 for one in told)
    return score / pairs, float(ndtr(-(score - 1) / math.sqrt(variance)))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
