"""What comes out, and what an operator may be given: its parts fit together, and what does not fit is refused."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.contract.checks import check, raises
from poolbench.contract.subject import (
    FEATURES,
    SIZES,
    Subject,
    answer,
    call,
    close,
    dense,
    finite,
    graphs,
    readout_of,
    single,
)  # fmt: skip
from poolbench.linalg import Dense
from poolbench.pool.base.src import Operator

# The result


@check("out_channels must say the width that comes out, and what reduce, connect and reduce_index return must fit")
def the_result_is_consistent(pool: Subject) -> None:
    module, graph = pool.make(return_selection=True), graphs(*SIZES)
    out = finite(module, graph)
    assert out.x.shape[1] == module.out_channels(FEATURES)
    assert dense(out).shape == (out.x.shape[0],) * 2
    assert out.s.pooled.sizes.tolist() == out.sizes.tolist()
    assert out.s.nodes.sizes.tolist() == list(SIZES)
    inside = out.i.unsqueeze(0) == out.i.unsqueeze(1)
    assert not dense(out)[~inside].any(), "an edge between two graphs"
    assert pool.make(return_selection=False)(graph.x, graph.a, graph.i).s is None
    assert module.n_nodes == sum(SIZES)


@check("out_channels(in_channels) must say the width that comes out")
def the_width_of_a_readout(readout: Subject) -> None:
    module = readout.make()
    assert readout_of(module, graphs(*SIZES)).shape[-1] == module.out_channels(FEATURES)


@check("make connect symmetric, or say directs = True")
def a_symmetric_graph_stays_symmetric(pool: Subject) -> None:
    module, graph = pool.make(), graphs(8)
    pooled = dense(module(graph.x, graph.a))
    if module.directs:  # as the operator says of itself
        assert not torch.allclose(pooled, pooled.T)
    else:
        close(pooled, pooled.T)


@check("lift must be S x' and its inverse S+' x' of the selection that is returned")
def lift_and_its_inverse(pool: Subject) -> None:
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


@check("leave lift to the selection, which knows the form of the nodes", inverse=[False, True])
def lift_gives_back_the_form_of_the_nodes(pool: Subject, inverse: bool) -> None:
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


@check("compute nothing in select that reduce and connect need beside the selection; losses of it go into assess")
def its_own_selection_handed_in_gives_the_same(pool: Subject) -> None:
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
    with raises(ValueError, "s is of 5 nodes"):
        module(graph.x, index, graph.i, edge_weight=weight, s=single(module, graphs(5), 0).s)


# Weights and arguments


@check("weights are parameters or layers; Linear(None, k) of poolbench.pool.base.layers infers its width")
def state_dict_round_trip_with_channels_inferred(operator: Subject) -> None:
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


@check("with in_channels=None make the weights that the width of x asks for")
def channels_given_or_inferred_make_the_same_weights(operator: Subject) -> None:
    if "in_channels" not in operator.takes:
        return
    graph, lazy = graphs(*SIZES), operator.make(in_channels=None)
    answer(operator, lazy, graph)
    shapes = {n: p.shape for n, p in lazy.named_parameters()}
    assert shapes == {n: p.shape for n, p in operator.make().named_parameters()}


@check("draw each weight by itself")
def no_two_kernels_start_equal(operator: Subject) -> None:
    """With every width alike, so that all kernels of an operator have the same shape."""
    alike = {"k": FEATURES, "channels": FEATURES, "mlp_hidden": [FEATURES, FEATURES]}
    module = operator.make(**{n: v for n, v in alike.items() if n in operator.takes})
    kernels = [p for p in module.parameters() if p.ndim > 1]
    for j, p in enumerate(kernels):
        assert p.unique().numel() > 1 or p.numel() == 1
        for q in kernels[:j]:
            assert p.shape != q.shape or not torch.equal(p, q)


@check("take **keywords in the constructor and hand them to super().__init__")
def an_unknown_argument_names_the_nearest(operator: Subject) -> None:
    with raises(TypeError, operator.cls.__name__):
        operator.make(nosuchargument=1)
    for name in (n for n in operator.takes if len(n) > 3):
        with raises(TypeError, f"'{name}'"):
            operator.make(**{f"{name[:-2]}{name[-1]}{name[-2]}x": 1})


@check("leave forward to the base class")
def an_unknown_keyword_of_a_call_is_refused(pool: Subject) -> None:
    module, graph = pool.make(), graphs(4)
    with raises(TypeError, "edge_weight"):
        module(graph.x, graph.a, edge_weigth=None)


@check("hand kernel_regularizer on to the layer that it is of")
def regularizers_are_losses(operator: Subject) -> None:
    names = [n for n in operator.takes if n.endswith("regularizer")]
    for name in names:
        module, graph = operator.make(**{name: {"l2": 0.1, "l1": 0.3}}), graphs(*SIZES)
        covered = [p for p in module.parameters() if (p.ndim > 1) == ("kernel" in name)]
        want = sum(0.1 * p.square().sum() + 0.3 * p.abs().sum() for p in covered)
        found = module.penalty() if operator.is_readout else call(module, graph).losses["regularization"]
        close(found, want)
        with raises(ValueError, "regularizer"):
            operator.make(**{name: "l3"})


@check("hand kernel_constraint on to the layer that it is of")
def constraints_project_the_weights(operator: Subject) -> None:
    for name in (n for n in operator.takes if n.endswith("constraint")):
        module = operator.make(**{name: "non_neg"})
        covered = [p for p in module.parameters() if (p.ndim > 1) == ("kernel" in name)]
        assert any((p < 0).any() for p in covered)
        module.apply_constraints()
        assert all((p >= 0).all() for p in covered)


@check("hand kernel_initializer on to the layer that it is of")
def initializers_are_names_or_functions(operator: Subject) -> None:
    for name in (n for n in operator.takes if n.endswith("initializer")):
        for value in ("ones", nn.init.ones_):
            module = operator.make(**{name: value})
            covered = [p for p in module.parameters() if (p.ndim > 1) == ("kernel" in name)]
            assert covered
            assert all((p == 1).all() for p in covered)


@check("name every argument of the constructor in the docstring of the class")
def docstrings_say_what_the_arguments_are(operator: Subject) -> None:
    text = " ".join(cls.__doc__ or "" for cls in operator.cls.__mro__ if issubclass(cls, Operator))
    assert operator.cls.__doc__
    for name in operator.takes:
        assert name in text, f"no docstring of {operator.cls.__name__} names {name}"
