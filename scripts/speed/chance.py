"""What operators leave to chance, made the same for everybody while answers are compared.

BNPool draws sticks and pairs of nodes: the sticks are replaced by their means, the pairs are drawn from one seed. Of
operators whose selection is random, or settles ties at random, the peers get PoolBench's selection (`tgp_given`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Sparse
from poolbench.pool import bnpool


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` (an object's, a class's or a module's) is `value` inside the block."""
    own = dict(vars(owner))
    setattr(owner, name, value)
    try:
        yield
    finally:
        if name in own:
            setattr(owner, name, own[name])
        else:
            delattr(owner, name)


@contextmanager
def without_draws() -> Iterator[None]:
    """PoolBench's BNPool with the means of its sticks, and always the same pairs."""
    with replaced(bnpool.BNPool, "draw", _means), replaced(bnpool, "draw_pairs", same_pairs):
        yield


def _means(self: bnpool.BNPool, alpha: Tensor, beta: Tensor, noise: Any) -> tuple[Tensor, Tensor]:
    """(log v, log(1 - v)) of the mean of v ~ Beta(alpha, beta)."""
    total = (alpha + beta).log()
    return alpha.log() - total, beta.log() - total


_draw_pairs = bnpool.draw_pairs


def same_pairs(a: Sparse, count: int | None) -> Tensor:
    """`bnpool.draw_pairs` from a fixed seed: a function of the graphs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _draw_pairs(a, count)
