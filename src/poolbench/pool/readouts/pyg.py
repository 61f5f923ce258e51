"""Readouts that are aggregations of PyTorch Geometric, of those whose answer for a graph is that of its nodes alone, in
any order. The others are in `poolbench.pool.peers.readouts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from poolbench.errors import nearest
from poolbench.linalg import Nodes, Ragged
from poolbench.linalg.plain import traced
from poolbench.pool.base.aggregation import Aggregation, aggregated, disjoint, resolved, width
from poolbench.pool.base.src import GlobalPool

SCALERS = ("identity", "amplification", "attenuation", "linear", "inverse_linear")


class AggregatedPool(GlobalPool):
    """Base of the readouts that a module makes of the rows of each graph's nodes: [b, f'].

    Zeros for a graph without nodes. The nodes of a batch are handed over as a disjoint union.
    """

    aggregation: str | nn.Module
    #: Whether it sees graphs without nodes, on which PyG's median and quantiles fail.
    sees_empty: ClassVar[bool] = False

    def out_channels(self, in_channels: int) -> int:
        return width(self.aggregation, in_channels)

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        rows, sets = disjoint(x, nodes)
        if not rows.shape[0]:  # of no rows some make an error
            return rows.new_zeros(nodes.num_graphs, self.out_channels(rows.shape[1]))
        if self.sees_empty or traced() or sets.num_filled == sets.num_graphs:
            return aggregated(self.aggregation, rows, sets).masked_fill((sets.sizes == 0).unsqueeze(-1), 0.0)
        (filled,) = (sets.sizes > 0).nonzero(as_tuple=True)
        out = aggregated(self.aggregation, rows, Ragged(sets.ptr[torch.cat([filled, filled[-1:] + 1])]))
        return out.new_zeros(sets.num_graphs, *out.shape[1:]).index_copy(0, filled, out)


class AggregationPool(AggregatedPool):
    """The rows of each graph's nodes, aggregated by what is given: [b, f'].

    A graph without nodes gives zeros. No losses.

    Args:
        aggregation: a module (rows, index, dim_size) -> [b, f'], such as any aggregation of PyTorch Geometric, or its
            class; or "sum", "mean", "max", "min".
    """

    def __init__(self, aggregation: Aggregation, **unknown: Any) -> None:
        super().__init__(**unknown)
        self.aggregation = resolved("aggregation", aggregation)


class GlobalMulPool(AggregatedPool):
    """Product of the node features of each graph, feature by feature: [b, f].

        out_j = prod_u x_uj

    A graph without nodes gives zeros. Cost O(n f). No parameters, no losses.
    """

    def __init__(self, **unknown: Any) -> None:
        from torch_geometric.nn.aggr import MulAggregation  # seconds to import

        super().__init__(**unknown)
        self.aggregation = MulAggregation()


class MultiPool(AggregatedPool):
    """Several aggregations of the node features of each graph side by side: [b, a f].

    Paper: Corso, Cavalleri, Beaini, Liò, Veličković, "Principal Neighbourhood Aggregation for Graph Nets", NeurIPS
    2020, arXiv 2004.05718.

        out = [agg_1(X) | ... | agg_a(X)]

    A graph without nodes gives zeros. Cost O(a n f). No losses.

    Args:
        aggregations: their names in PyTorch Geometric, such as mean, std, min, max, median.
    """

    def __init__(self, aggregations: Sequence[str] = ("mean", "std", "min", "max"), **unknown: Any) -> None:
        from torch_geometric.nn.aggr import MultiAggregation

        super().__init__(**unknown)
        self.aggregation = MultiAggregation(list(aggregations))


class DegreeScalerPool(AggregatedPool):
    """Several aggregations of the node features of each graph, each times several functions of its size: [b, a s f].

    Paper: Corso, Cavalleri, Beaini, Liò, Veličković, "Principal Neighbourhood Aggregation for Graph Nets", NeurIPS
    2020, arXiv 2004.05718.

        out = [S_1(n) Y | ... | S_s(n) Y],   Y = [agg_1(X) | ... | agg_a(X)]
        S(n) = 1;  log(n + 1) / d;  d / log(n + 1);  n / m;  m / n,    d, m the means of log(n + 1) and n over `sizes`

    The paper scales by the degree of a node; the nodes of a graph are its set here. A graph without nodes gives zeros.
    Cost O(a n f + b a s f). No losses.

    Args:
        aggregations: as for MultiPool.
        scalers: of "identity", "amplification", "attenuation", "linear" and "inverse_linear", in the order above.
        sizes: of the training graphs; a model fills them in. None: of one node each.
        learn: train d and m.
    """

    def __init__(
        self,
        aggregations: Sequence[str] = ("mean", "std", "min", "max"),
        scalers: Sequence[str] = ("identity", "amplification", "attenuation"),
        sizes: Sequence[int] | None = None,
        learn: bool = False,
        **unknown: Any,
    ) -> None:
        from torch_geometric.nn.aggr import DegreeScalerAggregation

        for scaler in scalers:
            if scaler not in SCALERS:
                raise ValueError(f"scalers={scaler!r} is none of {', '.join(SCALERS)}{nearest(scaler, SCALERS)}")
        histogram = torch.bincount(torch.as_tensor(sizes or [1], dtype=torch.int64))
        super().__init__(**unknown)
        self.aggregation = DegreeScalerAggregation(list(aggregations), list(scalers), histogram, learn)
