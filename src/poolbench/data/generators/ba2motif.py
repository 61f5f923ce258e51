"""BA-2motif: a random tree with a house or a five-cycle on it, and the nodes that a pool ought to keep.

D. Luo et al., "Parameterized Explainer for Graph Neural Network", NeurIPS 2020, arXiv 2011.04573; bases are those of
A.-L. Barabasi, R. Albert, "Emergence of Scaling in Random Networks", Science 286, 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import both_ways, refuse_huge, shuffled
from poolbench.data.generators.shapes import CYCLE, HOUSE, Shape, hang
from poolbench.data.generators.stream import Stream, generated, whole
from poolbench.data.raw import RawGraphs

Array = np.ndarray[Any, np.dtype[Any]]

VERSION = 1
"""Rises when the same arguments make other graphs."""
MOTIFS = (HOUSE, CYCLE)


class BA2Motif(GraphDataset):
    """Barabasi-Albert trees of `base_nodes` nodes with a motif, a house (class 0) or a five-cycle (class 1).

    A new node of the tree is joined to one that is there, with a chance in proportion to its degree; one node of the
    motif is joined to a random node of the tree. Nodes have no features but a constant. Classes come in turn.
    `raw.node_y` is 1 for the five nodes of the motif. A house has one edge more than a cycle, so that counting edges
    tells the class; the question is whether a pool keeps the nodes that matter.

    Args:
        num_graphs: how many graphs. base_nodes: nodes of a tree.
        seed: which draw.
        features, use_node_attr, max_degree: see `NodeFeatures`.

    The same graphs, and the same fingerprint, on every machine (`Stream`).

    Raises `PoolBenchError` for a value that makes no such graphs.
    """

    generated = True
    known = "salient"

    def __init__(
        self,
        num_graphs: int = 1000,
        base_nodes: int = 20,
        seed: int = 0,
        features: str | Sequence[str] = "constant",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        self.name = "ba-2motif"
        self.num_graphs = whole(self.name, "num_graphs", num_graphs, 2)
        self.base_nodes = whole(self.name, "base_nodes", base_nodes, 2)
        refuse_huge(self.name, self.num_graphs, self.base_nodes + 5, self.base_nodes + 6)
        self.seed = whole(self.name, "seed", seed, 0)
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)

    def load(self) -> RawGraphs:
        """Make the graphs; nothing is read or written."""
        stream = Stream(self.seed)
        y = np.arange(self.num_graphs) % len(MOTIFS)
        bases = [Shape(self.base_nodes, edges) for edges in self._trees(stream)]
        hung = hang(stream, bases, [MOTIFS[k] for k in y])
        number = shuffled(stream, hung.sizes)
        of_motif = np.empty(len(number), dtype=np.int64)
        of_motif[number] = hung.motif
        return RawGraphs(
            name=self.name,
            num_nodes=torch.from_numpy(hung.sizes),
            edge_index=torch.from_numpy(both_ways(number[hung.u], number[hung.v], len(number))),
            y=torch.from_numpy(y),
            node_y=torch.from_numpy(of_motif),
            provenance=generated(self.name, VERSION, self.seed),
        )

    def _trees(self, stream: Stream) -> Array:
        """[G, 2, base_nodes - 1] edges: of each node after the first, to one before it."""
        graphs = np.arange(self.num_graphs)
        ends = np.zeros((self.num_graphs, self.base_nodes - 1, 2), dtype=np.int64)
        ends[:, :, 1] = np.arange(1, self.base_nodes)
        for new in range(1, self.base_nodes - 1):  # a random end of the edges so far is a node by its degree
            ends[:, new, 0] = ends[:, :new].reshape(self.num_graphs, -1)[graphs, stream.below(2 * new, len(graphs))]
        return ends.transpose(0, 2, 1)
