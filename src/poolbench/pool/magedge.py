"""MagEdgePool: Limbeck, Mezrag, Wolf, Rieck, "Geometry-aware Edge Pooling for Graph Neural Networks", 2025, arXiv
2506.11700."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from poolbench.linalg import Matrix
from poolbench.pool.base.aggregation import Aggregation
from poolbench.pool.base.geometry import DIVERSITIES, METRICS, edge_scores
from poolbench.pool.base.hostgraph import Array, canonical_order, host_graphs, on_host, one_thread, reordered, simple
from poolbench.pool.base.partition import CentredPartition
from poolbench.pool.base.patternpool import PatternPool
from poolbench.pool.topk import check_ratio

TIE = 1e-8  # relative: scores that are nearer to each other are equal


class MagEdgePool(PatternPool):
    r"""Contracts the edges whose contraction changes the geometry of the graph least.

        Div(G) = sum over components of  1' Z^-1 1  (magnitude)  or  sum_i 1 / (Z 1)_i  (spread),   Z_ij = exp(-d(i, j))
        e_ab   = |Div(G) - Div(G / ab)|                            G / ab: a and b are one node
        edges are taken in rising order of e, each if neither of its ends belongs to one taken before, until
        round((1 - ratio) n) are
        X'_k   = mean of x_i over i in k,   A'_kl = 1 where an edge joins k and l, k = l too

    d is a distance in the unweighted graph, see `metric`. No parameters, no losses; S and A' depend on A alone
    (`precomputable`). Edge weights take no part; a directed graph is read as undirected for S; self-loops and negative
    weights are no edges there. `lift` copies.

    One pass of this kind is a matching, so at least half of the nodes stay, and more where it ends before its number is
    reached. With a share of at least 0.5 there is one pass, as in the authors' code; with a smaller one, or a number of
    nodes, passes with new scores follow until the number is reached or no edge is left.

    Where sources differ from this class: the authors' code draws among equal scores (within 1e-8), which are the rule
    in small graphs; here the edge goes first that comes first in an order of nodes that does not depend on their
    numbers. It hands on the clusters in an order in which other nodes are averaged than those that were merged, and
    contracts one edge alone in a graph of several components; here the right nodes are averaged, and components are
    contracted side by side. It has passes with new scores above 0.5 and none below. Its approximation (distances that
    are changed in the row of a alone) is left out.

    Cost O(E r n^2) on the host for a component with r nodes near an edge (spread: O(E r n + n^2); metrics other than
    diffusion distances: O(E n^3)), and O(n^2) memory, as all pairs have a distance; then O(E + n f).

    Args:
        ratio: share of the nodes that stay, in (0, 1], or a whole number of nodes >= 2.
        diversity: "magnitude" or "spread".
        metric: "diffusion_distance", Euclidean between rows of L = I - D^-1/2 A D^-1/2; "heat_kernel_distance", of
            exp(-L); "resistance_distance", with edges as resistors of 1; or "shortest_path_distance".
        reduce: "mean" of the features of a cluster, or another one, see `PartitionPool`.
        remove_self_loops: drop the self-loops of A', which the contracted edges leave.
        weighted: A' has the weights of the edges, see `PatternPool`.
        connect_red_op, degree_norm, edge_weight_norm, return_selection: see `PartitionPool`.

    Raises: ValueError for an argument out of these, and for weights that are not finite.
    """

    precomputable = True

    def __init__(
        self,
        ratio: float | int = 0.5,
        diversity: str = "magnitude",
        metric: str = "diffusion_distance",
        reduce: Aggregation = "mean",
        **unknown: Any,
    ) -> None:
        super().__init__(reduce=reduce, **{"remove_self_loops": False, **unknown})
        if diversity not in DIVERSITIES:
            raise ValueError(f"diversity={diversity!r}: one of {', '.join(DIVERSITIES)}")
        if metric not in METRICS:
            raise ValueError(f"metric={metric!r}: one of {', '.join(METRICS)}")
        self.ratio, self.diversity, self.metric = check_ratio(ratio), diversity, metric

    @on_host
    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> CentredPartition:
        a = a.sparse()
        with one_thread():
            lowest = [self.merged(simple(graph)) for graph in host_graphs(a)]
        each = torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *lowest])).to(a.col.device)
        return CentredPartition.around(each + a.nodes.expand(a.nodes.ptr[:-1]), None, a.nodes)

    def merged(self, a: csr_array) -> Array:
        """The lowest node of the cluster that each node is in: [n]."""
        n, order = a.shape[0], canonical_order(a)
        cluster = np.arange(n)
        graph = reordered(a, order).toarray() != 0
        few = isinstance(self.ratio, int) and self.ratio > 1
        target = min(n, int(self.ratio)) if few else n - round((1 - float(self.ratio)) * n)
        while len(graph) > target and graph.any():
            edges, scores = edge_scores(graph, self.metric, self.diversity)
            new = contraction(edges[ranked(scores)], len(graph), len(graph) - target)
            cluster, graph = new[cluster], contracted(graph, new)
            if not few and self.ratio >= 0.5:
                break
        first = np.full(n, n)
        np.minimum.at(first, cluster, order)
        lowest = np.empty(n, dtype=np.int64)
        lowest[order] = first[cluster]
        return lowest


def ranked(scores: Array) -> Array:
    """The edges in rising order of their scores, equal ones in the order in which they stand: [e]."""
    order = np.argsort(scores, kind="stable")
    rising = scores[order]
    apart = np.diff(rising, prepend=0.0) > TIE * np.abs(rising)
    return order[np.lexsort((order, np.cumsum(apart)))]


def contraction(edges: Array, n: int, count: int) -> Array:
    """The cluster of each node once up to `count` of the edges [e, 2] are contracted, no two of which meet: [n].

    Clusters are numbered by their lowest nodes.
    """
    mate = np.arange(n)
    for u, v in edges.tolist():
        if count and mate[u] == u and mate[v] == v:
            mate[u], mate[v], count = v, u, count - 1
    return np.unique(np.minimum(mate, np.arange(n)), return_inverse=True)[1]


def contracted(graph: Array, cluster: Array) -> Array:
    """The graph [k, k] bool between clusters [n], without self-loops."""
    k = int(cluster.max()) + 1
    out = np.zeros((k, k), dtype=bool)
    u, v = graph.nonzero()
    out[cluster[u], cluster[v]] = True
    np.fill_diagonal(out, False)
    return out
