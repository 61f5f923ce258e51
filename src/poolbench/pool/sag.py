"""SAGPool: Lee, Lee, Kang, "Self-Attention Graph Pooling", ICML 2019, arXiv 1904.08082."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from poolbench.linalg import GCN, Matrix
from poolbench.pool.base.layers import Constraint, Initializer, Linear, Regularizer
from poolbench.pool.topk import ScorePool


class SAGPool(ScorePool):
    """Keeps the nodes that a graph convolution with one output scores highest.

        y = D^-1/2 (A + I) D^-1/2 X w        D the row sums of A + I, w [f] without bias   (eq. 3)

    An edge's weight takes part in y. The nodes are ranked by y itself (the paper ranks by tanh(y): the same order),
    the returned score is y, and the pooled nodes stay in input order (the authors' code sorts them by score and adds
    a bias to y). Cost O(n f + E + n log n). No losses. See `ScorePool` for what follows the score and for `ratio`,
    `return_selection`, `return_score` and `sigmoid_gating`.

    Args:
        kernel_initializer, kernel_regularizer, kernel_constraint: of w, under Keras's names.
        in_channels: f, inferred at the first call where it is None.
    """

    def __init__(
        self,
        ratio: float | int,
        return_selection: bool = False,
        return_score: bool = True,
        sigmoid_gating: bool = False,
        kernel_initializer: Initializer = "glorot_uniform",
        kernel_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(ratio, return_selection, return_score, sigmoid_gating, **unknown)
        self.projection = Linear(
            in_channels,
            1,
            bias=False,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            kernel_constraint=kernel_constraint,
        )

    def score(self, x: Tensor, a: Matrix) -> Tensor:
        return a.view(GCN).matmul(self.projection(x).squeeze(-1))
