"""StructPool: the mean field without the matrix of all pairs, against the formulas written down with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from poolbench.linalg import Ragged, Sparse
from poolbench.pool import StructPool

F64 = torch.float64
SIZES = (6, 1, 5)
BATCH = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))


def graph() -> tuple[Tensor, Tensor]:
    """x and a weighted, directed adjacency matrix, rows as receivers; node 5 has no edges."""
    g = torch.Generator().manual_seed(3)
    hit = (torch.rand(12, 12, generator=g) < 0.3) & (BATCH[:, None] == BATCH)
    hit[5] = hit[:, 5] = False
    x = torch.randn(12, 4, generator=g, dtype=F64)
    return x, hit * (torch.rand(12, 12, generator=g, dtype=F64) + 0.5)


def pool(**arguments: Any) -> StructPool:
    torch.manual_seed(0)
    made = StructPool(3, in_channels=4, return_selection=True, **arguments).double()
    for p in made.parameters():
        nn.init.normal_(p)
    return made


def naive(module: StructPool, x: Tensor, a: Tensor) -> Tensor:
    """S of one graph."""
    n, u = len(x), x
    for layer in module.potentials.layers:
        u = torch.tanh(((a + torch.eye(n)) @ u @ layer.weight.T + layer.bias) / (a.sum(1, keepdim=True) + 1))
    w = (x @ x.T).fill_diagonal_(0.0)
    if module.l_hop == 1:
        w = w * a
    elif module.l_hop is not None:
        walks = sum(torch.linalg.matrix_power(a, t) for t in range(1, module.l_hop + 1))
        w = w * (walks > 0)
    sums = w.sum(1, keepdim=True)
    w = torch.where(w.any(1, keepdim=True), w / sums, 0.0)
    q = u
    for _ in range(module.iterations):
        heard = w @ q.softmax(-1)
        q = u + (heard if module.compatibility is None else heard @ module.compatibility)
    return q.softmax(-1)


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("hidden", [[], [7, 5]])
@pytest.mark.parametrize("hops", [None, 1, 2, 3, 15])
def test_the_field_is_the_formula(hops: int | None, hidden: list[int], learn: bool) -> None:
    module, (x, a) = pool(l_hop=hops, hidden=hidden, learn_compatibility=learn), graph()
    out = module(x, a, BATCH)
    parts = [naive(module, x[g == BATCH], a[g == BATCH][:, g == BATCH]) for g in range(3)]
    torch.testing.assert_close(out.s.dense(), torch.cat(parts))
    for g, s in enumerate(parts):
        rows, at = g == BATCH, slice(3 * g, 3 * g + 3)
        torch.testing.assert_close(out.x[at], s.T @ x[rows])
        torch.testing.assert_close(out.a[at, at], s.T @ a[rows][:, rows] @ s)


@pytest.mark.parametrize("hops", [1, 2])
def test_near_pairs_of_a_padded_batch(hops: int) -> None:
    module, (x, a) = pool(l_hop=hops), graph()
    want = module(x, a, BATCH).s.dense().split(SIZES)
    mask = torch.arange(6) < torch.tensor(SIZES)[:, None]
    wide, square = x.new_zeros(3, 6, 4), x.new_zeros(3, 6, 6)
    wide[mask] = x
    for g in range(3):
        square[g, : SIZES[g], : SIZES[g]] = a[g == BATCH][:, g == BATCH]
    found = module(wide, square, mask=mask).s.dense()
    assert not found[~mask].any()
    torch.testing.assert_close(found[mask], torch.cat(want))


@pytest.mark.parametrize("hops", [None, 1, 2])
def test_gradcheck(hops: int | None) -> None:
    module, (x, a) = pool(l_hop=hops, learn_compatibility=True), graph()
    index = a.T.nonzero().T

    def function(x: Tensor, weight: Tensor, compatibility: Tensor) -> tuple[Tensor, Tensor]:
        given, keywords = (x, index, BATCH), {"edge_weight": weight}
        out = torch.func.functional_call(module, {"compatibility": compatibility}, given, keywords)
        return out.x, out.edge_weight

    leaves = (x, a.T[tuple(index)], module.compatibility.detach().clone())
    assert gradcheck(function, tuple(leaf.requires_grad_() for leaf in leaves))


@pytest.mark.parametrize("hops", [None, 1, 2])
def test_a_node_that_hears_nothing_keeps_its_potentials(hops: int | None) -> None:
    """Released code has 0/0 there."""
    module, (x, a) = pool(l_hop=hops), graph()
    x[3] = 0.0  # all products with it are 0
    x.requires_grad_()
    out = module(x, a, BATCH)
    (row, col), nodes = a.nonzero().T, Ragged.from_index(BATCH)
    u = module.potentials(x, Sparse.from_edges(row, col, a[row, col], nodes))
    quiet = [3, 6] if hops is None else [3, 5, 6]
    torch.testing.assert_close(out.s.dense()[quiet], u.softmax(-1)[quiet])
    grads = torch.autograd.grad(out.x.square().sum(), [x, *module.parameters()])
    assert all(g.isfinite().all() for g in grads)


def test_a_compatibility_that_is_learnt_starts_as_the_constant() -> None:
    (x, a), plain = graph(), StructPool(3, in_channels=4)
    learnt = StructPool(3, in_channels=4, learn_compatibility=True)
    learnt.load_state_dict({**learnt.state_dict(), **plain.state_dict()})
    out = learnt.double()(x, a, BATCH)
    torch.testing.assert_close(out.x, plain.double()(x, a, BATCH).x)
    (grad,) = torch.autograd.grad(out.x.square().sum(), learnt.compatibility)
    assert grad.all()


def test_arguments_that_make_no_sense() -> None:
    for name, wrong in (("iterations", 0), ("l_hop", 0), ("hidden", [0])):
        with pytest.raises(ValueError, match=f"{name}=.*: a whole number of at least 1 is expected"):
            StructPool(3, **{name: wrong})
    with pytest.raises(ValueError, match="hidden=48: a list of whole numbers is expected"):
        StructPool(3, hidden=48)
    with pytest.raises(ValueError, match=r"l_hop=1\.5: a whole number or None is expected"):
        StructPool(3, l_hop=1.5)  # type: ignore[arg-type]
