"""Families of graphs of GraphUniverse: communities that keep their meaning from graph to graph.

L. Van Langendonck, G. Bernardez, N. Miolane, P. Barlet-Ros, "GraphUniverse: Enabling Systematic Evaluation of Inductive
Generalization", ICLR 2026, arXiv 2509.21097; package graph-universe (MIT), which is asked for where it is installed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import both_ways, real, refuse_above
from poolbench.data.generators.stream import whole
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError, one_line

PACKAGE = "graph_universe"


class GraphUniverse(GraphDataset):
    """A family of graphs drawn from one universe of communities, made by the package.

    What is to be predicted of a graph is the number of its triangles, the package's own task; `raw.node_y` is the
    community of each node in the universe, which `protocol=nodes` predicts. Node attributes are the package's features.
    Its numbers are NumPy's older generators' and the mathematics library's: the same where versions and machine are,
    which is less than the other generators promise.

    Args:
        num_graphs: how many graphs. communities: of the universe. width: columns of the node attributes.
        nodes, communities_of_graph, homophily, degree, power_law, separation: the smallest and the largest value of a
            graph's number of nodes, its number of communities, the part of edges within communities, its mean degree,
            the exponent of its degrees, and how far communities differ in degree.
        universe: the seed of the universe, the same for all draws. seed: which draw.
        features, use_node_attr, max_degree: see `NodeFeatures`.

    Raises `PoolBenchError` where the package is not installed, and for a value that it does not take.
    """

    def __init__(
        self,
        num_graphs: int = 1000,
        communities: int = 8,
        width: int = 10,
        nodes: Sequence[int] = (35, 50),
        communities_of_graph: Sequence[int] = (2, 6),
        homophily: Sequence[float] = (0.2, 0.8),
        degree: Sequence[float] = (2.0, 10.0),
        power_law: Sequence[float] = (2.0, 3.5),
        separation: Sequence[float] = (0.1, 0.7),
        universe: int = 0,
        seed: int = 0,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        self.name = "graph-universe"
        if importlib.util.find_spec(PACKAGE) is None:
            raise PoolBenchError(f"{self.name}: the package is not installed; pip install graph-universe")
        self.num_graphs = whole(self.name, "num_graphs", num_graphs, 3)
        self.communities = whole(self.name, "communities", communities, 1)
        self.width = whole(self.name, "width", width, 1)
        self.universe, self.seed = whole(self.name, "universe", universe, 0), whole(self.name, "seed", seed, 0)
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)
        ranges = {
            "n_nodes_range": nodes,
            "n_communities_range": communities_of_graph,
            "homophily_range": homophily,
            "avg_degree_range": degree,
            "power_law_exponent_range": power_law,
            "degree_separation_range": separation,
        }
        self.ranges = {key: tuple(value) for key, value in ranges.items()}
        if wrong := [value for value in self.ranges.values() if len(value) != 2 or not value[0] <= value[1]]:
            raise PoolBenchError(f"{self.name}: {wrong[0]} must be the smallest and the largest value")
        counts = (*self.ranges["n_nodes_range"], *self.ranges["avg_degree_range"])
        most = max(real(self.name, "nodes and degree", count) for count in counts)
        refuse_above(
            self.name, self.num_graphs * most * max(most, self.width),
            f"the pairs and features of up to {most:,.0f} nodes in {self.num_graphs:,} graphs"
        )  # fmt: skip

    def load(self) -> RawGraphs:
        """Have the graphs made; nothing is read or written, and NumPy's global generator is left as it was."""
        before = np.random.get_state()
        try:
            graphs = self._family()
        except (AssertionError, ValueError) as error:
            raise PoolBenchError(f"{self.name}: {one_line(error)}") from error
        finally:
            np.random.set_state(before)
        sizes = np.array([graph.n_nodes for graph in graphs])
        starts = np.cumsum(sizes) - sizes
        u, v = np.concatenate(
            [np.array(graph.graph.edges, dtype=np.int64).reshape(-1, 2).T + start
             for graph, start in zip(graphs, starts, strict=True)], axis=1)  # fmt: skip
        triangles = [graph.count_triangles_graph() for graph in graphs]
        version = importlib.metadata.version("graph-universe")
        return RawGraphs(
            name=self.name,
            num_nodes=torch.from_numpy(sizes),
            edge_index=torch.from_numpy(both_ways(u, v, int(sizes.sum()))),
            node_attributes=torch.from_numpy(np.concatenate([graph.features for graph in graphs]).astype(np.float32)),
            targets=torch.tensor(triangles, dtype=torch.float64)[:, None],
            node_y=torch.from_numpy(
                np.concatenate([graph.community_labels_universe_level for graph in graphs]).astype(np.int64)
            ),
            provenance={
                "kind": "generated",
                "where": f"{self.name} {version}, seed {self.seed}",
                "sha256": None,
            },
        )

    def _family(self) -> list[Any]:
        from graph_universe import GraphFamilyGenerator
        from graph_universe import GraphUniverse as Universe

        universe = Universe(K=self.communities, feature_dim=self.width, seed=self.universe)
        family = GraphFamilyGenerator(universe=universe, n_graphs=self.num_graphs, seed=self.seed, **self.ranges)
        family.generate_family(show_progress=False, collect_stats=False)
        return list(family.graphs)
