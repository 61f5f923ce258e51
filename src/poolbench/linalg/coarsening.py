"""What a pool does to the graphs alone, written down: a selection and a pooled matrix, without any features.

It is all that an operator has to compute where neither its selection nor its pooled graph depends on features or
parameters, so it can be computed once a dataset and cut into batches like the graphs themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from poolbench.linalg.matrix import Dense, Sparse
from poolbench.linalg.nodes import Padded, Ragged
from poolbench.linalg.showing import listed


@dataclass(frozen=True, eq=False)
class Coarsening:
    """The coarsening of a batch of b graphs of n nodes in all. S is held in one of two ways, the other one is None.

    Args:
        kind: what reads it back, for the operator that wrote it; no meaning here.
        nodes: the nodes that are pooled. Rows of a `Padded` count as nodes.
        pooled: the pooled nodes, `Padded` where every graph has k of them.
        a: the pooled matrix, in the layout of `pooled`.
        node, cluster: [m] int64, the entries of S, graph by graph; numbered over the batch.
        weight: [m] or [m, h], the weights of the entries; None for ones.
        centre: a node for each pooled node, one of its own, where the operator has such.
        s: [n, k], a dense S.
    """

    kind: str
    nodes: Ragged | Padded
    pooled: Ragged | Padded
    a: Sparse | Dense
    node: Tensor | None = None
    cluster: Tensor | None = None
    weight: Tensor | None = None
    centre: Tensor | None = None
    s: Tensor | None = None

    def __repr__(self) -> str:
        return listed(self, **vars(self))
