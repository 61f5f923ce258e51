"""NMFPool: Bacciu, Di Sotto, "A Non-negative Factorization Approach to Node Pooling in Graph Convolutional Neural
Networks", AI*IA 2019, arXiv 1909.03287."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from poolbench.linalg import Matrix
from poolbench.pool.base.hostdense import HostDensePool, weights_of
from poolbench.pool.base.hostgraph import Array, on_host
from poolbench.pool.base.selection import DenseSelection
from poolbench.pool.base.spectral import DENSE


class NMFPool(HostDensePool):
    """Soft clusters from a non-negative factorisation of the adjacency matrix of each graph.

        max(A, 0) ~ W H,   W [n, k], H [k, n] >= 0        (least squares by coordinate descent)
        S  = softmax of each row of H'                                          [n, k]
        X' = S'X,   M = S'AS,   A' = D'^-1/2 (M - diag M) D'^-1/2

    No parameters, no losses; S and A' depend on A alone (`precomputable`) and are constants for the gradient. The start
    is random. It is drawn from `seed` over an order of the nodes that does not depend on their numbers, and weights are
    read to 12 bits, so that neither numbering nor rounding leads to another local optimum.

    A graph of n <= k nodes gets S = I, with empty clusters behind; k = 1 gives S = 1. A node without edges has a column
    of zeros in H and belongs to all clusters alike, and so do all nodes of a graph without edges. Components need no
    care. Of a directed graph, H describes the columns of A.

    Cost O((E + n k) k) for each step of the descent, at most `max_iter`, on the host; up to 256 nodes A is held dense
    there, which is faster. O(E k + n k (k + f)) after it.

    Args:
        k: number of clusters of each graph.
        seed: of the random start.
        max_iter: steps of the descent, at least 1. It ends before, when a step changes little (1e-4 of the first).
        remove_self_loops, degree_norm, edge_weight_norm, return_selection: see `HostDensePool`.

    Raises: ValueError for weights that are not finite.
    """

    def __init__(
        self,
        k: int,
        seed: int = 0,
        max_iter: int = 5000,
        remove_self_loops: bool = True,
        return_selection: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__(
            k, seed=seed, return_selection=return_selection, remove_self_loops=remove_self_loops, **unknown
        )
        if max_iter < 1:
            raise ValueError(f"max_iter={max_iter!r}: at least 1 step is expected")
        self.max_iter = int(max_iter)

    @on_host
    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        rows = self.assignments(a).reshape(-1, self.k).to(weights_of(a))
        s = self.node_level(rows, a.nodes)
        return DenseSelection(s, a.nodes, self.clusters(a.nodes))

    def assign_graph(self, a: csr_array, k: int) -> Array:
        n = a.shape[0]
        s = np.zeros((n, self.k))
        if n <= k:
            s[np.arange(n), np.arange(n)] = 1.0
        else:
            s[:, :k] = _row_softmax(self._factor(a.maximum(0), k).T)
        return s

    def _factor(self, a: csr_array, k: int) -> Array:
        """H: [k, n]."""
        from sklearn.decomposition import non_negative_factorization
        from sklearn.exceptions import ConvergenceWarning

        if not a.nnz:
            return np.zeros((k, a.shape[0]))
        given = a.toarray() if a.shape[0] <= DENSE else a  # a step on a small sparse matrix is all overhead
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the bound on the steps is a part of the method
            _, h, _ = non_negative_factorization(
                given,
                n_components=k,
                init="random",
                solver="cd",
                tol=1e-4,
                max_iter=self.max_iter,
                random_state=self.seed,
            )
        return h


def _row_softmax(v: Array) -> Array:
    e = np.exp(v - v.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
