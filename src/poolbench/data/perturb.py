"""Perturbed graphs: edges added and removed, features masked, features or the whole graph replaced, with a dial.

What is drawn is a function of the seed, the number of the graph in its dataset and the place in the graph alone: it is
the same for all operators, splits and machines, and a graph's does not depend on the graphs beside it.

Noise as in Wang et al., "A Comprehensive Graph Pooling Benchmark", 2024, arXiv 2406.09031 (which perturbs before
training: `at=both`). Replaced features and graphs as in Coupette et al., "No Metric to Rule Them All: Toward Principled
Evaluations of Graph-Learning Datasets", ICML 2025, arXiv 2502.02379 (RINGS): what a dataset's answers depend on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolbench.data.features import MAX_BYTES, Features
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError
from poolbench.splitmix import hashed

Array = np.ndarray[Any, np.dtype[Any]]

PLACES = ("both", "train", "test")
MOST_EDGES = 10**8
"""Directed edges that a perturbed dataset may have."""


class Perturbation:
    """Base of the perturbations. One overrides `graphs`, `features`, or both.

    Args:
        at: which graphs: those that are trained and validated on (`train`), those that are tested on (`test`), `both`.
        seed: of what is drawn.
    """

    def __init__(self, at: str = "both", seed: int = 0) -> None:
        if at not in PLACES:
            raise PoolBenchError(f"perturb.at={at!r} is none of {', '.join(PLACES)}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise PoolBenchError(f"perturb.seed={seed!r} must be a whole number, 0 or more")
        self.at, self.seed = at, seed

    def graphs(self, raw: RawGraphs, chosen: Tensor) -> RawGraphs:
        """The dataset with the `chosen` [G] bool graphs perturbed; nodes and labels stay."""
        return raw

    def features(self, x: Features, raw: RawGraphs, chosen: Tensor) -> Features:
        """Node features with those of the chosen graphs perturbed."""
        return x

    def draw(self, *parts: Array | int) -> Array:
        """uint64, uniform, one for each place: a hash of the seed and of the numbers that say where it stands."""
        return hashed(self.seed, *parts)


class _Share(Perturbation):
    """A perturbation of a share of something, 0 < share <= 1."""

    def __init__(self, share: float, at: str = "both", seed: int = 0) -> None:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise PoolBenchError(f"perturb.share={share!r} must be a share above 0 and at most 1, such as 0.5")
        super().__init__(at, seed)
        self.share = share

    def count(self, whole: Array) -> Array:
        """The share of each number, rounded to the nearest, halves up."""
        return np.floor(self.share * whole + 0.5).astype(np.int64)


class AddEdges(_Share):
    """Edges between nodes that had none: of each graph `share` of its number of edges, as far as there is room.

    An undirected graph stays one; an edge of a directed graph gets a direction at random. A new edge has the labels and
    attributes of an edge of its graph, drawn at random.

    Args:
        share: of each graph's edges. at, seed: see `Perturbation`.
    """

    def graphs(self, raw: RawGraphs, chosen: Tensor) -> RawGraphs:
        pairs = _Pairs(raw)
        free = pairs.possible - pairs.count
        wanted = np.where(chosen.numpy(), np.minimum(self.count(pairs.count), free), 0)
        _refuse_huge(raw, raw.num_edges + 2 * int(wanted.sum()))
        return _with(raw, self, None, pairs.absent(wanted, self))


class DropEdges(_Share):
    """`share` of the edges of each graph removed, at random; both directions of an undirected edge go together.

    Args:
        share: of each graph's edges. at, seed: see `Perturbation`.
    """

    def graphs(self, raw: RawGraphs, chosen: Tensor) -> RawGraphs:
        pairs = _Pairs(raw)
        gone = np.where(chosen.numpy(), self.count(pairs.count), 0)
        place = _place(self.draw(1, pairs.graph, *pairs.local), pairs.graph)
        return _with(raw, self, (place >= gone[pairs.graph])[pairs.of_edge], None)


class MaskFeatures(_Share):
    """The features of `share` of the nodes of each graph become 0; of categories, one of their own.

    Args:
        share: of each graph's nodes. at, seed: see `Perturbation`.
    """

    def features(self, x: Features, raw: RawGraphs, chosen: Tensor) -> Features:
        graph, local = _nodes(raw)
        gone = np.where(chosen.numpy(), self.count(raw.num_nodes.numpy()), 0)
        place = _place(self.draw(2, graph, local), graph)
        return _masked(x, torch.from_numpy(place < gone[graph]))


class ReplaceFeatures(Perturbation):
    """Node features in place of the dataset's: `none` (0 everywhere; of categories, one of their own), `constant` (1),
    `node` (one-hot, the number of the node in its graph) or `random` (uniform with mean 0 and variance 1; of
    categories, uniform among them).

    Args:
        kind: see above. at, seed: see `Perturbation`; `node` has other columns and goes with `both` alone.
    """

    KINDS = ("none", "constant", "node", "random")

    def __init__(self, kind: str, at: str = "both", seed: int = 0) -> None:
        if kind not in self.KINDS:
            raise PoolBenchError(f"perturb.kind={kind!r} is none of {', '.join(self.KINDS)}")
        if kind == "node" and at != "both":
            raise PoolBenchError(f"perturb.kind=node has other columns and cannot be at={at}; take perturb.at=both")
        super().__init__(at, seed)
        self.kind = kind

    def features(self, x: Features, raw: RawGraphs, chosen: Tensor) -> Features:
        graph, local = _nodes(raw)
        if self.kind == "node":
            return _one_hot(raw, local)
        rows = chosen[torch.from_numpy(graph)]
        if self.kind == "none" or (self.kind == "constant" and x.vocabulary is not None):
            return _masked(x, rows)
        values = x.values.clone()
        if self.kind == "constant":
            values[rows] = 1.0
            return x._replace(values=values)
        at = rows.nonzero().squeeze(1).numpy()
        columns = np.arange(values.shape[1])
        drawn = _uniform(self.draw(3, graph[at, None], local[at, None], columns[None]))
        if x.vocabulary is None:
            values[rows] = torch.from_numpy((2 * drawn - 1) * 3**0.5).float()
        else:
            values[rows] = torch.from_numpy((drawn * np.array(x.vocabulary)).astype(np.int64))
        return x._replace(values=values)


class ReplaceGraph(Perturbation):
    """Edges in place of the dataset's: `none`, `complete` (all), `random` (as many as before, anywhere) or `connected`
    (a random tree, and as many more as there were, anywhere).

    An edge has the labels and attributes of an edge of the graph that was there, drawn at random.

    Args:
        kind: see above. at, seed: see `Perturbation`.
    """

    KINDS = ("none", "complete", "random", "connected")

    def __init__(self, kind: str, at: str = "both", seed: int = 0) -> None:
        if kind not in self.KINDS:
            raise PoolBenchError(f"perturb.kind={kind!r} is none of {', '.join(self.KINDS)}")
        super().__init__(at, seed)
        self.kind = kind

    def graphs(self, raw: RawGraphs, chosen: Tensor) -> RawGraphs:
        pairs, own = _Pairs(raw), chosen.numpy()
        kept = ~own[pairs.graph[pairs.of_edge]]
        if self.kind == "none":
            return _with(raw, self, kept, None)
        wanted = np.where(own, pairs.possible if self.kind == "complete" else pairs.count, 0)
        _refuse_huge(raw, raw.num_edges + 2 * int(wanted.sum()))
        empty = pairs.without()
        if self.kind != "connected":
            return _with(raw, self, kept, empty.absent(wanted, self))
        tree = empty.trees(own, self)
        others = _Pairs.of(empty.sizes, *tree)
        more = others.absent(np.maximum(wanted - others.count, 0), self)
        return _with(raw, self, kept, (np.concatenate([tree[0], more[0]]), np.concatenate([tree[1], more[1]])))


# ------------------------------------------------------------------------------------------------------------- pairs


class _Pairs:
    """The pairs of nodes between which there is an edge, in whichever direction, sorted; P of them in G graphs.

    first, second: [P] global node ids, first < second. graph: [P] the graph of each. local: the two, counted from the
    first node of the graph. of_edge: [E] the pair of each directed edge. count, possible: [G] how many pairs there are,
    and can be.
    """

    def __init__(self, raw: RawGraphs) -> None:
        row, col = raw.edge_index.numpy()
        n = max(raw.total_nodes, 1)
        key, of_edge = np.unique(np.minimum(row, col) * n + np.maximum(row, col), return_inverse=True)
        self._set(raw.num_nodes.numpy(), key // n, key % n)
        self.of_edge = of_edge.reshape(-1)

    @classmethod
    def of(cls, sizes: Array, first: Array, second: Array) -> _Pairs:
        """Pairs (first < second, none twice) in graphs of these sizes."""
        made = cls.__new__(cls)
        order = np.lexsort((second, first))
        made._set(sizes, first[order], second[order])
        return made

    def without(self) -> _Pairs:
        """The same nodes without a pair."""
        none = np.zeros(0, dtype=np.int64)
        return self.of(self.sizes, none, none)

    def _set(self, sizes: Array, first: Array, second: Array) -> None:
        self.sizes, self.first, self.second = sizes, first, second
        self.start = np.cumsum(sizes) - sizes
        self.graph = np.searchsorted(self.start + sizes, first, side="right")
        self.local = (first - self.start[self.graph], second - self.start[self.graph])
        self.count = np.bincount(self.graph, minlength=len(sizes))
        self.possible = sizes * (sizes - 1) // 2

    def absent(self, wanted: Array, draws: Perturbation) -> tuple[Array, Array]:
        """`wanted` [G] pairs of each graph that are not there, drawn at random: global node ids, first < second."""
        graph, drawn = _distinct(self.possible - self.count, wanted, draws)
        # Of the pairs of a graph in order, the k-th that is not there is the pair k + how many before it are there.
        n = self.sizes[self.graph]
        there = self.local[0] * n - self.local[0] * (self.local[0] + 1) // 2 + self.local[1] - self.local[0] - 1
        ahead = np.cumsum(self.count) - self.count
        gaps = there - (np.arange(len(there)) - ahead[self.graph])  # how many that are not there lie before each
        wide = int(self.possible.max(initial=0)) + 1
        before = np.searchsorted(self.graph * wide + gaps, graph * wide + drawn, side="right") - ahead[graph]
        first, second = _unranked(drawn + before, self.sizes[graph])
        return first + self.start[graph], second + self.start[graph]

    def trees(self, chosen: Array, draws: Perturbation) -> tuple[Array, Array]:
        """A random tree in each chosen graph: its nodes in a random order, each joined to one before it."""
        graph = np.repeat(np.arange(len(self.sizes)), self.sizes)
        node = np.arange(len(graph))
        order = np.lexsort((draws.draw(4, graph, node - self.start[graph]), graph))
        place = node - self.start[graph]
        joined = place - 1 - (_uniform(draws.draw(5, graph, place)) * place).astype(np.int64)
        own = (place > 0) & chosen[graph]
        one, other = order[own], order[self.start[graph[own]] + joined[own]]
        return np.minimum(one, other), np.maximum(one, other)


def _unranked(pair: Array, n: Array) -> tuple[Array, Array]:
    """Of n nodes the pair with that number, first < second, when they are counted (0, 1), (0, 2), ..., (1, 2), ..."""
    first = np.floor((2 * n - 1 - np.sqrt((2.0 * n - 1) ** 2 - 8.0 * pair)) / 2).astype(np.int64)
    before = first * n - first * (first + 1) // 2
    first = first - (before > pair) + (before + n - 1 - first <= pair)  # the root was rounded
    before = first * n - first * (first + 1) // 2
    return first, pair - before + first + 1


def _distinct(limit: Array, wanted: Array, draws: Perturbation) -> tuple[Array, Array]:
    """Distinct numbers below `limit` [G], `wanted` [G] of each graph: the graphs, and the numbers."""
    dense = 2 * wanted > limit
    graph, number = _ranges(np.where(dense, limit, 0))
    some = _place(draws.draw(6, graph, number), graph) < wanted[graph]
    graphs, numbers = [graph[some]], [number[some]]
    # Elsewhere at least every second draw is new: after some rounds each graph has enough.
    missing, told = np.where(dense, 0, wanted), np.zeros_like(wanted)
    graph, number = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    while missing.any():
        more, nth = _ranges(missing)
        drawn = (_uniform(draws.draw(7, more, nth + told[more])) * limit[more]).astype(np.int64)
        graph, number = np.concatenate([graph, more]), np.concatenate([number, drawn])
        new = np.sort(np.unique(np.stack([graph, number]), axis=1, return_index=True)[1])
        graph, number, told = graph[new], number[new], told + missing
        missing = np.where(dense, 0, wanted) - np.bincount(graph, minlength=len(limit))
    return np.concatenate([*graphs, graph]), np.concatenate([*numbers, number])


def _ranges(counts: Array) -> tuple[Array, Array]:
    """For each group 0 .. count - 1: the groups, and the numbers."""
    group = np.repeat(np.arange(len(counts)), counts)
    return group, np.arange(len(group)) - (np.cumsum(counts) - counts)[group]


def _place(key: Array, graph: Array) -> Array:
    """The place of each entry among those of its graph, by size of its key."""
    order = np.lexsort((key, graph))
    counts = np.bincount(graph) if len(graph) else np.zeros(0, dtype=np.int64)
    place = np.empty(len(graph), dtype=np.int64)
    place[order] = _ranges(counts)[1]
    return place


# ---------------------------------------------------------------------------------------------------------- assembly


def _with(raw: RawGraphs, draws: Perturbation, kept: Array | None, pairs: tuple[Array, Array] | None) -> RawGraphs:
    """The dataset with the edges `kept` [E] bool (None: all) and with edges between further pairs of nodes."""
    row, col = raw.edge_index.numpy()
    source = np.arange(len(row)) if kept is None else kept.nonzero()[0]
    rows, cols, sources = [row[source]], [col[source]], [source]
    if pairs is not None:
        first, second = pairs
        start = np.cumsum(raw.num_nodes.numpy()) - raw.num_nodes.numpy()
        graph = np.searchsorted(start, first, side="right") - 1
        local = first - start[graph], second - start[graph]
        # An edge of the graph lends its labels; where there is none, one of the dataset.
        bounds = np.searchsorted(row, np.append(start, raw.total_nodes))
        own = np.diff(bounds)[graph]
        at, among = np.where(own > 0, bounds[graph], 0), np.where(own > 0, own, len(row))
        lender = at + (_uniform(draws.draw(8, graph, *local)) * among).astype(np.int64)
        one = np.ones(len(first), dtype=bool) if raw.symmetric else (draws.draw(9, graph, *local) & np.uint64(1)) == 0
        other = np.ones_like(one) if raw.symmetric else ~one
        rows += [first[one], second[other]]
        cols += [second[one], first[other]]
        sources += [lender[one], lender[other]]
    made = np.concatenate(rows), np.concatenate(cols)
    order = np.lexsort((made[1], made[0]))
    lent = torch.from_numpy(np.concatenate(sources)[order])
    changed: dict[str, Any] = {"edge_index": torch.from_numpy(np.stack(made)[:, order])}
    for name in ("edge_labels", "edge_attributes"):
        values = getattr(raw, name)
        if values is not None:
            changed[name] = values[lent] if len(values) else values.new_zeros(len(lent), values.shape[1])
    return replace(raw, **changed)


def _refuse_huge(raw: RawGraphs, edges: int) -> None:
    if edges > MOST_EDGES:
        raise PoolBenchError(
            f"perturb: dataset {raw.name} would have {edges:,} edges, and {MOST_EDGES:,} are the most; "
            "take a smaller share, another kind or a dataset of smaller graphs"
        )


def _nodes(raw: RawGraphs) -> tuple[Array, Array]:
    """The graph of each node, and its number in it."""
    return _ranges(raw.num_nodes.numpy())


def _masked(x: Features, rows: Tensor) -> Features:
    """Features without what they say of some rows: 0, or a further category of each column."""
    values = x.values.clone()
    if x.vocabulary is None:
        values[rows] = 0.0
        return x._replace(values=values)
    values[rows] = torch.tensor(x.vocabulary)
    return x._replace(values=values, vocabulary=tuple(size + 1 for size in x.vocabulary))


def _one_hot(raw: RawGraphs, local: Array) -> Features:
    width = int(raw.num_nodes.max()) if raw.num_graphs else 0
    if 4 * len(local) * width > MAX_BYTES:
        raise PoolBenchError(
            f"perturb.kind=node: {len(local):,} nodes in graphs of up to {width:,} make a matrix of "
            f"{4 * len(local) * width / 2**30:.1f} GiB; take another kind or a dataset of smaller graphs"
        )
    x = torch.zeros(len(local), width)
    x[torch.arange(len(local)), torch.from_numpy(local)] = 1.0
    return Features(x, [f"node{k}" for k in range(width)])


def _uniform(drawn: Array) -> Array:
    """float64 in [0, 1)."""
    return (drawn >> np.uint64(11)) * 2.0**-53
