"""Statistics against published examples, other libraries, and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from poolbench.statistics import (
    compare,
    critical_difference,
    detectable_difference,
    estimate,
    hotelling,
    hotelling_threshold,
    rank,
    told_apart,
)
from poolbench.statistics.datasets import Measured, over
from poolbench.statistics.families import Family
from poolbench.statistics.runs import against

RNG = np.random.default_rng(0)
A, B = RNG.normal(0.75, 0.03, 12), RNG.normal(0.72, 0.03, 12)


# --------------------------------------------------------------------------------------------------- means, intervals


def test_the_interval_is_that_of_nadeau_and_bengio() -> None:
    found = estimate([0.7, 0.8, 0.9], 10 / 80)
    # variance 0.01, t(0.975, 2) = 4.302653
    assert found.half == pytest.approx(4.302653 * np.sqrt((1 / 3 + 1 / 8) * 0.01), rel=1e-6)
    assert (found.mean, found.std, found.n) == (pytest.approx(0.8), pytest.approx(0.1), 3)


def test_independent_runs_have_the_classical_interval_and_test() -> None:
    found, classical = compare(A, B, 0.0), stats.ttest_rel(A, B)
    assert found.p == pytest.approx(classical.pvalue, rel=1e-12)
    assert found.t == pytest.approx(classical.statistic, rel=1e-12)
    interval = classical.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_what_a_sample_cannot_say_is_none() -> None:
    assert estimate([0.5], 0.1).low is None and estimate([0.5], 0.1).std is None
    assert estimate([0.5, 0.5], 0.1).low is None
    # Equal differences (0.1 up to rounding) are no certainty: on a small test split they happen by chance.
    equal = compare([0.8, 0.9, 0.7], [0.7, 0.8, 0.6], 0.1)
    assert equal.p is None and equal.low is None
    assert equal.difference == pytest.approx(0.1)


def test_quantiles_and_p_values_are_scipys_to_the_bit() -> None:
    for n, ratio in itertools.product((2, 3, 10, 57), (0.0, 1 / 8)):
        a, b = np.random.default_rng(n).normal(0.7, 0.05, (2, n))
        found, error = compare(a, b, ratio), np.sqrt(1 / n + ratio) * (a - b).std(ddof=1)
        half = stats.t.ppf(0.975, n - 1) * error
        assert (found.low, found.high) == (found.difference - half, found.difference + half)
        assert found.t == found.difference / error and found.p == 2 * stats.t.sf(abs(found.t), n - 1)


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [[0.5, 0.6]]])
def test_bad_scores_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values"):
        estimate(values, 0.1)


def test_unpaired_scores_and_negative_ratios_are_refused() -> None:
    with pytest.raises(ValueError, match="as many"):
        compare([0.1, 0.2], [0.1], 0.1)
    with pytest.raises(ValueError, match="negative"):
        compare([0.1, 0.2], [0.1, 0.3], -0.1)


# ------------------------------------------------------------------------------------------------------ paired tests


def test_the_published_example_of_scikit_learn() -> None:
    """Its gallery, "Statistical comparison of models using grid search", prints t = 0.750, one-sided p 0.227."""
    from sklearn.datasets import make_moons
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
    from sklearn.svm import SVC

    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    rbf, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), x, y, cv=folds, scoring="roc_auc")
        for kernel in ("rbf", "linear")
    )
    found = compare(rbf, linear, 10 / 90)
    assert found.t == pytest.approx(0.750, abs=5e-4)
    assert found.p is not None and found.p / 2 == pytest.approx(0.227, abs=5e-4)


def overlapping(runs: int, n: int, ratio: float, shift: float, seed: int) -> np.ndarray:
    """Differences as Nadeau and Bengio model them: a part that all splits share, of `ratio` times the variance."""
    rng = np.random.default_rng(seed)
    return shift + rng.normal(0, np.sqrt(ratio), (runs, 1)) + rng.normal(0, 1, (runs, n))


def rejected(differences: np.ndarray, ratio: float) -> float:
    """How often the test finds a difference at the level 0.05."""
    zeros = np.zeros(differences.shape[1])
    return float(np.mean([(compare(d, zeros, ratio).p or 0.0) < 0.05 for d in differences]))


def test_the_test_keeps_its_level_where_the_plain_one_does_not() -> None:
    null = overlapping(800, 10, 1 / 8, 0.0, seed=1)
    assert rejected(null, 1 / 8) == pytest.approx(0.05, abs=0.02)
    assert np.mean(stats.ttest_1samp(null, 0, axis=1).pvalue < 0.05) > 0.1


@pytest.mark.parametrize("n", [3, 10])
def test_the_detectable_difference_is_found_four_times_in_five(n: int) -> None:
    shift = detectable_difference(1.0, n, 1 / 8)
    assert rejected(overlapping(800, n, 1 / 8, shift, seed=2), 1 / 8) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(("n", "alpha"), [(2, 0.05), (5, 0.05), (10, 0.05), (10, 0.05 / 30), (100, 0.01)])
def test_the_detectable_difference_is_that_of_statsmodels(n: int, alpha: float) -> None:
    """By its power, one-sided at half the level: its two-sided one counts significant differences of the wrong sign."""
    power = pytest.importorskip("statsmodels.stats.power").TTestPower()
    found = detectable_difference(2.0, n, 0.0, alpha)
    assert power.power(found / 2.0, n, alpha / 2, alternative="larger") == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(("n", "alpha"), [(2, 0.05), (3, 0.05 / 35), (10, 0.05), (10, 0.05 / 30), (100, 0.01)])
def test_the_detectable_difference_is_where_scipys_t_has_the_power(n: int, alpha: float) -> None:
    shift = detectable_difference(1.0, n, 0.0, alpha) * np.sqrt(n)
    assert stats.nct.sf(stats.t.ppf(1 - alpha / 2, n - 1), n - 1, shift) == pytest.approx(0.8, abs=1e-9)


# ----------------------------------------------------------------------------------------------------------- families


def family(table: np.ndarray, ratio: float) -> Family:
    """Of scores [operators + 1, units]; the first line is the baseline's."""
    first, *others = [dict(enumerate(row)) for row in table]
    names = [f"o{i}" for i in range(len(others))]
    return against(dict(zip(names, others, strict=True)), first, dict.fromkeys(names, ratio))


