"""What a node hears of its neighbours, on both matrix layouts: the sum, the mean or the maximum of a_ij x_j."""

from __future__ import annotations

import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix, merged_entries
from poolbench.linalg.products import segment_max

AGGREGATIONS = ("sum", "mean", "max")


def aggregate(x: Tensor, a: Matrix, how: str) -> Tensor:
    """Of a_ij x_j over the entries a_ij of each row, column by column: x [.., f] -> [.., f].

    sum: A X. mean: A X over the row sums of A, which count as 1 where they are less, as in PyTorch Geometric's
    `DenseSAGEConv`; without weights, the mean of the neighbours. max: the largest; an entry of 0 is none, and a row
    without entries gives 0. Cost O(E f) time; O(E f) memory for max, else O(n f).
    """
    if how == "max":
        return _dense_max(x, a) if isinstance(a, Dense) else _sparse_max(x, a)
    y = a.matmul(x)
    return y if how == "sum" else y / a.degree().to(y.dtype).clamp(min=1.0).unsqueeze(-1)


def _sparse_max(x: Tensor, a: Matrix) -> Tensor:
    merged = a.view(merged_entries).sparse()  # an entry in two parts would be two neighbours
    heard = merged.at_columns(x)
    if merged.value is None:
        return segment_max(heard, merged.crow, merged.row)
    value = merged.value.to(x.dtype).unsqueeze(-1)
    heard = (value * heard).masked_fill(value == 0, -torch.inf)
    return _zero_where_none(segment_max(heard, merged.crow, merged.row))


def _dense_max(x: Tensor, a: Dense) -> Tensor:
    value = a.value.to(x.dtype).unsqueeze(-1)
    return _zero_where_none((value * x.unsqueeze(1)).masked_fill(value == 0, -torch.inf).amax(2))


def _zero_where_none(top: Tensor) -> Tensor:
    return top.masked_fill(top == -torch.inf, 0.0)
