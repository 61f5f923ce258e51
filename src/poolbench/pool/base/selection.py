"""What `select` returns: an assignment of nodes to pooled nodes, as a dense matrix or as (node, cluster, weight).

Reduce, connect and lift are written here, once for each of the two; an operator only says which nodes go where.
"""

from __future__ import annotations

import copy
import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix, Nodes, Padded, Ragged, Sparse
from poolbench.linalg.products import coarse, invert, pointers, rows, spmm
from poolbench.linalg.showing import counted, listed
from poolbench.linalg.spgemm import Blocks, congruence
from poolbench.pool.base.layers import HALF, not_half


class Selection(ABC):
    """S, the assignment of n nodes to k pooled nodes a graph.

    `nodes` are the nodes that were pooled, `pooled` the nodes that came out.
    """

    nodes: Nodes
    pooled: Nodes

    def __repr__(self) -> str:
        held = {n: v for n, v in vars(self).items() if isinstance(v, Tensor | Selection) and not n.startswith("_")}
        given = {n: v for n, v in held.items() if not hasattr(type(self), n)}  # the rest is cached
        return listed(self, counted(self.nodes.num_graphs, "graph"), **given)

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
        """(S+)' X' with the Moore-Penrose inverse S+: the least-squares answer to S'X = X'.

        In float32 where x is in a half type, which torch inverts nothing in; the answer has the type of x.
        """

    @property
    def index(self) -> Tensor:
        """Graph of each pooled node in flat order."""
        return self.pooled.index

    @property
    def perm(self) -> Tensor | None:
        """The node that each pooled node was, or has as its centre: [k]; None where it stands for none of them."""
        return None


class DenseSelection(Selection):
    """A soft assignment: s [n, k] over flat nodes, or [b, n, k] with zero rows for padding.

    Args:
        s: the assignment.
        nodes: the nodes that are pooled.
        clusters: [b, k] bool, where graphs have clusters of their own number: those of each graph. Elsewhere s is 0.
    """

    pooled: Padded

    def __init__(self, s: Tensor, nodes: Nodes, clusters: Tensor | None = None) -> None:
        self.s, self.nodes = nodes.zero_padding(s), nodes
        self.pooled = Padded(nodes.num_graphs, s.shape[-1], clusters, s.device)
        self._ahead: _Ahead | None = None

    @property
    def k(self) -> int | Tensor:
        """Clusters of a graph: one number, or [b] in the type of s where graphs have their own."""
        return self.s.shape[-1] if self.pooled.mask is None else self.pooled.sizes.to(self.s.dtype)

    @property
    def index(self) -> Tensor:
        mask = self.pooled.mask
        return self.pooled.index if mask is None else self.pooled.index[mask.reshape(-1)]

    def dense(self) -> Tensor:
        return self.s

    def afresh(self) -> DenseSelection:
        """The same assignment for another call: what was made ahead goes with the gradients of the first one."""
        other = copy.copy(self)
        other._ahead = None
        return other

    def expect(self, x: Tensor, a: Matrix, gram: bool = False, volume: bool = False) -> None:
        """Say that S'X and S'AS of these very objects will be asked for, so that one product makes them.

        gram: and S'S. volume: and Tr(S'DS).
        """
        if torch.is_autocast_enabled(x.device.type):  # it has types of its own for each of them
            return
        learnt = isinstance(a, Sparse) and a.value is not None and a.value.requires_grad
        if isinstance(a, Sparse) and isinstance(self.nodes, Ragged) and a.symmetric and not learnt:
            made = coarse(self.s, x, a.crow, a.col, a.value, self.nodes.plan, a.degree() if volume else None)
            self._ahead = _Ahead(x, a, *made)
        else:
            sides = [x, a.matmul(self.s), *([self.s] if gram else [])]
            self._ahead = _Ahead(x, a, *self.nodes.grams(self.s, *sides))

    @property
    def gram(self) -> Tensor:
        """S'S: [b, k, k]."""
        if self._ahead is not None and self._ahead.gram is not None:
            return self._ahead.gram
        with torch.autocast(self.s.device.type, enabled=False):  # losses are differences of its entries
            return self.nodes.gram(self.s, self.s)

    def volume(self, a: Matrix) -> Tensor:
        """Tr(S'DS), D the row sums of a: [b]."""
        if self._ahead is not None and self._ahead.volume is not None and self._ahead.a is a:
            return self._ahead.volume
        return self.weighted(a.degree())

    def weighted(self, degree: Tensor) -> Tensor:
        """sum_u d_u |S_u|^2 of each graph: [b]."""
        return self.nodes.sum(degree * self.s.square().sum(-1))

    def reduce(self, x: Tensor) -> Tensor:
        if self._ahead is not None and self._ahead.x is x:
            return self._ahead.reduced
        return self.nodes.gram(self.s, x)

    def connect(self, a: Matrix) -> Dense:
        if self._ahead is not None and self._ahead.a is a:
            product = self._ahead.connected
        else:
            product = self.nodes.gram(self.s, a.matmul(self.s))
        return Dense(product, self.pooled, a.symmetric)

    def lift(self, x: Tensor) -> Tensor:
        return self.nodes.spread(self.s, self._blocks(x))

    def lift_inverse(self, x: Tensor) -> Tensor:
        s = not_half(self.s)
        gram = self.gram if s is self.s else self.nodes.gram(s, s)
        return in_type_of(x, self.nodes.spread(s, torch.linalg.pinv(gram, hermitian=True) @ not_half(self._blocks(x))))

    def _blocks(self, x: Tensor) -> Tensor:
        b, k = self.nodes.num_graphs, self.s.shape[-1]
        mask = self.pooled.mask
        if x.ndim == 2 and mask is not None:  # the flat clusters of graphs that have their own number
            (place,) = mask.reshape(-1).nonzero(as_tuple=True)
            x = x.new_zeros(b * k, x.shape[1]).index_copy(0, place, x)
        return x.reshape(b, k, x.shape[-1])