def test_one_operator_alone_is_the_paired_test() -> None:
    found, alone = family(np.array([B, A]), 0.1).differences["o0"], compare(A, B, 0.1)
    assert (found.difference, found.low, found.high) == pytest.approx((alone.difference, alone.low, alone.high))
    assert (found.joint_low, found.joint_high, found.p) == pytest.approx((alone.low, alone.high, alone.p))
    assert found.graphs is None and found.trainings == 12 and found.detectable == found.joint_detectable


def test_of_several_all_hold_at_once_after_bonferroni() -> None:
    table = np.random.default_rng(3).normal(0.7, 0.05, (6, 10))
    found = family(table, 1 / 8)
    for i, one in enumerate(found.differences.values()):
        d = table[1 + i] - table[0]
        error = np.sqrt(1 / 10 + 1 / 8) * d.std(ddof=1)
        half = stats.t.ppf(1 - 0.05 / 5 / 2, 9) * error
        assert (one.joint_low, one.joint_high) == pytest.approx((d.mean() - half, d.mean() + half))
        assert one.p == pytest.approx(min(1.0, 5 * compare(table[1 + i], table[0], 1 / 8).p or 0.0))
        assert one.joint_detectable == pytest.approx(detectable_difference(d.std(ddof=1), 10, 1 / 8, 0.05 / 5))
        assert found.covariance[i, i] == pytest.approx(error**2 * 9 / 7)
    assert found.covariance[0, 1] == pytest.approx(0.5 * np.sqrt(found.covariance[0, 0] * found.covariance[1, 1]))


