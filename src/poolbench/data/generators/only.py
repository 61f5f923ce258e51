"""Four sets of graphs that are alike in everything but where the answer lies: clusters, one node, structure, features.

A family of PoolBench's own, to ask what a pooling operator keeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import BLOCK, DENSEST, both_ways, distinct, orders, real, refuse_huge
from poolbench.data.generators.stream import Stream, generated, whole
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError

Array = np.ndarray[Any, np.dtype[Any]]

VERSION = 1
"""Rises when the same arguments make other graphs."""
CLUSTERS = 8


class Only(GraphDataset):
    """Base: graphs of eight clusters in a ring, half of the nodes of one colour and half of the other, one marked.

    Every graph has exactly round(nodes degree / 2) edges, exactly the part `inside` of them within clusters; the others
    join nodes of clusters that are next to each other in the ring. Which pairs of nodes they join is uniform. The two
    columns of the node labels are the colour (0, 1) and the mark (0, 1). Classes come in turn.

    A subclass changes one thing between its two classes. All else has the same law in both: sizes, numbers of edges,
    degrees, and whichever of colours, marks and edges the class is not in.

    Args:
        num_graphs: how many graphs. size: nodes of a cluster. degree: 2 |E| / nodes. inside: see above.
        seed: which draw.
        features, use_node_attr, max_degree: see `NodeFeatures`.

    `raw.node_y` is the cluster of each node, in `OnlyNodes` whether it is the marked one. The same graphs, and the same
    fingerprint, on every machine (`Stream`).

    Raises `PoolBenchError` for a value that makes no such graphs.
    """

    generated = True
    known: ClassVar[Literal["salient", "clusters"] | None] = "clusters"
    where: ClassVar[str]
    """What the class is in."""

    def __init__(
        self,
        num_graphs: int = 1000,
        size: int = 12,
        degree: float = 6.0,
        inside: float = 0.85,
        seed: int = 0,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        self.name = f"only-{self.where}"
        self.num_graphs = whole(self.name, "num_graphs", num_graphs, 2)
        self.size = whole(self.name, "size", size, 4)
        self.seed = whole(self.name, "seed", seed, 0)
        self.degree, self.inside = real(self.name, "degree", degree), real(self.name, "inside", inside)
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)
        if not (self.degree > 0 and 0 <= self.inside <= 1):
            raise PoolBenchError(
                f"{self.name}: expected degree > 0 and inside between 0 and 1, got degree={degree}, inside={inside}"
            )
        self.nodes = CLUSTERS * self.size
        refuse_huge(self.name, self.num_graphs, self.nodes, self.nodes * self.degree / 2)
        edges = round(self.nodes * self.degree / 2)
        self.edges_inside = round(edges * self.inside)
        self.edges_outside = edges - self.edges_inside
        within, across = self.nodes * (self.size - 1) / 2, self.nodes * self.size
        if self.edges_inside > DENSEST * within or self.edges_outside > DENSEST * across:
            raise PoolBenchError(
                f"{self.name}: {self.edges_inside} edges within clusters and {self.edges_outside} between them are "
                f"more than half of the {within:.0f} and {across:.0f} pairs there; take a larger size, or a smaller "
                "degree"
            )

    def load(self) -> RawGraphs:
        """Make the graphs; nothing is read or written."""
        stream, n, edges = Stream(self.seed), self.nodes, self.edges_inside + self.edges_outside
        y = np.arange(self.num_graphs) % 2
        edge_index = np.empty((2, 2 * edges * len(y)), dtype=np.int64)
        labels = np.empty((n * len(y), 2), dtype=np.int64)
        cluster = np.empty(n * len(y), dtype=np.int64)
        step = max(1, BLOCK // (n + edges))
        for first in range(0, len(y), step):
            classes = y[first : first + step]
            own = slice(first * n, (first + len(classes)) * n)
            node = orders(stream, len(classes), n)  # which node stands at each place: places go cluster by cluster
            places = np.argsort(node, axis=1)
            u, v = np.concatenate([self._inside(stream, node), self._outside(stream, node, classes)], axis=1)
            found = both_ways(u, v, node.size)
            edge_index[:, 2 * edges * first : 2 * edges * (first + len(classes))] = found + first * n
            colour, mark = self.labels(stream, places, classes)
            labels[own] = np.stack([colour.reshape(-1), mark.reshape(-1)], axis=1)
            cluster[own] = places.reshape(-1) // self.size
        return RawGraphs(
            name=self.name,
            num_nodes=torch.full((len(y),), n),
            edge_index=torch.from_numpy(edge_index),
            node_labels=torch.from_numpy(labels),
            y=torch.from_numpy(y),
            node_y=torch.from_numpy(self.of_nodes(cluster, labels)),
            provenance=generated(self.name, VERSION, self.seed),
        )

    def labels(self, stream: Stream, places: Array, y: Array) -> tuple[Array, Array]:
        """Colours and marks [graphs, n] of nodes at `places` of graphs of classes y: here drawn without a look at y."""
        graphs, n = places.shape
        colour = (orders(stream, graphs, n) < n // 2).astype(np.int64)
        return colour, _at(stream.below(n, graphs), n)

    def steps(self, stream: Stream, y: Array) -> tuple[Array, Array]:
        """From each place to its partners in other clusters: [graphs, 2 size] clusters on, and places on within them.

        Here the clusters before and after it, and all places.
        """
        clusters = np.repeat([1, CLUSTERS - 1], self.size)
        return np.tile(clusters, (len(y), 1)), np.tile(np.arange(self.size), (len(y), 2))

    def of_nodes(self, cluster: Array, labels: Array) -> Array:
        """[N] what `raw.node_y` says of the nodes."""
        return cluster

    def _inside(self, stream: Stream, node: Array) -> tuple[Array, Array]:
        def ends(graph: Array) -> tuple[Array, Array]:
            place = stream.below(self.nodes, len(graph))
            first = place // self.size * self.size
            other = first + (place - first + 1 + stream.below(self.size - 1, len(graph))) % self.size
            return node[graph, place], node[graph, other]

        return distinct(len(node), self.nodes, self.edges_inside, ends)

    def _outside(self, stream: Stream, node: Array, y: Array) -> tuple[Array, Array]:
        clusters, places = self.steps(stream, y)

        def ends(graph: Array) -> tuple[Array, Array]:
            cluster, place = np.divmod(stream.below(self.nodes, len(graph)), self.size)
            step = stream.below(2 * self.size, len(graph))
            there = (cluster + clusters[graph, step]) % CLUSTERS
            other = there * self.size + (place + places[graph, step]) % self.size
            return node[graph, cluster * self.size + place], node[graph, other]

        return distinct(len(node), self.nodes, self.edges_outside, ends)


class OnlyFeatures(Only):
    """The class is the commoner colour, and nothing else: `excess` nodes more than half have it.

    The others of the family have as many nodes of one colour as of the other. A set of nodes without edges says all.

    Args:
        excess: see above. The others: see `Only`.
    """

    where = "features"

    def __init__(
        self,
        num_graphs: int = 1000,
        size: int = 12,
        degree: float = 6.0,
        inside: float = 0.85,
        excess: int = 8,
        seed: int = 0,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        super().__init__(num_graphs, size, degree, inside, seed, features, use_node_attr, max_degree)
        self.excess = whole(self.name, "excess", excess, 1)
        if self.excess > self.nodes // 2:
            raise PoolBenchError(f"{self.name}: excess={excess} must be at most {self.nodes // 2}, half of the nodes")

    def labels(self, stream: Stream, places: Array, y: Array) -> tuple[Array, Array]:
        graphs, n = places.shape
        ones = n // 2 + self.excess * (2 * y - 1)
        colour = (orders(stream, graphs, n) < ones[:, None]).astype(np.int64)
        return colour, _at(stream.below(n, graphs), n)


class OnlyNodes(Only):
    """The class is the colour of the marked node. All other nodes are noise, and so are the edges.

    In the others of the family the mark is on any node.
    """

    where = "nodes"
    known = "salient"

    def labels(self, stream: Stream, places: Array, y: Array) -> tuple[Array, Array]:
        graphs, n = places.shape
        order = orders(stream, graphs, n)  # the first half of it has colour 1
        return (order < n // 2).astype(np.int64), (order == np.where(y == 1, 0, n - 1)[:, None]).astype(np.int64)

    def of_nodes(self, cluster: Array, labels: Array) -> Array:
        return labels[:, 1].copy()


class OnlyClusters(Only):
    """The class is how the colours of clusters follow each other round the ring.

    A cluster has a colour that the part `purity` of its nodes shows, and the others do not. Of the eight clusters four
    have each colour: in class 0 two and two by turns (1 1 0 0 1 1 0 0), in class 1 in runs of one, one, three and three
    (1 0 1 1 1 0 0 0). In both, four pairs of neighbouring clusters differ in colour, two are both 1 and two both 0. So
    edges join as many nodes of equal colour in one class as in the other, and a node and its neighbours say next to
    nothing: who knows the clusters and the majority in each knows the answer, and who averages over some of the nodes
    around, as a few steps of message passing do, knows some of it.

    Args:
        purity: see above; 0.5 is no answer at all. The others: see `Only`.
    """

    where = "clusters"
    ROUND: ClassVar[Array] = np.array([[1, 1, 0, 0, 1, 1, 0, 0], [1, 0, 1, 1, 1, 0, 0, 0]])

    def __init__(
        self,
        num_graphs: int = 1000,
        size: int = 12,
        degree: float = 6.0,
        inside: float = 0.85,
        purity: float = 0.75,
        seed: int = 0,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        super().__init__(num_graphs, size, degree, inside, seed, features, use_node_attr, max_degree)
        if not 0.5 <= purity <= 1:
            raise PoolBenchError(f"{self.name}: purity={purity} must be between 0.5 and 1")
        self.majority = math.ceil(self.size * purity)

    def labels(self, stream: Stream, places: Array, y: Array) -> tuple[Array, Array]:
        graphs, n = places.shape
        cluster = np.arange(CLUSTERS) + stream.below(CLUSTERS, graphs)[:, None]
        of_cluster = self.ROUND[y[:, None], cluster % CLUSTERS] ^ stream.below(2, graphs)[:, None]
        # Places within a cluster stand in a random order of nodes, so the first of them may show its colour.
        at_place = np.repeat(of_cluster, self.size, axis=1) ^ (np.arange(n) % self.size >= self.majority)
        return np.take_along_axis(at_place, places, axis=1), _at(stream.below(n, graphs), n)


class OnlyStructure(Only):
    """The class is how clusters are joined: in a ring (class 0), or each with all others (class 1).

    In class 1 the partners of a node in other clusters are as many as in the ring, 2 `size`, and lie anywhere: at a set
    of steps (clusters on, places on within the cluster) that is drawn for each graph. So degrees, edges within clusters
    and the number of edges between them have the same law in both classes, and a node's neighbourhood looks much the
    same: what differs is how far away the other nodes are. Colours and marks say nothing.
    """

    where = "structure"

    def steps(self, stream: Stream, y: Array) -> tuple[Array, Array]:
        ring = super().steps(stream, y)
        # Steps come in pairs, one the other's way back; those that are their own way back are left out.
        cluster, place = np.divmod(np.arange(self.size, CLUSTERS * self.size), self.size)
        back = (-cluster % CLUSTERS) * self.size + -place % self.size
        one = np.flatnonzero(cluster * self.size + place < back)
        chosen = one[orders(stream, len(y), len(one))[:, : self.size]]
        anywhere = (np.concatenate([cluster[chosen], -cluster[chosen] % CLUSTERS], axis=1),
                    np.concatenate([place[chosen], -place[chosen] % self.size], axis=1))  # fmt: skip
        answer = y[:, None] == 1
        return np.where(answer, anywhere[0], ring[0]), np.where(answer, anywhere[1], ring[1])


def _at(node: Array, n: int) -> Array:
    """[graphs, n] int64, 1 at one node of each graph."""
    return (np.arange(n) == node[:, None]).astype(np.int64)
