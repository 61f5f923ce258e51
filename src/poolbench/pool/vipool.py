"""VIPool: Li, Chen, Zhang, Tsang, "Graph Cross Networks with Vertex Infomax Pooling", NeurIPS 2020, arXiv
2010.01804."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.linalg import SYMMETRIC, Matrix, Ragged
from poolbench.pool.base.layers import Initializer, Linear, SquareLinear, as_wide, check_dropout, not_half
from poolbench.pool.base.src import SoftPool
from poolbench.pool.topk import ScorePool


class VIPool(ScorePool):
    r"""Keeps the nodes that tell most about their neighbourhoods, by an estimate of mutual information.

        h   = PReLU(X W_1' + b_1)                                  [n, f]
        c   = sigmoid(A h W_2' + b_2)                              [n, f], the neighbourhood of each node
        y_i = t(h_i, c_i),   t(u, v) = u' B v + beta               [n]
        X'  = (X * sigmoid(y))[s],   A' = A[s, s],   s the nodes of largest y
        L_mutual_information = 1/2n sum_i softplus(-y_i) + softplus(t(h_p(i), c_i))

    p is a random permutation of the nodes of each graph, drawn anew at each call, for the loss alone: the estimator
    tells the pairs of a node and its own neighbourhood from those with another one's. L is the mean over graphs. A is
    to be D^-1/2 A D^-1/2 of the input graph; A' is not normalised again.

    Where sources differ: the paper chooses the nodes one by one, so that they tell most together, and has many
    negatives for each pair; the authors' code has the above, with two biases in place of b_1. It ranks and permutes the
    nodes of all graphs together, so that a graph may vanish, and rounds the number of nodes down. The network around
    it adds A h W_2' + b_2 where it un-pools, and weighs L by a factor that falls from 2 to 1 in training.

    Cost O(E f + n f^2 + n log n).

    Args:
        ratio, return_selection, return_score: see `ScorePool`.
        dropout: of h in c, in training.
        kernel_initializer: of W_1, W_2 and of B, as one layer of f^2 inputs.
        in_channels: f, inferred at the first call where it is None.

    Raises: ValueError for an argument out of these.
    """

    connectivity = SYMMETRIC
    stochastic = True

    def __init__(
        self,
        ratio: float | int = 0.5,
        dropout: float = 0.3,
        kernel_initializer: Initializer = "glorot_uniform",
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(ratio, **unknown)
        check_dropout(dropout)
        self.dropout = dropout
        self.embedding = SquareLinear(in_channels, kernel_initializer=kernel_initializer)
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.around = SquareLinear(in_channels, kernel_initializer=kernel_initializer)
        self.affinity = Bilinear(in_channels, kernel_initializer=kernel_initializer)

    def score(self, x: Tensor, a: Matrix) -> Tensor:
        nodes = a.sparse().nodes
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
            x = not_half(x)
            # drawn before weights that are drawn at the first call, so that a width that is inferred changes neither
            p, share = self.permutation(nodes), F.dropout(torch.ones_like(x), self.dropout, self.training)
            h = self.embed(x)
            c = self.around(a.matmul(share * h)).sigmoid()
            y, other = self.affinity(h, c), self.affinity(h.index_select(0, p), c)
            loss = (F.softplus(-y) + F.softplus(other)) / 2
            self.add_loss("mutual_information", SoftPool.per_graph(nodes.mean(loss), nodes))
        return y

    def embed(self, x: Tensor) -> Tensor:
        """h: [n, f]."""
        h = self.embedding(x)
        return torch.where(h > 0, h, as_wide(self.slope, h) * h)

    def permutation(self, nodes: Ragged) -> Tensor:
        """p, a random node of the same graph for each node, each once: [n] int64."""
        return nodes.together(torch.rand(nodes.num_rows, device=nodes.ptr.device).argsort())

    def gate(self, y: Tensor) -> Tensor:
        return y.sigmoid()


class Bilinear(Linear):
    """u' B v + beta for the rows of u and v [n, f]: [n]; drawn as one layer of f^2 inputs, as the authors draw it.

    Args:
        in_channels: f, inferred at the first call where it is None; the weight is B row after row.
        options: initialisers of `Linear`.
    """

    def __init__(self, in_channels: int | None, **options: Any) -> None:
        super().__init__(None if in_channels is None else in_channels**2, 1, **options)

    def initialize_parameters(self, u: Tensor, v: Tensor | None = None) -> None:
        super().initialize_parameters(u if v is None else u.new_empty(0, u.shape[-1] * v.shape[-1]))

    def forward(self, u: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        b = as_wide(self.weight, u).view(u.shape[-1], v.shape[-1])
        return ((u @ b) * v).sum(-1) + as_wide(self.bias, u)
