"""NDPPool: Bianchi, Grattarola, Livi, Alippi, "Hierarchical Representation Learning in Graph Neural Networks with Node
Decimation Pooling", TNNLS 2022, arXiv 1910.11436."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import block_diag, coo_array, csr_array, hstack
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from torch import Tensor

from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.linalg.products import pointers
from poolbench.pool.base.hostgraph import (
    Array,
    canonical_order,
    host_graphs,
    on_host,
    one_thread,
    reordered,
    simple,
    to_numpy,
)
from poolbench.pool.base.selection import KeptSelection, SparseSelection
from poolbench.pool.base.spectral import TIE, laplacian, largest_eigenvector
from poolbench.pool.base.src import SRCPool

COLUMNS = 256  # of a Schur complement that are dense at a time


class NDPPool(SRCPool):
    r"""Keeps one side of an approximate maximum cut and connects it as if the other side were still there.

        v    = the eigenvector of L_sym = I - D^-1/2 A D^-1/2 for its largest eigenvalue
        V+   = {i : v_i >= 0} is kept, V- the rest
        X'   = X[V+]
        A'   = -(L_++ - L_+- L_--^-1 L_-+) off the diagonal, entries |a| <= threshold dropped    (Kron reduction)

    No parameters, no losses; V+ and A' depend on A alone (`precomputable`), and A' is a constant for the gradient. A
    directed graph is made symmetric first, with the larger of both weights; self-loops and negative weights are no
    edges.

    Where less than half of the weight lies between V+ and V-, and where Lanczos does not converge, V+ is a random
    half: node 0, not node 1, the others by fair coins. The coins are drawn from a fixed seed over an order of the nodes
    that does not depend on their numbers. So is what else the method leaves open:

    * The sign of v: its largest entry is positive. Entries within 1e-6 of it are as large, entries below 1e-6 of it are
      zero, and zeros are kept.
    * A graph of one node keeps it. Of a graph without edges a random half is kept. One kept node has no edges.
    * A graph in several components is one graph: v lives on the component of the largest eigenvalue, so that the nodes
      of the others are all kept, or the cut is small and the split random. An isolated node has v = 0.
    * A component of V- without an edge to V+ makes L_-- singular; it carries nothing between kept nodes and is left
      out (the paper's code adds 1e-6 I).
    * Where the largest eigenvalue is multiple, v is one vector of the eigenspace, the same one each time.

    Cost O(E t) for t Lanczos steps, and a sparse factorisation of L_--, at worst O(|V-|^3), with |V+| solves; the
    pooled graph is denser, at most |V+|^2. It is computed on the host.

    Args:
        threshold: edges with |weight| up to this are dropped from the pooled graph.
        return_selection: also return the selection.

    Raises: ValueError for a negative threshold, and for weights that are not finite.
    """

    precomputable = True
    selects = (KeptSelection,)

    def __init__(self, threshold: float = 0.01, return_selection: bool = False, **unknown: Any) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        if not threshold >= 0.0:
            raise ValueError(f"threshold={threshold!r}: a number of at least 0 is expected")
        self.threshold = float(threshold)

    @on_host
    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> KeptSelection:
        a = a.sparse()
        with one_thread():
            kept = [kept_side(simple(graph)) for graph in host_graphs(a)]
        flat = torch.from_numpy(np.concatenate(kept)) if kept else torch.zeros(0, dtype=torch.bool)
        return SparseSelection.keep(flat.to(a.col.device).nonzero(as_tuple=True)[0], None, a.nodes)

    @on_host
    def connect(self, a: Matrix, s: KeptSelection) -> Sparse:  # type: ignore[override]
        a = a.sparse()
        mask = s.mask.bool().split(a.nodes.host_sizes)
        with one_thread():
            graphs = zip(host_graphs(a), mask, strict=True)
            pooled = [kron_reduction(simple(graph), to_numpy(kept), self.threshold) for graph, kept in graphs]
        return _sparse(pooled, s.pooled, a.weights)


def kept_side(a: csr_array) -> Array:
    """V+ of a graph without self-loops, symmetric and without negative weights: [n] bool."""
    n = a.shape[0]
    order = canonical_order(a)
    a = reordered(a, order)
    v = largest_eigenvector(laplacian(a, normalized=True)) if a.nnz else None
    kept = np.ones(n, dtype=bool)
    if n > 1:
        kept = _coins(n) if v is None else v >= -TIE * np.abs(v).max()
        if v is not None and _cut(a, kept) < 0.5:
            kept = _coins(n)
    out = np.empty(n, dtype=bool)
    out[order] = kept
    return out


def _cut(a: csr_array, kept: Array) -> float:
    """Share of the weight of edges that lies between the two sides."""
    edges = a.tocoo()
    return float(edges.data[kept[edges.row] != kept[edges.col]].sum() / edges.data.sum())


def _coins(n: int) -> Array:
    kept = np.random.default_rng(0).random(n) < 0.5
    kept[:2] = True, False
    return kept


def kron_reduction(a: csr_array, kept: Array, threshold: float) -> csr_array:
    """The graph on the `kept` [n] bool nodes whose Laplacian is the Schur complement of L = D - A: [k, k].

    A is symmetric, without self-loops and without negative weights; entries |a| <= threshold are dropped.
    """
    lap = laplacian(a, normalized=False)
    (plus,) = kept.nonzero()
    minus = _met(a, kept)
    reduced = lap[plus][:, plus].tocsc()
    if minus.size:
        across = lap[minus][:, plus].tocsc()
        solver = splu(lap[minus][:, minus].tocsc())
        parts = []
        for start in range(0, plus.size, COLUMNS):
            columns = slice(start, start + COLUMNS)
            part = reduced[:, columns] - across.T @ solver.solve(across[:, columns].toarray())
            parts.append(_sparsified(part, threshold * (1 - TIE)))
        reduced = hstack(parts)
    reduced = (reduced + reduced.T) / 2  # the two differ by rounding
    out = reduced.tocoo()
    keep = (out.row != out.col) & (np.abs(out.data) > threshold)
    return csr_array((-out.data[keep], (out.row[keep], out.col[keep])), shape=out.shape)


def _sparsified(part: Array, threshold: float) -> coo_array:
    row, column = (np.abs(part) > threshold).nonzero()
    return coo_array((part[row, column], (row, column)), shape=part.shape)


def _met(a: csr_array, kept: Array) -> Array:
    """The nodes that are not kept and from which a kept one can be reached through such nodes."""
    (minus,) = (~kept).nonzero()
    count, component = connected_components(a[minus][:, minus], directed=False)
    touches = a[minus][:, kept.nonzero()[0]].sum(1) > 0
    return minus[np.bincount(component, weights=touches, minlength=count)[component] > 0]


def _sparse(graphs: list[csr_array], nodes: Ragged, like: Tensor) -> Sparse:
    """Graphs on the host as one matrix in the type and on the device of `like`."""
    whole = block_diag([g for g in graphs if g.shape[0]], format="csr") if nodes.num_rows else csr_array((0, 0))
    whole.sort_indices()
    row = torch.from_numpy(np.repeat(np.arange(whole.shape[0]), np.diff(whole.indptr))).to(torch.int64)
    col, value = torch.from_numpy(whole.indices).to(torch.int64), torch.from_numpy(whole.data)
    crow = pointers(row, nodes.num_rows).to(like.device)
    return Sparse(crow, col.to(like.device), value.to(like), nodes, symmetric=True)
