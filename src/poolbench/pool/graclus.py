"""GraclusPool: Dhillon, Guan, Kulis, "Weighted Graph Cuts without Eigenvectors: A Multilevel Approach", TPAMI 29(11),
2007; in graph neural networks since Defferrard, Bresson, Vandergheynst, NeurIPS 2016, arXiv 1606.09375.

With `complement=True` it is a control: Mesquita, Souza, Kaski, "Rethinking pooling in graph neural networks", NeurIPS
2020, arXiv 2010.11418.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.linalg.products import invert, pointers
from poolbench.pool.base.draws import mix, node_draws
from poolbench.pool.base.matching import greedy_matching
from poolbench.pool.base.partition import CentredPartition, neighbourhoods
from poolbench.pool.base.partitionpool import PartitionPool


class GraclusPool(PartitionPool):
    r"""Pairs of neighbours, heavy edges first: about half of the nodes remain.

        M   = a maximal matching: edges in falling order of A_ij, taken while both ends are free
        S_ic = 1 if c is the pair of i, or i itself where it has none
        X'  = S'X,   A'_ab = sum of A_ij over i in a, j in b, a != b

    Equal weights come in an order drawn from `seed`; in an unweighted graph that is all there is. No parameters, no
    losses. M depends on A alone (`precomputable`), and for each graph on itself alone.

    The method as published visits nodes in random order, and each free one takes its free neighbour of largest weight.
    M is what it finds when the ends of the edges of M are visited in falling order of weight, then the rest: at
    each visit the partner is the free neighbour of largest weight. On an unweighted graph every maximal matching is an
    answer of both, only the odds differ. What the order by weight buys is that M does not depend on the order of the
    nodes. It is found in parallel rounds (`poolbench.pool.base.matching`).

    With `complement=True` the pairs are nodes that are *not* adjacent: a maximal matching of the complement graph, in
    random order; reduce and connect are those of the graph itself. The complement is never formed: see
    `complement_matching`.

    Cost O(E log E + n f), for the sort of the edges and for O(log^2 n) expected rounds over those that are left; a path
    whose weights rise from end to end needs a round for each pair.

    Decisions, where sources differ:

    * Weights are compared as they are, as in PyG and tgp. The original maximises A_ij (1 / d_i + 1 / d_j).
    * PyG and tgp draw anew at every call, so that a data set that was pooled once and one pooled on the fly differ.
      Here nothing is drawn from torch's generator: the order is a hash of (`seed`, the node's place in its graph), see
      `poolbench.pool.base.draws`.
    * An edge in either direction makes a pair, of two directions the heavier counts. Self-loops and stored zeros are no
      edges.

    Args:
        complement: pair nodes that are not adjacent.
        seed: of the order in which equal weights come.
        remove_self_loops, connect_red_op, degree_norm, edge_weight_norm, return_selection, reduce: see `PartitionPool`.
    """

    precomputable = True

    def __init__(self, complement: bool = False, seed: int = 0, **unknown: Any) -> None:
        super().__init__(**unknown)
        self.complement = complement
        self.seed = whole("seed", seed, 0)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> CentredPartition:
        a = a.sparse()
        draws = node_draws(a, self.seed)
        mate = complement_matching(neighbourhoods(a), draws) if self.complement else heavy_matching(a, draws)
        each = torch.arange(mate.numel(), device=mate.device)
        return CentredPartition.around(torch.minimum(mate, each), None, a.nodes)


@torch.no_grad()
def heavy_matching(a: Sparse, draws: Tensor) -> Tensor:
    """The partner of each node (itself where it has none) in the greedy matching by falling weight: [n].

    Args:
        draws: [n] int64, settle ties.
    """
    (real,) = ((a.row != a.col) & (a.weights != 0)).nonzero(as_tuple=True)
    row, col = a.row[real], a.col[real]
    order = torch.argsort(_edge_draws(row, col, draws), stable=True)
    if a.value is not None:
        order = order[torch.argsort(a.value[real][order], descending=True, stable=True)]
    return greedy_matching(row, col, invert(order), a.nodes.num_rows)


@torch.no_grad()
def complement_matching(pattern: Sparse, draws: Tensor) -> Tensor:
    """The partner of each node (itself where it has none) in a random maximal matching of the complement: [n].

    Rounds: the free nodes of each graph are put in a random order, and the first and second, third and fourth and so on
    are paired where they are not adjacent. A graph of whose free nodes at least half of all pairs are adjacent is
    finished by a greedy matching of the others, listed: they are no more than its edges. So no round matches less than
    a quarter of the nodes (expected), and the memory is O(n + E).

    Args:
        pattern: from `neighbourhoods`.
        draws: [n] int64.
    """
    nodes, n = pattern.nodes, pattern.nodes.num_rows
    mate = torch.arange(n, device=draws.device)
    edges = pattern.row * n + pattern.col
    left, turn = mate, 0
    while left.numel():
        sizes = torch.bincount(nodes.index[left], minlength=nodes.num_graphs)
        met = torch.bincount(nodes.index[edges // n], minlength=nodes.num_graphs)  # both directions of an edge
        crowded = (2 * met >= sizes * (sizes - 1))[nodes.index[left]]
        u, v = _listed_pairs(left[crowded], nodes)
        open_ = ~_among(u * n + v, edges)
        u, v = u[open_], v[open_]
        order = torch.argsort(_edge_draws(u, v, draws))
        u, v = _pairs(greedy_matching(u, v, invert(order), n))
        mate[u], mate[v] = v, u

        left, turn = left[~crowded], turn + 1
        order = left[torch.argsort(mix(draws[left] + turn))]
        u, v = _in_twos(nodes.together(order), nodes)
        open_ = ~_among(u * n + v, edges)
        u, v = u[open_], v[open_]
        mate[u], mate[v] = v, u

        left = left[mate[left] == left]
        free = torch.zeros(n, dtype=torch.bool, device=left.device).index_fill(0, left, True)
        edges = edges[free[edges // n] & free[edges % n]]
    return mate


def _edge_draws(u: Tensor, v: Tensor, draws: Tensor) -> Tensor:
    """A draw a pair, the same for (u, v) and (v, u)."""
    return mix(draws[u] + draws[v])


def _among(key: Tensor, keys: Tensor) -> Tensor:
    """Which of `key` are in the increasing `keys`."""
    if not keys.numel():
        return torch.zeros_like(key, dtype=torch.bool)
    place = torch.searchsorted(keys, key).clamp(max=keys.numel() - 1)
    return keys[place] == key


def _pairs(mate: Tensor) -> tuple[Tensor, Tensor]:
    (u,) = (mate > torch.arange(mate.numel(), device=mate.device)).nonzero(as_tuple=True)
    return u, mate[u]


def _in_twos(order: Tensor, nodes: Ragged) -> tuple[Tensor, Tensor]:
    """First and second, third and fourth ... of each graph's nodes, which stand together in `order`."""
    graph = nodes.index[order]
    place = torch.arange(order.numel(), device=order.device) - pointers(graph, nodes.num_graphs)[graph]
    (first,) = ((place[:-1] % 2 == 0) & (graph[:-1] == graph[1:])).nonzero(as_tuple=True)
    return order[first], order[first + 1]


def _listed_pairs(left: Tensor, nodes: Ragged) -> tuple[Tensor, Tensor]:
    """All pairs u < v of nodes of one graph, of the increasing nodes `left`."""
    graph = nodes.index[left]
    end = pointers(graph, nodes.num_graphs)[graph + 1]
    each = torch.arange(left.numel(), device=left.device)
    count = end - each - 1
    first = torch.repeat_interleave(each, count)
    start = torch.cumsum(count, 0) - count
    return left[first], left[torch.arange(first.numel(), device=left.device) - start[first] + first + 1]
