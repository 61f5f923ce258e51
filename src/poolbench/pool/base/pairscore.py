"""A linear score of pairs of nodes, and its softmax."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.linalg import Ragged, Sparse
from poolbench.linalg.products import Written, bag, call, through
from poolbench.pool.base.layers import Linear, as_wide


class PairScore(Linear):
    """w . [x_i || y_j] + b, in two parts: w1 . x_i + b and w2 . y_j, so that a list of pairs costs O(n f + e).

    Args:
        in_channels: f, inferred at the first call where it is None; w has 2 f entries.
        options: initialisers, weight penalties and constraints of `Linear`.
    """

    #: Rows of features that stand side by side in w.
    sides = 2

    def __init__(self, in_channels: int | None, **options: Any) -> None:
        super().__init__(None if in_channels is None else 2 * in_channels, 1, **options)

    def initialize_parameters(self, x: Tensor, y: Tensor | None = None) -> None:
        super().initialize_parameters(x if y is None else torch.cat([x[:0], y[:0]], -1))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """x, y [n, f] -> (w1 . x + b, w2 . y), each [n]."""
        first, second = as_wide(self.weight, x).reshape(2, self.weight.shape[-1] // 2).unbind()
        return x @ first + as_wide(self.bias, x), y @ second


def pair_softmax(left: Tensor, right: Tensor, a: Sparse, slope: float = 1.0) -> Tensor:
    """Softmax over the entries (i, j) of each row i of a of LeakyReLU(left_i + right_j), `slope` its slope: [e]."""
    return call(_PairSoftmax, left, right, a, slope)


def _pair_softmax(left: Tensor, right: Tensor, a: Sparse, slope: float) -> Tensor:
    return Ragged(a.crow, index=a.row).softmax(F.leaky_relu(a.at_rows(left) + a.at_columns(right), slope))


class _PairSoftmax(Written):
    formula = staticmethod(_pair_softmax)

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, a: Sparse, slope: float) -> Tensor:
        raw = left.index_select(0, a.row).add_(right.index_select(0, a.col))
        out = F.leaky_relu(raw, slope)
        top = left.new_full(left.shape, -torch.inf).scatter_reduce_(0, a.row, out, "amax")
        out.sub_(top.index_select(0, a.row)).exp_()
        out.div_(_sums(out, a).index_select(0, a.row))
        ctx.save_for_backward(left, right, raw, out)
        ctx.a, ctx.slope = a, slope
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        left, right, raw, out = ctx.saved_tensors
        a, slope = ctx.a, ctx.slope
        if torch.is_grad_enabled():
            return *through(lambda u, v: _pair_softmax(u, v, a, slope), [left, right], grads), None, None
        grad = grads[0] * out
        grad.sub_(out.mul(_sums(grad, a).index_select(0, a.row)))
        if slope != 1.0:
            grad = torch.where(raw > 0, grad, grad * slope)
        tcrow, _, entry = a.transposed()
        return _sums(grad, a), bag(grad.unsqueeze(-1), tcrow, entry, None).squeeze(-1), None, None


def _sums(value: Tensor, a: Sparse) -> Tensor:
    """Sum of the values [e] of each row: [n]."""
    return bag(value.unsqueeze(-1), a.crow, torch.arange(value.numel(), device=value.device), None).squeeze(-1)
