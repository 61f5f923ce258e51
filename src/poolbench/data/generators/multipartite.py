"""The Multipartite graphs of MaxCutPool, made from a seed.

C. Abate, F. M. Bianchi, "MaxCutPool: differentiable feature-aware Maxcut for pooling in graph neural networks", ICLR
2025, arXiv 2409.05100; the recipe is that of the authors' generator (repository NGMLGroup/MaxCutPool,
source/data/multipartite_utils.py and torch_datasets.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import refuse_huge
from poolbench.data.generators.stream import Stream, generated, whole
from poolbench.data.raw import RawGraphs

Array = np.ndarray[Any, np.dtype[Any]]

VERSION = 1
"""Rises when the same arguments make other graphs."""


class Multipartite(GraphDataset):
    """Complete multipartite graphs: each node is joined to all nodes of the other clusters, to none of its own.

    A graph has C clusters of 1 to `largest` nodes each. The nodes of cluster c lie around a vertex of a regular
    polygon with C corners and radius 20 C, with variance 1 in each coordinate; in class y it is vertex
    (c - y) mod C: the class is how far the clusters' numbers are turned against their places. The attributes of a node
    are its two coordinates and the number of its cluster. Neither sizes nor edges say anything of the class.

    The published file (Zenodo record 11617423) came from another generator and from normal noise; here the noise is
    a sum of uniform numbers (`Stream.bell`). The distribution of sizes, edges and classes is the same.

    Args:
        clusters: C, the number of clusters and of classes.
        largest: nodes of a cluster, at most; the published file has 19.
        graphs_per_class: how many of each class; graphs come in the order of classes.
        seed: which dataset (not that of training or split).
        features, use_node_attr, max_degree: see `NodeFeatures`.

    Raises `PoolBenchError` for a value that makes no such graphs.
    """

    generated = True

    def __init__(
        self,
        clusters: int = 10,
        largest: int = 19,
        graphs_per_class: int = 500,
        seed: int = 0,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        self.name = "multipartite"
        self.clusters = whole(self.name, "clusters", clusters, 2)
        self.largest = whole(self.name, "largest", largest, 1)
        self.graphs_per_class = whole(self.name, "graphs_per_class", graphs_per_class, 1)
        nodes = self.clusters * (self.largest + 1) / 2
        refuse_huge(self.name, self.clusters * self.graphs_per_class, nodes, nodes * nodes / 2)
        self.seed = whole(self.name, "seed", seed, 0)
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)

    def load(self) -> RawGraphs:
        """Make the graphs; nothing is read or written."""
        stream, k = Stream(self.seed), self.clusters
        y = np.repeat(np.arange(k), self.graphs_per_class)
        sizes = 1 + stream.below(self.largest, len(y) * k).reshape(-1, k)
        cluster = np.repeat(np.tile(np.arange(k), len(y)), sizes.reshape(-1))
        nodes = sizes.sum(axis=1)
        place = (cluster - np.repeat(y, nodes)) % k
        noise = stream.bell(2 * len(cluster)).reshape(-1, 2)
        attributes = np.column_stack([self._vertices()[place] + noise, cluster])
        return RawGraphs(
            name=self.name,
            num_nodes=torch.from_numpy(nodes),
            edge_index=torch.from_numpy(_edges(nodes, sizes, cluster)),
            node_attributes=torch.from_numpy(attributes.astype(np.float32)),
            y=torch.from_numpy(y),
            provenance=generated(self.name, VERSION, self.seed),
        )

    def _vertices(self) -> Array:
        """[C, 2] corners, rounded so that the last bits of cosine and sine, which machines differ in, do not count."""
        angles = [2 * math.pi * corner / self.clusters for corner in range(self.clusters)]
        return np.round([[20 * self.clusters * math.cos(a), 20 * self.clusters * math.sin(a)] for a in angles], 6)


def _edges(nodes: Array, sizes: Array, cluster: Array) -> Array:
    """[2, E] int64: for each node all nodes of its graph but those of its cluster, in order."""
    starts = np.cumsum(nodes) - nodes
    graph = np.repeat(np.arange(len(nodes)), nodes)
    own = sizes[graph, cluster]  # the nodes of a cluster stand together: all others are two runs
    first = starts[graph] + (np.cumsum(sizes, axis=1) - sizes)[graph, cluster]
    degree = nodes[graph] - own
    row = np.repeat(np.arange(len(graph)), degree)
    rank = np.arange(len(row)) - np.repeat(np.cumsum(degree) - degree, degree)
    col = starts[graph][row] + rank
    return np.stack([row, col + np.where(col >= first[row], own[row], 0)])
