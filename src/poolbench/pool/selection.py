"""What `select` returns: an assignment of nodes to pooled nodes, as a dense matrix or as (node, cluster, weight).

Reduce, connect and lift are written here, once for each of the two; an operator only says which nodes go where.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix, Nodes, Padded, Ragged, Sparse
from poolbench.linalg.products import invert, pointers, rows, spmm


class Selection(ABC):
    """S, the assignment of n nodes to k pooled nodes a graph.

    `nodes` are the nodes that were pooled, `pooled` the nodes that came out.
    """

    nodes: Nodes
    pooled: Nodes

    @abstractmethod
    def dense(self) -> Tensor:
        """S as a matrix: [n, k] ([b, n, k] in batch mode); for sparse selections k counts all graphs' clusters."""

    @abstractmethod
    def reduce(self, x: Tensor) -> Tensor:
        """S'X."""

    @abstractmethod
    def connect(self, a: Matrix) -> Matrix:
        """S'AS."""

    @abstractmethod
    def lift(self, x: Tensor) -> Tensor:
        """S X', pooled features back on the nodes."""

    @abstractmethod
    def lift_inverse(self, x: Tensor) -> Tensor:
        """(S+)' X' with the Moore-Penrose inverse S+: the least-squares answer to S'X = X'."""

    @property
    def index(self) -> Tensor:
        """Graph of each pooled node in flat order."""
        return self.pooled.index


class DenseSelection(Selection):
    """A soft assignment: s [n, k] over flat nodes, or [b, n, k] with zero rows for padding; k alike for all graphs."""

    def __init__(self, s: Tensor, nodes: Nodes) -> None:
        self.s, self.nodes = nodes.zero_padding(s), nodes
        self.pooled = Padded(nodes.num_graphs, s.shape[-1], None, s.device)

    def dense(self) -> Tensor:
        return self.s

    def reduce(self, x: Tensor) -> Tensor:
        return self.nodes.gram(self.s, x)

    def connect(self, a: Matrix) -> Dense:
        return Dense(self.nodes.gram(self.s, a @ self.s), self.pooled, a.symmetric)

    def lift(self, x: Tensor) -> Tensor:
        return self.nodes.spread(self.s, self._blocks(x))

    def lift_inverse(self, x: Tensor) -> Tensor:
        gram = self.nodes.gram(self.s, self.s)
        return self.nodes.spread(self.s, torch.linalg.pinv(gram, hermitian=True) @ self._blocks(x))

    def _blocks(self, x: Tensor) -> Tensor:
        return x.reshape(self.nodes.num_graphs, self.s.shape[-1], -1)


