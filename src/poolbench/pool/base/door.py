"""The way in and the way out: what PyG people hold becomes poolbench's matrices, and the answer what they gave.

| given | x | a, or `edge_index=` | i, or `batch=` |
| --- | --- | --- | --- |
| single | [n, f] | edge_index [2, e], or [n, n] dense or torch sparse ([1, n, n] too) | None |
| disjoint | [n, f] | edge_index, or [n, n] dense or torch sparse (block-diagonal) | [n], in any order |
| batch | [b, n, f] | [b, n, n] dense or torch sparse | None |
| mixed | [b, n, f] | edge_index or [n, n], one for all | None |
| own | node level | `poolbench.linalg.Matrix`, which knows its graphs | None |

Direction: an edge_index is (source, target), as PyG has it, and messages flow from row 0 to row 1. Every matrix (dense,
CSR, CSC, COO, our own) is read by rows as receivers: row u of A x is what u hears. So an edge_index is turned on its
way in, and on its way out.

Types: x holds floats. Whole numbers of shape [2, e] are an edge_index, with e = n = 2 too; whole numbers of another
shape are a dense matrix. Indices of any whole type become int64, weights that are whole numbers or bool floats of the
type of x (of torch's default type where x is neither float32 nor float64). An edge_index without weights comes out with
weights of the type of the pooled x. Nodes of a disjoint batch may stand in any order: they are sorted by graph, and
what comes out for each of them is in the order in which they came in. Where a mask says what is padding, x and a are 0
there, whatever was handed in.

Weights are taken as they are. NaN and infinite ones are not looked for: they come out as NaN wherever they are added
up; operators that make clusters on the host (EigenPool, NDP, NMF, SEP) refuse them. Products of very large ones (1e30
in float32) may overflow: scale them, or hand in float64.

`validate` checks what must be read from the tensors: indices out of range, the order of `batch`, edges between two
graphs. None stands for True, but False in a trace of torch.compile or torch.export. With False the caller vouches that
all this is in order and that `batch` is sorted; with `batch_size` as well, nothing is read back from the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix, Nodes, Padded, Ragged, Sparse, block_diagonal, to_flat, to_padded
from poolbench.linalg.plain import traced
from poolbench.linalg.products import invert, rows
from poolbench.linalg.showing import brief, listed
from poolbench.pool.base.explain import check_floats


class PoolOutput(NamedTuple):
    """What a hierarchical operator returns.

    x: pooled features, [k, f] (single), [sum k, f] (disjoint), [b, k, f] (batch).
    a: pooled adjacency, in the form in which a was given; `edge_index` is the same where it was given as one.
    i: graph of each pooled node, sorted, where i was given; `batch` is the same.
    s: the selection, where `return_selection=True`.
    score: [n] scores of the nodes, where the operator has them; None with `return_score=False`.
    mask: [b, k] real pooled nodes in batch mode, None where all are.
    sizes: pooled nodes of each graph, so that empty ones are not lost: [b].
    losses: auxiliary losses by name, each a scalar, averaged over graphs; empty where the operator has none.
    edge_weight: weights of the pooled edges, where a was given as an edge_index.
    edge_attr: [e'] or [e', d] features of the pooled edges, where features were given.
    edge: [2, m] (pooled edge, given edge): which given edges stand behind each pooled edge, in increasing order; where
        edge_attr was given, or with `return_edge=True`. An edge that vanished is in no column.
    perm: [k] the node that each pooled node was, where the operator keeps nodes; PyG's `score[perm]` is
        `out.score[out.perm]`. With a mask, numbers count the real nodes, as for `score`.
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
    edge_attr: Tensor | None = None
    edge: Tensor | None = None
    perm: Tensor | None = None

    @property
    def edge_index(self) -> Tensor | None:
        """`a`, where it is an edge_index: [2, e]."""
        return self.a if isinstance(self.a, Tensor) and _is_edge_index(self.a) else None

    @property
    def batch(self) -> Tensor | None:
        """`i`: [k]."""
        return self.i

    def __repr__(self) -> str:
        """Shapes, not numbers; what is None or empty is left out."""
        form = ""
        if isinstance(self.a, Tensor) and self.a.layout == torch.strided:
            form = "dense " if self.edge_index is None else "edge_index "
        x, a, *_ = self
        rest = {name: value for name, value in self._asdict().items() if name not in ("x", "a")}
        return listed(self, f"x={brief(x)}", f"a={form}{brief(a)}", **rest)


