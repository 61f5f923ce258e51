"""CGIPool: Pang, Zhao, Li, "Graph Pooling via Coarsened Graph Infomax", SIGIR 2021, arXiv 2105.01275."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.linalg import Matrix, Ragged
from poolbench.pool.base.convs import GraphConv, TorchLinear, pattern
from poolbench.pool.base.layers import not_half
from poolbench.pool.base.selection import KeptSelection, Selection
from poolbench.pool.base.src import SoftPool, SparseSelection
from poolbench.pool.topk import ScorePool, top_k

CONTRASTS = ("one", "all")


class TransformedSelection(KeptSelection):
    """Nodes that are kept, and H [n, f], which the call that chose them reduces in place of X."""

    h: Tensor | None

    @classmethod
    def of(cls, s: KeptSelection, h: Tensor) -> TransformedSelection:
        made = cls(s.node, s.cluster, s.weight, s.nodes, s.pooled, s.increasing)
        made.h = h
        return made

    def taken(self) -> Tensor | None:
        """H, once: who is handed the selection later may have other features or weights."""
        h, self.h = self.h, None
        return h


class CGIPool(ScorePool):
    r"""Keeps the nodes that speak for the graph rather than against it, told apart by a discriminator.

        H  = LeakyReLU(conv_0(X, A))                                  [n, f]
        p  = conv_2(LeakyReLU(conv_1(X, A)), A),   q = conv_4(LeakyReLU(conv_3(X, A)), A)    [n]
        y  = p - q
        s  = of each graph the ceil(ratio n) nodes with the largest y, in input order
        X' = (tanh(y) H)[s],   A' = A[s, s]
        L_discrimination = -(ln D(r_p, r) + ln(1 - D(r_q, r))) / 2       a mean over graphs
        r  = mean_i h_i,   r_p = tanh(p_j) h_j,  j the node with the largest p,   r_q likewise

    with graph convolutions conv(X, A) = X W1 + A X W2 + b, LeakyReLU of slope 0.2 and the discriminator
    D(u, v) = sigmoid(w . LeakyReLU(W [u || v] + b) + c). Of equal y the lower node comes first. The gradient flows
    through tanh(y) and the loss, not through the choice. The convolutions see no weights of edges, as in the authors'
    code, which the pooled graph keeps. y is the returned score. Cost O(E f + n f^2).

    Where sources differ: r_p and r_q stand for coarsened graphs in the paper. The authors' code asks PyTorch Geometric
    for topk(p, 1), which is one node today, and was all nodes up to version 1.5 at least; `contrast="all"` takes the
    mean over all nodes j. The authors add the loss times 0.001 (`loss_weights`), a mean over their levels. The loss
    does not ask which nodes were kept: it is that of a call that chooses, not of one that is handed its selection.

    Args:
        ratio, return_selection, return_score: see `ScorePool`.
        contrast: "one" or "all", as above.
        in_channels: f, inferred at the first call where it is None.

    Raises: ValueError for an argument out of these.
    """

    def __init__(
        self,
        ratio: float | int = 0.8,
        contrast: str = "one",
        return_selection: bool = False,
        return_score: bool = True,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(ratio, return_selection, return_score, **unknown)
        if contrast not in CONTRASTS:
            raise ValueError(f"contrast={contrast!r} is not one of {', '.join(CONTRASTS)}")
        self.contrast = contrast
        self.transform = GraphConv(in_channels)
        self.positive, self.negative = _Side(in_channels), _Side(in_channels)
        self.discriminator = _Discriminator(in_channels)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> TransformedSelection:
        nodes = a.sparse().nodes
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
            h, p, q = self.views(x, a)
            y = p - q
            kept = self.choose(y.detach(), nodes)
            self.add_loss("discrimination", self.discrimination(h, p, q, nodes))
        if self.return_score:
            self._score = y
        weight = torch.tanh(y).index_select(0, kept)
        return TransformedSelection.of(SparseSelection.keep(kept, weight, nodes, increasing=True), h)

    def views(self, x: Tensor, a: Matrix) -> tuple[Tensor, Tensor, Tensor]:
        """H [n, f], p and q [n], in float32 at least."""
        x, edges = not_half(x), a.view(pattern)
        near = edges.matmul(x)  # which three convolutions share
        h = _leaky(self.transform.combine(x, near))
        return h, self.positive(x, near, edges), self.negative(x, near, edges)

    def discrimination(self, h: Tensor, p: Tensor, q: Tensor, nodes: Ragged) -> Tensor:
        """The loss: a scalar."""
        summary, whole = _best if self.contrast == "one" else _mean, nodes.mean(h)
        for_it, against = (self.discriminator(summary(h, v, nodes), whole) for v in (p, q))
        values = (F.softplus(-for_it) + F.softplus(against)) / 2.0
        return SoftPool.per_graph(values.masked_fill(nodes.sizes == 0, 0.0), nodes)

    def reduce(self, x: Tensor, s: Selection, a: Matrix | None = None) -> Tensor:
        h = s.taken() if isinstance(s, TransformedSelection) else None
        if h is None:
            with torch.autocast(x.device.type, enabled=False):
                h = _leaky(self.transform(x, a))
        return s.reduce(h.to(x.dtype))


class _Side(nn.Module):
    """A score a node from two convolutions: p or q."""

    def __init__(self, in_channels: int | None) -> None:
        super().__init__()
        self.hidden, self.score = GraphConv(in_channels), GraphConv(in_channels, 1)

    def forward(self, x: Tensor, near: Tensor, edges: Matrix) -> Tensor:
        """x [n, f], what each node hears of it and the graph: [n]."""
        return self.score(_leaky(self.hidden.combine(x, near)), edges).squeeze(-1)


class _Halving(TorchLinear):
    """A linear layer half as wide as its input."""

    def initialize_parameters(self, x: Tensor) -> None:
        self.out_features = x.shape[-1] // 2
        super().initialize_parameters(x)


class _Discriminator(nn.Module):
    """The logit of D(u, v): two [b, f] -> [b]."""

    def __init__(self, in_channels: int | None) -> None:
        super().__init__()
        self.hidden = _Halving(None if in_channels is None else 2 * in_channels)
        self.logit = TorchLinear(in_channels, 1)

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        return self.logit(_leaky(self.hidden(torch.cat([u, v], -1)))).squeeze(-1)


def _mean(h: Tensor, v: Tensor, nodes: Ragged) -> Tensor:
    """mean_j tanh(v_j) h_j of each graph: [b, f]."""
    return nodes.mean(torch.tanh(v).unsqueeze(-1) * h)


def _best(h: Tensor, v: Tensor, nodes: Ragged) -> Tensor:
    """tanh(v_j) h_j for the node j of each graph with the largest v, 0 where there is none: [b, f]."""
    best = top_k(v.detach(), nodes, 1e-9)  # no share keeps less than one node
    rows = torch.tanh(v.index_select(0, best)).unsqueeze(-1) * h.index_select(0, best)
    return h.new_zeros(nodes.num_graphs, h.shape[1]).index_copy(0, nodes.index.index_select(0, best), rows)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
