"""Selections as plain tensors and back, for what is computed once a dataset (`SRCPool.precomputable`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix, Nodes, Padded, Ragged, Sparse
from poolbench.linalg.coarsening import Coarsening
from poolbench.pool.base.partition import CentredPartition
from poolbench.pool.base.selection import (
    DenseSelection,
    KeptSelection,
    OverlapSelection,
    Selection,
    SparseSelection,
)

_KINDS: dict[str, type[SparseSelection]] = {
    kind.__name__: kind for kind in (SparseSelection, KeptSelection, OverlapSelection)
}


def write_down(s: Selection, a: Matrix) -> Coarsening:
    """A selection and its pooled matrix as tensors. Raises TypeError for a selection that holds neither entries nor S.

    A class of an operator's own that has entries (`node`, `cluster`, `weight`) is written by them, and read back by
    that operator (`SRCPool.restore`).
    """
    assert isinstance(s.nodes, Ragged | Padded) and isinstance(s.pooled, Ragged | Padded)
    assert isinstance(a, Sparse | Dense)
    entries: Any = s if hasattr(s, "node") else None
    if entries is not None:
        # What subclasses of KeptSelection add is for connect, and connect was called.
        kind = KeptSelection if isinstance(s, KeptSelection) else type(s)
        centre = s.centres if isinstance(s, CentredPartition) else None
        node, cluster, weight = entries.node, entries.cluster, entries.weight
        return Coarsening(kind.__name__, s.nodes, s.pooled, a, node, cluster, weight, centre)
    if isinstance(s, DenseSelection):
        return Coarsening(DenseSelection.__name__, s.nodes, s.pooled, a, s=s.s.reshape(-1, s.s.shape[-1]))
    raise TypeError(f"a {type(s).__name__} cannot be precomputed: return a DenseSelection or a SparseSelection")


def read_back(c: Coarsening, nodes: Nodes) -> Selection:
    """The selection that `write_down` got. Raises TypeError for a class of an operator's own."""
    if c.s is not None:
        assert isinstance(c.pooled, Padded)
        return DenseSelection(as_layout(c.s, nodes), nodes, c.pooled.mask)
    assert c.node is not None and c.cluster is not None
    if c.centre is not None:
        assert isinstance(nodes, Ragged) and isinstance(c.pooled, Ragged)
        return CentredPartition(c.node, c.cluster, c.weight, nodes, c.pooled, c.centre)
    if c.kind not in _KINDS:
        raise TypeError(f"nobody reads a coarsening of kind {c.kind!r} back: override `restore` in the operator")
    assert isinstance(nodes, Ragged) and isinstance(c.pooled, Ragged)
    return _KINDS[c.kind](c.node, c.cluster, c.weight, nodes, c.pooled)


def as_layout(v: Tensor, nodes: Nodes) -> Tensor:
    """One row a node in flat order, padding included -> node level."""
    return v.reshape(nodes.num_graphs, nodes.width, *v.shape[1:]) if isinstance(nodes, Padded) else v


def real_rows(nodes: Nodes) -> Tensor | None:
    """The rows of real nodes in flat order: [n] int64; None where all are."""
    if not isinstance(nodes, Padded) or nodes.mask is None:
        return None
    return nodes.mask.reshape(-1).nonzero(as_tuple=True)[0]


def check_fits(name: str, theirs: Nodes, nodes: Nodes) -> None:
    """Raise ValueError where `name` is of other graphs, as far as the numbers of graphs and of nodes tell."""
    rows, wanted = _rows(theirs), _rows(nodes)
    if (rows, theirs.num_graphs) != (wanted, nodes.num_graphs):
        raise ValueError(
            f"{name} is of {rows} nodes in {theirs.num_graphs} graphs, the input has {wanted} nodes in "
            f"{nodes.num_graphs} graphs: give the one of the same batch"
        )
    if isinstance(theirs, Padded) != isinstance(nodes, Padded):
        raise ValueError(f"{name} is of a batch in the other layout: give the one of this call's")


def check_assignment(s: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError where s is neither an assignment [*shape, k] nor nodes to keep [k], in a disjoint batch."""
    if s.is_floating_point():
        if s.ndim != len(shape) + 1 or tuple(s.shape[:-1]) != shape:
            raise ValueError(
                f"s has the shape {list(s.shape)}: an assignment [{', '.join(map(str, shape))}, k] is expected"
            )
        return
    if s.ndim != 1 or s.dtype == torch.bool:
        raise ValueError(f"s is {s.dtype} {list(s.shape)}: floats [n, k], or the numbers of the nodes to keep [k]")
    if s.numel() and (int(s.min()) < 0 or int(s.max()) >= shape[0] or s.unique().numel() < s.numel()):
        raise ValueError(f"s names nodes to keep: each once, from 0 to {shape[0] - 1}")


def _rows(nodes: Nodes) -> int:
    if isinstance(nodes, Padded):
        return nodes.num_graphs * nodes.width
    assert isinstance(nodes, Ragged)
    return nodes.num_rows
