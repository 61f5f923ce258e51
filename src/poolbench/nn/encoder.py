"""From the features that a dataset has to the vectors that a model works with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.pool.base.module import Module


@dataclass(frozen=True)
class Channels:
    """Features of nodes or edges: how many columns, and where they hold categories, how many each column has."""

    count: int
    vocabulary: tuple[int, ...] | None = None

    @property
    def numbers(self) -> Channels:
        """Those that `as_numbers` makes of them."""
        return self if self.vocabulary is None else Channels(sum(self.vocabulary))

    def as_numbers(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Categories [n, p] as one column of 0 and 1 each, those of all columns side by side; numbers as they are."""
        if self.vocabulary is None or x.is_floating_point():
            return x
        first = x.new_tensor(list(accumulate(self.vocabulary[:-1], initial=0)))
        return torch.zeros(x.shape[0], sum(self.vocabulary), dtype=dtype, device=x.device).scatter_(1, x + first, 1.0)


class Encoder(Module):
    """[n, p] -> [n, channels]: one embedding a column, summed (OGB's atom and bond encoders; Hu et al., 2020, arXiv
    2005.00687, section 4), or a linear layer where the features are numbers.
    """

    first: Tensor

    def __init__(self, features: Channels, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features.count, channels) if features.vocabulary is None else None
        if features.vocabulary is not None:
            # One table for all columns: the sum over columns is then a single lookup.
            first = list(accumulate(features.vocabulary[:-1], initial=0))
            self.register_buffer("first", torch.tensor(first), persistent=False)
            self.table = nn.Parameter(torch.empty(sum(features.vocabulary), channels))
            for start, size in zip(first, features.vocabulary, strict=True):
                nn.init.xavier_uniform_(self.table.data[start : start + size])

    def forward(self, x: Tensor) -> Tensor:
        if self.linear is not None:
            return self.linear(x)
        if not x.shape[0]:
            return self.table.new_zeros(0, self.table.shape[1])
        return F.embedding_bag(x + self.first, self.table, mode="sum")
