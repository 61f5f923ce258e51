"""Select, Reduce, Connect: the contract of every hierarchical operator, and its small counterpart for readouts.

Grattarola, Zambon, Bianchi, Alippi, "Understanding Pooling in Graph Neural Networks", TNNLS 2022, arXiv 2110.05292.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any, ClassVar

import torch
from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import RAW, Connectivity, Dense, Matrix, Nodes, Padded, Ragged, Sparse, to_flat
from poolbench.linalg.coarsening import Coarsening
from poolbench.linalg.plain import traced
from poolbench.linalg.products import invert
from poolbench.pool.base.door import Form, PoolOutput, check_flag, enter, enter_readout, leave, one_of
from poolbench.pool.base.edges import check_reduction, ends_of, follow
from poolbench.pool.base.explain import explained
from poolbench.pool.base.layers import apply_constraints, penalised, row_softmax
from poolbench.pool.base.module import Module, parameters_of
from poolbench.pool.base.postprocess import as_narrow
from poolbench.pool.base.precomputed import check_assignment, check_fits, read_back, write_down
from poolbench.pool.base.selection import (
    DenseSelection,
    Identity,
    KeptSelection,
    Reordered,
    Repadded,
    Selection,
    SparseSelection,
    as_given,
)
from poolbench.pool.base.threads import alone


class Operator(Module):
    """What hierarchical operators and readouts share: strict arguments, weight penalties and constraints.

    `repr`, `get_config` and `reset_parameters` come from `Module`.
    """

    #: True where a forward pass draws random numbers.
    stochastic: ClassVar[bool] = False

    def __init__(self, **unknown: Any) -> None:
        super().__init__()
        for name in unknown:
            if name in inspect.signature(type(self).forward).parameters:
                raise TypeError(f"{type(self).__name__}: {name} is an argument of the call, pool(..., {name}=...)")
            raise TypeError(_unknown(type(self).__name__, name, constructor_arguments(type(self))))

    def penalty(self) -> Tensor | None:
        """Sum of the weight penalties (`*_regularizer`), None where there are none."""
        terms = [p for p in (layer.penalty() for layer in penalised(self)) if p is not None]
        return torch.stack(terms).sum() if terms else None

    def apply_constraints(self) -> None:
        """Project the weights on their constraints; the training loop calls this after each optimiser step."""
        apply_constraints(self)


class SRCPool(Operator):
    """Base class of the hierarchical operators; on its own it pools nothing.

    A new operator overrides `select`, which may return

    * the indices of the nodes to keep: an int64 tensor [k] (each becomes a pooled node, the rest are dropped),
    * a soft assignment: a float tensor [n, k], the same k for every graph,
    * or a `Selection`, for anything else;

    `reduce` (S'X), `connect` (S'AS, or the induced subgraph) and `reduce_index` then work as they are, and can be
    overridden alike. `a` is a `poolbench.linalg.Matrix` whose `nodes` know which node belongs to which graph, so that
    sums over graphs need no loop. An operator with `batched = True` takes x [b, n, f] as it is; the others see the
    nodes of a batch as one disjoint union and get their answer padded again.

    Keyword arguments of a call are routed by name: a parameter of `select`, `reduce`, `connect` or `reduce_index`
    that has a default gets x, a or i where it bears that name (and, as `node_order`, which of the given nodes each is,
    [n], or None where they stood graph by graph), else the keyword of that name, else its default; a `**kwargs`
    parameter gets all keywords. A keyword that none of them asks for raises TypeError.

    Args:
        return_selection: also return the selection, as `s`.

    Shapes: x [n, f] -> [k, f]; see `poolbench.pool.base.door` for the modes.
    Raises: TypeError for an unknown argument, naming the nearest; ValueError for shapes that do not fit.
    """

    #: The matrix that the operator was designed for: a model hands it `a.view(connectivity)`.
    connectivity: Connectivity = RAW
    #: True where the number of pooled nodes depends on the data, so that a CUDA step must wait for the device.
    size_depends_on_data: ClassVar[bool] = True
    #: True where the operator takes the batch layout as it is.
    batched: ClassVar[bool] = False
    #: True where select and connect depend on `a` alone, neither on x nor on parameters: see `coarsen`.
    precomputable: bool = False
    #: What a pooled edge is, for `edge_attr`: an input edge between kept nodes ("kept"); all input edges from one
    #: cluster to another, of clusters that do not overlap ("merged"); neither ("").
    pooled_edges: str = ""
    #: True where a symmetric graph may come out directed, as where edges are learned.
    directs: bool = False
    #: True where `select` asks for `x0`: what the layers of a level were given, beside x, what they made of it.
    takes_x0: bool = False
    #: What reduce and connect can work with; a call with `s` takes no other.
    selects: ClassVar[tuple[type[Selection], ...]] = (Selection,)

    def __init__(self, return_selection: bool = False, **unknown: Any) -> None:
        super().__init__(**unknown)
        self.return_selection = return_selection
        self._n_nodes: int | None = None
        self._losses: dict[str, Tensor] = {}
        self._score: Tensor | None = None
        self._routes = {name: _routed(getattr(self, name)) for name in ("select", "reduce", "connect", "reduce_index")}

    def __init_subclass__(cls, **keywords: Any) -> None:
        """A `lift` of the class's own sees nodes as `select` does; what it returns is put in the form of the call."""
        super().__init_subclass__(**keywords)
        if "lift" in vars(cls):
            cls.lift = as_given(vars(cls)["lift"])  # type: ignore[method-assign]

    @property
    def n_nodes(self) -> int:
        """Nodes in the input, along the second to last axis of x. AttributeError before the first call."""
        if self._n_nodes is None:
            raise AttributeError("n_nodes is known only once the operator was called")
        return self._n_nodes

    def out_channels(self, in_channels: int) -> int:
        """Features of a pooled node for `in_channels` features of a node."""
        return in_channels

    def add_loss(self, name: str, value: Tensor) -> None:
        """Add an auxiliary loss (a scalar, already averaged over graphs) to the result of this call."""
        self._losses[name] = self._losses[name] + value if name in self._losses else value

    @explained(
        3,
        "x, edge_index (or a) and batch (or i) go by position, in this order, the rest by name: "
        "pool(x, edge_index, batch, edge_attr=edge_attr)",
    )
    @alone
    def forward(
        self,
        x: Tensor,
        a: Matrix | Tensor | None = None,
        i: Tensor | None = None,
        *,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        mask: Tensor | None = None,
        validate: bool | None = None,
        coarsening: Coarsening | None = None,
        s: Selection | Tensor | EllipsisType | None = ...,
        edge_reduce: str = "sum",
        return_edge: bool = False,
        **kwargs: Any,
    ) -> PoolOutput:
        """Pool (x, a, i), given in any of the forms of `poolbench.pool.base.door`.

        edge_index, batch: other names of a and i, as PyG has them.
        edge_weight: [e] of the edges of an edge_index.
        edge_attr: [e] or [e, d], features of the edges of an edge_index, or of the entries of a Sparse. They come back
            as `edge_attr` of the pooled edges, with `edge`; for operators with `pooled_edges` alone.
        edge_reduce: "sum", "mean", "max" or "min" of the features of merged edges, parallel ones of the input included.
        return_edge: return `edge` without features, too.
        batch_size: number of graphs, so that the last ones may be without nodes and none is counted on the device.
        mask: [b, n] (batch mode) or [n], which nodes are real.
        validate: False checks nothing that would have to be read back from the device.
        coarsening: what `coarsen` made of the same `a`, used in place of select and connect.
        s: what `select` may return, used in its place: whole numbers [k], the nodes to keep, which stay in
            input order; floats, an assignment [n, k] ([b, n, k] in a batch), taken as it is; or a selection, such as
            the `s` of another operator's answer. None is refused: it is the `s` of an answer without one.
        """
        owner = type(self).__name__
        a, i = one_of(owner, a=a, edge_index=edge_index), one_of(owner, i=i, batch=batch)
        if a is None:
            raise TypeError(f"{owner} needs a graph: give edge_index, or a matrix as a")
        check_flag("return_edge", return_edge)
        check_reduction(edge_reduce)
        x, matrix, i, form = enter(x, a, i, edge_weight, mask, batch_size, validate)
        ends = self._ends(form, edge_attr) if return_edge or edge_attr is not None else None
        self._n_nodes, self._losses, self._score = x.shape[-2], {}, None
        if isinstance(matrix, Dense) and not self.batched:
            x, matrix = to_flat(x, matrix)
        given = {"x": x, "a": matrix, "i": i, "node_order": form.order}
        self._check(kwargs)

        if coarsening is None:
            if s is ...:
                s = self._selection(self.select(x, matrix, i, **self._take("select", given, kwargs)), matrix.nodes)
            else:
                s = self._handed_in(s, matrix.nodes, form.order)
            self.assess(s, x, matrix)
        elif s is not ...:
            raise ValueError("s and coarsening both say which nodes go where: give one of them")
        else:
            self._refuse_unless_precomputable()
            check_fits("coarsening", coarsening.nodes, matrix.nodes)
            s = self.restore(coarsening, matrix.nodes)
        pooled = self.reduce(x, s, **self._take("reduce", given, kwargs))
        index = None if i is None else self.reduce_index(i, s, **self._take("reduce_index", given, kwargs))
        connected: Matrix
        if coarsening is None:
            connected = as_narrow(self.connect(matrix, s, **self._take("connect", given, kwargs)), matrix)
        else:
            connected = coarsening.a

        weights = self.penalty()
        if weights is not None:
            self.add_loss("regularization", weights)
        out = self.get_outputs(form, pooled, connected, index, s)
        if ends is not None:
            edge, edge_attr = follow(ends, self.joined(s), matrix, connected, edge_attr, edge_reduce)
            out = out._replace(edge=edge, edge_attr=edge_attr)
        self._losses, self._score = {}, None  # kept, they would hold the graph of this call and forbid a deepcopy
        return out

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> Selection | Tensor:
        """Which nodes go where. Here: every node is kept."""
        return Identity(a.sparse().nodes)

    def assess(self, s: Selection, x: Tensor, a: Matrix) -> None:
        """Called with each new selection, chosen or handed in: the place of losses that it alone decides."""

    def reduce(self, x: Tensor, s: Selection) -> Tensor:
        """Pooled features, S'X."""
        return s.reduce(x)

    def connect(self, a: Matrix, s: Selection) -> Matrix:
        """Pooled adjacency: S'AS for a dense S, the induced or merged graph for a sparse one."""
        return s.connect(a)

    def joined(self, s: Selection) -> Selection:
        """The selection whose clusters the pooled edges join. To override where `connect` takes another than s."""
        return s

    def reduce_index(self, i: Tensor, s: Selection) -> Tensor:
        """Graph of each pooled node."""
        return s.index

    @as_given
    def lift(self, x: Tensor, s: Selection, inverse: bool = False) -> Tensor:
        """Pooled features back on the nodes: S X', or (S+)' X' with `inverse=True`.

        Of x as `out.x` stands and the `s` of that `out`, rows as the nodes were given: [n, f] in their order, or
        [b, n, f] with zeros in the padding.
        """
        return s.lift_inverse(x) if inverse else s.lift(x)

    @torch.no_grad()
    def coarsen(self, a: Sparse | Dense) -> Coarsening:
        """Select and connect without features: `pool(x, a, coarsening=...)` then gives what `pool(x, a)` does.

        Only where `precomputable`, else TypeError. `a` is the matrix of the call, Sparse or (as a dense pool returns
        it) Dense; the next level coarsens the `a` of the result. No gradient goes through what is precomputed.
        """
        self._refuse_unless_precomputable()
        if isinstance(a, Dense) and not self.batched:
            a = a.sparse()
        # An operator may ask for the type, the device and the number of rows of x, but there is no feature in it.
        x = (a.value if isinstance(a, Dense) else a.weights).new_zeros(*_shape(a.nodes), 0)
        s = self._selection(self.select(x, a, None), a.nodes)
        return write_down(s, self.connect(a, s))

    def restore(self, c: Coarsening, nodes: Nodes) -> Selection:
        """The selection in a coarsening. To override where `select` returns a class of the operator's own."""
        return read_back(c, nodes)

    def _refuse_unless_precomputable(self) -> None:
        if not self.precomputable:
            raise TypeError(f"{type(self).__name__} is not precomputable: its selection depends on features or weights")

    def get_outputs(self, form: Form, x: Tensor, a: Matrix, i: Tensor | None, s: Selection) -> PoolOutput:
        """The result, `a` in the form in which it was given."""
        x, given, mask, sizes, edge_weight = leave(form, x, a)
        if form.order is not None:
            s = Reordered(s, form.order)
        elif isinstance(form.matrix, Dense) and (form.squeeze or not self.batched):
            s = Repadded(s, form.matrix.nodes, form.squeeze)
        selection = s if self.return_selection else None
        score, losses = form.in_given_order(self._score), dict(self._losses)
        return PoolOutput(x, given, i, selection, score, mask, sizes, losses, edge_weight, perm=s.perm)

    def _ends(self, form: Form, edge_attr: Tensor | None) -> tuple[Tensor, Tensor]:
        """Row and column of each input edge."""
        if not self.pooled_edges:
            raise ValueError(
                f"{type(self).__name__} takes no edge_attr and has no `edge`: its pooled edges are neither edges of "
                "the input nor merged from them; SAGPool and EdgePool keep or merge edges, and take it"
            )
        return ends_of(form, edge_attr)

    def _selection(self, s: Selection | Tensor | list[int], nodes: Nodes) -> Selection:
        if isinstance(s, Selection):
            return s
        if isinstance(s, Tensor) and s.is_floating_point():
            return DenseSelection(s, nodes)
        if not isinstance(nodes, Ragged):
            raise TypeError("select returned node indices for the batch layout: leave `batched` False")
        device = nodes.ptr.device
        return SparseSelection.keep(torch.as_tensor(s, dtype=torch.int64, device=device), None, nodes)

    def _handed_in(self, s: Selection | Tensor | None, nodes: Nodes, order: Tensor | None) -> Selection:
        """The selection that was handed in. Raises ValueError for one of other nodes, TypeError for another kind.

        order: [n] which of the given nodes each is, None where they stand graph by graph.
        """
        if isinstance(s, Tensor):
            check_assignment(s, _shape(nodes))
            if order is not None:
                s = s.index_select(0, order) if s.is_floating_point() else invert(order).index_select(0, s)
            s = SRCPool._selection(self, s if s.is_floating_point() else s.sort().values, nodes)
        elif not isinstance(s, Selection):
            hint = ", which has one with return_selection=True" if s is None else ""
            raise TypeError(
                f"s is a {type(s).__name__}: a tensor or a selection, such as the `s` of another operator's answer"
                f"{hint}, is expected"
            )
        elif isinstance(s, Reordered) or order is not None:
            if not (isinstance(s, Reordered) and order is not None and torch.equal(s.order, order)):
                raise ValueError("s is of nodes in another order: give the one of the same batch, nodes in its order")
            s = s.sorted
        if isinstance(s, Repadded):  # its nodes are numbered as those of a disjoint union
            s = s.sorted
        check_fits("s", s.nodes, nodes)
        if not isinstance(s, self.selects):
            kinds = " or ".join(kind.__name__ for kind in self.selects)
            raise TypeError(
                f"s is a {type(s).__name__}: {type(self).__name__} pools by a {kinds}, as its select makes it"
            )
        return s.afresh() if isinstance(s, DenseSelection) else s

    def _take(self, method: str, given: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        names, takes_all = self._routes[method]
        values = dict(kwargs) if takes_all else {}
        for name in names:
            if name in given:
                values[name] = given[name]
            elif name in kwargs:
                values[name] = kwargs[name]
        return values

    def _check(self, kwargs: dict[str, Any]) -> None:
        if not kwargs or any(takes_all for _, takes_all in self._routes.values()):
            return
        known = {name for names, _ in self._routes.values() for name in names} - {"x", "a", "i", "node_order"}
        for name in kwargs:
            if name not in known and name in constructor_arguments(type(self)):
                owner = type(self).__name__
                raise TypeError(f"{owner}: {name} is an argument of the constructor, {owner}({name}=...)")
            if name not in known:
                known |= set(_NAMES) - {"x", "a", "i", "kwargs"} - (set() if self.precomputable else {"coarsening"})
                raise TypeError(_unknown(type(self).__name__, name, sorted(known)))


_NAMES = inspect.signature(SRCPool.forward).parameters.keys() - {"self"}


class SoftPool(SRCPool):
    """Base of the operators with a dense assignment to k clusters a graph: they take both layouts as they are.

    With `k_per_graph` a graph of n nodes has k_g = ceil(k_per_graph n) clusters, at least 2 and at most k: the softmax
    of its nodes runs over the first k_g columns, and losses count k_g. The pooled graphs then differ in size; in the
    batch layout a mask says which of the k rows are clusters.

    Args:
        k: number of pooled nodes of each graph. 1 is a sum over the graph with the operator's losses, which then are
            constants; AsymCheegerCutPool takes 2 or more.
        k_per_graph: share of its own nodes that a graph has as clusters, in (0, 1]; None: every graph has k.
        return_selection: also return S.
        remove_self_loops: drop the diagonal of A'; None: where `normalised`, as the operator's authors have it.
        degree_norm: A'_ij / (sqrt(d_i) sqrt(d_j)), d the row sums; None as before.
        loss_coeffs: factors of the losses by name; a loss that is not named stays as it is.

    Raises: ValueError for a share out of range, and in a call for a coefficient of a loss that the operator has not.
    """

    size_depends_on_data = False
    batched = True
    #: Whether A' has no diagonal and is normalised by its degrees, unless the constructor is told otherwise.
    normalised: ClassVar[bool] = False
    selects: ClassVar[tuple[type[Selection], ...]] = (DenseSelection,)

    def __init__(
        self,
        k: int,
        return_selection: bool = False,
        k_per_graph: float | None = None,
        remove_self_loops: bool | None = None,
        degree_norm: bool | None = None,
        loss_coeffs: Mapping[str, float] | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        if k_per_graph is not None and (isinstance(k_per_graph, bool) or not 0.0 < k_per_graph <= 1.0):
            raise ValueError(f"k_per_graph={k_per_graph!r}: a share of the nodes in (0, 1] is expected, or None")
        self.k = whole("k", k)
        self.k_per_graph = k_per_graph
        self.remove_self_loops = self.normalised if remove_self_loops is None else remove_self_loops
        self.degree_norm = self.normalised if degree_norm is None else degree_norm
        self.loss_coeffs = dict(loss_coeffs or {})

    def clusters(self, nodes: Nodes) -> Tensor | None:
        """Which of the k columns are clusters of which graph: [b, k] bool, None where all are."""
        if self.k_per_graph is None:
            return None
        own = (self.k_per_graph * nodes.sizes.to(torch.float64) - 1e-6).ceil().clamp(min=2, max=self.k)
        return torch.arange(self.k, device=own.device) < own.unsqueeze(-1)

    def assign(self, logits: Tensor, nodes: Nodes) -> DenseSelection:
        """The row softmax of `logits` [.., k] over the clusters of each graph."""
        clusters = self.clusters(nodes)
        if clusters is not None:
            logits = logits.masked_fill(~nodes.expand(clusters), -torch.inf)
        return DenseSelection(row_softmax(logits), nodes, clusters)

    def _selection(self, s: Selection | Tensor | list[int], nodes: Nodes) -> Selection:
        s = super()._selection(s, nodes)
        if self.k_per_graph is not None and isinstance(s, DenseSelection) and s.pooled.mask is None:
            raise TypeError(f"{type(self).__name__} makes its assignment without `assign`: it has no k_per_graph")
        return s

    def add_loss(self, name: str, value: Tensor) -> None:
        super().add_loss(name, self.loss_coeffs[name] * value if name in self.loss_coeffs else value)

    def connect(self, a: Matrix, s: Selection) -> Matrix:
        return self.finish(s.connect(a))

    def finish(self, m: Matrix) -> Matrix:
        """S'AS as it is returned: without its diagonal, normalised, where that is asked for."""
        if self.degree_norm:
            return m.normalize(loops=not self.remove_self_loops)
        return m.without_diagonal() if self.remove_self_loops else m

    def get_outputs(self, form: Form, x: Tensor, a: Matrix, i: Tensor | None, s: Selection) -> PoolOutput:
        for name in self.loss_coeffs:
            if name not in self._losses:
                has = f"it has {', '.join(self._losses)}" if self._losses else "it has none"
                raise ValueError(f"loss_coeffs: {type(self).__name__} has no loss {name!r}, {has}")
        return super().get_outputs(form, x, a, i, s)

    @staticmethod
    def per_graph(values: Tensor, nodes: Nodes) -> Tensor:
        """Mean over the graphs that have nodes: [b] -> scalar. `values` must be 0 where a graph has none."""
        if isinstance(nodes, Ragged) and not traced():
            return values.sum() / max(1, nodes.num_filled)
        if isinstance(nodes, Padded) and nodes.num_graphs and nodes.mask is None:
            return values.mean()
        return values.sum() / (nodes.sizes > 0).sum().clamp(min=1)


class GlobalPool(Operator):
    """Base of the readouts: one row a graph. Overrides `readout(x, nodes)`; with `needs_graph`, `readout(x, nodes, a)`.

    Modes: single x [n, f] -> [1, f']; disjoint (x, i) -> [b, f']; batch and mixed x [b, n, f] -> [b, f'], where a
    mask [b, n] leaves padding out, whatever stands there. The nodes of a disjoint batch may stand in any order. A graph
    without nodes gives a row of zeros. `i` may also be the `nodes` of a poolbench matrix, which know how many graphs
    there are.
    """

    #: True where the readout looks at the edges: a call must say which there are.
    needs_graph: bool = False

    def out_channels(self, in_channels: int) -> int:
        """Features of a graph for `in_channels` features of a node."""
        return in_channels

    @explained(2, "x and batch (or i) go by position, the rest by name: readout(x, batch, batch_size=size)")
    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor] | list[Tensor],
        i: Tensor | Nodes | None = None,
        *,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        mask: Tensor | None = None,
        validate: bool | None = None,
        a: Matrix | Tensor | None = None,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """x [n, f] or [b, n, f], or the pair (x, i) -> [b, f'].

        batch: another name of i. batch_size, validate: as for `SRCPool.forward`.
        a, edge_index, edge_weight: the graph, as there, for a readout with `needs_graph`; the others leave it unread.
        """
        owner = type(self).__name__
        i = one_of(owner, i=i, batch=batch)
        if isinstance(x, list | tuple):
            x, i = x
        if not self.needs_graph:
            return self.readout(*enter_readout(x, i, mask, batch_size, validate))
        a = one_of(owner, a=a, edge_index=edge_index)
        if a is None:
            raise TypeError(f"{owner} with these arguments needs a graph: give edge_index, or a matrix as a")
        if isinstance(i, Nodes) and not (isinstance(a, Matrix) and a.nodes is i):
            raise ValueError("i are the nodes of another matrix: give the matrix that they are of as a")
        x, matrix, *_ = enter(x, a, None if isinstance(i, Nodes) else i, edge_weight, mask, batch_size, validate)
        return self.readout(x, matrix.nodes, matrix)  # type: ignore[call-arg]

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        """Node level -> [b, f']."""
        raise NotImplementedError


def _shape(nodes: Nodes) -> tuple[int, ...]:
    """The node axes of x."""
    if isinstance(nodes, Padded):
        return nodes.num_graphs, nodes.width
    assert isinstance(nodes, Ragged)
    return (nodes.num_rows,)


def _routed(method: Callable[..., Any]) -> tuple[list[str], bool]:
    """Names of the parameters with a default, and whether there is a **kwargs."""
    parameters = inspect.signature(method).parameters.values()
    named = [p.name for p in parameters if p.default is not p.empty]
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def constructor_arguments(cls: type) -> list[str]:
    """Names of the arguments that an operator's constructor takes, those of its bases included."""
    return list(parameters_of(cls))


def _unknown(owner: str, name: str, known: list[str]) -> str:
    names = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"did you mean {names[near[0]]!r}?" if near else f"it takes {', '.join(known) or 'none'}"
    return f"{owner} takes no argument {name!r}: {hint}"


__all__ = [
    "DenseSelection",
    "GlobalPool",
    "KeptSelection",
    "Operator",
    "PoolOutput",
    "SRCPool",
    "Selection",
    "SoftPool",
    "SparseSelection",
    "constructor_arguments",
]
