"""What the answers to single graphs say of the difference of two operators on one dataset.

An observation is a graph that a training tested: right (1) or wrong (0), or another number. Two operators are compared
on the observations that both have, trained on the same parts and tested on the same graphs:

    d_gt = delta + a_g + b_t + e_gt

a_g is what a graph has for one of the two (graph x operator): another training on these graphs shows it again. b_t is
the training's: its fold, its initialisation. e_gt is the rest. The mean of d has the variance

    var(a) / graphs + var(b) / trainings + var(e) / observations,

so that repeats of a cross-validation average the training's noise out, and never the graphs'. It is estimated without
fitting a model, from sums of residuals by graph and by training (clustering in two ways: Cameron, Gelbach and Miller,
Journal of Business & Economic Statistics 29, 2011):

    V = sum_g r_g^2 + max(0, sum_t r_t^2 - sum_gt r_gt^2),   r = (d - delta) / observations.

The second term, the trainings', is next to unknown for one pair of ten trainings. So its share of the first is not
taken to be less than it is for the median of the operators that are compared with the same one on the dataset.

What is averaged over is stated with each number: `Difference.low` and `high` are about graphs like these and trainings
like these; `new_low` and `new_high` about one more training of both on another training set of this size, for which
var(b) is not estimated but foreseen (`_foreseen`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poolbench.statistics.families import ENOUGH, Difference, Family
from poolbench.statistics.runs import LEVEL, POWER, student

DRAWS = 20_000
"""Of the least p of several tests, for the simultaneous intervals."""


Places = tuple[np.ndarray, np.ndarray]
"""Numbers, ascending, and of each observation the place of its own among them."""


def _places(numbers: np.ndarray) -> Places:
    """`np.unique` with its inverse, without a sort where the largest number is not far above how many there are."""
    if len(numbers) and int(numbers.min()) >= 0 and int(numbers.max()) < 64 * len(numbers):
        found = np.flatnonzero(np.bincount(numbers))
        place = np.zeros(int(found[-1]) + 1, dtype=np.int64)
        place[found] = np.arange(len(found))
        return found, place[numbers]
    found, place = np.unique(numbers, return_inverse=True)
    return found, place


@dataclass(frozen=True)
class Answers:
    """The observations of one operator.

    graph, training: [m] numbers, each pair of them once. value: [m], 1 for a right answer and 0 for a wrong one.
    """

    graph: np.ndarray
    training: np.ndarray
    value: np.ndarray

    @cached_property
    def places(self) -> tuple[Places, Places]:
        """Of graphs and of trainings."""
        return _places(self.graph), _places(self.training)

    def __post_init__(self) -> None:
        if not len(self.graph) == len(self.training) == len(self.value):
            raise ValueError("graphs, trainings and values must be as many")

    @cached_property
    def keys(self) -> np.ndarray:
        """One number for each observation, the same in all operators: [m]."""
        return self.training.astype(np.int64) * (1 << 40) + self.graph.astype(np.int64)


@dataclass(frozen=True)
class _Sums:
    """Residuals r. graph, training: summed by each, in the order of `numbers`. cell: the sum of their squares."""

    mean: float
    graph: np.ndarray
    training: np.ndarray
    cell: float
    graphs: int
    trainings: int
    observations: int
    numbers: tuple[np.ndarray, np.ndarray]

    @property
    def by_graph(self) -> float:
        return float((self.graph**2).sum()) * _unbiased(self.graphs)

    @property
    def by_training(self) -> float:
        return float((self.training**2).sum()) * _unbiased(self.trainings)

    @property
    def extra(self) -> float:
        return self.by_training - self.cell * _unbiased(self.observations)


def _unbiased(n: int) -> float:
    return n / (n - 1) if n > 1 else 1.0


def against(operators: Mapping[str, Answers], baseline: Answers, level: float = LEVEL, seed: int = 0) -> Family:
    """Each operator against the baseline, over the observations that both have.

    Args:
        seed: of the draws for the simultaneous intervals.
    """
    sums = {name: found for name, one in operators.items() if (found := _sums(one, baseline)) is not None}
    known = [n for n, s in sums.items() if s.trainings >= ENOUGH and s.by_graph > 0]
    shares = sorted(sums[n].extra / sums[n].by_graph for n in known)
    share = max(0.0, shares[(len(shares) - 1) // 2]) if shares else 0.0
    extra = {n: max(share * sums[n].by_graph, sums[n].extra) for n in known}
    covariance = _covariance([sums[n] for n in known], [extra[n] for n in known])
    freedom = {n: _freedom(sums[n], extra[n], len(known)) for n in known}
    least = _least(covariance, seed) if known else np.ones(1)
    alpha = 1 - level if len(known) == 1 else float(np.quantile(least, 1 - level))
    made = {}
    for name, s in sums.items():
        plain = Difference(s.mean, s.graphs, s.trainings, s.observations)
        made[name] = plain if name not in extra else _known(plain, s, extra[name], freedom[name], alpha, least, level)
    return Family(made, tuple(known), covariance, alpha if known else None)


def _sums(a: Answers, b: Answers) -> _Sums | None:
    """None where no observation is in both."""
    if np.array_equal(a.keys, b.keys):
        d, (graphs, trainings) = a.value - b.value, b.places
    else:
        _, first, second = np.intersect1d(a.keys, b.keys, assume_unique=True, return_indices=True)
        d = a.value[first] - b.value[second]
        graphs, trainings = _places(a.graph[first]), _places(a.training[first])
    if not len(d):
        return None
    r = (d - d.mean()) / len(d)
    return _Sums(float(d.mean()), np.bincount(graphs[1], r), np.bincount(trainings[1], r), float((r**2).sum()),
                 len(graphs[0]), len(trainings[0]), len(d), (graphs[0], trainings[0]))  # fmt: skip


def _covariance(sums: Sequence[_Sums], extra: Sequence[float]) -> np.ndarray:
    """Of the mean differences: what they share is the baseline, graph by graph and training by training."""
    parts = []
    for which in (0, 1):
        numbers = [s.numbers[which] for s in sums]
        every = np.unique(np.concatenate(numbers)) if numbers else np.zeros(0)
        table = np.zeros((len(sums), len(every)))
        for row, s, own in zip(table, sums, numbers, strict=True):
            row[np.searchsorted(every, own)] = s.graph if which == 0 else s.training
        parts.append(table @ table.T * _unbiased(len(every)))
    graph, training = parts
    if not len(sums):
        return graph
    # The trainings' part is scaled to the variances that are taken for it; its correlations are the sums' own.
    spread = np.sqrt(np.clip(np.diag(training), 1e-300, None))
    share = np.sqrt(np.array(extra))
    made = graph + training / np.outer(spread, spread) * np.outer(share, share)
    exact = np.array([s.by_graph + e for s, e in zip(sums, extra, strict=True)])
    scale = np.sqrt(exact / np.diag(made))
    return made * np.outer(scale, scale)


def _freedom(s: _Sums, extra: float, operators: int) -> float:
    """Satterthwaite's degrees of freedom; the trainings' variance is known from all operators together."""
    total = s.by_graph + extra
    trainings = (s.trainings - 1) * (1 + 0.5 * (operators - 1) if extra > s.extra else 1)
    return total**2 / (s.by_graph**2 / max(s.graphs - 1, 1) + extra**2 / trainings)


def _least(covariance: np.ndarray, seed: int) -> np.ndarray:
    """Draws of the least of the two-sided p of correlated tests of which no one has anything to find, ascending.

    Each test has its own degrees of freedom; their p are alike for all that, and hang together as normals do.
    """
    from scipy.special import ndtr

    scale = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    z = np.random.Generator(np.random.Philox(seed)).standard_normal((DRAWS, len(covariance))) @ root.T
    return np.sort(2 * ndtr(-np.abs(z).max(1)))


def _corrected(t: float, freedom: float, least: np.ndarray, alpha: float, level: float) -> float:
    """p for all tests of the family at once. Where draws are few, Bonferroni's bound with as many tests as they do."""
    from scipy.special import stdtr

    p = 2 * float(stdtr(freedom, -t))
    tests = (1 - level) / alpha
    drawn = float(np.searchsorted(least, p, side="right")) / len(least)
    return min(1.0, p if tests == 1 else drawn if drawn * len(least) >= 100 else max(drawn, tests * p))


