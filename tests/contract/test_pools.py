"""What every registered operator keeps to."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from registry import FEATURES, Graphs, Registered, graphs
from torch import Tensor, nn
from torch.autograd import gradcheck

from poolbench.linalg import Dense, Padded, Ragged, Sparse
from poolbench.pool.base.src import Operator, SRCPool

SIZES = (6, 1, 9, 3)


def close(ours: Any, theirs: Any, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def dense(out: Any) -> Tensor:
    """The pooled adjacency as a dense tensor, whatever form it came in."""
    a = out.a
    if isinstance(a, Dense | Sparse):
        return a.to_dense()
    if a.layout != torch.strided:
        return a.to_dense()
    if out.edge_weight is not None:
        k = out.x.shape[0]
        return out.x.new_zeros(k, k).index_put(tuple(a.flip(0)), out.edge_weight.to(out.x.dtype), accumulate=True)
    return a


def nodes_of(graph: Graphs) -> Ragged:
    return Ragged.from_index(graph.i)


def call(pool: SRCPool, graph: Graphs, seed: int = 0) -> Any:
    """On the disjoint union, as an edge_index, from the same draws each time."""
    index, weight = graph.edges
    torch.manual_seed(seed)
    return pool(graph.x, index, graph.i, edge_weight=weight)


def single(pool: SRCPool, graph: Graphs, g: int, x: Tensor | None = None, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return pool(graph.xs[g] if x is None else x, graph.adjacencies[g])


def objective(out: Any) -> Tensor:
    return out.x.square().sum() + dense(out).square().sum() + sum(out.losses.values())


def readout_of(readout: nn.Module, graph: Graphs) -> Tensor:
    return readout(graph.x, graph.i)


def answer(operator: Registered, module: nn.Module, graph: Graphs) -> Tensor:
    """One number that depends on everything the operator returns."""
    return readout_of(module, graph).square().sum() if operator.is_readout else objective(call(module, graph))


def without_draws(pool: Registered) -> None:
    if pool.cls.stochastic:
        pytest.skip("draws anew for each node, so nodes of another order or batch get other draws")


# Symmetries


@pytest.mark.parametrize("directed", [False, True])
def test_permuting_the_nodes_permutes_the_answer(pool: Registered, directed: bool) -> None:
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


def test_permuting_the_nodes_leaves_a_readout(readout: Registered) -> None:
    module, graph = readout.make(), graphs(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    close(module(graph.x), module(graph.x[order]))


# Modes: single, disjoint, batch and mixed


@pytest.mark.parametrize("directed", [False, True])
def test_disjoint_is_singles(pool: Registered, directed: bool) -> None:
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


def test_batch_is_singles_whatever_stands_in_the_padding(pool: Registered) -> None:
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


def test_the_gradient_is_the_same_in_every_mode(pool: Registered) -> None:
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


def test_mixed_is_batch_with_one_graph_for_all(pool: Registered) -> None:
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


def test_ragged_is_padded(pool: Registered) -> None:
    """The two layouts of poolbench.linalg, handed in as they are."""
    without_draws(pool)
    module, graph = pool.make(), graphs(*SIZES)
    index, weight = graph.edges
    flat = Sparse.from_edges(index[1], index[0], weight, nodes_of(graph), symmetric=True)
    wide, a, mask = graph.padded
    ragged, padded = module(graph.x, flat), module(wide, Dense(a, Padded(*mask.shape, mask), symmetric=True))
    assert ragged.sizes.tolist() == padded.sizes.tolist()
    close(ragged.x, padded.x)
    close(dense(ragged), dense(padded))
    close(ragged.losses, padded.losses)


def test_readouts_agree_in_every_mode(readout: Registered) -> None:
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


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("disjoint", [True, False])
def test_every_form_of_a_gives_the_same_answer_in_that_form(pool: Registered, disjoint: bool) -> None:
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


def test_a_batch_takes_sparse_tensors(pool: Registered) -> None:
    module, graph = pool.make(), graphs(5, 5)
    x, a, _ = graph.padded
    torch.manual_seed(0)
    one = module(x, a)
    torch.manual_seed(0)
    other = module(x, a.to_sparse_coo())
    assert other.a.layout == torch.sparse_coo
    close(other.x, one.x)
    close(dense(other), dense(one))


def test_unweighted_is_weight_one(pool: Registered) -> None:
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


@pytest.mark.parametrize(
    ("x", "a", "i", "more"),
    [
        (torch.ones(3), torch.ones(3, 3), None, {}),
        (torch.ones(3, 4), torch.ones(2, 2), None, {}),
        (torch.ones(3, 4), torch.tensor([[0], [7]]), None, {}),
        (torch.ones(3, 4), torch.ones(3, 3), torch.tensor([0, 0]), {}),
        (torch.ones(3, 4), torch.ones(3, 3), torch.tensor([1, 0, 0]), {}),
        (torch.ones(2, 3, 4), torch.ones(2, 3, 3), torch.zeros(2, 3), {}),
        (torch.ones(2, 3, 4), torch.ones(2, 4, 4), None, {}),
        (torch.ones(3, 4), torch.ones(3, 3), None, {"edge_weight": torch.ones(9)}),
        (torch.ones(3, 4), torch.ones(3, 3), torch.tensor([0, 0, 1]), {"mask": torch.ones(3)}),
    ],
)
def test_shapes_that_do_not_fit_are_refused(pool: Registered, x: Tensor, a: Tensor, i: Any, more: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        pool.make(dtype=torch.float32)(x, a, i, **more)


# Derivatives


def test_gradcheck(pool: Registered) -> None:
    module, graph = pool.make(), graphs(5, 2, directed=True)
    index, weight = graph.edges

    def function(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        out = module(x, index, graph.i, edge_weight=weight)
        return (out.x, dense(out), *out.losses.values())

    assert gradcheck(function, (graph.x.requires_grad_(), weight.requires_grad_()))


def test_gradcheck_of_readouts(readout: Registered) -> None:
    module, graph = readout.make(), graphs(5, 2)
    assert gradcheck(lambda x: module(x, graph.i), (graph.x.requires_grad_(),))


def test_every_parameter_gets_a_gradient(operator: Registered) -> None:
    module, graph = operator.make(), graphs(*SIZES)
    names = [n for n, _ in module.named_parameters()]
    if not names:
        return
    gradients = torch.autograd.grad(answer(operator, module, graph), list(module.parameters()), allow_unused=True)
    for name, g in zip(names, gradients, strict=True):
        assert g is not None, f"{name} has no gradient"
        assert g.isfinite().all(), name
        assert g.any(), f"the gradient of {name} is zero"


def test_every_loss_reaches_some_parameter(pool: Registered) -> None:
    module, graph = pool.make(), graphs(*SIZES)
    parameters = list(module.parameters())
    for name, loss in call(module, graph).losses.items():
        assert loss.ndim == 0
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.any() for g in gradients), f"{name} reaches no parameter"


# Edge cases


def _finite(module: SRCPool, graph: Graphs, **how: Any) -> Any:
    x = graph.x.requires_grad_()
    index, weight = graph.edges
    torch.manual_seed(0)
    out = module(x, index, graph.i, edge_weight=weight.requires_grad_(), **how)
    assert out.x.isfinite().all()
    assert dense(out).isfinite().all()
    assert all(v.isfinite() for v in out.losses.values()), out.losses
    leaves = [x, weight, *module.parameters()]
    value = objective(out)
    if value.requires_grad:
        for g in torch.autograd.grad(value, leaves, allow_unused=True):
            assert g is None or g.isfinite().all()
    assert out.x.shape[0] == int(out.sizes.sum()) == len(out.i)
    assert torch.bincount(out.i, minlength=len(out.sizes)).tolist() == out.sizes.tolist()
    assert bool((out.i.diff() >= 0).all())
    return out


def test_a_graph_id_without_nodes(pool: Registered) -> None:
    """Ids stay as they are, and the empty graph changes neither the others nor the losses."""
    module, graph = pool.make(), graphs(5, 4)
    gap = Graphs(graph.xs, graph.adjacencies, ids=[0, 2])
    out = _finite(module, gap)
    assert len(out.sizes) == 3
    if not pool.cls.stochastic:
        plain = call(module, graph)
        close(out.x[out.i != 1], plain.x)
        close(out.losses, plain.losses)
    assert not out.x[out.i == 1].any()


EDGE_CASES: dict[str, Callable[[], Graphs]] = {
    "single nodes": lambda: graphs(1, 1, 1),
    "a single node with a self-loop": lambda: Graphs([torch.ones(1, FEATURES).double()], [torch.ones(1, 1).double()]),
    "no edges": lambda: Graphs(graphs(4, 3).xs, [torch.zeros(4, 4).double(), torch.zeros(3, 3).double()]),
    "one graph without edges": lambda: Graphs(
        graphs(4, 3).xs, [torch.zeros(4, 4).double(), graphs(4, 3).adjacencies[1]]
    ),
    "isolated nodes": lambda: _isolate(graphs(6, 5)),
    "self-loops": lambda: Graphs(graphs(6, 2).xs, [b + torch.eye(len(b)) for b in graphs(6, 2).adjacencies]),
    "two nodes": lambda: graphs(2, 2),
    "equal nodes": lambda: Graphs([torch.ones(5, FEATURES).double()], graphs(5).adjacencies),
    "features of zero": lambda: Graphs([torch.zeros(5, FEATURES).double()], graphs(5).adjacencies),
    "one node of zeros": lambda: Graphs([graphs(5).x * (torch.arange(5) != 2).unsqueeze(-1)], graphs(5).adjacencies),
    "large features": lambda: Graphs([100 * graphs(5).x], graphs(5).adjacencies),
    "sinks of a directed graph": lambda: Graphs([graphs(5).x], [graphs(5).a.triu()]),
}


def _isolate(graph: Graphs) -> Graphs:
    return Graphs(graph.xs, [b * ((torch.arange(len(b)) % 3) > 0) * ((torch.arange(len(b)) % 3) > 0).unsqueeze(1) for b in graph.adjacencies])  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("case", EDGE_CASES)
def test_edge_cases_are_finite(pool: Registered, case: str) -> None:
    graph = EDGE_CASES[case]()
    out = _finite(pool.make(), graph)
    assert (out.sizes > 0).all(), "a graph with nodes vanished"


@pytest.mark.parametrize("case", EDGE_CASES)
def test_edge_cases_of_readouts_are_finite(readout: Registered, case: str) -> None:
    graph = EDGE_CASES[case]()
    x = graph.x.requires_grad_()
    out = readout.make()(x, graph.i)
    assert out.isfinite().all()
    (grad,) = torch.autograd.grad(out.square().sum(), x)
    assert grad.isfinite().all()


def test_a_readout_gives_zeros_for_a_graph_without_nodes(readout: Registered) -> None:
    graph = graphs(5, 4)
    module = readout.make()
    out = module(graph.x, Graphs(graph.xs, graph.adjacencies, ids=[0, 2]).i)
    assert out.shape[0] == 3
    assert not out[1].any()
    close(out[[0, 2]], readout_of(module, graph))


def test_no_nodes_at_all(operator: Registered) -> None:
    module = operator.make()
    x, none = torch.zeros(0, FEATURES, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    if operator.is_readout:
        assert module(x, none).shape[0] == 0
        assert module(x).shape[0] == 1
        assert not module(x).any()
        return
    out = module(x, torch.zeros(2, 0, dtype=torch.int64), none)
    assert out.x.shape[0] == 0
    assert all(v.isfinite() for v in out.losses.values())
    out = module(x, torch.zeros(2, 0, dtype=torch.int64))
    assert not out.x.any()
    assert all(v.isfinite() for v in out.losses.values())


def test_more_clusters_than_nodes(pool: Registered) -> None:
    changes = {n: 5 for n in ("k", "ratio") if n in pool.args}
    out = _finite(pool.make(**changes), graphs(2, 1, 8))
    if "ratio" in pool.args:
        assert out.sizes.tolist() == [2, 1, 5]
    elif "k" in pool.args:
        assert out.sizes.tolist() == [5, 5, 5]


def test_duplicate_edges_add_up(pool: Registered) -> None:
    module, graph = pool.make(), graphs(6, 4)
    index, weight = graph.edges
    twice = torch.cat([index, index[:, :5]], 1), torch.cat([weight - 0.25 * (torch.arange(len(weight)) < 5), 0.25 * torch.ones(5)])  # fmt: skip  # noqa: E501
    torch.manual_seed(0)
    out = module(graph.x, twice[0], graph.i, edge_weight=twice[1].double())
    plain = call(module, graph)
    close(out.x, plain.x)
    close(dense(out), dense(plain))
    close(out.losses, plain.losses)


@pytest.mark.parametrize("mode", ["single", "disjoint", "batch", "batch of one size"])
def test_nodes_without_features(operator: Registered, mode: str) -> None:
    """x [n, 0]: what depends on the graph alone is pooled as with any other."""
    changes: dict[str, Any] = {"in_channels": None} if "in_channels" in operator.takes else {}
    graph = graphs(5, 5) if mode == "batch of one size" else graphs(*SIZES)
    x, a, mask = graph.padded
    args, keywords = {
        "single": ((graph.xs[0], graph.adjacencies[0]), {}),
        "disjoint": ((graph.x, graph.a, graph.i), {}),
        "batch": ((x, a), {"mask": mask}),
        "batch of one size": ((x, a), {}),
    }[mode]
    bare = args[0][..., :0]
    if operator.is_readout:
        out = operator.make(**changes)(bare, *args[2:], **keywords)
        assert out.shape[0] == (1 if mode == "single" else len(graph.xs)) and out.isfinite().all()
        return
    module = operator.make(return_selection=True, **changes)
    out = module(bare, *args[1:], **keywords)
    for inverse in (False, True):
        assert module.lift(out.x, out.s, inverse=inverse).shape == (*bare.shape[:-1], out.x.shape[-1])
    if module.precomputable:
        want = operator.make()(*args, **keywords)
        close(out.a, want.a)
        assert out.sizes.tolist() == want.sizes.tolist()


def test_aggregations_by_name_and_graphs_without_nodes(readout: Registered) -> None:
    if "aggregations" not in readout.takes:
        pytest.skip("takes no names of aggregations")
    module, graph = readout.make(aggregations=["median", "mul", "var", "sum"]), graphs(5, 4)
    want = module(graph.x, graph.i)
    for i in (2 * graph.i, 1 + 3 * graph.i):
        out = module(graph.x, i, batch_size=6)
        filled = i.unique()
        close(out[filled], want)
        assert not out[[g for g in range(6) if g not in filled]].any()


# The result


def test_the_result_is_consistent(pool: Registered) -> None:
    module, graph = pool.make(return_selection=True), graphs(*SIZES)
    out = _finite(module, graph)
    assert out.x.shape[1] == module.out_channels(FEATURES)
    assert dense(out).shape == (out.x.shape[0],) * 2
    assert out.s.pooled.sizes.tolist() == out.sizes.tolist()
    assert out.s.nodes.sizes.tolist() == list(SIZES)
    inside = out.i.unsqueeze(0) == out.i.unsqueeze(1)
    assert not dense(out)[~inside].any(), "an edge between two graphs"
    assert pool.make(return_selection=False)(graph.x, graph.a, graph.i).s is None
    assert module.n_nodes == sum(SIZES)


def test_the_width_of_a_readout(readout: Registered) -> None:
    module = readout.make()
    assert readout_of(module, graphs(*SIZES)).shape[-1] == module.out_channels(FEATURES)


def test_a_symmetric_graph_stays_symmetric(pool: Registered) -> None:
    module, graph = pool.make(), graphs(8)
    pooled = dense(module(graph.x, graph.a))
    if module.directs:  # as the operator says of itself
        assert not torch.allclose(pooled, pooled.T)
    else:
        close(pooled, pooled.T)


def test_lift_and_its_inverse(pool: Registered) -> None:
    """S x' and the least-squares answer (S+)' x' (Moore-Penrose), against dense algebra."""
    module, graph = pool.make(return_selection=True), graphs(8)
    out = single(module, graph, 0)
    s, x = out.s.dense().double(), torch.randn(out.x.shape[0], 5, dtype=torch.float64)
    assert s.shape == (8, out.x.shape[0])
    close(module.lift(x, out.s), s @ x)
    inverse = module.lift(x, out.s, inverse=True)
    close(inverse, torch.linalg.pinv(s).T @ x, 1e-6)
    if torch.linalg.matrix_rank(s) == s.shape[1]:
        close(s.T @ inverse, x, 1e-6)
    several = graphs(*SIZES)
    out = call(module, several)
    assert module.lift(out.x, out.s).shape == (sum(SIZES), out.x.shape[1])
    assert module.lift(out.x, out.s, inverse=True).isfinite().all()


