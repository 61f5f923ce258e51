"""The product of two sparse matrices, differentiable in the values of both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from poolbench.linalg.products import pointers, rows, segment_sum

CSR = tuple[Tensor, Tensor, Tensor]


def spgemm(left: CSR, right: CSR, columns: int) -> CSR:
    """The product of two matrices in CSR, each (crow, col, value), with its rows and columns in order.

    `columns` is the number of columns of `right`. An entry may stand in several parts, in any order within its row.
    Cost O(t log t) for t = the sum over the entries of `left` of the length of the row of `right` that they meet.
    """
    (crow, col, value), (rcrow, rcol, rvalue) = left, right
    n, e = crow.numel() - 1, col.numel()
    # One term for each entry of `left` and each entry of the row of `right` that it meets.
    each = rcrow.diff()[col]
    start = torch.cumsum(each, 0)
    i = torch.repeat_interleave(torch.arange(e, device=col.device), each)
    j = torch.arange(i.numel(), device=col.device) + (rcrow[:-1][col] - (start - each))[i]
    key, o = torch.unique(rows(crow, e)[i] * columns + rcol[j], return_inverse=True)
    row, new = key // max(columns, 1), key % max(columns, 1)
    return pointers(row, n), new, _Contract.apply(value, rvalue, i, j, o, key.numel())


class _Contract(Function):
    """out[o_t] += p[i_t] q[j_t] over the terms t: [count]. Its derivatives are contractions of the same terms."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, q: Tensor, i: Tensor, j: Tensor, o: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(p, q)
        ctx.terms = (i, j, o)
        return _collect(p.index_select(0, i) * q.index_select(0, j), o, count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        p, q = ctx.saved_tensors
        (grad,), (i, j, o) = grads, ctx.terms
        grad_p = _Contract.apply(grad, q, o, j, i, p.numel()) if ctx.needs_input_grad[0] else None
        grad_q = _Contract.apply(grad, p, o, i, j, q.numel()) if ctx.needs_input_grad[1] else None
        return grad_p, grad_q, None, None, None, None


def _collect(terms: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum of the terms of each index, in a fixed order: [count]."""
    if terms.device.type == "cpu":  # one thread adds them up as they come
        return terms.new_zeros(count).index_add(0, index, terms)
    order = torch.argsort(index, stable=True)
    index = index[order]
    return segment_sum(terms[order], pointers(index, count), index)
