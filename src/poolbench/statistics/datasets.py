"""What differences on several datasets say of the next one: a hierarchical model, integrated exactly.

On dataset s the operators of `Measured` differ from the same baseline by y_s, with the covariance C_s:

    y_s = mu + theta_s + e_s,    e_s ~ N(0, C_s),    theta_s ~ N(0, tau^2 / 2 (I + J))

mu is an operator's mean difference over datasets like these, theta_s what the dataset adds: tau is the spread of a
difference from dataset to dataset, one for all operators. (I + J) / 2, as both operators of a difference have a part
of their own in it and the baseline's is shared. mu has a flat prior, tau a half-normal one whose scale is fixed
beforehand; results are shown under three (`SCALES`), since five or eight datasets hardly know it.

Given tau all is normal, so that a sum over a fine grid of tau is the whole posterior: no sampler is needed, and none
can fail to converge. (Gelman et al., Bayesian Data Analysis, 3rd edition, 2013, section 5.4; the region of practical
equivalence and its decisions: Benavoli et al., JMLR 18, 2017.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from poolbench.statistics.runs import LEVEL, POWER

SCALES = (0.01, 0.02, 0.04)
"""Of the prior of tau: 1, 2 and 4 points. The middle one is what is decided by."""

REGIONS = (0.01, 0.02)
"""Mean differences within one point, or two, count as none."""

LEAST = 3
"""Fewer datasets than this say nothing of others."""

_STEPS = 240

Decision = Literal["better", "equivalent", "worse", "undecided"]


@dataclass(frozen=True)
class Measured:
    """Differences on one dataset. names: [n] of the operators. difference: [n]. covariance: [n, n]."""

    names: tuple[str, ...]
    difference: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Posterior:
    """A mixture of normals, one for each tau. weight, mean, deviation: [t]."""

    weight: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def below(self, value: float) -> float:
        """The probability that it is less than `value`."""
        from scipy.special import ndtr

        return float(self.weight @ ndtr((value - self.mean) / self.deviation))

    @property
    def expected(self) -> float:
        return float(self.weight @ self.mean)

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return math.sqrt(float(self.weight @ (self.deviation**2 + self.mean**2)) - self.expected**2)

    def quantile(self, p: float) -> float:
        low, high = ((self.mean + sign * 12 * self.deviation) for sign in (-1, 1))
        a, b = float(low.min()), float(high.max())
        for _ in range(80):
            middle = (a + b) / 2
            a, b = (middle, b) if self.below(middle) < p else (a, middle)
        return (a + b) / 2

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def within(self, region: float) -> tuple[float, float, float]:
        """Probabilities that it is below -region, within +- region, above it."""
        worse, better = self.below(-region), 1 - self.below(region)
        return worse, max(0.0, 1 - worse - better), better


@dataclass(frozen=True)
class Mean:
    """One operator over datasets like those measured. next: of its difference on one more such dataset."""

    name: str
    datasets: int
    mean: Posterior
    next: Posterior

    def decision(self, region: float, level: float = LEVEL) -> Decision:
        """What has at least the probability `level`."""
        worse, same, better = self.mean.within(region)
        if self.datasets < LEAST:
            return "undecided"
        for name, p in (("better", better), ("equivalent", same), ("worse", worse)):
            if p >= level:
                return name  # type: ignore[return-value]
        return "undecided"

    def wanted(self, region: float, level: float = LEVEL, power: float = POWER) -> int:
        """About how many datasets like these decide with probability `power`, were the mean what it is estimated at:
        the posterior's spread is taken to go by one over the root of their number."""
        from scipy.special import ndtri

        room = abs(abs(self.mean.expected) - region)
        parts = float(ndtri(level) + ndtri(power)) * self.mean.spread / room if room else math.inf
        return max(LEAST, math.ceil(self.datasets * parts**2)) if parts < 1e3 else 10**6 * self.datasets


@dataclass(frozen=True)
class Over:
    """All operators, and the spread. tau, weight: [t], its posterior on a grid."""

    means: tuple[Mean, ...]
    tau: np.ndarray
    weight: np.ndarray
    scale: float

    @property
    def spread(self) -> float:
        """The posterior's median of tau."""
        return float(self.tau[np.searchsorted(self.weight.cumsum(), 0.5)])


def over(measured: Sequence[Measured], scale: float = SCALES[1]) -> Over:
    """The posterior of every operator's mean difference.

    Args:
        measured: one a dataset, at least one. An operator may be missing on some.
        scale: of the half-normal prior of tau, in the unit of the differences.
    """
    if not measured or scale <= 0:
        raise ValueError("at least one dataset and a positive scale are expected")
    names = tuple(dict.fromkeys(name for one in measured for name in one.names))
    places = [np.array([names.index(name) for name in one.names]) for one in measured]
    # The grid is finer where tau is small: roots of it are even, up to where prior or data leave nothing.
    widest = max(6 * scale, 3 * max(float(np.abs(one.difference).max()) for one in measured))
    tau = widest * ((np.arange(_STEPS) + 0.5) / _STEPS) ** 2
    log, found, variance = _given(measured, places, len(names), tau)
    posterior = log - 0.5 * (tau / scale) ** 2
    weight = np.exp(posterior - posterior.max()) * np.sqrt(tau)  # by the grid's own width
    weight /= weight.sum()
    variance = np.clip(variance, 1e-18, None)
    counts = [sum(name in one.names for one in measured) for name in names]
    made = tuple(
        Mean(name, counts[i], Posterior(weight, found[:, i], np.sqrt(variance[:, i])),
             Posterior(weight, found[:, i], np.sqrt(variance[:, i] + tau**2)))
        for i, name in enumerate(names)
    )  # fmt: skip
    return Over(made, tau, weight, scale)


def _given(
    measured: Sequence[Measured], places: Sequence[np.ndarray], n: int, tau: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each tau: the log of the likelihood with mu integrated out [t], and mu's mean and variances [t, n]."""
    t = len(tau)
    precision, right, log, square = np.zeros((t, n, n)), np.zeros((t, n)), np.zeros(t), np.zeros(t)
    for one, place in zip(measured, places, strict=True):
        k = len(place)
        v = one.covariance + 0.5 * tau[:, None, None] ** 2 * (np.eye(k) + np.ones((k, k)))
        inverse = np.linalg.inv(v)
        precision[:, place[:, None], place] += inverse
        told = inverse @ one.difference
        right[:, place] += told
        log -= 0.5 * np.linalg.slogdet(v)[1]
        square += told @ one.difference
    covariance = np.linalg.inv(precision)
    mean = (covariance @ right[:, :, None])[:, :, 0]
    log += 0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * (square - (right * mean).sum(1))
    return log, mean, np.diagonal(covariance, axis1=1, axis2=2)
