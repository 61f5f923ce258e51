"""TU datasets without their largest graphs (`dataset=tu-sized`)."""

from __future__ import annotations

from typing import Any

from poolbench.data.raw import RawGraphs
from poolbench.data.sources.tu import TUDataset
from poolbench.data.twins import take
from poolbench.errors import PoolBenchError, whole


class SizedTUDataset(TUDataset):
    """A `TUDataset` without graphs of more than `max_nodes` nodes, as papers have it that pad all graphs alike.

    Args:
        max_nodes: of the largest graph that stays. The others are those of `TUDataset`.

    Raises what `TUDataset` does; `load` also where no graph is that small.
    """

    def __init__(self, name: str, max_nodes: int, **keywords: Any) -> None:
        self.max_nodes = whole("max_nodes", max_nodes)
        super().__init__(name, **keywords)

    def load(self) -> RawGraphs:
        raw = super().load()
        kept = (raw.num_nodes <= self.max_nodes).nonzero()[:, 0]
        if not kept.numel():
            raise PoolBenchError(f"max_nodes={self.max_nodes}: no graph of {self.name} is that small")
        return take(raw, kept).with_provenance(max_nodes=self.max_nodes)
