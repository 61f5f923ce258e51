"""Contextual stochastic block models: are there two communities, or is the graph random with the same degrees?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
COLUMNS = 4


class ContextualSBM(GraphDataset):
    """Graphs with two communities (class 1) or none (class 0), whose nodes show under noise which side they are of.

    The contextual stochastic block model (Deshpande, Sen, Montanari & Mossel, NeurIPS 2018, arXiv 1807.09596) as a
    question about the graph, in its microcanonical form: every graph has exactly round(nodes degree / 2) edges. With
    d = degree and n = nodes, pairs within a community of n / 2 nodes and pairs across are edges with probabilities that
    differ by 2 lam sqrt(d) / n; lam = 1 is the Kesten-Stigum threshold, below which the communities of a large sparse
    graph cannot be found from its edges.

    In class 0 the n / 2 - 1 likelier partners of a node are no community: nodes stand in a circle, and partners are the
    nodes at a random set of distances, drawn anew for each graph. In class 1 they stand in the same circle, at even
    distances. So a node's degree has exactly the same law in both classes, which a graph of independent edges would not
    have: its degrees vary more, and tell the class in some six of ten graphs at lam = 2.5.

    Node attributes are four normals (`Stream.bell`), the first shifted by +mu or -mu with a node's side. Class 0 has
    two sides of n / 2 nodes too, which its edges know nothing of: features alone say nothing, whatever mu is. With
    mu = 0 there are edges alone, which message passing sees no communities in. `raw.node_y` is the side of each node.

    Args:
        num_graphs: how many graphs, classes in turn.
        nodes: n, an even number. degree: d = 2 |E| / n. lam: lambda. mu: the shift, in standard deviations.
        seed: which draw.
        features, use_node_attr, max_degree: see `NodeFeatures`.

    The same graphs, and the same fingerprint, on every machine (`Stream`).

    Raises `PoolBenchError` for a value that makes no such graphs.
    """

    generated = True
    known = "clusters"

    def __init__(
        self,
        num_graphs: int = 1000,
        nodes: int = 100,
        degree: float = 10.0,
        lam: float = 1.5,
        mu: float = 0.4,
        seed: int = 0,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        self.name = "csbm"
        self.num_graphs = whole(self.name, "num_graphs", num_graphs, 2)
        self.nodes = whole(self.name, "nodes", nodes, 6)
        self.seed = whole(self.name, "seed", seed, 0)
        self.degree, self.lam, self.mu = (
            real(self.name, key, value) for key, value in (("degree", degree), ("lam", lam), ("mu", mu))
        )
        refuse_huge(self.name, self.num_graphs, self.nodes, self.nodes * self.degree / 2)
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)
        if self.nodes % 2:
            raise PoolBenchError(f"{self.name}: nodes={self.nodes} must be even, two sides of the same size")
        if not (self.degree > 0 and self.lam >= 0):
            raise PoolBenchError(
                f"{self.name}: expected degree > 0 and lam (lambda) of 0 or more, "
                f"got degree={self.degree}, lam={self.lam}"
            )
        self.near, self.far = self._counts()

    def _counts(self) -> tuple[int, int]:
        """How many edges join likelier partners, and how many others."""
        n, h = self.nodes, self.nodes // 2
        near_pairs, far_pairs = n * (h - 1) // 2, n * h // 2
        edges = round(n * self.degree / 2)
        gap = 2 * self.lam * math.sqrt(self.degree) / n
        far = round(far_pairs * (edges - near_pairs * gap) / (near_pairs + far_pairs))
        if far < 0:
            most = edges * n / near_pairs / 2 / math.sqrt(self.degree)
            raise PoolBenchError(
                f"{self.name}: lam={self.lam} is too large: at degree={self.degree} all edges are within communities "
                f"from lam={most:.2f} on"
            )
        if edges - far > DENSEST * near_pairs or far > DENSEST * far_pairs:
            raise PoolBenchError(
                f"{self.name}: {edges} edges are more than half of the pairs within communities or across; take more "
                "nodes, or a smaller degree or lam"
            )
        return edges - far, far

    def load(self) -> RawGraphs:
        """Make the graphs; nothing is read or written."""
        stream, n, edges = Stream(self.seed), self.nodes, self.near + self.far
        y = np.arange(self.num_graphs) % 2
        edge_index = np.empty((2, 2 * edges * len(y)), dtype=np.int64)
        x = np.empty((n * len(y), COLUMNS), dtype=np.float32)
        sides = np.empty(n * len(y), dtype=np.int64)
        step = max(1, BLOCK // (n + edges))
        for first in range(0, len(y), step):
            classes = y[first : first + step]
            own = slice(first * n, (first + len(classes)) * n)
            found, side = self._block(stream, classes)
            edge_index[:, 2 * edges * first : 2 * edges * (first + len(classes))] = found + first * n
            sides[own] = side
            x[own] = stream.bell(COLUMNS * len(side)).reshape(-1, COLUMNS)
            x[own, 0] += self.mu * (2 * side - 1)
        return RawGraphs(
            name=self.name,
            num_nodes=torch.full((len(y),), n),
            edge_index=torch.from_numpy(edge_index),
            node_attributes=torch.from_numpy(x),
            y=torch.from_numpy(y),
            node_y=torch.from_numpy(sides),
            provenance=generated(self.name, VERSION, self.seed),
        )

    def _block(self, stream: Stream, y: Array) -> tuple[Array, Array]:
        """The edges [2, E] of graphs of classes y, and the side of each of their nodes [N]."""
        n, h, graphs = self.nodes, self.nodes // 2, len(y)
        node = orders(stream, graphs, n)  # which node stands at each place of the circle
        distances = self._distances(orders(stream, graphs, h - 1) + 1, y)

        def ends(graph: Array, low: int, count: int) -> tuple[Array, Array]:
            place = stream.below(n, len(graph))
            other = (place + distances[graph, low + stream.below(count, len(graph))]) % n
            return node[graph, place], node[graph, other]

        near = distinct(graphs, n, self.near, lambda graph: ends(graph, 0, h - 1))
        far = distinct(graphs, n, self.far, lambda graph: ends(graph, h - 1, h))
        shown = np.where(y[:, None] == 1, node, orders(stream, graphs, n))
        side = np.empty_like(node)
        np.put_along_axis(side, shown, np.arange(n)[None] % 2, axis=1)
        u, v = np.concatenate([near, far], axis=1)
        return both_ways(u, v, graphs * n), side.reshape(-1)

    def _distances(self, order: Array, y: Array) -> Array:
        """[graphs, n - 1] distances in the circle, those of the n / 2 - 1 likelier partners first.

        order: [graphs, n / 2 - 1], the distances below n / 2 in a random order, for graphs of class 0.
        """
        n, h = self.nodes, self.nodes // 2
        half = (h - 1) // 2
        opposite = np.full((len(y), 1), h)
        likelier, others = order[:, :half], order[:, half:]
        parts = [likelier, n - likelier, opposite, others, n - others]
        if (h - 1) % 2 == 0:  # the node opposite has no counterpart: it is where it makes the numbers right
            parts = [likelier, n - likelier, others, n - others, opposite]
        communities = np.concatenate([np.arange(2, n, 2), np.arange(1, n, 2)])
        return np.where(y[:, None] == 1, communities, np.concatenate(parts, axis=1))
