"""ParsPool: Song, Huang, Wang, Zhou, Lin, "Graph Parsing Networks", ICLR 2024, arXiv 2402.14393."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter

from poolbench.errors import whole
from poolbench.linalg import Matrix, Sparse
from poolbench.linalg.products import invert
from poolbench.linalg.spgemm import collect
from poolbench.pool.base.aggregation import aggregated
from poolbench.pool.base.layers import (
    INITIALIZERS,
    Initializer,
    Linear,
    SquareLinear,
    Unsized,
    as_wide,
    check_dropout,
    not_half,
)
from poolbench.pool.base.partition import CentredPartition, neighbourhoods
from poolbench.pool.base.patternpool import PatternPool
from poolbench.pool.base.src import SparseSelection


class ParsPool(PatternPool):
    r"""Joins each node to the neighbour across its best edge: a graph halves at least, and how far is learned.

        e_ij  = sigmoid(MLP(x_i * x_j))                            for each edge, in both directions the same
        p(i)  = the neighbour j of i with the largest e_ij
        S     : the connected components of the pairs {i, p(i)};   f_k = the sum of e over the edges inside k
        X'_k  = f_k phi_2(sum of phi_1(x_i) over i in k),          phi(z) = LayerNorm(z + MLP(z))
        A'_ab = 1 where an edge joins a and b

    This is one round of Boruvka's maximum spanning forest. The graph is read as undirected, f counts both directions of
    an edge, and f_k = 1 for a node without edges, which stays alone. Of equal scores the edge to the lower node is
    taken. Clusters are numbered by their lowest nodes. An edge's weight has no influence, but one of weight 0 is no
    edge. No losses. The gradient reaches the scores through f; the clusters are a constant for it. `lift` copies X'_k.

    Where the sources differ from this class: the authors' network computes e and phi_1 from two GNNs on the same
    graph, of which the second is the first in most published settings; here both see x. It repeats one layer with
    shared weights until no graph shrinks; here the model says how many levels there are. Its clusters are numbered in
    the order in which a loop finds them, and its edges may be dropped before they are scored, which no published
    setting does. Where it un-pools, X'_k is divided by the number of edges inside k.

    Cost O(E f^2 + n f^2) for the networks, O(E log E) for the clusters.

    Args:
        score_layers: linear layers of the network of the scores, at least 1, all but the last with LayerNorm and ReLU.
        set_layers: linear layers of each phi, ReLU between them; with 0 phi(z) = z.
        self_loops: each node has a self-loop, too, which may be its best edge: it then joins nobody.
        dropout: of the hidden layers of all three networks.
        kernel_initializer, bias_initializer: of their linear layers.
        in_channels: f, inferred at the first call where it is None.
        reduce: what is in place of the sum in X', see `PartitionPool`.
        weighted: A' has the weights of the edges, see `PatternPool`.
        remove_self_loops, connect_red_op, degree_norm, edge_weight_norm, return_selection: see `PartitionPool`.

    Raises: ValueError for an argument out of these.
    """

    def __init__(
        self,
        score_layers: int = 2,
        set_layers: int = 3,
        self_loops: bool = False,
        dropout: float = 0.0,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(**unknown)
        check_dropout(dropout)
        self.self_loops = self_loops
        options: dict[str, Any] = {"kernel_initializer": kernel_initializer, "bias_initializer": bias_initializer}
        self.edge_network = ScoreMLP(in_channels, whole("score_layers", score_layers), dropout, **options)
        layers = whole("set_layers", set_layers, 0)
        pooled = None if in_channels is None else self.out_channels(in_channels)
        self.before = SetMLP(in_channels, layers, dropout, **options) if layers else nn.Identity()
        self.after = SetMLP(pooled, layers, dropout, **options) if layers else nn.Identity()

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> ParsedPartition:
        a = a.sparse()
        pairs = neighbourhoods(a)
        pairs = pairs.filter(pairs.row < pairs.col)
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
            e, u, v = self.score(not_half(x), pairs)
        s = CentredPartition.around(parsed(e.detach(), u, v, x.shape[0]), None, a.nodes)
        cluster = s.of_node.index_select(0, u)
        (inside,) = (cluster == s.of_node.index_select(0, v)).nonzero(as_tuple=True)
        both = e.new_full(e.shape, 2.0).masked_fill_(u == v, 1.0) * e
        cluster = cluster.index_select(0, inside)
        f = collect(both.index_select(0, inside), cluster, s.centres.numel())
        alone = torch.ones_like(s.centres, dtype=torch.bool).index_fill_(0, cluster, False)
        return ParsedPartition.of(s, f.masked_fill(alone, 1.0))

    def score(self, x: Tensor, pairs: Sparse) -> tuple[Tensor, Tensor, Tensor]:
        """e of each edge {u, v}, u <= v, given once, and its ends; self-loops come last: each [m]."""
        u, v, z = pairs.row, pairs.col, pairs.at_rows(x) * pairs.at_columns(x)
        if self.self_loops:
            each = torch.arange(x.shape[0], device=x.device)
            u, v, z = torch.cat([u, each]), torch.cat([v, each]), torch.cat([z, x.square()])
        return self.edge_network(z).squeeze(-1).sigmoid(), u, v

    def reduce(self, x: Tensor, s: SparseSelection) -> Tensor:  # type: ignore[override]
        pooled = self.after(aggregated(self.aggregation, s.rows(self.before(x)), s.clusters))
        return pooled * s.factor.unsqueeze(-1).to(x.dtype) if isinstance(s, ParsedPartition) else pooled


class ParsedPartition(CentredPartition):
    """The clusters, and f of each, which multiplies its features: [k]."""

    factor: Tensor

    @classmethod
    def of(cls, s: CentredPartition, factor: Tensor) -> ParsedPartition:
        parsed = cls(s.node, s.cluster, None, s.nodes, s.pooled, s.centres)
        parsed.factor = factor
        return parsed


class ScoreMLP(nn.Module):
    """A number for each row: [m, f] -> [m, 1]; hidden layers as wide as the input, each with LayerNorm and ReLU."""

    def __init__(self, in_channels: int | None, layers: int, dropout: float, **options: Any) -> None:
        super().__init__()
        self.dropout = dropout
        self.hidden = nn.ModuleList(SquareLinear(in_channels, **options) for _ in range(layers - 1))
        self.norms = nn.ModuleList(Norm(in_channels, options["bias_initializer"]) for _ in range(layers - 1))
        self.last = Linear(in_channels, 1, **options)

    def forward(self, z: Tensor) -> Tensor:
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            z = F.dropout(norm(layer(z)).relu(), self.dropout, self.training)
        return self.last(z)


class SetMLP(nn.Module):
    """LayerNorm(z + MLP(z)): [m, f] -> [m, f], layers as wide as the input, ReLU between them."""

    def __init__(self, in_channels: int | None, layers: int, dropout: float, **options: Any) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.ModuleList(SquareLinear(in_channels, **options) for _ in range(layers))
        self.norm = Norm(in_channels, options["bias_initializer"])

    def forward(self, z: Tensor) -> Tensor:
        first, *rest = self.layers
        y = first(z)
        for layer in rest:
            y = layer(F.dropout(y.relu(), self.dropout, self.training))
        return self.norm(z + y)


class Norm(LazyModuleMixin, nn.Module):
    """torch's LayerNorm over the last axis; its bias is drawn, and its width inferred, as those of a `Linear` are."""

    cls_to_become = None  # it stays this class once its shape is known
    weight: UninitializedParameter | nn.Parameter
    bias: UninitializedParameter | nn.Parameter

    def __init__(self, in_channels: int | None, bias_initializer: Initializer) -> None:
        super().__init__()
        self._fill = INITIALIZERS[bias_initializer] if isinstance(bias_initializer, str) else bias_initializer
        self.weight, self.bias = Unsized(), Unsized()
        if in_channels is not None:
            z = torch.empty(0, in_channels)
            self.initialize_parameters(z)
            self._infer_parameters(self, (z,))

    @torch.no_grad()
    def initialize_parameters(self, z: Tensor) -> None:
        for parameter, fill in ((self.weight, nn.init.ones_), (self.bias, self._fill)):
            if isinstance(parameter, UninitializedParameter):
                parameter.materialize((z.shape[-1],))
                fill(parameter)

    def forward(self, z: Tensor) -> Tensor:
        return F.layer_norm(z, z.shape[-1:], as_wide(self.weight, z), as_wide(self.bias, z))


@torch.no_grad()
def parsed(e: Tensor, u: Tensor, v: Tensor, n: int) -> Tensor:
    """The lowest node of the component that each node is in, each joined to the other end of its best edge: [n].

    Args:
        e: [m] scores of the edges {u, v}; of equal ones the first goes first.
        n: number of nodes; one without edges is alone.
    """
    each = torch.arange(n, device=u.device)
    order = torch.argsort(e, descending=True, stable=True)
    rank = invert(order).repeat(2)
    best = torch.full_like(each, e.numel()).scatter_reduce_(0, torch.cat([u, v]), rank, "amin")
    (linked,) = (best < e.numel()).nonzero(as_tuple=True)
    edge = order.index_select(0, best.index_select(0, linked))
    across = u.index_select(0, edge) + v.index_select(0, edge) - linked
    head = each.index_copy(0, linked, across)
    # Along a path of best edges ranks fall, so each ends in one edge that is the best of both its ends.
    head = torch.where((head[head] == each) & (each < head), each, head)
    while not torch.equal(head, farther := head[head]):
        head = farther
    lowest = torch.full_like(each, n).scatter_reduce_(0, head, each, "amin")
    return lowest.index_select(0, head)


__all__ = ["ParsPool", "parsed"]
