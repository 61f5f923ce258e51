"""What the operators share that give each node one cluster and merge the edges between clusters."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from poolbench.linalg import Matrix, Sparse
from poolbench.pool.base.aggregation import REDUCTIONS, Aggregation, aggregated, resolved, width
from poolbench.pool.base.partition import Partition, merged
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.src import KeptSelection, Selection, SparseSelection, SRCPool


class PartitionPool(SRCPool):
    """Base of the operators whose `select` returns a partition of the nodes; on its own it has none.

        X' = S'X,   A'_ab = sum of A_ij over i in a, j in b, without self-loops

    Both directions of an edge are merged separately. Edges that cancel (|w| <= 1e-8) are dropped.

    Args:
        remove_self_loops: drop the diagonal of A', the weight within clusters.
        connect_red_op: "sum", "mean", "max" or "min" of the weights of parallel edges.
        degree_norm: A'_ij / sqrt(d_i d_j), d the row sums of A'.
        edge_weight_norm: divide A' by the largest |weight| of its graph.
        return_selection: also return the selection.
        reduce: X' from the rows of a cluster, each times its weight in S: "sum", which is S'X, "mean", "max", "min",
            or a module (rows, index, dim_size) -> [k, f'], such as any aggregation of PyTorch Geometric, or its class.

    Raises: ValueError for another reduction.
    """

    pooled_edges = "merged"
    selects: ClassVar[tuple[type[Selection], ...]] = (Partition, KeptSelection)

    def __init__(
        self,
        remove_self_loops: bool = True,
        connect_red_op: str = "sum",
        degree_norm: bool = False,
        edge_weight_norm: bool = False,
        return_selection: bool = False,
        reduce: Aggregation = "sum",
        **unknown: Any,
    ) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        if connect_red_op not in REDUCTIONS:
            raise ValueError(f"connect_red_op={connect_red_op!r}: one of {', '.join(REDUCTIONS)}")
        self.connect_red_op = connect_red_op
        self.aggregation = resolved("reduce", reduce)
        self.remove_self_loops, self.degree_norm = remove_self_loops, degree_norm
        self.edge_weight_norm = edge_weight_norm

    def out_channels(self, in_channels: int) -> int:
        return width(self.aggregation, in_channels)

    def reduce(self, x: Tensor, s: SparseSelection) -> Tensor:  # type: ignore[override]
        if self.aggregation == "sum":
            return s.reduce(x)
        return aggregated(self.aggregation, s.rows(x), s.clusters)

    def connect(self, a: Matrix, s: SparseSelection) -> Sparse:  # type: ignore[override]
        a = merged(a.sparse(), s, self.connect_red_op)
        return post_process(a, self.remove_self_loops, self.degree_norm, self.edge_weight_norm)
