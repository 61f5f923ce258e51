"""Derivatives, graphs at the edge of what there is, and numbers of other types: all finite, and the same each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck

from poolbench.contract.checks import check
from poolbench.contract.subject import (
    FEATURES,
    SIZES,
    Graphs,
    Inapplicable,
    Subject,
    answer,
    call,
    close,
    dense,
    finite,
    graphs,
    readout_of,
)  # fmt: skip

# Derivatives


@check("a derivative is wrong or missing: look for detach, rounding, in-place changes and a Function of your own")
def derivatives_are_right(pool: Subject) -> None:
    module, graph = pool.make(), graphs(5, 2, directed=True)
    index, weight = graph.edges

    def function(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        out = module(x, index, graph.i, edge_weight=weight)
        return (out.x, dense(out), *out.losses.values())

    assert gradcheck(function, (graph.x.requires_grad_(), weight.requires_grad_()))


@check("a derivative is wrong or missing: look for detach, rounding, in-place changes and a Function of your own")
def derivatives_of_readouts_are_right(readout: Subject) -> None:
    module, graph = readout.make(), graphs(5, 2)
    assert gradcheck(lambda x: module(x, graph.i), (graph.x.requires_grad_(),))


@check("a selection of whole numbers passes no gradient: gate features by the score (SparseSelection.keep)")
def every_parameter_gets_a_gradient(operator: Subject) -> None:
    module, graph = operator.make(), graphs(*SIZES)
    names = [n for n, _ in module.named_parameters()]
    if not names:
        return
    gradients = torch.autograd.grad(answer(operator, module, graph), list(module.parameters()), allow_unused=True)
    for name, g in zip(names, gradients, strict=True):
        assert g is not None, f"{name} has no gradient"
        assert g.isfinite().all(), name
        assert g.any(), f"the gradient of {name} is zero"


@check("a loss that depends on no parameter trains nothing: leave it out, or do not detach")
def every_loss_reaches_some_parameter(pool: Subject) -> None:
    module, graph = pool.make(), graphs(*SIZES)
    parameters = list(module.parameters())
    for name, loss in call(module, graph).losses.items():
        assert loss.ndim == 0
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.any() for g in gradients), f"{name} reaches no parameter"


# Edge cases


@check("a graph may have no nodes: sums by a.nodes give 0 for it; losses leave it out (self.per_graph)")
def a_graph_id_without_nodes(pool: Subject) -> None:
    """Ids stay as they are, and the empty graph changes neither the others nor the losses."""
    module, graph = pool.make(), graphs(5, 4)
    gap = Graphs(graph.xs, graph.adjacencies, ids=[0, 2])
    out = finite(module, gap)
    assert len(out.sizes) == 3
    if not pool.cls.stochastic:
        plain = call(module, graph)
        close(out.x[out.i != 1], plain.x)
        close(out.losses, plain.losses)
    assert not out.x[out.i == 1].any()


def _isolate(graph: Graphs) -> Graphs:
    return Graphs(graph.xs, [b * ((torch.arange(len(b)) % 3) > 0) * ((torch.arange(len(b)) % 3) > 0).unsqueeze(1) for b in graph.adjacencies])  # fmt: skip  # noqa: E501


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


@check(
    "guard divisions, roots and logarithms (clamp sums, add 1e-12 under roots); keep a node of each graph",
    case=list(EDGE_CASES),
)
def edge_cases_are_finite(pool: Subject, case: str) -> None:
    graph = EDGE_CASES[case]()
    out = finite(pool.make(), graph)
    assert (out.sizes > 0).all(), "a graph with nodes vanished"


@check("guard divisions, roots and logarithms (add 1e-12 under the root)", case=list(EDGE_CASES))
def edge_cases_of_readouts_are_finite(readout: Subject, case: str) -> None:
    graph = EDGE_CASES[case]()
    x = graph.x.requires_grad_()
    out = readout.make()(x, graph.i)
    assert out.isfinite().all()
    (grad,) = torch.autograd.grad(out.square().sum(), x)
    assert grad.isfinite().all()


@check("multiply by (nodes.sizes > 0).unsqueeze(-1)")
def a_readout_gives_zeros_for_a_graph_without_nodes(readout: Subject) -> None:
    graph = graphs(5, 4)
    module = readout.make()
    out = module(graph.x, Graphs(graph.xs, graph.adjacencies, ids=[0, 2]).i)
    assert out.shape[0] == 3
    assert not out[1].any()
    close(out[[0, 2]], readout_of(module, graph))


@check("take x [0, f]: no max() of nothing, no division by the number of nodes")
def no_nodes_at_all(operator: Subject) -> None:
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


@check("a graph may have fewer nodes than k asks for")
def more_clusters_than_nodes(pool: Subject) -> None:
    changes = {n: 5 for n in ("k", "ratio") if n in pool.args}
    out = finite(pool.make(**changes), graphs(2, 1, 8))
    if "ratio" in pool.args:
        assert out.sizes.tolist() == [2, 1, 5]
    elif "k" in pool.args:
        assert out.sizes.tolist() == [5, 5, 5]


@check("do not count entries of the matrix: its parts add up, a.degree() is the sum")
def duplicate_edges_add_up(pool: Subject) -> None:
    module, graph = pool.make(), graphs(6, 4)
    index, weight = graph.edges
    twice = torch.cat([index, index[:, :5]], 1), torch.cat([weight - 0.25 * (torch.arange(len(weight)) < 5), 0.25 * torch.ones(5)])  # fmt: skip  # noqa: E501
    torch.manual_seed(0)
    out = module(graph.x, twice[0], graph.i, edge_weight=twice[1].double())
    plain = call(module, graph)
    close(out.x, plain.x)
    close(dense(out), dense(plain))
    close(out.losses, plain.losses)


@check(
    "take x [n, 0]: what depends on the graph alone needs no features",
    mode=["single", "disjoint", "batch", "batch of one size"],
)
def nodes_without_features(operator: Subject, mode: str) -> None:
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


@check("a graph without nodes gets zeros")
def aggregations_by_name_and_graphs_without_nodes(readout: Subject) -> None:
    if "aggregations" not in readout.takes:
        raise Inapplicable("takes no names of aggregations")
    module, graph = readout.make(aggregations=["median", "mul", "var", "sum"]), graphs(5, 4)
    want = module(graph.x, graph.i)
    for i in (2 * graph.i, 1 + 3 * graph.i):
        out = module(graph.x, i, batch_size=6)
        filled = i.unique()
        close(out[filled], want)
        assert not out[[g for g in range(6) if g not in filled]].any()


# Numbers


@check(
    "take softmax and losses in float32: row_softmax(x), not_half(x) of poolbench.pool.base.layers, .float()",
    dtype=[torch.bfloat16, torch.float16],
)
def autocast(operator: Subject, dtype: torch.dtype) -> None:
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
        value = torch.stack([v.float().square().sum() for v in found]).sum() + sum(losses.values())
    if value.requires_grad:
        value.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
    assert abs(value.item() - want) < 0.1 * (1 + abs(want))


@check("draw by torch alone, from the seed; no set, no hash and no order of atomic additions may decide")
def the_same_bits_every_time(operator: Subject) -> None:
    graph, first = graphs(40, 3, 25), None
    graph = Graphs([x.float() for x in graph.xs], [a.float() for a in graph.adjacencies])
    for _ in range(3):
        module = operator.make(dtype=torch.float32)
        value = answer(operator, module, graph)
        grads = torch.autograd.grad(value, list(module.parameters())) if value.requires_grad else ()
        found = [value.detach(), *grads]
        assert first is None or all(torch.equal(p, q) for p, q in zip(found, first, strict=True))
        first = found


@check("change nothing in place that was handed in")
def a_call_leaves_its_input_alone(operator: Subject) -> None:
    module, graph = operator.make(), graphs(*SIZES)
    x, (index, weight), i = graph.x, graph.edges, graph.i
    before = [v.clone() for v in (x, index, weight, i)]
    module(x, i) if operator.is_readout else module(x, index, i, edge_weight=weight)
    assert all(torch.equal(p, q) for p, q in zip((x, index, weight, i), before, strict=True))


@check("say stochastic = True where a call draws, False where it does not")
def stochastic_is_what_is_declared(pool: Subject) -> None:
    module, graph = pool.make(), graphs(12, 9)
    one, other = call(module, graph, seed=0), call(module, graph, seed=1)
    same = one.x.shape == other.x.shape and torch.equal(one.x, other.x)
    assert same != pool.cls.stochastic
    close(call(module, graph, seed=1).x, other.x)


@check("say size_depends_on_data = True")
def sizes_depend_on_data_only_where_declared(pool: Subject) -> None:
    module = pool.make()
    if module.size_depends_on_data:
        return
    sizes = {tuple(call(module, graphs(*SIZES, seed=seed)).sizes.tolist()) for seed in range(5)}
    assert len(sizes) == 1
