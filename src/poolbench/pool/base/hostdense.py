"""Base of the operators that make k clusters a graph on the host, from the graph alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import Dense, Matrix, Nodes, Padded
from poolbench.pool.base.hostgraph import (
    Array,
    canonical_order,
    host_graphs,
    on_host,
    one_thread,
    reordered,
    rounded,
    to_numpy,
)
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.precomputed import real_rows
from poolbench.pool.base.selection import DenseSelection, node_level
from poolbench.pool.base.src import SoftPool

SEEDS = 2**32 - 1
"""The largest seed that scikit-learn takes."""


class HostDensePool(SoftPool):
    """A dense S from each graph alone, and A' = S'AS, by default without its diagonal and normalised.

    S and A' are computed in float64, graph by graph, and are constants for the gradient. An operator overrides
    `assign_graph` and makes a selection of it.

    Args:
        k: number of clusters of each graph. A graph of fewer nodes leaves the last ones empty.
        seed: of the random starts.
        remove_self_loops: drop the diagonal of A', the weight within clusters.
        degree_norm: A'_ij / sqrt(d_i d_j), d the row sums of A'.
        edge_weight_norm: divide A' by the largest |weight| of its graph.
        return_selection: also return S.
    """

    precomputable = True
    # Fixed, but select runs on the host: a traced or a CUDA step must stop for it all the same.
    size_depends_on_data = True

    def __init__(
        self,
        k: int,
        seed: int = 0,
        degree_norm: bool = True,
        edge_weight_norm: bool = False,
        return_selection: bool = False,
        remove_self_loops: bool = True,
        **unknown: Any,
    ) -> None:
        super().__init__(k, return_selection, remove_self_loops=remove_self_loops, degree_norm=degree_norm, **unknown)
        self.seed = whole("seed", seed, 0)
        if self.seed > SEEDS:
            raise ValueError(f"seed={seed}: a whole number of at most {SEEDS} is expected")
        self.edge_weight_norm = edge_weight_norm

    @abstractmethod
    def assign_graph(self, a: csr_array, k: int) -> Array:
        """What one graph is given: a row a node. `a` has its nodes in the canonical order, weights to 12 bits."""

    def assignments(self, a: Matrix) -> Tensor:
        """`assign_graph` of all graphs, a row for each real node: [n, ...] float64, on the host."""
        counts = self._counts(a.nodes)
        with one_thread():
            parts = [self._in_order(graph, k) for graph, k in zip(host_graphs(a), counts, strict=True)]
        return torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(0, dtype=torch.float64)

    def _counts(self, nodes: Nodes) -> list[int]:
        clusters = self.clusters(nodes)
        return [self.k] * nodes.num_graphs if clusters is None else clusters.sum(1).tolist()

    def _in_order(self, a: csr_array, k: int) -> Array:
        order = canonical_order(a)
        found = self.assign_graph(rounded(reordered(a, order)), k)
        out = np.empty_like(found)
        out[order] = found
        return out

    def node_level(self, rows: Tensor, nodes: Nodes) -> Tensor:
        """Rows of real nodes -> node level, with zeros for padding."""
        return node_level(rows, nodes) if isinstance(nodes, Padded) else rows

    @on_host
    def connect(self, a: Matrix, s: DenseSelection) -> Dense:  # type: ignore[override]
        flat, real = s.s.reshape(-1, self.k), real_rows(s.nodes)
        rows = to_numpy((flat if real is None else flat[real]).double())
        blocks, start = [], 0
        with one_thread():
            for graph in host_graphs(a):
                own = rows[start : start + graph.shape[0]]
                blocks.append(own.T @ (graph @ own))
                start += graph.shape[0]
        value = np.stack(blocks) if blocks else np.zeros((0, self.k, self.k))
        pooled = self.finish(Dense(torch.from_numpy(value), None, a.symmetric))
        return Dense(pooled.value.to(weights_of(a)), s.pooled, a.symmetric)

    def finish(self, m: Dense) -> Dense:  # type: ignore[override]
        return post_process(m, self.remove_self_loops, self.degree_norm, self.edge_weight_norm)

    def reduce(self, x: Tensor, s: DenseSelection) -> Tensor:  # type: ignore[override]
        return DenseSelection(s.s.to(x.dtype), s.nodes, s.pooled.mask).reduce(x)

    def lift(self, x: Tensor, s: DenseSelection, inverse: bool = False) -> Tensor:
        return super().lift(x, DenseSelection(s.s.to(x.dtype), s.nodes, s.pooled.mask), inverse)


def weights_of(a: Matrix) -> Tensor:
    """The values of a matrix in either layout: their type and device are those of what is made from it."""
    return a.value if isinstance(a, Dense) else a.sparse().weights
