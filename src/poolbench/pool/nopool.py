"""No pooling: the control that every comparison needs."""

from __future__ import annotations

from poolbench.pool.base.src import SRCPool


class NoPool(SRCPool):
    """Every node is kept, the graph stays as it is.

        S = I,   X' = X,   A' = A

    Cost O(1). No parameters, no losses.
    """

    size_depends_on_data = False
    pooled_edges = "kept"