@pytest.mark.parametrize("inverse", [False, True])
def test_lift_gives_back_the_form_of_the_nodes(pool: Registered, inverse: bool) -> None:
    """In every mode what it is for the disjoint union, with zeros in the padding; the answer may have been pickled."""
    module, graph = pool.make(return_selection=True), graphs(*SIZES)

    def lifted(x: Tensor, a: Any, *i: Tensor, **mask: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        out = pickle.loads(pickle.dumps(module(x, a, *i, **mask)))
        back = module.lift(out.x, out.s, inverse=inverse)
        assert back.shape == (*x.shape[:-1], out.x.shape[-1])
        close(out.s.lift_inverse(out.x) if inverse else out.s.lift(out.x), back)
        return back, out.s.reduce(x.nan_to_num())

    def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], real: Tensor | None = None) -> None:
        back, reduced = one
        if not pool.cls.stochastic:
            close(back.reshape(other[0].shape) if real is None else back[real], other[0], 1e-6 if inverse else 1e-8)
            close(reduced.reshape(other[1].shape), other[1])
        assert real is None or not back[~real].any()

    x, a, mask = graph.padded
    for given in (x, x.masked_fill(~mask.unsqueeze(-1), torch.nan)):
        same(lifted(given, a, mask=mask), lifted(graph.x, graph.a, graph.i), mask)
    for g, one in enumerate(graph.xs):
        same(lifted(x[g], a[g], mask=mask[g]), lifted(one, graph.adjacencies[g]), mask[g])
    equal = graphs(5, 5, 5)
    x, a, _ = equal.padded
    same(lifted(x, a), lifted(equal.x, equal.a, equal.i))
    same(lifted(x, Dense(a, None, symmetric=True)), lifted(x, a))


