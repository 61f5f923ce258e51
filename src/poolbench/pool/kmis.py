"""KMISPool: Bacciu, Conte, Landolfi, "Generalizing Downsampling from Regular Data to Graphs", AAAI 2023,
arXiv 2208.03523."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import Matrix, Sparse
from poolbench.linalg.products import invert
from poolbench.pool.base.draws import node_draws, uniform
from poolbench.pool.base.layers import Initializer, Linear, not_half
from poolbench.pool.base.partition import CentredPartition, neighbourhoods
from poolbench.pool.base.partitionpool import PartitionPool

SCORERS = ("linear", "degree", "random", "constant", "canonical")
HEURISTICS = ("greedy", "w-greedy", None)


class KMISPool(PartitionPool):
    r"""Clusters around the members of a maximal k-independent set, the nodes of high score first.

        pi  = sigmoid(X w + b)                                     [n], or another score, see `scorer`
        h   = pi / c,   c = (I + P)^k 1                            ("greedy": c counts the walks of at most k hops)
        M   : in falling order of h, each node that has no member within k hops becomes one
        c(i) = the member of largest h within k hops of i;   S_i,c(i) = pi_i
        X'  = S'X,   A'_ab = sum of A_ij over i in a, j in b, a != b

    P is the 0/1 pattern of A without self-loops. No two members are within k hops of each other, and every node is
    within k hops of one. Of equal h the lower node comes first. No losses. The gradient flows through pi (and A'); the
    members are constants for it.

    The pass is computed in rounds over the whole batch, with the same result: each node learns the best h within k hops
    among the nodes left, who finds its own is a member, and all within k hops of a member leave. Cost O(k (n + E)) a
    round and O(n f) for the scores; O(log n) rounds are expected where the order of h looks random, while an order that
    follows a path needs up to n / (k + 1).

    Decisions, where sources differ:

    * Hops ignore the direction of edges, so that the set is independent and maximal in a directed graph too; the paper
      treats undirected graphs. tgp follows incoming edges, which lets both ends of an edge join. An edge of weight 0 is
      none.
    * `canonical` counts nodes inside their graph. tgp counts over the batch, so that scores, and with "greedy" the
      members, depend on the graphs that stand before.
    * "w-greedy" of a node without neighbours and of score 0 is 0 / 0, NaN in tgp and 1 here, as for any other score.
      Such a node is a member anyway, but its features are multiplied by 0, as are those of every node of degree 0 with
      `scorer="degree"`.
    * `random` is drawn by hashing (`poolbench.pool.base.draws`): equal graphs get equal clusters, in every batch.
    * `reduce_red_op`: tgp takes every value that is not None for a sum; here it is an error.

    Without parameters (any scorer but `linear`), `precomputable` is True: S and A' depend on A alone.

    Args:
        order_k: k, a whole number of at least 1.
        scorer: "linear"; "degree", the weighted in-degree; "random", uniform on [0, 1); "constant", 1; or "canonical",
            minus the node's number.
        score_heuristic: "greedy"; "w-greedy", c = (I + P)^k pi; or None, h = pi.
        reduce_red_op: "sum", or None for the members alone: X' = pi_m x_m. `lift` is S X' with either.
        seed: of the `random` scores.
        return_score: return pi too; False leaves it out.
        kernel_initializer, bias_initializer: of w and b.
        in_channels: f, inferred at the first call where it is None.
        remove_self_loops, connect_red_op, degree_norm, edge_weight_norm, return_selection, reduce: see `PartitionPool`.

    Raises: ValueError for an argument out of these.
    """

    selects = (CentredPartition,)

    def __init__(
        self,
        order_k: int = 1,
        scorer: str = "linear",
        score_heuristic: str | None = "greedy",
        reduce_red_op: str | None = "sum",
        seed: int = 0,
        return_score: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(**unknown)
        if scorer not in SCORERS:
            raise ValueError(f"scorer={scorer!r}: one of {', '.join(SCORERS)}")
        if score_heuristic not in HEURISTICS:
            raise ValueError(f"score_heuristic={score_heuristic!r}: greedy, w-greedy or None")
        if reduce_red_op not in ("sum", None):
            raise ValueError(f"reduce_red_op={reduce_red_op!r}: sum, or None for the members alone")
        if reduce_red_op is None and self.aggregation != "sum":
            raise ValueError(f"reduce_red_op=None takes the members alone, and reduce={self.aggregation!r} all nodes")
        self.order_k, self.scorer, self.score_heuristic = whole("order_k", order_k), scorer, score_heuristic
        self.reduce_red_op, self.seed, self.return_score = reduce_red_op, seed, return_score
        self.precomputable = scorer != "linear"
        if scorer == "linear":
            self.projection = Linear(
                in_channels, 1, kernel_initializer=kernel_initializer, bias_initializer=bias_initializer
            )

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> CentredPartition:
        a = a.sparse()
        pi, pattern = self.score(x, a), neighbourhoods(a)
        if self.return_score:
            self._score = pi
        rank = self.rank(self.priority(pi.detach(), pattern))
        members = k_independent_set(pattern, rank, self.order_k)
        first = smallest_within(pattern, rank.masked_fill(~members, rank.numel()), self.order_k)
        return CentredPartition.around(invert(rank)[first], pi, a.nodes)

    def score(self, x: Tensor, a: Sparse) -> Tensor:
        """pi: [n]."""
        if self.scorer == "linear":
            with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
                return self.projection(not_half(x)).squeeze(-1).sigmoid()
        if self.scorer == "degree":
            return a.degree().to(x.dtype)
        if self.scorer == "random":
            return uniform(node_draws(a, self.seed)).to(x.dtype)
        if self.scorer == "canonical":
            return -a.nodes.numbers.to(x.dtype)
        return x.new_ones(x.shape[0])

    def priority(self, pi: Tensor, pattern: Sparse) -> Tensor:
        """h: [n] float64."""
        pi = pi.double()
        if self.score_heuristic is None:
            return pi
        count = pi if self.score_heuristic == "w-greedy" else torch.ones_like(pi)
        for _ in range(self.order_k):
            count = count + pattern.matmul(count)
        return torch.where((pi == 0) & (count == 0), 1.0, pi / count)

    def rank(self, h: Tensor) -> Tensor:
        """Place of each node in the falling order of h over the batch, equal ones by number: [n] int64."""
        return invert(torch.argsort(h, descending=True, stable=True))

    def reduce(self, x: Tensor, s: CentredPartition) -> Tensor:  # type: ignore[override]
        return s.of_centres().reduce(x) if self.reduce_red_op is None else super().reduce(x, s)


@torch.no_grad()
def k_independent_set(pattern: Sparse, rank: Tensor, k: int) -> Tensor:
    """The nodes that a greedy pass in the order of `rank` takes if no two may be within k hops: [n] bool.

    Args:
        pattern: symmetric, see `neighbourhoods`.
        rank: [n] int64, a permutation of 0 to n - 1, the smallest goes first.
    """
    left = torch.ones_like(rank, dtype=torch.bool)
    members = torch.zeros_like(left)
    while bool(left.any()):
        first = smallest_within(pattern, rank.masked_fill(~left, rank.numel()), k)
        new = left & (first == rank)
        members |= new
        left &= smallest_within(pattern, (~new).to(torch.int64), k) > 0
    return members


def smallest_within(pattern: Sparse, value: Tensor, k: int) -> Tensor:
    """The smallest value within k hops of each node, its own included: [n] int64 -> [n]."""
    row, col = pattern.row, pattern.col
    for _ in range(k):
        value = value.scatter_reduce(0, row, value.index_select(0, col), "amin")
    return value
