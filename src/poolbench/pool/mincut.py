"""MinCutPool: Bianchi, Grattarola, Alippi, "Spectral Clustering with Graph Neural Networks for Graph Pooling",
ICML 2020, arXiv 1907.00481."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import SYMMETRIC, Matrix, Nodes
from poolbench.pool.layers import Activation, AssignmentMLP, Constraint, Initializer, Regularizer
from poolbench.pool.src import DenseSelection, SoftPool


class MinCutPool(SoftPool):
    r"""Soft clusters from a relaxed normalised minimum cut.

        S  = softmax(MLP(X))                                      [n, k]
        X' = S'X,   M = S'AS,   A' = D'^-1/2 (M - diag M) D'^-1/2  (eq. 8)
        L_cut   = -Tr(S'AS) / Tr(S'DS)                            (eq. 6, first term)
        L_ortho = || S'S / ||S'S||_F - I_k / sqrt(k) ||_F          (eq. 6, second term)

    each a mean over graphs; D holds the row sums of A as given. A is meant to be symmetrically normalised by the
    caller (`connectivity`). A graph without edges adds 0 to L_cut. Cost O(E k + n k (k + f)) time, O(n k) memory.

    Args:
        k: number of clusters of each graph.
        mlp_hidden: widths of the hidden layers of the MLP, None for none.
        mlp_activation: their activation.
        return_selection: also return S.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint,
            bias_constraint: of every layer of the MLP, under Keras's names (`poolbench.pool.layers`).
        use_bias: whether the layers of the MLP have a bias.
        in_channels: f, inferred at the first call where it is None.
    """

    connectivity = SYMMETRIC

    def __init__(
        self,
        k: int,
        mlp_hidden: Sequence[int] | None = None,
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
        **unknown: Any,
    ) -> None:
        super().__init__(k, return_selection, **unknown)
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
        s = DenseSelection(self.mlp(x), a.nodes)
        self.add_loss("ortho", orthogonality_loss(s, a.nodes))
        return s

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        m = s.connect(a)
        within = m.value.diagonal(dim1=1, dim2=2).sum(-1)
        volume = a.nodes.sum(a.degree().unsqueeze(-1) * s.s.square()).sum(-1)
        edgeless = volume == 0
        cut = -within.masked_fill(edgeless, 0.0) / volume.masked_fill(edgeless, 1.0)
        self.add_loss("cut", self.per_graph(cut, a.nodes))
        return m.without_diagonal().normalize()


def orthogonality_loss(s: DenseSelection, nodes: Nodes) -> Tensor:
    """|| S'S / ||S'S||_F - I / sqrt(k) ||_F of each graph, averaged over graphs: small for balanced, crisp clusters."""
    gram = nodes.gram(s.s, s.s)
    k = gram.shape[-1]
    norm = torch.linalg.matrix_norm(gram, keepdim=True)
    empty = norm == 0  # a graph without nodes
    target = torch.eye(k, dtype=gram.dtype, device=gram.device) / k**0.5
    distance = torch.where(empty, 0.0, gram / norm.masked_fill(empty, 1.0) - target)
    return SoftPool.per_graph(torch.linalg.matrix_norm(distance), nodes)
