"""HGPSLPool: Zhang, Bu, Ester, Zhang, Yao, Yu, Wang, "Hierarchical Graph Pooling with Structure Learning", 2019,
arXiv 1911.05954."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array, eye_array
from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import Matrix, Ragged, Sparse, merged_entries
from poolbench.linalg.products import invert, pointers, rows
from poolbench.linalg.spgemm import Blocks
from poolbench.pool.base.hostgraph import on_host, to_numpy
from poolbench.pool.base.layers import Initializer, as_wide, not_half
from poolbench.pool.base.pairscore import PairScore
from poolbench.pool.base.src import KeptSelection
from poolbench.pool.lapool import sparsemax
from poolbench.pool.topk import ScorePool

NORMALISATIONS = ("sym", "rw")


class StructurePool(ScorePool):
    r"""Base of the operators that keep nodes and learn the edges between them.

        E_ij = LeakyReLU(a . [x'_i || x'_j]) + lamb A_ij           for kept nodes i, j of one graph, i = j too
        A'   = the sparsemax, or softmax, of each row of E

    in place of the induced subgraph. A_ij is the weight of the edge i -> j, so that what a node tells others sums to 1,
    and A' is not symmetric. Entries that are 0 are no edges. The gradient flows through E, the choice of nodes is a
    constant.

    With `sample`, j runs only over the nodes to which at most `hops` edges lead from i in the graph before pooling, and
    i itself: no pair of nodes is formed that is further apart. These are found on the host, in time in proportion to
    the pairs times the degrees. Without it, all pairs of kept nodes of a graph are formed, sum_g k_g^2 of them, at some
    100 bytes each: 0.1 GiB for 32 graphs of DD, 1 GiB where the largest is among them (5748 nodes, ratio 0.5).

    Args:
        ratio, return_selection, return_score: see `ScorePool`.
        structure_learning: False: the induced subgraph with its weights, no parameter a.
        sample: pairs within `hops` alone.
        hops: at least 1; the authors' k_hop = 3 reaches 4.
        sparse: sparsemax, else softmax.
        lamb: of the edges that are there.
        negative_slope: of LeakyReLU.
        kernel_initializer: of a.
        in_channels: f, inferred at the first call where it is None.

    Raises: ValueError for an argument out of these.
    """

    selects = (KeptSelection,)

    def __init__(
        self,
        ratio: float | int,
        structure_learning: bool = True,
        sample: bool = True,
        hops: int = 4,
        sparse: bool = True,
        lamb: float = 1.0,
        negative_slope: float = 0.2,
        return_selection: bool = False,
        return_score: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(ratio, return_selection, return_score, **unknown)
        self.sample, self.hops, self.sparse = sample, whole("hops", hops), sparse
        for name, value in (("lamb", lamb), ("negative_slope", negative_slope)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name}={value!r}: a number is expected")
        self.lamb, self.negative_slope = lamb, negative_slope
        self.pooled_edges = "" if structure_learning else "kept"
        self.directs = structure_learning  # a symmetric graph comes out directed
        self.attention = Attention(in_channels, kernel_initializer=kernel_initializer) if structure_learning else None

    def connect(self, a: Matrix, s: KeptSelection, x: Tensor | None = None) -> Sparse:  # type: ignore[override]
        if self.attention is None:
            return s.connect(a).sparse()
        assert x is not None
        with torch.autocast(x.device.type, enabled=False):
            near = merged_entries(a).without_zeros()
            pairs = within(near, s, self.hops) if self.sample else all_pairs(s.pooled)
            return turned(self.shares(not_half(s.rows(x)), pairs, s.connect(near)))

    def shares(self, x: Tensor, pairs: Sparse, induced: Sparse) -> Sparse:
        """A' with i in rows, from the features of the kept nodes, the pairs (i, j) and the edges between them."""
        assert self.attention is not None
        left, right = self.attention(x, x)
        e = F.leaky_relu(pairs.at_rows(left) + pairs.at_columns(right), self.negative_slope)
        e = e.index_add(0, places(induced, pairs), self.lamb * induced.weights.to(e.dtype))
        of_node = Ragged(pairs.crow, index=pairs.row)
        share = sparsemax(e, of_node) if self.sparse else of_node.softmax(e)
        return pairs.with_value(share).without_zeros()


