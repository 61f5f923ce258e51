"""The way in and the way out: what PyG people hold becomes poolbench's matrices, and the answer what they gave.

| given | x | a | i |
| --- | --- | --- | --- |
| single | [n, f] | [n, n] dense or torch sparse, or edge_index [2, e] | None |
| disjoint | [n, f] | [n, n] dense or torch sparse (block-diagonal), or edge_index | [n] sorted |
| batch | [b, n, f] | [b, n, n] dense or torch sparse | None |
| mixed | [b, n, f] | [n, n] or edge_index, one for all | None |
| own | node level | `poolbench.linalg.Matrix`, which knows its graphs | None |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix, Padded, Ragged, Sparse, block_diagonal, to_flat, to_padded


class PoolOutput(NamedTuple):
    """What a hierarchical operator returns.

    x: pooled features, [k, f] (single), [sum k, f] (disjoint), [b, k, f] (batch).
    a: pooled adjacency, in the form in which a was given.
    i: graph of each pooled node, where i was given.
    s: the selection, where `return_selection=True`.
    score: [n] scores, where the operator has them and `return_score=True`.
    mask: [b, k] real pooled nodes in batch mode, None where all are.
    sizes: pooled nodes of each graph, so that empty ones are not lost: [b].
    losses: auxiliary losses by name, each a scalar, averaged over graphs; empty where the operator has none.
    edge_weight: weights of the pooled edges, where a was given as an edge_index.
    """

    x: Tensor
    a: Matrix | Tensor
    i: Tensor | None
    s: object | None
    score: Tensor | None
    mask: Tensor | None
    sizes: Tensor
    losses: dict[str, Tensor]
    edge_weight: Tensor | None = None


@dataclass(frozen=True)
class Form:
    """How the input was given, to give the output back alike."""

    mode: str  # single, disjoint, batch or own
    kind: str  # matrix, dense, coo, csr or edge_index
    squeeze: bool = False  # single mode with a mask is computed as a batch of one


def enter(
    x: Tensor, a: Matrix | Tensor, i: Tensor | None, edge_weight: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Matrix, Form]:
    """(x, a, i) in any of the forms above as (x, Matrix, form). Raises ValueError or TypeError with the shapes."""
    if isinstance(a, Matrix):
        return x, a, Form("own", "matrix")
    if not isinstance(a, Tensor):
        raise TypeError(f"a must be a torch tensor or a poolbench.linalg.Matrix, not {type(a).__name__}")
    if not isinstance(x, Tensor) or x.ndim not in (2, 3):
        raise ValueError(f"x must be [n, f] or [b, n, f], not {tuple(getattr(x, 'shape', ()))}")
    kind = _kind(a, x.shape[-2])
    if edge_weight is not None and kind != "edge_index":
        raise ValueError("edge_weight goes with an edge_index; a matrix carries its own values")
    if x.ndim == 3:
        if i is not None:
            raise ValueError("x [b, n, f] with i: give a batch without i, or a disjoint union [n, f] with it")
        return x, _batch(x, a, kind, edge_weight, mask), Form("batch", kind)
    if mask is not None:
        if i is not None:
            raise ValueError("a mask goes with batch or single mode; a disjoint batch has no padding")
        dense = _batch(x.unsqueeze(0), a, kind, edge_weight, mask.reshape(1, -1))
        return x.unsqueeze(0), dense, Form("single", kind, squeeze=True)
    if i is not None and i.shape[0] != x.shape[0]:
        raise ValueError(f"i has {i.shape[0]} entries for {x.shape[0]} nodes")
    nodes = Ragged.single(x.shape[0], x.device) if i is None else Ragged.from_index(i)
    return x, _sparse(a, kind, edge_weight, nodes), Form("single" if i is None else "disjoint", kind)


def leave(form: Form, x: Tensor, a: Matrix) -> tuple[Tensor, Matrix | Tensor, Tensor | None, Tensor, Tensor | None]:
    """(x, a, mask, sizes, edge_weight) in the form in which the input came."""
    sizes = a.nodes.sizes
    mask = a.nodes.mask if isinstance(a.nodes, Padded) else None
    if form.mode == "own":
        return x, a, mask, sizes, None
    if form.mode == "batch":
        if isinstance(a, Sparse):
            x, a = to_padded(x, a)
        assert isinstance(a, Dense)
        if a.nodes.mask is not None and bool(a.nodes.mask.all()):
            a = Dense(a.value, None, a.symmetric)
        value = a.value
        if form.kind in ("coo", "csr"):
            value = value.to_sparse() if form.kind == "coo" else value.to_sparse_csr()
        return x, value, a.nodes.mask, sizes, None
    if isinstance(a, Dense):
        if a.nodes.mask is None:
            x, a = x.reshape(-1, *x.shape[2:]), block_diagonal(a)
        else:
            x, a = to_flat(x, a)
    assert isinstance(a, Sparse)
    out, weight = _given(a, form.kind)
    return x, out, None, sizes, weight


def _kind(a: Tensor, n: int) -> str:
    if a.layout == torch.sparse_coo:
        return "coo"
    if a.layout == torch.sparse_csr:
        return "csr"
    if a.layout != torch.strided:
        raise TypeError(f"a has layout {a.layout}: give COO, CSR or a dense tensor")
    if a.ndim == 2 and a.shape[0] == 2 and not a.is_floating_point() and a.dtype != torch.bool:
        if a.shape[1] != 2 or n != 2:
            return "edge_index"
        raise ValueError("a [2, 2] of integers for 2 nodes can be an edge_index or a matrix: make the matrix float")
    return "dense"


def _sparse(a: Tensor, kind: str, edge_weight: Tensor | None, nodes: Ragged) -> Sparse:
    n = nodes.num_rows
    if kind == "edge_index":
        if a.numel() and (int(a.min()) < 0 or int(a.max()) >= n):
            raise ValueError(f"edge_index names node {int(a.max())}, but x has {n} nodes")
        return Sparse.from_edges(a[0], a[1], edge_weight, nodes)
    if tuple(a.shape) != (n, n):
        raise ValueError(f"a must be [{n}, {n}] for x with {n} nodes, not {list(a.shape)}")
    if kind == "csr":
        return Sparse(a.crow_indices().to(torch.int64), a.col_indices().to(torch.int64), a.values(), nodes)
    if kind == "coo":
        a = a.coalesce()
        row, col, value = *a.indices(), a.values()
    else:
        row, col = a.nonzero(as_tuple=True)
        value = a[row, col]
    return Sparse.from_edges(row, col, _floating(value), nodes)


def _batch(x: Tensor, a: Tensor, kind: str, edge_weight: Tensor | None, mask: Tensor | None) -> Dense:
    b, n = x.shape[:2]
    if kind == "edge_index":
        a = _sparse(a, kind, edge_weight, Ragged.single(n, x.device)).to_dense()
    elif kind != "dense":
        a = a.to_dense()
    if tuple(a.shape) not in ((b, n, n), (n, n)):
        raise ValueError(f"a must be [{b}, {n}, {n}] or [{n}, {n}] for x [{b}, {n}, f], not {list(a.shape)}")
    a = _floating(a).expand(b, n, n)
    if mask is not None:
        mask = mask.reshape(b, n).to(torch.bool)
    return Dense(a, Padded(b, n, mask, x.device))


def _floating(a: Tensor) -> Tensor:
    return a if a.is_floating_point() else a.to(torch.get_default_dtype())


def _given(a: Sparse, kind: str) -> tuple[Tensor, Tensor | None]:
    n = a.nodes.num_rows
    if kind == "dense":
        return a.to_dense(), None
    index, value = torch.stack([a.row, a.col]), a.weights
    if kind == "edge_index":
        return index, value
    coo = torch.sparse_coo_tensor(index, value, (n, n), check_invariants=False)
    return (coo.coalesce(), None) if kind == "coo" else (coo.coalesce().to_sparse_csr(), None)
