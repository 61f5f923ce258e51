"""Modules and matrices that are used again: what a call leaves behind must not change what a later one gives."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from registry import Graphs, Registered, graphs
from torch import Tensor, nn

from poolbench.linalg import GCN, Dense, Matrix, Padded, Ragged, Sparse

SIZES = (6, 1, 9, 3)
WITHOUT_GRADIENT = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


def objective(out: Any) -> Tensor:
    a = out.a.value
    return out.x.square().sum() + sum(out.losses.values()) + (0.0 if a is None else a.square().sum())


def answer(module: nn.Module, x: Tensor, a: Matrix, **keywords: Any) -> Tensor:
    torch.manual_seed(0)
    return objective(module(x, a, **keywords))


def given(graph: Graphs, batched: bool, learnt: bool = True) -> tuple[Tensor, Matrix, Tensor]:
    """x, the graph as a matrix, and its values."""
    if batched:
        x, a, mask = graph.padded
        return x, Dense(a.requires_grad_(learnt), Padded(*mask.shape, mask)), a
    (source, target), weight = graph.edges
    order = torch.argsort(target * len(graph.x) + source)
    weight = weight[order].requires_grad_(learnt)
    nodes = Ragged(torch.tensor([0, *SIZES]).cumsum(0))
    return graph.x, Sparse.from_edges(target[order], source[order], weight, nodes), weight


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("without", WITHOUT_GRADIENT)
def test_learnt_weights_of_a_matrix_that_is_handed_in_again(pool: Registered, batched: bool, without: str) -> None:
    """Each step's gradient is that of a matrix which was made for it."""
    module, graph = pool.make().eval(), graphs(*SIZES)
    x, a, weight = given(graph, batched)
    optimizer = torch.optim.SGD([weight], lr=0.01)
    for _ in range(3):
        with WITHOUT_GRADIENT[without]():
            seen = answer(module, x, a)
        value = answer(module, x, a)
        torch.testing.assert_close(seen, value.detach(), rtol=1e-12, atol=1e-12)
        _, fresh, leaf = given(graph, batched)
        with torch.no_grad():
            leaf.copy_(weight)
        wanted = answer(module, x, fresh)
        assert torch.equal(value, wanted) and value.requires_grad == wanted.requires_grad
        if not value.requires_grad:
            return
        want = torch.autograd.grad(wanted, leaf, allow_unused=True)[0]
        optimizer.zero_grad()
        value.backward()
        assert (weight.grad is None) == (want is None) and (want is None or torch.equal(weight.grad, want))
        optimizer.step()


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_first_call_in_inference_mode(pool: Registered, batched: bool, lazy: bool) -> None:
    """It may be what infers the widths, and what makes what a matrix keeps."""
    widths = {"in_channels": None} if lazy and "in_channels" in pool.takes else {}
    module, graph = pool.make(**widths), graphs(*SIZES)
    x, a, _ = given(graph, batched, learnt=False)
    with torch.inference_mode():
        seen = answer(module.eval(), x, a)
    value = answer(module, x.requires_grad_(), a)
    torch.testing.assert_close(seen, value.detach(), rtol=1e-12, atol=1e-12)
    assert not any(p.is_inference() for p in module.parameters())
    value.backward()


@pytest.mark.parametrize("lazy", [False, True])
def test_a_first_call_of_a_readout_in_inference_mode(readout: Registered, lazy: bool) -> None:
    widths = {"in_channels": None} if lazy and "in_channels" in readout.takes else {}
    module, graph = readout.make(**widths).eval(), graphs(*SIZES)
    x, a, _ = given(graph, False, learnt=False)
    with torch.inference_mode():
        seen = module(x, a.nodes)
    out = module(x.requires_grad_(), a.nodes)
    torch.testing.assert_close(seen, out.detach(), rtol=1e-12, atol=1e-12)
    out.sum().backward()


@pytest.mark.parametrize("batched", [False, True])
def test_a_selection_that_is_handed_in_again(pool: Registered, batched: bool) -> None:
    """Made where no gradient is recorded, it serves in training, and twice."""
    module, graph = pool.make(return_selection=True).eval(), graphs(*SIZES)
    x, a, _ = given(graph, batched, learnt=False)
    x.requires_grad_()
    torch.manual_seed(0)
    with torch.no_grad():
        s = module(x, a).s
    grads = []
    for _ in range(2):
        x.grad = None
        value = answer(module, x, a, s=s)
        if not value.requires_grad:
            return
        value.backward()
        grads.append(x.grad)
    assert grads[0] is not None and grads[0].any() and torch.equal(*grads)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("batched", [False, True])
def test_a_matrix_is_copied_in_the_midst_of_a_step(batched: bool, how: Callable[[Any], Any]) -> None:
    x, a, weight = given(graphs(*SIZES), batched)
    value = a.view(GCN).matmul(x).square().sum()
    twin = how(a)
    again = twin.view(GCN).matmul(x).square().sum()
    assert torch.equal(again, value)
    again.backward()
    value.backward()
    assert torch.equal(twin.value.grad, weight.grad)