class SparseSelection(Selection):
    """Entries (node, cluster, weight), with as many clusters a graph as it pleases.

    Args:
        node, cluster: [m] int64, sorted by cluster; numbered over the whole batch.
        weight: [m] or None for ones.
        nodes: the nodes that are pooled.
        pooled: the clusters of each graph.
    """

    nodes: Ragged
    pooled: Ragged

    def __init__(self, node: Tensor, cluster: Tensor, weight: Tensor | None, nodes: Ragged, pooled: Ragged) -> None:
        self.node, self.cluster, self.weight = node, cluster, weight
        self.nodes, self.pooled = nodes, pooled

    @classmethod
    def keep(cls, kept: Tensor, weight: Tensor | None, nodes: Ragged) -> KeptSelection:
        """The nodes `kept` [k] (in any order within a graph), each its own cluster; the rest are dropped."""
        graph = nodes.index[kept]
        pooled = Ragged.from_index(graph, nodes.num_graphs)
        return KeptSelection(kept, torch.arange(kept.numel(), device=kept.device), weight, nodes, pooled)

    @classmethod
    def partition(cls, cluster: Tensor, weight: Tensor | None, nodes: Ragged, pooled: Ragged) -> SparseSelection:
        """`cluster` [n]: the cluster of each node, numbered over the batch with graphs one after the other."""
        node = torch.argsort(cluster, stable=True)
        return cls(node, cluster[node], None if weight is None else weight[node], nodes, pooled)

    @property
    def mask(self) -> Tensor:
        """1 for each node that has a cluster, 0 for the others: [n] int64."""
        return torch.zeros(self.nodes.num_rows, dtype=torch.int64, device=self.node.device).index_fill(0, self.node, 1)

    @property
    def kept(self) -> Tensor:
        """The nodes that have a cluster, in the order of the clusters: [m]."""
        return self.node

    def dense(self) -> Tensor:
        weight = torch.ones(self.node.numel(), device=self.node.device) if self.weight is None else self.weight
        n, k = self.nodes.num_rows, self.pooled.num_rows
        return weight.new_zeros(n * k).index_add(0, self.node * k + self.cluster, weight).reshape(n, k)

    def _csr(self) -> tuple[Tensor, Tensor, Tensor]:
        """S in CSR and which entry stands where."""
        order = torch.argsort(self.node, stable=True)
        return pointers(self.node, self.nodes.num_rows), self.cluster[order], order

    def reduce(self, x: Tensor) -> Tensor:
        crow, col, order = self._csr()
        return spmm(self.weight, x, pointers(self.cluster, self.pooled.num_rows), self.node, (crow, col, order))

    def lift(self, x: Tensor) -> Tensor:
        crow, col, order = self._csr()
        weight = None if self.weight is None else self.weight[order]
        back = (pointers(self.cluster, self.pooled.num_rows), self.node, invert(order))
        return spmm(weight, x, crow, col, back)

    def lift_inverse(self, x: Tensor) -> Tensor:
        if self.node.numel() != torch.unique(self.node).numel():
            raise NotImplementedError("pseudo-inverse of a selection in which clusters overlap")
        # Columns do not overlap, so S'S is diagonal: the squared norms of the columns.
        weight = torch.ones(self.node.numel(), dtype=x.dtype, device=x.device) if self.weight is None else self.weight
        ptr = pointers(self.cluster, self.pooled.num_rows)
        ones = weight.new_ones(self.nodes.num_rows, 1)
        norm = spmm(weight.square(), ones, ptr, self.node, self._csr()).squeeze(-1)
        inverse = torch.where(norm > 0, norm.clamp(min=torch.finfo(norm.dtype).tiny).reciprocal(), 0.0)
        return self.lift(x * inverse.unsqueeze(-1))

    def connect(self, a: Matrix) -> Matrix:
        """Both ends of every edge mapped to their clusters, parallel edges added; weights of S take no part."""
        a = a.sparse()
        cluster = self.node.new_full((self.nodes.num_rows,), -1).index_copy(0, self.node, self.cluster)
        row, col = cluster[a.row], cluster[a.col]
        inside = (row >= 0) & (col >= 0)
        return Sparse.from_edges(row[inside], col[inside], a.weights[inside], self.pooled, a.symmetric)


class KeptSelection(SparseSelection):
    """Some nodes are kept, each its own cluster: reduce is a gather, connect the induced subgraph."""

    def reduce(self, x: Tensor) -> Tensor:
        x = x.index_select(0, self.node)
        return x if self.weight is None else x * self.weight.unsqueeze(-1).to(x.dtype)

    def lift(self, x: Tensor) -> Tensor:
        if self.weight is not None:
            x = x * self.weight.unsqueeze(-1).to(x.dtype)
        return x.new_zeros(self.nodes.num_rows, *x.shape[1:]).index_copy(0, self.node, x)

    def connect(self, a: Matrix) -> Sparse:
        a = a.sparse()
        number = self.node.new_full((self.nodes.num_rows,), -1).index_copy(0, self.node, self.cluster)
        row, col = number[a.row], number[a.col]
        (inside,) = ((row >= 0) & (col >= 0)).nonzero(as_tuple=True)
        row, col = row[inside], col[inside]
        value = None if a.value is None else a.value[inside]
        if self.node.numel() and bool((self.node.diff() < 0).any()):  # kept out of input order: rows are not sorted
            return Sparse.from_edges(row, col, value, self.pooled, a.symmetric)
        return Sparse(pointers(row, self.pooled.num_rows), col, value, self.pooled, a.symmetric)


class Identity(KeptSelection):
    """S = I: nothing is pooled."""

    def __init__(self, nodes: Ragged) -> None:
        each = torch.arange(nodes.num_rows, device=nodes.ptr.device)
        super().__init__(each, each, None, nodes, nodes)

    def reduce(self, x: Tensor) -> Tensor:
        return x

    def lift(self, x: Tensor) -> Tensor:
        return x

    def connect(self, a: Matrix) -> Sparse:
        return a.sparse()


__all__ = ["DenseSelection", "Identity", "KeptSelection", "Selection", "SparseSelection", "rows"]
