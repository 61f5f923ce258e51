"""Random selections: controls that show what a learned one is worth.

Mesquita, Souza, Kaski, "Rethinking pooling in graph neural networks", NeurIPS 2020, arXiv 2010.11418, replace learned
assignments by random ones; the draws here are made anew at each forward pass, from torch's global generator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import SYMMETRIC, Matrix
from poolbench.pool.src import DenseSelection, SoftPool
from poolbench.pool.topk import ScorePool


class RandomDensePool(SoftPool):
    """A soft assignment by the row softmax of standard normal noise; pooled graphs as MinCutPool makes them.

    Args:
        k: number of clusters of each graph.
        return_selection: also return S.
    """

    stochastic = True
    connectivity = SYMMETRIC

    def __init__(self, k: int, return_selection: bool = False, **unknown: Any) -> None:
        super().__init__(k, return_selection, **unknown)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        noise = torch.randn(*x.shape[:-1], self.k, dtype=x.dtype, device=x.device)
        return DenseSelection(noise.softmax(-1), a.nodes)

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        return s.connect(a).without_diagonal().normalize()


class RandomSparsePool(ScorePool):
    """Keeps a random share of each graph's nodes, features as they are (no gate).

    Args:
        ratio: as for TopKPool.
        return_selection, return_score: as for TopKPool.
    """

    stochastic = True

    def __init__(
        self, ratio: float | int, return_selection: bool = False, return_score: bool = False, **unknown: Any
    ) -> None:
        super().__init__(ratio, return_selection, return_score, **unknown)

    def score(self, x: Tensor, a: Matrix) -> Tensor:
        return torch.rand(x.shape[0], dtype=x.dtype, device=x.device)

    def gate(self, y: Tensor) -> Tensor | None:
        return None
