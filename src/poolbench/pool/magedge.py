"""MagEdgePool: Limbeck, Mezrag, Wolf, Rieck, "Geometry-aware Edge Pooling for Graph Neural Networks", 2025, arXiv
2506.11700."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, shortest_path
from torch import Tensor

from poolbench.linalg import Matrix
from poolbench.pool.base.aggregation import Aggregation
from poolbench.pool.base.hostgraph import Array, canonical_order, host_graphs, on_host, one_thread, reordered, simple
from poolbench.pool.base.partition import CentredPartition
from poolbench.pool.base.patternpool import PatternPool
from poolbench.pool.base.spectral import dense_laplacian
from poolbench.pool.topk import check_ratio

TIE = 1e-8  # relative: scores that are nearer to each other are equal
AT_ONCE = 1 << 20  # entries of the matrices that are worked on at a time


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

    Cost O(E n^3) a graph for its scores, on the host, n and E of a component; O(n^2) memory. O(E + n f) after it.

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
            edges, scores = edge_scores(graph, METRICS[self.metric], DIVERSITIES[self.diversity])
            new = contraction(edges[ranked(scores)], len(graph), len(graph) - target)
            cluster, graph = new[cluster], contracted(graph, new)
            if not few and self.ratio >= 0.5:
                break
        first = np.full(n, n)
        np.minimum.at(first, cluster, order)
        lowest = np.empty(n, dtype=np.int64)
        lowest[order] = first[cluster]
        return lowest


def edge_scores(
    graph: Array, metric: Callable[[Array], Array], diversity: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """The edges u < v of an undirected graph [n, n] bool, in order, and how much contracting each changes Div: [e]."""
    edges = np.argwhere(np.triu(graph))
    scores = np.zeros(len(edges))
    _, component = connected_components(csr_array(graph), directed=False)
    for c in np.unique(component[edges[:, 0]]):
        nodes, own = np.flatnonzero(component == c), np.flatnonzero(component[edges[:, 0]] == c)
        part = graph[np.ix_(nodes, nodes)].astype(float)
        whole = diversity(metric(part[None]))
        ends = np.searchsorted(nodes, edges[own])
        after = [diversity(metric(block)) for block in _contractions(part, ends)]
        scores[own] = np.abs(np.concatenate(after) - whole)
    return edges, scores


def _contractions(graph: Array, ends: Array) -> Iterator[Array]:
    """The graph [n, n] with each of the edges [e, 2] contracted, some at a time: [m, n - 1, n - 1]."""
    n = len(graph)
    step = max(1, AT_ONCE // n**2)
    others = np.arange(n - 1)
    for start in range(0, len(ends), step):
        a, b = ends[start : start + step].T
        row = np.maximum(graph[a], graph[b])
        row[np.arange(len(a)), a] = 0
        block = np.repeat(graph[None], len(a), 0)
        block[np.arange(len(a)), a] = block[np.arange(len(a)), :, a] = row
        kept = others + (others >= b[:, None])
        yield np.take_along_axis(np.take_along_axis(block, kept[:, :, None], 1), kept[:, None, :], 2)


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


# Distances in connected graphs [.., n, n] with entries 0 and 1: [.., n, n]


def diffusion(a: Array) -> Array:
    return _euclidean(dense_laplacian(a, normalized=True))


def heat_kernel(a: Array) -> Array:
    values, vectors = np.linalg.eigh(dense_laplacian(a, normalized=True))
    return _euclidean(vectors * np.exp(-values)[..., None, :])


def resistance(a: Array) -> Array:
    # L + J / n has the inverse L+ + J / n, of which J / n takes no part in a distance
    return np.maximum(_squared(np.linalg.inv(dense_laplacian(a, normalized=False) + 1 / a.shape[-1])), 0.0)


def shortest_paths(a: Array) -> Array:
    return np.stack([shortest_path(csr_array(graph), directed=False, unweighted=True) for graph in a])


def _euclidean(rows: Array) -> Array:
    """Between rows: [.., n, f] -> [.., n, n]."""
    return np.sqrt(np.maximum(_squared(rows @ np.swapaxes(rows, -1, -2)), 0.0))


def _squared(gram: Array) -> Array:
    """g_ii + g_jj - 2 g_ij, 0 where i = j."""
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1)
    return (diagonal[..., :, None] + diagonal[..., None, :] - 2 * gram) * (1 - np.eye(gram.shape[-1]))


# Diversities of spaces with distances [m, n, n]: [m]


def magnitude(distance: Array) -> Array:
    """1' Z^-1 1; with 0.01 I added to a Z that is not positive definite."""
    z, n = np.exp(-distance), distance.shape[-1]
    if not _positive_definite(z):
        z += 0.01 * np.array([not _positive_definite(own) for own in z])[:, None, None] * np.eye(n)
    return np.linalg.solve(z, np.ones((len(z), n, 1))).sum((1, 2))


def _positive_definite(z: Array) -> bool:
    """Whether all of the matrices are."""
    try:
        np.linalg.cholesky(z)
    except np.linalg.LinAlgError:
        return False
    return True


def spread(distance: Array) -> Array:
    return (1 / np.exp(-distance).sum(-1)).sum(-1)


METRICS: dict[str, Callable[[Array], Array]] = {
    "diffusion_distance": diffusion,
    "heat_kernel_distance": heat_kernel,
    "resistance_distance": resistance,
    "shortest_path_distance": shortest_paths,
}
DIVERSITIES: dict[str, Callable[[Array], Array]] = {"magnitude": magnitude, "spread": spread}
