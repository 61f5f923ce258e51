"""What a handful of runs can and cannot show (design section 7).

Runs on resampled splits, hold-out or folds, train on mostly the same graphs, so their scores are not independent and
the plain variance of a mean is too small. Test, interval and detectable difference all use the corrected resampled
variance

    (1/n + n_test/n_train) s^2

of Nadeau & Bengio (Machine Learning 52, 2003, eq. 9; for repeated cross-validation: Bouckaert & Frank, PAKDD 2004).
`test_over_train` is that ratio of graphs; 0 says that the runs are independent, as with seeds on one fixed split.

Scores are plain numbers, one a unit (a split, or a seed where the split is fixed); two arrays that are compared are
aligned, unit by unit. What a sample cannot say is None: the spread of a single value, or of values that are all equal.
A handful of scores of a small test split are often equal by chance, and that must not pass for certainty.

Distributions are `scipy.special`'s functions, to the bit those of `scipy.stats`, which takes three times as long to
load and is asked for ranks alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from poolbench.loading import loading
from poolbench.statistics.families import ENOUGH, Difference, Family

LEVEL = 0.95
"""Of confidence intervals; 1 - LEVEL is the level of tests."""

POWER = 0.8
"""At which the minimal detectable difference is stated."""

TIED = 9
"""Decimals beyond which scores that are ranked are alike: what is left is the order of a sum."""

MARGIN = 0.03
"""Two accuracies closer than this count as equal: three points."""

Scores = Sequence[float] | np.ndarray


def _checked(values: Scores, name: str = "values") -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} must be a non-empty list of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: leave failed runs out, and count them")
    return array


def _standard_deviation(values: np.ndarray) -> float | None:
    """Sample standard deviation; None for one value, 0 for values equal up to rounding."""
    if values.size < 2:
        return None
    spread = float(values.std(ddof=1))
    return spread if spread > 1e-12 * max(1.0, float(np.abs(values).max())) else 0.0


def standard_error(std: float, n: int, test_over_train: float) -> float:
    """Root of the corrected resampled variance of a mean over n units, or of a mean paired difference."""
    if test_over_train < 0:
        raise ValueError(f"test_over_train must not be negative, got {test_over_train}")
    return math.sqrt(1 / n + test_over_train) * std


# ------------------------------------------------------------------------------------------------- means and intervals


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval; what n units cannot say is None."""

    mean: float
    std: float | None
    n: int
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def estimate(values: Scores, test_over_train: float, level: float = LEVEL) -> Estimate:
    """Mean, standard deviation and confidence interval (t, n - 1 degrees of freedom) of scores, one a unit."""
    array = _checked(values)
    n, mean, std = array.size, float(array.mean()), _standard_deviation(array)
    if not std:
        return Estimate(mean, std, n, None, None)
    half = student((1 + level) / 2, n - 1) * standard_error(std, n, test_over_train)
    return Estimate(mean, std, n, mean - half, mean + half)


@cache
def student(p: float, freedom: float) -> float:
    """Student's t below which the share p lies."""
    with loading():
        from scipy.special import stdtrit

    return float(stdtrit(freedom, p))


# -------------------------------------------------------------------------------------------------- paired comparisons


@dataclass(frozen=True)
class Comparison:
    """Mean of the paired differences a - b, its interval, and the corrected resampled t test that it is 0."""

    difference: float
    std: float | None
    n: int
    low: float | None
    high: float | None
    t: float | None
    p: float | None


def compare(a: Scores, b: Scores, test_over_train: float, level: float = LEVEL) -> Comparison:
    """The corrected resampled t test of paired scores (Nadeau & Bengio, 2003, section 3).

    Args:
        a, b: [n], scores of two settings on the same n units, in the same order.
    """
    from scipy.special import stdtr

    first, second = _checked(a, "a"), _checked(b, "b")
    if first.shape != second.shape:
        raise ValueError(f"paired scores must be as many, got {first.size} and {second.size}")
    differences = first - second
    found = estimate(differences, test_over_train, level)
    if not found.std:
        return Comparison(found.mean, found.std, found.n, None, None, None, None)
    statistic = found.mean / standard_error(found.std, found.n, test_over_train)
    p = 2 * float(stdtr(found.n - 1, -abs(statistic)))
    return Comparison(found.mean, found.std, found.n, found.low, found.high, statistic, p)


