"""Small graphs that others are made of: motifs, the bases that they hang on, and how all of them become one dataset."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from poolbench.data.generators.stream import Stream

Array = np.ndarray[Any, np.dtype[Any]]


class Shape(NamedTuple):
    """n nodes and undirected edges [2, m]."""

    n: int
    edges: Array


def _shape(n: int, edges: Sequence[tuple[int, int]]) -> Shape:
    return Shape(n, np.array(edges, dtype=np.int64).reshape(-1, 2).T)


HOUSE = _shape(5, [(1, 2), (2, 3), (3, 4), (4, 1), (0, 1), (0, 4)])
"""A square with a roof; node 0 is the top."""
CYCLE = _shape(5, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)])
CRANE = _shape(5, [(0, 1), (0, 3), (1, 2), (2, 3), (3, 4), (4, 1)])
"""Nodes 1 and 3, each joined to the three others."""


@cache
def base(kind: str, width: int) -> Shape:
    """A base of GOOD-Motif, `width` of 1 or more."""
    nodes = range(width)
    match kind:
        case "wheel":  # a hub and a rim of width - 1
            rim = [(k, k + 1) for k in range(1, width - 1)] + ([(1, width - 1)] if width > 3 else [])
            return _shape(width, [(0, k) for k in nodes[1:]] + rim)
        case "tree":  # binary and full, of depth log2(width) - 1 and at least 1
            n = 2 ** (max(1, width.bit_length() - 2) + 1) - 1
            return _shape(n, [((k - 1) // 2, k) for k in range(1, n)])
        case "ladder":
            rails = [(k, k + 1) for first in (0, width) for k in range(first, first + width - 1)]
            return _shape(2 * width, rails + [(k, width + k) for k in nodes])
        case "star":
            return _shape(width + 1, [(0, k + 1) for k in nodes])
        case _:  # path
            return _shape(width, [(k, k + 1) for k in nodes[:-1]])


class Hung(NamedTuple):
    """Bases with a motif each, graph after graph, the nodes of a base before those of its motif.

    sizes: [G] nodes. u, v: edges. motif: [N] bool, whether a node is the motif's.
    """

    sizes: Array
    u: Array
    v: Array
    motif: Array


def hang(stream: Stream, bases: Sequence[Shape], motifs: Sequence[Shape]) -> Hung:
    """Join node 0 of each motif to a random node of its base."""
    base_sizes, motif_sizes = (np.array([shape.n for shape in shapes]) for shapes in (bases, motifs))
    sizes = base_sizes + motif_sizes
    starts = np.cumsum(sizes) - sizes
    parts = [_placed(bases, starts), _placed(motifs, starts + base_sizes)]
    bridges = np.stack([starts + stream.below(base_sizes, len(sizes)), starts + base_sizes])
    u, v = np.concatenate([*parts, bridges], axis=1)
    motif = np.arange(sizes.sum()) >= np.repeat(starts + base_sizes, sizes)
    return Hung(sizes, u, v, motif)


def _placed(shapes: Sequence[Shape], starts: Array) -> Array:
    """The edges of all shapes, each with its nodes numbered from its start."""
    edges = np.concatenate([shape.edges for shape in shapes], axis=1)
    return edges + np.repeat(starts, [shape.edges.shape[1] for shape in shapes])
