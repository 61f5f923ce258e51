"""A linear score of pairs of nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.pool.layers import Linear


class PairScore(Linear):
    """w . [x_i || y_j] + b, in two parts: w1 . x_i + b and w2 . y_j, so that a list of pairs costs O(n f + e).

    Args:
        in_channels: f, inferred at the first call where it is None; w has 2 f entries.
        options: initialisers, weight penalties and constraints of `Linear`.
    """

    def __init__(self, in_channels: int | None, **options: Any) -> None:
        super().__init__(None if in_channels is None else 2 * in_channels, 1, **options)

    def initialize_parameters(self, x: Tensor, y: Tensor | None = None) -> None:
        super().initialize_parameters(x if y is None else torch.cat([x[:0], y[:0]], -1))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """x, y [n, f] -> (w1 . x + b, w2 . y), each [n]."""
        first, second = self.weight.squeeze(0).split(x.shape[-1])
        return x @ first + self.bias, y @ second
