"""What the operators share whose assignment is the softmax of an MLP: MinCut, JustBalance, DMoN, AsymCheegerCut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.linalg import Dense, Matrix
from poolbench.pool.base.layers import Activation, AssignmentMLP, Constraint, Initializer, Regularizer, check_dropout
from poolbench.pool.base.src import DenseSelection, SoftPool


class MLPPool(SoftPool):
    r"""Base of the operators with S = softmax(MLP(X)), [n, k]; on its own X' = S'X, A' = S'AS, no losses.

    An operator adds its losses in `assess` and `connect`, as sums over nodes and entries of A segmented by graph.
    Cost O(E k + n k (k + f)) time, O(n k) memory beside the MLP's.

    Args:
        k, k_per_graph, remove_self_loops, degree_norm, loss_coeffs: see `SoftPool`.
        mlp_hidden: widths of the hidden layers of the MLP, None for none.
        mlp_activation: their activation; the last layer always has the softmax.
        return_selection: also return S.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint,
            bias_constraint: of every layer of the MLP, under Keras's names (`poolbench.pool.base.layers`).
        use_bias: whether the layers of the MLP have a bias.
        in_channels: f, inferred at the first call where it is None.
        mlp_dropout: probability with which a logit of S is set to 0 in training, the others divided by what is left.
    """

    def __init__(
        self,
        k: int,
        mlp_hidden: Sequence[int] | int | None = None,
        mlp_activation: Activation = "relu",
        return_selection: bool = False,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        use_bias: bool = True,
        in_channels: int | None = None,
        mlp_dropout: float = 0.0,
        **unknown: Any,
    ) -> None:
        check_dropout(mlp_dropout, "mlp_dropout")
        super().__init__(k, return_selection, **unknown)
        self.mlp_dropout = mlp_dropout
        self.mlp = AssignmentMLP(
            self.k,
            mlp_hidden,
            mlp_activation,
            in_channels,
            bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        logits = self.mlp(x)
        if self.mlp_dropout:
            logits = F.dropout(logits, self.mlp_dropout, self.training)
        return self.assign(logits, a.nodes)

    def assess(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:  # type: ignore[override]
        self.expect(s, x, a)

    def expect(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:
        """Say what the operator will ask of s (`DenseSelection.expect`)."""
        s.expect(x, a)

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        return self.finish(self.product(a, s))

    def product(self, a: Matrix, s: DenseSelection) -> Dense:
        """S'AS."""
        with torch.autocast(s.s.device.type, enabled=False):  # losses are differences of its entries
            return s.connect(a)
