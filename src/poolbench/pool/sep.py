"""SEPPool: Wu, Chen, Xu, Li, "Structural Entropy Guided Graph Hierarchical Pooling", ICML 2022 (PMLR 162),
arXiv 2206.13510."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import Matrix, Nodes, Ragged, Sparse
from poolbench.linalg.coarsening import Coarsening
from poolbench.pool.base.codingtree import hierarchy
from poolbench.pool.base.hostgraph import Array, host_graphs, on_host, one_thread
from poolbench.pool.base.partition import Partition
from poolbench.pool.base.partitionpool import PartitionPool
from poolbench.pool.base.selection import Selection, SparseSelection


class NestedSelection(SparseSelection):
    """A partition, and what becomes of its clusters on the levels above.

    above: for each level above, the set of each cluster [k] int64 and the sets of each graph.
    """

    above: list[tuple[Tensor, Ragged]]


class NestedGraph(Sparse):
    """A pooled graph that knows the sets which its nodes belong to on the levels above, as `NestedSelection` does."""

    above: list[tuple[Tensor, Ragged]]


class SEPPool(PartitionPool):
    r"""The sets of a coding tree of small structural entropy: clusters whose number is the graph's.

        H_T = -sum over v != root of  g(v) / V  log2(vol(v) / vol(parent(v)))
        T   = a tree of height levels + 1 over the nodes with a small H_T, found greedily
        S   = the sets at height 1;   X' = S'X
        A'  = D'^-1/2 (M - diag M) D'^-1/2,   M = S'AS

    vol is the sum of the degrees of a set, g the weight of the edges that leave it. No parameters, no losses; S and A'
    depend on A alone (`precomputable`). The graph is made symmetric for the tree (A + A', without self-loops and
    negative weights); A' is made of A as it is.

    With `levels` > 1 there is one hierarchy for several pools in a row: the first one takes the sets at height 1, and
    the pooled graph that it returns carries the sets at height 2 and above, which the next SEPPool with it finds there,
    as long as the graph is handed on as a matrix of poolbench. A pool that finds none builds a tree of the graph that
    it is given, so `levels=1` is repeated pooling.

    * A graph in several components: a tree for each of them, under one root. A node alone, and each node of a graph
      without edges, is a cluster of its own on every level.
    * Two nodes joined by an edge stay two clusters: a tree of height 2 over two leaves has no set of both below its
      root.
    * Ties, the rule in graphs without weights, go to the nodes of lower number, so the clusters of such a graph may
      depend on the order of its nodes.

    Cost O(E log E) for the tree where it is shallow before it is compressed, at worst O(n^2) (a star), on the host;
    O(E + n f) after it.

    Args:
        levels: pools that share one hierarchy, at least 1.
        remove_self_loops, connect_red_op, degree_norm, edge_weight_norm, return_selection, reduce: see `PartitionPool`.

    Raises: ValueError for levels < 1, and for weights that are not finite.
    """

    precomputable = True
    selects: ClassVar[tuple[type[Selection], ...]] = (Partition, NestedSelection)

    def __init__(
        self, levels: int = 1, degree_norm: bool = True, return_selection: bool = False, **merging: Any
    ) -> None:
        super().__init__(degree_norm=degree_norm, return_selection=return_selection, **merging)
        self.levels = whole("levels", levels)

    @on_host
    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> SparseSelection:
        (cluster, pooled), *above = getattr(a, "above", None) or self._hierarchy(a.sparse())
        s = NestedSelection.partition(cluster, None, a.sparse().nodes, pooled)
        s.above = above
        return s

    def connect(self, a: Matrix, s: SparseSelection) -> Sparse:  # type: ignore[override]
        merged = super().connect(a, s)
        above = getattr(s, "above", [])
        if not above:
            return merged
        out = NestedGraph(merged.crow, merged.col, merged.value, merged.nodes, merged.symmetric)
        out.above = above
        return out

    def restore(self, c: Coarsening, nodes: Nodes) -> SparseSelection:
        assert c.node is not None and c.cluster is not None
        assert isinstance(nodes, Ragged) and isinstance(c.pooled, Ragged)
        return SparseSelection(c.node, c.cluster, None, nodes, c.pooled)

    def _hierarchy(self, a: Sparse) -> list[tuple[Tensor, Ragged]]:
        """For each level the set of each set below it (at first, of each node) and the sets of each graph."""
        with one_thread():
            trees = [hierarchy(undirected(graph), self.levels) for graph in host_graphs(a)]
        found, below = [], [np.arange(n) for n in a.nodes.host_sizes]
        for level in range(self.levels):
            sets = [tree[level] for tree in trees]
            counts = [int(s.max()) + 1 if s.size else 0 for s in sets]
            starts = np.cumsum([0, *counts])
            maps = [_onto(s, b) + start for s, b, start in zip(sets, below, starts, strict=False)]
            cluster = torch.from_numpy(np.concatenate(maps)) if maps else torch.zeros(0, dtype=torch.int64)
            ptr = torch.from_numpy(starts).to(a.col.device)
            found.append((cluster.to(a.col.device), Ragged(ptr, counts)))
            below = sets
        return found


def undirected(a: csr_array) -> csr_array:
    """A + A' without self-loops and without what is not positive."""
    both = (a + a.T).tocoo()
    keep = (both.row != both.col) & (both.data > 0)
    return csr_array((both.data[keep], (both.row[keep], both.col[keep])), shape=a.shape)


def _onto(sets: Array, below: Array) -> Array:
    """The set of each set below, from the set of each node on both levels."""
    return sets[np.unique(below, return_index=True)[1]]
