"""One operator that is called in several threads at once."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Matrix
from poolbench.pool.topk import TopKPool

EDGES = torch.tensor([[0, 1], [1, 0]])


class Meeting(TopKPool):
    """Both calls are in the midst of their selection before either goes on."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.meet: list[threading.Barrier] = []

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> Any:
        chosen = super().select(x, a, i)
        self.add_loss("sum", x.sum())
        for barrier in self.meet:
            barrier.wait(30)
        return chosen


def test_calls_at_once_give_what_each_gives_alone() -> None:
    pool = Meeting(in_channels=3).eval()
    inputs = [torch.randn(n, 3) for n in (4, 6)]
    wanted = [pool(x, EDGES) for x in inputs]
    pool.meet.append(threading.Barrier(2))
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda x: pool(x, EDGES), inputs))
    for one, other in zip(found, wanted, strict=True):
        assert one.score is not None and other.score is not None
        assert torch.equal(one.score, other.score)
        assert one.losses == other.losses
    found[0].x.sum().backward()
    assert pool.projection.weight.grad is not None
    pool.meet.clear()
    copy.deepcopy(pool)(inputs[0], EDGES)


def test_a_call_that_fails_leaves_the_operator_as_it_was() -> None:
    pool = TopKPool(in_channels=3)
    for _ in range(2):
        try:
            pool(torch.randn(4, 2), EDGES)
        except ValueError:
            pool(torch.randn(4, 3), EDGES)
        assert pool.n_nodes == 4
    pool(torch.randn(5, 3), EDGES)
    assert pool.n_nodes == 5  # no copy was called