@dataclass(frozen=True)
class _Ahead:
    """What `DenseSelection.expect` made of x and a."""

    x: Tensor
    a: Matrix
    reduced: Tensor
    connected: Tensor
    gram: Tensor | None = None
    volume: Tensor | None = None


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
    def keep(cls, kept: Tensor, weight: Tensor | None, nodes: Ragged, increasing: bool = False) -> KeptSelection:
        """The nodes `kept` [k] (in any order within a graph), each its own cluster; the rest are dropped.

        increasing: the caller knows that they are.
        """
        graph = nodes.index.index_select(0, kept)
        if increasing:
            pooled = Ragged(pointers(graph, nodes.num_graphs), index=graph)
        else:
            pooled = Ragged.from_index(graph, nodes.num_graphs)
            increasing = not bool((kept.diff() < 0).any())
        own = torch.arange(kept.numel(), device=kept.device)
        return KeptSelection(kept, own, weight, nodes, pooled, increasing)

    @classmethod
    def partition(cls, cluster: Tensor, weight: Tensor | None, nodes: Ragged, pooled: Ragged) -> Self:
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

    @property
    def of_node(self) -> Tensor:
        """The cluster of each node, of which it has one at most: [n] int64, -1 for none."""
        return self.node.new_full((self.nodes.num_rows,), -1).index_copy_(0, self.node, self.cluster)

    def dense(self) -> Tensor:
        weight = torch.ones(self.node.numel(), device=self.node.device) if self.weight is None else self.weight
        n, k = self.nodes.num_rows, self.pooled.num_rows
        return weight.new_zeros(n * k).index_add(0, self.node * k + self.cluster, weight).reshape(n, k)

    @property
    def clusters(self) -> Ragged:
        """The entries as nodes of their clusters."""
        return Ragged(pointers(self.cluster, self.pooled.num_rows), index=self.cluster)

    def rows(self, x: Tensor) -> Tensor:
        """The features of the node of each entry, times its weight: [m, f]."""
        x = x.index_select(0, self.node)
        return x if self.weight is None else x * self.weight.unsqueeze(-1).to(x.dtype)

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
        autocast = torch.is_autocast_enabled(x.device.type)
        wide = x if autocast else not_half(x)
        weight = wide.new_ones(self.node.numel()) if self.weight is None else self.weight
        weight = weight if autocast else not_half(weight)
        ptr = pointers(self.cluster, self.pooled.num_rows)
        ones = weight.new_ones(self.nodes.num_rows, 1)
        norm = spmm(weight.square(), ones, ptr, self.node, self._csr()).squeeze(-1)
        inverse = torch.where(norm > 0, norm.clamp(min=torch.finfo(norm.dtype).tiny).reciprocal(), 0.0)
        return in_type_of(x, self.lift(wide * inverse.unsqueeze(-1)))

    def connect(self, a: Matrix) -> Matrix:
        """Both ends of every edge mapped to their clusters, parallel edges added; weights of S take no part."""
        a = a.sparse()
        cluster = self.of_node
        row, col = cluster[a.row], cluster[a.col]
        inside = (row >= 0) & (col >= 0)
        return Sparse.from_edges(row[inside], col[inside], a.weights[inside], self.pooled, a.symmetric)


