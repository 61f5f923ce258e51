"""What the operators share that merge the edges between clusters and count each pair of clusters once."""

from __future__ import annotations

from typing import Any

from poolbench.linalg import Matrix, Sparse
from poolbench.pool.base.partitionpool import PartitionPool
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.src import SparseSelection


class PatternPool(PartitionPool):
    """Base of the operators with a partition whose pooled graph is unweighted, as their authors have it.

        A'_ab = 1 where an edge of weight other than 0 joins a node of a to one of b

    Args:
        weighted: A'_ab is what `connect_red_op` makes of the weights of these edges, as `PartitionPool` has it.
        others: see `PartitionPool`.
    """

    def __init__(self, weighted: bool = False, **unknown: Any) -> None:
        super().__init__(**unknown)
        self.weighted = weighted

    def connect(self, a: Matrix, s: SparseSelection) -> Sparse:  # type: ignore[override]
        if self.weighted:
            return super().connect(a, s)
        pooled = ones(s.connect(ones(a.sparse().without_zeros())).sparse())
        return post_process(pooled, self.remove_self_loops, self.degree_norm, self.edge_weight_norm)


def ones(a: Sparse) -> Sparse:
    """The pattern of a, with ones in the type of its values where it has values."""
    value = None if a.value is None else a.value.detach().new_ones(a.value.shape)
    return a.with_value(value, a.symmetric)