def test_units_of_both_alone_and_five_of_them_count() -> None:
    scores = {"few": {0: 0.7, 1: 0.8, 2: 0.9, 3: 0.7, 9: 0.1}, "none": {7: 0.5}, "equal": {i: 0.7 for i in range(6)}}
    found = against(scores, {i: 0.6 for i in range(6)}, dict.fromkeys(scores, 0.1))
    assert set(found.differences) == {"few", "equal"} and found.known == () and found.alpha is None
    few = found.differences["few"]
    assert few.trainings == 4 and few.difference == pytest.approx(0.175) and few.low is None and few.p is None
    assert found.differences["equal"].error is None


def test_families_of_runs_hold_where_no_operator_differs() -> None:
    """Splits that share graphs, operators that share the baseline and what a split has for all."""
    rng, wrong, outside = np.random.default_rng(4), 0, []
    for _ in range(400):
        shared = rng.normal(0, np.sqrt(1 / 8), (9, 1))
        table = shared + rng.normal(0, 1, (9, 10)) + rng.normal(0, 2, 10)
        found = family(table, 1 / 8).differences.values()
        wrong += any(one.joint_low > 0 or one.joint_high < 0 for one in found)
        outside += [one.low > 0 or one.high < 0 for one in found]
    assert wrong / 400 <= 0.06 and np.mean(outside) == pytest.approx(0.05, abs=0.02)


def test_over_datasets_runs_keep_their_level() -> None:
    """Of intervals of the mean over four datasets, by ten runs each, 95 % hold it: whatever the spread."""
    rng = np.random.default_rng(5)
    for spread in (0.0, 0.02):
        inside = []
        for _ in range(100):
            measured = []
            for error in (0.02, 0.03, 0.05, 0.08):
                noise = rng.normal(0, np.sqrt(1 / 8), (7, 1)) + rng.normal(0, 1, (7, 10))
                table = error * noise + rng.normal(0, spread / np.sqrt(2), (7, 1))
                one = family(table, 1 / 8)
                values = np.array([d.difference for d in one.differences.values()])
                measured.append(Measured(one.known, values, one.covariance))
            for mean in over(measured).means:
                low, high = mean.mean.interval()
                inside.append(low <= 0 <= high)
        assert 0.92 <= np.mean(inside) <= 1.0


# -------------------------------------------------------------------------------------------------------------- ranks

#: Demšar (JMLR 7, 2006), table 6: AUC of C4.5 and three variants of it on 14 datasets. The table prints 0.975 twice in
#: the last row but one, and ranks the first of them higher: a digit was rounded away.
DEMSAR = np.array([
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
])  # fmt: skip


def test_ranks_are_those_of_demsar() -> None:
    found = rank(DEMSAR, ["C4.5", "+m", "+cf", "+m+cf"])
    assert dict(zip(found.names, found.ranks, strict=True)) == pytest.approx(
        {"C4.5": 3.143, "+m": 2.000, "+cf": 2.893, "+m+cf": 1.964}, abs=5e-4
    )
    assert found.names == ("+m+cf", "+m", "+cf", "C4.5")
    assert found.critical_difference == pytest.approx(1.25, abs=0.01)
    # 9.28 without a correction for ties; with it a little more.
    assert found.p is not None and 0.01 < found.p < stats.chi2.sf(9.28, 3)
    # 3.143 - 1.964 = 1.18 is within the critical difference: all belong together.
    assert found.cliques == ((0, 3),)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_values_are_those_of_demsars_table(k: int, q: float) -> None:
    assert critical_difference(k, 30) == pytest.approx(q * np.sqrt(k * (k + 1) / 180), rel=1e-3)


def test_nemenyi_and_the_cliques_say_the_same() -> None:
    scores = np.random.default_rng(3).normal(np.arange(6), 1.2, (9, 6))
    found = rank(scores, list("abcdef"))
    for i, j in itertools.combinations(range(6), 2):
        together = any(first <= i and j <= last for first, last in found.cliques)
        assert together == (found.p_values[i, j] > 0.05)
    assert found.names[0] == "f" and any(found.p_values.ravel() < 0.05)


