"""Products of sparse matrices, differentiable in their values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.linalg.nodes import Ragged
from poolbench.linalg.products import Written, call, merge, pointers, rows, through

CSR = tuple[Tensor, Tensor, Tensor]

# Slots of a result for each of its terms up to which they are laid out and counted rather than the terms sorted.
ROOMY = 64


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
    return pointers(row, n), new, call(_Contract, value, rvalue, i, j, o, key.numel())


class Blocks:
    """The places of a block-diagonal matrix, one block [k, k] a graph of `nodes`, laid out row by row."""

    def __init__(self, nodes: Ragged) -> None:
        size = nodes.sizes.index_select(0, nodes.index)
        self.start = torch.cat([size.new_zeros(1), torch.cumsum(size, 0)])  # of each row
        self.shift = self.start[:-1] - nodes.ptr.index_select(0, nodes.index)  # of its columns
        self.slots = sum(k * k for k in nodes.host_sizes)

    def pattern(self, row_shift: Tensor, col: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of parts in the columns `col` of rows that have the shifts `row_shift`, both [t] and in any order: the
        pattern (crow, row, col) of the entries that they add up to, in order, and which of these each part is of.
        """
        key = row_shift + col
        if self.slots <= ROOMY * key.numel():
            hit = torch.zeros(self.slots, dtype=torch.bool, device=key.device).index_fill_(0, key, True)
            (place,) = hit.nonzero(as_tuple=True)
            number = torch.empty(self.slots, dtype=torch.int64, device=key.device)
            number.index_copy_(0, place, torch.arange(place.numel(), device=key.device))
            part = number.index_select(0, key)
        else:
            place, part = torch.unique(key, return_inverse=True)
        crow = torch.searchsorted(place, self.start)
        row = rows(crow, place.numel())
        return crow, row, place - self.shift.index_select(0, row), part


def collect(value: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum of the values of each index, added in a fixed order: [count]."""
    return call(_Collect, value, index, count)


def congruence(
    a: tuple[Tensor, Tensor, Tensor | None], s: CSR, blocks: Blocks
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """S'AS as (crow, row, col, value), rows and columns in order, for A [n, n] (value None: ones) and S [n, k] in CSR.

    An entry of A may stand in several parts, one of S in one. Cost O(t + k) for t = the sum over the entries (u, v) of
    A of |S_u| |S_v|, the entries in these rows; where the blocks have many more places than that, O(t log t).
    """
    (crow, col, value), (ptr, cluster, weight) = a, s
    each, row = ptr.diff(), rows(crow, col.numel())
    # One pair for each entry (u, v) of A and each in row u of S, one term for each pair and each entry in row v.
    m, left = _expand(each.index_select(0, row), ptr.index_select(0, row))
    v = col.index_select(0, m)
    pair, j = _expand(each.index_select(0, v), ptr.index_select(0, v))
    i = left.index_select(0, pair)
    row_shift = blocks.shift.index_select(0, cluster).index_select(0, i)
    crow, row, col, o = blocks.pattern(row_shift, cluster.index_select(0, j))
    terms = i, None if value is None else m.index_select(0, pair), j, o, row.numel()
    return crow, row, col, call(_Congruence, weight, value, terms)


def _expand(count: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """For each number c in `count` c terms: which one it is, and first, first + 1, ... of it."""
    which = torch.repeat_interleave(count)
    shift = first - torch.cumsum(count, 0) + count
    return which, torch.arange(which.numel(), device=which.device) + shift.index_select(0, which)


def _congruence(p: Tensor, a: Tensor | None, terms: tuple[Tensor, Tensor | None, Tensor, Tensor, int]) -> Tensor:
    i, m, j, o, count = terms
    each = torch.arange(i.numel(), device=i.device)
    pairs = call(_Contract, p, p, i, j, each, i.numel())
    a, m = (p.new_ones(1), torch.zeros_like(i)) if a is None else (a, m)
    return call(_Contract, pairs, a, each, m, o, count)


class _Congruence(Written):
    """out[o_t] += p[i_t] a[m_t] p[j_t] over the terms t: [count]; a None: ones."""

    formula = staticmethod(_congruence)

    @staticmethod
    def forward(
        ctx: Any, p: Tensor, a: Tensor | None, terms: tuple[Tensor, Tensor | None, Tensor, Tensor, int]
    ) -> Tensor:
        i, m, j, o, count = terms
        ctx.save_for_backward(p, a)
        ctx.terms = terms
        product = p.index_select(0, i).mul_(p.index_select(0, j))
        return _collect(product if a is None or m is None else product.mul_(a.index_select(0, m)), o, count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        p, a = ctx.saved_tensors
        i, m, j, o, _ = ctx.terms
        if torch.is_grad_enabled():
            if a is None:
                return *through(lambda p: _congruence(p, None, ctx.terms), [p], grads), None, None
            return *through(lambda p, a: _congruence(p, a, ctx.terms), [p, a], grads), None
        left, right, grad, grad_a = p.index_select(0, i), p.index_select(0, j), grads[0].index_select(0, o), None
        if a is not None:
            if ctx.needs_input_grad[1]:
                grad_a = _collect(grad * left * right, m, a.numel())
            grad.mul_(a.index_select(0, m))
        grad_p = _collect(right.mul_(grad), i, p.numel()).add_(_collect(left.mul_(grad), j, p.numel()))
        return grad_p, grad_a, None


def _contract(p: Tensor, q: Tensor, i: Tensor, j: Tensor, o: Tensor, count: int) -> Tensor:
    return _collect(p.index_select(0, i) * q.index_select(0, j), o, count)


class _Contract(Written):
    """out[o_t] += p[i_t] q[j_t] over the terms t: [count]. Its derivatives are contractions of the same terms."""

    formula = staticmethod(_contract)

    @staticmethod
    def forward(ctx: Any, p: Tensor, q: Tensor, i: Tensor, j: Tensor, o: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(p, q)
        ctx.terms = (i, j, o)
        return _contract(p, q, i, j, o, count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        p, q = ctx.saved_tensors
        (grad,), (i, j, o) = grads, ctx.terms
        grad_p = call(_Contract, grad, q, o, j, i, p.numel()) if ctx.needs_input_grad[0] else None
        grad_q = call(_Contract, grad, p, o, i, j, q.numel()) if ctx.needs_input_grad[1] else None
        return grad_p, grad_q, None, None, None, None


def _collect(terms: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum of the terms of each index, in a fixed order: [count]."""
    if terms.device.type == "cpu":  # one thread adds them up as they come
        return terms.new_zeros(count).index_add_(0, index, terms)
    return merge(terms, index, count)


class _Collect(Written):
    formula = staticmethod(_collect)

    @staticmethod
    def forward(ctx: Any, value: Tensor, index: Tensor, count: int) -> Tensor:
        ctx.index = index
        return _collect(value, index, count)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return call(_Pick, grads[0], ctx.index), None, None


class _Pick(Written):
    formula = staticmethod(lambda x, index: x.index_select(0, index))

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.index, ctx.count = index, x.numel()
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return call(_Collect, grads[0], ctx.index, ctx.count), None
