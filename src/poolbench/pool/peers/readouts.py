"""The aggregations of PyTorch Geometric that no readout of PoolBench's own stands for, as readouts.

They are judged as they are, and that is why they are here: what they make of a graph depends on the order of its nodes,
on the other graphs of its batch, or on both.

| aggregation | depends on |
| --- | --- |
| LSTM, GRU | the order; and on the largest graph of the batch: the last state is that after the padding |
| MLP | the order; nodes after the first `max_num_elements` are left out |
| LCM | the order (it is learned not to); the largest graph of the batch, whose tree all are reduced by |
| PatchTransformer | the order, in patches; the largest graph of the batch, whose padding is attended to |
| Equilibrium | the number of graphs of the batch, over which its regularisation is a mean |
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch_geometric.nn import aggr

from poolbench.errors import nearest, whole
from poolbench.pool.peers.peer import width
from poolbench.pool.readouts.pyg import AggregatedPool


class PyGAggregation(AggregatedPool):
    """An aggregation of PyTorch Geometric with weights, from `in_channels` to `channels` features.

    Args:
        aggregation: the name of its class in `torch_geometric.nn.aggr`, such as LSTMAggregation.
        channels: width of the result.
        options: its other arguments.
        in_channels: features of a node.

    Raises: ValueError for a class that there is not or that takes no two widths, TypeError for an unknown option.
    """

    sees_empty = True

    def __init__(
        self,
        aggregation: str,
        channels: int,
        options: Mapping[str, Any] | None = None,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(**unknown)
        cls = getattr(aggr, aggregation, None)
        if cls is None or not {"in_channels", "out_channels"} <= set(inspect.signature(cls).parameters):
            known = [
                name for name in aggr.classes if "in_channels" in inspect.signature(getattr(aggr, name)).parameters
            ]
            raise ValueError(
                f"aggregation={aggregation!r}: a class of torch_geometric.nn.aggr with two widths is expected"
                f"{nearest(aggregation, known)}"
            )
        self.aggregation = cls(width(in_channels, self), whole("channels", channels), **options or {})
