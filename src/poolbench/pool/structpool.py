"""StructPool: Yuan, Ji, "StructPool: Structured Graph Pooling via Conditional Random Fields", ICLR 2020."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.sparse import csr_array, eye_array
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import Dense, Matrix, Nodes, Sparse, merged_entries
from poolbench.linalg.products import segment_sum
from poolbench.pool.base.convs import pattern
from poolbench.pool.base.hostgraph import on_host, to_numpy
from poolbench.pool.base.layers import Linear, not_half
from poolbench.pool.base.src import DenseSelection, SoftPool


class StructPool(SoftPool):
    r"""Soft clusters from a conditional random field, so that nodes with like features are assigned alike.

        U  = tanh(D^-1 ((A + I) H W + b)), layer after layer from H = X                          [n, k]
        W_ij = x_i . x_j,  W_ii = 0,   W~ = W divided by its row sums
        Q  = U, and then `iterations` times  Q = U + W~ softmax(Q)      (the mean field, algorithm 1)
        S  = softmax(Q),   X' = S'X,   A' = S'AS, the diagonal kept, not normalised

    D holds the row sums of A + I. W is never formed: W P = X (X'P) - diag(|x_i|^2) P, and its row sums are
    x_i . sum_{j != i} x_j. A row sum may be negative, which turns the sign of what its node hears, and near to 0, which
    makes that large, as in the authors' code. Where it is 0, of a single node or one of zeros, or a node without
    neighbours under `l_hop`, there is 0/0 in that code; here its node hears nothing.

    Where sources differ: the paper learns how clusters go together; in the authors' code this is a constant, I
    (`learn_compatibility=False`). It says that nodes up to 15 hops apart talk, and runs the field on all pairs
    (`l_hop=None`). Cost O(E (f + h) + iterations n f k) time, O(n (f + h + iterations k)) memory for widths h; with
    `l_hop` in place of n f k the pairs within l hops times k, which are many. No losses.

    Args:
        k, k_per_graph, remove_self_loops, degree_norm, loss_coeffs: see `SoftPool`; there are no losses to weight.
        hidden: widths of the hidden layers before U.
        iterations: of the mean field, a whole number of at least 1.
        l_hop: W_ij is 0 but for nodes at most l hops apart; 1 multiplies W by A itself. None: all pairs of a graph.
        learn_compatibility: Q = U + W~ softmax(Q) C with a matrix C [k, k] that is learnt, I at first.
        return_selection: also return S.
        in_channels: f, inferred at the first call where it is None.

    Raises: ValueError for an argument out of these.
    """

    def __init__(
        self,
        k: int,
        hidden: Sequence[int] = (48, 48),
        iterations: int = 5,
        l_hop: int | None = None,
        learn_compatibility: bool = False,
        return_selection: bool = False,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(k, return_selection, **unknown)
        self.iterations = whole("iterations", iterations)
        self.l_hop = None if l_hop is None else whole("l_hop", l_hop)
        self.potentials: nn.Module = Potentials(self.k, hidden, in_channels)
        self.compatibility = nn.Parameter(torch.eye(self.k)) if learn_compatibility else None

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        nodes = a.nodes
        with torch.autocast(x.device.type, enabled=False):  # row sums cancel
            wide = nodes.zero_padding(not_half(x))
            u = self.potentials(wide, a)
            hear = all_pairs(wide, nodes) if self.l_hop is None else near_pairs(wide, a, self.l_hop)
            q = u
            for _ in range(self.iterations):
                heard = hear(self.assign(q, nodes).s)
                q = u + (heard if self.compatibility is None else heard @ self.compatibility.to(heard.dtype))
        return self.assign(q.to(x.dtype), nodes)

    def assess(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:  # type: ignore[override]
        s.expect(x, a)


class Potentials(nn.Module):
    """U: the layers tanh(D^-1 ((A + I) H W + b)), D the row sums of A + I, one after the other: [.., f] -> [.., k].

    Where a row sum is not above 0, as negative weights may make it, its row is 0.
    """

    def __init__(self, k: int, hidden: Sequence[int], in_channels: int | None) -> None:
        super().__init__()
        if not isinstance(hidden, Sequence):
            raise ValueError(f"hidden={hidden!r}: a list of widths is expected")
        widths = [whole("hidden", width) for width in hidden]
        inputs: list[int | None] = [in_channels, *widths]
        self.layers = nn.ModuleList(Linear(n, m) for n, m in zip(inputs, [*widths, k], strict=True))

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        degree = a.matmul(x.new_ones(*x.shape[:-1], 1)) + 1.0
        share = degree.masked_fill(degree <= 0, torch.inf).reciprocal()
        for layer in self.layers:
            x = torch.tanh(share * layer(x + a.matmul(x)))
        return x


Hearing = Callable[[Tensor], Tensor]


def all_pairs(x: Tensor, nodes: Nodes) -> Hearing:
    """P -> W~ P of all pairs of nodes of a graph; rows of padding in x are 0.

    The terms of a row sum cancel, so it is added in float64. The rows of W~ add up to 1, so that of P only the
    differences from its mean m need go through the product, W~ P = m + W~ (P - m): less is lost to rounding.
    """
    wide = x.double()
    share = _share((wide * (nodes.expand(nodes.sum(wide)) - wide)).sum(-1, keepdim=True))
    left, back = (share * wide).to(x.dtype), (share * wide.square().sum(-1, keepdim=True)).to(x.dtype)
    hears = (share != 0).to(x.dtype)

    def hear(p: Tensor) -> Tensor:
        mean = nodes.expand(nodes.mean(p))
        rest = p - mean
        return mean * hears + nodes.spread(left, nodes.gram(x, rest)) - back * rest

    return hear


def near_pairs(x: Tensor, a: Matrix, hops: int) -> Hearing:
    """P -> W~ P of the pairs of nodes at most so many hops apart."""
    real = a.nodes.real if isinstance(a, Dense) else None
    x = x if real is None else x[real]
    pairs = a.view(Within(hops))
    assert isinstance(pairs, Sparse)
    w = (pairs.at_rows(x) * pairs.at_columns(x)).sum(-1)
    w = w if pairs.value is None else w * pairs.value.to(x.dtype)
    share = _share(segment_sum(w, pairs.crow, pairs.row))
    wide = pairs.with_value(w * pairs.at_rows(share))
    if real is None:
        return wide.matmul
    return lambda p: p.new_zeros(p.shape).index_put((real,), wide.matmul(p[real]))


def _share(sums: Tensor) -> Tensor:
    """1 / sums, 0 where a sum is 0, in value and gradient."""
    zero = sums == 0
    return sums.masked_fill(zero, 1.0).reciprocal().masked_fill(zero, 0.0)


@dataclass(frozen=True)
class Within:
    """Which nodes are at most so many hops apart, less the diagonal, without weights; of 1 hop: A with its weights."""

    hops: int

    def __call__(self, a: Matrix) -> Sparse:
        return merged_entries(a).without_diagonal() if self.hops == 1 else _reached(pattern(a), self.hops)


@on_host
def _reached(a: Sparse, hops: int) -> Sparse:
    n = a.nodes.num_rows
    entries = torch.ones(a.col.numel(), dtype=torch.bool)
    power = csr_array((to_numpy(entries), to_numpy(a.col), to_numpy(a.crow)), shape=(n, n)) + eye_array(n, dtype=bool)
    reached = eye_array(n, dtype=bool, format="csr")
    while hops:
        reached = reached @ power if hops & 1 else reached
        hops >>= 1
        power = power @ power if hops else power
    reached.sort_indices()
    crow, col = (torch.from_numpy(v).to(a.col) for v in (reached.indptr, reached.indices))
    return Sparse(crow, col, None, a.nodes, a.symmetric, distinct=True).without_diagonal()
