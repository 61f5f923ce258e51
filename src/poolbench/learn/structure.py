"""The signals whose quadratic form a pooled graph should keep: node features and the first eigenvectors of L = D - A.

Grattarola et al., TNNLS 2022, arXiv 2110.05292, section "preserving structure".
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence

from poolbench.data.features import Features
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError
from poolbench.pool.base.hostgraph import Array
from poolbench.pool.base.spectral import DENSE, laplacian, smallest_eigenvectors


def signals(raw: RawGraphs, x: Features, weight: torch.Tensor | None, eigenvectors: int) -> Features:
    """[N, f + eigenvectors] float32: in each graph every feature centred and of length 1, then the eigenvectors.

    Args:
        weight: [E] of the edges, or None.
        eigenvectors: how many. A graph of fewer nodes has zeros in the columns that it lacks.

    Raises `PoolBenchError` for a directed graph, and where Lanczos does not converge.
    """
    if not raw.symmetric:
        raise PoolBenchError(f"model=spectral compares Laplacians of undirected graphs, and {raw.name} is directed")
    row, col = raw.edge_index.numpy()
    entries = np.ones(len(row)) if weight is None else weight.double().numpy()
    a = csr_array((entries, (row, col)), shape=(raw.total_nodes, raw.total_nodes))
    width = x.values.shape[1]
    out = np.zeros((raw.total_nodes, width + eigenvectors))
    ends = np.cumsum(raw.num_nodes.numpy())
    for graph, (first, last) in enumerate(zip(ends - raw.num_nodes.numpy(), ends, strict=True)):
        if first == last:
            continue
        out[first:last, :width] = _unit(x.values[first:last].double().numpy())
        try:
            found = first_eigenvectors(a[first:last, first:last], eigenvectors)
        except ArpackNoConvergence as error:
            raise PoolBenchError(
                f"model=spectral: the first {eigenvectors} eigenvectors of graph {graph} of {raw.name} were not found; "
                "give model.eigenvectors a smaller number"
            ) from error
        out[first:last, width : width + found.shape[1]] = found
    names = [*x.names, *(f"eigenvector {k}" for k in range(eigenvectors))]
    return Features(torch.from_numpy(out).to(torch.float32), names)


def first_eigenvectors(a: csr_array, count: int) -> Array:
    """Eigenvectors of D - A of one graph, by rising eigenvalue: [n, min(count, n)], columns of length 1.

    A large graph is taken apart into its components: 0 is as often an eigenvalue as there are components, and Lanczos
    finds one vector of each eigenspace.
    """
    n = a.shape[0]
    if n <= DENSE:
        return smallest_eigenvectors(laplacian(a, normalized=False), min(count, n))
    parts, part = connected_components(a, directed=False)
    order = np.argsort(part, kind="stable")
    columns: list[tuple[float, Array, Array]] = []
    for members in np.split(order, np.cumsum(np.bincount(part, minlength=parts))[:-1]):
        lap = laplacian(csr_array(a[members][:, members]), normalized=False)
        vectors = smallest_eigenvectors(lap, min(count, len(members)))
        columns += [(float(v @ (lap @ v)), members, v) for v in vectors.T]
    columns.sort(key=lambda column: column[0])
    out = np.zeros((n, min(count, n)))
    for k, (_, members, vector) in enumerate(columns[: out.shape[1]]):
        out[members, k] = vector
    return out


def _unit(x: Array) -> Array:
    """Columns centred and of length 1; a constant one is zero."""
    x = x - x.mean(0, keepdims=True)
    length = np.linalg.norm(x, axis=0)
    return np.where(length > 1e-9, x / np.maximum(length, 1e-9), 0.0)