# A selection that is handed in


def test_its_own_selection_handed_in_gives_the_same(pool: Registered) -> None:
    module, graph = pool.make(return_selection=True), graphs(*SIZES, directed=True)
    index, weight = graph.edges
    out = call(module, graph)
    again = module(graph.x, index, graph.i, edge_weight=weight, s=out.s)
    close(again.x, out.x)
    close(dense(again), dense(out))
    assert torch.equal(again.i, out.i)
    x, a, mask = graph.padded
    torch.manual_seed(0)
    out = module(x, a, mask=mask)
    again = module(x, a, mask=mask, s=out.s)
    close(again.x, out.x)
    close(module.lift(again.x, again.s), module.lift(out.x, out.s))
    with pytest.raises(ValueError, match="s is of 5 nodes"):
        module(graph.x, index, graph.i, edge_weight=weight, s=single(module, graphs(5), 0).s)


# Weights and arguments


def test_state_dict_round_trip_with_channels_inferred(operator: Registered) -> None:
    graph = graphs(*SIZES)
    lazy = {"in_channels": None} if "in_channels" in operator.takes else {}
    torch.manual_seed(1)
    module = operator.make(**lazy)
    want = answer(operator, module, graph)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    for changes in (lazy, {}):
        other = operator.make(seed=5, **changes)
        other.load_state_dict(state)
        close(answer(operator, other, graph), want)
    close(answer(operator, copy.deepcopy(module), graph), want)


