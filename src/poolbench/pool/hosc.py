"""HOSCPool: Duval, Malliaros, "Higher-order Clustering and Pooling for Graph Neural Networks", CIKM 2022,
arXiv 2209.03473."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix
from poolbench.pool.base.layers import Activation, Constraint, Initializer, Regularizer, root
from poolbench.pool.base.mlppool import MLPPool
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.src import DenseSelection
from poolbench.pool.mincut import normalized_cut, orthogonality_loss


class HOSCPool(MLPPool):
    r"""Soft clusters that cut few edges and few motifs.

        S  = softmax(MLP(X))                                       [n, k]
        X' = S'X,   M = S'AS,   A' = D'^-1/2 (M - diag M) D'^-1/2
        L_hosc  = 1/k [(1 - alpha) cut(A) + alpha cut(A^3)]        cut(G) = -Tr(S'GS) / Tr(S' diag(G1) S)
        L_ortho = mu || S'S / ||S'S||_F - I / sqrt(k) ||_F         (MinCutPool's), or with `hosc_ortho`
                  mu (sqrt(k) - 1/sqrt(n) sum_c ||S_:c||_2) / (sqrt(k) - 1)

    each a mean over graphs. The motif matrix A^3 = A A A counts walks of three steps, triangles on its diagonal, which
    is kept. It is never formed: Tr(S'A^3S) = sum S * A(A(AS)) and A^3 1 = A(A(A1)). Where sources differ: the paper
    counts triangles as motifs; its code and Torch Geometric Pool take A^3, and so does this. A graph without edges, or
    without walks of three steps, adds 0 to that cut. Cost O(E k + n k (k + f)) time, O(n k) memory.

    Args:
        alpha: share of the motif cut, in [0, 1].
        mu: factor of the orthogonality loss.
        hosc_ortho: the paper's orthogonality loss (0 for k = 1) in place of MinCutPool's.
        remove_self_loops, degree_norm, edge_weight_norm: what is done to M, in this order: its diagonal dropped; D'
            divided out, D' at least 1e-8; divided by the graph's largest |weight|.
        k, k_per_graph, loss_coeffs, mlp_hidden, mlp_activation, return_selection,
            use_bias, in_channels and Keras's keywords: see `MLPPool`.
    """

    def __init__(
        self,
        k: int,
        mlp_hidden: Sequence[int] | int | None = None,
        mlp_activation: Activation = "relu",
        alpha: float = 0.5,
        mu: float = 0.1,
        hosc_ortho: bool = False,
        return_selection: bool = False,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        use_bias: bool = True,
        in_channels: int | None = None,
        remove_self_loops: bool = True,
        degree_norm: bool = True,
        edge_weight_norm: bool = False,
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
            remove_self_loops=remove_self_loops,
            degree_norm=degree_norm,
            **unknown,
        )
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha={alpha!r}: the share of the motif cut lies in [0, 1]")
        self.alpha, self.mu, self.hosc_ortho = alpha, mu, hosc_ortho
        self.edge_weight_norm = edge_weight_norm

    def expect(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:
        s.expect(x, a, gram=not self.hosc_ortho, volume=True)

    def assess(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:  # type: ignore[override]
        super().assess(s, x, a)
        ortho = self.per_graph(_spread_out(s), a.nodes) if self.hosc_ortho else orthogonality_loss(s, a.nodes)
        self.add_loss("ortho", self.mu * ortho)

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        m = self.product(a, s)
        with torch.autocast(s.s.device.type, enabled=False):
            cut = self._cut(a, m, s) / s.k
        self.add_loss("hosc", self.per_graph(cut, a.nodes))
        return self.finish(m)

    def finish(self, m: Dense) -> Dense:  # type: ignore[override]
        return post_process(m, self.remove_self_loops, self.degree_norm, self.edge_weight_norm)

    def _cut(self, a: Matrix, m: Dense, s: DenseSelection) -> Tensor:
        """(1 - alpha) cut(A) + alpha cut(A^3) of each graph: [b]."""
        cut = (1.0 - self.alpha) * normalized_cut(m.value.diagonal(dim1=1, dim2=2).sum(-1), s.volume(a))
        if self.alpha == 0:
            return cut
        within = s.nodes.sum(s.s * a.matmul(a.matmul(a.matmul(s.s)))).sum(-1)
        return cut + self.alpha * normalized_cut(within, s.weighted(a.matmul(a.matmul(a.degree()))))


def _spread_out(s: DenseSelection) -> Tensor:
    """(sqrt(k) - 1/sqrt(n) sum_c ||S_:c||) / (sqrt(k) - 1) of each graph, 0 for one cluster or no nodes: [b]."""
    if s.s.shape[-1] == 1:
        return s.s.new_zeros(s.nodes.num_graphs)
    length = root(s.nodes.sum(s.s.square())).sum(-1) / s.nodes.sizes.clamp(min=1).to(s.s.dtype).sqrt()
    return ((s.k**0.5 - length) / (s.k**0.5 - 1.0)).masked_fill(s.nodes.sizes == 0, 0.0)
