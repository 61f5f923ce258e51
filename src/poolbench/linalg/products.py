"""Products over CSR patterns and over ragged batches, each with its derivative in the same small set.

Every function here is linear in each of its tensor arguments, and its backward pass is written with the others, so
gradients of any order come out and none of them needs an atomic addition: the same seed gives the same bits, on
CUDA too. Shapes: n rows, m columns, e stored entries, b graphs, k clusters, f features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

# Above this many rows a graph is multiplied on its own: a batched product of its size class would gain nothing and
# pads up to twice its rows. Measured on one core of an x86 CPU, float32, k = 20, f = 64.
ONE_BY_ONE = 512


def _bag(x: Tensor, crow: Tensor, col: Tensor, value: Tensor | None) -> Tensor:
    """sum_e value_e x[col_e] over each row's entries: [n, f]. `embedding_bag` took a quarter of torch's CSR product."""
    if col.numel() == 0 or x.numel() == 0:
        return x.new_zeros(crow.numel() - 1, x.shape[1])
    weights = None if value is None else value.to(x.dtype)
    return torch.embedding_bag(x.contiguous(), col, crow, False, 0, False, weights, True)[0]


class _SpMM(Function):
    """y = A x for A in CSR; `tcrow, trow, perm` are the CSR of A' and where its entries stand in A's (None: A = A')."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor | None,
        x: Tensor,
        crow: Tensor,
        col: Tensor,
        tcrow: Tensor | None,
        trow: Tensor | None,
        perm: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(value, x if value is not None and ctx.needs_input_grad[0] else None)
        ctx.pattern = (crow, col, tcrow, trow, perm)
        return _bag(x, crow, col, value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        value, x = ctx.saved_tensors
        crow, col, tcrow, trow, perm = ctx.pattern
        grad_value = grad_x = None
        if ctx.needs_input_grad[0]:
            grad_value = _SDDMM.apply(grad, x, crow, col, tcrow, trow, perm)
        if ctx.needs_input_grad[1]:
            if tcrow is None:  # symmetric: A' g is the same product
                grad_x = _SpMM.apply(value, grad, crow, col, None, None, None)
            else:
                inverse = invert(perm) if torch.is_grad_enabled() else perm  # read by a second derivative alone
                grad_x = _SpMM.apply(None if value is None else value[perm], grad, tcrow, trow, crow, col, inverse)
        return grad_value, grad_x, None, None, None, None, None


class _SDDMM(Function):
    """One number an entry, <y[row_e], x[col_e]>: the derivative of A x in A's values."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        x: Tensor,
        crow: Tensor,
        col: Tensor,
        tcrow: Tensor | None,
        trow: Tensor | None,
        perm: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(y, x)
        ctx.pattern = (crow, col, tcrow, trow, perm)
        row = rows(crow, col.numel())
        return (y.index_select(0, row) * x.index_select(0, col)).sum(-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        y, x = ctx.saved_tensors
        crow, col, tcrow, trow, perm = ctx.pattern
        if tcrow is None:  # the values `grad` are not symmetric even where A is
            tcrow, trow, perm = transpose(crow, col, x.shape[0])
        back = invert(perm)
        grad_y = _SpMM.apply(grad, x, crow, col, tcrow, trow, perm) if ctx.needs_input_grad[0] else None
        grad_x = _SpMM.apply(grad[perm], y, tcrow, trow, crow, col, back) if ctx.needs_input_grad[1] else None
        return grad_y, grad_x, None, None, None, None, None


class _SegmentSum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        ctx.segments = (ptr, index)
        return _bag(x, ptr, torch.arange(x.shape[0], device=x.device), None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _Expand.apply(grads[0], *ctx.segments), None, None


class _Expand(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        ctx.segments = (ptr, index)
        return y.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _SegmentSum.apply(grads[0], *ctx.segments), None, None


class _SegmentMax(Function):
    """Largest entry of each segment and column; equal entries share the gradient, as torch.amax does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        top = x.new_full((ptr.numel() - 1, x.shape[1]), -torch.inf)
        top.scatter_reduce_(0, index.unsqueeze(-1).expand_as(x), x, "amax")
        empty = (ptr.diff() == 0).unsqueeze(-1)
        top = top.masked_fill(empty, 0.0)
        ctx.save_for_backward(x, top)
        ctx.segments = (ptr, index)
        return top

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, top = ctx.saved_tensors
        hit = (x == top.index_select(0, ctx.segments[1])).to(x.dtype)
        share = _SegmentSum.apply(hit, *ctx.segments).clamp(min=1.0).reciprocal()
        return _Expand.apply(grads[0] * share, *ctx.segments) * hit, None, None


class _Gram(Function):
    """s_g' x_g for each graph g: [n, k], [n, f] -> [b, k, f]."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, x: Tensor, plan: Plan) -> Tensor:
        ctx.save_for_backward(s, x)
        ctx.plan = plan
        return plan.gram(s, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        s, x = ctx.saved_tensors
        (grad,) = grads
        grad_s = _Spread.apply(x, grad.transpose(1, 2), ctx.plan) if ctx.needs_input_grad[0] else None
        grad_x = _Spread.apply(s, grad, ctx.plan) if ctx.needs_input_grad[1] else None
        return grad_s, grad_x, None


class _Spread(Function):
    """s_g y_g for each graph g: [n, k], [b, k, f] -> [n, f]."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, y: Tensor, plan: Plan) -> Tensor:
        ctx.save_for_backward(s, y)
        ctx.plan = plan
        return plan.spread(s, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        s, y = ctx.saved_tensors
        (grad,) = grads
        grad_s = _Spread.apply(grad, y.transpose(1, 2), ctx.plan) if ctx.needs_input_grad[0] else None
        grad_y = _Gram.apply(s, grad, ctx.plan) if ctx.needs_input_grad[1] else None
        return grad_s, grad_y, None


class Plan:
    """How the rows of a ragged batch are multiplied graph by graph, worked out once a batch.

    On the CPU in float32 and the half types, torch's grouped product walks over the graphs without padding. Elsewhere
    (float64, CUDA) graphs of similar size are padded to the largest of their class, at most twice the real rows, and
    graphs above `ONE_BY_ONE` rows are multiplied one by one.
    """

    def __init__(self, ptr: Tensor, sizes: list[int]) -> None:
        self.ptr, self.sizes = ptr, sizes
        self._ends: Tensor | None = None
        self._classes: list[tuple[Tensor, Tensor, int]] | None = None

    @property
    def ends(self) -> Tensor:
        if self._ends is None:
            self._ends = self.ptr[1:].to(torch.int32)
        return self._ends

    @property
    def classes(self) -> list[tuple[Tensor, Tensor, int]]:
        """(graphs, their row numbers with n for padding, width) for each size class."""
        if self._classes is None:
            rows_total = sum(self.sizes)
            self._classes = []
            for members, width in _size_classes(self.sizes):
                graphs = torch.tensor(members, device=self.ptr.device)
                step = torch.arange(width, device=self.ptr.device)
                start, end = self.ptr[graphs], self.ptr[graphs + 1]
                index = start.unsqueeze(-1) + step
                index = torch.where(index < end.unsqueeze(-1), index, rows_total)
                self._classes.append((graphs, index.reshape(-1), width))
        return self._classes

    def prepare(self) -> None:
        """What a traced call must find made before it enters a product."""
        if torch.compiler.is_compiling():
            self.classes  # noqa: B018

    def _grouped(self, s: Tensor) -> bool:
        # torch.compile knows the grouped product for bf16 alone, so a traced call takes the size classes
        known = s.dtype in (torch.float32, torch.bfloat16, torch.float16)
        return known and s.device.type == "cpu" and not torch.compiler.is_compiling()

    def gram(self, s: Tensor, x: Tensor) -> Tensor:
        b, k, f = len(self.sizes), s.shape[1], x.shape[1]
        if not s.numel() or not x.numel():
            return x.new_zeros(b, k, f)
        if self._grouped(s):
            out = F.grouped_mm(_aligned(s).t(), _aligned(x), offs=self.ends)
            return out[:, :k, :f]
        out = x.new_zeros(b, k, f)
        s0, x0 = _with_zero_row(s), _with_zero_row(x)
        for graphs, index, width in self.classes:
            m = graphs.numel()
            left = s0.index_select(0, index).view(m, width, k)
            out[graphs] = torch.bmm(left.transpose(1, 2), x0.index_select(0, index).view(m, width, f))
        return out

    def spread(self, s: Tensor, y: Tensor) -> Tensor:
        n, f = s.shape[0], y.shape[2]
        if not s.numel() or not y.numel():
            return y.new_zeros(n, f)
        if self._grouped(s):
            k = s.shape[1] + -s.shape[1] % (16 // s.element_size())
            y = _aligned(F.pad(y, (0, 0, 0, k - y.shape[1])) if k != y.shape[1] else y)
            return F.grouped_mm(_aligned(s), y, offs=self.ends)[:, :f]
        out = y.new_zeros(n + 1, f)  # the last row takes the padding
        s0 = _with_zero_row(s)
        for graphs, index, width in self.classes:
            left = s0.index_select(0, index).view(graphs.numel(), width, s.shape[1])
            out[index] = torch.bmm(left, y.index_select(0, graphs)).view(-1, f)
        return out[:-1]


def _size_classes(sizes: list[int]) -> list[tuple[list[int], int]]:
    """Graphs grouped so that none has fewer than half the rows of its class's largest; empty graphs are left out."""
    classes: list[tuple[list[int], int]] = []
    for g in sorted(range(len(sizes)), key=lambda g: -sizes[g]):
        if not sizes[g]:
            break
        if classes and sizes[g] <= ONE_BY_ONE and 2 * sizes[g] >= classes[-1][1]:
            classes[-1][0].append(g)
        else:
            classes.append(([g], sizes[g]))
    return classes


def _aligned(x: Tensor) -> Tensor:
    """Contiguous, with rows padded to whole 16 bytes, as the grouped product demands."""
    extra = -x.shape[-1] % (16 // x.element_size())
    return F.pad(x, (0, extra)) if extra else x.contiguous()


def _with_zero_row(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_zeros(1, x.shape[1])])


def rows(crow: Tensor, entries: int) -> Tensor:
    """Row of each stored entry: [e]."""
    index = torch.arange(crow.numel() - 1, device=crow.device)
    return torch.repeat_interleave(index, crow.diff(), output_size=entries)


def transpose(crow: Tensor, col: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """CSR of the transpose: its row pointers, its columns, and which entry of the original each of its entries is."""
    perm = torch.argsort(col, stable=True)
    return pointers(col, columns), rows(crow, col.numel())[perm], perm


def pointers(index: Tensor, count: int) -> Tensor:
    """Row pointers [count + 1] of entries whose rows are `index` (in any order)."""
    ptr = index.new_zeros(count + 1)
    torch.cumsum(torch.bincount(index, minlength=count), 0, out=ptr[1:])
    return ptr


def invert(perm: Tensor) -> Tensor:
    """The inverse of a permutation."""
    inverse = torch.empty_like(perm)
    inverse[perm] = torch.arange(perm.numel(), device=perm.device)
    return inverse


def spmm(
    value: Tensor | None,
    x: Tensor,
    crow: Tensor,
    col: Tensor,
    transposed: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """A x: [n, ...] for A in CSR (n x m; `value` None: ones) and x [m, ...].

    `transposed` is the result of `transpose`; None says that A, values included, equals its transpose.
    """
    flat = x.reshape(x.shape[0], math.prod(x.shape[1:]))  # -1 would not do for a matrix without rows
    if value is not None and value.dtype != flat.dtype:
        value = value.to(flat.dtype)
    y = _SpMM.apply(value, flat, crow, col, *(transposed or (None, None, None)))
    return y.reshape(crow.numel() - 1, *x.shape[1:])


def segment_sum(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    """Sum of the rows of each segment: [n, ...] -> [b, ...]; an empty segment gives zeros."""
    if not x.numel():
        return x.new_zeros(ptr.numel() - 1, *x.shape[1:])
    return _SegmentSum.apply(x.reshape(x.shape[0], -1), ptr, index).reshape(ptr.numel() - 1, *x.shape[1:])


def segment_max(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    """Largest row entries of each segment: [n, ...] -> [b, ...]; an empty segment gives zeros."""
    if not x.numel():
        return x.new_zeros(ptr.numel() - 1, *x.shape[1:])
    return _SegmentMax.apply(x.reshape(x.shape[0], -1), ptr, index).reshape(ptr.numel() - 1, *x.shape[1:])


def expand(y: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    """Each segment's row repeated for its members: [b, ...] -> [n, ...]."""
    if not y.numel() or not index.numel():
        return y.new_zeros(index.numel(), *y.shape[1:])
    return _Expand.apply(y.reshape(y.shape[0], -1), ptr, index).reshape(index.numel(), *y.shape[1:])


def gram(s: Tensor, x: Tensor, plan: Plan) -> Tensor:
    """s_g' x_g for each graph: [n, k], [n, f] -> [b, k, f], without padding to the largest graph."""
    plan.prepare()
    if x is s:
        x = s.view_as(s)  # torch.compile traces no Function that gets a tensor twice
    return _Gram.apply(s, x if x.dtype == s.dtype else x.to(s.dtype), plan)


def spread(s: Tensor, y: Tensor, plan: Plan) -> Tensor:
    """s_g y_g for each graph: [n, k], [b, k, f] -> [n, f]."""
    plan.prepare()
    return _Spread.apply(s, y if y.dtype == s.dtype else y.to(s.dtype), plan)
