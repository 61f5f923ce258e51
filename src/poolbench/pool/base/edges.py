"""What becomes of the edges and their attributes where pooled edges are edges of the input, merged or not."""

from __future__ import annotations

import torch
from torch import Tensor

from poolbench.linalg import Matrix, Sparse
from poolbench.linalg.products import pointers, segment_max, segment_sum
from poolbench.pool.base.aggregation import REDUCTIONS
from poolbench.pool.base.door import Form, check_tensor
from poolbench.pool.base.selection import OverlapSelection, Selection, SparseSelection


def ends_of(form: Form, attributes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Row and column of each edge of the input, [e] in the order in which they were given.

    Raises ValueError where edges have no order (in a dense matrix, say), and for attributes that do not fit.
    """
    if attributes is not None:
        check_tensor("edge_attr", attributes)
    ends, a = form.ends, form.matrix
    if form.mode == "own" and isinstance(a, Sparse):
        ends = a.row, a.col
    if ends is None:
        raise ValueError(
            "edge_attr and `edge` go with x [n, f] and an edge_index, or with a Sparse of poolbench: edges given in "
            "another form have no order"
        )
    e = ends[0].numel()
    if attributes is not None and (attributes.ndim not in (1, 2) or attributes.shape[0] != e):
        raise ValueError(f"edge_attr must be [{e}] or [{e}, d] for {e} edges, not {list(attributes.shape)}")
    return ends


def check_reduction(how: str) -> None:
    """Raises ValueError for what is not one of `REDUCTIONS`."""
    if how not in REDUCTIONS:
        raise ValueError(f"edge_reduce={how!r}: one of {', '.join(REDUCTIONS)}")


def follow(
    ends: tuple[Tensor, Tensor], s: Selection, a: Matrix, pooled: Matrix, attributes: Tensor | None, how: str
) -> tuple[Tensor, Tensor | None]:
    """`edge` and `edge_attr` of a `PoolOutput`.

    Args:
        ends: from `ends_of`. s: the selection. a, pooled: the matrix before and after.
        attributes: [e] or [e, d] of the edges at `ends`. how: one of `REDUCTIONS`.

    Raises TypeError for a selection that neither keeps edges nor merges them.
    """
    if pooled is a:  # nothing was pooled: edge by edge, as `door.leave` has it
        return torch.arange(ends[0].numel(), device=ends[0].device).repeat(2, 1), attributes
    if isinstance(s, OverlapSelection) or not (isinstance(s, SparseSelection) and isinstance(pooled, Sparse)):
        raise TypeError(
            "edges are kept or merged by a SparseSelection whose clusters do not overlap and a Sparse, not by a "
            f"{type(s).__name__} and a {type(pooled).__name__}: leave out edge_attr"
        )
    edge = behind(*ends, s, pooled)
    return edge, None if attributes is None else merged_attributes(attributes, edge, pooled.col.numel(), how)


@torch.no_grad()
def behind(row: Tensor, col: Tensor, s: SparseSelection, pooled: Sparse) -> Tensor:
    """Which input edges stand behind each pooled edge: [2, m] int64, (pooled edge, input edge) in increasing order.

    An input edge goes where the clusters of its ends go; one whose ends have no cluster, or whose pooled edge was
    dropped, is left out. Where the entries of both matrices stand in several parts, part j goes to part j.

    Args:
        row, col: [e] the nodes of each input edge, numbered as rows and columns of the matrix, in any order; an edge
            may stand several times.
        s: the selection, in which no clusters overlap.
        pooled: the pooled matrix: its entries are the pooled edges.

    Cost O((e + e') log (e + e')) for e' entries of `pooled`.
    """
    k, count, cluster = pooled.nodes.num_rows, pooled.col.numel(), s.of_node
    row, col = cluster.index_select(0, row), cluster.index_select(0, col)
    (edge,) = (torch.minimum(row, col) >= 0).nonzero(as_tuple=True)
    key = torch.cat([pooled.row * k + pooled.col, (row * k + col).index_select(0, edge)])
    key, order = key.sort(stable=True)  # of equal keys those of pooled edges come first
    place = torch.arange(key.numel(), device=key.device)
    new = torch.ones_like(place, dtype=torch.bool)
    new[1:] = key[1:] != key[:-1]
    first = torch.where(new, place, 0).cummax(0).values  # of equal keys
    last = torch.where(order < count, place, -1).cummax(0).values  # pooled edge at or before a place
    (there,) = ((order >= count) & (last >= first)).nonzero(as_tuple=True)
    first, last = first.index_select(0, there), last.index_select(0, there)
    found = order.index_select(0, first + torch.minimum(there - last - 1, last - first))
    edge = edge.index_select(0, order.index_select(0, there) - count)
    order = found.argsort(stable=True)
    return torch.stack([found.index_select(0, order), edge.index_select(0, order)])


def merged_attributes(attributes: Tensor, edge: Tensor, count: int, how: str) -> Tensor:
    """The attributes [e, ...] of the input edges behind each pooled edge, reduced: [count, ...], differentiable.

    edge: from `behind`, at least one input edge for each of the `count` pooled edges. how: one of `REDUCTIONS`.

    Raises ValueError for attributes that are no floats where edges are merged.
    """
    pooled, given = edge
    rows = attributes.index_select(0, given)
    if given.numel() == count:  # one for each
        return rows
    if not rows.is_floating_point():
        raise ValueError(
            f"edge_attr holds {rows.dtype}, which is not merged: give floats, such as a column of 0 and 1 a category"
        )
    ptr = pointers(pooled, count)
    if how in ("max", "min"):
        return segment_max(rows, ptr, pooled) if how == "max" else -segment_max(-rows, ptr, pooled)
    total = segment_sum(rows, ptr, pooled)
    if how == "sum":
        return total
    return total / ptr.diff().to(total.dtype).reshape(-1, *[1] * (total.ndim - 1))
