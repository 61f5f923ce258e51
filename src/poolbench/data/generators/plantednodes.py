"""One large graph with planted communities, made from a seed: node clustering with a known answer, at any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from poolbench.data import target
from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import DENSEST, real, refuse_above, refuse_huge
from poolbench.data.generators.stream import Stream, generated, whole
from poolbench.data.raw import RawGraphs
from poolbench.data.target import Target
from poolbench.errors import PoolBenchError

Array = np.ndarray[Any, np.dtype[Any]]

VERSION = 1
"""Rises when the same arguments make another graph."""


class PlantedNodes(GraphDataset):
    """A planted partition as one graph; the class of a node (`raw.node_y`) is its community.

    The microcanonical stochastic block model (Holland, Laskey & Leinhardt, 1983; Peixoto, Physical Review E 95, 2017,
    arXiv 1610.02703): communities of equal size, exactly round(num_nodes degree / 2) undirected edges, of which
    exactly the part `inside` lies within communities; which pairs of nodes they join is uniform. Each community shows
    one of `colours` under noise, as in `PlantedGraphs`; communities share colours where there are fewer.

    Time and memory grow with nodes and edges: each edge is drawn, none is looked for among all pairs.

    Args:
        num_nodes: N. degree: 2 |E| / N, the mean number of neighbours. communities: k, of N // k nodes or one more.
        inside: the part of the edges within communities; 1 / k is no structure at all.
        colours: columns of the node attributes; None for one a community.
        noise: standard deviation of the noise on each of them; the colour itself is 1.
        seed: which graph (not that of training).
        features, use_node_attr, max_degree: see `NodeFeatures`.

    The same graph, and the same fingerprint, on every machine (`Stream`).

    Raises `PoolBenchError` for a value that makes no such graph.
    """

    generated = True

    def __init__(
        self,
        num_nodes: int = 1000,
        degree: float = 10.0,
        communities: int = 4,
        inside: float = 0.8,
        colours: int | None = None,
        noise: float = 1.0,
        seed: int = 0,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        self.name = "planted-nodes"
        self.num_nodes = whole(self.name, "num_nodes", num_nodes, 2)
        self.communities = whole(self.name, "communities", communities, 1)
        self.colours = self.communities if colours is None else whole(self.name, "colours", colours, 1)
        self.seed = whole(self.name, "seed", seed, 0)
        self.degree, self.inside, self.noise = (
            real(self.name, key, value) for key, value in (("degree", degree), ("inside", inside), ("noise", noise))
        )
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)
        self._check()
        edges = round(self.num_nodes * self.degree / 2)
        self.edges_inside = round(edges * self.inside)
        self.edges_outside = edges - self.edges_inside
        self._check_density()

    def _check(self) -> None:
        if self.num_nodes < 2 * self.communities:
            raise PoolBenchError(
                f"{self.name}: {self.num_nodes} nodes are too few for {self.communities} communities of two or more"
            )
        if not 0 <= self.inside <= 1 or not self.degree > 0 or not self.noise >= 0:
            raise PoolBenchError(
                f"{self.name}: expected inside between 0 and 1, degree > 0 and noise >= 0, "
                f"got inside={self.inside}, degree={self.degree}, noise={self.noise}"
            )
        refuse_huge(self.name, 1, self.num_nodes, self.num_nodes * self.degree / 2)
        refuse_above(self.name, self.num_nodes * self.colours, f"{self.colours:,} colours of {self.num_nodes:,} nodes")
        if self.communities == 1 and self.inside < 1:
            raise PoolBenchError(f"{self.name}: with one community all edges are inside; set inside=1")

    def _check_density(self) -> None:
        """Pairs are drawn until enough of them are new, which takes long where most are wanted."""
        sizes = np.diff(self._starts())
        within = int((sizes * (sizes - 1) // 2).sum())
        across = self.num_nodes * (self.num_nodes - 1) // 2 - within
        for key, edges, pairs in (("within", self.edges_inside, within), ("between", self.edges_outside, across)):
            if edges > DENSEST * pairs:
                raise PoolBenchError(
                    f"{self.name}: {edges} edges {key} communities are more than half of the {pairs} pairs there; "
                    "take more nodes, or a smaller degree"
                )

    def target(self, raw: RawGraphs) -> Target:
        return target.nothing(raw)

    def load(self) -> RawGraphs:
        """Make the graph; nothing is read or written."""
        stream, n = Stream(self.seed), self.num_nodes
        starts = self._starts()
        ordered = np.repeat(np.arange(self.communities), np.diff(starts))
        keys = np.concatenate(
            [self._draw(stream, starts, ordered, self.edges_inside, True),
             self._draw(stream, starts, ordered, self.edges_outside, False)]
        )  # fmt: skip
        place = stream.permutation(n)  # so that the number of a node does not tell its community
        row, col = place[keys // n], place[keys % n]
        both = np.concatenate([row * n + col, col * n + row])
        both.sort()
        community = np.empty_like(ordered)
        community[place] = ordered
        return RawGraphs(
            name=self.name,
            num_nodes=torch.tensor([n]),
            edge_index=torch.from_numpy(np.stack(np.divmod(both, n))),
            node_attributes=torch.from_numpy(self._attributes(stream, community)),
            node_y=torch.from_numpy(community),
            provenance=generated(self.name, VERSION, self.seed),
        )

    def _starts(self) -> Array:
        """[k + 1], where each community begins when nodes are in order of communities."""
        return np.arange(self.communities + 1) * self.num_nodes // self.communities

    def _draw(self, stream: Stream, starts: Array, community: Array, count: int, inside: bool) -> Array:
        """[count] different undirected edges u < v as keys u N + v, all inside communities or all between them.

        Drawn until there are enough, each draw uniform over nodes and their possible neighbours.
        """
        n, keys = self.num_nodes, np.zeros(0, dtype=np.int64)
        while missing := count - len(keys):
            u = stream.below(n, missing)
            low, high = starts[community[u]], starts[community[u] + 1]
            size = high - low
            if inside:  # v follows u in the circle of its community
                v = low + (u - low + 1 + stream.below(size - 1, missing)) % size
            else:  # v follows the community in the circle of all nodes
                v = (high + stream.below(n - size, missing)) % n
            keys = _distinct(np.concatenate([keys, np.minimum(u, v) * n + np.maximum(u, v)]))
        return keys

    def _attributes(self, stream: Stream, community: Array) -> Array:
        x = np.empty((len(community), self.colours), dtype=np.float32)
        for colour in range(self.colours):  # a column at a time: noise takes twelve numbers each
            x[:, colour] = (community % self.colours == colour) + self.noise * stream.bell(len(community))
        return x


def _distinct(keys: Array) -> Array:
    """Sorted, each once. `np.unique` hashes, which takes ten times as long for keys that are nearly all different."""
    keys.sort()
    return keys[np.append(True, keys[1:] != keys[:-1])]
