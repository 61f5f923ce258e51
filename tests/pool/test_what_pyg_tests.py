"""What PyTorch Geometric's own tests of pooling (test/nn/pool, test/nn/dense) ask of its operators, asked of ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GraphConv, SAGEConv

from poolbench.pool import (
    ASAPPool,
    DMoNPool,
    GlobalAvgPool,
    GlobalMaxPool,
    GlobalSumPool,
    MemPool,
    MinCutPool,
    SAGPool,
    TopKPool,
)


def complete(n: int) -> Tensor:
    """The edge_index of a complete graph without self-loops."""
    return (1 - torch.eye(n)).nonzero().T


@pytest.mark.parametrize(
    ("ratio", "kept"), [(0.2, [1, 5]), (0.5, [1, 3, 5]), (2, [0, 1, 3, 5]), (3, [0, 1, 2, 3, 5]), (1.0, [*range(6)])]
)
def test_which_nodes_a_ratio_keeps(ratio: float, kept: list[int]) -> None:
    x, batch = torch.tensor([[2.0], [4.0], [5.0], [6.0], [2.0], [9.0]]), torch.tensor([0, 0, 1, 1, 1, 1])
    pool = TopKPool(ratio=ratio, kernel_initializer="ones")
    out = pool(x, complete(2), batch)
    assert out.perm.tolist() == kept
    assert torch.equal(out.batch, batch[kept])
    assert torch.equal(out.x, (x * x.tanh())[kept])


def test_edges_between_kept_nodes_keep_their_features() -> None:
    edge_index = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3], [1, 3, 0, 2, 1, 3, 0, 2]])
    edge_attr = torch.arange(1.0, 9.0)
    out = TopKPool()(torch.ones(4, 1), edge_index, edge_attr=edge_attr, s=torch.tensor([2, 3]))
    found = {tuple(end): value for end, value in zip(out.edge_index.T.tolist(), out.edge_attr.tolist(), strict=True)}
    assert found == {(0, 1): 6.0, (1, 0): 8.0}


@pytest.mark.parametrize("gnn", [None, GraphConv, GCNConv, GATConv, SAGEConv])
@pytest.mark.parametrize("arguments", [{"ratio": 0.5}, {"min_score": 0.2}, {"ratio": 0.5, "multiplier": 2.0}])
def test_sag_and_topk_on_a_complete_graph(gnn: type[nn.Module] | None, arguments: dict[str, Any]) -> None:
    x, edge_index = torch.randn(4, 16), complete(4)
    for pool in (SAGPool(gnn=gnn, in_channels=16, **arguments), TopKPool(gnn=gnn, in_channels=16, **arguments)):
        out = pool(x, edge_index)
        k = len(out.perm)
        assert k == 2 if "min_score" not in arguments else 1 <= k <= 4
        assert out.x.shape == (k, 16) and out.score.shape == (4,)
        assert torch.equal(out.edge_index.flip(0), complete(k))
        gate = out.score[out.perm] if "min_score" in arguments else out.score[out.perm].tanh()
        torch.testing.assert_close(out.x, arguments.get("multiplier", 1.0) * x[out.perm] * gate.unsqueeze(-1))


@pytest.mark.parametrize("gnn", [None, GCNConv(16, 16), GraphConv(16, 16)], ids=["none", "gcn", "graph"])
def test_asap_on_a_complete_graph(gnn: nn.Module | None) -> None:
    out = ASAPPool(ratio=0.5, gnn=gnn, in_channels=16)(torch.randn(4, 16), complete(4))
    assert out.x.shape == (2, 16)
    assert torch.equal(out.edge_index.flip(0), complete(2))
    assert out.batch is None and out.sizes.tolist() == [2]


def test_mem_pools_in_a_chain() -> None:
    x, batch = torch.randn(20, 16), torch.tensor([0] * 5 + [1] * 3 + [2] * 12)
    first, second = MemPool(8, 32, heads=3), MemPool(4, 8, heads=2)
    one = first(x, torch.zeros(2, 0, dtype=torch.int64), batch)
    two = second(one.x, one.edge_index, one.batch)
    assert one.x.shape == (24, 32) and two.x.shape == (12, 8)
    assert two.batch.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for out in (one, two):
        assert all(loss >= -1e-6 for loss in out.losses.values())  # a divergence, less than 0 by rounding
    sum([two.x.sum(), *one.losses.values(), *two.losses.values()]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in first.parameters())


def test_losses_of_dense_pools_are_within_their_bounds() -> None:
    x, mask = torch.randn(2, 20, 16), torch.arange(20) < torch.tensor([[20], [15]])
    a = torch.ones(2, 20, 20)
    for _ in range(3):
        out = MinCutPool(10)(x, a, mask=mask)
        assert out.x.shape == (2, 10, 16) and out.a.shape == (2, 10, 10)
        assert -1 <= out.losses["cut"] <= 0 and 0 <= out.losses["ortho"] <= 2
        out = DMoNPool(10)(x, a, mask=mask)
        assert out.x.shape == (2, 10, 16) and out.a.shape == (2, 10, 10)
        assert -1 <= out.losses["modularity"] <= 0.5 and 0 <= out.losses["collapse"] <= 10**0.5 - 1 + 1e-6


@pytest.mark.parametrize(
    ("pool", "how"),
    [(GlobalSumPool, torch.sum), (GlobalAvgPool, torch.mean), (GlobalMaxPool, torch.amax)],
    ids=["sum", "mean", "max"],
)
def test_global_pools(pool: type[nn.Module], how: Any) -> None:
    x, batch, order = torch.randn(10, 4), torch.tensor([0] * 4 + [1] * 6), torch.randperm(10)
    want = torch.stack([how(x[:4], dim=0), how(x[4:], dim=0)])
    torch.testing.assert_close(pool()(x, batch), want)
    torch.testing.assert_close(pool()(x[order], batch[order]), want)
    torch.testing.assert_close(pool()(x), how(x, dim=0, keepdim=True))
    torch.testing.assert_close(pool()(x.view(2, 5, 4)), how(x.view(2, 5, 4), dim=1))
