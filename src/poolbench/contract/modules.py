"""An operator is a well-behaved torch module: it is copied, shown, reset and cast as torch's own are."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from poolbench.contract.checks import check, raises
from poolbench.contract.subject import SIZES, Subject, graphs
from poolbench.pool.base.layers import ACTIVATIONS, CONSTRAINTS, INITIALIZERS
from poolbench.pool.base.module import parameters_of

GRAPH = graphs(*SIZES)
HALF = [torch.bfloat16, torch.float16]


def called(operator: Subject, module: nn.Module, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Any]:
    """Pooled features and losses, from the same draws each time."""
    x, (index, weight) = GRAPH.x.to(dtype), GRAPH.edges
    torch.manual_seed(0)
    if operator.is_readout:
        return module(x, GRAPH.i), {}
    out = module(x, index, GRAPH.i, edge_weight=weight.to(dtype))
    return out.x, out.losses


def saved(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": saved,
    "deepcopy": copy.deepcopy,
}


# Copies


@check(
    "keep functions of a module, not lambdas, and tensors as parameters or buffers",
    how=list(COPIES),
    lazy=[False, True],
    before=[False, True],
)
def a_copy_does_what_the_module_does(operator: Subject, how: str, lazy: bool, before: bool) -> None:
    module = operator.make(**({"in_channels": None} if lazy and "in_channels" in operator.takes else {}))
    if not before:
        called(operator, module)
    twin = COPIES[how](module)
    assert repr(twin) == repr(module)
    assert twin.get_config() == module.get_config()
    ours, theirs = called(operator, module), called(operator, twin)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    shared = {p.data_ptr() for p in module.parameters()} & {p.data_ptr() for p in twin.parameters()}
    assert not shared


@check("keep functions of a module, not lambdas")
def every_named_function_survives_a_copy(operator: Subject) -> None:
    tables = {"initializer": INITIALIZERS, "constraint": CONSTRAINTS, "activation": ACTIVATIONS}
    tables["regularizer"] = {"both": {"l1": 0.1, "l2": 0.2}}  # type: ignore[dict-item]
    for name in operator.takes:
        for key, value in tables.get(name.rpartition("_")[2], {}).items():
            if (name, key) == ("bias_initializer", "orthogonal"):
                continue  # of matrices alone
            module = operator.make(**{name: value})
            twin = COPIES["pickle"](module)
            twin.apply_constraints(), module.apply_constraints()
            torch.testing.assert_close(called(operator, twin), called(operator, module), rtol=0, atol=0, equal_nan=True)


# What is shown


@check("call super().__init__ and leave extra_repr to the base class")
def a_repr_names_what_differs_from_the_defaults(operator: Subject) -> None:
    known = parameters_of(operator.cls)
    shown = operator.cls(**operator.args).extra_repr()
    for name, value in operator.args.items():
        assert (f"{name}=" in shown) == (value != known[name].default), (name, shown)
    assert repr(operator.cls(**operator.args)).startswith(f"{operator.cls.__name__}(")


@check("keep what the constructor was given as it is: get_config hands it to the constructor again")
def a_config_makes_the_same_operator(operator: Subject) -> None:
    torch.manual_seed(0)
    module = operator.cls(**operator.args)
    torch.manual_seed(0)
    twin = type(module)(**module.get_config())
    assert repr(twin) == repr(module)
    called(operator, module.double()), called(operator, twin.double())
    assert state(twin).keys() == state(module).keys()


# New weights


def state(module: nn.Module) -> dict[str, Tensor]:
    return {n: t.detach().clone() for n, t in module.state_dict().items() if not is_lazy(t)}


@check("make weights in the constructor, by draws of torch alone")
def reset_parameters_gives_the_bits_of_a_new_module(operator: Subject) -> None:
    module = operator.make(seed=1, dtype=torch.float32)
    called(operator, module, torch.float32)
    parameters = list(module.parameters())
    with torch.no_grad():
        for p in parameters:
            p.add_(1.0)
    torch.manual_seed(2)
    module.reset_parameters()
    fresh = state(operator.make(seed=2, dtype=torch.float32))
    assert fresh.keys() == state(module).keys()
    assert all(torch.equal(t, fresh[n]) for n, t in state(module).items())
    assert all(p is q for p, q in zip(parameters, module.parameters(), strict=True)), "an optimiser would lose them"


@check("take layers that infer their width (poolbench.pool.base.layers.Linear(None, k))")
def reset_parameters_of_an_inferred_width(operator: Subject) -> None:
    if "in_channels" not in operator.takes:
        return
    module = operator.make(in_channels=None, dtype=torch.float32)
    module.reset_parameters()
    waiting = [n for n, p in module.named_parameters() if is_lazy(p)]
    assert waiting  # still so
    called(operator, module, torch.float32)
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        module.reset_parameters()
        found.append(state(module))
    assert not any(is_lazy(p) for p in module.parameters())
    assert all(torch.equal(t, found[2][n]) for n, t in found[0].items())
    drawn = [n for n, t in found[0].items() if n in waiting and t.unique().numel() > 1]
    assert all(not torch.equal(found[0][n], found[1][n]) for n in drawn)
    other = operator.make(in_channels=None, dtype=torch.float32)  # a width that came with a checkpoint
    other.load_state_dict(module.state_dict())
    torch.manual_seed(1)
    other.reset_parameters()
    assert all(torch.equal(t, found[0][n]) for n, t in state(other).items())


# Attributes and flags


@check("a property must not fail before the first call with anything but AttributeError")
def members_can_be_listed_before_a_call(operator: Subject) -> None:
    module = operator.make()
    assert dict(inspect.getmembers(module))["training"] is True
    assert not hasattr(module, "n_nodes")


@check("annotate flags as bool, and call super().__init__")
def flags_are_checked_as_flags(operator: Subject) -> None:
    flags = [n for n, p in parameters_of(operator.cls).items() if p.annotation == "bool"]
    assert operator.is_readout or "return_selection" in flags
    for name in flags:
        for wrong in (0.5, 1, "yes", None):
            with raises(ValueError, f"{name}={wrong!r}: True or False is expected"):
                operator.make(**{name: wrong})
        operator.make(**{name: np.bool_(False)})


# Types


@check(
    "make new tensors in the type of x (x.new_zeros); scores that half types are too coarse for take not_half(x)",
    dtype=[*HALF, torch.float64],
    lazy=[False, True],
)
def a_module_of_another_type_takes_x_of_that_type(operator: Subject, dtype: torch.dtype, lazy: bool) -> None:
    """Near to what float32 makes of the same numbers; a stochastic one draws others in another type."""
    changes = {"in_channels": None} if lazy and "in_channels" in operator.takes else {}
    module = operator.make(dtype=torch.float32, **changes)
    cast = {torch.bfloat16: nn.Module.bfloat16, torch.float16: nn.Module.half, torch.float64: nn.Module.double}
    cast[dtype](module)
    torch.manual_seed(0)
    called(operator, module, dtype)
    wide = copy.deepcopy(module).float()
    index, weight, found = GRAPH.edges[0], GRAPH.edges[1].to(dtype), []
    for m, kind in ((module, dtype), (wide, torch.float32)):
        x = GRAPH.x.to(dtype).to(kind).requires_grad_()
        for w in (weight.to(kind), None):  # without weights scores tie, and rounding chooses
            torch.manual_seed(0)
            if operator.is_readout:
                y, losses = m(x, GRAPH.i), {}
            else:
                out = m(x, index, GRAPH.i, edge_weight=w)
                y, losses = out.x, out.losses
            assert y.dtype == kind
            assert operator.is_readout or w is None or out.edge_weight.dtype == kind
            # a plain sum of squares says nothing of rows that are normalised
            value = (y.float().square() @ torch.linspace(0.5, 1.5, y.shape[-1])).sum()
            value = value + sum(v.float() for v in losses.values())
            leaves = [x, *m.parameters()]
            grads = torch.autograd.grad(value, leaves, allow_unused=True) if value.requires_grad else []
            numbers = [y, *losses.values(), *(g for g in grads if g is not None)]
            assert all(v.isfinite().all() for v in numbers)
            found.append(numbers)
    if not operator.cls.stochastic:
        for ours, theirs in zip(found[0], found[2], strict=True):
            scale = theirs.abs().max().clamp(min=0.1)
            torch.testing.assert_close(ours.float() / scale, theirs / scale, rtol=0.1, atol=0.05)


@check("make new tensors in the type of x (x.new_zeros)", dtype=HALF)
def half_types_in_batch_mode(pool: Subject, dtype: torch.dtype) -> None:
    module = pool.make(dtype=torch.float32).to(dtype)
    x, a, mask = GRAPH.padded
    out = module(x.to(dtype), a.to(dtype), mask=mask)
    assert out.x.dtype == out.a.dtype == dtype
    assert out.x.isfinite().all()
    assert out.a.isfinite().all()


@check("lift by a selection's methods, which know the half types", dtype=HALF, mode=["single", "disjoint", "batch"])
def lift_and_its_inverse_in_half_types(pool: Subject, dtype: torch.dtype, mode: str) -> None:
    """Near to the algebra of S in float64, and in the type of what is lifted."""
    module = pool.make(dtype=torch.float32, return_selection=True).to(dtype)
    x, a, mask = GRAPH.padded
    torch.manual_seed(0)
    if mode == "single":
        out = module(GRAPH.xs[0].to(dtype), GRAPH.adjacencies[0].to(dtype))
    elif mode == "disjoint":
        out = module(GRAPH.x.to(dtype), GRAPH.edges[0], GRAPH.i, edge_weight=GRAPH.edges[1].to(dtype))
    else:
        out = module(x.to(dtype), a.to(dtype), mask=mask)
    for inverse in (False, True):
        lifted = module.lift(out.x, out.s, inverse=inverse)
        assert lifted.dtype == out.x.dtype == dtype
        assert lifted.isfinite().all()
        s = out.s.dense().detach().double()
        if mode != "single" or (inverse and float(torch.linalg.cond(s)) > 100.0):
            continue
        want = (torch.linalg.pinv(s).T if inverse else s) @ out.x.double()
        scale = want.abs().max()
        torch.testing.assert_close(lifted.double() / scale, want / scale, rtol=0.02, atol=0.02)


# Results


@check("return a PoolOutput as the base class makes it")
def a_result_is_shown_by_its_shapes(pool: Subject) -> None:
    module, (index, weight) = pool.make(return_selection=True), GRAPH.edges
    out = module(GRAPH.x, index, GRAPH.i, edge_weight=weight)
    shown = repr(out)
    assert shown.startswith(f"PoolOutput(x=[{out.x.shape[0]}, {out.x.shape[1]}] float64, a=edge_index [2, ")
    assert "tensor(" not in shown
    assert "None" not in shown
    assert "\n" not in shown
    for name, loss in out.losses.items():
        assert f"{name}: {loss.item():.4g}" in shown
    assert f"s={type(out.s).__name__}(4 graphs, " in shown
    for a, form in ((GRAPH.a, "dense"), (GRAPH.a.to_sparse_coo(), "coo"), (GRAPH.a.to_sparse_csr(), "csr")):
        assert f"a={form} [{out.x.shape[0]}, {out.x.shape[0]}] float64" in repr(module(GRAPH.x, a, GRAPH.i))
