"""torch.compile, torch.export, torch.func and second derivatives, of every registered operator.

Where no size is read from the data, tensors as PyG people hold them, with `batch_size`, are one graph to the compiler,
whatever their sizes. `scripts/operators_page.py` writes the same into docs/operators.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from registry import Graphs, Registered, graphs
from torch import Tensor, nn

from poolbench.linalg import Ragged, Sparse

SIZES = (6, 1, 9, 3)
BATCHES = [graphs(*sizes, seed=seed) for seed, sizes in enumerate([SIZES, (2, 12, 3, 40), (33, 5, 1, 1)])]
#: Their attention is a kernel of torch, and that has one derivative.
ONCE = ("gmt", "settransformer")
#: PyG's aggregation is exported for one number of nodes, and compiled anew for another one.
ONE_NUMBER_OF_NODES = ("median", "quantile")


def close(ours: Any, theirs: Any, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


class OnTensors(nn.Module):
    """An operator called on (x, edge_index, edge_weight, batch) of four graphs: tensors alone come back."""

    def __init__(self, operator: Registered, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.operator, self.is_readout = operator.make(dtype=dtype), operator.is_readout

    def forward(self, x: Tensor, index: Tensor, weight: Tensor, batch: Tensor) -> tuple[Tensor, ...]:
        if self.is_readout:
            return (self.operator(x, batch=batch, batch_size=4),)
        out = self.operator(x, edge_index=index, edge_weight=weight, batch=batch, batch_size=4)
        # Equal edges of a traced call stay in several parts: what each node hears is the same.
        heard = out.edge_weight.new_zeros(out.x.shape[0]).index_add(0, out.edge_index[1], out.edge_weight)
        return out.x, heard if self.operator.pooled_edges == "kept" else out.edge_weight, *out.losses.values()


def tensors(graph: Graphs, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, edge_index, edge_weight and batch, edges in any order and some of them twice."""
    index, weight = graph.edges
    order = torch.randperm(index.shape[1], generator=torch.Generator().manual_seed(0))
    order = torch.cat([order, order[:3]])
    return graph.x.to(dtype), index[:, order], weight[order].to(dtype), graph.i


def number(made: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([v.square().sum() for v in made]).sum()


def fixed(operator: Registered) -> None:
    if not operator.is_readout and operator.cls.size_depends_on_data:
        pytest.skip("the number of pooled nodes depends on the data")


def test_compiles_as_one_graph_for_batches_of_any_size(operator: Registered) -> None:
    fixed(operator)
    torch._dynamo.reset()
    module, graphs_made = OnTensors(operator), []

    def backend(graph: Any, inputs: Any) -> Any:
        from torch._dynamo.backends.debugging import aot_eager

        graphs_made.append(graph)
        return aot_eager(graph, inputs)

    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=backend)
    for graph in BATCHES:
        x, *rest = tensors(graph)
        x.requires_grad_()
        found = []
        for f in (module, compiled):
            torch.manual_seed(0)
            made = f(x, *rest)
            found.append((made, torch.autograd.grad(number(made), [x, *module.parameters()])))
        close(*found, 1e-3)  # of float32, and gradients are in the thousands
    assert len(graphs_made) <= 2 or operator.name in ONE_NUMBER_OF_NODES


def test_exports_with_any_number_of_nodes_and_edges(operator: Registered) -> None:
    fixed(operator)
    if operator.name in ONE_NUMBER_OF_NODES:
        pytest.skip("PyG's aggregation is exported for one number of nodes")
    module = OnTensors(operator).eval()
    n, e = torch.export.Dim("n", min=2), torch.export.Dim("e", min=2)
    program = torch.export.export(module, tensors(BATCHES[0]), dynamic_shapes=({0: n}, {1: e}, {0: e}, {0: n}))
    for graph in BATCHES:
        found = []
        for f in (module, program.module()):
            torch.manual_seed(0)
            found.append(f(*tensors(graph)))
        close(*found, 1e-4)


def test_the_number_of_graphs_that_a_trace_would_have_to_read(operator: Registered) -> None:
    x, index, _, batch = tensors(BATCHES[0])
    module = operator.make(dtype=torch.float32)
    given = (x, batch) if operator.is_readout else (x, index, batch)
    line = "need batch_size=, the number of graphs"
    with pytest.raises(ValueError, match=line):
        torch.export.export(module, given)
    if operator.is_readout:
        return
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=line):
        torch.compile(module, fullgraph=True, backend="eager")(*given)


