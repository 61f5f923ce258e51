"""Edge attributes against PyG's layers with the same weights, and against its merging of edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, SAGPooling, TopKPooling, avg_pool
from torch_geometric.nn.pool.pool import pool_edge

from poolbench.pool import SAGPool, TopKPool
from poolbench.pool.edgepool import EdgePool
from poolbench.pool.graclus import GraclusPool
from poolbench.pool.kmis import KMISPool


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two directed graphs: x, edge_index in no order, edge_attr and batch."""
    g = torch.Generator().manual_seed(seed)
    a = torch.block_diag(*[(torch.rand(n, n, generator=g) < 0.4).fill_diagonal_(False) for n in (9, 6)])
    index = a.nonzero().T
    index = index[:, torch.randperm(index.shape[1], generator=g)]
    attr = torch.randn(index.shape[1], 3, generator=g, dtype=torch.float64)
    return torch.randn(15, 4, generator=g, dtype=torch.float64), index, attr, torch.tensor([0] * 9 + [1] * 6)


def by_ends(index: Tensor, attr: Tensor, node: Tensor) -> dict[tuple[int, int], list[float]]:
    """The attributes of each edge by the nodes, as they were given, that it joins."""
    ends = node[index].T.tolist()
    found = {(u, v): row for (u, v), row in zip(ends, attr.tolist(), strict=True)}
    assert len(found) == len(ends)
    return found


def topk() -> tuple[Any, Any]:
    ours, theirs = TopKPool(0.5, in_channels=4).double(), TopKPooling(4, 0.5).double()
    theirs.select.weight.data = ours.projection.weight.data
    return ours, theirs


def sag() -> tuple[Any, Any]:
    ours, theirs = SAGPool(0.5, in_channels=4).double(), SAGPooling(4, 0.5, GCNConv).double()
    theirs.gnn.lin.weight.data = ours.projection.weight.data
    theirs.select.weight.data.fill_(1.0)
    return ours, theirs


@pytest.mark.parametrize("pair", [topk, sag])
@pytest.mark.parametrize("seed", range(3))
def test_kept_edges_keep_their_attributes_as_in_pyg(pair: Any, seed: int) -> None:
    torch.manual_seed(seed)
    ours, theirs = pair()
    x, index, attr, graph = batch(seed)
    out = ours(x=x, edge_index=index, edge_attr=attr, batch=graph)
    _, their_index, their_attr, _, perm, _ = theirs(x, index, attr, graph)
    found = by_ends(out.edge_index, out.edge_attr, out.perm)
    assert found
    assert found == by_ends(their_index, their_attr, perm)


@pytest.mark.parametrize("pool", [GraclusPool(), KMISPool(scorer="degree"), EdgePool(in_channels=4)])
@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
def test_merged_edges_merge_their_attributes_as_in_pyg(pool: Any, reduce: str) -> None:
    x, index, attr, graph = batch()
    pool.return_selection = True
    out = pool.double()(x=x, edge_index=index, edge_attr=attr, batch=graph, edge_reduce=reduce)
    cluster = out.s.of_node
    their_index, their_attr = pool_edge(cluster, index, attr, reduce)
    order = torch.argsort(their_index[1] * out.x.shape[0] + their_index[0])
    assert torch.equal(out.edge_index, their_index[:, order])
    torch.testing.assert_close(out.edge_attr, their_attr[order])


def test_the_default_is_that_of_avg_pool() -> None:
    x, index, attr, graph = batch()
    pool = GraclusPool(return_selection=True)
    out = pool(x=x, edge_index=index, edge_attr=attr, batch=graph)
    theirs = avg_pool(out.s.of_node, Data(x, index, attr, batch=graph))
    order = torch.argsort(theirs.edge_index[1] * out.x.shape[0] + theirs.edge_index[0])
    torch.testing.assert_close(out.edge_attr, theirs.edge_attr[order])


@pytest.mark.parametrize("pool", [TopKPool(0.6, in_channels=4), GraclusPool()])
def test_the_weights_as_attributes_come_out_as_the_weights(pool: Any) -> None:
    x, index, attr, graph = batch()
    weight = attr[:, 0].abs() + 0.1
    out = pool.double()(x=x, edge_index=index, edge_weight=weight, edge_attr=weight, batch=graph)
    torch.testing.assert_close(out.edge_attr, out.edge_weight)


def test_second_derivatives_in_the_attributes() -> None:
    x, index, attr, graph = batch()
    pool, attr = GraclusPool(), attr.requires_grad_()
    for how in ("sum", "mean", "max", "min"):

        def squares(attr: Tensor, how: str = how) -> Tensor:
            return pool(x=x, edge_index=index, edge_attr=attr, batch=graph, edge_reduce=how).edge_attr.square()

        torch.autograd.gradgradcheck(squares, attr, fast_mode=True)
