"""Coding trees of small structural entropy, the clusters of SEPPool.

Wu, Chen, Xu, Li, "Structural Entropy Guided Graph Hierarchical Pooling", ICML 2022, arXiv 2206.13510;
Li, Pan, "Structural Information and Dynamical Complexity of Networks", IEEE Transactions on Information Theory, 2016.

A coding tree has the nodes of a graph as its leaves, and an inner node stands for the set of the leaves below it. With
vol the sum of the degrees of a set, g the weight of the edges that leave it and V the volume of the graph,

    H = -sum over all v but the root of  g(v) / V  log2(vol(v) / vol(parent(v)))
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from poolbench.pool.base.hostgraph import Array


def hierarchy(a: csr_array, levels: int) -> list[Array]:
    """Nested partitions of the nodes of a graph, from fine to coarse: `levels` arrays [n] int64, sets from 0.

    A is symmetric, without self-loops, with positive weights. Level t holds the sets at height t of a coding tree of
    height levels + 1; each component has a tree of its own. Sets are numbered by their first node.
    """
    parts = np.zeros((levels, a.shape[0]), dtype=np.int64)
    count, component = connected_components(a, directed=False)
    for c in range(count):
        (members,) = (component == c).nonzero()
        alone = members.size == 1
        grown = [np.zeros(1, dtype=np.int64)] * levels if alone else _grow(_Parts.of(a[members][:, members]), levels)
        for level, sets in enumerate(grown):
            parts[level, members] = members[sets]
    return [_by_first(sets) for sets in parts]


@dataclass(frozen=True)
class _Parts:
    """Parts of a connected graph that a tree is built over: its nodes at first, sets of them later.

    between: weight of the edges between two parts, without diagonal. volume, leaving: vol and g of each, in the whole
    graph. total: the volume that they have together, which is that of their parent.
    """

    between: csr_array
    volume: Array
    leaving: Array
    total: float

    @classmethod
    def of(cls, a: csr_array) -> _Parts:
        degree = a.sum(1)
        return cls(a, degree, degree, float(degree.sum()))

    def within(self, members: Array) -> _Parts:
        volume = self.volume[members]
        return _Parts(self.between[members][:, members], volume, self.leaving[members], float(volume.sum()))

    def merged(self, sets: Array) -> _Parts:
        """The sets as parts; `sets` counts from 0."""
        n, k = sets.size, int(sets.max()) + 1
        s = csr_array((np.ones(n), (np.arange(n), sets)), shape=(n, k))
        between = csr_array(s.T @ self.between @ s)
        inside = between.diagonal()
        between.setdiag(0.0)
        between.eliminate_zeros()
        return _Parts(between, s.T @ self.volume, s.T @ self.leaving - inside, self.total)

    def code_length(self, sets: Array | None = None) -> float:
        """-sum g log2(vol / vol(parent)) over the parts, and over the sets where they are the parents."""
        if sets is None:
            return float(-(self.leaving * np.log2(self.volume / self.total)).sum())
        groups = self.merged(sets)
        own = -(self.leaving * np.log2(self.volume / groups.volume[sets])).sum()
        return float(own) + groups.code_length()


def _grow(parts: _Parts, levels: int) -> list[Array]:
    """A tree of height 2, grown by the layer that saves more entropy, below the lowest or below the root.

    A layer below splits each of the lowest sets that has at least three nodes, and its saving counts per node; a layer
    below the root joins the root's children, and counts per child.
    """
    n = parts.volume.size
    layers = [_by_first(_two_levels(parts))]
    while len(layers) < levels:
        split, saved_below = _split(parts, layers[0])
        top = layers[-1]
        children = parts.merged(top)
        joined = _by_first(_two_levels(children))
        saved_above = children.code_length() - children.code_length(joined)
        if saved_below / n > saved_above / children.volume.size:
            layers.insert(0, split)
        else:
            layers.append(_by_first(joined[top]))
    return layers


def _split(parts: _Parts, sets: Array) -> tuple[Array, float]:
    """A layer below `sets`, and what it saves. Nodes of a set of one or two stand alone.

    As the authors do, a set is split as a graph of its own: the edges that leave it do not count for its nodes.
    """
    split, saved = np.arange(sets.size), 0.0
    for s in range(int(sets.max()) + 1):
        (members,) = (sets == s).nonzero()
        if members.size >= 3:
            inner = parts.within(members)
            finer = _by_first(_two_levels(_Parts.of(inner.between)))
            saved += inner.code_length() - inner.code_length(finer)
            split[members] = members[_first_of(finer)]
    return _by_first(split), saved


def _first_of(sets: Array) -> Array:
    """The first member of the set of each node."""
    return np.unique(sets, return_index=True)[1][sets]


def _by_first(sets: Array) -> Array:
    """The same partition, its sets numbered from 0 by their first member."""
    _, first, inverse = np.unique(sets, return_index=True, return_inverse=True)
    number = np.empty_like(first)
    number[np.argsort(first)] = np.arange(first.size)
    return number[inverse]


def _two_levels(parts: _Parts) -> Array:
    """The sets at height 1 of a greedy coding tree of height 2: [n], in no particular numbering."""
    tree = _Tree(parts)
    tree.compress(2)
    return tree.sets_below_root()


class _Tree:
    """A coding tree over the parts 0 ... n - 1; inner nodes are numbered as they are made.

    Built by joining, of all adjacent roots, the two that lower H most, until one root is left.
    """

    def __init__(self, parts: _Parts) -> None:
        n = self.leaves = parts.volume.size
        self.root = 2 * n - 2
        self.parent = [-1] * (2 * n - 1)
        self.children: list[set[int]] = [set() for _ in range(2 * n - 1)]
        self.volume = np.concatenate([parts.volume, np.zeros(n - 1)])
        self.joined = [0.0] * (2 * n - 1)  # weight between the children of a node
        self._merge(parts)

    def _merge(self, parts: _Parts) -> None:
        n = self.leaves
        a = parts.between
        leaving = np.concatenate([parts.leaving, np.zeros(n - 1)])
        # A root lives in the slot of the larger of the two that it was made of, so that only the neighbours of the
        # smaller one hear of it. weight[slot]: slot of a neighbour -> weight between the two.
        bounds = zip(a.indptr[:-1], a.indptr[1:], strict=True)
        weight = [dict(zip(a.indices[i:j].tolist(), a.data[i:j].tolist(), strict=True)) for i, j in bounds]
        slot_of, root_in = list(range(n)), np.arange(n)
        alive = [True] * (2 * n - 1)

        def offer(r: int) -> None:
            """Push the best pair of root r with a root that is older. Its newer neighbours look after theirs."""
            near = weight[slot_of[r]]
            other = root_in[np.fromiter(near, dtype=np.int64, count=len(near))]
            cut = np.fromiter(near.values(), dtype=np.float64, count=len(near))
            older = other < r
            if older.any():
                other, cut = other[older], cut[older]
                change = _change(self.volume, leaving, other, r, cut, parts.total)
                best = change.min()
                heapq.heappush(heap, (float(best), int(other[change == best].min()), r))

        heap: list[tuple[float, int, int]] = []
        for r in range(n):
            offer(r)
        for new in range(n, 2 * n - 1):
            while True:
                _, u, v = heapq.heappop(heap)
                if alive[u] and alive[v]:
                    break
                if alive[v]:  # its partner is gone; what it has left is no better
                    offer(v)
            into, out = slot_of[u], slot_of[v]
            if len(weight[into]) < len(weight[out]):
                into, out = out, into
            cut = weight[into].pop(out)
            del weight[out][into]
            for other, w in weight[out].items():
                near = weight[other]
                del near[out]
                near[into] = weight[into][other] = near.get(into, 0.0) + w
            weight[out].clear()
            alive[u] = alive[v] = False
            slot_of.append(into)
            root_in[into] = new
            self.parent[u] = self.parent[v] = new
            self.children[new] = {u, v}
            self.joined[new] = cut
            self.volume[new] = self.volume[u] + self.volume[v]
            leaving[new] = leaving[u] + leaving[v] - 2 * cut
            if new < self.root:
                offer(new)

    def compress(self, height: int) -> None:
        """Remove inner nodes on paths longer than `height`, the one that costs least first, until there are none.

        Removing v raises H by 2 joined(v) / V log2(vol(parent) / vol(v)).
        """
        limit = height + 1  # heights beyond it are not told apart
        tall = [0] * len(self.parent)
        count = [[0] * (limit + 1) for _ in self.parent]  # children by height
        for v in range(self.leaves, len(self.parent)):
            for c in self.children[v]:
                count[v][tall[c]] += 1
            tall[v] = min(limit, 1 + max(tall[c] for c in self.children[v]))
        heap = [(self._cost(v), v) for v in range(self.leaves, self.root)]
        heapq.heapify(heap)
        while tall[self.root] > height:
            cost, v = heapq.heappop(heap)
            if self.parent[v] < 0 or cost != self._cost(v) or not self._too_long(v, tall[v], height):
                continue
            p = self.parent[v]
            self.children[p].remove(v)
            self.children[p] |= self.children[v]
            count[p][tall[v]] -= 1
            for c in self.children[v]:
                self.parent[c] = p
                count[p][tall[c]] += 1
                if c >= self.leaves:
                    heapq.heappush(heap, (self._cost(c), c))
            self.joined[p] += self.joined[v]
            self.parent[v], self.children[v] = -1, set()
            if p != self.root:
                heapq.heappush(heap, (self._cost(p), p))
            while p >= 0:  # heights on the way up
                now = min(limit, 1 + max(h for h in range(limit + 1) if count[p][h]))
                if now == tall[p]:
                    break
                up = self.parent[p]
                if up >= 0:
                    count[up][tall[p]] -= 1
                    count[up][now] += 1
                tall[p] = now
                p = up

    def _cost(self, v: int) -> float:
        return self.joined[v] * math.log(self.volume[self.parent[v]] / self.volume[v])

    def _too_long(self, v: int, tall: int, height: int) -> bool:
        """Whether a path from the root through v to a leaf is longer than `height`."""
        while tall <= height and v != self.root:
            v, tall = self.parent[v], tall + 1
        return tall > height

    def sets_below_root(self) -> Array:
        """The leaves below each child of the root; a leaf that is a child itself stands alone: [n]."""
        sets = np.empty(self.leaves, dtype=np.int64)
        for leaf in range(self.leaves):
            v = leaf
            while self.parent[v] not in (-1, self.root):
                v = self.parent[v]
            sets[leaf] = v
        return sets


def _change(volume: Array, leaving: Array, a: Array, b: int, cut: Array, total: float) -> Array:
    """V times the change of H when the roots a and b get a common parent below the root of volume `total`: [m]."""
    both = volume[a] + volume[b]
    up = (volume[a] - leaving[a]) * np.log2(both / volume[a]) + (volume[b] - leaving[b]) * np.log2(both / volume[b])
    return (up - 2 * cut * np.log2(total / both)) / total
