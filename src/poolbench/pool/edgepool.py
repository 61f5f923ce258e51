"""EdgePool: Diehl, Brunner, Truong Le, Knoll, "Towards Graph Pooling by Edge Contraction", ICML 2019 workshop; Diehl,
"Edge Contraction Pooling for Graph Neural Networks", 2019, arXiv 1905.10990."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.linalg.products import invert
from poolbench.pool.base.layers import Initializer, check_dropout, not_half
from poolbench.pool.base.matching import matched_edges
from poolbench.pool.base.pairscore import PairScore, pair_softmax
from poolbench.pool.base.partition import Partition
from poolbench.pool.base.partitionpool import PartitionPool
from poolbench.pool.base.src import SparseSelection

METHODS = ("softmax", "tanh", "sigmoid")


class EdgePool(PartitionPool):
    r"""Contracts edges of high score, no two of which meet: about half of the nodes remain.

        r_ij = w . [x_i || x_j] + b                        for each edge i -> j
        e_ij = softmax over the edges into j of r_ij  +  add_to_edge_score        or tanh(r), sigmoid(r)
        edges are taken in falling order of e, each if neither of its ends belongs to one taken before
        x'_k = e_ij (x_i + x_j) for the ends of a taken edge,   x'_k = x_i for a node of no taken edge
        A'   = the edges between clusters, parallel ones added, without self-loops

    Clusters stand in the order of their first nodes. The edge i -> j is the entry a[j, i]: j hears i. An edge's weight
    has no influence on its score, but one of weight 0 is no edge. A self-loop may be taken, and is then the score of
    its node. Of equal scores the first in the order of (j, i) is taken first; ties are the rule, as the softmax gives
    the only edge into a node the score 1. The gradient flows through e and through X and A; the choice is a constant.
    A graph without edges is returned as it is. No losses.

    Where sources differ: PyG and the authors' code return the pooled graph unweighted and with the self-loops of
    contracted edges (`remove_self_loops=False` keeps them, with their weights); tgp as here. PyG's unpooling gives each
    node x'_k / score_k, tgp's S X' = x'_k score_k: `lift` is S X', and (S+)' X' = x'_k / (|k| score_k), |k| the number
    of nodes, with `inverse=True`. Clusters are numbered in the order of contraction in PyG, by the source of the
    contracted edge in tgp. The workshop paper has `add_to_edge_score=0`, the arXiv paper `dropout=0.2`.

    Cost O(n f + E log E), most of it in the O(log^2 n) expected rounds of `pool.base.matching`; where many scores
    tie, or rise along a path, that ends with a pass over the edges on the host.

    Args:
        edge_score_method: "softmax", "tanh" or "sigmoid".
        dropout: probability with which r is set to 0 in training.
        add_to_edge_score: added to e, 0.5 so that the scores of a softmax have a mean near 1.
        kernel_initializer, bias_initializer: of w and b.
        in_channels: f, inferred at the first call where it is None.
        remove_self_loops, connect_red_op, degree_norm, edge_weight_norm, return_selection, reduce: see `PartitionPool`.

    Raises: ValueError for an argument out of these.
    """

    def __init__(
        self,
        edge_score_method: str = "softmax",
        dropout: float = 0.0,
        add_to_edge_score: float = 0.5,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(**unknown)
        if edge_score_method not in METHODS:
            raise ValueError(f"edge_score_method={edge_score_method!r}: one of {', '.join(METHODS)}")
        check_dropout(dropout)
        self.edge_score_method, self.dropout, self.add_to_edge_score = edge_score_method, dropout, add_to_edge_score
        options = {"kernel_initializer": kernel_initializer, "bias_initializer": bias_initializer}
        self.projection = PairScore(in_channels, **options)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> Partition:
        a = a.sparse().without_zeros()
        e = self.score(x, a)
        taken = matched_edges(a.row, a.col, self.rank(e.detach(), a), x.shape[0])
        return contraction(
            a.row.index_select(0, taken), a.col.index_select(0, taken), e.index_select(0, taken), a.nodes
        )

    def score(self, x: Tensor, a: Sparse) -> Tensor:
        """e of each entry of a: [e]."""
        with torch.autocast(x.device.type, enabled=False):
            x = not_half(x)
            source, target = self.projection(x, x)
            if self.edge_score_method == "softmax" and not (self.dropout and self.training):
                return pair_softmax(target, source, a) + self.add_to_edge_score
            r = F.dropout(a.at_columns(source) + a.at_rows(target), self.dropout, self.training)
            if self.edge_score_method == "softmax":
                e = Ragged(a.crow, index=a.row).softmax(r)
            else:
                e = torch.tanh(r) if self.edge_score_method == "tanh" else torch.sigmoid(r)
            return e + self.add_to_edge_score

    def rank(self, e: Tensor, a: Sparse) -> Tensor:
        """Place of each edge in the order in which they are tried: [e] int64."""
        return invert(torch.argsort(e, descending=True, stable=True))


def contraction(row: Tensor, col: Tensor, score: Tensor, nodes: Ragged) -> Partition:
    """The pairs {row, col} of a matching as clusters of weight `score`, the nodes left over alone with weight 1."""
    each = torch.arange(nodes.num_rows, device=row.device)
    mate = each.index_copy(0, row, col).index_copy_(0, col, row)
    (heads,) = (mate >= each).nonzero(as_tuple=True)
    # a cluster is its head and, behind it, the head's mate
    mates = mate.index_select(0, heads)
    size = (mates != heads).to(torch.int64).add_(1)
    end = torch.cumsum(size, 0)
    node = torch.empty_like(each).index_copy_(0, end - 1, mates).index_copy_(0, end - size, heads)
    cluster = torch.repeat_interleave(size, output_size=each.numel())
    weight = score.new_ones(nodes.num_rows).index_copy(0, row, score).index_copy(0, col, score).index_select(0, node)
    return Partition(node, cluster, weight, nodes, SparseSelection.keep(heads, None, nodes, increasing=True).pooled)
