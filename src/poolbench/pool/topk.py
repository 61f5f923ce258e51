"""TopKPool: Gao & Ji, "Graph U-Nets", ICML 2019, arXiv 1905.05178; Cangea et al., "Towards Sparse Hierarchical Graph
Classifiers", 2018, arXiv 1811.01287."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Matrix, Ragged, Sparse, merged_entries
from poolbench.linalg.spgemm import spgemm
from poolbench.pool.base.gnn import GNN, made, scores
from poolbench.pool.base.layers import Activation, Constraint, Initializer, Linear, Regularizer, activation, not_half
from poolbench.pool.base.src import KeptSelection, Selection, SparseSelection, SRCPool


class ScorePool(SRCPool):
    """Base of the operators that score the nodes and keep the best of each graph.

        y  = score(X, A)                        [n]
        s  = of each graph the ceil(ratio n) nodes with the largest y, in input order
        X' = (X * gate(y))[s],   A' = A[s, s]

    Of equal scores the lower node comes first. The gradient flows through the gate, not through the choice.

    Args:
        ratio: in (0, 1], the share of nodes to keep: ceil(ratio n - 1e-6) in float64, at least one of each graph
            that has nodes (1.0 keeps all); or a whole number >= 2, a number of nodes. The integer 1 keeps all too.
        return_selection: also return the selection: its `mask` [n] (0/1), `kept` indices and `dense()` matrix.
        return_score: return y too; False leaves it out.
    """

    pooled_edges = "kept"

    def __init__(
        self, ratio: float | int = 0.5, return_selection: bool = False, return_score: bool = True, **unknown: Any
    ) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        self.ratio = check_ratio(ratio)
        self.return_score = return_score

    def score(self, x: Tensor, a: Matrix) -> Tensor:
        """A number a node: [n]."""
        raise NotImplementedError

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> KeptSelection:
        nodes = a.sparse().nodes
        y = self.score(x, a)
        kept = self.choose(y.detach(), nodes)
        if self.return_score:
            self._score = y
        gate = self.gate(y)
        weight = None if gate is None else gate.index_select(0, kept)
        return SparseSelection.keep(kept, weight, nodes, increasing=True)

    def choose(self, y: Tensor, nodes: Ragged) -> Tensor:
        """The nodes to keep, in increasing number: [k]."""
        return top_k(y, nodes, self.ratio)

    def gate(self, y: Tensor) -> Tensor | None:
        """What multiplies the features of a node: [n], None for nothing."""
        return None


class GatedPool(ScorePool):
    """Base of the operators whose score is learned, and multiplies the features of the nodes that are kept.

        gate(y) = multiplier tanh(y),   or another `nonlinearity`

    With `min_score`, y is replaced by its softmax over the nodes of each graph, which is the gate too, and the nodes
    with y_i > min(min_score, max y - 1e-7) are kept in place of a share, at least one of each graph.

    Args:
        ratio, return_selection, return_score: see `ScorePool`. With `min_score` the ratio has no say.
        sigmoid_gating: Spektral's word for `nonlinearity="sigmoid"`.
        kernel_initializer, kernel_regularizer, kernel_constraint: of the projection, under Keras's names.
        in_channels: f, inferred at the first call where it is None.
        min_score: in [0, 1], keep by score, not by `ratio`: PyTorch Geometric's, as are the two that follow.
        multiplier: of the pooled features.
        nonlinearity: of the gate, an increasing function or its name. Nodes are ranked by y itself.
        gnn: what gives y in place of the operator's own formula: a module, called as gnn(x, edge_index) with
            edge_weight where it takes one, as gnn(x, a) where its second parameter has that name, or as gnn(x), for
            [n, 1]; or a class, from which gnn(in_channels, 1) makes one, such as `torch_geometric.nn.GATConv`.

    Raises: ValueError for an argument out of these, TypeError for a gnn that is no module.
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        return_selection: bool = False,
        return_score: bool = True,
        sigmoid_gating: bool = False,
        kernel_initializer: Initializer = "glorot_uniform",
        kernel_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        in_channels: int | None = None,
        min_score: float | None = None,
        multiplier: float = 1.0,
        nonlinearity: Activation = "tanh",
        gnn: GNN | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(ratio, return_selection, return_score, **unknown)
        if sigmoid_gating and nonlinearity not in ("tanh", "sigmoid"):
            raise ValueError(f"sigmoid_gating=True and nonlinearity={nonlinearity!r}: give one of them")
        self.sigmoid_gating = sigmoid_gating
        self.nonlinearity = activation("sigmoid" if sigmoid_gating else nonlinearity)
        self.min_score, self.multiplier = check_min_score(min_score), multiplier
        self.gnn = made(gnn, in_channels, 1)
        if self.gnn is None:
            self.projection = Linear(
                in_channels,
                1,
                bias=False,
                kernel_initializer=kernel_initializer,
                kernel_regularizer=kernel_regularizer,
                kernel_constraint=kernel_constraint,
            )

    def project(self, x: Tensor, a: Matrix) -> Tensor:
        """The operator's own score: [n]."""
        raise NotImplementedError

    def score(self, x: Tensor, a: Matrix) -> Tensor:
        y = self.project(x, a) if self.gnn is None else scores(self.gnn, x, a)
        return y if self.min_score is None else a.sparse().nodes.softmax(not_half(y))

    def choose(self, y: Tensor, nodes: Ragged) -> Tensor:
        return super().choose(y, nodes) if self.min_score is None else above(y, nodes, self.min_score)

    def gate(self, y: Tensor) -> Tensor:
        gate = self.nonlinearity(y) if self.min_score is None else y
        return gate if self.multiplier == 1.0 else self.multiplier * gate