def test_channels_given_or_inferred_make_the_same_weights(operator: Registered) -> None:
    if "in_channels" not in operator.takes:
        return
    graph, lazy = graphs(*SIZES), operator.make(in_channels=None)
    answer(operator, lazy, graph)
    shapes = {n: p.shape for n, p in lazy.named_parameters()}
    assert shapes == {n: p.shape for n, p in operator.make().named_parameters()}


def test_no_two_kernels_start_equal(operator: Registered) -> None:
    """With every width alike, so that all kernels of an operator have the same shape."""
    alike = {"k": FEATURES, "channels": FEATURES, "mlp_hidden": [FEATURES, FEATURES]}
    module = operator.make(**{n: v for n, v in alike.items() if n in operator.takes})
    kernels = [p for p in module.parameters() if p.ndim > 1]
    for j, p in enumerate(kernels):
        assert p.unique().numel() > 1 or p.numel() == 1
        for q in kernels[:j]:
            assert p.shape != q.shape or not torch.equal(p, q)


def test_an_unknown_argument_names_the_nearest(operator: Registered) -> None:
    with pytest.raises(TypeError, match=operator.cls.__name__):
        operator.make(nosuchargument=1)
    for name in (n for n in operator.takes if len(n) > 3):
        with pytest.raises(TypeError, match=f"'{name}'"):
            operator.make(**{f"{name[:-2]}{name[-1]}{name[-2]}x": 1})


