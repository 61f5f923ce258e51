"""Adjacency matrices of a batch of graphs, in the two layouts, behind one interface.

`Sparse` holds many graphs of different size as one block-diagonal matrix in CSR; `Dense` holds graphs of one size as
[b, k, k]. Both are differentiable in their values, and a layer above never asks which one it holds.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import plain, products
from poolbench.linalg.nodes import Nodes, Padded, Ragged
from poolbench.linalg.showing import counted, listed, shape_of

EPS = 1e-7  # added to the root of a degree, so that a row of zeros stays zero


class Matrix(ABC):
    """An adjacency matrix a. Convention: a[u, v] is the weight with which u hears v; degrees are row sums."""

    nodes: Nodes
    symmetric: bool
    value: Tensor | None

    def __init__(self) -> None:
        self._views: dict[Hashable, Matrix] = {}
        self._viewed: tuple[Tensor | None, int] | None = None  # the values that `_views` are of
        self._learnt: dict[Hashable, tuple[Tensor, tuple[int, int], Matrix]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what was made for a gradient: torch copies no tensor within one."""
        return {**vars(self), "_viewed": None, "_learnt": {}}

    def view(self, connectivity: Callable[[Matrix], Matrix]) -> Matrix:
        """`connectivity(self)`, computed once and kept: the layers of a level share it.

        The packed store fills this in for what does not change between epochs, so that nothing is computed here. It is
        kept until the values are changed in place, or others set. A view of values that take a gradient is kept until a
        backward pass has gone through it, too, and for the thread that made it; it is not kept at all where no gradient
        is recorded, or where `torch.utils.checkpoint` will compute it again.
        """
        if self.value is not None and not plain.traced():
            if self.value.requires_grad:
                return self._learnt_view(connectivity, self.value)
            self._forget_views(self.value)
        if (found := self._views.get(connectivity)) is None:
            found = plain.lasting(lambda: connectivity(self))
            if found is not self:  # which would hold itself until it is collected
                self._views[connectivity] = found
        return found

    def keep_view(self, connectivity: Callable[[Matrix], Matrix], matrix: Matrix) -> None:
        """Hand in a view that was computed elsewhere, of values that take no gradient."""
        if self.value is not None and not plain.traced():
            self._forget_views(self.value)
        self._views[connectivity] = matrix

    def _forget_views(self, value: Tensor) -> None:
        """Drop the views where they are of other values than these."""
        version = -1 if value.is_inference() else value._version
        if self._viewed is None or self._viewed[0] is not value or self._viewed[1] != version:
            if self._viewed is not None:
                self._views.clear()
            self._viewed = value, version

    def _learnt_view(self, connectivity: Callable[[Matrix], Matrix], value: Tensor) -> Matrix:
        if not torch.is_grad_enabled() or plain.by_formula() or plain.hooked():
            return connectivity(self)
        # A backward pass in one thread would free what another one is about to go through.
        state = value._version, threading.get_ident()
        source, found, made = self._learnt.get(connectivity, (None, None, self))
        if source is value and found == state:
            return made
        made = connectivity(self)
        if made is not self and made.value is not None and made.value.requires_grad:
            self._learnt[connectivity] = value, state, made
            owner = weakref.ref(self)  # the hook is held by what the owner holds

            def used(_: Tensor) -> None:
                if (a := owner()) is not None:
                    a._learnt.pop(connectivity, None)

            made.value.register_hook(used)
        return made

    @abstractmethod
    def matmul(self, x: Tensor) -> Tensor:
        """a x at node level. Where torch.compile should trace it, call it by this name: it knows no @ of a class."""

    def __matmul__(self, x: Tensor) -> Tensor:
        return self.matmul(x)

    @abstractmethod
    def degree(self) -> Tensor:
        """Row sums, weights included: node level."""

    @abstractmethod
    def nnz(self) -> Tensor:
        """Entries other than zero of each graph (both directions of an edge count): [b], float."""

    @abstractmethod
    def scale(self, left: Tensor, right: Tensor) -> Matrix:
        """diag(left) a diag(right), for node-level vectors."""

    @abstractmethod
    def times(self, factor: float) -> Matrix:
        """factor a."""

    @abstractmethod
    def add_identity(self, weight: float = 1.0) -> Matrix:
        """a + weight I (over real nodes): a self-loop of weight w becomes w + weight."""

    @abstractmethod
    def without_diagonal(self) -> Matrix:
        """a with its diagonal set to zero."""

    @abstractmethod
    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """(row, column, value) of the entries, nodes numbered as the real rows in flat order."""

    @abstractmethod
    def to_dense(self) -> Tensor:
        """For tests and for small graphs: [n, n] (disjoint) or [b, k, k] (batch)."""

    @abstractmethod
    def sparse(self) -> Sparse:
        """The same graphs in the disjoint layout, padding nodes left out."""

    def total(self) -> Tensor:
        """Sum of all entries of each graph: [b]."""
        return self.nodes.sum(self.degree())

    def normalize(self, loops: bool = True, identity: float = 0.0) -> Matrix:
        """a_uv / ((sqrt(d_u) + eps) (sqrt(d_v) + eps)), d the row sums on both sides; a zero row stays zero.

        loops: False drops the diagonal first. identity: this multiple of I is added then. Where a row sum is not above
        0, all entries in its row and its column become 0: the formula would give a column 1 / eps where the sum is 0,
        as of a node of a directed graph that hears nobody, and has no root where negative weights make it less.
        """
        if not loops:
            return self.without_diagonal().normalize(identity=identity)
        if identity:
            return self.add_identity(identity).normalize()
        inverse = products.inverse_root(self.degree(), EPS)
        return self.scale(inverse, inverse)