@dataclass(frozen=True, eq=False)
class Form:
    """How the input was given, to give the output back alike.

    Args:
        mode: single, disjoint, batch or own.
        kind: matrix, dense, coo, csr, csc or edge_index.
        matrix: what `a` became.
        squeeze: single mode with a mask is computed as a batch of one.
        ends: target and source of each edge of an edge_index, numbered as the rows of `matrix`; None for other kinds.
        weight: [e] of the given edges, None for ones.
        order: [n] which of the given nodes each row of `matrix` is, None where they were sorted.
        validate: whether the tensors may be read.
    """

    mode: str
    kind: str
    matrix: Matrix
    squeeze: bool = False
    ends: tuple[Tensor, Tensor] | None = None
    weight: Tensor | None = None
    order: Tensor | None = None
    validate: bool = True

    def in_given_order(self, v: Tensor | None) -> Tensor | None:
        """What there is for each row of `matrix`, for each of the given nodes: [n, ...]."""
        return v if v is None or self.order is None else v.index_select(0, invert(self.order))


def one_of(owner: str, **named: Any) -> Any:
    """The one of two arguments that mean the same that is not None, or None. Raises TypeError where both are given."""
    given = [value for value in named.values() if value is not None]
    if len(given) > 1:
        first, second = named
        raise TypeError(f"{owner}: {second} is another name of {first}: give one of them")
    return given[0] if given else None


def check_call(batch_size: Any, validate: Any) -> None:
    """Raises TypeError for what is no number of graphs, ValueError for what is no flag."""
    whole = batch_size is None or isinstance(batch_size, int | torch.SymInt | np.integer)
    if not whole or isinstance(batch_size, bool):
        raise TypeError(f"batch_size={batch_size!r}: the number of graphs, a whole number, is expected")
    if validate is not None:
        check_flag("validate", validate)


