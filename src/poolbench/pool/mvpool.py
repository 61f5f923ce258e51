"""MVPool: Zhang, Bu, Ester, Zhang, Li, Yao, Huifen, Yu, Wang, "Hierarchical Multi-View Graph Pooling with Structure
Learning", TKDE 2021."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from poolbench.linalg import Matrix, Sparse, merged_entries
from poolbench.linalg.products import pointers
from poolbench.pool.base.layers import Initializer, Linear, as_wide, not_half
from poolbench.pool.base.src import KeptSelection
from poolbench.pool.hgpsl import StructurePool, inverse_root, places, propagated, turned, within

SCOPES = ("graph", "batch")
STEPS, RESTART = 10, 0.1  # of personalised PageRank


class MVPool(StructurePool):
    r"""Keeps the best nodes by three views of them, and learns new edges between them.

        q_1 = sigmoid(alpha ln(deg + 1e-16) + beta),   deg the number of edges that leave a node
        q_2 = sigmoid(X w / ||w||)
        q_3 = sigmoid(p),   p the 10th of p <- 0.9 T p + 0.1 z from p = z,   z = T X u + b,   T = D^-1/2 A D^-1/2
        Q   = [q_1, q_2, q_3], each divided by its largest entry in the graph
        y   = sigmoid(sum_v Q_v softmax_v(sigmoid(Q V + v)))        [n]
        s   = of each graph the ceil(ratio n) nodes with the largest y, in input order
        X'  = (X * y)[s],   A'_ij = sparsemax_j(LeakyReLU(a . [x'_i || x'_j]) + lamb A_ij)

    y lies between 0.5 and 0.731. D adds up what a node sends; where that is not above 0, D^-1/2 is 0. A node without
    edges has q_1 near 0. The gradient flows through y and A', not through the choice. No losses.

    Where sources differ: the authors' code divides by the largest entry of the batch (`scope="batch"`). Their script
    learns no edges unless told to (`structure_learning=False`), with ratio 0.8. The edges that `hop_connection` adds
    weigh 0 in their code.

    Cost O(E + n (f + log n) + p) for p pairs of kept nodes, those within `hops` or all of a graph; see
    `StructurePool`.

    Args:
        scope: in which entries are compared, "graph" or "batch".
        hop_connection: in place of learned edges, join the kept nodes within `hops`: those of the graph keep their
            weights, the others get 1. No self-loops.
        kernel_initializer: of a, w, u and V. alpha and beta start as 1, b and v as 0.

    The other arguments are those of `StructurePool`. Raises: ValueError for an argument out of these.
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        structure_learning: bool = True,
        hop_connection: bool = False,
        lamb: float = 2.0,
        scope: str = "graph",
        kernel_initializer: Initializer = "glorot_uniform",
        in_channels: int | None = None,
        **arguments: Any,
    ) -> None:
        options: dict[str, Any] = {"kernel_initializer": kernel_initializer}
        super().__init__(
            ratio, structure_learning and not hop_connection, lamb=lamb, in_channels=in_channels, **options, **arguments
        )
        if scope not in SCOPES:
            raise ValueError(f"scope={scope!r}: one of {', '.join(SCOPES)}")
        self.scope, self.hop_connection = scope, hop_connection
        if hop_connection:
            self.pooled_edges = ""
        self.alpha, self.beta = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        self.direction = Linear(in_channels, 1, bias=False, **options)
        self.teleport = Linear(in_channels, 1, bias=False, **options)
        self.restart = nn.Parameter(torch.zeros(1))
        self.views = Linear(3, 3, **options)

    def score(self, x: Tensor, a: Matrix) -> Tensor:
        a = merged_entries(a).without_zeros()
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
            q = self.compared(self.seen(not_half(x), a), a)
            return (q * self.views(q).sigmoid().softmax(-1)).sum(-1).sigmoid()

    def seen(self, x: Tensor, a: Sparse) -> Tensor:
        """q_1, q_2 and q_3 of each node: [n, 3]."""
        degree = pointers(a.col, x.shape[0]).diff().to(x.dtype).unsqueeze(-1)
        own = as_wide(self.alpha, x) * (degree + 1e-16).log() + as_wide(self.beta, x)
        along = self.direction(x) * as_wide(self.direction.weight, x).square().sum().clamp(min=1e-12).rsqrt()
        inverse = inverse_root(a, x)
        z = propagated(self.teleport(x), a, inverse) + as_wide(self.restart, x)
        p = z
        for _ in range(STEPS):
            p = (1.0 - RESTART) * propagated(p, a, inverse) + RESTART * z
        return torch.cat([own, along, p], -1).sigmoid()

    def compared(self, q: Tensor, a: Sparse) -> Tensor:
        """Each view divided by its largest entry in the graph, or in the batch."""
        if self.scope == "batch":
            return q / q.amax(0) if q.numel() else q
        nodes = a.nodes
        return q / nodes.expand(nodes.max(q))

    def gate(self, y: Tensor) -> Tensor:
        return y

    def connect(self, a: Matrix, s: KeptSelection, x: Tensor | None = None) -> Sparse:  # type: ignore[override]
        if not self.hop_connection:
            return super().connect(a, s, x)
        near = merged_entries(a).without_zeros()
        pairs, induced = within(near, s, self.hops), s.connect(near)
        weight = induced.weights
        joined = pairs.with_value(weight.new_ones(pairs.col.numel()).index_copy(0, places(induced, pairs), weight))
        return turned(joined.without_diagonal())
