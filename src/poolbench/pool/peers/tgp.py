"""The operators of Torch Geometric Pool (tgp) behind the SRC contract. It is an optional package: `pool.peers.tgp`
can be imported only where tgp can.

Bianchi, Abate, Marisca, "Torch Geometric Pool: the Pytorch library for pooling in Graph Neural Networks",
arXiv 2512.12642. Its operators are judged as they are. What is known to differ in 1.0.1: the score-based ones (topk,
sag, asap, pan, maxcut without its assignment) sort the pooled rows by score but number the pooled edges by node, so
that features and graph disagree; asap keeps the induced subgraph of the kept nodes where the paper has S'AS; diff has
the link loss of the whole batch, not of each graph.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from poolbench.linalg import Dense, Matrix, Padded, Ragged, Sparse, to_padded
from poolbench.pool.base.selection import DenseSelection, Selection, SparseSelection
from poolbench.pool.peers.peer import PeerPool, PeerSelection, batch_of, by_graph, edges, width

try:
    from tgp.poolers import pooler_map
except ImportError as error:
    raise ImportError(
        "an operator of Torch Geometric Pool needs it: pip install -U setuptools wheel; "
        f"pip install --no-build-isolation torch-scatter torch-geometric-pool ({error})"
    ) from error


class TGPSelection(PeerSelection):
    """What a tgp operator returned.

    Args:
        output: tgp's SelectOutput. mask: [b, n], of the padded batch that it got, None where it got no padding.
        order: where each pooled row stood in tgp's output: [k], None for graphs of one size.
    """

    def __init__(
        self, x: Tensor, a: Matrix, nodes: Ragged, output: Any, mask: Tensor | None, order: Tensor | None
    ) -> None:
        super().__init__(x, a, nodes, _assignment(output.s, a, nodes, mask, order))
        self.output, self.mask, self.order = output, mask, order


class TGPPool(PeerPool):
    """An operator of tgp, by its alias there.

    The operators that form a dense S get the batch padded, in the form in which tgp itself pads it, the others edges;
    a graph without edge weights is given without. `lift` is tgp's own. Losses keep tgp's names.

    Args:
        alias: tgp's short name of the operator, such as topk.
        in_channels: features of a node.
        return_selection: also return the selection, as `s`.
        arguments: of tgp's class, under tgp's names.
    """

    def __init__(
        self, alias: str, in_channels: int | None = None, return_selection: bool = False, **arguments: Any
    ) -> None:
        super().__init__(return_selection=return_selection)
        if alias not in pooler_map:
            raise ValueError(f"alias={alias!r} is no operator of tgp: give one of {', '.join(sorted(pooler_map))}")
        if alias == "pan":
            raise ValueError("alias='pan': tgp's PANPooling takes the torch_sparse matrix of a PANConv, not a graph")
        cls = pooler_map[alias]
        takes = inspect.signature(cls).parameters
        if "in_channels" in takes:
            arguments["in_channels"] = width(in_channels, self)
        if "adj_transpose" in takes:  # PoolBench's pooled graph has the direction of its input
            arguments.setdefault("adj_transpose", False)
        self.layer: nn.Module = cls(**arguments)

    def out_channels(self, in_channels: int) -> int:
        return in_channels * int(getattr(self.layer, "num_modes", 1))  # EigenPooling's modes stand side by side

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> TGPSelection:
        a = a.sparse()
        out, mask = self.call(x, a)
        for name, value in (out.loss or {}).items():
            self.add_loss(name, value)
        if out.edge_index.ndim == 3:
            return TGPSelection(out.x, _dense(out.edge_index, out.mask), a.nodes, out.so, mask, None)
        y, pooled, order = by_graph(out.x, out.edge_index, out.edge_weight, out.batch, a.nodes.num_graphs)
        return TGPSelection(y, pooled, a.nodes, out.so, mask, order)

    def call(self, x: Tensor, a: Sparse) -> tuple[Any, Tensor | None]:
        """tgp's PoolingOutput, and the mask [b, n] of the padded batch that it got, None where it got edges."""
        with seeded_numpy():
            if not getattr(self.layer, "batched", False):
                index, weight = edges(a)
                return self.layer(x=x, adj=index, edge_weight=weight, batch=a.nodes.index), None
            padded, dense = to_padded(x, a)
            return self.layer(x=padded, adj=dense.value, mask=dense.nodes.mask), dense.nodes.mask

    def lift(self, x: Tensor, s: TGPSelection, inverse: bool = False) -> Tensor:
        """Pooled features back on the nodes, as tgp does it; `inverse` is chosen when the operator is made."""
        if inverse:
            raise NotImplementedError("tgp chooses how to lift when an operator is made: give it lift='inverse'")
        if s.order is not None:
            pooled, x = s.pooled.index[torch.argsort(s.order)], x[torch.argsort(s.order)]
        else:
            pooled = s.pooled.index
            x = x.reshape(s.pooled.num_graphs, -1, x.shape[-1])
        y = self.layer(x=x, so=s.output, lifting=True, batch=s.nodes.index, batch_pooled=pooled)
        return y if s.mask is None else y[s.mask]


class TGPClusters(TGPPool):
    """An operator of tgp with a fixed number of clusters.

    Args:
        alias: tgp's short name of the operator, such as mincut.
        k: clusters of a graph.
        in_channels: features of a node.
        return_selection: also return the selection, as `s`.
        arguments: of tgp's class, under tgp's names.
    """

    size_depends_on_data = False

    def __init__(
        self, alias: str, k: int, in_channels: int | None = None, return_selection: bool = False, **arguments: Any
    ) -> None:
        super().__init__(alias, in_channels, return_selection, k=k, **arguments)


@contextmanager
def seeded_numpy() -> Iterator[None]:
    """NumPy's global generator seeded from torch's: eigen and nmf draw from it, and a seed must give one result."""
    before = np.random.get_state()
    np.random.seed(int(torch.randint(2**32, ())))
    try:
        yield
    finally:
        np.random.set_state(before)


def _dense(a: Tensor, mask: Tensor | None) -> Dense:
    return batch_of(a, None if mask is None or bool(mask.all()) else mask)


def _assignment(s: Tensor, a: Matrix, nodes: Ragged, mask: Tensor | None, order: Tensor | None) -> Selection | str:
    """tgp's S, its columns in the order of the pooled rows."""
    if not s.is_sparse:
        assert isinstance(a, Dense) and isinstance(a.nodes, Padded)
        return DenseSelection(s if mask is None else s[mask], nodes, a.nodes.mask)
    if order is None:
        return "tgp told a sparse assignment beside graphs of one size"
    assert isinstance(a, Sparse)
    s = s.coalesce()
    node, cluster = s.indices()
    cluster = torch.argsort(order)[cluster]
    by_cluster = torch.argsort(cluster, stable=True)
    return SparseSelection(node[by_cluster], cluster[by_cluster], s.values()[by_cluster], nodes, a.nodes)
