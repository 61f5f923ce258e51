"""Random graphs of one size, all graphs of a block at once: orders of nodes, and edges drawn without replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from poolbench.data.generators.stream import Stream
from poolbench.errors import PoolBenchError

Array = np.ndarray[Any, np.dtype[Any]]

Draw = Callable[[Array], tuple[Array, Array]]
"""Graphs [k] -> the ends u and v [k] of an edge for each, uniform over the pairs that there may be."""

BLOCK = 1 << 18
"""Nodes and edges that are drawn together, about: what is held beside the finished set."""
DENSEST = 0.5
"""Edges are drawn until enough are new, which takes long where most pairs are wanted."""
MOST = 200_000_000
"""Nodes and edges of a generated set, or numbers at its nodes; with what is drawn on the way they take some 10 GB."""


def real(dataset: str, key: str, value: Any) -> float:
    """`value` as a number; else one line that names `dataset` and `key`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST:
        raise PoolBenchError(f"{dataset}: {key}={value!r} must be a number of at most {MOST:,}")
    return float(value)


def refuse_huge(dataset: str, graphs: int, nodes: float, edges: float) -> None:
    """Raise `PoolBenchError` where graphs of so many nodes and edges are more than `MOST`."""
    refuse_above(dataset, graphs * (nodes + edges), f"{graphs:,} graphs of {nodes:,.0f} nodes and {edges:,.0f} edges")


def refuse_above(dataset: str, amount: float, what: str) -> None:
    """Raise `PoolBenchError` where `what` makes more than `MOST` of whatever."""
    if amount > MOST:
        raise PoolBenchError(
            f"{dataset}: {what} make {amount:,.0f}, and {MOST:,} are the most; take fewer or smaller graphs"
        )


def orders(stream: Stream, graphs: int, n: int) -> Array:
    """[graphs, n] int64, a random order of 0 .. n - 1 for each graph."""
    return np.argsort(stream.bits.random_raw(graphs * n).reshape(graphs, n), axis=1, kind="stable")


def distinct(graphs: int, n: int, count: int, draw: Draw) -> tuple[Array, Array]:
    """The ends [graphs * count] of different edges, `count` in each graph of n nodes; nodes are numbered over all.

    Every set of `count` pairs that `draw` may give is equally likely.
    """
    keys, missing = np.zeros(0, dtype=np.int64), np.repeat(np.arange(graphs), count)
    while len(missing):
        u, v = draw(missing)
        keys = np.concatenate([keys, (missing * n + np.minimum(u, v)) * n + np.maximum(u, v)])
        keys.sort(kind="stable")
        keys = keys[np.append(True, keys[1:] != keys[:-1])]
        missing = np.repeat(np.arange(graphs), count - np.bincount(keys // (n * n), minlength=graphs))
    row, v = np.divmod(keys, n)
    return row, row // n * n + v


def shuffled(stream: Stream, sizes: Array) -> Array:
    """[N] int64, a random new number for each node within its graph, for graphs of `sizes` nodes."""
    graph = np.repeat(np.arange(len(sizes)), sizes)
    number = np.empty(len(graph), dtype=np.int64)
    number[np.lexsort((stream.bits.random_raw(len(graph)), graph))] = np.arange(len(graph))
    return number


def both_ways(u: Array, v: Array, nodes: int) -> Array:
    """[2, 2 m] int64 edge_index in canonical order of m undirected edges between `nodes` nodes."""
    both = np.concatenate([u * nodes + v, v * nodes + u])
    both.sort(kind="stable")
    return np.stack(np.divmod(both, nodes))