def _loss_of(operator: Registered) -> tuple[Callable[..., Tensor], dict[str, Tensor], Tensor, Tensor]:
    """A function of (parameters, x, edge_weight), and what to call it with."""
    module, (x, index, weight, batch) = OnTensors(operator, torch.float64), tensors(BATCHES[0], torch.float64)

    def loss(parameters: dict[str, Tensor], x: Tensor, weight: Tensor) -> Tensor:
        torch.manual_seed(0)
        return number(torch.func.functional_call(module, parameters, (x, index, weight, batch)))

    return loss, {name: p.detach() for name, p in module.named_parameters()}, x, weight


def test_torch_func_gives_the_derivatives_of_autograd(operator: Registered) -> None:
    loss, parameters, x, weight = _loss_of(operator)
    found = torch.func.grad(loss, argnums=(0, 1, 2))(parameters, x, weight)
    inputs = _leaves(parameters, x, weight)
    flat = [v for part in _by_name(inputs).values() for v in part]
    wanted = torch.autograd.grad(loss(*inputs), flat, allow_unused=True, materialize_grads=True)
    close([v for part in _by_name(found).values() for v in part], list(wanted))


@pytest.mark.parametrize(
    ("moving", "symmetric"),  # edge weights that move one by one are not symmetric
    [(("x", "parameters"), True), (("x",), True), (("parameters", "weight"), False), (("x", "weight"), False),
     (("x", "parameters", "weight"), False)],
)  # fmt: skip
def test_second_derivatives_are_those_of_the_formulas(
    operator: Registered, moving: tuple[str, ...], symmetric: bool
) -> None:
    """By autograd, where the first derivative is written out, and by torch.func, where both are torch's; what does not
    move is frozen."""
    if operator.name in ONCE:
        pytest.skip("torch's attention has one derivative")
    module, graph = operator.make(), BATCHES[0]
    index, values = graph.edges

    def loss(parameters: dict[str, Tensor], x: Tensor, weight: Tensor) -> Tensor:
        nodes = Ragged.from_index(graph.i)
        a = Sparse.from_edges(index[0], index[1], weight, nodes, symmetric)
        torch.manual_seed(0)
        made = torch.func.functional_call(module, parameters, (x, nodes if operator.is_readout else a))
        if operator.is_readout:
            return made.square().sum()
        return number((made.x, made.a.to_dense(), *made.losses.values()))

    def first(parameters: dict[str, Tensor], x: Tensor, weight: Tensor) -> Tensor:
        given = _by_name(torch.func.grad(loss, argnums=(0, 1, 2))(parameters, x, weight))
        return torch.stack([x.new_zeros(())] + [g.square().sum() for name in moving for g in given[name]]).sum()

    inputs = {name: p.detach() for name, p in module.named_parameters()}, graph.x, values
    wanted = _by_name(torch.func.grad(first, argnums=(0, 1, 2))(*inputs))
    leaves = _by_name(inputs := _leaves(*inputs))
    for name in leaves.keys() - set(moving):
        for v in leaves[name]:
            v.requires_grad_(False)
    flat = [v for name in moving for v in leaves[name]]
    given, again = loss(*inputs), None
    for _ in range(2):
        if not flat or not given.requires_grad:  # nothing depends on what moves, or not twice
            again = [torch.zeros_like(v) for v in flat]
            break
        again = torch.autograd.grad(given, flat, create_graph=True, allow_unused=True, materialize_grads=True)
        given = torch.stack([g.square().sum() for g in again]).sum()
    close(list(again), [g for name in moving for g in wanted[name]], 1e-6)


def _by_name(of: Any) -> dict[str, list[Tensor]]:
    """(parameters, x, weight), or their derivatives, as lists."""
    return {"parameters": list(of[0].values()), "x": [of[1]], "weight": [of[2]]}


def _leaves(parameters: dict[str, Tensor], *tensors: Tensor) -> tuple[Any, ...]:
    tracked = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    return tracked, *[v.clone().requires_grad_() for v in tensors]
