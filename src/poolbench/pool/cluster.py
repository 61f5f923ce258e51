"""ClusterPool: Snelleman, Renting, Hoos, van Rijn, "Edge-Based Graph Component Pooling", 2024, arXiv 2409.11856."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from poolbench.linalg import Matrix, Ragged, Sparse, merged_entries
from poolbench.pool.base.hostgraph import on_host, to_numpy
from poolbench.pool.base.layers import Initializer, check_dropout, not_half
from poolbench.pool.base.pairscore import PairScore
from poolbench.pool.base.partition import Partition
from poolbench.pool.base.partitionpool import PartitionPool
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.src import SparseSelection

#: How e is made of r, and the threshold that goes with it.
METHODS = {"tanh": 0.0, "sigmoid": 0.5, "log_softmax": 0.0}
SCOPES = ("graph", "batch")


class EdgeClusters(Partition):
    """A partition whose clusters add up what their nodes hear.

    heard: the edges without self-loops, their scores as weights.
    alone: [n, 1] bool, the nodes that no contracted edge touches.
    """

    heard: Sparse
    alone: Tensor

    @classmethod
    def joined_by(cls, contracted: Tensor, heard: Sparse) -> EdgeClusters:
        """The clusters that the edges `contracted` [e] bool connect."""
        nodes, edges = heard.nodes, heard.with_value(None).filter(contracted)
        cluster, count = components(edges.crow, edges.col)
        graph = nodes.index.new_zeros(count).scatter(0, cluster, nodes.index)
        s = cls.partition(cluster, None, nodes, Ragged.from_index(graph, nodes.num_graphs, validate=False))
        s.heard = heard
        touched = torch.zeros(nodes.num_rows, dtype=torch.bool, device=cluster.device)
        s.alone = ~touched.index_fill(0, edges.row, True).index_fill(0, edges.col, True).unsqueeze(-1)
        return s

    def hears(self, x: Tensor) -> Tensor:
        """h: [n, f] -> [n, f]."""
        return self.heard.matmul(x) + x * self.alone

    def rows(self, x: Tensor) -> Tensor:
        return super().rows(self.hears(x))

    def reduce(self, x: Tensor) -> Tensor:
        return super().reduce(self.hears(x))


class ClusterPool(PartitionPool):
    r"""Contracts every edge of high score: nodes that such edges connect become one, be it a whole graph.

        r_ij = w . [x_i || x_j] + b                      for each edge i -> j, self-loops left out
        e_ij = tanh(r_ij), sigmoid(r_ij), or the log of the softmax of r over the edges of a graph
        clusters: what the edges with e_ij > threshold connect, whatever their direction
        h_j  = sum of e_ij x_i over all edges i -> j,  + x_j where no contracted edge touches j
        X'   = C'h,   A'_kl = 1 where an edge leads from cluster l to cluster k != l,   C_jk = 1 for j in k

    Every edge counts in h by its score, contracted or not, negative or not, and from outside of the cluster too; a node
    of a contracted edge is heard by its neighbours, not by itself. Clusters stand in the order of their first nodes.
    The weight of an edge has no influence, but one of weight 0 is no edge, and parallel edges are one. A graph without
    edges is returned as it is. The gradient flows through e and X, the clusters are a constant. No losses.

    Logarithms of a softmax are never above 0: "log_softmax" contracts nothing unless it is given a threshold.

    Where sources differ: PyTorch Geometric, which has the authors' code, takes the softmax over all edges of a batch
    (`scope="batch"`), counts parallel edges one by one, and forms four N x N matrices of the batch.
    `lift` gives each node the features of its cluster, as its unpooling does.

    Cost O(n f + E f). The clusters are found on the host, in O(n + E).

    Args:
        edge_score_method: "tanh", "sigmoid" or "log_softmax".
        threshold: of the contracted edges; None: 0.5 for "sigmoid", else 0.
        dropout: probability with which r is set to 0 in training.
        scope: of the softmax, "graph" or "batch".
        connect_red_op: "sum", "mean", "max" or "min" of the weights of the edges between two clusters, those within
            one as self-loops; None: A' is unweighted.
        kernel_initializer, bias_initializer: of w and b; None: as torch's linear layers start, uniform between
            -1 / sqrt(2 f) and 1 / sqrt(2 f).
        in_channels: f, inferred at the first call where it is None.
        remove_self_loops, degree_norm, edge_weight_norm, return_selection: see `PartitionPool`.
        reduce: how h of the nodes of a cluster becomes a row of X', see `PartitionPool`.

    Raises: ValueError for an argument out of these.

    A selection that is handed in brings the edges and scores of its own graph: give it with that graph.
    """

    selects = (EdgeClusters,)

    def __init__(
        self,
        edge_score_method: str = "tanh",
        threshold: float | None = None,
        dropout: float = 0.0,
        scope: str = "graph",
        connect_red_op: str | None = None,
        kernel_initializer: Initializer | None = None,
        bias_initializer: Initializer | None = None,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(connect_red_op="sum" if connect_red_op is None else connect_red_op, **unknown)
        if edge_score_method not in METHODS:
            raise ValueError(f"edge_score_method={edge_score_method!r}: one of {', '.join(METHODS)}")
        if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
            raise ValueError(f"threshold={threshold!r}: a number is expected, or None")
        check_dropout(dropout)
        if scope not in SCOPES:
            raise ValueError(f"scope={scope!r}: one of {', '.join(SCOPES)}")
        self.edge_score_method, self.dropout, self.scope = edge_score_method, dropout, scope
        self.threshold = METHODS[edge_score_method] if threshold is None else threshold
        self.weighted = connect_red_op is not None
        self.projection = EdgeScore(
            in_channels, kernel_initializer=kernel_initializer, bias_initializer=bias_initializer
        )

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> EdgeClusters:
        a = merged_entries(a).without_zeros()
        edges = a.filter(apart) if not bool((apart := a.row != a.col).all()) else a
        e = self.score(x, edges)
        return EdgeClusters.joined_by(e.detach() > self.threshold, edges.with_value(e))

    def score(self, x: Tensor, edges: Sparse) -> Tensor:
        """e of each edge: [e]."""
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would equal the threshold
            x = not_half(x)
            source, target = self.projection(x, x)
            r = F.dropout(edges.at_columns(source) + edges.at_rows(target), self.dropout, self.training)
            if self.edge_score_method == "log_softmax":
                return log_softmax(r, self.within(edges))
            return r.tanh() if self.edge_score_method == "tanh" else r.sigmoid()

    def within(self, edges: Sparse) -> Ragged:
        """What the softmax of the edges runs over."""
        if self.scope == "batch":
            return Ragged.single(edges.col.numel(), edges.col.device)
        nodes = edges.nodes
        return Ragged(edges.crow.index_select(0, nodes.ptr), index=nodes.index.index_select(0, edges.row))

    def connect(self, a: Matrix, s: SparseSelection) -> Sparse:  # type: ignore[override]
        if self.weighted:
            return super().connect(a, s)
        a = a.sparse().without_zeros()
        pooled = s.connect(a.with_value(None, a.symmetric)).sparse()
        ones = None if a.value is None else a.value.new_ones(pooled.col.numel())
        pooled = pooled.with_value(ones, a.symmetric)
        return post_process(pooled, self.remove_self_loops, self.degree_norm, self.edge_weight_norm)


class EdgeScore(PairScore):
    """A `PairScore` that starts as torch's linear layers do, as far as no initialiser is given."""

    def reset_parameters(self) -> None:
        if hasattr(self, "_parameters") and not self.has_uninitialized_params():
            bound = self.in_features**-0.5 if self.in_features else 0.0
            for weight in self.parameters():
                torch.nn.init.uniform_(weight, -bound, bound)
        super().reset_parameters()


@on_host
def components(crow: Tensor, col: Tensor) -> tuple[Tensor, int]:
    """The component of each node of a graph in CSR, direction ignored, in the order of their first nodes: [n] int64,
    and their number."""
    n = crow.numel() - 1
    pattern = csr_array((np.ones(col.numel(), dtype=bool), to_numpy(col), to_numpy(crow)), shape=(n, n))
    count, component = connected_components(pattern, directed=False)
    return torch.from_numpy(component).to(col), count


def log_softmax(r: Tensor, within: Ragged) -> Tensor:
    """The logarithm of the softmax over the entries of each part: [e] -> [e]."""
    r = r - within.expand(within.max(r.detach()))
    # the largest adds exp(0) = 1 to its sum; only that of no entries is less
    return r - within.expand(within.sum(r.exp()).clamp(min=1.0).log())
