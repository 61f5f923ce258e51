"""Products over CSR patterns and over ragged batches, each with its derivative in the same small set.

Every function here is linear in each of its tensor arguments, and its backward pass is written with the others, so
gradients of any order come out and none of them needs an atomic addition: the same seed gives the same bits, on
CUDA too. What `torch.compile`, `torch.export` and `torch.func` see is each one's formula instead (`plain`). Shapes: n
rows, m columns, e stored entries, b graphs, k clusters, f features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from poolbench.linalg import plain

# Above this many rows a graph is multiplied on its own: a batched product of its size class would gain nothing and
# pads up to twice its rows. Measured on one core of an x86 CPU, float32, k = 20, f = 64.
ONE_BY_ONE = 512


class _Nowhere:
    """The context of a call that nothing will be differentiated through."""

    needs_input_grad = (False,) * 16

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        pass


class Written(Function):
    """A `Function` whose derivative is written out, beside its formula in torch's own terms.

    `call` takes the formula where a trace or a transform looks on; it takes the arguments of `forward` less `ctx`.
    """

    formula: ClassVar[Callable[..., Any]]


def call(function: type[Written], *args: Any) -> Any:
    """`function.apply`, without its bookkeeping (twice the time of a small product) where nothing is recorded."""
    if plain.by_formula():
        return function.formula(*args)
    return function.apply(*args) if torch.is_grad_enabled() else function.forward(_Nowhere(), *args)


def through(
    formula: Callable[..., Any], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The derivative of `formula`, in torch's own terms, so that it can be differentiated again; None for an input that
    takes none."""
    # Views, since one input may be made from another: the way through that is none of this derivative.
    inputs = [x.view_as(x) for x in inputs]
    made = formula(*inputs)
    made = made if isinstance(made, tuple) else (made,)
    asked = [(y, g) for y, g in zip(made, grads, strict=True) if y is not None and y.requires_grad]
    given = iter(
        torch.autograd.grad(
            [y for y, _ in asked],
            [x for x in inputs if x.requires_grad],
            [g for _, g in asked],
            create_graph=True,
            materialize_grads=True,
        )
    )
    return tuple(next(given) if x.requires_grad else None for x in inputs)


def bag(x: Tensor, crow: Tensor, col: Tensor, value: Tensor | None) -> Tensor:
    """sum_e value_e x[col_e] over each row's entries: [n, f]. `embedding_bag` took a quarter of torch's CSR product."""
    if col.numel() == 0 or x.numel() == 0:
        return x.new_zeros(crow.numel() - 1, x.shape[1])
    weights = None if value is None else value.to(x.dtype)
    return torch.embedding_bag(x.contiguous(), col, crow, False, 0, False, weights, True)[0]


def _spmm(value: Tensor | None, x: Tensor, crow: Tensor, col: Tensor, *_: Tensor | None) -> Tensor:
    return plain.spmm(value, x, rows(crow, col.numel()), col, crow.numel() - 1)


