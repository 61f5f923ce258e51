"""TopKPool: Gao & Ji, "Graph U-Nets", ICML 2019, arXiv 1905.05178; Cangea et al., "Towards Sparse Hierarchical Graph
Classifiers", 2018, arXiv 1811.01287."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Matrix, Ragged
from poolbench.pool.base.layers import Constraint, Initializer, Linear, Regularizer
from poolbench.pool.base.src import KeptSelection, SparseSelection, SRCPool


class ScorePool(SRCPool):
    """Base of the operators that score the nodes, keep the best of each graph and gate their features.

        y  = score(X, A)                        [n]
        s  = of each graph the ceil(ratio n) nodes with the largest y, in input order
        X' = (X * gate(y))[s],   A' = A[s, s]    gate tanh, or a sigmoid

    Of equal scores the lower node comes first. The gradient flows through the gate, not through the choice.

    Args:
        ratio: in (0, 1], the share of nodes to keep: ceil(ratio n - 1e-6) in float64, at least one of each graph
            that has nodes (1.0 keeps all); or a whole number >= 2, a number of nodes. The integer 1 keeps all too.
        return_selection: also return the selection: its `mask` [n] (0/1), `kept` indices and `dense()` matrix.
        return_score: return y too; False leaves it out.
        sigmoid_gating: gate with a sigmoid instead of a tanh.
    """

    pooled_edges = "kept"

    def __init__(
        self,
        ratio: float | int,
        return_selection: bool = False,
        return_score: bool = True,
        sigmoid_gating: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        self.ratio = check_ratio(ratio)
        self.return_score = return_score
        self.sigmoid_gating = sigmoid_gating

    def score(self, x: Tensor, a: Matrix) -> Tensor:
        """A number a node: [n]."""
        raise NotImplementedError

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> KeptSelection:
        nodes = a.sparse().nodes
        y = self.score(x, a)
        kept = top_k(y.detach(), nodes, self.ratio)
        if self.return_score:
            self._score = y
        gate = self.gate(y)
        weight = None if gate is None else gate.index_select(0, kept)
        return SparseSelection.keep(kept, weight, nodes, increasing=True)

    def gate(self, y: Tensor) -> Tensor | None:
        """What multiplies the features of a node: [n], None for nothing."""
        return torch.sigmoid(y) if self.sigmoid_gating else torch.tanh(y)


class TopKPool(ScorePool):
    """Keeps the nodes with the largest projection on a trainable vector: y = X p / ||p||.

    Cost O(n f + n log n + E). No losses. See `ScorePool` for what follows the score and for `ratio`,
    `return_selection`, `return_score` and `sigmoid_gating`; A is never squared (Gao & Ji do).

    Args:
        kernel_initializer, kernel_regularizer, kernel_constraint: of p, under Keras's names.
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
        y = self.projection(x).squeeze(-1)
        return y * self.projection.weight.square().sum().clamp(min=1e-12).rsqrt()


def check_ratio(ratio: float | int) -> float | int:
    """The ratio, or ValueError with what it may be."""
    whole = isinstance(ratio, int) and not isinstance(ratio, bool)
    if whole and ratio >= 1:
        return ratio
    if isinstance(ratio, float) and 0.0 < ratio <= 1.0:
        return ratio
    raise ValueError(f"ratio={ratio!r}: give a share of the nodes in (0, 1], or a whole number of nodes >= 2")


def top_k(y: Tensor, nodes: Ragged, ratio: float | int) -> Tensor:
    """The best nodes of each graph by y [n], equal ones by node number, in increasing node number: [k]."""
    sizes = nodes.sizes
    if isinstance(ratio, int) and ratio > 1:
        k = sizes.clamp(max=ratio)
    else:
        k = torch.ceil(sizes.to(torch.float64) * float(ratio) - 1e-6).to(torch.int64)
        k = torch.minimum(k.clamp(min=1), sizes)
    order = _by_score(y, nodes)
    first = torch.arange(y.numel(), device=y.device) < (nodes.ptr[:-1] + k).index_select(0, nodes.index)
    chosen = torch.empty_like(first).index_copy_(0, order, first)
    return chosen.nonzero().squeeze(-1)


def _by_score(y: Tensor, nodes: Ragged) -> Tensor:
    """The nodes graph by graph in decreasing order of y [n], equal ones by node number: [n]."""
    if y.dtype == torch.float64:
        return nodes.together(torch.argsort(y, descending=True, stable=True))
    # The bits of a float, those below its sign inverted where it is negative, are ordered as floats are: one sort
    # instead of two. -0 becomes 0.
    bits = (y.to(torch.float32) + 0.0).view(torch.int32)
    rank = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return ((nodes.index << 32) - rank).argsort(stable=True)
