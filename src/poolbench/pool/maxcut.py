"""MaxCutPool: Abate, Bianchi, "MaxCutPool: Differentiable Feature-aware Maxcut for Pooling in Graph Neural Networks",
ICLR 2025, arXiv 2409.05100."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import Matrix, Propagation, Sparse
from poolbench.linalg.products import invert, pointers
from poolbench.pool.base.draws import mix
from poolbench.pool.base.layers import Activation, Initializer, Linear, SquareLinear, activation, not_half
from poolbench.pool.base.partition import CentredPartition, KeptCentres
from poolbench.pool.base.partitionpool import PartitionPool
from poolbench.pool.base.src import SoftPool
from poolbench.pool.topk import check_ratio, top_k

TIES = ("score", "node")


class MaxCutPool(PartitionPool):
    r"""Keeps nodes on one side of a large cut, found by a score network, and gives the others to neighbours of theirs.

        z   = scores of the network, in (-1, 1)                                    [n], see `ScoreNetwork`
        K   = of each graph the ceil(ratio n) nodes with the largest z
        c(i): a kept node is its own cluster; then, up to max_iter times, each node without one takes the cluster that
              most of its neighbours have (ties: see `ties`); what is left goes to a drawn kept node of its graph
        S_i,c(i) = z_i,   X' = S'X,   A'_ab = sum of A_ij over i in a, j in b, a != b, divided by the graph's largest
        L_maxcut = loss_coeff z'Az / sum_ij A_ij                        0 for a graph without edges; mean over graphs

    L is least where adjacent nodes have scores of opposite sign. The gradient flows through z and through X and A; K
    and c are constants for it.

    Decisions, where sources differ:

    * Kept nodes stay in input order, and features and edges agree. With `assign_all_nodes=False` tgp orders the rows
      of X' by falling score and numbers the edges by node.
    * Every node takes part in the propagation. tgp leaves isolated nodes at the end of the batch out of it; their
      diagonal entry is 1 - delta.
    * Of two clusters that equally many neighbours have, tgp takes the one whose kept node comes first in the graph, so
      that the answer depends on how nodes are numbered; here it is the one whose kept node has the larger score.
      Ties are the rule in small graphs. `ties="node"` gives tgp's answer.
    * tgp sends the nodes out of reach to random kept nodes. Here the draw is a hash of the node's place among the
      scores of its graph, so that a graph gets the same clusters each time and in each batch.
    * `ratio` 1.0 keeps all nodes; tgp takes it for a number and keeps one.
    * In a directed graph a node's neighbours are those with an edge to it, as in tgp; an edge of weight 0 is none.

    Cost O(E w + n w^2) a layer of width w, and O(E log E) a round of the assignment.

    Args:
        ratio: as for TopKPool, a share in (0, 1] or a whole number of nodes >= 2.
        assign_all_nodes: False: S has rows for the kept nodes alone, X' = z_k x_k; A' is as above.
        max_iter: rounds of the assignment, at least 0.
        ties: "score" or "node".
        loss_coeff: factor of the loss.
        mp_units, mp_activation, mlp_units, mlp_activation, score_activation, delta: of the score network.
        edge_weight_norm: divide A' by the largest |weight| of its graph.
        return_score: return z too; False leaves it out.
        kernel_initializer, bias_initializer: of every layer of the score network.
        in_channels: f, inferred at the first call where it is None.
        remove_self_loops, connect_red_op, degree_norm, return_selection, reduce: see `PartitionPool`.

    Raises: ValueError for an argument out of these.
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        assign_all_nodes: bool = True,
        max_iter: int = 5,
        ties: str = "score",
        loss_coeff: float = 1.0,
        mp_units: Sequence[int] = (32, 32, 32, 32),
        mp_activation: Activation = "tanh",
        mlp_units: Sequence[int] = (16, 16),
        mlp_activation: Activation = "relu",
        score_activation: Activation = "tanh",
        delta: float = 2.0,
        edge_weight_norm: bool = True,
        return_score: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(edge_weight_norm=edge_weight_norm, **unknown)
        if ties not in TIES:
            raise ValueError(f"ties={ties!r}: one of {', '.join(TIES)}")
        self.ratio, self.ties = check_ratio(ratio), ties
        self.assign_all_nodes, self.max_iter = assign_all_nodes, whole("max_iter", max_iter, 0)
        self.loss_coeff, self.return_score = loss_coeff, return_score
        self.network = ScoreNetwork(
            in_channels, mp_units, mp_activation, mlp_units, mlp_activation, score_activation, delta,
            kernel_initializer=kernel_initializer, bias_initializer=bias_initializer,
        )  # fmt: skip

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> CentredPartition | KeptCentres:
        a = a.sparse()
        with torch.autocast(x.device.type, enabled=False):
            z = self.network(not_half(x), a)
            self.add_loss("maxcut", self.loss_coeff * SoftPool.per_graph(cut(z, a), a.nodes))
        if self.return_score:
            self._score = z
        kept = top_k(z.detach(), a.nodes, self.ratio)
        s = CentredPartition.around(self.assign(kept, z.detach(), a), z, a.nodes)
        return s if self.assign_all_nodes else s.of_centres()

    def assign(self, kept: Tensor, z: Tensor, a: Sparse) -> Tensor:
        """The kept node that each node belongs to: [n] int64."""
        if self.ties == "node":
            rank = torch.arange(z.numel(), device=z.device)
        else:
            rank = invert(torch.argsort(z, descending=True, stable=True))
        return follow(kept, a, rank, self.max_iter)

    def connect(self, a: Matrix, s: CentredPartition | KeptCentres) -> Sparse:  # type: ignore[override]
        return super().connect(a, s.whole if isinstance(s, KeptCentres) else s)


