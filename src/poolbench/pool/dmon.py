"""DMoNPool: Tsitsulin, Palowitch, Perozzi, Müller, "Graph Clustering with Graph Neural Networks", JMLR 24 (2023),
arXiv 2006.16904."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Matrix
from poolbench.pool.base.layers import Activation, Constraint, Initializer, Regularizer
from poolbench.pool.base.mlppool import MLPPool
from poolbench.pool.base.src import DenseSelection

NULL_MODELS = ("authors", "exact")


class DMoNPool(MLPPool):
    r"""Soft clusters of high modularity.

        C  = softmax(MLP(X))                                             [n, k]
        X' = C'X,   A' = C'AC                                            (diagonal kept, not normalised)
        L_collapse   = collapse_regularization (sqrt(k) / n ||sum_u C_u||_2 - 1)
        L_modularity = -[Tr(C'AC) - ||C'd||_2^2 / (2 w)] / (2 w)         w = sum_u d_u, d the row sums of A

    each a mean over graphs; n counts a graph's real nodes. Sources differ in the modularity. In the paper it is
    -[Tr(C'AC) - ||C'd||^2 / 2m] / 2m, m edges; the authors' implementation and Spektral put 4m for 2m in both places,
    which halves the null model. Here the authors' loss is the default, for it is what their results come from, and
    `null_model="exact"` gives the paper's:

        L_modularity = -[Tr(C'AC) - <C'd, C'd_in> / w] / w               d_in the column sums, d_in = d if undirected

    Spektral's w counts the non-zero entries, which is the same for a graph without weights; for a weighted one it is
    the sum of the degrees here, as in the authors' code. A graph without edges adds 0 to L_modularity.

    The authors normalise A for the message passing and pool A as it is, hence `connectivity`; Spektral's document asks
    for a symmetrically normalised A, which can be given as well. Cost O(E k + n k (k + f)) time, O(n k) memory.

    Args:
        collapse_regularization: factor of the collapse loss.
        null_model: "authors" or "exact", as above.
        k, k_per_graph, remove_self_loops, degree_norm, loss_coeffs, mlp_hidden, mlp_activation, return_selection,
            use_bias, in_channels and Keras's keywords: see `MLPPool`.
    """

    def __init__(
        self,
        k: int,
        mlp_hidden: Sequence[int] | int | None = None,
        mlp_activation: Activation = "relu",
        return_selection: bool = False,
        collapse_regularization: float = 0.1,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        use_bias: bool = True,
        null_model: str = "authors",
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
        if null_model not in NULL_MODELS:
            raise ValueError(f"null_model={null_model!r} is not one of {', '.join(NULL_MODELS)}")
        self.collapse_regularization = collapse_regularization
        self.null_model = null_model

    def expect(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:
        s.expect(x, a, gram=True)

    def assess(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:  # type: ignore[override]
        super().assess(s, x, a)
        sizes = a.nodes.sizes
        # The rows of C add up to 1: sum_u C_u = C'C 1, C'd = C'AC 1 and C'd_in = (C'AC)' 1, sums of k x k entries.
        length = torch.linalg.vector_norm(s.gram.sum(-1), dim=-1)
        collapse = (s.k**0.5 * length / sizes.clamp(min=1) - 1.0).masked_fill(sizes == 0, 0.0)
        self.add_loss("collapse", self.collapse_regularization * self.per_graph(collapse, a.nodes))

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        m = self.product(a, s)
        volume = a.total()
        cluster = m.value.sum(-1)
        other, scale = (m.value.sum(1), volume) if self.null_model == "exact" else (cluster, 2.0 * volume)
        edgeless = volume == 0
        scale = scale.masked_fill(edgeless, 1.0)
        within = m.value.diagonal(dim1=1, dim2=2).sum(-1)
        loss = ((cluster * other).sum(-1) / scale - within) / scale
        self.add_loss("modularity", self.per_graph(loss.masked_fill(edgeless, 0.0), a.nodes))
        return self.finish(m)
