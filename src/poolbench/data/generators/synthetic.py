"""Graphs made from a seed, for places without any data and for tests that need a known answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import real, refuse_above, refuse_huge
from poolbench.data.generators.stream import Stream, generated, whole
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError

Array = np.ndarray[Any, np.dtype[Any]]

VERSION = 1
"""Rises when the same arguments make other graphs."""


class PlantedGraphs(GraphDataset):
    """Graphs of planted communities; the class of a graph is how many it has.

    A stochastic block model (Holland, Laskey & Leinhardt, 1983) with communities of equal size and the same expected
    degree in every class, so that counting nodes or edges tells nothing. Each community has a colour of its own among
    `colours`, which its nodes show under noise: what must be found out is how many colours there are, and the noise
    averages out over a community, not over a node. With the default noise a support vector machine on the mean of the
    attributes is right in 0.75 of the graphs, on the largest values after three steps of averaging over neighbours
    in 0.93 (five-fold; chance is 0.33).

    Args:
        num_graphs: how many graphs, classes in turn.
        communities: the number of communities of each class.
        nodes: the smallest and the largest number of nodes of a graph.
        degree: expected number of neighbours of a node.
        inside: the part of them in the node's own community.
        colours: columns of the node attributes.
        noise: standard deviation of the noise on each of them; the colour itself is 1.
        seed: which dataset (not that of training or split).
        features, use_node_attr, max_degree: see `NodeFeatures`.

    The same graphs, and the same fingerprint, on every machine (`Stream`).

    Raises `PoolBenchError` for a value that makes no such graphs.
    """

    generated = True

    def __init__(
        self,
        num_graphs: int = 300,
        communities: Sequence[int] = (2, 3, 4),
        nodes: Sequence[int] = (24, 48),
        degree: float = 6.0,
        inside: float = 0.9,
        colours: int = 8,
        noise: float = 0.6,
        seed: int = 0,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        self.name = "planted"
        self.num_graphs, self.seed = whole("planted", "num_graphs", num_graphs, 3), whole("planted", "seed", seed, 0)
        self.communities = [whole("planted", "communities", k, 1) for k in communities]
        self.nodes = [whole("planted", "nodes", n, 1) for n in nodes]
        self.colours = whole("planted", "colours", colours, 1)
        self.degree, self.inside, self.noise = (
            real("planted", key, value) for key, value in (("degree", degree), ("inside", inside), ("noise", noise))
        )
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)
        self._check()

    def _check(self) -> None:
        if len(self.communities) < 2 or len(set(self.communities)) < len(self.communities):
            raise PoolBenchError(f"planted: communities={self.communities} must be two or more different numbers")
        if max(self.communities) > self.colours:
            raise PoolBenchError(
                f"planted: colours={self.colours} must be at least {max(self.communities)}, one a community"
            )
        if len(self.nodes) != 2 or self.nodes[0] > self.nodes[1]:
            raise PoolBenchError(
                f"planted: nodes={self.nodes} must be the smallest and the largest size, such as [24, 48]"
            )
        if self.nodes[0] < 2 * max(self.communities):
            raise PoolBenchError(
                f"planted: {self.nodes[0]} nodes are too few for {max(self.communities)} communities of two or more"
            )
        if not 0 <= self.inside <= 1 or not self.degree > 0 or not self.noise >= 0:
            raise PoolBenchError(
                f"planted: expected inside between 0 and 1, degree > 0 and noise >= 0, "
                f"got inside={self.inside}, degree={self.degree}, noise={self.noise}"
            )
        most = self.nodes[1]
        refuse_huge("planted", self.num_graphs, most, most * min(self.degree, most) / 2)
        refuse_above("planted", most * most / 2, f"the pairs of {most:,} nodes, which are all looked at,")
        refuse_above(
            "planted", self.num_graphs * most * self.colours,
            f"{self.colours:,} colours of {most:,} nodes in {self.num_graphs:,} graphs"
        )  # fmt: skip

    def load(self) -> RawGraphs:
        """Make the graphs; nothing is read or written."""
        stream = Stream(self.seed)
        classes = [graph % len(self.communities) for graph in range(self.num_graphs)]
        sizes, edges, attributes, start = [], [], [], 0
        for label in classes:
            community, pairs = self._graph(stream, self.communities[label])
            sizes.append(len(community))
            edges.append(pairs + start)
            attributes.append(self._attributes(stream, community))
            start += len(community)
        row, col = np.concatenate(edges, axis=1)
        both = np.stack([np.concatenate([row, col]), np.concatenate([col, row])])
        return RawGraphs(
            name=self.name,
            num_nodes=torch.tensor(sizes),
            edge_index=torch.from_numpy(np.ascontiguousarray(both[:, np.lexsort((both[1], both[0]))])),
            node_attributes=torch.from_numpy(np.concatenate(attributes)),
            y=torch.tensor(classes),
            provenance=generated(self.name, VERSION, self.seed),
        )

    def _graph(self, stream: Stream, k: int) -> tuple[Array, Array]:
        """The community of each node [n], and the edges [2, m] with row < col."""
        n = self.nodes[0] + int(stream.uniform(1)[0] * (self.nodes[1] - self.nodes[0] + 1))
        community = (np.arange(n) * k // n)[stream.permutation(n)]
        own = n / k  # the size of a community; with one community all neighbours are inside
        inside = self.inside if k > 1 else 1.0
        p_inside = min(1.0, inside * self.degree / (own - 1))
        p_outside = min(1.0, (1 - inside) * self.degree / (n - own)) if k > 1 else 0.0
        row, col = np.triu_indices(n, 1)
        chance = np.where(community[row] == community[col], p_inside, p_outside)
        kept = stream.uniform(len(row)) < chance
        return community, np.stack([row[kept], col[kept]])

    def _attributes(self, stream: Stream, community: Array) -> Array:
        colour = stream.permutation(self.colours)[community]
        shown = (np.arange(self.colours) == colour[:, None]).astype(np.float64)
        return (shown + self.noise * stream.bell(shown.size).reshape(shown.shape)).astype(np.float32)