class Sparse(Matrix):
    """The disjoint layout: one block-diagonal CSR matrix. An entry may stand in several parts: they add up.

    Args:
        crow, col: int64 [n + 1], [e].
        value: [e], None for ones.
        nodes: which rows belong to which graph.
        symmetric: True only where the matrix is known to equal its transpose, values included.
        transposed: of the pattern (`products.transpose`), where the caller has it; row: of each entry, likewise.
        distinct: True only where each entry is known to stand in one part, further ones of it being 0.
    """

    nodes: Ragged

    def __init__(
        self,
        crow: Tensor,
        col: Tensor,
        value: Tensor | None,
        nodes: Ragged,
        symmetric: bool = False,
        transposed: tuple[Tensor, Tensor, Tensor] | None = None,
        distinct: bool = False,
        row: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.crow, self.col, self.value, self.nodes = crow, col, value, nodes
        self.symmetric = symmetric
        self.distinct = distinct
        self._transposed = transposed
        self._row = row

    def __repr__(self) -> str:
        n, entries = self.crow.numel() - 1, f"{self.col.numel()} entries"
        b, symmetric = counted(self.nodes.num_graphs, "graph"), "symmetric" * self.symmetric
        return listed(self, f"[{n}, {n}]", entries, b, symmetric, weights=self.value)

    @classmethod
    def from_edges(
        cls, row: Tensor, col: Tensor, value: Tensor | None, nodes: Ragged, symmetric: bool = False
    ) -> Sparse:
        """From edges in any order; edges that stand several times are merged, their weights added.

        How many are left is not known to a traced call: there the first of them gets the sum, the others a weight of 0.
        """
        n, row, col = nodes.num_rows, row.to(torch.int64), col.to(torch.int64)  # row * n leaves smaller types
        key = row * n + col
        if plain.traced():
            key, value = plain.merge(key, value)
            row, col = key // n, key % n
            return cls(products.pointers(row, n), col, value, nodes, symmetric, distinct=True, row=row)
        if key.numel() and bool((key.diff() <= 0).any()):
            key, inverse = torch.unique(key, return_inverse=True)
            if value is not None or key.numel() != row.numel():
                ones = torch.ones(row.numel(), device=row.device) if value is None else value
                value = products.merge(ones, inverse, key.numel())
            row, col = key // n, key % n
        return cls(products.pointers(row, n), col, value, nodes, symmetric, distinct=True)

    @property
    def row(self) -> Tensor:
        if self._row is not None:
            return self._row
        row = plain.lasting(lambda: products.rows(self.crow, self.col.numel()))
        if not plain.traced():  # which would be compiled anew for a matrix that has changed
            self._row = row
        return row

    @property
    def weights(self) -> Tensor:
        """The values, ones where none are stored: [e]."""
        if self.value is not None:
            return self.value
        return torch.ones(self.col.numel(), device=self.col.device, dtype=torch.get_default_dtype())

    def transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._transposed is None:
            self._transposed = plain.lasting(lambda: products.transpose(self.crow, self.col, self.nodes.num_rows))
        return self._transposed

    def matmul(self, x: Tensor) -> Tensor:
        if plain.by_formula():
            return products.spmm(self.value, x, self.crow, self.col)
        self_adjoint = self.symmetric and not (self.value is not None and self.value.requires_grad)
        needs = x.requires_grad or (self.value is not None and self.value.requires_grad)
        back = self.transposed() if needs and not self_adjoint else None
        return products.spmm(self.value, x, self.crow, self.col, back)

    def at_rows(self, x: Tensor) -> Tensor:
        """x of the node in whose row each entry stands: [n, ...] -> [e, ...]."""
        return products.expand(x, self.crow, self.row)

    def at_columns(self, x: Tensor) -> Tensor:
        """x of the node in whose column each entry stands: [n, ...] -> [e, ...]."""
        if plain.by_formula():
            return x.index_select(0, self.col)
        entries = torch.arange(self.col.numel() + 1, device=self.col.device)
        back = None
        if x.requires_grad:  # the gradients of a column are added in a fixed order
            tcrow, _, entry = self.transposed()
            back = (tcrow, entry, entry)
        return products.spmm(None, x, entries, self.col, back)

    def degree(self) -> Tensor:
        if self.value is None:
            return self.crow.diff().to(torch.get_default_dtype())
        return products.segment_sum(self.value, self.crow, self.row)

    def column_sums(self) -> Tensor:
        """Degrees of the transpose, weights included: [n]."""
        if self.symmetric:
            return self.degree()
        crow, row, entry = self.transposed()
        return products.segment_sum(self.weights.index_select(0, entry), crow, products.rows(crow, row.numel()))

    def nnz(self) -> Tensor:
        if self.value is None:
            stored = self.crow[self.nodes.ptr].diff()
            return stored.to(torch.get_default_dtype())
        hit = (self.value.detach() != 0).to(self.value.dtype)
        return self.nodes.sum(products.segment_sum(hit, self.crow, self.row))

    def with_value(self, value: Tensor | None, symmetric: bool = False) -> Sparse:
        """The same pattern with other values."""
        return Sparse(self.crow, self.col, value, self.nodes, symmetric, self._transposed, self.distinct, self._row)

    def scale(self, left: Tensor, right: Tensor) -> Sparse:
        value = left.index_select(0, self.row) * right.index_select(0, self.col)
        if self.value is not None:
            value = value * self.value
        return self.with_value(value, symmetric=self.symmetric and left is right)

    def times(self, factor: float) -> Sparse:
        return self.with_value(factor * self.weights, self.symmetric)

    def add_identity(self, weight: float = 1.0) -> Sparse:
        # The new entry goes to the end of its row: index arithmetic alone, no sort. Where there is a self-loop
        # already, two entries stand for one.
        n, e = self.nodes.num_rows, self.col.numel()
        each = torch.arange(n + e, device=self.col.device)
        place, last = each[:e] + self.row, self.crow[1:] + each[:n]
        both = torch.cat([place, last])
        col = torch.empty_like(both).index_copy_(0, both, torch.cat([self.col, each[:n]]))
        value = None
        if self.value is not None or weight != 1.0:
            old = torch.cat([self.weights, self.weights.new_full((n,), weight)])
            value = torch.zeros_like(old).index_copy(0, both, old)
        row = torch.empty_like(both).index_copy_(0, both, torch.cat([self.row, each[:n]]))
        crow = torch.cat([self.crow[:1], last + 1])
        return Sparse(crow, col, value, self.nodes, self.symmetric, row=row)

    def without_diagonal(self) -> Sparse:
        return self.filter(self.row != self.col)

    def filter(self, keep: Tensor) -> Sparse:
        """The entries that the mask `keep` [e] names."""
        (kept,) = keep.nonzero(as_tuple=True)
        row, col = self.row.index_select(0, kept), self.col.index_select(0, kept)
        value = None if self.value is None else self.value.index_select(0, kept)
        crow = products.pointers(row, self.nodes.num_rows)
        return Sparse(crow, col, value, self.nodes, self.symmetric, distinct=self.distinct, row=row)

    def without_zeros(self) -> Sparse:
        """The entries that are not 0; itself where none is."""
        if self.value is None or bool((real := self.value.detach() != 0).all()):
            return self
        return self.filter(real)

    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.row, self.col, self.weights

    def to_dense(self) -> Tensor:
        n = self.nodes.num_rows
        out = self.weights.new_zeros(n * n)
        return out.index_add(0, self.row * n + self.col, self.weights).reshape(n, n)

    def sparse(self) -> Sparse:
        return self


class Dense(Matrix):
    """The batch layout: value [b, k, k]; rows and columns of padding nodes are zero."""

    nodes: Padded
    value: Tensor

    def __init__(self, value: Tensor, nodes: Padded | None = None, symmetric: bool = False) -> None:
        super().__init__()
        self.value = value
        self.nodes = nodes or Padded(value.shape[0], value.shape[1], None, value.device)
        self.symmetric = symmetric

    def __repr__(self) -> str:
        return listed(self, shape_of(self.value), "symmetric" * self.symmetric, mask=self.nodes.mask)

    def matmul(self, x: Tensor) -> Tensor:
        value = self.value if self.value.dtype == x.dtype else self.value.to(x.dtype)
        return value @ x if x.ndim == 3 else (value @ x.unsqueeze(-1)).squeeze(-1)

    def degree(self) -> Tensor:
        return self.value.sum(-1)

    def nnz(self) -> Tensor:
        return (self.value.detach() != 0).to(self.value.dtype).sum((1, 2))

    def scale(self, left: Tensor, right: Tensor) -> Dense:
        value = left.unsqueeze(-1) * self.value * right.unsqueeze(-2)
        return Dense(value, self.nodes, self.symmetric and left is right)

    def times(self, factor: float) -> Dense:
        return Dense(factor * self.value, self.nodes, self.symmetric)

    def add_identity(self, weight: float = 1.0) -> Dense:
        ones = self.value.new_full(self.value.shape[:2], weight)
        return Dense(self.value + torch.diag_embed(self.nodes.zero_padding(ones)), self.nodes, self.symmetric)

    def without_diagonal(self) -> Dense:
        return Dense(products.off_diagonal(self.value), self.nodes, self.symmetric)

    def normalize(self, loops: bool = True, identity: float = 0.0) -> Dense:
        if identity and self.nodes.mask is not None:
            return self.add_identity(identity).normalize(loops)
        return Dense(products.normalized(self.value, EPS, loops, identity), self.nodes, self.symmetric)

    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        a = self.sparse()
        return a.edges()

    def to_dense(self) -> Tensor:
        return self.value

    def sparse(self) -> Sparse:
        b, k, _ = self.value.shape
        mask = self.nodes.real
        nodes = Ragged.from_index(self.nodes.index[mask.reshape(-1)], b)
        number = torch.cumsum(mask.reshape(-1), 0) - 1
        g, u, v = (self.value.detach() != 0).nonzero(as_tuple=True)
        real = mask[g, u] & mask[g, v]
        g, u, v = g[real], u[real], v[real]
        row, col = number[g * k + u], number[g * k + v]
        return Sparse(products.pointers(row, nodes.num_rows), col, self.value[g, u, v], nodes, self.symmetric)


def merged_entries(a: Matrix) -> Sparse:
    """The same matrix in the disjoint layout, with one part for each entry. A view (`Matrix.view`), as others are."""
    a = a.sparse()
    return a if a.distinct else Sparse.from_edges(a.row, a.col, a.value, a.nodes, a.symmetric)


def to_padded(x: Tensor, a: Sparse) -> tuple[Tensor, Dense]:
    """The same graphs in the batch layout: x [b, k, ...] and a [b, k, k], k the largest size, with a mask.

    For the way out of an operator that was called in batch mode; nothing on the way of a disjoint batch uses it.
    """
    nodes = a.nodes
    b, width = nodes.num_graphs, max(nodes.host_sizes, default=0)
    offset = nodes.numbers
    place = nodes.index * width + offset
    padded = x.new_zeros(b * width, *x.shape[1:]).index_copy(0, place, x).reshape(b, width, *x.shape[1:])
    weights = a.weights.to(x.dtype)
    flat = weights.new_zeros(b * width * width).index_add(0, place[a.row] * width + offset[a.col], weights)
    mask = torch.arange(width, device=x.device) < nodes.sizes.unsqueeze(-1)
    return padded, Dense(flat.reshape(b, width, width), Padded(b, width, mask), a.symmetric)


def to_flat(x: Tensor, a: Dense) -> tuple[Tensor, Sparse]:
    """The same graphs in the disjoint layout, padding nodes left out."""
    sparse = a.sparse()
    mask = a.nodes.mask
    return (x.flatten(0, 1) if mask is None else x[mask]), sparse


def block_diagonal(a: Dense) -> Sparse:
    """Every entry of the blocks, zeros too, as one CSR matrix: differentiable in each of them."""
    b, k, _ = a.value.shape
    start = torch.arange(b * k, device=a.value.device) // max(k, 1) * k
    col = (start.unsqueeze(-1) + torch.arange(k, device=a.value.device)).reshape(-1)
    crow = torch.arange(b * k + 1, device=a.value.device) * k
    nodes = Ragged(torch.arange(b + 1, device=a.value.device) * k, [k] * b)
    return Sparse(crow, col, a.value.reshape(-1), nodes, a.symmetric)
