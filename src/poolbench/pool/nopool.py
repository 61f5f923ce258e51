"""No pooling: the control that every comparison needs."""

from __future__ import annotations

from typing import Any

from poolbench.linalg import Matrix
from poolbench.pool.base.selection import Selection
from poolbench.pool.base.src import SRCPool


class NoPool(SRCPool):
    """Every node is kept, and the graph stays as it is, or is normalised as many operators return theirs.

        S = I,   X' = X,   A' = A   or   D^-1/2 A D^-1/2

    Without the second form a comparison with such an operator is one of matrices, too: layers after it sum over
    neighbours that count alike, and those after the operator over weights that add up to about 1.
    Cost O(1), normalised O(E). No parameters, no losses.

    Args:
        degree_norm: normalise by the degrees.
    """

    size_depends_on_data = False
    pooled_edges = "kept"

    def __init__(self, return_selection: bool = False, degree_norm: bool = False, **unknown: Any) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        self.degree_norm = degree_norm

    def connect(self, a: Matrix, s: Selection) -> Matrix:
        a = s.connect(a)
        return a.normalize() if self.degree_norm else a
