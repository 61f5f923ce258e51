"""The criterion of reproduction: what agrees, what differs, what can be decided, and what a table says as a whole."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from poolbench.papers.criterion import LEAST, MOST, REPEATS, Margin, Side, error, judge, needed, power, whole

THREE = Margin(0.03)


@pytest.mark.parametrize(("n", "m"), list(itertools.product((3, 8, 30), (5, 10))))
@pytest.mark.parametrize("mean", [0.75, 0.765, 0.77, 0.80])
@pytest.mark.parametrize("margin", [0.03, 0.05])
def test_verdicts_are_those_of_welchs_tests(n: int, m: int, mean: float, margin: float) -> None:
    ours, theirs = Side(0.765, 0.02, n), Side(mean, 0.03, m)

    def p(shift: float, side: str) -> float:
        return stats.ttest_ind_from_stats(
            ours.mean - shift, 0.02, n, mean, 0.03, m, equal_var=False, alternative=side
        ).pvalue

    equivalent = max(p(-margin, "greater"), p(margin, "less")) < 0.05
    expected = "agrees" if equivalent else "differs" if p(0, "two-sided") < 0.05 else "open"
    found = judge(ours, theirs, Margin(margin))
    assert found.verdict == expected and found.difference == pytest.approx(0.765 - mean)
    low, high = found.interval(0.95) or (math.nan, math.nan)
    assert (low + high) / 2 == pytest.approx(found.difference)


def test_a_small_n_is_never_rewarded() -> None:
    theirs = Side(0.765, 0.03, 10)
    verdicts = [judge(Side(0.765, 0.03, n), theirs, THREE).verdict for n in (2, 3, 5, 10)]
    assert verdicts == ["open", "open", "open", "agrees"]
    assert judge(Side(0.70, None, 1), theirs, THREE).verdict == "open"
    few = judge(Side(0.60, 0.001, REPEATS - 1), theirs, THREE, least=REPEATS)
    assert few.verdict == "open" and few.interval(0.95) is None


def test_a_certain_difference_within_the_margin_agrees() -> None:
    assert judge(Side(0.76, 0.002, 50), Side(0.765, 0.002, 50), THREE).verdict == "agrees"
    # The 90 % interval lies within the margin, the 95 % interval leaves out 0 and reaches beyond it.
    found = judge(Side(0.02, 0.0, 3), Side(0.0, 0.0, 3), THREE)
    assert found.verdict == "agrees" and found.interval(0.95) == pytest.approx((0.02, 0.02))
    assert judge(Side(0.04, 0.0, 3), Side(0.0, 0.0, 3), THREE).verdict == "differs"


def test_a_spread_that_stands_nowhere_is_ours() -> None:
    """SE^2 = s^2 (1/n + 1/m), by our n - 1 degrees of freedom."""
    found = judge(Side(0.70, 0.006, 5), Side(0.73, None, 1), THREE, least=REPEATS)
    half = stats.t.ppf(0.975, 4) * 0.006 * math.sqrt(1 / 5 + 1)
    assert found.interval(0.95) == pytest.approx((-0.03 - half, -0.03 + half)) and found.verdict == "differs"


def test_errors_are_compared_as_factors() -> None:
    """By logarithms; the standard error of one is that of the mean over the mean."""
    factor = Margin(2.0, True, 0.001)
    found = judge(Side(3.0, 0.3, 9), Side(2.0, 0.2, 4), factor)
    low, high = found.interval(0.95) or (0.0, 0.0)
    total, freedom = error(0.1**2, 9, 0.1**2 / 4, 4)
    assert found.difference == pytest.approx(math.log(1.5))
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, freedom) * total)
    assert found.verdict == "agrees" and judge(Side(9.0, 0.3, 9), Side(2.0, 0.2, 4), factor).verdict == "differs"
    nothing = judge(Side(0.0, 0.0, 3), Side(0.0004, 0.0, 3), factor)  # both below the last digit that is printed
    assert nothing.difference == 0 and nothing.verdict == "agrees"


@pytest.mark.parametrize(
    ("n", "spread", "theirs"), [(5, 0.006, None), (10, 0.012, 0.015), (20, 0.02, 0.015), (8, 0.02, None)]
)
def test_the_power_is_how_often_equal_numbers_are_shown_to_agree(n: int, spread: float, theirs: float | None) -> None:
    rng = np.random.default_rng(1)
    m, draws = (10, 4000) if theirs else (1, 4000)
    found = 0
    for _ in range(draws):
        ours = rng.normal(0.7, spread, n)
        other = rng.normal(0.7, theirs or spread, m)
        side = Side(float(other.mean()), float(other.std(ddof=1)) if theirs else None, m)
        found += judge(Side(float(ours.mean()), float(ours.std(ddof=1)), n), side, THREE).verdict == "agrees"
    stated = power(*error(spread**2, n, theirs**2 / m if theirs else None, m), 0.03)
    assert found / draws == pytest.approx(stated, abs=0.05)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_difference_as_large_as_the_margin_is_seldom_called_none(n: int) -> None:
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(2000):
        ours, theirs = rng.normal(0.78, 0.02, n), rng.normal(0.75, 0.02, 10)
        sides = [Side(float(x.mean()), float(x.std(ddof=1)), len(x)) for x in (ours, theirs)]
        found += judge(*sides, THREE).verdict == "agrees"
    assert found / 2000 < 0.065


def test_how_many_of_ours_decide_and_when_none_do() -> None:
    def reached(n: int) -> float:
        return power(*error(0.02**2, n, 0.015**2 / 10, 10), 0.03)

    n = needed(0.02**2, 0.015**2 / 10, 10, THREE)
    assert n is not None and LEAST < n < MOST
    assert (
        power(*error(0.02**2, n, 0.015**2 / 10, 10), 0.03)
        >= 0.8
        > power(*error(0.02**2, n - 1, 0.015**2 / 10, 10), 0.03)
    )
    assert needed(0.02**2, 0.02**2, 10, THREE) is None, "their mean alone moves by two points"
    assert needed(1e-8, None, 1, THREE, least=REPEATS) == REPEATS


def test_a_table_as_a_whole() -> None:
    differences = [0.01, -0.02, 0.03, 0.02]
    pairs = {"X": [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)], "Y": [(0.2, 0.3), (0.1, 0.1)]}
    found = whole(differences, pairs)
    assert found is not None and found.cells == 4 and found.bias == pytest.approx(0.01)
    low, high = stats.t.interval(0.95, 3, loc=0.01, scale=stats.sem(differences))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.rmse == pytest.approx(math.sqrt(np.mean(np.square(differences))))
    assert list(found.orders) == ["X"] and found.orders["X"] == pytest.approx(1 / 3)
    assert found.tau == pytest.approx((3 - 2 + 1) / 4)  # three of four pairs stand in the same order
    assert whole([], {}) is None


def test_an_order_that_is_no_more_alike_than_by_chance_has_no_small_p() -> None:
    rng = np.random.default_rng(3)
    ps = [
        whole([0.0], {name: list(zip(rng.permutation(8).tolist(), range(8), strict=True)) for name in "XY"}).p  # type: ignore[union-attr]
        for _ in range(1000)
    ]
    small = np.mean([p is not None and p < 0.05 for p in ps])
    assert 0.02 < small < 0.065
    same = whole([0.0], {"X": [(float(i), float(i)) for i in range(8)]})
    assert same is not None and same.tau == 1 and same.p is not None and same.p < 0.001


RESULTS = Path(__file__).parents[2] / "results"
TABLES = [path for folder in ("tables", "archive/tables") for path in sorted((RESULTS / folder).glob("*_*.csv"))]


def number(text: str) -> float | None:
    return float(text) if text else None


def test_every_committed_verdict_follows_from_its_row() -> None:
    """Nothing of the package: mean, spread and n of both sides, by SciPy."""
    seen = 0
    for path in TABLES:
        with open(path, newline="") as file:
            rows = [row for row in csv.DictReader(file) if "lacks" in row]
        for row in rows:
            if row["verdict"] in ("agrees", "differs", "open"):
                assert row["verdict"] == recomputed(row)
                seen += 1
    assert seen > 50


def recomputed(row: dict[str, str]) -> str:
    """The verdict of a row; its difference and intervals are looked at on the way."""
    mean, std, n, other, their_std, m = (number(row[name]) for name in
        ("mean", "std", "n", "published_mean", "their_std", "their_n"))  # fmt: skip
    assert mean is not None and other is not None and n and m
    factor = row["factor"] == "True"
    if factor:
        mean, other = max(mean, float(row["floor"])), max(other, float(row["floor"]))
    difference = math.log(mean / other) if factor else mean - other
    assert difference == pytest.approx(float(row["difference"]), abs=1e-9)
    if n < (REPEATS if row["unit"] == "repeats" else LEAST) or std is None:
        assert row["low95"] == ""
        return "open"
    ours = (std / mean if factor else std) ** 2
    own, freedom = ours / n, n - 1
    theirs = ours / m if their_std is None else (their_std / other if factor else their_std) ** 2 / m
    if their_std is not None and own + theirs > 0:
        freedom = (own + theirs) ** 2 / (own**2 / (n - 1) + theirs**2 / ((m if m > 1 else n) - 1))
    bounds = {}
    for level in (90, 95):
        half = stats.t.ppf(0.5 + level / 200, freedom) * math.sqrt(own + theirs)
        bounds[level] = difference - half, difference + half
        assert (float(row[f"low{level}"]), float(row[f"high{level}"])) == pytest.approx(bounds[level], abs=1e-6)
    margin = math.log(float(row["margin"])) if factor else float(row["margin"])
    if -margin < bounds[90][0] and bounds[90][1] < margin:
        return "agrees"
    return "differs" if bounds[95][0] > 0 or bounds[95][1] < 0 else "open"
