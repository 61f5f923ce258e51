"""The model over datasets: its limits in closed form, a brute-force integral, and what its decisions promise."""

from __future__ import annotations

import numpy as np
import pytest

from poolbench.statistics.datasets import LEAST, SCALES, Mean, Measured, Posterior, over


def measured(values: list[list[float]], error: float = 0.01, names: str = "ab") -> list[Measured]:
    """A dataset for each list; differences share the baseline, so half of their variance."""
    n = len(names)
    covariance = error**2 / 2 * (np.eye(n) + np.ones((n, n)))
    return [Measured(tuple(names), np.array(v), covariance) for v in values]


def test_datasets_that_agree_are_averaged_by_their_errors() -> None:
    sets = measured([[0.02, 0.0]]) + measured([[0.02, 0.0]], 0.02) + measured([[0.02, 0.0]], 0.005)
    made = over(sets, 1e-4)  # next to no spread
    precision = 1 / 0.01**2 + 1 / 0.02**2 + 1 / 0.005**2
    for mean, want in zip(made.means, (0.02, 0.0), strict=True):
        assert mean.mean.expected == pytest.approx(want, abs=1e-9)
        low, high = mean.mean.interval()
        assert (high - low) / 2 == pytest.approx(1.96 / np.sqrt(precision), rel=0.01)


def test_one_operator_is_the_textbooks_integral() -> None:
    """Brute force over mu and tau, both on a grid (Gelman et al., section 5.4)."""
    y, error, scale = np.array([0.03, -0.01, 0.02, 0.05]), np.array([0.01, 0.02, 0.01, 0.015]), 0.02
    made = over([Measured(("a",), v[None], np.array([[e**2]])) for v, e in zip(y, error, strict=True)], scale)
    mu, tau = np.linspace(-0.3, 0.3, 3001), np.linspace(1e-6, 0.2, 1500)
    log = -0.5 * (tau / scale) ** 2 + np.zeros((3001, 1500))
    for v, e in zip(y, error, strict=True):
        variance = e**2 + tau**2
        log -= 0.5 * np.log(variance) + 0.5 * (v - mu[:, None]) ** 2 / variance
    weight = np.exp(log - log.max())
    over_mu = weight.sum(1) / weight.sum()
    (mean,) = made.means
    assert mean.mean.expected == pytest.approx(float(over_mu @ mu), abs=1e-5)
    assert mean.mean.below(0.0) == pytest.approx(float(over_mu[mu < 0].sum()), abs=2e-3)
    assert mean.mean.interval()[0] == pytest.approx(float(mu[np.searchsorted(over_mu.cumsum(), 0.025)]), abs=3e-4)
    assert made.spread == pytest.approx(
        float(tau[np.searchsorted((weight.sum(0) / weight.sum()).cumsum(), 0.5)]), abs=3e-4
    )


def test_what_differs_from_set_to_set_widens_the_mean_and_the_next_more() -> None:
    calm, wild = over(measured([[0.02, 0.0]] * 5)), over(measured([[x, 0.0] for x in (-0.04, 0.08, 0.02, -0.02, 0.06)]))
    assert wild.spread > 0.03 and calm.spread < 0.012
    (one, _), (other, _) = calm.means, wild.means
    assert other.mean.quantile(0.975) - other.mean.quantile(0.025) > 2 * (
        one.mean.interval()[1] - one.mean.interval()[0]
    )
    assert other.next.quantile(0.975) > other.mean.quantile(0.975)


def test_an_operator_that_is_missing_somewhere_has_its_own_count() -> None:
    sets = [*measured([[0.02, 0.01]] * 3), *measured([[0.02]], names="a")]
    a, b = over(sets).means
    assert (a.name, a.datasets, b.datasets) == ("a", 4, 3)


@pytest.mark.parametrize(
    ("mean", "deviation", "decision"),
    [(0.03, 0.005, "better"), (-0.03, 0.005, "worse"), (0.0, 0.004, "equivalent"), (0.01, 0.004, "undecided"),
     (0.0, 0.03, "undecided")],
)  # fmt: skip
def test_decisions(mean: float, deviation: float, decision: str) -> None:
    posterior = Posterior(np.ones(1), np.array([mean]), np.array([deviation]))
    assert Mean("a", LEAST, posterior, posterior).decision(0.01) == decision
    assert Mean("a", LEAST - 1, posterior, posterior).decision(0.01) == "undecided"
    assert sum(posterior.within(0.01)) == pytest.approx(1.0)


def normal(mean: float, deviation: float) -> Posterior:
    return Posterior(np.ones(1), np.array([mean]), np.array([deviation]))


@pytest.mark.parametrize(("mean", "region", "decision"), [(0.01, 0.02, "equivalent"), (-0.04, 0.02, "worse")])
def test_the_datasets_that_are_wanted_decide_in_four_cases_of_five(mean: float, region: float, decision: str) -> None:
    deviation, datasets = 0.012, 5
    wanted = Mean("a", datasets, normal(mean, deviation), normal(mean, deviation)).wanted(region)
    then = deviation * np.sqrt(datasets / wanted)
    seen = np.random.default_rng(0).normal(mean, then, 4000)
    decided = np.mean([Mean("a", wanted, normal(x, then), normal(x, then)).decision(region) == decision for x in seen])
    assert wanted > datasets and decided == pytest.approx(0.8, abs=0.03)


def test_no_number_of_datasets_decides_what_lies_at_the_bound() -> None:
    assert Mean("a", 5, normal(0.02, 0.01), normal(0.02, 0.01)).wanted(0.02) >= 10**6


def test_a_mixture_is_as_wide_as_its_draws() -> None:
    one = Posterior(np.array([0.3, 0.7]), np.array([0.0, 0.05]), np.array([0.01, 0.02]))
    rng = np.random.default_rng(0)
    which = rng.random(200_000) < 0.7
    drawn = np.where(which, rng.normal(0.05, 0.02, 200_000), rng.normal(0.0, 0.01, 200_000))
    assert one.spread == pytest.approx(drawn.std(), rel=0.01)


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one dataset"):
        over([])


def test_decisions_keep_their_promise() -> None:
    """Six datasets, eight operators, spreads of 0, 1 and 2 points.

    One at the bound of a point is called better, and one at that of two equivalent, in one case of twenty; intervals
    cover; what is five points better is found.
    """
    generator, names = np.random.default_rng(2), tuple("abcdefgh")
    true = np.array([0.01, 0.01, 0.01, -0.02, -0.02, -0.02, 0.0, 0.05])
    shared = (np.eye(8) + np.ones((8, 8))) / 2
    covered, better, same, found = [], [], [], []
    for spread in (0.0, 0.01, 0.02) * 40:
        sets = []
        for error in (0.006, 0.008, 0.008, 0.01, 0.01, 0.013):
            y = generator.multivariate_normal(true, (spread**2 + error**2) * shared)
            sets.append(Measured(names, y, error**2 * shared))
        means = over(sets).means
        covered += [m.mean.interval()[0] <= t <= m.mean.interval()[1] for m, t in zip(means, true, strict=True)]
        better += [m.decision(0.01) == "better" for m in means[:3]]
        same += [m.decision(0.02) == "equivalent" for m in means[3:6]]
        found.append(means[7].decision(0.01) == "better")
    assert 0.93 < np.mean(covered) < 0.98
    assert np.mean(better) < 0.09 and np.mean(same) < 0.09
    assert np.mean(found) > 0.95


def test_the_priors_are_fixed() -> None:
    assert SCALES == (0.01, 0.02, 0.04)