def check_flag(name: str, value: Any) -> None:
    """Raises ValueError for what is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r}: True or False is expected")


def enter(
    x: Tensor,
    a: Matrix | Tensor,
    i: Tensor | None,
    edge_weight: Tensor | None = None,
    mask: Tensor | None = None,
    batch_size: int | None = None,
    validate: bool | None = None,
) -> tuple[Tensor, Matrix, Tensor | None, Form]:
    """(x, a, i) in any of the forms above as (x, Matrix, i, form). Raises ValueError or TypeError with the shapes."""
    check_call(batch_size, validate)
    if isinstance(a, Matrix):
        if edge_weight is not None or mask is not None:
            raise ValueError("edge_weight and mask go with tensors: a Matrix carries its own values and padding")
        _check_count(batch_size, a.nodes.num_graphs, "the matrix")
        return x, a, i, Form("own", "matrix", a)
    if not isinstance(a, Tensor):
        raise TypeError(f"a must be a torch tensor or a poolbench.linalg.Matrix, not {type(a).__name__}")
    _check_features(x)
    validate = _may_read(validate)
    kind = _kind(a)
    if edge_weight is not None and kind != "edge_index":
        raise ValueError("edge_weight goes with an edge_index; a matrix carries its own values")
    if kind == "edge_index":
        edge_weight = _weights(edge_weight, a.shape[1], x)
    if x.ndim == 3:
        if i is not None:
            raise ValueError("x [b, n, f] with i: give a batch without i, or a disjoint union [n, f] with it")
        _check_count(batch_size, x.shape[0], "x [b, n, f]")
        x, dense = _batch(x, a, kind, edge_weight, mask, validate)
        return x, dense, None, Form("batch", kind, dense, validate=validate)
    if mask is not None:
        if i is not None:
            raise ValueError("a mask goes with batch or single mode; a disjoint batch has no padding")
        x, dense = _batch(x.unsqueeze(0), a, kind, edge_weight, mask, validate)
        return x, dense, None, Form("single", kind, dense, squeeze=True, validate=validate)
    if i is not None and batch_size is None and traced():
        _refuse_unknown()
    x, nodes, order = _disjoint(x, i, batch_size, validate)
    matrix, ends = _sparse(a, kind, edge_weight, x, nodes, order, validate)
    form = Form("single" if i is None else "disjoint", kind, matrix, False, ends, edge_weight, order, validate)
    return x, matrix, None if i is None else nodes.index, form


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
        mask = a.nodes.mask
        if mask is not None and form.validate and bool(mask.all()):
            mask = None
        return x, _batch_as(a.value, form.kind), mask, sizes, None
    if isinstance(a, Dense):
        if a.nodes.mask is None:
            x, a = x.flatten(0, 1), block_diagonal(a)
        else:
            x, a = to_flat(x, a)
    assert isinstance(a, Sparse)
    out, weight = _given(a, form)
    if weight is not None and form.weight is None and x.is_floating_point():  # else a layer after it takes their type
        weight = weight.to(x.dtype)
    return x, out, None, sizes, weight


def enter_readout(
    x: Tensor,
    i: Tensor | Nodes | None,
    mask: Tensor | None = None,
    batch_size: int | None = None,
    validate: bool | None = None,
) -> tuple[Tensor, Nodes]:
    """x and the nodes of its graphs, for a readout: as `enter`, without a graph."""
    check_call(batch_size, validate)
    if isinstance(i, Nodes):
        if mask is not None:
            raise ValueError("a mask goes with tensors: the nodes of a matrix carry their own padding")
        _check_count(batch_size, i.num_graphs, "the nodes")
        return x, i
    _check_features(x)
    if x.ndim == 3:
        if i is not None:
            raise ValueError("x [b, n, f] is a batch: it takes a mask, not i")
        _check_count(batch_size, x.shape[0], "x [b, n, f]")
        nodes = _padded(x, mask)
        return nodes.zero_padding(x), nodes
    if mask is not None:
        raise ValueError("a mask goes with x [b, n, f]")
    if i is not None and batch_size is None and traced() and not torch.compiler.is_dynamo_compiling():
        _refuse_unknown()  # dynamo knows sizes that are not known
    x, ragged, _ = _disjoint(x, i, batch_size, _may_read(validate))
    return x, ragged


def _refuse_unknown() -> None:
    """A trace that would have to read the number of graphs ends in one line; without fullgraph=True it goes on."""
    line = "torch.compile(fullgraph=True) and torch.export need batch_size=, the number of graphs, which batch= hides"
    if torch.compiler.is_exporting():
        raise ValueError(line)
    torch._dynamo.graph_break(msg=line)


def _may_read(validate: bool | None) -> bool:
    return not torch.compiler.is_compiling() if validate is None else validate


def _check_features(x: Tensor) -> None:
    check_tensor("x", x)
    check_floats(x)
    if x.ndim not in (2, 3):
        raise ValueError(f"x must be [n, f] or [b, n, f], not {list(x.shape)}")


def check_tensor(name: str, v: Any) -> None:
    """Raises TypeError for what is no tensor."""
    if not isinstance(v, Tensor):
        raise TypeError(f"{name} must be a torch tensor, not {type(v).__name__}")


def _check_count(batch_size: int | None, count: int, what: str) -> None:
    if batch_size is not None and batch_size != count:
        raise ValueError(f"batch_size={batch_size}, but {what} holds {count} graphs")


def _is_whole(v: Tensor) -> bool:
    return not (v.is_floating_point() or v.is_complex() or v.dtype == torch.bool)


def _is_edge_index(a: Tensor) -> bool:
    # an edge_index without edges is often written torch.tensor([[], []]), which is of floats
    return a.layout == torch.strided and a.ndim == 2 and a.shape[0] == 2 and (_is_whole(a) or a.shape[1] == 0)


def _kind(a: Tensor) -> str:
    if a.layout in _LAYOUTS:
        return _LAYOUTS[a.layout]
    if a.layout != torch.strided:
        raise TypeError(f"a has layout {a.layout}: give COO, CSR, CSC (`a.to_sparse_csr()`) or a dense tensor")
    return "edge_index" if _is_edge_index(a) else "dense"


_LAYOUTS = {torch.sparse_coo: "coo", torch.sparse_csr: "csr", torch.sparse_csc: "csc"}


def _disjoint(
    x: Tensor, i: Tensor | None, batch_size: int | None, validate: bool
) -> tuple[Tensor, Ragged, Tensor | None]:
    """x graph by graph, the nodes of each graph, and which of the given nodes each row is, None where all stay."""
    n = x.shape[0]
    if i is None:
        _check_count(batch_size, 1, "an input without batch")
        return x, Ragged.single(n, x.device), None
    if not isinstance(i, Tensor):
        raise TypeError(f"i (batch) must be a tensor [n], the graph of each node, not {type(i).__name__}")
    if not _is_whole(i):
        raise TypeError(
            f"i (batch) is of {i.dtype}: it holds the graph of each node, whole numbers. PyG's third argument is often "
            "edge_attr: give that as edge_attr="
        )
    if tuple(i.shape) not in ((n,), (n, 1)):
        raise ValueError(f"i (batch) has the shape {list(i.shape)} for {n} nodes: the graph of each node, [{n}]")
    i, order = i.reshape(-1).to(torch.int64), None
    if validate and n:
        if bool((i.diff() < 0).any()):
            order = torch.argsort(i, stable=True)
            x, i = x.index_select(0, order), i.index_select(0, order)
        first, last = int(i[0]), int(i[-1])
        if first < 0:
            raise ValueError(f"i (batch) names graph {first}: graphs are numbered from 0")
        if batch_size is None:
            batch_size = last + 1
        elif last >= batch_size:
            raise ValueError(
                f"batch_size={batch_size}, but i (batch) names graph {last}: at least {last + 1} is needed"
            )
    return x, Ragged.from_index(i, batch_size, validate=False), order


def _sparse(
    a: Tensor, kind: str, weight: Tensor | None, x: Tensor, nodes: Ragged, order: Tensor | None, validate: bool
) -> tuple[Sparse, tuple[Tensor, Tensor] | None]:
    """The matrix, and of an edge_index the row and the column of each edge."""
    n = nodes.num_rows
    if kind == "edge_index":
        col, row = a.to(torch.int64)
        if validate:
            _check_range(row, col, n)
    else:
        if tuple(a.shape) == (1, n, n):
            a = a.squeeze(0) if kind == "dense" else a.to_dense().squeeze(0)
            kind = "dense"
        if tuple(a.shape) != (n, n):
            hint = "; an edge_index [2, e] holds whole numbers" if a.ndim == 2 and a.shape[0] == 2 else ""
            raise ValueError(f"a must be [{n}, {n}] for x with {n} nodes, not {list(a.shape)}{hint}")
        row, col, value = _entries(a, kind)
        weight = _floating(value, x)
    if order is not None:
        number = invert(order)
        row, col = number.index_select(0, row), number.index_select(0, col)
    if validate and nodes.num_graphs > 1:
        _check_inside(row, col, nodes)
    if kind == "csr" and order is None:
        return Sparse(a.crow_indices().to(torch.int64), col, weight, nodes, row=row), None
    ends = (row, col) if kind == "edge_index" else None
    if validate:
        row, col, weight = _sorted(row, col, weight, n)
    return Sparse.from_edges(row, col, weight, nodes), ends


def _sorted(row: Tensor, col: Tensor, weight: Tensor | None, n: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Entries by row and column: sorted here they are sorted once, where `from_edges` would sort weights again."""
    key = row * n + col
    if not bool((key.diff() < 0).any()):
        return row, col, weight
    order = torch.argsort(key, stable=True)
    row, col = row.index_select(0, order), col.index_select(0, order)
    return row, col, None if weight is None else weight.index_select(0, order)


