"""Readouts without parameters: mean, maximum and sum over the nodes of a graph."""

from __future__ import annotations

from torch import Tensor

from poolbench.linalg import Nodes
from poolbench.pool.src import GlobalPool


class GlobalAvgPool(GlobalPool):
    """Mean of the node features of each graph: [b, f]."""

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        return nodes.mean(x)


class GlobalMaxPool(GlobalPool):
    """Maximum of the node features of each graph, feature by feature: [b, f]."""

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        return nodes.max(x)


class GlobalSumPool(GlobalPool):
    """Sum of the node features of each graph: [b, f]."""

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        return nodes.sum(x)
