"""What operators share that divide the nodes of a graph into clusters."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.linalg.products import invert, pointers, segment_max
from poolbench.linalg.spgemm import Blocks, collect
from poolbench.pool.base.selection import KeptSelection, SparseSelection


class Partition(SparseSelection):
    """Each node belongs to one cluster."""

    @cached_property
    def order(self) -> Tensor:
        """Where the entry of each node stands: [n]."""
        return invert(self.node)

    @cached_property
    def of_node(self) -> Tensor:
        """The cluster of each node: [n]."""
        return self.cluster.index_select(0, self.order)

    def _csr(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.arange(self.node.numel() + 1, device=self.node.device), self.of_node, self.order

    def connect(self, a: Matrix) -> Sparse:
        a, blocks = a.sparse(), Blocks(self.pooled)
        shift = blocks.shift.index_select(0, self.of_node).index_select(0, a.row)
        crow, row, col, part = blocks.pattern(shift, self.of_node.index_select(0, a.col))
        value = collect(a.weights, part, col.numel())
        return Sparse(crow, col, value, self.pooled, a.symmetric, distinct=True, row=row)


class CentredPartition(Partition):
    """Each node belongs to one cluster, and each cluster has one of its nodes as its centre.

    centres: [k] int64, increasing: clusters are numbered as their centres are.
    """

    def __init__(
        self, node: Tensor, cluster: Tensor, weight: Tensor | None, nodes: Ragged, pooled: Ragged, centres: Tensor
    ) -> None:
        super().__init__(node, cluster, weight, nodes, pooled)
        self.centres = centres

    @classmethod
    def around(cls, centre: Tensor, weight: Tensor | None, nodes: Ragged) -> CentredPartition:
        """From the centre that each node belongs to, [n] int64 (a centre belongs to itself), and the weights of S."""
        (centres,) = (centre == torch.arange(centre.numel(), device=centre.device)).nonzero(as_tuple=True)
        number = torch.zeros_like(centre)
        number[centres] = torch.arange(centres.numel(), device=centre.device)
        pooled = Ragged.from_index(nodes.index[centres], nodes.num_graphs)
        node = torch.argsort(number[centre], stable=True)
        weight = None if weight is None else weight.index_select(0, node)
        return cls(node, number[centre[node]], weight, nodes, pooled, centres)

    def of_centres(self) -> KeptCentres:
        """The rows of S that belong to centres, the others zero."""
        (own,) = (self.node == self.centres[self.cluster]).nonzero(as_tuple=True)
        weight = None if self.weight is None else self.weight.index_select(0, own)
        return KeptCentres(self, self.centres, self.cluster[own], weight, self.nodes, self.pooled)


class KeptCentres(KeptSelection):
    """The centres of the partition `whole` with their rows of S; what is merged are still the edges of all nodes."""

    def __init__(self, whole: CentredPartition, *selection: Any) -> None:
        super().__init__(*selection)
        self.whole = whole

    @property
    def of_node(self) -> Tensor:
        """The cluster that each node has in the whole partition: [n]."""
        return self.whole.of_node

    def connect(self, a: Matrix) -> Sparse:
        return self.whole.connect(a).sparse()


def merged(a: Sparse, s: SparseSelection, how: str = "sum") -> Sparse:
    """The edges between and within clusters, parallel ones reduced to their sum, mean, max or min.

    A stored zero is no edge, though a sum may keep its entry.
    """
    if how == "sum" or isinstance(s, KeptSelection):  # nodes that are kept have no parallel edges
        return s.connect(a).sparse()
    a = a.without_zeros()
    cluster = s.cluster[invert(s.node)]
    k = s.pooled.num_rows
    key, index, count = torch.unique(cluster[a.row] * k + cluster[a.col], return_inverse=True, return_counts=True)
    if how == "mean":
        total = s.connect(a).sparse()
        return total.with_value(total.weights / count, total.symmetric)
    sign = 1.0 if how == "max" else -1.0
    order = torch.argsort(index, stable=True)
    value = sign * segment_max(sign * a.weights[order], pointers(index, key.numel()), index[order])
    return Sparse(pointers(key // max(k, 1), k), key % max(k, 1), value, s.pooled, a.symmetric)


@torch.no_grad()
def neighbourhoods(a: Sparse) -> Sparse:
    """Who is a neighbour of whom, direction ignored: symmetric, unweighted, no self-loops, entries in order.

    A stored zero is no edge.
    """
    (real,) = ((a.row != a.col) & (a.weights != 0)).nonzero(as_tuple=True)
    row, col = a.row[real], a.col[real]
    if not a.symmetric:
        row, col = torch.cat([row, col]), torch.cat([col, row])
    return Sparse.from_edges(row, col, None, a.nodes, symmetric=True).with_value(None, symmetric=True)