def detectable_difference(
    std: float, n: int, test_over_train: float, alpha: float = 1 - LEVEL, power: float = POWER
) -> float:
    """The true difference that a two-sided paired test of n units at level `alpha` finds with probability `power`.

    Args:
        std: standard deviation of the paired differences.
    """
    if n < 2:
        raise ValueError("one unit detects no difference, however large")
    return _noncentrality(n - 1, alpha, power) * standard_error(std, n, test_over_train)


@cache
def _noncentrality(freedom: int, alpha: float, power: float) -> float:
    """That of the t distribution of which the share `power` is significant, two-sided at level `alpha`."""
    with loading():
        from scipy.optimize import brentq
        from scipy.special import nctdtr

    critical = student(1 - alpha / 2, freedom)

    def missing(shift: float) -> float:
        # A significant difference of the wrong sign is no finding; at such a power it next to never happens. What lies
        # above `critical` lies below -critical in the mirror.
        return float(nctdtr(freedom, -shift, -critical)) - power

    upper = 1.0
    while missing(upper) < 0:
        upper *= 2
    return float(brentq(missing, 0.0, upper))


def against(
    operators: Mapping[str, Mapping[Any, float]],
    baseline: Mapping[Any, float],
    test_over_train: Mapping[str, float],
    level: float = LEVEL,
) -> Family:
    """Each operator against the baseline by the corrected resampled t test, over the units that both have.

    Intervals for all at once, and p, are corrected after Bonferroni, whatever hangs together. The covariance is for
    what goes on from here: variances are those of a t, nu / (nu - 2) times as large as if they were known, and between
    two operators there is a correlation of one half, as the baseline's part is in both: ten runs tell no better one.

    Args:
        operators: scores by unit (split, draw or seed), by name. test_over_train: by name.
    """
    units = {name: [unit for unit in scores if unit in baseline] for name, scores in operators.items()}
    pairs = {
        name: (_checked([operators[name][unit] for unit in found]), _checked([baseline[unit] for unit in found]))
        for name, found in units.items()
        if found
    }
    spread = {name: _standard_deviation(a - b) for name, (a, b) in pairs.items()}
    known = tuple(name for name, (a, _) in pairs.items() if len(a) >= ENOUGH and spread[name])
    alpha = (1 - level) / len(known) if known else None
    made, errors = {}, []
    for name, (a, b) in pairs.items():
        n, difference, std = len(a), float((a - b).mean()), spread[name]
        plain = Difference(difference, None, n, n)
        if name in known and std and alpha:
            plain = _known(plain, std, test_over_train[name], level, alpha)
            errors.append(standard_error(std, n, test_over_train[name]) * math.sqrt((n - 1) / (n - 3)))
        made[name] = plain
    k = len(known)
    covariance = np.outer(errors, errors) * 0.5 * (np.eye(k) + np.ones((k, k)))
    return Family(made, known, covariance, alpha)


