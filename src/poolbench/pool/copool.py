"""CoPool: Zhou, Yin, Tsang, "Edge but not Least: Cross-View Graph Pooling", ECML PKDD 2022, arXiv 2109.11796."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.pool.base.convs import looped, propagate
from poolbench.pool.base.layers import Linear, as_wide, not_half
from poolbench.pool.base.selection import KeptSelection
from poolbench.pool.base.src import SparseSelection, SRCPool
from poolbench.pool.topk import check_ratio, top_k

SCOPES = ("graph", "batch")
WIDTH = 32  # of the attention


class CutSelection(KeptSelection):
    """Nodes that are kept, and the attention that was left of the edges, which `connect` restricts to them."""

    m: Sparse

    @classmethod
    def of(cls, s: KeptSelection, m: Sparse) -> CutSelection:
        made = cls(s.node, s.cluster, s.weight, s.nodes, s.pooled, s.increasing)
        made.m = m
        return made

    def connect(self, a: Matrix) -> Sparse:
        return super().connect(self.m)


class CoPool(SRCPool):
    r"""Cuts the edges of least attention, and keeps the nodes that those left predict worst.

        Z  = sum_{t=0..hops} gamma_t (D^-1/2 (A + I) D^-1/2)^t X,   P = Z W_p         [n, 32]
        M_ij = sigmoid(u . p_j + v . p_i) of the edges j -> i,   M_ii = 1,   then M = (M + M') / 2
        M  : entries below the q-th percentile of their graph's become 0,   q = int(100 (1 - edge_ratio))
        y_i = || x_i - (D_M^-1/2 M D_M^-1/2 X)_i ||_1       D_M the row sums of the M that was cut
        s  = of each graph the ceil(ratio n) nodes with the largest y, in input order
        X' = relu([X || M X] W + b)[s],   A' = M[s, s]      M X over all nodes, the diagonal of 1 kept

    A node that has lost all its edges has y = 0; of equal y the lower node comes first. The gradient flows through M
    into X' and A', not through the cut and the choice. The weights of edges are not used. gamma starts as personalised
    PageRank: alpha (1 - alpha)^t, the last one (1 - alpha)^hops. y is the returned score. No losses.

    Z and P are never formed: of them u . p and v . p are needed, two columns. Cost O(E (f + hops) + E log E + n f^2).

    The formulas are those of the Graph Pooling Benchmark's adaptation, whose percentile is one of all edges of the
    batch, so that a graph's answer depends on its company (`scope="batch"`); whose default for hops is 0.05, which
    cannot run, and which is called with 1; and which forms N x N matrices. A percentile makes of 0.9 the 9th: more
    edges than their share are left. In a directed graph an edge one way only has half its attention, both ways.

    Args:
        ratio: in (0, 1], the share of nodes to keep, or a whole number >= 2; see `poolbench.pool.topk.ScorePool`.
        edge_ratio: about the share of the entries of M that is left, in (0, 1].
        hops: of the filter before the attention, a whole number of at least 0.
        alpha: of the initial gamma, in [0, 1].
        scope: what the percentile is taken over, "graph" or "batch".
        return_selection: also return the selection.
        return_score: return y too; False leaves it out.
        in_channels: f, inferred at the first call where it is None.

    Raises: ValueError for an argument out of these.

    A selection that is handed in brings the M of its own graph: give it with that graph, whose edges are not looked at.
    """

    selects = (CutSelection,)

    def __init__(
        self,
        ratio: float | int = 0.5,
        edge_ratio: float = 0.6,
        hops: int = 1,
        alpha: float = 0.1,
        scope: str = "graph",
        return_selection: bool = False,
        return_score: bool = True,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        if not (isinstance(edge_ratio, float | int) and 0.0 < edge_ratio <= 1.0):
            raise ValueError(f"edge_ratio={edge_ratio!r}: a share of the edges in (0, 1] is expected")
        if not (isinstance(alpha, float | int) and 0.0 <= alpha <= 1.0):
            raise ValueError(f"alpha={alpha!r}: a number in [0, 1] is expected")
        if scope not in SCOPES:
            raise ValueError(f"scope={scope!r} is not one of {', '.join(SCOPES)}")
        self.ratio, self.return_score = check_ratio(ratio), return_score
        self.edge_ratio, self.scope, hops = edge_ratio, scope, whole("hops", hops, least=0)
        self.gamma = nn.Parameter(torch.tensor([*(alpha * (1 - alpha) ** t for t in range(hops)), (1 - alpha) ** hops]))
        self.projection = Linear(in_channels, WIDTH, bias=False)
        self.source, self.target = Linear(WIDTH, 1, bias=False), Linear(WIDTH, 1, bias=False)
        self.update = _Halving(None if in_channels is None else 2 * in_channels, in_channels or 0)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> CutSelection:
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
            wide = not_half(x)
            m = self.attend(wide, a)
            y = unpredicted(wide, m)
        if self.return_score:
            self._score = y
        return CutSelection.of(SparseSelection.keep(self.choose(y, m.nodes), None, m.nodes, increasing=True), m)

    def choose(self, y: Tensor, nodes: Ragged) -> Tensor:
        """The nodes to keep, in increasing number: [k]."""
        return top_k(y, nodes, self.ratio)

    def attend(self, x: Tensor, a: Matrix) -> Sparse:
        """M, cut."""
        ends = self.filtered(x, a)
        pairs = a.view(both_ways)
        assert isinstance(pairs, Sparse)
        m = torch.sigmoid(pairs.at_columns(ends)[:, 0] + pairs.at_rows(ends)[:, 1])
        m = m if pairs.value is None else m * pairs.value.to(x.dtype)
        # The entry (j, i) is the same number to the bit, so that an edge is not cut one way only.
        m = torch.where(pairs.row == pairs.col, 1.0, (m + m.index_select(0, pairs.transposed()[2])) / 2.0)
        return pairs.with_value(m, symmetric=True).filter(self.left(m.detach(), pairs))

    def filtered(self, x: Tensor, a: Matrix) -> Tensor:
        """u . p and v . p of each node: [n, 2]."""
        if self.projection.has_uninitialized_params():
            self.projection(x[:0])
        heads = as_wide(torch.cat([self.source.weight, self.target.weight]), x) @ as_wide(self.projection.weight, x)
        y = x @ heads.T
        first, *rest = as_wide(self.gamma, x).unbind()
        z = first * y
        for gamma in rest:
            y = propagate(y, a)
            z = z + gamma * y
        return z

    def left(self, m: Tensor, pairs: Sparse) -> Tensor:
        """Which entries are not below the percentile: [e] bool."""
        nodes = pairs.nodes
        ptr = pairs.crow[nodes.ptr] if self.scope == "graph" else pairs.crow[[0, -1]]
        count = ptr.diff()
        segment = torch.repeat_interleave(torch.arange(count.numel(), device=m.device), count, output_size=m.numel())
        order = torch.argsort(m, stable=True)
        order = order[torch.argsort(segment[order], stable=True)]
        # Between two entries, the percentile leaves the upper one.
        rank = ((count - 1).clamp(min=0) * int(100 * (1 - self.edge_ratio)) + 99) // 100
        bar = m[order[(ptr[:-1] + rank).index_select(0, segment)]]
        return m >= bar

    def reduce(self, x: Tensor, s: CutSelection) -> Tensor:  # type: ignore[override]
        return torch.relu(self.update(s.reduce(torch.cat([x, s.m.matmul(x)], -1))))


def both_ways(a: Matrix) -> Sparse:
    """The edges of a, each both ways, and one self-loop a node, columns in order. A view (`Matrix.view`).

    Without values where a is known to be symmetric; else they are 1 for the edges and 0 for what was added.
    """
    loops = looped(a)
    if loops.symmetric:
        return Sparse.from_edges(loops.row, loops.col, None, loops.nodes, symmetric=True)
    row, col = torch.cat([loops.row, loops.col]), torch.cat([loops.col, loops.row])
    hit = (torch.arange(row.numel(), device=row.device) < loops.row.numel()).to(torch.get_default_dtype())
    return Sparse.from_edges(row, col, hit, loops.nodes)


@torch.no_grad()
def unpredicted(x: Tensor, m: Sparse) -> Tensor:
    """|| x_i - (D^-1/2 M D^-1/2 X)_i ||_1, D the row sums of M, all at least 1: [n]."""
    root = m.degree().rsqrt().unsqueeze(-1)
    return (x - root * m.matmul(root * x)).abs().sum(-1)


class _Halving(Linear):
    """A linear layer half as wide as its input."""

    def initialize_parameters(self, x: Tensor) -> None:
        self.out_features = x.shape[-1] // 2
        super().initialize_parameters(x)
