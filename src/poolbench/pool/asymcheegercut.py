"""AsymCheegerCutPool: Hansen, Bianchi, "Total Variation Graph Neural Networks", ICML 2023, arXiv 2211.06218."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix, Nodes, Padded, Ragged, Sparse
from poolbench.linalg.plain import traced
from poolbench.linalg.products import Written, call, segment_sum
from poolbench.pool.base.layers import Activation, Constraint, Initializer, Regularizer, not_half
from poolbench.pool.base.mlppool import MLPPool
from poolbench.pool.base.src import DenseSelection

# The quantiles sort the few entries that can be one, where there are at least so many clusters and these are at most
# this share of all. One core of an x86 CPU, softmax of normal draws, 32 to 256 graphs of 30 to 9,000 nodes: 0.05 to
# 0.5 of the time of the full sort for k >= 20, 0.3 to 0.95 for k = 12; for k <= 8 more than half may be left and it
# took up to twice. Giving up, as where most entries are equal, costs 0.1 to 0.3 of the full sort.
MANY_CLUSTERS, FEW = 12, 0.4


class AsymCheegerCutPool(MLPPool):
    r"""Sharp clusters from a relaxed asymmetric Cheeger cut.

        S  = softmax(MLP(X))                                                   [n, k]
        X' = S'X,   A' = S'AS                                                  (diagonal kept, not normalised)
        L_totvar  = totvar_coeff / (2 nnz) sum_uv a_uv sum_c |S_uc - S_vc|
        L_balance = balance_coeff (n (k - 1) - sum_uc rho(S_uc - q_c)) / (n (k - 1))
                    rho(r) = (k - 1) r for r >= 0, -r below

    q_c is the (floor(n / k) + 1)-th largest entry of column c over the real nodes of the graph (of equal ones the lower
    node), and the gradient flows to the node that it is. nnz counts the entries of A other than zero, both directions
    of an edge: 2E for an undirected graph without self-loops. Each loss is a mean over graphs (the authors' code
    divides the total variation of a batch by the edges of the whole batch); a graph without edges adds 0 to L_totvar.

    The total variation of a sparse A is a sum over its entries, with O(E k) memory at work; the quantiles take one
    sort by (graph, value), on the CPU of the entries that can be one. Cost O(E k + n k (k + f + log n)) time,
    O(n k + E) memory.

    Args:
        totvar_coeff, balance_coeff: factors of the losses.
        use_bias: whether the layers of the MLP have a bias (Spektral ignores it).
        k, k_per_graph: number of clusters of each graph, at least 2, see `SoftPool`.
        remove_self_loops, degree_norm, loss_coeffs, mlp_hidden, mlp_activation, return_selection, in_channels and
            Keras's keywords: see `MLPPool`.
    """

    def __init__(
        self,
        k: int,
        mlp_hidden: Sequence[int] | int | None = None,
        mlp_activation: Activation = "relu",
        totvar_coeff: float = 1.0,
        balance_coeff: float = 1.0,
        return_selection: bool = False,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(
            k,
            mlp_hidden,
            mlp_activation,
            return_selection,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            kernel_constraint,
            bias_constraint,
            use_bias,
            in_channels,
            **unknown,
        )
        if self.k < 2:
            raise ValueError(f"k={k}: the balance of an asymmetric Cheeger cut needs at least 2 clusters")
        self.totvar_coeff, self.balance_coeff = totvar_coeff, balance_coeff

    def assess(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:  # type: ignore[override]
        super().assess(s, x, a)
        self.add_loss("totvar", self.totvar_coeff * self.per_graph(total_variation(s.s, a), a.nodes))
        self.add_loss("balance", self.balance_coeff * self.per_graph(imbalance(s), a.nodes))


def total_variation(s: Tensor, a: Matrix) -> Tensor:
    """sum_uv a_uv ||S_u - S_v||_1 / (2 nnz) of each graph, 0 where it has no edges: [b]."""
    most = a.nnz().clamp(min=1.0)
    if isinstance(a, Dense):
        # Over all pairs: 18 times faster than over entries where all are there, as in a pooled graph (one CPU core).
        wide = not_half(s)
        total = (a.value * torch.cdist(wide, wide, p=1.0)).sum((1, 2))
    else:
        a = a.sparse()
        value = None if a.value is None else a.value.to(s.dtype)
        if a.symmetric and not (a.value is not None and a.value.requires_grad):
            with torch.no_grad():
                total, slope = _symmetric_variation(s, value, a)
                mean = total / (2.0 * most)
            return call(_PiecewiseLinear, s, mean, slope, most, a.nodes)
        total = a.nodes.sum(call(_Variation, s, value, a.crow, a.row, a.col, a.transposed()))
    return total / (2.0 * most)


def imbalance(s: DenseSelection) -> Tensor:
    """(n (k - 1) - sum_uc rho(S_uc - q_c)) / (n (k - 1)) of each graph, in [0, 1], 0 without nodes: [b]."""
    with torch.no_grad():
        rho, slope = _rho(s.s, s.nodes, s.k)
        most = s.nodes.sizes * (s.k - 1)
        divisor = most.clamp(min=1)
        rest = (most - rho) / divisor
    return call(_PiecewiseLinear, s.s, rest, slope, -divisor, s.nodes)


def _rho(s: Tensor, nodes: Nodes, k: int | Tensor) -> tuple[Tensor, Tensor]:
    """sum_uc rho(s_uc - q_c) of each graph, [b], and its derivative in s."""
    if not s.shape[-2]:
        return s.new_zeros(nodes.num_graphs), torch.zeros_like(s)
    at = ranked(s, nodes, (nodes.sizes // k).to(torch.int64)).reshape(-1)
    r = s - nodes.expand(s.reshape(-1).index_select(0, at).reshape(-1, s.shape[-1]))
    above = r.clone().ge_(0.0)  # 1 or 0, in a third of the time of r >= 0 and its conversion
    slope = above.mul_(nodes.expand(k).unsqueeze(-1) if isinstance(k, Tensor) else k).sub_(1.0)
    slope = nodes.zero_padding(slope)
    rho = nodes.sum(r.mul_(slope)).sum(-1)
    return rho, slope.reshape(-1).index_add(0, at, nodes.sum(slope).reshape(-1), alpha=-1).view(s.shape)


def ranked(s: Tensor, nodes: Nodes, rank: Tensor) -> Tensor:
    """Where in s >= 0, flat, the rank-th largest entry (from 0) of each column stands: rank n // k [b] -> [b, k].

    Over a graph's real nodes, k >= 2; of equal entries the lower node comes first. A graph without nodes has an
    undefined row, which reaches no node.
    """
    n, k = s.shape[-2:]
    s = s.detach()
    if isinstance(nodes, Ragged):
        # The filter reads back how many pass, which CUDA would wait for and torch.compile would break the graph at.
        if k >= MANY_CLUSTERS and s.device.type == "cpu" and not traced():
            found = _ranked_of_few(s, nodes, rank)
            if found is not None:
                return found
        place = (nodes.ptr[:-1] + rank).clamp(max=n - 1)
        node = _decreasing(s, nodes)[:, place].t()
    else:
        assert isinstance(nodes, Padded)
        # Padding comes last; rows are numbered over the batch.
        valid = s if nodes.mask is None else s.masked_fill(~nodes.mask.unsqueeze(-1), -1.0)
        order = valid.sort(dim=1, descending=True, stable=True).indices
        first = n * torch.arange(nodes.num_graphs, device=s.device).unsqueeze(-1)
        node = first + order.gather(1, rank.reshape(-1, 1, 1).expand(-1, 1, k)).squeeze(1)
    return node * k + torch.arange(k, device=s.device)


def _ranked_of_few(s: Tensor, nodes: Ragged, rank: Tensor) -> Tensor | None:
    """`ranked`, by a sort of the entries alone that can be it; None where those are many.

    A column whose nodes are dealt into rank + 1 parts has rank + 1 entries, the largest of each part, that are not
    below the smallest of these: neither is the rank-th largest entry.
    """
    n, k = s.shape
    index, parts = nodes.index, rank + 1
    ends = parts.cumsum(0)
    part = torch.arange(n).remainder_(parts.index_select(0, index)).add_((ends - parts).index_select(0, index))
    top = s.new_zeros(int(ends[-1]), k).scatter_reduce_(0, part.unsqueeze(-1).expand_as(s), s, "amax")
    bound = torch.segment_reduce(top, "min", lengths=parts, axis=0, unsafe=True)
    passes = (s < bound.index_select(0, index)).logical_not_()  # NaN does
    at = passes.view(-1).nonzero().view(-1)
    if at.numel() > FEW * s.numel():
        return None
    node = at // k
    group = index.index_select(0, node).sub_(node).mul_(k).add_(at)  # graph * k + column
    value = s.reshape(-1).index_select(0, at)
    if s.dtype == torch.float64:
        order = value.sort(descending=True, stable=True).indices
        order = order[group[order].sort(stable=True).indices]
    else:
        order = _key(group, value).sort(stable=True).indices
    count = torch.bincount(group, minlength=nodes.num_graphs * k)
    place = (count.cumsum(0) - count).view(-1, k).add_(rank.unsqueeze(-1)).clamp_(max=at.numel() - 1)
    return at.index_select(0, order.index_select(0, place.view(-1))).view(-1, k)


def _decreasing(s: Tensor, nodes: Ragged) -> Tensor:
    """For each column of s >= 0 the nodes, graph by graph, in decreasing order of their entries: [k, n]."""
    columns = s.t().contiguous()
    if s.dtype == torch.float64:
        order = columns.sort(dim=1, descending=True, stable=True).indices
        return order.gather(1, nodes.index[order].sort(dim=1, stable=True).indices)
    # Against two stable sorts it took half the time or less; against padded size classes 0.7 to 0.9 of it.
    return _key(nodes.index, columns).sort(dim=1, stable=True).indices


def _key(group: Tensor, value: Tensor) -> Tensor:
    """What sorts by (group, -value), value >= 0: the bits of floats that are not negative are ordered as they are."""
    return (group << 32) - value.to(torch.float32).view(torch.int32)


def _piecewise_linear(s: Tensor, value: Tensor, slope: Tensor, divisor: Tensor, nodes: Nodes) -> Tensor:
    return value + nodes.sum((s - s.detach()) * slope).sum(-1) / divisor


class _PiecewiseLinear(Written):
    """`value` [b] of each graph, as a function of s whose derivative around s is slope / divisor[graph]."""

    formula = staticmethod(_piecewise_linear)

    @staticmethod
    def forward(ctx: Any, s: Tensor, value: Tensor, slope: Tensor, divisor: Tensor, nodes: Nodes) -> Tensor:
        ctx.save_for_backward(slope, divisor)
        ctx.nodes = nodes
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slope, divisor = ctx.saved_tensors
        return ctx.nodes.expand(grads[0] / divisor).unsqueeze(-1) * slope, None, None, None, None


def _symmetric_variation(s: Tensor, value: Tensor | None, a: Sparse) -> tuple[Tensor, Tensor]:
    """sum_uv a_uv ||s_u - s_v||_1 of each graph, [b], and half its derivative in s, where A = A'.

    The [e, k] differences are computed once, for both, in blocks of 32 columns: of 48,000 entries and k = 142 the
    blocks took a third of the time of all columns at once.
    """
    total, slopes = s.new_zeros(a.nodes.num_graphs), []
    for columns in s.split(32, 1):
        columns = columns.contiguous()
        d = columns.index_select(0, a.row).sub_(columns.index_select(0, a.col))
        far = d.abs() if value is None else d.abs().mul_(value.unsqueeze(-1))
        total = total + a.nodes.sum(segment_sum(far, a.crow, a.row)).sum(-1)
        sign = d.sign_() if value is None else d.sign_().mul_(value.unsqueeze(-1))
        slopes.append(segment_sum(sign, a.crow, a.row))
    return total, torch.cat(slopes, 1) if len(slopes) > 1 else slopes[0]


def _variation(s: Tensor, value: Tensor | None, crow: Tensor, row: Tensor, col: Tensor, *_: object) -> Tensor:
    return segment_sum(_weighted(_distance(s, row, col), value), crow, row)


class _Variation(Written):
    """sum_v a_uv ||s_u - s_v||_1 for each node u: [n]. `back` is the transpose of A's pattern.

    Keeps s and recomputes the [e, k] differences on the way back; sums by segments, without atomics.
    """

    formula = staticmethod(_variation)

    @staticmethod
    def forward(
        ctx: Any,
        s: Tensor,
        value: Tensor | None,
        crow: Tensor,
        row: Tensor,
        col: Tensor,
        back: tuple[Tensor, Tensor, Tensor],
    ) -> Tensor:
        ctx.save_for_backward(s, value)
        ctx.pattern = (crow, row, col, back)
        return _variation(s, value, crow, row, col)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        s, value = ctx.saved_tensors
        crow, row, col, back = ctx.pattern
        grad_s = grad_value = None
        if ctx.needs_input_grad[0]:
            tcrow, source, perm = back  # the entries that point at a node
            there = _weighted(grad[source], None if value is None else value[perm])
            grad_s = _signs(s, _weighted(grad[row], value), crow, row, col) + _signs(s, there, tcrow, col[perm], source)
        if ctx.needs_input_grad[1]:
            grad_value = grad[row] * _distance(s, row, col)
        return grad_s, grad_value, None, None, None, None


def _weighted(x: Tensor, value: Tensor | None) -> Tensor:
    return x if value is None else x * value


def _distance(s: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """||s_u - s_v||_1 of each entry: [e]."""
    return (s.index_select(0, row) - s.index_select(0, col)).abs().sum(-1)


def _signs(s: Tensor, weight: Tensor, crow: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """sum over the entries (u, v) of each node u of weight_uv sign(s_u - s_v): [n, k]."""
    sign = (s.detach().index_select(0, row) - s.detach().index_select(0, col)).sign()
    return segment_sum(weight.unsqueeze(-1) * sign, crow, row)
