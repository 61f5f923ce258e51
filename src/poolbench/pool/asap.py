"""ASAPPool: Ranjan, Sanyal, Talukdar, "ASAP: Adaptive Structure Aware Pooling for Learning Hierarchical Graph
Representations", AAAI 2020, arXiv 1911.07979."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.linalg.products import segment_max
from poolbench.pool.layers import Initializer, Linear
from poolbench.pool.pairscore import PairScore
from poolbench.pool.postprocess import post_process
from poolbench.pool.selection import OverlapSelection
from poolbench.pool.src import SparseSelection, SRCPool
from poolbench.pool.topk import check_ratio, top_k


class ASAPPool(SRCPool):
    r"""Every node with its neighbours is a cluster; of each graph the clusters of best fitness remain, overlapping.

        A^     = A with a self-loop of weight 1 for each node that has none,   N(i) = the j with A^_ij != 0
        m_i    = W_q max_{j in N(i)} h_j + b_q               H = GNN(X, A), or X; the maximum of each feature
        alpha_ij = softmax over j in N(i) of LeakyReLU(w . [m_i || h_j] + b)
        z_i    = sum_j alpha_ij x_j
        phi_i  = sigmoid(w3 . z_i + b3 + sum_j A^_ij (w1 . z_j + b1 - w2 . z_i))
        kept   = of each graph the ceil(ratio n) nodes with the largest phi, in input order
        S_ji   = phi_i alpha_ij,   X' = S'X,   A' = S^' A^ S^  less its diagonal,   S^_ji = alpha_ij       (i kept)

    A'_ij is the weight with which i hears j, so N(i) are the entries of row i. An edge of weight 0 is none. An isolated
    node is a cluster of itself (alpha = 1). Of equal phi the lower node comes first. No losses.

    Where sources differ: tgp connects the kept nodes by the induced subgraph, which loses the overlap that the paper
    is about (`overlap=False`), un-pools with phi alone (here S X', neighbours included), and its rows and edges
    disagree in order. PyG has no edge weights in phi (`weighted_fitness=False`), keeps the diagonal of S^' A^ S^ with
    `add_self_loops`, and ranks phi times a weight of its own, so that the least fit stay where that is negative. Both
    give the GNN the self-loops of A^; here it gets A, as a layer that wants them adds them itself.

    Cost O(E f + n f^2) and, for A', of the products of sparse matrices: it has an edge wherever two clusters overlap or
    touch, nodes up to three hops apart. On dense graphs this dominates time and memory; `overlap=False` costs O(E).

    Args:
        ratio: in (0, 1], the share of nodes to keep, or a whole number >= 2; see `poolbench.pool.topk.ScorePool`.
        gnn: a module (x [n, f], a) -> [n, f] for the attention; None for H = X.
        dropout: probability with which alpha is set to 0 in training.
        negative_slope: of the LeakyReLU.
        add_self_loops: give each pooled node a self-loop of weight 1 in place of the diagonal that is dropped.
        overlap: False takes the induced subgraph for A', also less its diagonal.
        weighted_fitness: False takes 1 for the weights A^_ij in phi.
        degree_norm: A'_ij / sqrt(d_i d_j), d the row sums.
        edge_weight_norm: divide A' by the largest |weight| of its graph.
        return_selection: also return S: entries (node, cluster, weight), and the kept nodes as `centres`.
        return_score: also return phi.
        kernel_initializer, bias_initializer: of all weights.
        in_channels: f, inferred at the first call where it is None.
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        gnn: nn.Module | None = None,
        dropout: float = 0.0,
        negative_slope: float = 0.2,
        add_self_loops: bool = False,
        overlap: bool = True,
        weighted_fitness: bool = True,
        degree_norm: bool = False,
        edge_weight_norm: bool = False,
        return_selection: bool = False,
        return_score: bool = False,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout={dropout!r}: a probability, at least 0 and below 1")
        if gnn is not None and not isinstance(gnn, nn.Module):
            raise TypeError(f"gnn={gnn!r}: a module, called as gnn(x, a), or None")
        self.ratio = check_ratio(ratio)
        self.dropout, self.negative_slope = dropout, negative_slope
        self.add_self_loops, self.overlap, self.weighted_fitness = add_self_loops, overlap, weighted_fitness
        self.post = {"degree_norm": degree_norm, "edge_weight_norm": edge_weight_norm}
        self.return_score = return_score
        kernel: dict[str, Any] = {"kernel_initializer": kernel_initializer}
        options = {**kernel, "bias_initializer": bias_initializer}
        self.gnn = gnn
        self.query = _SquareLinear(in_channels, **options)
        self.attention = PairScore(in_channels, **options)
        self.neighbours = Linear(in_channels, 1, **options)
        self.centre = Linear(in_channels, 1, bias=False, **kernel)
        self.own = Linear(in_channels, 1, **options)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> EgoSelection:
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
            x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            h = x if self.gnn is None else self.gnn(x, a).to(x.dtype)
            egos = a.view(with_self_loops)
            assert isinstance(egos, Sparse)
            alpha = self.attend(h, egos)
            phi = self.fitness(egos.with_value(alpha).matmul(x), egos)
        if self.return_score:
            self._score = phi
        return EgoSelection.of(self.choose(phi.detach(), egos.nodes), egos, alpha, phi)

    def choose(self, phi: Tensor, nodes: Ragged) -> Tensor:
        """The centres of the clusters to keep, increasing: [k]."""
        return top_k(phi, nodes, self.ratio)

    def attend(self, h: Tensor, egos: Sparse) -> Tensor:
        """alpha of each entry of `egos`: [e]."""
        query = self.query(segment_max(egos.at_columns(h), egos.crow, egos.row))
        master, member = self.attention(query, h)
        score = F.leaky_relu(egos.at_rows(master) + egos.at_columns(member), self.negative_slope)
        return F.dropout(Ragged(egos.crow, index=egos.row).softmax(score), self.dropout, self.training)

    def fitness(self, z: Tensor, egos: Sparse) -> Tensor:
        """phi of each cluster: [n]."""
        a = egos if self.weighted_fitness else egos.with_value(None)
        around, here, own = (layer(z).squeeze(-1) for layer in (self.neighbours, self.centre, self.own))
        return torch.sigmoid(own + a.matmul(around) - a.degree().to(z.dtype) * here)

    def connect(self, a: Matrix, s: EgoSelection) -> Sparse:  # type: ignore[override]
        if self.overlap:
            pooled = s.overlapping().connect(a.view(with_self_loops))
        else:
            pooled = SparseSelection.keep(s.centres, None, s.nodes).connect(a)
        pooled = pooled.without_diagonal()
        return post_process(pooled.add_identity() if self.add_self_loops else pooled, **self.post)


class EgoSelection(OverlapSelection):
    """Ego-networks as clusters: entry (j, i) has the weight phi_i alpha_ij.

    centres: [k] the nodes around which the clusters are, increasing.
    alpha: [m] of each entry.
    """

    centres: Tensor
    alpha: Tensor

    @classmethod
    def of(cls, centres: Tensor, egos: Sparse, alpha: Tensor, phi: Tensor) -> EgoSelection:
        """The rows `centres` of `egos`, whose entries have the attention `alpha` [e], times phi [n]."""
        number = egos.row.new_full((egos.nodes.num_rows,), -1)
        number[centres] = torch.arange(centres.numel(), device=centres.device)
        cluster = number[egos.row]
        (entry,) = (cluster >= 0).nonzero(as_tuple=True)
        pooled = Ragged.from_index(egos.nodes.index[centres], egos.nodes.num_graphs)
        kept = alpha.index_select(0, entry)
        fitness = egos.at_rows(phi).index_select(0, entry)
        s = cls(egos.col[entry], cluster[entry], kept * fitness, egos.nodes, pooled)
        s.centres, s.alpha = centres, kept
        return s

    def overlapping(self) -> OverlapSelection:
        """The same clusters without phi: S^."""
        return OverlapSelection(self.node, self.cluster, self.alpha, self.nodes, self.pooled)


def with_self_loops(a: Matrix) -> Sparse:
    """a with a self-loop of weight 1 for each node that has none; each entry stands once, none is 0."""
    a = a.sparse()
    a = a if a.value is None else a.filter(a.value.detach() != 0)
    n = a.nodes.num_rows
    alone = torch.ones(n, dtype=torch.bool, device=a.col.device)
    alone[a.row[a.row == a.col]] = False
    (new,) = alone.nonzero(as_tuple=True)
    value = None if a.value is None else torch.cat([a.value, a.value.new_ones(new.numel())])
    return Sparse.from_edges(torch.cat([a.row, new]), torch.cat([a.col, new]), value, a.nodes, a.symmetric)


class _SquareLinear(Linear):
    """A linear layer that is as wide as its input."""

    def __init__(self, in_channels: int | None, **options: Any) -> None:
        super().__init__(in_channels, in_channels or 0, **options)

    def initialize_parameters(self, x: Tensor) -> None:
        self.out_features = x.shape[-1]
        super().initialize_parameters(x)
