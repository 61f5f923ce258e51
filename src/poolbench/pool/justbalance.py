"""JustBalancePool: Bianchi, "Simplifying Clustering with Graph Neural Networks", 2022, arXiv 2207.08779."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from poolbench.linalg import Matrix, Propagation
from poolbench.pool.base.layers import Activation, Constraint, Initializer, Regularizer, root
from poolbench.pool.base.mlppool import MLPPool
from poolbench.pool.base.src import DenseSelection


class JustBalancePool(MLPPool):
    r"""Soft clusters kept in balance; that neighbours share one is left to the message passing before it.

        S  = softmax(MLP(X))                                       [n, k]
        X' = S'X,   M = S'AS,   A' = D'^-1/2 (M - diag M) D'^-1/2
        L_balance = -Tr(sqrt(S'S)) = -sum_c ||S_:c||_2             (the root entry by entry)

    a mean over graphs, in every mode (Spektral gives a vector of losses in batch mode). -sqrt(n k) <= L_balance < 0,
    lowest for crisp clusters of one size; `normalized_loss` divides it by sqrt(n k). n counts a graph's real nodes,
    never padding. Read as a matrix square root the trace would be the nuclear norm of S; the author's code and
    Spektral take the entrywise root, and so does this.

    A is used as it is given. The method is designed for message passing with I - delta (I - D^-1/2 A D^-1/2), which is
    what `connectivity` says, with the delta = 0.85 of the author's code: a model hands the
    operator that view of the input graph. Cost O(E k + n k (k + f)) time, O(n k) memory.

    Args:
        normalized_loss: divide the loss of a graph by sqrt(n k), so that it lies in [-1, 0); the author's default.
        k, k_per_graph, remove_self_loops, degree_norm, loss_coeffs, mlp_hidden, mlp_activation, return_selection,
            use_bias, in_channels and Keras's keywords: see `MLPPool`.
    """

    connectivity = Propagation(0.85)
    normalised = True

    def __init__(
        self,
        k: int,
        mlp_hidden: Sequence[int] | int | None = None,
        mlp_activation: Activation = "relu",
        normalized_loss: bool = False,
        return_selection: bool = False,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        use_bias: bool = True,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(
            k,
            mlp_hidden,
            mlp_activation,
            return_selection,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            kernel_constraint,
            bias_constraint,
            use_bias,
            in_channels,
            **unknown,
        )
        self.normalized_loss = normalized_loss

    def expect(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:
        s.expect(x, a, gram=True)

    def assess(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:  # type: ignore[override]
        super().assess(s, x, a)
        loss = -root(s.gram.diagonal(dim1=1, dim2=2)).sum(-1)
        if self.normalized_loss:
            loss = loss / (a.nodes.sizes.clamp(min=1) * s.k).to(loss.dtype).sqrt()
        self.add_loss("balance", self.per_graph(loss, a.nodes))
