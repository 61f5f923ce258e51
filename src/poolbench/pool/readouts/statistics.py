"""Readouts without parameters: minimum, variance, standard deviation, and a sum that keeps the variance."""

from __future__ import annotations

from torch import Tensor

from poolbench.linalg import Nodes
from poolbench.pool.base.src import GlobalPool

#: Below this variance a standard deviation is 0, as in PyTorch Geometric.
LEAST = 1e-5


class GlobalMinPool(GlobalPool):
    """Minimum of the node features of each graph, feature by feature: [b, f].

        out_j = min_u x_uj

    A graph without nodes gives zeros. Cost O(n f). No parameters, no losses.
    """

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        return -nodes.max(-x)


class GlobalVarPool(GlobalPool):
    """Variance of the node features of each graph, feature by feature: [b, f].

        out_j = 1/n sum_u x_uj^2 - (1/n sum_u x_uj)^2

    A graph without nodes gives zeros. Cost O(n f). No parameters, no losses.
    """

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        return variance(x, nodes)


class GlobalStdPool(GlobalPool):
    """Standard deviation of the node features of each graph, feature by feature: [b, f].

        out_j = sqrt(1/n sum_u x_uj^2 - (1/n sum_u x_uj)^2),   0 where the variance is at most 1e-5

    A graph without nodes gives zeros. Cost O(n f). No parameters, no losses.
    """

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        v = variance(x, nodes)
        return v.clamp(min=LEAST).sqrt().masked_fill(v <= LEAST, 0.0)


class VariancePreservingPool(GlobalPool):
    """Sum of the node features of each graph over the root of its size: [b, f].

    Paper: Schneckenreiter, Freinschlag, Sestak, Brandstetter, Klambauer, Mayr, "GNN-VPA: A Variance-Preserving
    Aggregation Strategy for Graph Neural Networks", ICLR 2024 tiny papers, arXiv 2403.04747.

        out = 1/sqrt(n) sum_u x_u

    so that features of variance 1 give a row of variance 1, whatever n. A graph without nodes gives zeros. Cost O(n f).
    No parameters, no losses.
    """

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        total = nodes.sum(x)
        return total / nodes.sizes.clamp(min=1).to(total.dtype).sqrt().unsqueeze(-1)


def variance(x: Tensor, nodes: Nodes) -> Tensor:
    """Of each feature over the nodes of each graph: [b, f]."""
    x = nodes.zero_padding(x)  # squares of what stands there know no bound
    return nodes.mean(x.square()) - nodes.mean(x).square()
