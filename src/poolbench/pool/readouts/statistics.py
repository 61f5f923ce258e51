"""Readouts without parameters: minimum, quantiles, variance, standard deviation, and a sum that keeps the variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Nodes, Ragged
from poolbench.pool.base.aggregation import disjoint
from poolbench.pool.base.src import GlobalPool

#: Below this variance a standard deviation is 0, as in PyTorch Geometric.
LEAST = 1e-5
INTERPOLATIONS = ("linear", "lower", "higher", "nearest", "midpoint")


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


class QuantilePool(GlobalPool):
    """Quantiles of the node features of each graph, feature by feature: [b, q f], one quantile after the other.

        out_j = x_(1 + q (n - 1))j,   x_(1)j <= ... <= x_(n)j,   between two of them by `interpolation`

    PyTorch Geometric finds the place of a quantile in the whole batch, in float32; here it is found in the graph, so
    that it does not depend on the graphs before. A graph without nodes gives zeros. Cost O(n f log n). No parameters,
    no losses.

    Args:
        q: the quantiles, each from 0 to 1.
        interpolation: "linear", "lower", "higher", "nearest" or "midpoint".
    """

    def __init__(self, q: Sequence[float] = (0.25, 0.5, 0.75), interpolation: str = "linear", **unknown: Any) -> None:
        super().__init__(**unknown)
        if not q or not all(0.0 <= each <= 1.0 for each in q):
            raise ValueError(f"q={q!r}: numbers from 0 to 1 are expected")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation={interpolation!r}: one of {', '.join(INTERPOLATIONS)}")
        self.q, self.interpolation = tuple(q), interpolation

    def out_channels(self, in_channels: int) -> int:
        return len(self.q) * in_channels

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        rows, sets = disjoint(x, nodes)
        ordered = in_order(rows, sets)

        def at(place: Tensor) -> Tensor:
            number = (sets.ptr[:-1].unsqueeze(-1) + place.to(torch.int64)).reshape(-1)
            return ordered.index_select(0, number).reshape(sets.num_graphs, len(self.q), rows.shape[1])

        q = torch.tensor(self.q, dtype=torch.float64, device=x.device)
        place = (sets.sizes - 1).clamp(min=0).unsqueeze(-1) * q
        if self.interpolation in ("lower", "higher", "nearest"):
            round_to = {"lower": torch.floor, "higher": torch.ceil, "nearest": torch.round}
            found = at(round_to[self.interpolation](place))
        else:
            low, high = at(place.floor()), at(place.ceil())
            share = place.frac().to(low.dtype).unsqueeze(-1) if self.interpolation == "linear" else 0.5
            found = low + (high - low) * share
        return found.flatten(1).masked_fill((sets.sizes == 0).unsqueeze(-1), 0.0)


class MedianPool(QuantilePool):
    """Median of the node features of each graph, feature by feature, the lower one of two: [b, f].

        out_j = x_(m)j,   x_(1)j <= ... <= x_(n)j,   m = ceil(n / 2)

    A graph without nodes gives zeros. Cost O(n f log n). No parameters, no losses.
    """

    def __init__(self, **unknown: Any) -> None:
        super().__init__((0.5,), "lower", **unknown)


def in_order(x: Tensor, sets: Ragged) -> Tensor:
    """Each feature sorted within each graph, and a row of zeros behind: [n + 1, f]."""
    values, order = x.sort(dim=0, stable=True)
    together = sets.index.unsqueeze(-1).expand_as(x).gather(0, order).argsort(dim=0, stable=True)
    return torch.cat([values.gather(0, together), x.new_zeros(1, x.shape[1])])


def variance(x: Tensor, nodes: Nodes) -> Tensor:
    """Of each feature over the nodes of each graph: [b, f]."""
    x = nodes.zero_padding(x)  # squares of what stands there know no bound
    return nodes.mean(x.square()) - nodes.mean(x).square()
