"""Draws that are a pure function of a seed and of a node's place in its graph.

An operator that draws from them gives a graph the same answer in every batch, on every device and in every process: it
may be computed once for a dataset. The mixing function is that of SplitMix64 (Steele, Lea, Flood, "Fast Splittable
Pseudorandom Number Generators", OOPSLA 2014), computed in int64, which wraps around.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poolbench.linalg import Sparse

_GOLDEN = 0x9E3779B97F4A7C15  # steps between the states of successive seeds


def mix(v: Tensor) -> Tensor:
    """A bijection of the 64-bit integers that makes neighbouring numbers look unrelated: int64 -> int64."""
    v = (v ^ _shift(v, 30)) * _signed(0xBF58476D1CE4E5B9)
    v = (v ^ _shift(v, 27)) * _signed(0x94D049BB133111EB)
    return v ^ _shift(v, 31)


def node_draws(a: Sparse, seed: int) -> Tensor:
    """A draw a node, the number `seed` and the node's `standing` mixed: [n] int64."""
    return mix(mix(standing(a) + 1) + _signed(seed * _GOLDEN))


def uniform(draws: Tensor) -> Tensor:
    """Draws as numbers in [0, 1): float64."""
    return _shift(draws, 11).to(torch.float64) * 2.0**-53


@torch.no_grad()
def standing(a: Sparse) -> Tensor:
    """Place of each node in its graph by falling degree (sum of its row), equal ones by number: [n], from 0.

    Where degrees tell the nodes of a graph apart, the order in which they are listed does not show. Degrees are summed
    in float64 and compared in float32, so that the order of summation does not show either.
    """
    degree = a.with_value(a.weights.detach().double()).degree().float()
    order = a.nodes.together(torch.argsort(degree, descending=True, stable=True))
    return torch.empty_like(order).index_copy_(0, order, a.nodes.numbers)


def _shift(v: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (v >> bits) & ((1 << (64 - bits)) - 1)


def _signed(v: int) -> int:
    """The low 64 bits of v as int64 holds them."""
    v %= 1 << 64
    return v - (1 << 64) if v >> 63 else v
