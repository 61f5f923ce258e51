"""AsymCheegerCutPool: Hansen, Bianchi, "Total Variation Graph Neural Networks", ICML 2023, arXiv 2211.06218."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from poolbench.linalg import Dense, Matrix, Nodes, Padded, Ragged
from poolbench.linalg.products import segment_sum
from poolbench.pool.layers import Activation, Constraint, Initializer, Regularizer
from poolbench.pool.mlppool import MLPPool
from poolbench.pool.src import DenseSelection


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
    sort by (graph, value). Cost O(E k + n k (k + f + log n)) time, O(n k + E) memory.

    Args:
        totvar_coeff, balance_coeff: factors of the losses.
        use_bias: whether the layers of the MLP have a bias (Spektral ignores it).
        k, k_per_graph: number of clusters of each graph, at least 2, see `SoftPool`.
        mlp_hidden, mlp_activation, return_selection, in_channels and Keras's keywords: see `MLPPool`.
    """

    def __init__(
        self,
        k: int,
        mlp_hidden: Sequence[int] | None = None,
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

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        s = super().select(x, a, i)
        self.add_loss("totvar", self.totvar_coeff * self.per_graph(total_variation(s.s, a), a.nodes))
        self.add_loss("balance", self.balance_coeff * self.per_graph(imbalance(s), a.nodes))
        return s


def total_variation(s: Tensor, a: Matrix) -> Tensor:
    """sum_uv a_uv ||S_u - S_v||_1 / (2 nnz) of each graph, 0 where it has no edges: [b]."""
    if isinstance(a, Dense):
        # Over all pairs: 18 times faster than over entries where all are there, as in a pooled graph (one CPU core).
        total = (a.value * torch.cdist(s, s, p=1.0)).sum((1, 2))
    else:
        a = a.sparse()
        back = None if a.symmetric and not (a.value is not None and a.value.requires_grad) else a.transposed()
        value = None if a.value is None else a.value.to(s.dtype)
        total = a.nodes.sum(_Variation.apply(s, value, a.crow, a.row, a.col, back))
    return total / (2.0 * a.nnz().clamp(min=1.0))


def imbalance(s: DenseSelection) -> Tensor:
    """(n (k - 1) - sum_uc rho(S_uc - q_c)) / (n (k - 1)) of each graph, in [0, 1], 0 without nodes: [b]."""
    nodes, k, n = s.nodes, s.k, s.nodes.sizes
    r = s.s - nodes.expand(quantile(s.s, nodes, (n // k).to(torch.int64)))
    slope = nodes.expand(k - 1).unsqueeze(-1) if isinstance(k, Tensor) else k - 1
    rho = nodes.sum(torch.where(r >= 0, slope * r, -r)).sum(-1)
    most = n.clamp(min=1) * (k - 1)
    return ((most - rho) / most).masked_fill(n == 0, 0.0)


def quantile(s: Tensor, nodes: Nodes, rank: Tensor) -> Tensor:
    """Of each column of s >= 0 the rank-th largest entry (from 0) over a graph's real nodes: rank [b] -> [b, k].

    Of equal entries the lower node comes first. A graph without nodes has an undefined row, which reaches no node.
    """
    n, k = s.shape[-2:]
    if not n:
        return s.new_zeros(nodes.num_graphs, k)
    if isinstance(nodes, Ragged):
        place = (nodes.ptr[:-1] + rank).clamp(max=n - 1)
        node = _decreasing(s.detach(), nodes)[:, place].t()
    else:
        assert isinstance(nodes, Padded)
        # Padding comes last; rows are numbered over the batch.
        valid = s.detach() if nodes.mask is None else s.detach().masked_fill(~nodes.mask.unsqueeze(-1), -1.0)
        order = valid.sort(dim=1, descending=True, stable=True).indices
        first = n * torch.arange(nodes.num_graphs, device=s.device).unsqueeze(-1)
        node = first + order.gather(1, rank.reshape(-1, 1, 1).expand(-1, 1, k)).squeeze(1)
    at = node * k + torch.arange(k, device=s.device)
    return s.reshape(-1).index_select(0, at.reshape(-1)).reshape(-1, k)


def _decreasing(s: Tensor, nodes: Ragged) -> Tensor:
    """For each column of s >= 0 the nodes, graph by graph, in decreasing order of their entries: [k, n]."""
    columns = s.t().contiguous()
    if s.dtype == torch.float64:
        order = columns.sort(dim=1, descending=True, stable=True).indices
        return order.gather(1, nodes.index[order].sort(dim=1, stable=True).indices)
    # The bits of floats that are not negative are ordered as the floats are, so one sort by (graph, -value) does.
    # Against two stable sorts it took half the time or less; against padded size classes 0.7 to 0.9 of it.
    key = (nodes.index << 32) - columns.to(torch.float32).view(torch.int32)
    return key.sort(dim=1, stable=True).indices


class _Variation(Function):
    """sum_v a_uv ||s_u - s_v||_1 for each node u: [n]. `back` is the transpose of A's pattern; None says A = A'.

    Keeps s and recomputes the [e, k] differences on the way back; sums by segments, without atomics.
    """

    @staticmethod
    def forward(
        ctx: Any,
        s: Tensor,
        value: Tensor | None,
        crow: Tensor,
        row: Tensor,
        col: Tensor,
        back: tuple[Tensor, Tensor, Tensor] | None,
    ) -> Tensor:
        ctx.save_for_backward(s, value)
        ctx.pattern = (crow, row, col, back)
        return segment_sum(_weighted(_distance(s, row, col), value), crow, row)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        s, value = ctx.saved_tensors
        crow, row, col, back = ctx.pattern
        grad_s = grad_value = None
        if ctx.needs_input_grad[0]:
            ends = grad[row] if back is not None else grad[row] + grad[col]
            grad_s = _signs(s, _weighted(ends, value), crow, row, col)
            if back is not None:  # the entries that point at a node
                tcrow, source, perm = back
                target = col[perm]
                weight = _weighted(grad[source], None if value is None else value[perm])
                grad_s = grad_s + _signs(s, weight, tcrow, target, source)
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
