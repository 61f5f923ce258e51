"""What operators do to the pooled graph at the end, where they are asked to."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

from poolbench.linalg import Dense, Matrix, Sparse
from poolbench.linalg.products import segment_max
from poolbench.pool.base.layers import HALF, not_half, root

EPS = 1e-8

Pooled = TypeVar("Pooled", Sparse, Dense)
AnyMatrix = TypeVar("AnyMatrix", bound=Matrix)


def post_process(
    a: Pooled, remove_self_loops: bool = False, degree_norm: bool = False, edge_weight_norm: bool = False
) -> Pooled:
    """a with, in this order: the diagonal dropped; edges |w| <= 1e-8 of a sparse graph dropped; A_ij divided by
    sqrt(max(d_i, 1e-8) max(d_j, 1e-8)), d the row sums; each graph divided by its largest |weight|.

    Of a matrix that is not known to be symmetric, columns with d = 0 become 0, as in `normalize`: what a node sends
    that hears nobody would be 1e4 times as heavy as the rest.
    """
    if isinstance(a, Sparse) and a.value is not None:
        real = a.value.detach().abs() > EPS
        real = real.logical_and_(a.row != a.col) if remove_self_loops else real
        a = a if bool(real.all()) else a.filter(real)
    elif remove_self_loops:
        a = a.without_diagonal()
    if degree_norm:
        degree = not_half(a.degree())  # EPS is 0 in float16
        inverse = root(degree.clamp(min=EPS)).reciprocal()
        inverse = inverse if a.symmetric else inverse.masked_fill(degree == 0, 0.0)
        a = as_narrow(a.scale(inverse, inverse), a)
    return divided_by_largest(a) if edge_weight_norm and a.value is not None else a


def as_narrow(a: AnyMatrix, given: Matrix) -> AnyMatrix:
    """a in the half type of the given matrix, where a step that half types are too coarse for left it in float32."""
    wide: Any = a
    kind = getattr(getattr(given, "value", None), "dtype", None)
    if kind not in HALF or wide.value is None or wide.value.dtype == kind:
        return a
    value = wide.value.to(kind)
    narrow: Any = Dense(value, wide.nodes, a.symmetric) if isinstance(a, Dense) else wide.with_value(value, a.symmetric)
    return narrow


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
