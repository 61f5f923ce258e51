"""MemPool: by hand, against PyTorch Geometric, its arguments and its edge cases."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import MemPooling

from poolbench.pool import MemPool

F64 = torch.float64
NONE = torch.zeros(2, 0, dtype=torch.int64)


def pool(k: int = 3, **changes: Any) -> MemPool:
    torch.manual_seed(0)
    return MemPool(k, **({"in_channels": 4, "return_selection": True} | changes)).double()


def twin(ours: MemPool) -> MemPooling:
    """PyTorch Geometric's layer of the same weights."""
    theirs = MemPooling(4, ours.out_channels(4), ours.heads, ours.k, ours.tau).double()
    with torch.no_grad():
        theirs.k.copy_(ours.keys.weight.view_as(theirs.k))
        theirs.conv.weight.copy_(ours.mix.view_as(theirs.conv.weight))
        theirs.lin.weight.copy_(ours.embedding.weight)
    return theirs


def nodes(*sizes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(sum(sizes), 4, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return x, torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


@pytest.mark.parametrize("tau", [1.0, 0.5, 4])
@pytest.mark.parametrize(("heads", "k"), [(1, 1), (1, 4), (5, 3), (2, 20)])
def test_it_is_pytorch_geometric_s(heads: int, k: int, tau: float) -> None:
    x, batch = nodes(7, 1, 12)
    ours = pool(k, heads=heads, tau=tau, channels=6)
    theirs = twin(ours)
    x.requires_grad_()
    rows, s = theirs(x, batch)
    loss = MemPooling.kl_loss(s)
    out = ours(x, NONE, batch)
    torch.testing.assert_close(out.x, rows.flatten(0, 1))
    torch.testing.assert_close(out.s.dense(), s.flatten(0, 1)[s.sum(-1).flatten() > 0])
    torch.testing.assert_close(out.losses["kl"], loss)
    given = torch.autograd.grad(rows.square().sum() + loss, [x, theirs.k, theirs.conv.weight, theirs.lin.weight])
    leaves = [x, ours.keys.weight, ours.mix, ours.embedding.weight]
    found = torch.autograd.grad(out.x.square().sum() + out.losses["kl"], leaves)
    for one, other in zip(found, given, strict=True):
        torch.testing.assert_close(one, other.view_as(one))


def test_one_node_by_hand() -> None:
    ours = MemPool(2, heads=1, in_channels=1, return_selection=True).double()
    with torch.no_grad():
        ours.keys.weight.copy_(torch.tensor([[1.0], [3.0]]))  # at distances 0 and 2
        ours.mix.fill_(2.0)
        ours.embedding.weight.fill_(10.0)
    x = torch.ones(2, 1, dtype=F64)
    out = ours(x[:1], NONE)
    near = 2 * (1.0 / 1.2)  # C = 1 and 1/5, divided by their sum
    share = math.exp(near) / (math.exp(near) + math.exp(2 - near))
    torch.testing.assert_close(out.x, torch.tensor([[10 * share], [10 * (1 - share)]], dtype=F64))
    torch.testing.assert_close(out.losses["kl"], torch.zeros((), dtype=F64))  # P = S for a single node


def test_the_loss_is_a_sum_over_nodes_and_a_mean_over_graphs() -> None:
    x, _ = nodes(8)
    ours = pool()
    one = ours(x, NONE).losses["kl"]
    three = ours(torch.cat([x, x, x]), NONE, torch.tensor([0] * 8 + [2] * 8 + [3] * 8), batch_size=6).losses["kl"]
    torch.testing.assert_close(three, one)
    twice = ours(torch.cat([x, x]), NONE).losses["kl"]  # of one graph: the share of each node stays what it was
    torch.testing.assert_close(twice, 2 * one)


def test_the_graph_is_the_identity_or_the_coarsened_one() -> None:
    x, _ = nodes(8)
    a = torch.rand(8, 8, dtype=F64, generator=torch.Generator().manual_seed(1)).round()
    out, dense = pool()(x, a), pool(connect="dense")(x, a)
    assert torch.equal(out.x, dense.x)
    assert torch.equal(out.a, torch.eye(3, dtype=F64))
    torch.testing.assert_close(dense.a, out.s.s.T @ a @ out.s.s)
    bare = pool(connect="dense", remove_self_loops=True)(x, a).a
    torch.testing.assert_close(bare, dense.a - torch.diag(dense.a.diagonal()))


@pytest.mark.parametrize("tau", [1.0, 30.0])
def test_features_far_from_all_keys_are_finite(tau: float) -> None:
    """Where every C underflows, their shares do not."""
    x, batch = nodes(5, 4)
    ours = pool(tau=tau).float()
    far = (1e4 * x).float().requires_grad_()
    out = ours(far, NONE, batch)
    exact = copy.deepcopy(ours).double()(far.double(), NONE, batch)
    torch.testing.assert_close(out.s.dense().double(), exact.s.dense(), rtol=1e-4, atol=1e-4)
    grads = torch.autograd.grad(out.x.sum() + out.losses["kl"], [far])
    assert all(g.isfinite().all() for g in grads)


def test_clusters_that_nobody_is_near_to_give_no_nan() -> None:
    """A share that is 0 in float32 has the logarithm of 1e-15, as in PyTorch Geometric."""
    x, batch = nodes(5, 4)
    ours = pool().float()
    with torch.no_grad():
        ours.mix.fill_(500.0)
    x = x.float().requires_grad_()
    out = ours(x, NONE, batch)
    assert (out.s.dense() == 0).any()
    loss = out.losses["kl"]
    torch.testing.assert_close(loss, MemPooling.kl_loss(twin(ours).float()(x, batch)[1]), rtol=1e-3, atol=1e-4)
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


def test_weights_start_as_documented() -> None:
    torch.manual_seed(0)
    ours = MemPool(20, heads=4, channels=50, in_channels=25)
    for weight, bound in ((ours.keys.weight, 1.0), (ours.embedding.weight, 0.2)):
        assert 0.98 * bound < weight.abs().max() <= bound
        assert abs(weight.mean()) < 0.05 * bound
    mix = torch.cat([MemPool(2, heads=4, in_channels=2).mix.detach() for _ in range(100)])
    assert 0.48 < mix.abs().max() <= 0.5 and mix.min() < 0


@pytest.mark.parametrize(
    "arguments", [{"heads": 0}, {"tau": 0.0}, {"tau": "1"}, {"connect": "knn"}, {"channels": -1}, {"k": 0}], ids=str
)
def test_arguments_out_of_range_are_one_line(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(arguments))}=[^\n]*$"):
        MemPool(**{"k": 3, **arguments})