def _known(plain: Difference, std: float, test_over_train: float, level: float, alpha: float) -> Difference:
    from scipy.special import stdtr

    d, n = plain.difference, plain.trainings
    error = standard_error(std, n, test_over_train)
    own, critical = student((1 + level) / 2, n - 1), student(1 - alpha / 2, n - 1)
    p = 2 * float(stdtr(n - 1, -abs(d) / error))
    return dataclasses.replace(
        plain, error=error, freedom=n - 1, low=d - own * error, high=d + own * error,
        joint_low=d - critical * error, joint_high=d + critical * error, p=min(1.0, p * (1 - level) / alpha),
        detectable=detectable_difference(std, n, test_over_train, 1 - level),
        joint_detectable=detectable_difference(std, n, test_over_train, alpha),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- ranks over datasets


@dataclass(frozen=True)
class Ranking:
    """Average ranks over datasets, best first, and what Friedman's and Nemenyi's tests say of them."""

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    datasets: int
    p: float | None
    """Of Friedman's test that all are alike; None for fewer than three names, or where every score is tied."""
    critical_difference: float
    """Average ranks closer than this cannot be told apart (Nemenyi)."""
    p_values: np.ndarray
    """[names, names], Nemenyi's p of each pair; 1 of a name and itself."""
    cliques: tuple[tuple[int, int], ...]
    """(first, last) places of the largest groups within the critical difference, groups of one left out."""


def critical_difference(k: int, n: int, alpha: float = 1 - LEVEL) -> float:
    """Nemenyi's critical difference of average ranks of k methods over n datasets (Demšar, JMLR 7, 2006, 3.2.2)."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))


def _nemenyi(ranks: np.ndarray, n: int) -> np.ndarray:
    """Nemenyi's p [k, k] of each pair of k average ranks over n datasets (ib.).

    Each distance is asked for once: few of them differ, and each is an integral.
    """
    from scipy.stats import studentized_range

    k = len(ranks)
    distances, which = np.unique(np.abs(ranks[:, None] - ranks), return_inverse=True)
    p = studentized_range.sf(distances / np.sqrt(k * (k + 1.0) / (6.0 * n)) * np.sqrt(2.0), k, np.inf)
    return p[which.reshape(k, k)]


def rank(scores: np.ndarray, names: Sequence[str], alpha: float = 1 - LEVEL) -> Ranking:
    """Average ranks with Friedman's test and Nemenyi's critical difference; higher scores are better, equal ones share
    their ranks.

    Args:
        scores: [datasets, names], one score a dataset and name. Datasets are independent units; the splits of one
            dataset are not, and do not belong here.

    Raises:
        ValueError: fewer than two datasets or two names.
    """
    with loading():
        from scipy.stats import friedmanchisquare, rankdata

    table = np.round(np.asarray(scores, dtype=float), TIED)
    n, k = table.shape
    if n < 2 or k < 2 or k != len(names):
        raise ValueError(f"ranks need two datasets and two names at least, got {n} x {k} scores of {len(names)} names")
    average, rising = (rankdata(sign * table, axis=1).mean(axis=0) for sign in (-1, 1))
    order = np.argsort(average, kind="stable")
    all_tied = bool((table == table[:, :1]).all())
    p = None if k < 3 or all_tied else float(friedmanchisquare(*table.T).pvalue)
    ranks = tuple(float(average[i]) for i in order)
    difference, pairs = critical_difference(k, n, alpha), _nemenyi(rising[order], n)
    return Ranking(tuple(names[i] for i in order), ranks, n, p, difference, pairs, _cliques(ranks, difference))


def _cliques(ranks: Sequence[float], difference: float) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for first, best in enumerate(ranks):
        last = max(i for i, worse in enumerate(ranks) if worse - best <= difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)


# ------------------------------------------------------------------------------------------------ are two vectors equal


def hotelling(differences: np.ndarray, resolution: float = 0.0) -> float:
    """T^2 = q m' (S + r^2 I)^-1 m of Hotelling (Annals of Mathematical Statistics 2, 1931), of q paired differences.

    Args:
        differences: [q, p] of two vectors that were measured q times. m is their mean, S their covariance.
        resolution: r, below which a difference is none, such as the rounding of what was computed. With 0 the inverse
            is Moore and Penrose's. Without any spread T^2 is then 0, whatever m.

    NaN where a difference is no finite number.
    """
    if not np.isfinite(differences).all():
        return math.nan
    mean = differences.mean(axis=0)
    centred = differences - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(differences) - 1))
    along = vectors.T @ mean
    zero = values <= values.max() * len(values) * np.finfo(float).eps
    spread = np.where(zero, 0.0, values) + resolution**2
    return float(len(differences) * np.sum(along[spread > 0] ** 2 / spread[spread > 0]))


def hotelling_threshold(q: int, p: int, alpha: float = 1 - LEVEL) -> float:
    """What T^2 of q > p differences of normal vectors of width p, equal on average, exceeds with probability alpha:
    (q - 1) p / (q - p) times the quantile 1 - alpha of F with p and q - p degrees of freedom."""
    with loading():
        from scipy.special import fdtri

    return float((q - 1) * p / (q - p) * fdtri(p, q - p, 1 - alpha))


def told_apart(t2: np.ndarray, threshold: float) -> np.ndarray:
    """[P] of T^2 [P, 2] of P pairs, and of one of each pair against itself: which differ, and reliably so."""
    return (t2[:, 0] > threshold) & (t2[:, 1] <= threshold)
