"""MinCutPool: Bianchi, Grattarola, Alippi, "Spectral Clustering with Graph Neural Networks for Graph Pooling",
ICML 2020, arXiv 1907.00481."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import SYMMETRIC, Matrix, Nodes
from poolbench.linalg.products import Written, call, through
from poolbench.pool.base.layers import root
from poolbench.pool.base.mlppool import MLPPool
from poolbench.pool.base.src import DenseSelection, SoftPool


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
    normalised = True

    def expect(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:
        s.expect(x, a, gram=True, volume=True)

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        m = self.product(a, s)
        cut, ortho = cut_and_orthogonality(m.value, s.gram, s.volume(a), s.k)
        self.add_loss("cut", self.per_graph(cut, a.nodes))
        self.add_loss("ortho", self.per_graph(ortho, a.nodes))
        return self.finish(m)


def _formulas(m: Tensor, gram: Tensor, volume: Tensor, k: int | Tensor) -> tuple[Tensor, Tensor]:
    return normalized_cut(m.diagonal(dim1=1, dim2=2).sum(-1), volume), orthogonality(gram, k)


class _CutAndOrthogonality(Written):
    """Both terms of each graph, with their derivatives written out: dozens of small operations less a step.

    d cut / dM = -I / v,  d cut / dv = Tr(M) / v^2,  d ortho / dG = (Tr(G) G / |G|^2 - I) / (sqrt(k) |G| ortho).
    """

    formula = staticmethod(_formulas)

    @staticmethod
    def forward(ctx: Any, m: Tensor, gram: Tensor, volume: Tensor, k: int) -> tuple[Tensor, Tensor]:
        edgeless = volume == 0
        share = volume.masked_fill(edgeless, torch.inf).reciprocal()
        cut = -share * m.diagonal(dim1=1, dim2=2).sum(-1)
        wide = gram.to(torch.float64)
        norm = torch.linalg.vector_norm(wide, dim=(1, 2)).clamp(min=torch.finfo(wide.dtype).tiny)
        trace = wide.diagonal(dim1=1, dim2=2).sum(-1)
        scale = norm * k**0.5
        ortho = ((scale - trace) * 2.0 / scale).clamp_(min=0.0).sqrt_().masked_fill_(trace == 0, 0.0)
        ctx.save_for_backward(m, gram, volume, share, cut, norm, trace, scale, ortho)
        ctx.k = k
        return cut, ortho.to(gram.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        m, gram, volume, share, cut, norm, trace, scale, ortho = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *through(lambda m, g, v: _formulas(m, g, v, ctx.k), [m, gram, volume], grads), None
        grad_cut, grad_ortho = grads
        grad_m = torch.zeros_like(m)
        grad_m.diagonal(dim1=1, dim2=2).copy_((-grad_cut * share).unsqueeze(-1))
        step = (grad_ortho / (scale * ortho)).masked_fill_(ortho == 0, 0.0)
        grad_gram = gram * (step * trace / norm.square()).to(gram.dtype).reshape(-1, 1, 1)
        grad_gram.diagonal(dim1=1, dim2=2).sub_(step.to(gram.dtype).unsqueeze(-1))
        return grad_m, grad_gram, -grad_cut * cut * share, None


def cut_and_orthogonality(m: Tensor, gram: Tensor, volume: Tensor, k: int | Tensor) -> tuple[Tensor, Tensor]:
    """`normalized_cut` and `orthogonality` of each graph, given S'AS, S'S, Tr(S'DS) and its number of clusters: [b]."""
    if isinstance(k, int):
        return call(_CutAndOrthogonality, m, gram, volume, k)
    return _formulas(m, gram, volume, k)


def normalized_cut(within: Tensor, volume: Tensor) -> Tensor:
    """-Tr(S'AS) / Tr(S'DS) of each graph, 0 where it has no edges: [b]."""
    edgeless = volume == 0
    return -within.masked_fill(edgeless, 0.0) / volume.masked_fill(edgeless, 1.0)


def orthogonality(gram: Tensor, k: int | Tensor) -> Tensor:
    """|| S'S / ||S'S||_F - I / sqrt(k) ||_F of each graph, small for balanced, crisp clusters, 0 without nodes: [b]."""
    # The squared distance of a matrix of norm 1 from another one is 2 - 2 <., .>, in float64 where that cancels.
    wide = gram.to(torch.float64)
    norm = torch.linalg.matrix_norm(wide)
    scale = norm * (k.to(norm.dtype).sqrt() if isinstance(k, Tensor) else k**0.5)
    empty = norm == 0
    inner = wide.diagonal(dim1=1, dim2=2).sum(-1) / scale.masked_fill(empty, 1.0)
    return root(2.0 - 2.0 * inner).masked_fill(empty, 0.0).to(gram.dtype)


def orthogonality_loss(s: DenseSelection, nodes: Nodes) -> Tensor:
    """`orthogonality`, averaged over graphs."""
    return SoftPool.per_graph(orthogonality(s.gram, s.k), nodes)