class ScoreNetwork(nn.Module):
    r"""A score a node, from layers that pass on the difference of a node to its neighbours.

        H_0 = X W + b                                              [n, f]
        H_l = mp_activation(P H_l-1 W_l + b_l)                     P = I - delta (I - D^-1/2 A D^-1/2)
        z   = score_activation(MLP(H_L))                           of widths `mlp_units`, 1, hidden layers activated

    Args:
        in_channels: f, inferred at the first call where it is None.
        mp_units, mlp_units: widths, either may be empty.
        mp_activation, mlp_activation, score_activation: activations, under Keras's names (`pool.base.layers`).
        delta: the larger, the more P amplifies what sets neighbours apart: a frequency in [0, 2] is multiplied by
            1 - delta times it.
        options: initialisers of every layer.
    """

    def __init__(
        self,
        in_channels: int | None,
        mp_units: Sequence[int],
        mp_activation: Activation,
        mlp_units: Sequence[int],
        mlp_activation: Activation,
        score_activation: Activation,
        delta: float,
        **options: Any,
    ) -> None:
        super().__init__()
        if any(width < 1 for width in (*mp_units, *mlp_units)):
            raise ValueError(f"mp_units={list(mp_units)}, mlp_units={list(mlp_units)}: widths are at least 1")
        self.propagation = Propagation(delta)
        self.mp_activation, self.mlp_activation = activation(mp_activation), activation(mlp_activation)
        self.score_activation = activation(score_activation)
        self.first = SquareLinear(in_channels, **options)
        widths = [in_channels, *mp_units]
        self.mp = nn.ModuleList(Linear(n, m, **options) for n, m in zip(widths, mp_units, strict=False))
        widths = [widths[-1], *mlp_units]
        self.mlp = nn.ModuleList(Linear(n, m, **options) for n, m in zip(widths, mlp_units, strict=False))
        self.last = Linear(widths[-1], 1, **options)

    def forward(self, x: Tensor, a: Sparse) -> Tensor:
        """x [n, f] -> [n]."""
        p = a.view(self.propagation)
        x = self.first(x)
        for layer in self.mp:
            x = self.mp_activation(layer(p.matmul(x)))
        for layer in self.mlp:
            x = self.mlp_activation(layer(x))
        return self.score_activation(self.last(x)).squeeze(-1)


def cut(z: Tensor, a: Sparse) -> Tensor:
    """z'Az / sum_ij A_ij of each graph, 0 where the sum is: [b]. For z in {-1, 1}: 1 - 2 (weight cut) / (weight)."""
    total = a.total().to(z.dtype)
    none = total == 0
    return (a.nodes.sum(z * a.matmul(z)) / torch.where(none, 1.0, total)).masked_fill(none, 0.0)


@torch.no_grad()
def follow(kept: Tensor, a: Sparse, rank: Tensor, max_iter: int) -> Tensor:
    """The kept node that each node belongs to: [n] int64. See `MaxCutPool`, c.

    Args:
        kept: [k] int64, at least one of each graph that has nodes.
        rank: [n] int64, a permutation of 0 to n - 1: of equally frequent clusters the one whose kept node has the
            smallest is taken; it also stands for the node where one is drawn.
    """
    n, nodes, at_rank = rank.numel(), a.nodes, invert(rank)
    centre = torch.full_like(rank, -1)
    centre[kept] = kept
    real = a.weights != 0
    source, target = a.col[real], a.row[real]
    for _ in range(max_iter):
        (open_,) = ((centre[target] < 0) & (centre[source] >= 0)).nonzero(as_tuple=True)
        if not open_.numel():
            break
        votes, count = torch.unique(target[open_] * n + rank[centre[source[open_]]], return_counts=True)
        order = torch.argsort(count, descending=True, stable=True)
        order = order[torch.argsort(votes[order] // n, stable=True)]
        node, choice = votes[order] // n, votes[order] % n
        first = torch.ones_like(node, dtype=torch.bool)
        first[1:] = node[1:] != node[:-1]
        centre[node[first]] = at_rank[choice[first]]

    kept = nodes.together(at_rank[rank[kept].sort().values])
    start = pointers(nodes.index[kept], nodes.num_graphs)
    draws = torch.empty_like(rank).index_copy_(0, nodes.together(at_rank), mix(nodes.numbers))
    (lost,) = (centre < 0).nonzero(as_tuple=True)
    graph = nodes.index[lost]
    centre[lost] = kept[start[graph] + draws[lost] % start.diff()[graph]]
    return centre