class KeptSelection(SparseSelection):
    """Some nodes are kept, each its own cluster: reduce is a gather, connect the induced subgraph.

    increasing: whether they stand in input order.
    """

    def __init__(
        self,
        node: Tensor,
        cluster: Tensor,
        weight: Tensor | None,
        nodes: Ragged,
        pooled: Ragged,
        increasing: bool = False,
    ) -> None:
        super().__init__(node, cluster, weight, nodes, pooled)
        self.increasing = increasing

    @property
    def perm(self) -> Tensor:
        return self.node

    def reduce(self, x: Tensor) -> Tensor:
        return self.rows(x)

    def lift(self, x: Tensor) -> Tensor:
        if self.weight is not None:
            x = x * self.weight.unsqueeze(-1).to(x.dtype)
        return x.new_zeros(self.nodes.num_rows, *x.shape[1:]).index_copy(0, self.node, x)

    def connect(self, a: Matrix) -> Sparse:
        a = a.sparse()
        number = self.of_node
        row, col = number.index_select(0, a.row), number.index_select(0, a.col)
        (inside,) = (torch.minimum(row, col) >= 0).nonzero(as_tuple=True)
        row, col = row.index_select(0, inside), col.index_select(0, inside)
        value = None if a.value is None else a.value.index_select(0, inside)
        if not self.increasing:  # then rows are not sorted
            return Sparse.from_edges(row, col, value, self.pooled, a.symmetric)
        crow = pointers(row, self.pooled.num_rows)
        return Sparse(crow, col, value, self.pooled, a.symmetric, distinct=a.distinct, row=row)


class Identity(KeptSelection):
    """S = I: nothing is pooled."""

    def __init__(self, nodes: Ragged) -> None:
        each = torch.arange(nodes.num_rows, device=nodes.ptr.device)
        super().__init__(each, each, None, nodes, nodes, increasing=True)

    def reduce(self, x: Tensor) -> Tensor:
        return x

    def lift(self, x: Tensor) -> Tensor:
        return x

    def connect(self, a: Matrix) -> Sparse:
        return a.sparse()


