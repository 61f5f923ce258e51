"""GSAPool: Zhang, Wang, Li, Zhu, Shen, Li, Lu, Shah, Bennamoun, "Structure-Feature based Graph Self-adaptive Pooling",
WWW 2020, arXiv 2002.00848."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Matrix
from poolbench.pool.base.convs import TorchLinear, conv, pattern
from poolbench.pool.base.gnn import GNN, called, scores
from poolbench.pool.base.layers import not_half
from poolbench.pool.base.selection import Selection
from poolbench.pool.topk import ScorePool


class GSAPool(ScorePool):
    r"""Keeps the nodes that a graph convolution and a linear layer together score highest, after features were fused.

        y  = alpha GNN1(X, A) + (1 - alpha) (X w + b)        [n], the score from structure and that from features
        s  = of each graph the ceil(ratio n) nodes with the largest y, in input order
        X' = (multiplier tanh(y) H)[s],   A' = A[s, s]
        H  = GNN2(X, A), so that a node that is dropped leaves something with its neighbours

    Of equal scores the lower node comes first. The gradient flows through tanh(y), not through the choice. The layers
    see no weights of edges, as in the authors' code, which the pooled graph keeps; they add self-loops of their own.
    The nodes are ranked by y, which is the returned score; the authors rank by tanh(y), in which large ones tie. Left
    out: `min_score`, which cannot run there. Cost O(E f + n f^2). No losses.

    Args:
        ratio, return_selection, return_score: see `ScorePool`.
        alpha: share of the structure in the score, in [0, 1].
        pooling_conv: GNN1, with one output: "gcn", "sage", "gat", "graphconv" or "cheb"
            (`poolbench.pool.base.convs`), a module or a class as `gnn` of `GatedPool` takes them.
        fusion_conv: GNN2, likewise, with as many outputs as inputs; None for H = X. The class of the authors names
            none and does not run so; their script takes "gat".
        multiplier: of the pooled features.
        in_channels: f, inferred at the first call where it is None.

    Raises: ValueError for an argument out of these.
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        alpha: float = 0.6,
        pooling_conv: str | GNN = "gcn",
        fusion_conv: str | GNN | None = "gat",
        multiplier: float = 1.0,
        return_selection: bool = False,
        return_score: bool = True,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(ratio, return_selection, return_score, **unknown)
        if not (isinstance(alpha, float | int) and 0.0 <= alpha <= 1.0):
            raise ValueError(f"alpha={alpha!r}: a share of the structure in [0, 1] is expected")
        self.alpha, self.multiplier = alpha, multiplier
        self.structure = conv("pooling_conv", pooling_conv, in_channels, 1)
        self.features = TorchLinear(in_channels, 1)
        self.fusion = None if fusion_conv is None else conv("fusion_conv", fusion_conv, in_channels)

    def score(self, x: Tensor, a: Matrix) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
            x = not_half(x)
            structure = scores(self.structure, x, a.view(pattern)).to(x.dtype)
            return self.alpha * structure + (1.0 - self.alpha) * self.features(x).squeeze(-1)

    def gate(self, y: Tensor) -> Tensor:
        return self.multiplier * torch.tanh(y)

    def reduce(self, x: Tensor, s: Selection, a: Matrix | None = None) -> Tensor:
        return s.reduce(x if self.fusion is None or a is None else self.fuse(x, a))

    def fuse(self, x: Tensor, a: Matrix) -> Tensor:
        """H, in the type of x: [n, f]."""
        assert self.fusion is not None
        with torch.autocast(x.device.type, enabled=False):
            return called(self.fusion, x, a.view(pattern)).to(x.dtype)