def _entries(a: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """(row, column, value) of the entries of a matrix [n, n]."""
    if kind == "coo":
        a = a.coalesce()
        row, col, value = *a.indices(), a.values()
    elif kind == "csr":
        col, value = a.col_indices().to(torch.int64), a.values()
        row = rows(a.crow_indices().to(torch.int64), col.numel())
    elif kind == "csc":
        row, value = a.row_indices().to(torch.int64), a.values()
        col = rows(a.ccol_indices().to(torch.int64), row.numel())
    else:
        row, col = a.nonzero(as_tuple=True)
        value = a[row, col]
    if value.ndim != 1:
        raise ValueError(f"a holds values of the shape {list(value.shape)}: one number an entry is expected")
    return row, col, value


def _check_range(row: Tensor, col: Tensor, n: int) -> None:
    if not row.numel():
        return
    low, high = torch.stack([torch.minimum(row, col).amin(), torch.maximum(row, col).amax()]).tolist()
    if low < 0 or high >= n:
        raise ValueError(f"edge_index names node {low if low < 0 else high}, but x has {n} nodes")


def _check_inside(row: Tensor, col: Tensor, nodes: Ragged) -> None:
    ends = nodes.index.index_select(0, row), nodes.index.index_select(0, col)
    if not torch.equal(*ends):
        at = (ends[0] != ends[1]).nonzero()[0, 0]
        raise ValueError(
            f"an edge joins nodes of graphs {int(ends[1][at])} and {int(ends[0][at])}: i (batch) and the edges do not "
            "fit together"
        )


def _weights(weight: Tensor | None, edges: int, x: Tensor) -> Tensor | None:
    """edge_weight as floats [e]."""
    if weight is None:
        return None
    check_tensor("edge_weight", weight)
    shape = list(weight.shape)
    if len(shape) == 2 and shape[1] != 1:
        raise ValueError(
            f"edge_weight has the shape {shape}: one number an edge is expected; give features of edges as edge_attr="
        )
    if shape not in ([edges], [edges, 1]):
        raise ValueError(f"edge_weight has {shape[0] if shape else 1} entries for the {edges} edges of edge_index")
    return _floating(weight.reshape(-1), x)


def _batch(
    x: Tensor, a: Tensor, kind: str, edge_weight: Tensor | None, mask: Tensor | None, validate: bool
) -> tuple[Tensor, Dense]:
    """x and a in the batch layout, both 0 in the padding."""
    b, n = x.shape[:2]
    if kind == "edge_index":
        a = _sparse(a, kind, edge_weight, x, Ragged.single(n, x.device), None, validate)[0].to_dense()
    elif kind != "dense":
        a = a.to_dense()
    if tuple(a.shape) not in ((b, n, n), (n, n)):
        raise ValueError(f"a must be [{b}, {n}, {n}] or [{n}, {n}] for x [{b}, {n}, f], not {list(a.shape)}")
    nodes = _padded(x, mask)
    a = _floating(a, x).expand(b, n, n)
    if nodes.mask is not None:
        x = nodes.zero_padding(x)
        a = a.masked_fill(~(nodes.mask.unsqueeze(-1) & nodes.mask.unsqueeze(-2)), 0.0)
    return x, Dense(a, nodes)


def _padded(x: Tensor, mask: Tensor | None) -> Padded:
    b, n = x.shape[:2]
    if mask is not None:
        check_tensor("mask", mask)
        if mask.numel() != b * n:
            raise ValueError(f"mask has the shape {list(mask.shape)} for x {list(x.shape)}: [{b}, {n}] is expected")
        mask = mask.reshape(b, n).to(torch.bool)
    return Padded(b, n, mask, x.device)


def _floating(v: Tensor, x: Tensor) -> Tensor:
    """Whole numbers and bool as floats; floats as they are."""
    if v.is_floating_point():
        return v
    if v.is_complex():
        raise TypeError(f"weights of edges are {v.dtype}: real numbers are expected")
    return v.to(x.dtype if x.dtype in (torch.float32, torch.float64) else torch.get_default_dtype())


def _given(a: Sparse, form: Form) -> tuple[Tensor, Tensor | None]:
    """A pooled matrix in the form in which the input came, and its weights, of an edge_index."""
    n = a.nodes.num_rows
    if form.kind == "edge_index" and a is form.matrix and form.ends is not None:  # nothing was pooled: edge by edge
        row, col = form.ends
        return torch.stack([col, row]), a.weights.new_ones(row.numel()) if form.weight is None else form.weight
    if form.kind == "edge_index":
        return torch.stack([a.col, a.row]), a.weights
    if form.kind == "dense":
        return a.to_dense(), None
    coo = torch.sparse_coo_tensor(torch.stack([a.row, a.col]), a.weights, (n, n), check_invariants=False)
    coo = coo.coalesce()
    return {"coo": coo.coalesce, "csr": coo.to_sparse_csr, "csc": coo.to_sparse_csc}[form.kind](), None


def _batch_as(value: Tensor, kind: str) -> Tensor:
    """[b, k, k] in the layout `kind`; CSR and CSC, which torch has for graphs of as many entries alone, with all."""
    b, k = value.shape[:2]
    if kind == "coo":
        return value.to_sparse()
    if kind not in ("csr", "csc"):
        return value
    starts = (k * torch.arange(k + 1, device=value.device)).expand(b, -1)
    others = torch.arange(k, device=value.device).repeat(k).expand(b, -1)
    if kind == "csr":
        return torch.sparse_csr_tensor(starts, others, value.reshape(b, -1), value.shape)
    return torch.sparse_csc_tensor(starts, others, value.mT.reshape(b, -1), value.shape)
