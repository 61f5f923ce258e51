"""Digests of epochs and answers to graphs: short, and they say what they must."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from poolbench.records import digests, outcomes
from poolbench.records.digests import chain, first_difference, follow
from poolbench.records.outcomes import MOST, hits, pack, unpack

CURVE = [{"train/loss": 1.0 / (1 + i), "val/loss": 2.0, "time": 0.1 * i, "time_cpu": 0.2} for i in range(6)]


def changed(epoch: int, **values: float) -> list[dict[str, float]]:
    return [{**row, **values} if i == epoch else row for i, row in enumerate(CURVE)]


def test_the_first_epoch_that_differs_is_told() -> None:
    assert len(digests.unpack(chain(CURVE))) == 6
    assert first_difference(chain(CURVE), chain(CURVE)) is None
    for epoch in range(6):
        other = changed(epoch, **{"train/loss": np.nextafter(CURVE[epoch]["train/loss"], 9)})
        assert first_difference(chain(CURVE), chain(other)) == epoch
        assert [a == b for a, b in zip(digests.unpack(chain(CURVE)), digests.unpack(chain(other)), strict=True)] == [
            i < epoch for i in range(6)
        ], "and all after it are others"
    assert first_difference(chain(CURVE[:3]), chain(CURVE)) is None, "as far as both go"


def test_time_is_no_part_of_a_digest_and_all_else_is() -> None:
    assert chain(changed(2, time=9.0, time_cpu=9.0)) == chain(CURVE)
    assert chain(changed(2, extra=1.0)) != chain(CURVE)
    assert chain([{"a": math.nan, "b": -math.inf}]) == chain([{"b": -math.inf, "a": math.nan}]) != chain([{}])
    assert chain([{"a": 1}]) == chain([{"a": 1.0}])
    assert chain([]) == ""


def test_a_row_follows_from_the_digest_before_it() -> None:
    made = digests.unpack(chain(CURVE))
    assert follow(b"", CURVE[0]) == made[0] and follow(made[2], CURVE[3]) == made[3] != follow(made[1], CURVE[3])


@pytest.mark.parametrize("text", ["AAAA", "no base64!", "A"])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        digests.unpack(text)


# ------------------------------------------------------------------------------------------------------------ outcomes


@pytest.mark.parametrize(("classes", "kind"), [(2, "u1"), (257, "u2"), (70_000, "u4")])
def test_classes_come_back_in_the_order_of_the_graphs(classes: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    graphs = rng.permutation(500)[:123]
    predicted = rng.integers(0, classes, 123)
    predicted[0] = classes - 1
    right = rng.random(123) < 0.5
    made = pack(graphs, predicted, right, 500)
    assert made is not None and (made.count, made.kind, made.width) == (123, kind, 1)
    found, order = unpack(made), np.argsort(graphs)
    assert found.right is not None
    for a, b in ((found.graphs, graphs), (found.predicted, predicted), (found.right, right)):
        assert np.array_equal(a, b[order])


def test_values_come_back_to_the_bit() -> None:
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    values[2, 1], values[3, 0] = np.nan, -0.0
    made = pack(np.arange(7), values, None, 7)
    assert made is not None and (made.kind, made.width, made.right) == ("f4", 3, None)
    assert unpack(made).predicted.tobytes() == values.tobytes() and unpack(made).right is None


def test_clusters_have_no_right_and_wrong() -> None:
    made = pack(np.arange(4), np.array([3, 1, 1, 0]), None, 4)
    assert made is not None and (made.kind, made.right) == ("u1", None)
    assert unpack(made).predicted.tolist() == [3, 1, 1, 0] and unpack(made).right is None


def test_too_much_is_not_kept() -> None:
    assert pack(np.arange(MOST + 1), np.zeros(MOST + 1, dtype=int), None, MOST + 1) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 3},
        {"width": 2},
        {"kind": "u2"},
        {"graphs": "nonsense"},
        {"predicted": "AAAA"},
        {"right": ""},
        {"predicted": outcomes._text(b"\0" * 10**8)},
        {"graphs": outcomes._text(b"\xff" * 3)},
    ],
)
def test_what_is_not_what_it_says_is_refused(wrong: dict[str, Any]) -> None:
    made = pack(np.arange(4), np.array([0, 1, 1, 0]), np.ones(4, dtype=bool), 4)
    assert made is not None
    with pytest.raises(ValueError):
        unpack(replace(made, **wrong))


def test_hits_are_those_of_the_whole_and_nobody_writes_to_them() -> None:
    made = pack(np.array([5, 1, 9]), np.array([0, 1, 2]), np.array([True, False, True]), 12)
    assert made is not None
    graphs, right = hits(made)
    whole = unpack(made)
    assert whole.right is not None and right is not None
    assert graphs.tolist() == whole.graphs.tolist() == [1, 5, 9]
    assert right.tolist() == whole.right.tolist() == [False, True, True]
    with pytest.raises(ValueError, match="read-only"):
        graphs[0] = 3