class _SpMM(Written):
    """y = A x for A in CSR; `tcrow, trow, perm` are the CSR of A' and where its entries stand in A's (None: A = A')."""

    formula = staticmethod(_spmm)

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
        return bag(x, crow, col, value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        value, x = ctx.saved_tensors
        crow, col, tcrow, trow, perm = ctx.pattern
        grad_value = grad_x = None
        if ctx.needs_input_grad[0]:
            grad_value = call(_SDDMM, grad, x, crow, col, tcrow, trow, perm)
        if ctx.needs_input_grad[1]:
            if tcrow is None:  # symmetric: A' g is the same product
                grad_x = call(_SpMM, value, grad, crow, col, None, None, None)
            else:
                inverse = invert(perm) if torch.is_grad_enabled() else perm  # read by a second derivative alone
                grad_x = call(_SpMM, None if value is None else value[perm], grad, tcrow, trow, crow, col, inverse)
        return grad_value, grad_x, None, None, None, None, None


def _sddmm(y: Tensor, x: Tensor, crow: Tensor, col: Tensor, *_: Tensor | None) -> Tensor:
    return (y.index_select(0, rows(crow, col.numel())) * x.index_select(0, col)).sum(-1)


class _SDDMM(Written):
    """One number an entry, <y[row_e], x[col_e]>: the derivative of A x in A's values."""

    formula = staticmethod(_sddmm)

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
        return _sddmm(y, x, crow, col)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        y, x = ctx.saved_tensors
        crow, col, tcrow, trow, perm = ctx.pattern
        if tcrow is None:  # the values `grad` are not symmetric even where A is
            tcrow, trow, perm = transpose(crow, col, x.shape[0])
        back = invert(perm)
        grad_y = call(_SpMM, grad, x, crow, col, tcrow, trow, perm) if ctx.needs_input_grad[0] else None
        grad_x = call(_SpMM, grad[perm], y, tcrow, trow, crow, col, back) if ctx.needs_input_grad[1] else None
        return grad_y, grad_x, None, None, None, None, None


class _SegmentSum(Written):
    formula = staticmethod(lambda x, ptr, index: plain.segment_sum(x, index, ptr.numel() - 1))

    @staticmethod
    def forward(ctx: Any, x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        ctx.segments = (ptr, index)
        return bag(x, ptr, torch.arange(x.shape[0], device=x.device), None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return call(_Expand, grads[0], *ctx.segments), None, None


class _Expand(Written):
    formula = staticmethod(lambda y, ptr, index: y.index_select(0, index))

    @staticmethod
    def forward(ctx: Any, y: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        ctx.segments = (ptr, index)
        return y.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return call(_SegmentSum, grads[0], *ctx.segments), None, None


class _SegmentMax(Written):
    """Largest entry of each segment and column; equal entries share the gradient, as torch.amax does."""

    formula = staticmethod(lambda x, ptr, index: plain.segment_max(x, index, ptr.numel() - 1))

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
        share = call(_SegmentSum, hit, *ctx.segments).clamp(min=1.0).reciprocal()
        return call(_Expand, grads[0] * share, *ctx.segments) * hit, None, None


def _gram(plan: Plan, s: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
    return tuple(part.contiguous() for part in _parts(plan.tiles.gram(s, _side_by_side(xs)), xs))


class _Gram(Written):
    """s_g' x_g for each graph g and each of several x: [n, k], [n, f] ... -> [b, k, f] ..., in one product."""

    formula = staticmethod(_gram)

    @staticmethod
    def forward(ctx: Any, plan: Plan, s: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(s, *xs)
        ctx.plan = plan
        if len(xs) == 1:
            return (plan.gram(s, xs[0]),)
        product = plan.gram(s, _side_by_side(xs))
        return tuple(part.contiguous() for part in _parts(product, xs))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        s, *xs = ctx.saved_tensors
        grad = _side_by_side(grads)
        grad_s = None
        if ctx.needs_input_grad[1]:
            grad_s = call(_Spread, _side_by_side(xs), grad.transpose(1, 2), ctx.plan)
        if not any(ctx.needs_input_grad[2:]):
            return None, grad_s, *[None] * len(xs)
        return None, grad_s, *_parts(call(_Spread, s, grad, ctx.plan), xs)


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """The columns of all parts, filled up with zeros to rows of whole 16 bytes."""
    if len(parts) == 1:
        return parts[0]
    extra = -sum(part.shape[-1] for part in parts) % (16 // parts[0].element_size())
    return torch.cat([*parts, parts[0].new_zeros(*parts[0].shape[:-1], extra)] if extra else list(parts), -1)


def _parts(product: Tensor, xs: Sequence[Tensor]) -> Sequence[Tensor]:
    """What each of xs has become, of what their columns side by side have."""
    widths = [x.shape[1] for x in xs]
    return product.split([*widths, product.shape[-1] - sum(widths)], -1)[: len(xs)]


class _Spread(Written):
    """s_g y_g for each graph g: [n, k], [b, k, f] -> [n, f]."""

    formula = staticmethod(lambda s, y, plan: plan.tiles.spread(s, y))

    @staticmethod
    def forward(ctx: Any, s: Tensor, y: Tensor, plan: Plan) -> Tensor:
        ctx.save_for_backward(s, y)
        ctx.plan = plan
        return plan.spread(s, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        s, y = ctx.saved_tensors
        (grad,) = grads
        grad_s = call(_Spread, grad, y.transpose(1, 2), ctx.plan) if ctx.needs_input_grad[0] else None
        grad_y = call(_Gram, ctx.plan, s, grad)[0] if ctx.needs_input_grad[1] else None
        return grad_s, grad_y, None


def _trace(s: Tensor, d: Tensor, plan: Plan) -> Tensor:
    """Tr(S'DS) of each graph, D = diag(d): [b]."""
    return segment_sum(s.square().sum(-1) * d, plan.ptr, plan.index)


def _coarse(
    s: Tensor, x: Tensor, d: Tensor | None, a: tuple[Tensor, Tensor, Tensor | None], plan: Plan
) -> tuple[Tensor | None, ...]:
    crow, col, value = a
    return *gram(plan, s, x, spmm(value, s, crow, col), s), None if d is None else _trace(s, d, plan)


class _Coarse(Written):
    """S'X, S'AS, S'S and Tr(S'DS) of each graph, for an A that equals its transpose and takes no derivative.

    One product in each direction: with U = [X | AS | S] it is S'U, and the derivative in S is
    U [dX' | dM + dM' | dG + dG']' + 2 DS dt, without another product with A.
    """

    formula = staticmethod(_coarse)

    @staticmethod
    def forward(
        ctx: Any, s: Tensor, x: Tensor, d: Tensor | None, a: tuple[Tensor, Tensor, Tensor | None], plan: Plan
    ) -> tuple[Tensor | None, ...]:
        sides = [x, bag(s, *a), s]
        u = _side_by_side(sides)
        ctx.save_for_backward(s, x, u, d)
        ctx.a, ctx.plan = a, plan
        reduced, *made = _parts(plan.gram(s, u), sides)
        return reduced.contiguous(), *made, None if d is None else _trace(s, d, plan)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        s, x, u, d = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *through(lambda s, x: _coarse(s, x, d, ctx.a, ctx.plan), [s, x], grads), None, None, None
        gx, gm, gg, gt = grads
        sides = [gx, gm + gm.transpose(1, 2), gg + gg.transpose(1, 2)]
        grad_s = ctx.plan.spread(u, _side_by_side(sides).transpose(1, 2))
        if d is not None:
            grad_s = torch.addcmul(grad_s, s, (gt.index_select(0, ctx.plan.index) * d).unsqueeze(-1), value=2.0)
        return grad_s, ctx.plan.spread(s, gx) if ctx.needs_input_grad[1] else None, None, None, None


class _OffDiagonal(Written):
    """[b, k, k] with the diagonals set to zero: its own adjoint."""

    formula = staticmethod(
        lambda value: value.masked_fill(torch.eye(value.shape[-1], dtype=torch.bool, device=value.device), 0.0)
    )

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        out = value.clone(memory_format=torch.contiguous_format)
        out.diagonal(dim1=-2, dim2=-1).zero_()
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor]:
        return (call(_OffDiagonal, grads[0]),)


def _normalized(a: Tensor, eps: float, loops: bool, identity: float) -> Tensor:
    a = a if loops else off_diagonal(a)
    a = a + identity * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device) if identity else a
    r = inverse_root(a.sum(-1), eps)
    return a * r.unsqueeze(-1) * r.unsqueeze(-2)


class _Normalized(Written):
    """r_i a_ij r_j with r = `inverse_root` of the row sums d of each a: [b, k, k]. Without `loops`, a_ii counts as 0;
    `identity` is added to it.

    With o the result and g its gradient, that of a_ij is r_i g_ij r_j + h_i, h_i = (dr_i / dd_i) (sum_j g_ij o_ij +
    g_ji o_ji) / r_i.
    """

    formula = staticmethod(_normalized)

    @staticmethod
    def forward(ctx: Any, a: Tensor, eps: float, loops: bool, identity: float) -> Tensor:
        out = a.clone(memory_format=torch.contiguous_format)
        if not loops:
            out.diagonal(dim1=-2, dim2=-1).fill_(identity)
        elif identity:
            out.diagonal(dim1=-2, dim2=-1).add_(identity)
        d = out.sum(-1)
        r = inverse_root(d, eps)
        out.mul_(r.unsqueeze(-1)).mul_(r.unsqueeze(-2))
        ctx.save_for_backward(a, d, r, out)
        ctx.options = eps, loops, identity
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        a, d, r, out = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *through(lambda a: _normalized(a, *ctx.options), [a], [grad]), None, None, None
        felt = grad * out
        felt = felt.sum(-1) + felt.sum(-2)
        # dr/dd = -r^2 / (2 sqrt d), and 0 where d is not above 0, as r is there
        slope = felt * r / (-2.0 * d.masked_fill(d <= 0, 1.0).sqrt())
        grad_a = (grad * r.unsqueeze(-1)).mul_(r.unsqueeze(-2)).add_(slope.unsqueeze(-1))
        if not ctx.options[1]:
            grad_a.diagonal(dim1=-2, dim2=-1).zero_()
        return grad_a, None, None, None


class Plan:
    """How the rows of a ragged batch are multiplied graph by graph, worked out once a batch.

    On the CPU in float32 and the half types, torch's grouped product walks over the graphs without padding. Elsewhere
    (float64, CUDA) graphs of similar size are padded to the largest of their class, at most twice the real rows, and
    graphs above `ONE_BY_ONE` rows are multiplied one by one.
    """

    def __init__(self, ptr: Tensor, index: Tensor, sizes: Sequence[int] | None = None) -> None:
        self.ptr, self.index = ptr, index
        self._sizes = sizes
        self._ends: Tensor | None = None
        self._classes: list[tuple[Tensor, Tensor, int]] | None = None

    @property
    def sizes(self) -> Sequence[int]:
        """Rows of each graph on the host: read back where the caller has not given them."""
        if self._sizes is None:
            self._sizes = self.ptr.diff().tolist()
        return self._sizes

    @property
    def tiles(self) -> plain.Tiles:
        return plain.Tiles(self.ptr, self.index)

    @property
    def ends(self) -> Tensor:
        if self._ends is None:
            self._ends = plain.lasting(lambda: self.ptr[1:].to(torch.int32))
        return self._ends

    @property
    def classes(self) -> list[tuple[Tensor, Tensor, int]]:
        """(graphs, their row numbers with n for padding, width) for each size class."""
        if self._classes is None:
            self._classes = plain.lasting(lambda: [self._class(*c) for c in _size_classes(self.sizes)])
        return self._classes

    def _class(self, members: list[int], width: int) -> tuple[Tensor, Tensor, int]:
        graphs = torch.tensor(members, device=self.ptr.device)
        step = torch.arange(width, device=self.ptr.device)
        start, end = self.ptr[graphs], self.ptr[graphs + 1]
        index = start.unsqueeze(-1) + step
        index = torch.where(index < end.unsqueeze(-1), index, self.index.numel())
        return graphs, index.reshape(-1), width

    def _grouped(self, s: Tensor) -> bool:
        return s.device.type == "cpu" and s.dtype in (torch.float32, torch.bfloat16, torch.float16)

    def gram(self, s: Tensor, x: Tensor) -> Tensor:
        b, k, f = self.ptr.numel() - 1, s.shape[1], x.shape[1]
        if not s.numel() or not x.numel():
            return x.new_zeros(b, k, f)
        if self._grouped(s):
            return F.grouped_mm(_aligned(s).t(), _aligned(x), offs=self.ends)[:, :k, :f]
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
            left = _aligned(s)
            if left.shape[1] != y.shape[1]:
                y = F.pad(y, (0, 0, 0, left.shape[1] - y.shape[1]))
            # the columns of a transpose are as good as rows
            right = y if _is_aligned(y.transpose(1, 2)) else _aligned(y)
            return F.grouped_mm(left, right, offs=self.ends)[:, :f]
        out = y.new_zeros(n + 1, f)  # the last row takes the padding
        s0 = _with_zero_row(s)
        for graphs, index, width in self.classes:
            left = s0.index_select(0, index).view(graphs.numel(), width, s.shape[1])
            out[index] = torch.bmm(left, y.index_select(0, graphs)).view(-1, f)
        return out[:-1]


def _size_classes(sizes: Sequence[int]) -> list[tuple[list[int], int]]:
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
    """Rows of whole 16 bytes, padded where need be, as the grouped product demands."""
    extra = -x.shape[-1] % (16 // x.element_size())
    return F.pad(x, (0, extra)) if extra else x if _is_aligned(x) else x.contiguous()


def _is_aligned(x: Tensor) -> bool:
    unit = 16 // x.element_size()
    steps = (x.storage_offset(), x.shape[-1], *x.stride()[:-1])
    return x.stride(-1) == 1 and not any(step % unit for step in steps)


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
    if plain.traced():  # the length of a bincount is not known before it is counted
        return offsets(index.new_zeros(count).index_add(0, index, torch.ones_like(index)))
    return offsets(torch.bincount(index, minlength=count))


def offsets(sizes: Tensor) -> Tensor:
    """Where each of some segments begins and the last one ends: [0, sizes[0], sizes[0] + sizes[1], ...]."""
    return torch.cat([sizes.new_zeros(1), torch.cumsum(sizes, 0)])


def ranges(start: Tensor, ptr: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """start[g], start[g] + 1, ... for each segment g of `ptr`, one after the other, and the segment of each."""
    segment = rows(ptr, count)
    return torch.arange(count, device=ptr.device) + (start - ptr[:-1]).index_select(0, segment), segment


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
    if value is not None and value.dtype != x.dtype:
        value = value.to(x.dtype)
    back = transposed or (None, None, None)
    if x.ndim == 2:
        return call(_SpMM, value, x, crow, col, *back)
    flat = x.reshape(x.shape[0], math.prod(x.shape[1:]))  # -1 would not do for a matrix without rows
    return call(_SpMM, value, flat, crow, col, *back).reshape(crow.numel() - 1, *x.shape[1:])


def segment_sum(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    """Sum of the rows of each segment: [n, ...] -> [b, ...]; an empty segment gives zeros."""
    if not x.numel():
        return x.new_zeros(ptr.numel() - 1, *x.shape[1:])
    return call(_SegmentSum, x.reshape(x.shape[0], -1), ptr, index).reshape(ptr.numel() - 1, *x.shape[1:])


def merge(value: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum of the values that share an index: [count]. Sorted first, so that the order of additions is fixed."""
    order = torch.argsort(index, stable=True)
    index = index[order]
    return segment_sum(value[order], pointers(index, count), index)


def segment_max(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    """Largest row entries of each segment: [n, ...] -> [b, ...]; an empty segment gives zeros."""
    if not x.numel():
        return x.new_zeros(ptr.numel() - 1, *x.shape[1:])
    return call(_SegmentMax, x.reshape(x.shape[0], -1), ptr, index).reshape(ptr.numel() - 1, *x.shape[1:])


def expand(y: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    """Each segment's row repeated for its members: [b, ...] -> [n, ...]."""
    if not y.numel() or not index.numel():
        return y.new_zeros(index.numel(), *y.shape[1:])
    return call(_Expand, y.reshape(y.shape[0], -1), ptr, index).reshape(index.numel(), *y.shape[1:])


def gram(plan: Plan, s: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
    """s_g' x_g for each graph and each of the xs: [n, k], [n, f] ... -> [b, k, f] ..., no padding to the largest graph.

    What shares s costs one product: a product of small matrices costs more to call than to do.
    """
    return call(_Gram, plan, s, *[x if x.dtype == s.dtype else x.to(s.dtype) for x in xs])


def coarse(
    s: Tensor,
    x: Tensor,
    crow: Tensor,
    col: Tensor,
    value: Tensor | None,
    plan: Plan,
    degree: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """(S'X, S'AS, S'S, Tr(S'DS)) of each graph, differentiable in s [n, k] and x [n, f].

    A in CSR must equal its transpose, values included. D = diag(degree); without, there is no trace.
    """
    value = value if value is None or value.dtype == s.dtype else value.to(s.dtype)
    return call(_Coarse, s, x if x.dtype == s.dtype else x.to(s.dtype), degree, (crow, col, value), plan)


def off_diagonal(value: Tensor) -> Tensor:
    """[b, k, k] with the diagonals set to zero."""
    return call(_OffDiagonal, value)


def inverse_root(d: Tensor, eps: float) -> Tensor:
    """1 / (sqrt(d) + eps), 0 where d is not above 0."""
    zero = d <= 0
    return (d.masked_fill(zero, 1.0).sqrt() + eps).reciprocal().masked_fill(zero, 0.0)


def normalized(a: Tensor, eps: float, loops: bool = True, identity: float = 0.0) -> Tensor:
    """r_i a_ij r_j with r = `inverse_root` of the row sums, for each [k, k] of a; `loops=False` drops a_ii first, and
    a multiple of I is added then."""
    return call(_Normalized, a, eps, loops, identity)


def spread(s: Tensor, y: Tensor, plan: Plan) -> Tensor:
    """s_g y_g for each graph: [n, k], [b, k, f] -> [n, f]."""
    return call(_Spread, s, y if y.dtype == s.dtype else y.to(s.dtype), plan)
