"""MinCutPool: Bianchi, Grattarola, Alippi, "Spectral Clustering with Graph Neural Networks for Graph Pooling",
ICML 2020, arXiv 1907.00481."""

from __future__ import annotations

import torch
from torch import Tensor

from poolbench.linalg import SYMMETRIC, Matrix, Nodes
from poolbench.pool.mlppool import MLPPool
from poolbench.pool.src import DenseSelection, SoftPool


class MinCutPool(MLPPool):
    r"""Soft clusters from a relaxed normalised minimum cut.

        S  = softmax(MLP(X))                                      [n, k]
        X' = S'X,   M = S'AS,   A' = D'^-1/2 (M - diag M) D'^-1/2  (eq. 8)
        L_cut   = -Tr(S'AS) / Tr(S'DS)                            (eq. 6, first term)
        L_ortho = || S'S / ||S'S||_F - I_k / sqrt(k) ||_F          (eq. 6, second term)

    each a mean over graphs; D holds the row sums of A as given. A is meant to be symmetrically normalised by the
    caller (`connectivity`). A graph without edges adds 0 to L_cut. Cost O(E k + n k (k + f)) time, O(n k) memory.

    The arguments are those of `MLPPool`.
    """

    connectivity = SYMMETRIC

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        s = super().select(x, a, i)
        self.add_loss("ortho", orthogonality_loss(s, a.nodes))
        return s

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        m = super().connect(a, s)
        within = m.value.diagonal(dim1=1, dim2=2).sum(-1)
        self.add_loss("cut", self.per_graph(normalized_cut(within, a.degree(), s), a.nodes))
        return m.without_diagonal().normalize()


def normalized_cut(within: Tensor, degree: Tensor, s: DenseSelection) -> Tensor:
    """-Tr(S'AS) / Tr(S'DS) of each graph, given Tr(S'AS) [b] and the row sums of A; 0 where it has no edges: [b]."""
    volume = s.nodes.sum(degree.unsqueeze(-1) * s.s.square()).sum(-1)
    edgeless = volume == 0
    return -within.masked_fill(edgeless, 0.0) / volume.masked_fill(edgeless, 1.0)


def orthogonality_loss(s: DenseSelection, nodes: Nodes) -> Tensor:
    """|| S'S / ||S'S||_F - I / sqrt(k) ||_F of each graph, averaged over graphs: small for balanced, crisp clusters."""
    gram, k = nodes.gram(s.s, s.s), s.k
    norm = torch.linalg.matrix_norm(gram, keepdim=True)
    empty = norm == 0  # a graph without nodes
    target = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    if isinstance(k, Tensor):
        target = s.pooled.zero_padding(target.expand_as(gram)) / k.sqrt().reshape(-1, 1, 1)
    else:
        target = target / k**0.5
    distance = torch.where(empty, 0.0, gram / norm.masked_fill(empty, 1.0) - target)
    return SoftPool.per_graph(torch.linalg.matrix_norm(distance), nodes)
