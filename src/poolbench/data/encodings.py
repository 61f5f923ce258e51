"""What the structure of a graph says about its nodes: triangles, random walks, eigenvectors of the Laplacian.

All of them take edges in both directions, without weights, and never form an N x N matrix for a large graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg

from poolbench.data.generators.stream import Stream
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError

Array = np.ndarray[Any, np.dtype[Any]]

_WEDGES = 1 << 22
_ROWS = 1 << 12
_DENSE = 256
"""Graphs up to this size: all eigenvectors at once is quicker than Lanczos, which needs k < n besides."""
_SAME = 1e-9


def clustering(raw: RawGraphs) -> Array:
    """[N] float64 local clustering coefficients 2 T / (d (d - 1)); 0 for degrees below 2.

    Watts & Strogatz, Nature 393 (1998). T, the triangles of a node, are found from paths u - v - w in ascending order
    of degree, of which there are at most O(E sqrt(E)), hubs or not.
    """
    a = undirected(raw)
    degree, n = np.diff(a.indptr), a.shape[0]
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(degree, kind="stable")] = np.arange(n)
    row, col = rank[np.repeat(np.arange(n), degree)], rank[a.indices]
    keys = np.sort((row * n + col)[row < col])
    row, col = np.divmod(keys, max(n, 1))
    start = np.searchsorted(row, np.arange(n + 1))
    out = np.diff(start)
    triangles = np.zeros(n, dtype=np.int64)
    paths = np.concatenate([[0], np.cumsum(out[col])])
    first = 0
    while first < len(row):
        last = max(first + 1, int(np.searchsorted(paths, paths[first] + _WEDGES, side="right")) - 1)
        count = out[col[first:last]]
        edge = np.repeat(np.arange(first, last), count)
        step = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
        u, v = row[edge], col[edge]
        w = col[start[v] + step]
        wanted = u * n + w
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        closed = keys[at] == wanted
        for corner in (u, v, w):
            triangles += np.bincount(corner[closed], minlength=n)
        first = last
    return 2.0 * triangles[rank] / np.maximum(degree * (degree - 1), 1)


def random_walk(raw: RawGraphs, k: int) -> Array:
    """[N, k] float64: the probability that a random walk from a node is back after 1, ..., k steps.

    Dwivedi et al., "Graph Neural Networks with Learnable Structural and Positional Representations", ICLR 2022, arXiv
    2110.07875. With S = D^-1/2 A D^-1/2 the entry of step s + t is the product of a node's rows of S^s and S^t, so
    only half as many powers are needed; they are sparse, and computed for some rows at a time.
    """
    s = normalized(undirected(raw))
    n = s.shape[0]
    returned = np.zeros((n, k))
    for first in range(0, n, _ROWS):
        rows = slice(first, min(first + _ROWS, n))
        near, far = sp.identity(n, format="csr")[rows], s[rows]  # rows of S^a and S^b, a + b = step, b - a is 0 or 1
        for step in range(1, k + 1):
            returned[rows, step - 1] = np.asarray(near.multiply(far).sum(axis=1))[:, 0]
            if step < k:
                near, far = (far, far) if step % 2 else (near, far @ s)
    return returned


def laplacian(raw: RawGraphs, k: int) -> Array:
    """[N, k] float64: eigenvectors 2 to k + 1 of L = I - D^-1/2 A D^-1/2 of each graph, by ascending eigenvalue.

    Dwivedi et al., "Benchmarking Graph Neural Networks", JMLR 24 (2023), arXiv 2003.00982. The sign makes the entry
    of largest size positive. Graphs of fewer than k + 1 nodes have zeros in the columns that they lack. Where an
    eigenvalue is multiple any basis of its space is as good as another: which one comes hangs on the version of SciPy.

    Raises `PoolBenchError` where Lanczos does not converge.
    """
    s = normalized(undirected(raw))
    vectors = np.zeros((s.shape[0], k))
    ends = np.cumsum(raw.num_nodes.numpy())
    for graph, (first, last) in enumerate(zip(ends - raw.num_nodes.numpy(), ends, strict=True)):
        block = vectors[first:last]
        found = _largest(s[first:last, first:last], min(k + 1, last - first), f"graph {graph} of {raw.name}")[:, 1:]
        block[:, : found.shape[1]] = _signed(found)
    return vectors


def _largest(s: sp.csr_matrix, count: int, what: str) -> Array:
    """[n, count] eigenvectors of a symmetric matrix with eigenvalues in [-1, 1], by descending eigenvalue.

    Lanczos sees one vector of each eigenspace and finds the others by rounding, if at all (a graph of many components
    has the eigenvalue 1 as often). So what was found is moved to -2, and the search repeated until nothing is missing.
    """
    n = s.shape[0]
    if n <= max(_DENSE, 2 * count):
        return np.linalg.eigh(s.toarray())[1][:, ::-1][:, :count]
    values, vectors = np.zeros(0), np.zeros((n, 0))
    start = Stream(0).uniform(n) - 0.5
    while True:
        deflated = scipy.sparse.linalg.LinearOperator(
            s.shape, lambda x, v=vectors, w=values: s @ x - v @ ((w + 2) * (v.T @ x)), dtype=np.float64
        )
        try:
            more = scipy.sparse.linalg.eigsh(deflated, count, which="LA", v0=start, maxiter=100 * n)
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            raise PoolBenchError(
                f"features=laplacian: the eigenvectors of {what} ({n} nodes) were not found; choose fewer, or others"
            ) from error
        missing = more[0] > (values[count - 1] + _SAME if len(values) else -np.inf)
        if not missing.any():
            return vectors[:, :count]
        values, vectors = np.append(values, more[0][missing]), np.hstack([vectors, more[1][:, missing]])
        order = np.argsort(-values, kind="stable")
        values, vectors = values[order], np.linalg.qr(vectors[:, order])[0]


def _signed(vectors: Array) -> Array:
    """Each column with the sign that makes its entry of largest size positive, the first one of several."""
    size = np.abs(vectors)
    top = (size > size.max(axis=0, initial=0.0) - 1e-9).argmax(axis=0)
    return np.where(np.take_along_axis(vectors, top[None], axis=0) < 0, -vectors, vectors)


def undirected(raw: RawGraphs) -> sp.csr_matrix:
    """[N, N] float64, block-diagonal: 1 for each edge, in both directions."""
    row, col = raw.edge_index.numpy()
    if not raw.symmetric:
        row, col = np.concatenate([row, col]), np.concatenate([col, row])
    a = sp.csr_matrix((np.ones(len(row)), (row, col)), shape=(raw.total_nodes, raw.total_nodes))
    a.sum_duplicates()
    a.data[:] = 1.0
    return a


def normalized(a: sp.csr_matrix) -> sp.csr_matrix:
    """D^-1/2 A D^-1/2; rows without edges stay zero."""
    degree = np.asarray(a.sum(axis=1))[:, 0]
    scale = sp.diags_array(np.where(degree > 0, np.maximum(degree, 1.0) ** -0.5, 0.0))
    return sp.csr_matrix(scale @ a @ scale)