def test_an_unknown_keyword_of_a_call_is_refused(pool: Registered) -> None:
    module, graph = pool.make(), graphs(4)
    with pytest.raises(TypeError, match="edge_weight"):
        module(graph.x, graph.a, edge_weigth=None)


def test_regularizers_are_losses(operator: Registered) -> None:
    names = [n for n in operator.takes if n.endswith("regularizer")]
    for name in names:
        module, graph = operator.make(**{name: {"l2": 0.1, "l1": 0.3}}), graphs(*SIZES)
        covered = [p for p in module.parameters() if (p.ndim > 1) == ("kernel" in name)]
        want = sum(0.1 * p.square().sum() + 0.3 * p.abs().sum() for p in covered)
        found = module.penalty() if operator.is_readout else call(module, graph).losses["regularization"]
        close(found, want)
        with pytest.raises(ValueError, match="regularizer"):
            operator.make(**{name: "l3"})


def test_constraints_project_the_weights(operator: Registered) -> None:
    for name in (n for n in operator.takes if n.endswith("constraint")):
        module = operator.make(**{name: "non_neg"})
        covered = [p for p in module.parameters() if (p.ndim > 1) == ("kernel" in name)]
        assert any((p < 0).any() for p in covered)
        module.apply_constraints()
        assert all((p >= 0).all() for p in covered)


