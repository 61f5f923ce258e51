"""What does not fit a module is said in one line that names it, not in torch's words from the depths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch_geometric.nn
from registry import FEATURES, Registered, graphs
from torch import Tensor

import poolbench.pool
from poolbench.linalg import Ragged
from poolbench.pool import (
    ASAPPool,
    ClusterPool,
    GlobalAvgPool,
    GraphMultisetTransformerPool,
    MemPool,
    MinCutPool,
    SAGPool,
    TopKPool,
)

GRAPH = graphs(6, 1, 9, 3)
MODES = ["single", "disjoint", "batch"]
HINTS = {
    torch.int64: r"x\.float\(\)",
    torch.bool: r"x\.float\(\)",
    torch.uint8: r"x\.float\(\)",
    torch.complex64: r"torch\.view_as_real\(x\)\.flatten\(-2\)",
}


def call(operator: Registered, module: Any, change: Callable[[Tensor], Tensor], mode: str = "disjoint") -> Any:
    """With what `change` makes of the features; weights are of their type, where that is one for weights."""
    (index, weight), (wide, a, mask) = GRAPH.edges, GRAPH.padded
    x = change(GRAPH.x)
    kind = x.dtype if x.is_floating_point() else torch.float32
    torch.manual_seed(0)
    if mode == "batch":
        x = change(wide)
        return module(x, mask=mask) if operator.is_readout else module(x, a.to(kind), mask=mask)
    if mode == "single":
        return module(x) if operator.is_readout else module(x, index, edge_weight=weight.to(kind))
    return module(x, GRAPH.i) if operator.is_readout else module(x, index, GRAPH.i, edge_weight=weight.to(kind))


def weighted(module: torch.nn.Module) -> bool:
    return any(True for _ in module.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_features_that_are_no_floats(operator: Registered, mode: str) -> None:
    changes = {"in_channels": None} if "in_channels" in operator.takes else {}
    module = operator.make(dtype=torch.float32, **changes)
    for dtype, hint in HINTS.items():
        with pytest.raises(TypeError, match=f"^x is of {dtype}: floats are expected, give {hint}"):
            call(operator, module, lambda x, dtype=dtype: x.to(dtype), mode)
    call(operator, module, lambda x: x.int().float(), mode)  # nothing was inferred before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lazy", [False, True])
def test_features_of_another_width(operator: Registered, mode: str, lazy: bool) -> None:
    changes = {"in_channels": None} if lazy and "in_channels" in operator.takes else {}
    module = operator.make(**changes)
    call(operator, module, lambda x: x)
    wide, narrow = [lambda x: torch.cat([x, x], -1), lambda x: x[..., :3]]
    for change, width in ((wide, 2 * FEATURES), (narrow, 3)):
        if not weighted(module) or "in_channels" not in operator.takes:
            call(operator, module, change, mode)
            continue
        how = "inferred before" if lazy else "given as in_channels"
        line = (
            f"^x has {width} features, but this {operator.cls.__name__} takes {FEATURES}, as was {how}: give x of that"
        )
        with pytest.raises(ValueError, match=line):
            call(operator, module, change, mode)


@pytest.mark.parametrize("mode", MODES)
def test_features_of_another_type_than_the_weights(operator: Registered, mode: str) -> None:
    for own, other in ((torch.float32, "double"), (torch.float64, "float")):
        module = operator.make(dtype=own)
        change: Callable[[Tensor], Tensor] = Tensor.double if other == "double" else Tensor.float
        if not weighted(module) or "in_channels" not in operator.takes:
            call(operator, module, change, mode)
            continue
        given = change(GRAPH.x).dtype
        line = (
            f"^x is of {given}, but the weights of {operator.cls.__name__} are of {own}: give x.*, or call its .{other}"
        )
        with pytest.raises(TypeError, match=line):
            call(operator, module, change, mode)
        call(operator, getattr(module, other)(), change, mode)


def test_a_failure_that_has_another_reason_is_told_as_it_is() -> None:
    class Failing(TopKPool):
        def project(self, x: Tensor, a: Any) -> Tensor:
            raise self.error("of its own")

        error: type[Exception] = RuntimeError

    for error in (RuntimeError, torch.OutOfMemoryError, KeyError):
        Failing.error = error
        with pytest.raises(error, match="of its own"):
            Failing(in_channels=FEATURES)(GRAPH.x.float(), GRAPH.edges[0])
    Failing.error = torch.OutOfMemoryError
    with pytest.raises(torch.OutOfMemoryError):
        Failing(in_channels=7)(GRAPH.x, GRAPH.edges[0])


def test_in_channels_that_are_no_number_hide_no_failure() -> None:
    class Own(TopKPool):
        def __init__(self, in_channels: tuple[int, int]) -> None:
            super().__init__(0.5, in_channels=in_channels[0])

        def project(self, x: Tensor, a: Any) -> Tensor:
            raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        Own((FEATURES, 2))(GRAPH.x.float(), GRAPH.edges[0])


# What people from PyTorch Geometric write

WIDTH = (
    r"The first argument of {0} is {1}, and no width: widths are inferred, "
    r"or given as in {0}\({1}={2}, in_channels=16\)"
)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: TopKPool(16, 0.5), WIDTH.format("TopKPool", "ratio", "0.5") + r"; to keep 16 .* TopKPool\(ratio=16\)"),
        (lambda: TopKPool(16), WIDTH.format("TopKPool", "ratio", "0.5")),
        (lambda: ASAPPool(16, ratio=0.5), WIDTH.format("ASAPPool", "ratio", "0.5")),
        (lambda: ClusterPool(16), WIDTH.format("ClusterPool", "edge_score_method", "'tanh'")),
        (lambda: MemPool(16, 32, heads=4, num_clusters=10), WIDTH.format("MemPool", "k", "...")),
        (lambda: SAGPool(GNN=torch.nn.Linear), "did you mean 'gnn'"),
        (lambda: TopKPool(validate=False), r"validate is an argument of the call, pool\(..., validate=...\)"),
        (lambda: GlobalAvgPool(batch_size=3), r"batch_size is an argument of the call"),
    ],
)
def test_constructors_that_are_called_as_pygs(make: Callable[[], Any], line: str) -> None:
    with pytest.raises((TypeError, ValueError), match=line) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_first_argument_that_is_meant_as_it_is() -> None:
    assert TopKPool(ratio=16).ratio == TopKPool(16, in_channels=4).ratio == 16
    assert TopKPool().ratio == SAGPool().ratio == 0.5
    assert MinCutPool(16).k == 16
    assert GraphMultisetTransformerPool(16).out_channels(4) == 16
    assert TopKPool(ratio=16, in_channels=4).get_config() == {"ratio": 16, "in_channels": 4}
    with pytest.raises(ValueError, match=r"^k=0: a whole number of at least 1 is expected$"):
        MinCutPool(0)


def test_calls_of_four_arguments(operator: Registered) -> None:
    module, (index, weight) = operator.make(), GRAPH.edges
    if operator.is_readout:
        with pytest.raises(TypeError, match=r"got 3 arguments by position: .* readout\(x, batch, batch_size=size\)"):
            module(GRAPH.x, GRAPH.i, 4)
        return
    for edge_attr in (weight, None):
        with pytest.raises(TypeError, match=r"got 4 arguments by position: .* pool\(x, edge_index, batch, edge_attr="):
            module(GRAPH.x, index, edge_attr, GRAPH.i)


def test_an_argument_of_the_constructor_in_a_call() -> None:
    with pytest.raises(TypeError, match=r"ratio is an argument of the constructor, TopKPool\(ratio=...\)"):
        TopKPool()(GRAPH.x.float(), GRAPH.edges[0], ratio=0.5)


def test_lifting_without_a_selection(pool: Registered) -> None:
    module = pool.make()
    out = call(pool, module, lambda x: x)
    with pytest.raises(TypeError, match=f"make the {pool.cls.__name__} with return_selection=True"):
        module.lift(out.x, out.s)
    with pytest.raises(TypeError, match="lift: s is a Tensor"):
        module.lift(out.x, out.x)


def test_a_star_brings_nothing_that_others_have() -> None:
    names: dict[str, Any] = {}
    exec("from poolbench.pool import *", names)
    brought = {*names} - {"__builtins__"}
    assert {"TopKPool", "GlobalAvgPool", "SRCPool", "PoolOutput", "DenseSelection"} <= brought
    assert not [n for n in brought if hasattr(torch.nn, n) or hasattr(torch_geometric.nn, n) or hasattr(torch, n)]
    assert poolbench.pool.Linear is not torch.nn.Linear  # by name it is there


def test_nodes_of_a_matrix_are_explained_too(readout: Registered) -> None:
    module = readout.make()
    if "in_channels" in readout.takes and weighted(module):
        with pytest.raises(ValueError, match=f"takes {FEATURES}, as was given"):
            module(torch.cat([GRAPH.x, GRAPH.x], 1), Ragged.from_index(GRAPH.i))
