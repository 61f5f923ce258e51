"""The contract (`poolbench.contract`) for every registered operator, and what takes a GPU or a compiler to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from registry import REGISTRY, Registered, graphs
from torch import Tensor

from poolbench.contract.checks import Check, case_name, checks
from poolbench.contract.subject import SIZES, Inapplicable, answer, close, nodes_of, objective
from poolbench.linalg import Sparse


def _cases() -> list[Any]:
    return [
        pytest.param(each, case, subject, id="-".join(filter(None, (each.name, case_name(case), subject.name))))
        for subject in REGISTRY for each in checks() if each.is_for(subject) for case in each.cases
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize(("one", "case", "subject"), _cases())
def test_contract(one: Check, case: Mapping[str, Any], subject: Registered) -> None:
    try:
        one.function(subject, **case)
    except Inapplicable as reason:
        pytest.skip(str(reason))


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
