"""SortPool: Zhang, Cui, Neumann, Chen, "An End-to-End Deep Learning Architecture for Graph Classification", AAAI 2018
(DGCNN, section "The SortPooling layer")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import Nodes
from poolbench.pool.base.aggregation import disjoint
from poolbench.pool.base.src import GlobalPool


class SortPool(GlobalPool):
    """The k nodes of each graph with the largest last feature, in decreasing order: [b, k, f].

    Only real nodes are sorted; a graph with fewer than k of them is filled up with zero rows afterwards, so that its
    rows depend neither on the batch nor on padding. Of equal last features the lower node comes first (the paper
    breaks ties by the other features). Cost O(n log n + b k f). No parameters, no losses; the gradient flows through
    the rows that are kept.

    DGCNN's authors take the k for which 60 % of the training graphs have more than k nodes, and at least 10.

    Args:
        k: rows of each graph, a whole number of at least 1.
        flatten: return [b, k f], one row a graph, as a dense layer behind it expects. For a convolution over the
            sorted nodes, as in DGCNN, leave it False.

    Shapes: single [n, f] -> [1, k, f]; disjoint and batch -> [b, k, f]. Raises ValueError for k < 1.
    """

    def __init__(self, k: int, flatten: bool = False, **unknown: Any) -> None:
        super().__init__(**unknown)
        self.k = whole("k", k)
        self.flatten = flatten

    def out_channels(self, in_channels: int) -> int:
        return self.k * in_channels if self.flatten else in_channels

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        x, nodes = disjoint(x, nodes)
        key = x.detach()[:, -1] if x.shape[1] else x.new_zeros(x.shape[0])
        # A stable sort by feature, then by graph: the rank of a node is its place less its graph's start.
        order, rank = nodes.together(torch.argsort(key, descending=True, stable=True)), nodes.numbers
        rows = nodes.num_graphs * self.k
        place = torch.where(rank < self.k, nodes.index * self.k + rank, rows)  # those behind the k-th go to one row
        out = x.new_zeros(rows + 1, x.shape[1]).index_copy(0, place, x.index_select(0, order))[:rows]
        shape = (self.k * x.shape[1],) if self.flatten else (self.k, x.shape[1])
        return out.reshape(nodes.num_graphs, *shape)
