"""The order and the colours of what a board says: by gain, by what the interval leaves out, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from poolbench.records.counting import Counted
from poolbench.records.record import Record
from poolbench.report import leaderboard
from poolbench.report.evidence import Evidence, certainty

Maker = Callable[..., Record]


def evidence(records: list[Record]) -> Evidence:
    (board,) = leaderboard.boards(Counted(made, "abc", "same") for made in records)
    return Evidence(board)


@pytest.mark.parametrize(
    ("difference", "low", "high", "low_end", "high_end"),
    [
        (0.02, None, None, 0.0, 0.0),  # of no interval nothing is known
        (0.02, -0.2, 0.24, 0.0, 0.1),  # in the middle of an interval around 0
        (0.02, -0.001, 0.04, 0.4, 0.5),  # it just holds 0
        (0.02, 0.001, 0.04, 0.7, 0.8),  # it just leaves 0 out
        (-0.02, -0.04, 0.001, 0.4, 0.5),
        (-0.02, -0.04, -0.001, 0.7, 0.8),
        (0.02, 0.019, 0.021, 1.0, 1.0),
        (0.02, 0.02, 0.02, 1.0, 1.0),
    ],
)
def test_certainty_is_how_far_the_interval_keeps_from_0(
    difference: float, low: float | None, high: float | None, low_end: float, high_end: float
) -> None:
    assert low_end <= certainty(difference, low, high) <= high_end


def test_settings_are_sorted_by_gain_and_the_baseline_stands_among_them(record: Maker) -> None:
    scores = {"none": 0.5, "a": 0.4, "b": 0.9, "c": 0.55}
    made = [record(seed, score + 0.01 * seed, pool, dataset) for pool, score in scores.items()
            for dataset in ("MUTAG", "NCI1") for seed in range(2)]  # fmt: skip
    reader = [record(seed, score, "globalmax") for seed, score in enumerate((0.95, 0.96))]
    for run in reader:
        run.config["model"] = {"hidden": 8}  # nothing like it without pooling
    found = evidence([*made, *reader])
    assert [row.pool for row in found.rows] == ["b", "c", "none", "a", "globalmax"]
    first, alone = found.groups
    assert first.baseline and first.baseline.pool == "none" and alone.baseline is None
    # On one dataset, by what was found there.
    turned = [record(seed, 0.9 - score, pool, "DD") for pool, score in scores.items() for seed in range(2)]
    both = evidence([*made, *turned])
    (column,) = [column for column in both.board.columns if column.dataset == "DD"]
    assert [row.pool for row in both.on(column)] == ["a", "none", "c", "b"]


def test_less_is_better_where_the_metric_says_so(record: Maker) -> None:
    made = [record(seed, score + 0.01 * seed**2 * (1 + score), pool, metric=("mae", "min"))
            for pool, score in {"none": 0.5, "a": 0.3, "b": 0.8}.items() for seed in range(3)]  # fmt: skip
    found = evidence(made)
    assert [row.pool for row in found.rows] == ["a", "none", "b"]
    (column,) = found.board.columns
    shades = {row.pool: found.shade(row, column) for row in found.rows}
    sides = {pool: shade.side for pool, shade in shades.items() if shade}
    assert sides == {"a": "better", "b": "worse"} and shades["none"] is None


def test_one_outlier_does_not_make_all_others_pale(record: Maker) -> None:
    scores = {"none": 0.5, "far": 0.99, **{f"p{i}": 0.5 + 0.01 * i for i in range(1, 10)}}
    made = [record(seed, score + 0.001 * seed, pool) for pool, score in scores.items() for seed in range(2)]
    found = evidence(made)
    (column,) = found.board.columns
    sizes = {row.pool: shade.size for row in found.rows if (shade := found.shade(row, column))}
    assert sizes["far"] == sizes["p9"] == 1 and 0.3 < sizes["p4"] < 0.5
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)


def test_over_datasets_more_than_a_point_is_shown_and_less_is_not(record: Maker) -> None:
    gains = {"none": 0.0, "little": 0.005, "much": 0.05, "worse": -0.05}
    generator = np.random.default_rng(0)
    made = [record(seed, 0.6 + gain + 0.02 * seed + float(generator.normal(0, 0.001)), pool, dataset)
            for pool, gain in gains.items() for dataset in ("MUTAG", "NCI1", "DD") for seed in range(6)]  # fmt: skip
    found = evidence(made)
    shades = {row.pool: found.shade_over_datasets(row) for row in found.over}
    assert {pool: shade.certainty > 0.5 for pool, shade in shades.items() if shade} == {
        "little": False, "much": True, "worse": True}  # fmt: skip
    low, _ = next(mean.mean.interval() for row, mean in found.over.items() if row.pool == "little")
    assert low > 0, "its own interval leaves 0 out"