def test_initializers_are_names_or_functions(operator: Registered) -> None:
    for name in (n for n in operator.takes if n.endswith("initializer")):
        for value in ("ones", nn.init.ones_):
            module = operator.make(**{name: value})
            covered = [p for p in module.parameters() if (p.ndim > 1) == ("kernel" in name)]
            assert covered
            assert all((p == 1).all() for p in covered)


# Numbers


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(operator: Registered, dtype: torch.dtype) -> None:
    module, graph = operator.make(dtype=torch.float32), graphs(*SIZES)
    graph = Graphs([x.float() for x in graph.xs], [a.float() for a in graph.adjacencies])
    want = answer(operator, module, graph).item()
    with torch.autocast("cpu", dtype=dtype):
        if operator.is_readout:
            found, losses = [readout_of(module, graph)], {}
        else:
            out = call(module, graph)
            found, losses = [out.x, dense(out)], out.losses
        assert all(v.isfinite().all() for v in found)
        for name, loss in losses.items():
            assert loss.dtype == torch.float32, f"{name} is {loss.dtype}"
        value = sum(v.float().square().sum() for v in found) + sum(losses.values())
    if value.requires_grad:
        value.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
    assert abs(value.item() - want) < 0.1 * (1 + abs(want))


def test_the_same_bits_every_time(operator: Registered) -> None:
    graph, first = graphs(40, 3, 25), None
    graph = Graphs([x.float() for x in graph.xs], [a.float() for a in graph.adjacencies])
    for _ in range(3):
        module = operator.make(dtype=torch.float32)
        value = answer(operator, module, graph)
        grads = torch.autograd.grad(value, list(module.parameters())) if value.requires_grad else ()
        found = [value.detach(), *grads]
        assert first is None or all(torch.equal(p, q) for p, q in zip(found, first, strict=True))
        first = found