class OverlapSelection(SparseSelection):
    """Entries (node, cluster, weight) of clusters that may overlap: each pair stands once, connect is S'AS.

    S is held as its entries. A product goes over lists of entries or, where that is faster, over one dense block
    [n_g, k_g] a graph: nothing is ever formed over several graphs, and nothing is padded.
    """

    #: Multiply-adds of a dense block that take as long as one of S'X over entries, as one term of S'AS over entries,
    #: and as the calls for one graph. Rough, for one core of an x86 CPU, float32, forward and backward.
    entry, term, graph = 16, 150, 500_000

    def __init__(self, node: Tensor, cluster: Tensor, weight: Tensor | None, nodes: Ragged, pooled: Ragged) -> None:
        super().__init__(node, cluster, weight, nodes, pooled)
        self._shapes = list(zip(nodes.host_sizes, pooled.host_sizes, strict=True))
        self._areas = [n * k for n, k in self._shapes]
        calls = self.graph // 64 * nodes.num_filled  # with 64 features, say
        self._crowded = self.entry * node.numel() > sum(self._areas) + calls
        self._formed: dict[tuple[torch.dtype, bool], list[Tensor]] = {}

    def reduce(self, x: Tensor) -> Tensor:
        return self._graph_by_graph(lambda s, y: s.T @ y, x, self.nodes) if self._crowded else super().reduce(x)

    def lift(self, x: Tensor) -> Tensor:
        return self._graph_by_graph(lambda s, y: s @ y, x, self.pooled) if self._crowded else super().lift(x)

    def lift_inverse(self, x: Tensor) -> Tensor:
        """S (S'S)+ X', one k_g x k_g problem a graph."""

        def solved(s: Tensor, y: Tensor) -> Tensor:
            return s @ (torch.linalg.pinv(s.T @ s, hermitian=True) @ y)

        return self._graph_by_graph(solved, not_half(x), self.pooled).to(x.dtype)

    def connect(self, a: Matrix) -> Sparse:
        """S'AS, differentiable in the weights and in a's values."""
        a = a.sparse()
        return self._connect_entries(a) if self._entries_are_faster(a) else self._connect_blocks(a)

    def _entries_are_faster(self, a: Sparse) -> bool:
        """Whether the terms of S'AS over entries cost less than n_g k_g^2 for each graph."""
        each = torch.bincount(self.node, minlength=self.nodes.num_rows)
        terms = int((each.index_select(0, a.row) * each.index_select(0, a.col)).sum())
        return self.term * terms < sum(n * k * k for n, k in self._shapes) + self.graph * self.nodes.num_filled

    def _weights(self, dtype: torch.dtype) -> Tensor:
        if self.weight is None:
            return torch.ones(self.node.numel(), dtype=dtype, device=self.node.device)
        return self.weight.to(dtype)

    def _blocks(self, dtype: torch.dtype) -> list[Tensor]:
        """S of each graph: [n_g, k_g]."""
        key = dtype, torch.is_grad_enabled()
        if key not in self._formed:
            k = self.pooled.sizes
            areas = self.nodes.sizes * k
            start = torch.cumsum(areas, 0) - areas - self.nodes.ptr[:-1] * k - self.pooled.ptr[:-1]
            graph = self.nodes.index.index_select(0, self.node)
            place = start.index_select(0, graph) + self.node * k.index_select(0, graph) + self.cluster
            weight = self._weights(dtype)
            flat = weight.new_zeros(sum(self._areas)).index_add(0, place, weight)
            parts = zip(flat.split(self._areas), self._shapes, strict=True)
            self._formed[key] = [s.view(shape) for s, shape in parts]
        return self._formed[key]

    def _graph_by_graph(self, product: Callable[[Tensor, Tensor], Tensor], x: Tensor, rows: Ragged) -> Tensor:
        flat = x.reshape(x.shape[0], -1)
        parts = zip(self._blocks(x.dtype), flat.split(rows.host_sizes), strict=True)
        with torch.autocast(x.device.type, enabled=False):
            products = [product(s, y) for s, y in parts]
        if not products:
            return x
        out = torch.cat(products)
        return out.reshape(out.shape[0], *x.shape[1:])

    def _connect_blocks(self, a: Sparse) -> Sparse:
        k, bounds = self.pooled.sizes, zip(self.nodes.ptr.tolist(), a.crow[self.nodes.ptr].tolist(), strict=True)
        blocks = self._blocks(self._dtype(a))
        with torch.autocast(a.col.device.type, enabled=False):
            ends = itertools.pairwise(bounds)
            products = [(s.T @ (_block(a, *lo, *hi) @ s)).reshape(-1) for s, (lo, hi) in zip(blocks, ends, strict=True)]
        flat = torch.cat(products) if products else self._weights(self._dtype(a))
        (place,) = (flat.detach() != 0).nonzero(as_tuple=True)
        end = torch.cumsum(k * k, 0)
        graph = torch.searchsorted(end, place, right=True)
        place_in = place - (end - k * k)[graph]
        row, col = self.pooled.ptr[graph] + place_in // k[graph], self.pooled.ptr[graph] + place_in % k[graph]
        value = flat.index_select(0, place)
        crow = pointers(row, self.pooled.num_rows)
        return Sparse(crow, col, value, self.pooled, a.symmetric, distinct=True, row=row)

    def _connect_entries(self, a: Sparse) -> Sparse:
        value, weight = None if a.value is None else a.value.to(self._dtype(a)), self._weights(self._dtype(a))
        crow, cluster, order = self._csr()
        s = (crow, cluster, weight.index_select(0, order))
        crow, row, col, value = congruence((a.crow, a.col, value), s, Blocks(self.pooled))
        return Sparse(crow, col, value, self.pooled, a.symmetric, distinct=True, row=row)

    def _dtype(self, a: Sparse) -> torch.dtype:
        """The type of S'AS."""
        if a.value is None or self.weight is None:
            return (a.weights if self.weight is None else self.weight).dtype
        return torch.promote_types(a.value.dtype, self.weight.dtype)


