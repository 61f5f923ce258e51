"""An edge_index is (source, target): operators against PyG's layers with their weights, on directed, weighted graphs.

Where PyG has no such layer, against the formula written with its message passing, or over the edges one by one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import (
    ASAPooling,
    EdgePooling,
    GCNConv,
    PANPooling,
    SAGPooling,
    dense_diff_pool,
)
from torch_geometric.utils import scatter, softmax

from poolbench.linalg.met import met_matrix
from poolbench.pool import (
    ASAPPool,
    DiffPool,
    EdgePool,
    EigenPool,
    GraclusPool,
    KMISPool,
    LaPool,
    MaxCutPool,
    NDPPool,
    PANPool,
    SAGPool,
    SEPPool,
)
from poolbench.pool.base.door import enter
from poolbench.pool.peers.pyg import _Coordinates

F64 = torch.float64
SIZES = (9, 7)


@pytest.fixture(params=[0, 1, 2], autouse=True)
def seed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("poolbench.linalg.matrix.EPS", 0.0)  # PyG adds nothing to the root of a degree
    return int(request.param)


class Graphs:
    """Two directed graphs as PyG has them: x, index, weight, batch; a is their matrix, read by rows as receivers."""

    def __init__(self, seed: int, density: float = 0.35) -> None:
        g = torch.Generator().manual_seed(seed)
        edges = torch.block_diag(*[(torch.rand(n, n, generator=g) < density).fill_diagonal_(False) for n in SIZES])
        self.index = edges.nonzero().T
        self.weight = 0.5 + torch.rand(self.index.shape[1], generator=g, dtype=F64)
        self.batch = torch.repeat_interleave(torch.tensor(SIZES))
        self.x = torch.randn(sum(SIZES), 4, generator=g, dtype=F64)
        self.a = torch.zeros(sum(SIZES), sum(SIZES), dtype=F64)
        self.a[self.index[1], self.index[0]] = self.weight

    def __call__(self, pool: nn.Module, weight: Tensor | None = None, **more: Any) -> Any:
        weight = self.weight if weight is None else weight
        return pool(self.x, self.index, self.batch, edge_weight=weight, **more)


def dense(index: Tensor, weight: Tensor | None, n: int, order: Tensor | None = None) -> Tensor:
    """A matrix read by rows as receivers, its nodes renumbered: node j becomes order[j]."""
    weight = torch.ones(index.shape[1], dtype=F64) if weight is None else weight
    index = index if order is None else order[index]
    return torch.zeros(n, n, dtype=F64).index_put((index[1], index[0]), weight, accumulate=True)


def close(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_sag(seed: int) -> None:
    graph, pool = Graphs(seed), SAGPool(0.5, in_channels=4).double()
    layer = SAGPooling(4, 0.5, GCNConv).double()
    layer.gnn.lin.weight.data = pool.projection.weight.data
    layer.select.weight.data.fill_(1.0)
    # its score sees no weights, and weighted edges go through the pool
    x, index, _, batch, perm, score = layer(graph.x, graph.index, graph.weight, graph.batch)
    out, order = graph(pool, torch.ones_like(graph.weight)), torch.argsort(perm)
    assert torch.equal(out.perm, perm[order])
    close(out.x, x[order])
    close(out.score[out.perm].tanh(), score[order])
    assert torch.equal(out.batch, batch[order])
    rank = torch.argsort(order)
    close(dense(out.edge_index, None, len(x)), dense(index, None, len(x), rank))
    # with weights the score is that of a GCNConv
    conv = GCNConv(4, 1).double()
    conv.lin.weight.data = pool.projection.weight.data
    out = graph(pool)
    close(out.score, conv(graph.x, graph.index, graph.weight).squeeze(-1))
    kept = torch.zeros(len(graph.x), dtype=torch.bool).index_fill(0, out.perm, True)
    inside = kept[graph.index].all(0)
    number = torch.cumsum(kept, 0) - 1
    want = dense(number[graph.index[:, inside]], graph.weight[inside], len(out.x))
    close(dense(out.edge_index, out.edge_weight, len(out.x)), want)


def test_asap(seed: int) -> None:
    graph = Graphs(seed)
    pool = ASAPPool(0.5, in_channels=4, weighted_fitness=False).double()
    layer = ASAPooling(4, 0.5).double()
    for theirs, ours in (
        (layer.lin, pool.query),
        (layer.att, pool.attention),
        (layer.gnn_score.lin1, pool.neighbours),
        (layer.gnn_score.lin2, pool.centre),
        (layer.gnn_score.lin3, pool.own),
    ):
        theirs.weight.data = ours.weight.data
        if theirs.bias is not None:
            theirs.bias.data = ours.bias.data.normal_()
    layer.select.weight.data.fill_(1.0)
    x, index, weight, _, perm = layer(graph.x, graph.index, graph.weight, graph.batch)
    out, order = graph(pool), torch.argsort(perm)
    assert torch.equal(out.perm, perm[order])
    close(out.x, x[order])
    close(dense(out.edge_index, out.edge_weight, len(x)), dense(index, weight, len(x), torch.argsort(order)))


@pytest.mark.parametrize("method", ["softmax", "tanh", "sigmoid"])
def test_edgepool(seed: int, method: str) -> None:
    # without ties in the softmax: two edges or more into each node, from other nodes than into any other one
    several = (Graphs(s, density=0.6) for s in range(100 * seed, 100 * seed + 100))
    graph = next(g for g in several if len((g.a != 0).unique(dim=0)) == 16 and (g.a != 0).sum(1).min() > 1)
    pool = EdgePool(method, in_channels=4, remove_self_loops=False, return_selection=True).double()
    layer = EdgePooling(4, getattr(EdgePooling, f"compute_edge_score_{method}")).double()
    w = pool.projection.weight.data
    layer.lin.weight.data, layer.lin.bias.data = w, pool.projection.bias.data
    x, index, _, info = layer(graph.x, graph.index, graph.batch)
    out = graph(pool)
    theirs = torch.zeros(len(x), dtype=torch.int64)
    theirs[info.cluster[out.s.node]] = out.s.cluster  # their cluster -> ours
    assert torch.equal(theirs[info.cluster[out.s.node]], out.s.cluster)
    close(out.x[theirs], x)
    assert torch.equal(dense(out.edge_index, None, len(x)), dense(index, None, len(x), theirs))


def test_pan(seed: int) -> None:
    graph = Graphs(seed)
    pool = PANPool(0.5, in_channels=4).double()
    with torch.no_grad():
        pool.paths.copy_(torch.tensor([0.7, 0.4, 0.2]))
        pool.projection.p.normal_()
    layer = PANPooling(4, 0.5).double()
    layer.p.data, layer.beta.data = pool.projection.p.data, pool.beta.data
    layer.select.weight.data.fill_(1.0)
    # PANConv hands over M = sum_l w_l adj_t^l, rows targets, normalised
    power = torch.eye(len(graph.x), dtype=F64)
    m = pool.paths[0] * power
    for w in pool.paths[1:]:
        power = power @ graph.a
        m = m + w * power
    root = m.sum(-1).rsqrt()
    m = root.unsqueeze(-1) * m * root
    row, col = m.nonzero(as_tuple=True)
    x, index, weight, _, perm, _ = layer(graph.x, _Coordinates(row, col, m[row, col]), graph.batch)
    out, order = graph(pool), torch.argsort(perm)
    assert torch.equal(out.perm, perm[order])
    close(out.x, x[order])
    close(dense(out.edge_index, out.edge_weight, len(x)), dense(index, weight, len(x), torch.argsort(order)))
    close(met_matrix(enter(graph.x, graph.index, graph.batch, graph.weight)[1], pool.paths).to_dense(), m)


def test_kmis_counts_what_comes_in(seed: int) -> None:
    graph = Graphs(seed)
    out = graph(KMISPool(scorer="degree", return_selection=True))
    close(out.score, scatter(graph.weight, graph.index[1], 0, len(graph.x)))
    cluster = torch.empty(len(graph.x), dtype=torch.int64)
    cluster[out.s.node] = out.s.cluster
    ends = cluster[graph.index]
    between = ends[0] != ends[1]
    want = dense(ends[:, between], graph.weight[between], len(out.x))
    close(dense(out.edge_index, out.edge_weight, len(out.x)), want)


def test_maxcut(seed: int) -> None:
    graph = Graphs(seed)
    pool = MaxCutPool(0.5, in_channels=4, mp_units=(5, 3), mlp_units=(4,), return_selection=True).double()
    network, conv = pool.network, GCNConv(1, 1, add_self_loops=False, bias=False).double()

    def propagated(x: Tensor) -> Tensor:  # I - 2 (I - D^-1/2 A D^-1/2)
        columns = [conv.propagate(index, x=column.unsqueeze(-1), edge_weight=norm) for column in x.unbind(-1)]
        return 2.0 * torch.cat(columns, -1) - x

    from torch_geometric.nn.conv.gcn_conv import gcn_norm

    index, norm = gcn_norm(graph.index, graph.weight, len(graph.x), add_self_loops=False)
    x = network.first(graph.x)
    for layer in network.mp:
        x = torch.tanh(layer(propagated(x)))
    for layer in network.mlp:
        x = torch.relu(layer(x))
    out = graph(pool)
    close(out.score, network.last(x).tanh().squeeze(-1))
    value = scatter(graph.weight * out.score[graph.index[0]] * out.score[graph.index[1]], graph.batch[graph.index[0]])
    total = scatter(graph.weight, graph.batch[graph.index[0]])
    close(out.losses["maxcut"], (value / total).mean())


def test_a_node_joins_what_has_an_edge_to_it_in_maxcut() -> None:
    pool = MaxCutPool(2, in_channels=1, mp_units=(), mlp_units=(), kernel_initializer="ones", return_selection=True)
    x = torch.tensor([[3.0], [2.0], [0.0]])
    for kept in (0, 1):
        out = pool(x, torch.tensor([[kept, 2], [2, 1 - kept]]))  # 2 -> the other one does not count
        assert out.s.centres.tolist() == [0, 1]
        assert out.s.cluster[out.s.node == 2].tolist() == [kept]


def test_lapool(seed: int) -> None:
    """v_u = |sum over the edges w -> u of weight (x_u - x_w)|, and who beats all w leads."""
    graph = Graphs(seed, density=0.2)
    source, target = graph.index
    v = scatter(graph.weight.unsqueeze(-1) * (graph.x[target] - graph.x[source]), target, 0, len(graph.x)).norm(dim=-1)
    leads = scatter((v[source] >= v[target]).double(), target, 0, len(v)) == 0
    out = graph(LaPool(return_selection=True))
    s = out.s.dense()
    leaders = (s == 1.0).sum(-1).bool() & ((s > 0).sum(-1) == 1)
    assert all(leads[graph.batch == g].any() for g in (0, 1))
    assert bool(leaders[leads].all())
    assert len(out.x) == int(leads.sum())
    close(out.x, s.T @ graph.x)
    close(dense(out.edge_index, out.edge_weight, len(out.x)), s.T @ graph.a @ s)


def test_diffpool(seed: int) -> None:
    graph = Graphs(seed)
    pool = DiffPool(3, in_channels=4, return_selection=True).double()
    assignment, embedding = GCNConv(4, 3, bias=False).double(), GCNConv(4, 4, bias=False).double()
    assignment.lin.weight.data, embedding.lin.weight.data = pool.assignment.weight.data, pool.embedding.weight.data
    s, z = (layer(graph.x, graph.index, graph.weight) for layer in (assignment, embedding))
    out = graph(pool)
    losses = []
    for g in (0, 1):
        own = graph.batch == g
        x, a, link, _ = dense_diff_pool(z[own], graph.a[own][:, own], s[own], normalize=False)
        rows = slice(3 * g, 3 * g + 3)
        close(out.x[rows], x.squeeze(0))
        close(dense(out.edge_index, out.edge_weight, 6)[rows, rows], a.squeeze(0))
        losses.append(link)
    close(out.losses["link"], torch.stack(losses).mean())


@pytest.mark.parametrize(
    "pool",
    [
        NDPPool(return_selection=True),
        GraclusPool(return_selection=True),
        SEPPool(degree_norm=False, return_selection=True),
    ],
    ids=lambda pool: type(pool).__name__,
)
def test_operators_that_ignore_direction_choose_alike_when_all_edges_turn(seed: int, pool: Any) -> None:
    graph = Graphs(seed)
    there = graph(pool)
    back = pool(graph.x, graph.index.flip(0), graph.batch, edge_weight=graph.weight)
    one, other = there.s.dense().double(), back.s.dense().double()  # the columns in any order
    close(one @ one.T, other @ other.T)
    a, b = (dense(out.edge_index, out.edge_weight, len(out.x)) for out in (there, back))
    close(one @ a @ one.T, (other @ b @ other.T).T)


def test_eigenpool_finds_the_communities_of_a_directed_graph() -> None:
    a = torch.block_diag(torch.ones(5, 5), torch.ones(4, 4)).triu(1).double()
    a[0, 4] = a[2, 6] = 1.0  # one edge between the two
    for matrix in (a, a.T):
        s = EigenPool(2, return_selection=True)(torch.randn(9, 3, dtype=F64), matrix).s.dense()
        assert (s @ s.T).tolist() == torch.block_diag(torch.ones(5, 5), torch.ones(4, 4)).tolist()


def test_softmax_over_what_comes_in_is_pygs() -> None:
    """The softmax of attention runs over the edges into a node (ASAP and EdgePool have it), as in PyG."""
    graph = Graphs(0)
    pool = EdgePool(in_channels=4, add_to_edge_score=0.0).double()
    _, a, _, _ = enter(graph.x, graph.index, graph.batch, graph.weight)
    n, (source, target) = len(graph.x), graph.index
    entry = torch.searchsorted(a.row * n + a.col, target * n + source)
    ends = torch.cat([graph.x[graph.index[0]], graph.x[graph.index[1]]], -1)
    raw = ends @ pool.projection.weight.squeeze(0) + pool.projection.bias
    close(pool.score(graph.x, a)[entry], softmax(raw, target, num_nodes=n))
