"""Regular graphs whose nodes are points of the plane, to be reconstructed from a pooled graph.

Grid2d and Ring of the attribute-preservation experiment: D. Grattarola, D. Zambon, F. M. Bianchi, C. Alippi,
"Understanding Pooling in Graph Neural Networks", IEEE TNNLS 2022, arXiv 2110.05292; graphs and coordinates as in PyGSP
(github.com/epfl-lts2/pygsp, pygsp/graphs/grid2d.py and ring.py). The other clouds of that experiment (Bunny, and four
meshes of ModelNet40) are measured data that cannot be generated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from poolbench.data import target
from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import refuse_huge
from poolbench.data.generators.stream import whole
from poolbench.data.raw import RawGraphs
from poolbench.data.target import Target

Array = np.ndarray[Any, np.dtype[Any]]


class PointCloud(GraphDataset):
    """Base: one undirected graph, the coordinates its node attributes; nothing is random."""

    generated = True

    def __init__(
        self, name: str, features: str | Sequence[str] = "auto", use_node_attr: bool = True, max_degree: int = 135
    ) -> None:
        self.name = name
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)

    def target(self, raw: RawGraphs) -> Target:
        return target.nothing(raw)

    def points(self) -> tuple[Array, Array]:
        """Coordinates [N, 2] and undirected edges [m, 2]."""
        raise NotImplementedError

    def load(self) -> RawGraphs:
        """Make the graph; nothing is read or written."""
        coordinates, edges = self.points()
        both = np.concatenate([edges, edges[:, ::-1]])
        return RawGraphs(
            name=self.name,
            num_nodes=torch.tensor([len(coordinates)]),
            edge_index=torch.from_numpy(np.ascontiguousarray(both[np.lexsort((both[:, 1], both[:, 0]))].T)),
            node_attributes=torch.from_numpy(coordinates.astype(np.float32)),
            provenance={"kind": "generated", "where": f"poolbench {self.name}", "sha256": None},
        )


class Grid2d(PointCloud):
    """A grid of rows x columns points, each joined to its neighbours beside, above and below.

    Node r columns + c lies at (c / columns, (rows - 1 - r) / rows). features, use_node_attr, max_degree: see
    `NodeFeatures`. Raises `PoolBenchError` for a grid of fewer than two points a side.
    """

    def __init__(
        self,
        rows: int = 8,
        columns: int = 8,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        super().__init__("grid2d", features, use_node_attr, max_degree)
        self.rows, self.columns = whole(self.name, "rows", rows, 2), whole(self.name, "columns", columns, 2)
        refuse_huge(self.name, 1, self.rows * self.columns, 2 * self.rows * self.columns)

    def points(self) -> tuple[Array, Array]:
        node = np.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        row, column = np.divmod(node.reshape(-1), self.columns)
        coordinates = np.column_stack([column / self.columns, (self.rows - 1 - row) / self.rows])
        beside = np.stack([node[:, :-1].reshape(-1), node[:, 1:].reshape(-1)], axis=1)
        below = np.stack([node[:-1].reshape(-1), node[1:].reshape(-1)], axis=1)
        return coordinates, np.concatenate([beside, below])


class Ring(PointCloud):
    """A cycle; node k of N lies at the angle 2 pi k / N of the unit circle (rounded to nine digits).

    features, use_node_attr, max_degree: see `NodeFeatures`. Raises `PoolBenchError` for fewer than three nodes.
    """

    def __init__(
        self,
        num_nodes: int = 64,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        super().__init__("ring", features, use_node_attr, max_degree)
        self.num_nodes = whole(self.name, "num_nodes", num_nodes, 3)
        refuse_huge(self.name, 1, self.num_nodes, self.num_nodes)

    def points(self) -> tuple[Array, Array]:
        node = np.arange(self.num_nodes)
        angles = [2 * math.pi * k / self.num_nodes for k in range(self.num_nodes)]
        # Rounded: the last bits of cosine and sine differ from one machine to the next.
        coordinates = np.round([[math.cos(a), math.sin(a)] for a in angles], 9)
        return coordinates + 0.0, np.stack([node, (node + 1) % self.num_nodes], axis=1)  # + 0.0: no minus zero
