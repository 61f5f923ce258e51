"""SortPool and a convolution: Zhang, Cui, Neumann, Chen, "An End-to-End Deep Learning Architecture for Graph
Classification", AAAI 2018; Fey, Lenssen, "Fast Graph Representation Learning with PyTorch Geometric", ICLR RLGM
workshop, 2019, arXiv 1903.02428 (this form, in its kernel benchmark)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import Nodes
from poolbench.pool.base.layers import Linear
from poolbench.pool.base.src import GlobalPool
from poolbench.pool.readouts.sortpool import SortPool


class SortConvPool(GlobalPool):
    """A convolution over the k nodes of each graph with the largest last feature: [b, (k - kernel + 1) channels].

        out = relu(conv(SortPool_k(x))),    one vector, channel by channel

    A graph with fewer than k nodes is filled up with zero rows, as in SortPool; one without nodes gives zeros.
    Cost O(n log n + b k kernel f channels). No losses.

    Args:
        k: nodes of each graph. channels: of the convolution. kernel: nodes that it reads at a time; all k where there
            are no more.
        in_channels: f, inferred at the first call where it is None.

    Shapes: single [n, f] -> [1, (k - kernel + 1) channels]; disjoint and batch -> [b, ...]. Raises ValueError for
    numbers below 1.
    """

    def __init__(
        self, k: int, channels: int = 32, kernel: int = 5, in_channels: int | None = None, **unknown: Any
    ) -> None:
        super().__init__(**unknown)
        self.sort = SortPool(k)
        self.channels, self.kernel = whole("channels", channels), min(whole("kernel", kernel), self.sort.k)
        self.convolution = Linear(None if in_channels is None else in_channels * self.kernel, self.channels)
        self.convolution.sides = self.kernel  # type: ignore[assignment]  # of f, at a time: `explain.width_of`

    def out_channels(self, in_channels: int) -> int:
        return (self.sort.k - self.kernel + 1) * self.channels

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        windows = self.sort.readout(x, nodes).unfold(1, self.kernel, 1)  # [b, places, f, kernel], as a view
        out: Tensor = self.convolution(windows.flatten(2)).relu().transpose(1, 2).flatten(1)
        return out * (nodes.sizes > 0).unsqueeze(-1)