@pytest.mark.parametrize(("k", "n", "digits"), [(2, 2, 9), (3, 9, 1), (6, 5, 9), (20, 4, 1), (40, 7, 2)])
def test_nemenyi_is_that_of_scikit_posthocs(k: int, n: int, digits: int) -> None:
    posthoc = pytest.importorskip("scikit_posthocs").posthoc_nemenyi_friedman
    scores = np.random.default_rng(k).normal(np.arange(k) / 9, 1.0, (n, k)).round(digits)
    found = rank(scores, [str(i) for i in range(k)])
    order = [int(name) for name in found.names]
    expected = posthoc(scores).to_numpy()[np.ix_(order, order)]
    assert found.p_values == pytest.approx(expected, abs=1e-14) and (np.diag(found.p_values) == 1).all()


def test_ranks_with_ties_and_too_little() -> None:
    tied = rank(np.ones((3, 3)), ["a", "b", "c"])
    assert tied.ranks == (2.0, 2.0, 2.0) and tied.p is None
    assert rank(np.array([[0.2, 0.1], [0.4, 0.3]]), ["a", "b"]).p is None
    with pytest.raises(ValueError, match="two datasets"):
        rank(np.ones((1, 3)), ["a", "b", "c"])


# ------------------------------------------------------------------------------------------------------------ Hotelling


def test_the_threshold_is_that_of_f_and_of_the_authors_of_brec() -> None:
    assert hotelling_threshold(32, 16) == pytest.approx(72.34, abs=0.005)
    for q, p, alpha in ((32, 16, 0.05), (10, 3, 0.01), (200, 16, 0.05)):
        expected = p * (q - 1) / (q - p) * stats.f.ppf(1 - alpha, p, q - p)
        assert hotelling_threshold(q, p, alpha) == pytest.approx(expected, rel=1e-9)


def test_t2_is_the_formula_and_in_one_dimension_the_square_of_t() -> None:
    draw = np.random.default_rng(0)
    d = draw.normal(0.3, 1.0, (20, 4)) @ draw.normal(size=(4, 4))
    mean, inverse = d.mean(axis=0), np.linalg.inv(np.cov(d.T))
    assert hotelling(d) == pytest.approx(20 * mean @ inverse @ mean)
    assert hotelling(d, 0.5) == pytest.approx(20 * mean @ np.linalg.inv(np.cov(d.T) + 0.25 * np.eye(4)) @ mean)
    assert hotelling(d[:, :1]) == pytest.approx(stats.ttest_1samp(d[:, 0], 0.0).statistic ** 2)
    flat = d @ np.diag([1.0, 1.0, 0.0, 0.0])  # of rank 2: the pseudo-inverse
    assert hotelling(flat) == pytest.approx(20 * flat.mean(0) @ np.linalg.pinv(np.cov(flat.T)) @ flat.mean(0))


def test_t2_of_equal_means_exceeds_its_threshold_as_often_as_alpha_says() -> None:
    draw = np.random.default_rng(1)
    above = [hotelling(draw.normal(size=(32, 16))) > hotelling_threshold(32, 16) for _ in range(2000)]
    assert 0.035 < np.mean(above) < 0.065


def test_t2_without_spread() -> None:
    constant = np.full((8, 3), 0.5)
    assert hotelling(np.zeros((8, 3))) == hotelling(np.zeros((8, 3)), 1e-5) == hotelling(constant) == 0
    assert hotelling(constant, 1e-5) == pytest.approx(8 * 0.75 / 1e-10)
    assert math.isnan(hotelling(np.array([[1.0], [math.inf], [0.0]])))


def test_a_pair_is_told_apart_where_it_differs_and_its_graphs_do_not() -> None:
    t2 = np.array([[9.0, 1.0], [9.0, 9.0], [1.0, 1.0], [1.0, 9.0], [math.nan, 1.0], [9.0, math.nan]])
    assert told_apart(t2, 5.0).tolist() == [True, False, False, False, False, False]