class AsGiven(Selection):
    """A selection seen from the form in which its nodes were given, which the operator did not see.

    Args:
        sorted: the selection of the real nodes graph by graph, one after the other.
    """

    def __init__(self, sorted: Selection) -> None:
        self.sorted = sorted
        self.nodes, self.pooled = sorted.nodes, sorted.pooled

    @abstractmethod
    def numbered(self, node: Tensor) -> Tensor:
        """The numbers of nodes of `sorted`, as they are given out."""

    @abstractmethod
    def of_nodes(self, x: Tensor) -> Tensor:
        """What was given for each node, as `sorted` has it."""

    @abstractmethod
    def of_pooled(self, x: Tensor) -> Tensor:
        """What there is for each pooled node in the form of the answer, as `sorted` has it."""

    @abstractmethod
    def as_given(self, rows: Tensor) -> Tensor:
        """A row for each node of `sorted`, in the form in which nodes were given."""

    @property
    def perm(self) -> Tensor | None:
        perm = self.sorted.perm
        return None if perm is None else self.numbered(perm)

    @property
    def node(self) -> Tensor:
        """As of `SparseSelection`."""
        return self.numbered(self.sorted.node)  # type: ignore[attr-defined]

    kept = node

    @property
    def cluster(self) -> Tensor:
        """As of `SparseSelection`."""
        return self.sorted.cluster  # type: ignore[attr-defined]

    @property
    def weight(self) -> Tensor | None:
        """As of `SparseSelection`."""
        return self.sorted.weight  # type: ignore[attr-defined]

    @property
    def index(self) -> Tensor:
        return self.sorted.index

    def reduce(self, x: Tensor) -> Tensor:
        return self.sorted.reduce(self.of_nodes(x))

    def connect(self, a: Matrix) -> Matrix:
        """S'AS of a matrix of the sorted nodes."""
        return self.sorted.connect(a)

    def lift(self, x: Tensor) -> Tensor:
        return self.as_given(self.sorted.lift(self.of_pooled(x)))

    def lift_inverse(self, x: Tensor) -> Tensor:
        return self.as_given(self.sorted.lift_inverse(self.of_pooled(x)))


class Reordered(AsGiven):
    """A selection of nodes that were not given graph by graph.

    Args:
        sorted: as of `AsGiven`.
        order: [n] which of the given nodes each of its nodes is.
    """

    def __init__(self, sorted: Selection, order: Tensor) -> None:
        super().__init__(sorted)
        self.order = order

    def numbered(self, node: Tensor) -> Tensor:
        return self.order.index_select(0, node)

    def of_nodes(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.order)

    def of_pooled(self, x: Tensor) -> Tensor:
        return x

    def as_given(self, rows: Tensor) -> Tensor:
        return rows.index_select(0, invert(self.order))

    @property
    def mask(self) -> Tensor:
        """As of `SparseSelection`."""
        return self.as_given(self.sorted.mask)  # type: ignore[attr-defined]

    def dense(self) -> Tensor:
        return self.as_given(self.sorted.dense())


