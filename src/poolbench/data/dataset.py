"""What every dataset is to the rest of PoolBench."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from poolbench.data import target
from poolbench.data.features import Features, NodeFeatures
from poolbench.data.pairs import Pairs
from poolbench.data.raw import RawGraphs
from poolbench.data.target import Target


class GraphDataset:
    """Base of the datasets: a name, and what it holds when asked. Constructing one touches no file and no network.

    A dataset overrides `load`, has `features` or overrides `node_features`, and the rest where it differs.
    """

    name: str
    #: What makes the node features, where they are chosen by name.
    features: NodeFeatures
    #: Where the cache keeps it; None for generated ones.
    folder: Path | None = None
    #: Whether the arguments alone make the content, and no file is read.
    generated: ClassVar[bool] = False
    #: What `raw.node_y` says that a pool might find: 1 for the `salient` nodes, which the graph's class is in, or the
    #: cluster of each node (`clusters`); None where it says no such thing.
    known: ClassVar[Literal["salient", "clusters"] | None] = None

    def load(self) -> RawGraphs:
        """The content. Raises `PoolBenchError` where it cannot be had or made."""
        raise NotImplementedError

    def node_features(self, raw: RawGraphs) -> Features:
        """x: [N, F] float32, or int64 categories with their vocabulary."""
        return self.features(raw)

    def edge_features(self, raw: RawGraphs) -> Features | None:
        """[E, P] in the order of `raw.edge_index`, float32 or int64 categories; None where there are none."""
        return None

    def edge_weight(self, raw: RawGraphs) -> Tensor | None:
        """[E] float32 weights of the edges, None where all are 1."""
        return None

    def target(self, raw: RawGraphs) -> Target:
        """What is to be predicted of each graph."""
        return target.natural(raw)

    def official_split(self, raw: RawGraphs) -> dict[str, Tensor] | None:
        """`train`, `val` and `test`: the graphs of each part where the dataset's authors fixed them, else None."""
        return None

    def environment(self, raw: RawGraphs) -> Tensor | None:
        """[G] int64, where each graph comes from, such as its scaffold, in the dataset's order; None where it does not
        say."""
        return None

    def pairs(self, raw: RawGraphs) -> Pairs | None:
        """The pairs of graphs that are to be told apart, where the dataset is made of some; else None."""
        return None

    def official_node_split(self, raw: RawGraphs) -> dict[str, Tensor] | None:
        """The same of the nodes of all graphs; nodes may be in no part."""
        return None