class HGPSLPool(StructurePool):
    r"""Keeps the nodes that their neighbours predict badly, and learns new edges between them.

        y  = || x_i - (D^-1/2 A D^-1/2 X)_i ||_1                    [n]
        s  = of each graph the ceil(ratio n) nodes with the largest y, in input order
        X' = X[s],   A'_ij = sparsemax_j(LeakyReLU(a . [x'_i || x'_j]) + lamb A_ij)

    X' is not multiplied by the score, so the choice has no gradient; a learns through A' alone. D adds up what a node
    sends; where that is not above 0, D^-1/2 is 0. A node without edges scores ||x_i||_1. A self-loop is an edge. No
    losses.

    Where sources differ: the paper has I - D^-1 A in the score (`normalisation="rw"`), the authors' code has the above.
    Their script runs with `sample`, `sparse` and structure learning, as here; their class leaves out the first two by
    default and keeps 0.8. Their code forms all pairs of a batch, and loses those of `sample` for which E is 0.

    Cost O(E f + n log n + p) for p pairs of kept nodes, those within `hops` or all of a graph; see `StructurePool`.

    Args:
        normalisation: "sym" or "rw".

    The other arguments are those of `StructurePool`. Raises: ValueError for an argument out of these.
    """

    def __init__(self, ratio: float | int = 0.5, normalisation: str = "sym", **arguments: Any) -> None:
        super().__init__(ratio, **arguments)
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation={normalisation!r}: one of {', '.join(NORMALISATIONS)}")
        self.normalisation = normalisation

    @torch.no_grad()
    def score(self, x: Tensor, a: Matrix) -> Tensor:
        a = a.sparse()
        with torch.autocast(x.device.type, enabled=False):  # in a half type many scores would tie
            x = not_half(x)
            if self.normalisation == "sym":
                predicted = propagated(x, a, inverse_root(a, x))
            else:
                predicted = a.matmul(x) / _or_infinity(a.degree().to(x.dtype)).unsqueeze(-1)
            return (x - predicted).abs().sum(-1)


class Attention(PairScore):
    """A `PairScore` without b."""

    def __init__(self, in_channels: int | None, **options: Any) -> None:
        super().__init__(in_channels, bias=False, **options)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        first, second = as_wide(self.weight, x).squeeze(0).tensor_split(2)
        return x @ first, y @ second


def inverse_root(a: Sparse, x: Tensor) -> Tensor:
    """1 / sqrt(d), d the sum of the weights that a node sends, 0 where that is not above 0: [n, 1]."""
    return _or_infinity(a.column_sums().to(x.dtype)).rsqrt().unsqueeze(-1)


def propagated(x: Tensor, a: Sparse, inverse: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2 X, what each node hears: [n, f]."""
    return inverse * a.matmul(inverse * x)


def _or_infinity(d: Tensor) -> Tensor:
    return d.masked_fill(d <= 0, torch.inf)


def all_pairs(nodes: Ragged) -> Sparse:
    """All pairs of nodes of a graph."""
    blocks = Blocks(nodes)
    row = rows(blocks.start, blocks.slots)
    col = torch.arange(blocks.slots, device=row.device) - blocks.shift.index_select(0, row)
    back = blocks.shift.index_select(0, col) + row  # where (j, i) stands
    return Sparse(blocks.start, col, None, nodes, transposed=(blocks.start, col, back), distinct=True, row=row)


def within(a: Sparse, s: KeptSelection, hops: int) -> Sparse:
    """The pairs (i, j) of kept nodes such that j hears i over at most `hops` edges, and all (i, i)."""
    row, col = _within(a.crow, a.col, s.node, hops)
    return Sparse(pointers(row, s.pooled.num_rows), col, None, s.pooled, distinct=True, row=row)


@on_host
def _within(crow: Tensor, col: Tensor, kept: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    n = crow.numel() - 1
    hears = csr_array((np.ones(col.numel(), dtype=bool), to_numpy(col), to_numpy(crow)), shape=(n, n))
    step = (hears.T + eye_array(n, dtype=bool)).tocsr()
    chosen = to_numpy(kept)
    reach = step[chosen]
    for _ in range(hops - 1):
        wider = reach @ step
        if wider.nnz == reach.nnz:  # nothing new is within reach
            break
        reach = wider
    reach = reach[:, chosen].sorted_indices()
    row = np.repeat(np.arange(len(chosen)), np.diff(reach.indptr))
    return torch.from_numpy(row).to(col), torch.from_numpy(reach.indices).to(col)


def places(induced: Sparse, pairs: Sparse) -> Tensor:
    """Which pair (i, j) is each entry of `induced`, in which j hears i: [e]."""
    k = pairs.nodes.num_rows
    return torch.searchsorted(pairs.row * k + pairs.col, induced.col * k + induced.row)


def turned(a: Sparse) -> Sparse:
    """The transpose, differentiable in the values."""
    crow, col, entry = a.transposed()
    back = (a.crow, a.col, invert(entry))
    return Sparse(crow, col, a.weights.index_select(0, entry), a.nodes, transposed=back, distinct=True)
