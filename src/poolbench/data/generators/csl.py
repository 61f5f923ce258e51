"""Circular skip links: regular graphs that no network of message passing tells apart.

R. Murphy, B. Srinivasan, V. Rao, B. Ribeiro, "Relational Pooling for Graph Representations", ICML 2019, arXiv
1903.02541; the ten classes and the 150 graphs of V. P. Dwivedi et al., JMLR 2023, arXiv 2003.00982.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import both_ways, refuse_huge, shuffled
from poolbench.data.generators.stream import Stream, generated, whole
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError

VERSION = 1
"""Rises when the same arguments make other graphs."""
SKIPS = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)


class CSL(GraphDataset):
    """Circles of `nodes` nodes, each joined to the two beside it and the two `skip` steps away; the class is the skip.

    All nodes have four neighbours and no features but a constant: to 1-WL all graphs are one. The graphs of a class are
    the same one, its nodes numbered anew.

    Args:
        nodes: of a graph. skips: one a class; of other than the published ones two may make the same graph.
        copies: graphs of a class.
        seed: how nodes are numbered.
        features, use_node_attr, max_degree: see `NodeFeatures`.

    The same graphs, and the same fingerprint, on every machine (`Stream`).

    Raises `PoolBenchError` for a value that makes no such graphs.
    """

    generated = True

    def __init__(
        self,
        nodes: int = 41,
        skips: Sequence[int] = SKIPS,
        copies: int = 15,
        seed: int = 0,
        features: str | Sequence[str] = "constant",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        self.name = "csl"
        self.nodes = whole(self.name, "nodes", nodes, 5)
        self.skips = [whole(self.name, "skips", skip, 2) for skip in skips]
        self.copies = whole(self.name, "copies", copies, 1)
        self.seed = whole(self.name, "seed", seed, 0)
        refuse_huge(self.name, len(self.skips) * self.copies, self.nodes, 2 * self.nodes)
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)
        if len(self.skips) < 2 or len(set(self.skips)) < len(self.skips) or 2 * max(self.skips) >= self.nodes:
            raise PoolBenchError(
                f"{self.name}: skips={self.skips} must be two or more different numbers, each below nodes / 2"
            )

    def load(self) -> RawGraphs:
        """Make the graphs; nothing is read or written."""
        stream, graphs = Stream(self.seed), len(self.skips) * self.copies
        y = np.repeat(np.arange(len(self.skips)), self.copies)
        number = shuffled(stream, np.full(graphs, self.nodes))
        graph, node = np.divmod(np.arange(len(number)), self.nodes)
        steps = np.stack([np.ones_like(y), np.array(self.skips)[y]])[:, graph]
        u, v = np.tile(np.arange(len(number)), 2), (graph * self.nodes + (node + steps) % self.nodes).reshape(-1)
        return RawGraphs(
            name=self.name,
            num_nodes=torch.full((graphs,), self.nodes),
            edge_index=torch.from_numpy(both_ways(number[u], number[v], len(number))),
            y=torch.from_numpy(y),
            provenance=generated(self.name, VERSION, self.seed),
        )