class Repadded(AsGiven):
    """A selection of the nodes of a batch [b, n] that was pooled as a disjoint union, or of one graph with a mask.

    Numbers count the real nodes, one graph after the other.

    Args:
        sorted: as of `AsGiven`.
        batch: the nodes as they were given.
        single: whether they were those of one graph, [n].
    """

    def __init__(self, sorted: Selection, batch: Padded, single: bool) -> None:
        super().__init__(sorted)
        self.batch, self.single = batch, single

    def numbered(self, node: Tensor) -> Tensor:
        return node

    def of_nodes(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0) if self.single else x
        if isinstance(self.nodes, Padded):
            return x
        return x.flatten(0, 1) if self.batch.mask is None else x[self.batch.mask]

    def of_pooled(self, x: Tensor) -> Tensor:
        if x.ndim == 2 or isinstance(self.pooled, Padded):
            return x
        return x[torch.arange(x.shape[1], device=x.device) < self.pooled.sizes.unsqueeze(-1)]

    def as_given(self, rows: Tensor) -> Tensor:
        if isinstance(self.nodes, Ragged):
            rows = node_level(rows, self.batch)
        return rows.squeeze(0) if self.single else rows

    @property
    def mask(self) -> Tensor:
        """As of `SparseSelection`."""
        return self.sorted.mask  # type: ignore[attr-defined]

    def dense(self) -> Tensor:
        return self.sorted.dense()


def as_given(lift: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method lift(x, s, ...) that knows the nodes of a `Matrix` alone, for an `AsGiven` s too."""

    @functools.wraps(lift)
    def call(self: Any, x: Tensor, s: Any, *args: Any, **keywords: Any) -> Tensor:
        if not isinstance(s, Selection):
            hint = f": make the {type(self).__name__} with return_selection=True" if s is None else ""
            raise TypeError(f"lift: s is a {type(s).__name__}, the `s` of an answer is expected{hint}")
        if isinstance(s, AsGiven):
            return s.as_given(lift(self, s.of_pooled(x), s.sorted, *args, **keywords))
        return lift(self, x, s, *args, **keywords)

    return call


def in_type_of(x: Tensor, out: Tensor) -> Tensor:
    """What was computed in float32, in the half type of x; autocast chooses types itself."""
    return out.to(x.dtype) if x.dtype in HALF and not torch.is_autocast_enabled(x.device.type) else out


def node_level(rows: Tensor, nodes: Padded) -> Tensor:
    """A row for each real node, one graph after the other -> [b, n, ...], zeros in the padding."""
    if nodes.mask is not None:
        (real,) = nodes.mask.reshape(-1).nonzero(as_tuple=True)
        rows = rows.new_zeros(nodes.num_graphs * nodes.width, *rows.shape[1:]).index_copy(0, real, rows)
    return rows.reshape(nodes.num_graphs, nodes.width, *rows.shape[1:])


def _block(a: Sparse, node: int, entry: int, node_end: int, entry_end: int) -> Sparse:
    """The block of one graph, from its first node and entry to where the next graph's begin."""
    value = None if a.value is None else a.value[entry:entry_end]
    nodes = Ragged.single(node_end - node, a.col.device)
    return Sparse(a.crow[node : node_end + 1] - entry, a.col[entry:entry_end] - node, value, nodes, a.symmetric)


__all__ = [
    "AsGiven",
    "DenseSelection",
    "Identity",
    "KeptSelection",
    "OverlapSelection",
    "Reordered",
    "Repadded",
    "Selection",
    "SparseSelection",
    "as_given",
    "node_level",
    "rows",
]
