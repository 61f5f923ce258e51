"""The matrices that layers ask for, made from a graph's own: `a.view(GCN)`.

A connectivity is a small frozen value, so that a dataset can compute each one once and hand it out by equality.
"""

from __future__ import annotations

from dataclasses import dataclass

from poolbench.linalg.matrix import Matrix


@dataclass(frozen=True)
class Raw:
    """A as it is."""

    def __call__(self, a: Matrix) -> Matrix:
        return a


@dataclass(frozen=True)
class Normalized:
    """D^-1/2 (A + loops I) D^-1/2, D the degrees of A + loops I."""

    loops: float = 0.0

    def __call__(self, a: Matrix) -> Matrix:
        return a.normalize(identity=self.loops)


@dataclass(frozen=True)
class Propagation:
    """I - delta (I - D^-1/2 A D^-1/2): the filter of JustBalance and, with delta = 2, of MaxCutPool."""

    delta: float

    def __call__(self, a: Matrix) -> Matrix:
        return a.normalize().times(self.delta).add_identity(1.0 - self.delta)


RAW = Raw()
SYMMETRIC = Normalized()
GCN = Normalized(loops=1.0)

Connectivity = Raw | Normalized | Propagation
