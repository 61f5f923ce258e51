"""Pairs of graphs that are to be told apart, and how they are compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of a dataset's graphs. graphs: [P, 2] int64, their numbers. kinds: the category of each pair."""

    graphs: Tensor
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def sizes(self) -> dict[str, int]:
        """How many pairs each category has, in the order in which they come."""
        return dict(Counter(self.kinds))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pairs, and how each of them is compared: see `poolbench.data.paired.PairedComparison`."""

    pairs: Pairs
    seed: int
    copies: int
    dim: int
    alpha: float
    stop_below: float
