"""How much contracting an edge changes the geometry of a graph, on the host.

Limbeck, Mezrag, Wolf, Rieck, "Geometry-aware Edge Pooling for Graph Neural Networks", 2025, arXiv 2506.11700. A graph
is a space with a distance d, and what is measured of it is one of two diversities of Z = exp(-d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, shortest_path

from poolbench.pool.base.hostgraph import Array
from poolbench.pool.base.spectral import dense_laplacian, laplacian

AT_ONCE = 1 << 20  # entries of the matrices that are worked on at a time
NEARBY = 40  # nodes of a component above which what an edge changes is worked out near that edge alone


def edge_scores(graph: Array, metric: str, diversity: str) -> tuple[Array, Array]:
    """The edges u < v of an undirected graph [n, n] bool, in order, and how much contracting each changes Div: [e]."""
    edges = np.argwhere(np.triu(graph))
    scores = np.zeros(len(edges))
    _, component = connected_components(csr_array(graph), directed=False)
    for c in np.unique(component[edges[:, 0]]):
        nodes, own = np.flatnonzero(component == c), np.flatnonzero(component[edges[:, 0]] == c)
        part = graph[np.ix_(nodes, nodes)]
        ends = np.searchsorted(nodes, edges[own])
        if metric == "diffusion_distance" and len(nodes) > NEARBY:
            scores[own] = np.abs(_nearby_changes(part, ends, diversity))
            continue
        distance, div, part = METRICS[metric], DIVERSITIES[diversity], part.astype(float)
        after = [div(distance(block)) for block in _contractions(part, ends)]
        scores[own] = np.abs(np.concatenate(after) - div(distance(part[None])))
    return edges, scores


def _contractions(graph: Array, ends: Array) -> Iterator[Array]:
    """The graph [n, n] with each of the edges [e, 2] contracted, some at a time: [m, n - 1, n - 1]."""
    n = len(graph)
    step = max(1, AT_ONCE // n**2)
    others = np.arange(n - 1)
    for start in range(0, len(ends), step):
        a, b = ends[start : start + step].T
        row = np.maximum(graph[a], graph[b])
        row[np.arange(len(a)), a] = 0
        block = np.repeat(graph[None], len(a), 0)
        block[np.arange(len(a)), a] = block[np.arange(len(a)), :, a] = row
        kept = others + (others >= b[:, None])
        yield np.take_along_axis(np.take_along_axis(block, kept[:, :, None], 1), kept[:, None, :], 2)


def _nearby_changes(graph: Array, ends: Array, diversity: str) -> Array:
    """Div(G / ab) - Div(G) with diffusion distances for each of the edges [e, 2] of a graph [n, n] bool: [e].

    Contracting an edge changes L in r rows alone, see `_rows_after`. From Z and its inverse, a spread then takes
    O(r n) an edge, a magnitude O(r n^2).
    """
    degree, lap = graph.sum(1), laplacian(csr_array(graph, dtype=float), normalized=True)
    norm = lap.multiply(lap).sum(1)
    z = (lap @ lap.T).toarray()
    z *= -2
    z += norm[:, None]
    z += norm
    z = _similarity(z)
    np.fill_diagonal(z, 1.0)
    sums, inverse = z.sum(1), np.linalg.inv(z) if diversity == "magnitude" else None
    whole = (1 / sums).sum() if inverse is None else inverse.sum()
    after = np.empty(len(ends))
    for e, (a, b) in enumerate(ends.tolist()):
        r, rows = _rows_after(graph, degree, a, b)
        gram, squared = lap @ rows.T, norm.copy()
        gram[r], squared[r] = rows @ rows.T, (rows**2).sum(1)
        new = _similarity(squared[r, None] + squared - 2 * gram.T)  # the rows of Z, 0 in the column of b
        new[np.arange(len(r)), r], new[:, b] = 1.0, 0.0
        if inverse is None:
            total = sums - z[b] - z[r].sum(0) + new.sum(0)
            total[r], total[b] = new.sum(1), np.inf
            after[e] = (1 / total).sum()
        else:
            after[e] = _magnitude_after(inverse, new, r, b)
    return after - whole


def _rows_after(near: Array, degree: Array, a: int, b: int) -> tuple[Array, Array]:
    """The nodes whose rows of L change where b becomes a part of a, and these rows, 0 in the column of b: [r], [r, n].

    They are a, the neighbours of a and b, and those of the neighbours that a and b share, which lose an edge.
    """
    shared, joined = near[a] & near[b], near[a] | near[b]
    joined[[a, b]] = False
    moved = joined | near[shared].any(0)
    moved[a], moved[b] = True, False
    (r,) = moved.nonzero()
    block = near[r]
    block[:, a], block[:, b] = joined[r], False
    block[r == a] = joined
    now = degree - shared
    now[a], now[b] = joined.sum(), 1.0
    root = now**-0.5
    rows = -root[r, None] * root * block
    rows[np.arange(len(r)), r] = 1.0
    return r, rows


def _magnitude_after(inverse: Array, new: Array, r: Array, b: int) -> float:
    """1' Z^-1 1 once the rows r of Z are `new` [r, n] and row b is gone, from the inverse of Z [n, n].

    By blocks: that of the nodes which stay as they are has an inverse by that of all, the others are its complement.
    """
    gone = np.append(r, b)
    out, across = inverse[gone], new.copy()
    across[:, gone] = 0.0
    right = np.concatenate([across, np.ones((1, new.shape[1]))])
    right[-1, gone] = 0.0
    solved = inverse @ right.T - out.T @ np.linalg.solve(out[:, gone], out @ right.T)
    solved[gone] = 0.0
    rest = 1 - across @ solved[:, -1]
    return solved[:, -1].sum() + rest @ np.linalg.solve(new[:, r] - across @ solved[:, :-1], rest)


def _similarity(squared: Array) -> Array:
    """exp(-d) of squared distances, in their place."""
    np.maximum(squared, 0.0, out=squared)
    np.sqrt(squared, out=squared)
    np.negative(squared, out=squared)
    return np.exp(squared, out=squared)


# Distances in connected graphs [.., n, n] with entries 0 and 1: [.., n, n]


def diffusion(a: Array) -> Array:
    return _euclidean(dense_laplacian(a, normalized=True))


def heat_kernel(a: Array) -> Array:
    values, vectors = np.linalg.eigh(dense_laplacian(a, normalized=True))
    return _euclidean(vectors * np.exp(-values)[..., None, :])


def resistance(a: Array) -> Array:
    # L + J / n has the inverse L+ + J / n, of which J / n takes no part in a distance
    return np.maximum(_squared(np.linalg.inv(dense_laplacian(a, normalized=False) + 1 / a.shape[-1])), 0.0)


def shortest_paths(a: Array) -> Array:
    return np.stack([shortest_path(csr_array(graph), directed=False, unweighted=True) for graph in a])


def _euclidean(rows: Array) -> Array:
    """Between rows: [.., n, f] -> [.., n, n]."""
    return np.sqrt(np.maximum(_squared(rows @ np.swapaxes(rows, -1, -2)), 0.0))


def _squared(gram: Array) -> Array:
    """g_ii + g_jj - 2 g_ij, 0 where i = j."""
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1)
    return (diagonal[..., :, None] + diagonal[..., None, :] - 2 * gram) * (1 - np.eye(gram.shape[-1]))


# Diversities of spaces with distances [m, n, n]: [m]


def magnitude(distance: Array) -> Array:
    """1' Z^-1 1; with 0.01 I added to a Z that is not positive definite."""
    z, n = np.exp(-distance), distance.shape[-1]
    if not _positive_definite(z):
        z += 0.01 * np.array([not _positive_definite(own) for own in z])[:, None, None] * np.eye(n)
    return np.linalg.solve(z, np.ones((len(z), n, 1))).sum((1, 2))


def _positive_definite(z: Array) -> bool:
    """Whether all of the matrices are."""
    try:
        np.linalg.cholesky(z)
    except np.linalg.LinAlgError:
        return False
    return True


def spread(distance: Array) -> Array:
    return (1 / np.exp(-distance).sum(-1)).sum(-1)


METRICS: dict[str, Callable[[Array], Array]] = {
    "diffusion_distance": diffusion,
    "heat_kernel_distance": heat_kernel,
    "resistance_distance": resistance,
    "shortest_path_distance": shortest_paths,
}
DIVERSITIES: dict[str, Callable[[Array], Array]] = {"magnitude": magnitude, "spread": spread}
