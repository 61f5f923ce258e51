"""Random controls: Mesquita, Souza, Kaski, "Rethinking pooling in graph neural networks", NeurIPS 2020,
arXiv 2010.11418.

They show what a learned selection is worth: the paper replaces learned assignments by random ones. The draws here are
made anew at each forward pass, from torch's global generator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import SYMMETRIC, Matrix
from poolbench.pool.base.src import DenseSelection, SoftPool
from poolbench.pool.topk import ScorePool


class RandomDensePool(SoftPool):
    """A soft assignment by the row softmax of standard normal noise; pooled graphs as MinCutPool makes them.

        S  = softmax(Z),   Z_uc ~ N(0, 1)                          [n, k]
        X' = S'X,   M = S'AS,   A' = D'^-1/2 (M - diag M) D'^-1/2

    Cost O(E k + n k (k + f)) time, O(n k) memory. No parameters, no losses.

    Args:
        k, k_per_graph, remove_self_loops, degree_norm, return_selection: see `SoftPool`.
    """

    stochastic = True
    connectivity = SYMMETRIC
    normalised = True

    def __init__(self, k: int, return_selection: bool = False, **unknown: Any) -> None:
        super().__init__(k, return_selection, **unknown)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        noise = torch.randn(*x.shape[:-1], self.k, dtype=x.dtype, device=x.device)
        return self.assign(noise, a.nodes)


class RandomSparsePool(ScorePool):
    """Keeps a random share of each graph's nodes, features as they are (no gate).

        y_u ~ U(0, 1)                           [n]
        s  = of each graph the ceil(ratio n) nodes with the largest y, in input order
        X' = X[s],   A' = A[s, s]

    Cost O(n f + n log n + E). No parameters, no losses.

    Args:
        ratio, return_selection, return_score: see `ScorePool`.
    """

    stochastic = True

    def score(self, x: Tensor, a: Matrix) -> Tensor:
        return torch.rand(x.shape[0], dtype=x.dtype, device=x.device)
