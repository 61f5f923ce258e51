"""What operators do to the pooled graph at the end, where they are asked to."""

from __future__ import annotations

from typing import TypeVar

import torch

from poolbench.linalg import Dense, Sparse
from poolbench.linalg.products import segment_max
from poolbench.pool.base.layers import root

EPS = 1e-8

Pooled = TypeVar("Pooled", Sparse, Dense)


def post_process(
    a: Pooled, remove_self_loops: bool = False, degree_norm: bool = False, edge_weight_norm: bool = False
) -> Pooled:
    """a with, in this order: the diagonal dropped; edges |w| <= 1e-8 of a sparse graph dropped; A_ij divided by
    sqrt(max(d_i, 1e-8) max(d_j, 1e-8)), d the row sums, and 0 where one of them is negative; each graph divided by its
    largest |weight|.
    """
    if isinstance(a, Sparse) and a.value is not None:
        real = a.value.detach().abs() > EPS
        real = real.logical_and_(a.row != a.col) if remove_self_loops else real
        a = a if bool(real.all()) else a.filter(real)
    elif remove_self_loops:
        a = a.without_diagonal()
    if degree_norm:
        degree = a.degree()
        inverse = root(degree.clamp(min=EPS)).reciprocal().masked_fill(degree.detach() < 0, 0.0)
        a = a.scale(inverse, inverse)
    return divided_by_largest(a) if edge_weight_norm and a.value is not None else a


def divided_by_largest(a: Pooled) -> Pooled:
    """The weights of each graph divided by the largest |weight| in it; a graph of zeros stays as it is."""
    if isinstance(a, Dense):
        top = a.value.abs().amax((1, 2), keepdim=True) if a.value.numel() else a.value
        return Dense(a.value / torch.where(top == 0, 1.0, top), a.nodes, a.symmetric)
    graph = a.nodes.index.index_select(0, a.row)
    ptr = a.crow[a.nodes.ptr]
    top = segment_max(a.weights.abs(), ptr, graph)
    top = torch.where(top == 0, 1.0, top)
    return a.with_value(a.weights / top.index_select(0, graph), a.symmetric)
