"""PANPool: Ma, Xuan, Wang, Li, Lio, "Path Integral Based Convolution and Pooling for Graph Neural Networks", NeurIPS
2020, arXiv 2006.16811."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter

from poolbench.errors import whole
from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.linalg.met import met_matrix
from poolbench.pool.base.layers import Activation, Unsized, activation, as_wide, not_half
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.selection import KeptSelection
from poolbench.pool.base.src import SRCPool
from poolbench.pool.topk import above, check_min_score, check_ratio, top_k


class PANPool(SRCPool):
    r"""Keeps the nodes that a projection and the paths into them score highest, joined by the paths between them.

        M  = Z^-1/2 (sum_{l=0..L} w_l A^l) Z^-1/2        Z the row sums of the sum; the MET matrix
        y_i = beta_1 x_i . p + beta_2 sum_j M_ji         p, beta and w trainable
        s  = of each graph the ceil(ratio n) nodes with the largest y, in input order
        X' = (multiplier tanh(y) X)[s],   A' = M[s, s]   its diagonal kept

    With `min_score`: y is replaced by its softmax over the nodes of each graph, which is the gate too, and the nodes
    with y_i > min(min_score, max y - 1e-7) are kept, at least one of each graph.

    The paper takes M from the PAN convolution before the pool: hand it in as `pool(x, a, m=m)`, a matrix over the same
    nodes. Without one, the pool forms M from A with path weights of its own, so that it fits any model. M is formed by
    products of sparse matrices and is differentiable in w and A. Of equal y the lower node comes first; the gradient
    flows through the gate and A', not through the choice. No losses.

    Where sources differ: nodes are ranked by y, where PyG and tgp rank by tanh(y), in which large scores tie. tgp's
    rows and edges disagree in order; both demand M from outside, and a float ratio of 1.0 keeps one node there, all of
    them here. In a directed graph M is taken as written, Z being row sums: M_ji is the weight of the paths from i to j.

    Cost O(n f + nnz(M)), and for M the O(nnz(A^l) d) of each product: M fills up quickly with L.

    Args:
        ratio: in (0, 1], the share of nodes to keep, or a whole number >= 2; see `poolbench.pool.topk.ScorePool`.
        filter_size: L, the longest path, a whole number of at least 1.
        min_score: in [0, 1], keep by score, not by `ratio`.
        multiplier: of the pooled features.
        nonlinearity: the gate, an increasing function or its name.
        remove_self_loops: drop the diagonal of A'.
        degree_norm: A'_ij / sqrt(d_i d_j), d the row sums.
        edge_weight_norm: divide A' by the largest |weight| of its graph.
        return_selection: also return the selection.
        return_score: return y too; False leaves it out.
        in_channels: f, inferred at the first call where it is None.

    Raises: ValueError for an argument out of these, or an `m` with another number of nodes.
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        filter_size: int = 2,
        min_score: float | None = None,
        multiplier: float = 1.0,
        nonlinearity: Activation = "tanh",
        remove_self_loops: bool = False,
        degree_norm: bool = False,
        edge_weight_norm: bool = False,
        return_selection: bool = False,
        return_score: bool = True,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        self.ratio = check_ratio(ratio)
        self.min_score, self.multiplier = check_min_score(min_score), multiplier
        self.gate = activation(nonlinearity)
        self.post = {
            "remove_self_loops": remove_self_loops, "degree_norm": degree_norm, "edge_weight_norm": edge_weight_norm,
        }  # fmt: skip
        self.return_score = return_score
        self.paths = path_weights(filter_size)
        self.projection = _Projection(in_channels)
        self.beta = nn.Parameter(torch.full((2,), 0.5))

    def select(self, x: Tensor, a: Matrix, i: Tensor | None, m: Matrix | None = None) -> METSelection:
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
            x = not_half(x)
            met = self.met(a, m, x.shape[0])
            y = self.beta[0] * self.projection(x) + self.beta[1] * met.column_sums().to(x.dtype)
        if self.min_score is None:
            gate, kept = self.gate(y), top_k(y.detach(), met.nodes, self.ratio)
        else:
            gate = y = met.nodes.softmax(y)
            kept = above(y.detach(), met.nodes, self.min_score)
        if self.return_score:
            self._score = y
        return METSelection.of(kept, self.multiplier * gate.index_select(0, kept), met)

    def met(self, a: Matrix, m: Matrix | None, n: int) -> Sparse:
        """M over the n real nodes, formed from `a` where none is given."""
        if m is None:
            return met_matrix(a.sparse(), not_half(self.paths)).sparse()
        if not isinstance(m, Matrix):
            raise TypeError(f"m must be a poolbench.linalg.Matrix, not {type(m).__name__}")
        met = m.sparse()
        if met.nodes.num_rows != n:
            raise ValueError(f"m has {met.nodes.num_rows} nodes, x has {n}: m is a matrix over the nodes of x")
        return met

    def connect(self, a: Matrix, s: METSelection) -> Sparse:  # type: ignore[override]
        return post_process(s.connect(a), **self.post)


class METSelection(KeptSelection):
    """Nodes that are kept, and the MET matrix, which is what `connect` restricts to them."""

    m: Sparse

    @classmethod
    def of(cls, kept: Tensor, weight: Tensor, m: Sparse) -> METSelection:
        pooled = Ragged.from_index(m.nodes.index[kept], m.nodes.num_graphs)
        s = cls(kept, torch.arange(kept.numel(), device=kept.device), weight, m.nodes, pooled)
        s.m = m
        return s

    def connect(self, a: Matrix) -> Sparse:
        return super().connect(self.m)


def path_weights(filter_size: int) -> nn.Parameter:
    """w, all equal at first: [L + 1]. Raises ValueError where L is no whole number of at least 1."""
    return nn.Parameter(torch.ones(whole("filter_size", filter_size) + 1))


class _Projection(LazyModuleMixin, nn.Module):
    """x . p with p [f], ones at first: [n, f] -> [n]."""

    cls_to_become = None  # it stays this class once its shape is known
    p: UninitializedParameter | nn.Parameter

    def __init__(self, in_channels: int | None) -> None:
        super().__init__()
        self.p = Unsized() if in_channels is None else nn.Parameter(torch.ones(in_channels))

    def initialize_parameters(self, x: Tensor) -> None:
        if isinstance(self.p, UninitializedParameter):
            self.p.materialize((x.shape[-1],))
            nn.init.ones_(self.p)

    def forward(self, x: Tensor) -> Tensor:
        return x @ as_wide(self.p, x)
