"""No pooling: the control that every comparison needs."""

from __future__ import annotations

from poolbench.pool.src import SRCPool


class NoPool(SRCPool):
    """S = I, X' = X, A' = A. No parameters, no losses, no cost."""

    size_depends_on_data = False