class TopKPool(GatedPool):
    """Keeps the nodes with the largest projection on a trainable vector: y = X p / ||p||.

    With `min_score`, y = softmax(X p) as in PyTorch Geometric: the length of p then says how far apart the nodes are.
    Cost O(n f + n log n + E). With `squared` also O(t log t), t the walks of two edges. No losses.

    Args:
        ratio, and all others: see `GatedPool`.
        squared: A' = (A + I)^2 [s, s] without its diagonal, so that kept nodes hear those two edges away: Gao & Ji's
            "graph connectivity augmentation", with self-loops as in their code and in PyTorch Geometric's GraphUNet.
            (Their code sets all entries to 1 and divides by row sums.)
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        return_selection: bool = False,
        return_score: bool = True,
        *,
        squared: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(ratio, return_selection, return_score, **others)
        self.squared = squared
        if squared:
            self.pooled_edges = ""

    def connect(self, a: Matrix, s: Selection) -> Matrix:
        return s.connect(a.view(two_steps) if self.squared else a)

    def project(self, x: Tensor, a: Matrix) -> Tensor:
        y = self.projection(x).squeeze(-1)
        if self.min_score is not None:
            return y
        return y * self.projection.weight.square().sum().clamp(min=1e-12).rsqrt()


def two_steps(a: Matrix) -> Sparse:
    """(A + I)^2 without its diagonal. A view (`Matrix.view`)."""
    loops = merged_entries(a.add_identity())
    csr = loops.crow, loops.col, loops.weights
    crow, col, value = spgemm(csr, csr, loops.nodes.num_rows)
    return Sparse(crow, col, value, loops.nodes, a.symmetric, distinct=True).without_diagonal()


def check_ratio(ratio: float | int) -> float | int:
    """The ratio, or ValueError with what it may be."""
    whole = isinstance(ratio, int) and not isinstance(ratio, bool)
    if whole and ratio >= 1:
        return ratio
    if isinstance(ratio, float) and 0.0 < ratio <= 1.0:
        return ratio
    raise ValueError(f"ratio={ratio!r}: give a share of the nodes in (0, 1], or a whole number of nodes >= 2")


def check_min_score(min_score: float | None) -> float | None:
    """The bar, or ValueError with what it may be: no softmax lies outside."""
    if min_score is not None and not 0.0 <= min_score <= 1.0:
        raise ValueError(f"min_score={min_score!r}: a share of the softmax in [0, 1] is expected, or None")
    return min_score


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


def above(y: Tensor, nodes: Ragged, min_score: float) -> Tensor:
    """The nodes with y > min(min_score, the largest y of their graph - 1e-7), in increasing number: [k]."""
    bar = (nodes.max(y) - 1e-7).clamp(max=min_score)
    return (y > nodes.expand(bar)).nonzero(as_tuple=True)[0]


def _by_score(y: Tensor, nodes: Ragged) -> Tensor:
    """The nodes graph by graph in decreasing order of y [n], equal ones by node number: [n]."""
    if y.dtype == torch.float64:
        return nodes.together(torch.argsort(y, descending=True, stable=True))
    # The bits of a float, those below its sign inverted where it is negative, are ordered as floats are: one sort
    # instead of two. -0 becomes 0.
    bits = (y.to(torch.float32) + 0.0).view(torch.int32)
    rank = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return ((nodes.index << 32) - rank).argsort(stable=True)