def test_a_call_leaves_its_input_alone(operator: Registered) -> None:
    module, graph = operator.make(), graphs(*SIZES)
    x, (index, weight), i = graph.x, graph.edges, graph.i
    before = [v.clone() for v in (x, index, weight, i)]
    module(x, i) if operator.is_readout else module(x, index, i, edge_weight=weight)
    assert all(torch.equal(p, q) for p, q in zip((x, index, weight, i), before, strict=True))


def test_stochastic_is_what_is_declared(pool: Registered) -> None:
    module, graph = pool.make(), graphs(12, 9)
    one, other = call(module, graph, seed=0), call(module, graph, seed=1)
    same = one.x.shape == other.x.shape and torch.equal(one.x, other.x)
    assert same != pool.cls.stochastic
    close(call(module, graph, seed=1).x, other.x)


def test_sizes_depend_on_data_only_where_declared(pool: Registered) -> None:
    if pool.cls.size_depends_on_data:
        return
    module = pool.make()
    sizes = {tuple(call(module, graphs(*SIZES, seed=seed)).sizes.tolist()) for seed in range(5)}
    assert len(sizes) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_numbers_and_the_same_bits(operator: Registered) -> None:
    if operator.cls.stochastic:
        pytest.skip("draws on the device")
    graph, module = graphs(*SIZES), operator.make()
    want = answer(operator, module, graph)
    far = module.cuda()
    i, (index, weight) = graph.i.cuda(), graph.edges
    found = []
    for _ in range(2):
        x = graph.x.cuda().requires_grad_()
        if operator.is_readout:
            value = far(x, i).square().sum()
        else:
            value = objective(far(x, index.cuda(), i, edge_weight=weight.cuda()))
        found.append((value.detach(), torch.autograd.grad(value, x)[0]))
    close(found[0][0].cpu(), want.detach())
    assert torch.equal(found[0][1], found[1][1])


def test_docstrings_say_what_the_arguments_are(operator: Registered) -> None:
    text = " ".join(cls.__doc__ or "" for cls in operator.cls.__mro__ if issubclass(cls, Operator))
    assert operator.cls.__doc__
    for name in operator.takes:
        assert name in text, f"no docstring of {operator.cls.__name__} names {name}"


# torch.compile on the matrices of a model in training; on tensors see test_transforms.py. An operator whose pooled size
# depends on the data reads it back, so its graph must break.


def _compiled(operator: Registered, fullgraph: bool, backend: str) -> None:
    torch._dynamo.reset()
    module, graph = operator.make(dtype=torch.float32), graphs(*SIZES)
    (index, weight), nodes = graph.edges, nodes_of(graph)
    a = Sparse.from_edges(index[1], index[0], weight.float(), nodes, symmetric=True)

    def function(x: Tensor) -> Tensor:
        return module(x, nodes).square().sum() if operator.is_readout else objective(module(x, a))

    x = graph.x.float().requires_grad_()
    found = []
    for f in (function, torch.compile(function, fullgraph=fullgraph, backend=backend)):
        torch.manual_seed(0)
        value = f(x)
        found.append((value, *torch.autograd.grad(value, [x, *module.parameters()])))
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, 1e-4)


@pytest.mark.slow
def test_compiles_without_graph_breaks_where_sizes_are_known(operator: Registered) -> None:
    if not operator.is_readout and operator.cls.size_depends_on_data:
        pytest.skip("the number of pooled nodes depends on the data")
    _compiled(operator, fullgraph=True, backend="aot_eager")


@pytest.mark.slow
def test_compiles(pool: Registered) -> None:
    _compiled(pool, fullgraph=False, backend="eager")
