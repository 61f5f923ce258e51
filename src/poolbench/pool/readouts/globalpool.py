"""Readouts without parameters: mean, maximum and sum over the nodes of a graph."""

from __future__ import annotations

from torch import Tensor

from poolbench.linalg import Nodes
from poolbench.pool.base.src import GlobalPool


class GlobalAvgPool(GlobalPool):
    """Mean of the node features of each graph: [b, f].

        out = 1/n sum_u x_u

    Cost O(n f). No parameters, no losses.
    """

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        return nodes.mean(x)


class GlobalMaxPool(GlobalPool):
    """Maximum of the node features of each graph, feature by feature: [b, f].

        out_j = max_u x_uj

    Cost O(n f). No parameters, no losses.
    """

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        return nodes.max(x)


class GlobalSumPool(GlobalPool):
    """Sum of the node features of each graph: [b, f].

        out = sum_u x_u

    Cost O(n f). No parameters, no losses.
    """

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        return nodes.sum(x)
