"""ASAPPool: Ranjan, Sanyal, Talukdar, "ASAP: Adaptive Structure Aware Pooling for Learning Hierarchical Graph
Representations", AAAI 2020, arXiv 1911.07979."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.linalg import Matrix, Ragged, Sparse, merged_entries
from poolbench.linalg.products import Written, bag, call, expand, pointers, segment_max, spmm, through
from poolbench.pool.base.gnn import GNN, called, made
from poolbench.pool.base.layers import Initializer, Linear, SquareLinear, as_wide, check_dropout, not_half
from poolbench.pool.base.pairscore import PairScore, pair_softmax
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.selection import OverlapSelection, Selection
from poolbench.pool.base.src import SparseSelection, SRCPool
from poolbench.pool.topk import check_ratio, top_k


class EgoSelection(OverlapSelection):
    """Ego-networks as clusters: entry (j, i) has the weight phi_i alpha_ij.

    centres: [k] the nodes around which the clusters are, increasing.
    alpha: [m] of each entry.
    """

    centres: Tensor
    alpha: Tensor

    @property
    def perm(self) -> Tensor:
        return self.centres

    @classmethod
    def of(cls, centres: Tensor, egos: Sparse, alpha: Tensor, phi: Tensor) -> EgoSelection:
        """The rows `centres` of `egos`, whose entries have the attention `alpha` [e], times phi [n]."""
        number = egos.row.new_full((egos.nodes.num_rows,), -1)
        number.index_copy_(0, centres, torch.arange(centres.numel(), device=centres.device))
        cluster = number.index_select(0, egos.row)
        (entry,) = (cluster >= 0).nonzero(as_tuple=True)
        cluster = cluster.index_select(0, entry)
        pooled = SparseSelection.keep(centres, None, egos.nodes, increasing=True).pooled
        kept = alpha.index_select(0, entry)
        fitness = expand(phi.index_select(0, centres), pointers(cluster, centres.numel()), cluster)
        s = cls(egos.col.index_select(0, entry), cluster, kept * fitness, egos.nodes, pooled)
        s.centres, s.alpha = centres, kept
        return s

    def overlapping(self) -> OverlapSelection:
        """The same clusters without phi: S^."""
        return OverlapSelection(self.node, self.cluster, self.alpha, self.nodes, self.pooled)


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

    What is linear is applied to the nodes, and as a vector: w . [m_i || h_j] is (W_q'w') . max h + w'' . h_j, and
    w . z_i is sum_j alpha_ij w . x_j, so nothing but the maximum and X' has f columns.

    Cost O(E f) and, for A', of the products of sparse matrices: it has an edge wherever two clusters overlap or
    touch, nodes up to three hops apart. On dense graphs this dominates time and memory; `overlap=False` costs O(E).

    Args:
        ratio: in (0, 1], the share of nodes to keep, or a whole number >= 2; see `poolbench.pool.topk.ScorePool`.
        gnn: a module that makes H [n, f'] of x and the graph for the attention, called as `GatedPool` calls its own; or
            a class, from which gnn(in_channels, in_channels) makes one; None for H = X.
        dropout: probability with which alpha is set to 0 in training.
        negative_slope: of the LeakyReLU.
        add_self_loops: give each pooled node a self-loop of weight 1 in place of the diagonal that is dropped.
        overlap: False takes the induced subgraph for A', also less its diagonal. Its edges keep their attributes, as
            long as no self-loops are added.
        weighted_fitness: False takes 1 for the weights A^_ij in phi.
        degree_norm: A'_ij / sqrt(d_i d_j), d the row sums.
        edge_weight_norm: divide A' by the largest |weight| of its graph.
        return_selection: also return S: entries (node, cluster, weight), and the kept nodes as `centres`.
        return_score: return phi too; False leaves it out.
        kernel_initializer, bias_initializer: of all weights.
        in_channels: f, inferred at the first call where it is None.
    """

    selects = (EgoSelection,)

    def __init__(
        self,
        ratio: float | int = 0.5,
        gnn: GNN | None = None,
        dropout: float = 0.0,
        negative_slope: float = 0.2,
        add_self_loops: bool = False,
        overlap: bool = True,
        weighted_fitness: bool = True,
        degree_norm: bool = False,
        edge_weight_norm: bool = False,
        return_selection: bool = False,
        return_score: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        check_dropout(dropout)
        self.ratio = check_ratio(ratio)
        self.dropout, self.negative_slope = dropout, negative_slope
        self.add_self_loops, self.overlap, self.weighted_fitness = add_self_loops, overlap, weighted_fitness
        self.pooled_edges = "" if overlap or add_self_loops else "kept"
        self.post = {"degree_norm": degree_norm, "edge_weight_norm": edge_weight_norm}
        self.return_score = return_score
        kernel: dict[str, Any] = {"kernel_initializer": kernel_initializer}
        options = {**kernel, "bias_initializer": bias_initializer}
        self.gnn = made(gnn, in_channels, in_channels)
        self.query = SquareLinear(in_channels, **options)
        self.attention = PairScore(in_channels, **options)
        self.neighbours = Linear(in_channels, 1, **options)
        self.centre = Linear(in_channels, 1, bias=False, **kernel)
        self.own = Linear(in_channels, 1, **options)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> EgoSelection:
        with torch.autocast(x.device.type, enabled=False):
            x = not_half(x)
            h = x if self.gnn is None else called(self.gnn, x, a).to(x.dtype)
            self._know_widths(x, h)
            egos = a.view(with_self_loops)
            assert isinstance(egos, Sparse)
            alpha = self.attend(h, egos)
            phi = self.fitness(alpha, x, egos)
        if self.return_score:
            self._score = phi
        return EgoSelection.of(self.choose(phi.detach(), egos.nodes), egos, alpha, phi)

    def _know_widths(self, x: Tensor, h: Tensor) -> None:
        """Draw the weights at the first call, in the order in which they are applied."""
        if self.own.has_uninitialized_params():
            with torch.no_grad():
                self.attention(self.query(h[:0]), h[:0])
                for layer in (self.neighbours, self.centre, self.own):
                    layer(x[:0])

    def choose(self, phi: Tensor, nodes: Ragged) -> Tensor:
        """The centres of the clusters to keep, increasing: [k]."""
        return top_k(phi, nodes, self.ratio)

    def attend(self, h: Tensor, egos: Sparse) -> Tensor:
        """alpha of each entry of `egos`: [e]."""
        first, second = as_wide(self.attention.weight, h).reshape(2, h.shape[-1]).unbind()
        bias = as_wide(self.query.bias, h) @ first + as_wide(self.attention.bias, h)
        master = call(_Masters, h, first @ as_wide(self.query.weight, h), egos) + bias
        return F.dropout(pair_softmax(master, h @ second, egos, self.negative_slope), self.dropout, self.training)

    def fitness(self, alpha: Tensor, x: Tensor, egos: Sparse) -> Tensor:
        """phi of each cluster: [n]."""
        a = egos if self.weighted_fitness else egos.with_value(None, egos.symmetric)
        heads = as_wide(torch.cat([self.own.weight, self.neighbours.weight, self.centre.weight]), x)
        score = _fitness if a.value is not None and a.value.requires_grad else partial(call, _Fitness)
        return torch.sigmoid(score(alpha, x, heads, as_wide(self.neighbours.bias, x), egos, a) + self.own.bias)

    def joined(self, s: EgoSelection) -> Selection:  # type: ignore[override]
        return s if self.overlap else SparseSelection.keep(s.centres, None, s.nodes, increasing=True)

    def connect(self, a: Matrix, s: EgoSelection) -> Sparse:  # type: ignore[override]
        if self.overlap:
            pooled = s.overlapping().connect(a.view(with_self_loops))
        else:
            pooled = self.joined(s).connect(a).sparse()
        if self.add_self_loops:
            return post_process(pooled.without_diagonal().add_identity(), **self.post)
        return post_process(pooled, remove_self_loops=True, **self.post)


def with_self_loops(a: Matrix) -> Sparse:
    """a with a self-loop of weight 1 for each node that has none; each entry stands once, none is 0."""
    a = merged_entries(a).without_zeros()
    # The new entry goes to the end of its row, by index arithmetic.
    n, e = a.nodes.num_rows, a.col.numel()
    alone = torch.ones(n, dtype=torch.int64, device=a.col.device)
    alone.index_fill_(0, a.row.masked_select(a.row == a.col), 0)
    (new,) = alone.nonzero(as_tuple=True)
    crow = a.crow.clone()
    crow[1:] += torch.cumsum(alone, 0)
    shift = crow[:-1] - a.crow[:-1]
    place = torch.cat(
        [torch.arange(e, device=new.device) + shift.index_select(0, a.row), crow[1:].index_select(0, new) - 1]
    )
    row = torch.empty_like(place).index_copy_(0, place, torch.cat([a.row, new]))
    col = torch.empty_like(place).index_copy_(0, place, torch.cat([a.col, new]))
    value = None
    if a.value is not None:
        value = torch.cat([a.value, a.value.new_ones(new.numel())])
        value = torch.zeros_like(value).index_copy(0, place, value)
    return Sparse(crow, col, value, a.nodes, a.symmetric, distinct=True, row=row)


def _masters(h: Tensor, v: Tensor, egos: Sparse) -> Tensor:
    return segment_max(egos.at_columns(h), egos.crow, egos.row) @ v


class _Masters(Written):
    """v . max_j h_j over the entries (i, j) of each row, none without any: [n].

    Entries that attain a maximum share its derivative, as in torch.amax.
    """

    formula = staticmethod(_masters)

    @staticmethod
    def forward(ctx: Any, h: Tensor, v: Tensor, egos: Sparse) -> Tensor:
        near = h.index_select(0, egos.col)
        top = near.new_full(h.shape, -torch.inf)
        top.scatter_reduce_(0, egos.row.unsqueeze(-1).expand_as(near), near, "amax")
        ctx.save_for_backward(h, v, top)
        ctx.egos = egos
        return top @ v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, v, top = ctx.saved_tensors
        egos, (grad,) = ctx.egos, grads
        if torch.is_grad_enabled():
            return *through(lambda h, v: _masters(h, v, egos), [h, v], grads), None
        near = h.index_select(0, egos.col)
        hit = top.index_select(0, egos.row).eq_(near)
        count = bag(hit, egos.crow, torch.arange(hit.shape[0], device=hit.device), None).clamp_(min=1.0)
        share = torch.outer(grad, v).div_(count)
        tcrow, _, entry = egos.transposed()
        hit.mul_(torch.index_select(share, 0, egos.row, out=near))  # large memory is dear to get
        return bag(hit, tcrow, entry, None), grad @ top, None


def _fitness(alpha: Tensor, x: Tensor, heads: Tensor, bias: Tensor, egos: Sparse, a: Sparse) -> Tensor:
    own, around, here = egos.with_value(alpha).matmul(x @ heads.T).unbind(-1)
    return own + a.matmul(around + bias) - a.degree().to(x.dtype) * here


class _Fitness(Written):
    """z_0 + sum_j a_ij (z_1j + b) - (sum_j a_ij) z_2 with [z_0, z_1, z_2] = alpha X heads', a constant: [n]."""

    formula = staticmethod(_fitness)

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, x: Tensor, heads: Tensor, bias: Tensor, egos: Sparse, a: Sparse) -> Tensor:
        y = x @ heads.T
        own, around, here = bag(y, egos.crow, egos.col, alpha).unbind(-1)
        degree = a.degree().to(x.dtype)
        ctx.save_for_backward(alpha, x, heads, bias, y, degree)
        ctx.rest = egos, a
        return own + a.matmul(around + bias) - degree * here

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        alpha, x, heads, bias, y, degree = ctx.saved_tensors
        egos, a = ctx.rest
        if torch.is_grad_enabled():
            again = through(lambda p, x, w, b: _fitness(p, x, w, b, egos, a), [alpha, x, heads, bias], grads)
            return *again, None, None
        (grad,) = grads
        tcrow, trow, entry = egos.transposed()
        if a.symmetric:
            around = a.matmul(grad)
        else:
            around = spmm(None if a.value is None else a.value.index_select(0, entry), grad, tcrow, trow)
        z = torch.stack([grad, around, -degree * grad], -1)
        grad_alpha = (z.index_select(0, egos.row) * y.index_select(0, egos.col)).sum(-1)
        grad_y = bag(z, tcrow, trow, alpha.index_select(0, entry))
        return grad_alpha, grad_y @ heads, grad_y.T @ x, around.sum().view(1), None, None
