"""What the operators of other libraries have in common behind the SRC contract: see `pyg.py` and `tgp.py`.

A peer's layer selects, reduces and connects in one call. An adapter makes that call in `select`, with the graph in the
form in which the peer takes it, and `reduce` and `connect` hand out what came back. The peer is judged as it is: what
it does differently from its paper, or from PoolBench's operator of that name, stands in the adapter's docstring.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix, Nodes, Padded, Ragged, Sparse
from poolbench.linalg.products import invert
from poolbench.pool.base.selection import Selection
from poolbench.pool.base.src import SRCPool


class PeerSelection(Selection):
    """The pooled graphs that a peer returned, and its S where it tells it.

    Args:
        x, a: pooled features and graphs.
        nodes: the nodes that were pooled.
        s: the same assignment as one of PoolBench's selections, or why there is none, in a few words.
    """

    def __init__(self, x: Tensor, a: Matrix, nodes: Nodes, s: Selection | str) -> None:
        self.x, self.a, self.nodes, self.pooled, self._s = x, a, nodes, a.nodes, s

    @property
    def s(self) -> Selection:
        """The assignment. Raises AttributeError where the peer does not tell it."""
        if isinstance(self._s, str):
            raise AttributeError(self._s)
        return self._s

    def _told(self) -> Selection:
        if isinstance(self._s, str):
            raise NotImplementedError(self._s)
        return self._s

    @property
    def index(self) -> Tensor:
        mask = self.pooled.mask if isinstance(self.pooled, Padded) else None
        return self.pooled.index if mask is None else self.pooled.index[mask.reshape(-1)]

    def dense(self) -> Tensor:
        return self._told().dense()

    def reduce(self, x: Tensor) -> Tensor:
        return self._told().reduce(x)

    def connect(self, a: Matrix) -> Matrix:
        return self._told().connect(a)

    def lift(self, x: Tensor) -> Tensor:
        return self._told().lift(x)

    def lift_inverse(self, x: Tensor) -> Tensor:
        return self._told().lift_inverse(x)


class PeerPool(SRCPool):
    """Base of the adapters: `select` calls the peer, and reduce and connect give what it returned."""

    def reduce(self, x: Tensor, s: PeerSelection) -> Tensor:  # type: ignore[override]
        return s.x

    def connect(self, a: Matrix, s: PeerSelection) -> Matrix:  # type: ignore[override]
        return s.a


def edges(a: Sparse) -> tuple[Tensor, Tensor | None]:
    """edge_index [2, e], sources and targets, and edge_weight [e], None where all weights are 1."""
    return torch.stack([a.col, a.row]), a.value


def width(in_channels: int | None, owner: object) -> int:
    """`in_channels`, which the layers of peers must know when they are made. Raises ValueError where it is None."""
    if in_channels is None:
        raise ValueError(f"{type(owner).__name__} needs in_channels: a peer's layer does not infer its width")
    return in_channels


def by_graph(
    x: Tensor, index: Tensor, weight: Tensor | None, graph: Tensor, num_graphs: int
) -> tuple[Tensor, Sparse, Tensor]:
    """Pooled rows in any order, sorted by graph: (x [k, f], a, order [k]), where x is `x[order]`.

    Args:
        index, weight: the pooled edges, sources and targets [2, e], and [e] or None. graph: of each pooled row, [k].
    """
    order = torch.argsort(graph, stable=True)
    rank = invert(order)
    nodes = Ragged.from_index(graph[order], num_graphs)
    return x.index_select(0, order), Sparse.from_edges(rank[index[1]], rank[index[0]], weight, nodes), order


def batch_of(a: Tensor, mask: Tensor | None = None) -> Dense:
    """Pooled graphs of one size: a [b, k, k]; mask [b, k] where some rows are no pooled node."""
    return Dense(a, Padded(a.shape[0], a.shape[1], mask, a.device))
