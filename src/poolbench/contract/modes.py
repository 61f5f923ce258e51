"""One answer for a graph: whatever the order of its nodes, the batch that it is in, and the form of its matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poolbench.contract.checks import check, raises
from poolbench.contract.subject import (
    FEATURES,
    SIZES,
    Subject,
    call,
    close,
    dense,
    graphs,
    nodes_of,
    objective,
    readout_of,
    single,
    without_draws,
)  # fmt: skip
from poolbench.linalg import Dense, Padded, Sparse
from poolbench.pool.base.src import SRCPool

# Symmetries


@check("let nothing depend on the number of a node; break ties by values, not by places", directed=[False, True])
def permuting_the_nodes_permutes_the_answer(pool: Subject, directed: bool) -> None:
    """Seen from the nodes (S x', S a' S'), where the order of the pooled nodes does not show."""
    without_draws(pool)
    module, graph = pool.make(return_selection=True), graphs(9, directed=directed)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    x, a = graph.x, graph.a
    one, other = module(x, a), module(x[order], a[order][:, order])
    for p, q in zip(_seen_from_the_nodes(module, one), _seen_from_the_nodes(module, other), strict=True):
        close(p[order], q)
    close(_pooled_rows(one.x), _pooled_rows(other.x))
    close(one.losses, other.losses)


def _seen_from_the_nodes(module: SRCPool, out: Any) -> tuple[Tensor, ...]:
    s = out.s.dense().double()
    return module.lift(out.x, out.s), (s @ dense(out)).sum(-1), s.square().sum(-1)


def _pooled_rows(x: Tensor) -> Tensor:
    return x[torch.argsort(x[:, 0])]


@check("let nothing depend on the number of a node")
def permuting_the_nodes_leaves_a_readout(readout: Subject) -> None:
    module, graph = readout.make(), graphs(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    close(module(graph.x), module(graph.x[order]))


# Modes: single, disjoint, batch and mixed


@check(
    "work graph by graph: sums and means of a.nodes stay within one, x.sum(0) does not; losses by self.per_graph",
    directed=[False, True],
)
def disjoint_is_singles(pool: Subject, directed: bool) -> None:
    without_draws(pool)
    module, graph = pool.make(return_selection=True), graphs(*SIZES, directed=directed)
    together, alone = call(module, graph), [single(module, graph, g) for g in range(len(SIZES))]
    assert together.sizes.tolist() == [len(o.x) for o in alone]
    close(together.x, torch.cat([o.x for o in alone]))
    close(dense(together), torch.block_diag(*map(dense, alone)))
    close(together.i, torch.repeat_interleave(torch.arange(len(SIZES)), together.sizes))
    _same_losses(together, alone)
    lifted = torch.cat([module.lift(o.x, o.s) for o in alone])
    close(module.lift(together.x, together.s), lifted)


def _same_losses(together: Any, alone: list[Any]) -> None:
    assert all(o.losses.keys() == together.losses.keys() for o in alone)
    for name, value in together.losses.items():
        assert value.ndim == 0
        close(value, torch.stack([o.losses[name] for o in alone]).mean())


@check("with batched = True leave the padding out: DenseSelection(s, a.nodes) does, and so do the sums of a.nodes")
def batch_is_singles_whatever_stands_in_the_padding(pool: Subject) -> None:
    without_draws(pool)
    module, graph = pool.make(return_selection=True), graphs(*SIZES)
    x, a, mask = graph.padded
    x = x.masked_fill(~mask.unsqueeze(-1), 50.0)
    together, alone = module(x, a, mask=mask), [single(module, graph, g) for g in range(len(SIZES))]
    assert together.i is None
    for g, o in enumerate(alone):
        k = len(o.x)
        close(together.x[g, :k], o.x)
        close(dense(together)[g, :k, :k], dense(o))
        assert not together.x[g, k:].any()
        assert not dense(together)[g, k:].any()
        assert together.mask is None or together.mask[g].tolist() == [j < k for j in range(together.x.shape[1])]
    _same_losses(together, alone)


@check("no graph may reach another one, in the backward pass either; leave the padding out before a division or a root")
def the_gradient_is_the_same_in_every_mode(pool: Subject) -> None:
    without_draws(pool)
    module, graph = pool.make(), graphs(*SIZES)
    parameters = list(module.parameters())
    x = graph.x.requires_grad_()
    index, weight = graph.edges
    disjoint = torch.autograd.grad(objective(module(x, index, graph.i, edge_weight=weight)), [x, *parameters])

    wide, a, mask = graph.padded
    wide.requires_grad_()
    batch = torch.autograd.grad(objective(module(wide, a, mask=mask)), [wide, *parameters])
    close(batch[0][mask], disjoint[0])
    assert not batch[0][~mask].any()
    for p, q in zip(batch[1:], disjoint[1:], strict=True):
        close(p, q)

    parts = [part.detach().requires_grad_() for part in graph.xs]
    outs = [single(module, graph, g, part) for g, part in enumerate(parts)]
    total = sum(objective(o) + (1 / len(SIZES) - 1) * sum(o.losses.values()) for o in outs)
    singles = torch.autograd.grad(total, [*parts, *parameters])
    close(torch.cat(singles[: len(parts)]), disjoint[0])
    for p, q in zip(singles[len(parts) :], disjoint[1:], strict=True):
        close(p, q)


@check("with batched = True take x [b, n, f] with one a for all")
def mixed_is_batch_with_one_graph_for_all(pool: Subject) -> None:
    module, graph = pool.make(), graphs(6)
    x = torch.randn(3, 6, FEATURES, dtype=torch.float64)
    index, weight = graph.edges
    outs = []
    for a, w in ((graph.a.expand(3, 6, 6), None), (graph.a, None), (index, weight)):
        torch.manual_seed(0)
        outs.append(module(x, a, edge_weight=w))
    for out in outs[1:]:
        close(out.x, outs[0].x)
        close(out.losses, outs[0].losses)
        close(dense(out), dense(outs[0]))


@check("ask a.nodes for sums and means, which are right in both layouts")
def ragged_is_padded(pool: Subject) -> None:
    """The two layouts of poolbench.linalg, handed in as they are."""
    without_draws(pool)
    module, graph = pool.make(), graphs(*SIZES)
    index, weight = graph.edges
    flat = Sparse.from_edges(index[1], index[0], weight, nodes_of(graph), symmetric=True)
    wide, a, mask = graph.padded
    ragged, padded = (
        module(graph.x, flat),
        module(wide, Dense(a, Padded(len(mask), mask.shape[1], mask), symmetric=True)),
    )
    assert ragged.sizes.tolist() == padded.sizes.tolist()
    close(ragged.x, padded.x)
    close(dense(ragged), dense(padded))
    close(ragged.losses, padded.losses)


@check("sum by nodes.sum, mean or max, which are right in both layouts")
def readouts_agree_in_every_mode(readout: Subject) -> None:
    module, graph = readout.make(), graphs(*SIZES)
    together = readout_of(module, graph)
    assert together.shape[0] == len(SIZES)
    x, _, mask = graph.padded
    x = x.masked_fill(~mask.unsqueeze(-1), 50.0)
    close(module(x, mask=mask), together)
    close(torch.cat([module(part) for part in graph.xs]), together)
    close(module((graph.x, graph.i)), together)
    close(module(graph.x, nodes_of(graph)), together)
    close(module(x[:, :1]), torch.cat([module(row[:1]) for row in x]))


# Forms of a


def _forms(a: Tensor) -> dict[str, tuple[Any, Tensor | None]]:
    index = a.T.nonzero().T
    weight = a.T[index[0], index[1]]
    turned = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(3))
    return {
        "dense": (a, None),
        "coo": (a.to_sparse_coo(), None),
        "csr": (a.to_sparse_csr(), None),
        "edge_index": (index, weight),
        "edge_index in another order": (index[:, turned], weight[turned]),
        "edge_index of int32": (index, weight),
    }


@check(
    "ask the matrix by its methods (a @ x, a.degree(), a.sparse()); do not look at how it is held",
    disjoint=[True, False],
)
def every_form_of_a_gives_the_same_answer_in_that_form(pool: Subject, disjoint: bool) -> None:
    module, graph = pool.make(), graphs(5, 4, directed=True)
    i = graph.i if disjoint else None
    first = None
    for name, (a, weight) in _forms(graph.a).items():
        torch.manual_seed(0)
        out = module(graph.x, a, i, edge_weight=weight)
        assert out.a.layout == a.layout, name
        assert (out.edge_weight is not None) == (weight is not None)
        first = first or out
        close(out.x, first.x)
        close(dense(out), dense(first))
        close(out.losses, first.losses)
        assert out.sizes.tolist() == first.sizes.tolist()


@check("ask the matrix by its methods (a @ x, a.degree(), a.sparse()); do not look at how it is held")
def a_batch_takes_sparse_tensors(pool: Subject) -> None:
    module, graph = pool.make(), graphs(5, 5)
    x, a, _ = graph.padded
    torch.manual_seed(0)
    one = module(x, a)
    torch.manual_seed(0)
    other = module(x, a.to_sparse_coo())
    assert other.a.layout == torch.sparse_coo
    close(other.x, one.x)
    close(dense(other), dense(one))


@check("a matrix without weights has weight 1: ask a.weights or a.degree()")
def unweighted_is_weight_one(pool: Subject) -> None:
    module, graph = pool.make(), graphs(6, 4)
    index, weight = graph.edges
    outs = []
    for w in (None, torch.ones_like(weight)):
        torch.manual_seed(0)
        outs.append(module(graph.x, index, graph.i, edge_weight=w))
    # an unweighted matrix is normalised in the default dtype
    close(outs[0].x, outs[1].x, 1e-5)
    close(dense(outs[0]), dense(outs[1]), 1e-5)
    close(outs[0].losses, outs[1].losses, 1e-5)


SHAPES: dict[str, tuple[Tensor, Tensor, Tensor | None, dict[str, Tensor]]] = {
    "x of one dimension": (torch.ones(3), torch.ones(3, 3), None, {}),
    "a of fewer nodes": (torch.ones(3, 4), torch.ones(2, 2), None, {}),
    "edges to nodes that there are not": (torch.ones(3, 4), torch.tensor([[0], [7]]), None, {}),
    "i of fewer nodes": (torch.ones(3, 4), torch.ones(3, 3), torch.tensor([0, 0]), {}),
    "i in no order": (torch.ones(3, 4), torch.ones(3, 3), torch.tensor([1, 0, 0]), {}),
    "i with a batch": (torch.ones(2, 3, 4), torch.ones(2, 3, 3), torch.zeros(2, 3), {}),
    "a of more nodes than x": (torch.ones(2, 3, 4), torch.ones(2, 4, 4), None, {}),
    "edge_weight with a matrix": (torch.ones(3, 4), torch.ones(3, 3), None, {"edge_weight": torch.ones(9)}),
    "a mask with i": (torch.ones(3, 4), torch.ones(3, 3), torch.tensor([0, 0, 1]), {"mask": torch.ones(3)}),
}


@check("leave forward to the base class, which looks at the shapes", case=list(SHAPES))
def shapes_that_do_not_fit_are_refused(pool: Subject, case: str) -> None:
    x, a, i, more = SHAPES[case]
    with raises(ValueError, r"."):
        pool.make(dtype=torch.float32)(x, a, i, **more)


WHOLE = [torch.int32, torch.int16, torch.uint8]


@check(
    "index by int64, as matrices of poolbench have it: leave forward to the base class",
    dtype=WHOLE,
    disjoint=[False, True],
)
def indices_of_any_whole_type(pool: Subject, dtype: torch.dtype, disjoint: bool) -> None:
    module, graph = pool.make(), graphs(*SIZES)

    def called(x: Tensor, index: Tensor, i: Tensor | None, weight: Tensor) -> Any:
        torch.manual_seed(0)
        return module(x, index, i, edge_weight=weight)

    (index, weight), i = graph.edges, graph.i if disjoint else None
    want = called(graph.x, index, i, weight)
    out = called(graph.x, index.to(dtype), None if i is None else i.to(dtype), weight)
    close(out.x, want.x)
    close(dense(out), dense(want))
    close(out.losses, want.losses)
    assert out.sizes.tolist() == want.sizes.tolist()
    assert out.a.dtype == torch.int64
    assert out.i is None or out.i.dtype == torch.int64
    if not disjoint:
        x, (index, weight) = graphs(5, 5).padded[0], graphs(5).edges
        close(called(x, index.to(dtype), None, weight).x, called(x, index, None, weight).x)


@check("leave forward to the base class", dtype=WHOLE)
def ids_of_any_whole_type_for_readouts(readout: Subject, dtype: torch.dtype) -> None:
    module, graph = readout.make(), graphs(*SIZES)
    close(module(graph.x, graph.i.to(dtype)), module(graph.x, graph.i))
    close(module(graph.x, graph.i.unsqueeze(-1)), module(graph.x, graph.i))