def _foreseen(s: _Sums) -> float:
    """The variance of the next training: as likely too small as too large, where the estimate often is 0 by chance.

    The sum by training, with n = trainings - 1, is distributed as v chi^2_n / n, where v = var(b) / trainings + cell.
    This is the posterior's median, the prior being 1 / v above `cell`.
    """
    from scipy.special import gammainc, gammaincinv

    half, cell = (s.trainings - 1) / 2, s.cell * _unbiased(s.observations)
    most = half * s.by_training / cell
    inside = float(gammaincinv(half, 0.5 * gammainc(half, most)))
    # None of the chi^2 is as small as that: the sum is far below what the cells alone make of it.
    return max(0.0, half * s.by_training / inside - cell) * s.trainings if inside > 0 else 0.0


def _known(
    plain: Difference, s: _Sums, extra: float, freedom: float, alpha: float, least: np.ndarray, level: float
) -> Difference:
    d, error = plain.difference, math.sqrt(s.by_graph + extra)
    own, critical = student((1 + level) / 2, freedom), student(1 - alpha / 2, freedom)
    training, repeats = extra * s.trainings, s.observations / s.graphs
    graph = None
    if repeats > 1.5:  # of graphs that were tested more than once
        graph = max(0.0, (s.by_graph - s.cell) * s.graphs * repeats / (repeats - 1))
    rest = max(0.0, s.cell * s.observations - (graph or 0.0) - training)
    ahead = max(training, _foreseen(s))
    new = math.sqrt(error**2 + ahead)
    further = student((1 + level) / 2, _freedom(s, extra + ahead, 1))
    beyond = student(POWER, freedom)
    return Difference(
        d, plain.graphs, plain.trainings, plain.observations, error, freedom,
        low=d - own * error, high=d + own * error, joint_low=d - critical * error, joint_high=d + critical * error,
        new_low=d - further * new, new_high=d + further * new,
        p=_corrected(abs(d) / error, freedom, least, alpha, level),
        detectable=(own + beyond) * error, joint_detectable=(critical + beyond) * error,
        by_graph=None if graph is None else math.sqrt(graph), by_training=math.sqrt(training), rest=math.sqrt(rest),
    )  # fmt: skip
