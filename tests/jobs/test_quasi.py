"""Quasi-random points: balanced, scrambled, and within what each key may be."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import qmc

from poolbench.jobs.quasi import point, unit

BASES = (2, 3, 5)


@pytest.mark.parametrize("base", BASES)
def test_as_many_points_as_the_base_or_a_power_of_it_are_one_in_each_part(base: int) -> None:
    for count in (base, base**2):
        for start in (0, count):
            parts = {int(unit(n, base, 7) * count) for n in range(start, start + count)}
            assert parts == set(range(count))


def test_six_points_are_better_spread_than_chance_has_them_and_no_worse_than_scipys() -> None:
    def mean(points: list[np.ndarray]) -> float:
        return float(np.mean([qmc.discrepancy(each) for each in points]))

    ours = [np.array([[unit(n, base, seed) for base in BASES] for n in range(6)]) for seed in range(100)]
    scipys = [qmc.Halton(3, scramble=True, seed=seed).random(6) for seed in range(100)]
    drawn = [np.random.default_rng(seed).random((6, 3)) for seed in range(100)]
    assert mean(ours) < 1.05 * mean(scipys) < 0.5 * mean(drawn)


def test_points_are_the_same_on_every_machine() -> None:
    space: dict[str, BaseDistribution] = {"lr": FloatDistribution(5e-4, 1e-2, log=True), "a": FloatDistribution(0, 1)}
    points = [tuple(point(space, n, 1000).values()) for n in range(3)]
    assert points == [(0.0006792, 0.5637), (0.003038, 0.897), (0.001436, 0.2303)]


def test_every_kind_of_key_gets_each_of_its_values_alike() -> None:
    space: dict[str, BaseDistribution] = {
        "word": CategoricalDistribution(["a", "b", None]), "count": IntDistribution(1, 9, step=2),
        "power": IntDistribution(1, 1000, log=True), "share": FloatDistribution(0.25, 0.75, step=0.25),
        "lr": FloatDistribution(1.23456e-4, 1.23457e-4, log=True), "fixed": FloatDistribution(0.123456, 0.123456),
    }  # fmt: skip
    points = [point(space, n, 3) for n in range(2 * 3 * 5 * 7)]
    for key, said in space.items():
        assert all(said._contains(said.to_internal_repr(each[key])) for each in points), key
    of = {key: [each[key] for each in points] for key in space}
    assert set(of["word"]) == {"a", "b", None} and abs(of["word"].count("a") - 70) <= 2
    assert [of["count"].count(n) for n in (1, 3, 5, 7, 9)] == pytest.approx([42] * 5, abs=3)
    assert sum(n < 32 for n in of["power"]) == pytest.approx(105, abs=8), "half of the logarithms"
    assert set(of["share"]) == {0.25, 0.5, 0.75}
