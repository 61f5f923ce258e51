"""Arguments of TopK, SAG and ASAP that PyG's users know, against PyG's own layers with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

from poolbench.linalg import Matrix
from poolbench.nn.message_passing import GCN
from poolbench.pool import ASAPPool, SAGPool, TopKPool

F64 = torch.float64
FEATURES = 4
BATCH = torch.tensor([0] * 7 + [1] * 5 + [3])  # graph 2 has no nodes


def graph(directed: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """x, edge_index and edge_weight of a batch of four graphs."""
    g = torch.Generator().manual_seed(5)
    hit = (torch.rand(13, 13, generator=g) < 0.5) & (BATCH[:, None] == BATCH) & ~torch.eye(13).bool()
    index = (hit if directed else hit | hit.T).nonzero().T
    weight = torch.rand(13, 13, generator=g, dtype=F64) + 0.5
    weight = weight if directed else weight + weight.T
    return torch.randn(13, FEATURES, generator=g, dtype=F64), index, weight[tuple(index)]


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def check_kept(pool: Any, layer: nn.Module, directed: bool = False) -> None:
    """The two give the same nodes, features and edges, theirs brought into the order of the nodes."""
    x, index, weight = graph(directed)
    out = pool(x, index, BATCH, edge_weight=weight)
    theirs, edges, edge_weight, batch, perm, score = layer(x, index, weight, BATCH)
    order = perm.argsort()
    assert out.s.kept.tolist() == perm[order].tolist()
    close(out.x, theirs[order])
    assert torch.equal(out.i, batch[order])
    close(_dense(out.a, out.edge_weight, len(order)), _dense(edges, edge_weight, len(order))[order][:, order])
    close(out.s.weight, pool.multiplier * score[order])


def _dense(index: Tensor, weight: Tensor, k: int) -> Tensor:
    return torch.zeros(k, k, dtype=F64).index_put(tuple(index), weight, accumulate=True)


ARGUMENTS: list[dict[str, Any]] = [
    {"min_score": 0.02}, {"min_score": 0.15}, {"min_score": 1.0}, {"min_score": 0.1, "multiplier": 7.0},
    {"multiplier": 3.5}, {"nonlinearity": "sigmoid"}, {"nonlinearity": torch.nn.ELU()},
]  # fmt: skip


def topk(ratio: float = 0.6, **arguments: Any) -> TopKPool:
    torch.manual_seed(0)
    return TopKPool(ratio, in_channels=FEATURES, return_selection=True, return_score=True, **arguments).double()


def sag(ratio: float = 0.6, **arguments: Any) -> SAGPool:
    torch.manual_seed(0)
    return SAGPool(ratio, in_channels=FEATURES, return_selection=True, return_score=True, **arguments).double()


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_topk_is_pygs(arguments: dict[str, Any]) -> None:
    pool = topk(**arguments)
    layer = pyg.TopKPooling(FEATURES, 0.6, **arguments).double()
    pool.projection.weight.data *= 1.5  # where min_score decides, the length of p counts
    layer.select.weight.data = pool.projection.weight.data.clone()
    check_kept(pool, layer)


@pytest.mark.parametrize("arguments", [{}, *ARGUMENTS], ids=str)
@pytest.mark.parametrize("kind", [pyg.GraphConv, pyg.GCNConv, pyg.GATConv, pyg.SAGEConv])
def test_sag_is_pygs_with_its_layers(kind: type[nn.Module], arguments: dict[str, Any]) -> None:
    pool = sag(gnn=kind, **arguments)
    layer = pyg.SAGPooling(FEATURES, 0.6, kind, **arguments).double()
    layer.gnn.load_state_dict(pool.gnn.state_dict())
    layer.select.weight.data.fill_(1.0)
    x, index, _ = graph()
    ones = torch.ones(index.shape[1], dtype=F64)  # PyG's layers are given no weights
    out = pool(x, index, BATCH)
    theirs, edges, _, _, perm, _ = layer(x, index, None, BATCH)
    order = perm.argsort()
    assert out.s.kept.tolist() == perm[order].tolist()
    close(out.x, theirs[order])
    close(_dense(out.a, out.edge_weight.double(), len(order)), _dense(edges, ones[: edges.shape[1]], len(order))[order][:, order])  # fmt: skip  # noqa: E501
    assert out.sizes[2] == 0
    assert not any(name.startswith("projection") for name, _ in pool.named_parameters())


def test_with_the_softmax_as_score_a_node_that_is_best_stays() -> None:
    pool = topk(min_score=1.0)
    x, index, _ = graph()
    out = pool(x, index, BATCH)
    assert out.sizes.tolist() == [1, 1, 0, 1]
    close(out.score[:7].sum(), torch.ones((), dtype=F64))
    close(out.x[-1], x[-1])  # alone, its share is 1
    assert torch.equal(topk(ratio=1.0, min_score=1.0)(x, index, BATCH).x, out.x)  # whatever the ratio


def test_spektrals_word_for_a_sigmoid() -> None:
    x, index, _ = graph()
    close(topk(sigmoid_gating=True)(x, index, BATCH).x, topk(nonlinearity="sigmoid")(x, index, BATCH).x)
    close(topk(sigmoid_gating=True, nonlinearity="sigmoid")(x, index, BATCH).x, topk(sigmoid_gating=True)(x, index, BATCH).x)  # fmt: skip  # noqa: E501
    with pytest.raises(ValueError, match="sigmoid_gating=True and nonlinearity='relu'"):
        topk(sigmoid_gating=True, nonlinearity="relu")


class Weighted(nn.Module):
    """Sums what a node hears, and takes weights as PyG's layers do."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        source, target = edge_index
        messages = x[source, :1] if edge_weight is None else x[source, :1] * edge_weight.unsqueeze(-1)
        return x.new_zeros(x.shape[0], 1).index_add(0, target, messages)


class Own(nn.Module):
    """The same, of a matrix."""

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        return a @ x[:, :1]


@pytest.mark.parametrize("directed", [False, True])
def test_a_layer_gets_the_weights_and_the_direction_of_the_edges(directed: bool) -> None:
    x, index, weight = graph(directed)
    pools = [sag(gnn=Weighted()), topk(gnn=Own())]
    outs = [pool(x, index, BATCH, edge_weight=weight) for pool in pools]
    close(outs[0].score, Weighted()(x, index, weight).squeeze(-1))
    close(outs[1].score, outs[0].score)
    none = torch.cat([weight, weight.new_zeros(1)])  # an edge of weight 0 is none
    more = torch.cat([index, torch.tensor([[0], [6]])], 1)
    close(sag(gnn=pyg.SAGEConv)(x, more, BATCH, edge_weight=none).score, sag(gnn=pyg.SAGEConv)(x, index, BATCH).score)


def test_a_network_of_the_features_alone_and_poolbenchs_own_layers() -> None:
    x, index, _ = graph()
    network = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    close(topk(gnn=network)(x, index, BATCH).score, network(x).squeeze(-1))
    assert sag(gnn=GCN)(x, index, BATCH).score.shape == (13,)
    layers = pyg.Sequential("x, edge_index", [(pyg.GCNConv(FEATURES, 8), "x, edge_index -> x"), nn.Linear(8, 1)])
    close(sag(gnn=layers.double())(x, index, BATCH).score, layers(x, index).squeeze(-1))


def test_a_batch_scores_as_single_graphs_do() -> None:
    pool = sag(gnn=pyg.GATConv, min_score=0.1)
    x, a = torch.randn(2, 6, FEATURES, dtype=F64), (torch.rand(2, 6, 6) < 0.6).double().triu(1)
    a = a + a.mT
    together = pool(x, a)
    for g in range(2):
        alone = pool(x[g], a[g])
        close(together.x[g, : len(alone.x)], alone.x)


@pytest.mark.parametrize("kind", [pyg.GCNConv, pyg.GraphConv])
def test_asaps_gnn_is_pygs(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    x, index, _ = graph()
    x = x.float()
    pool = ASAPPool(0.6, gnn=kind, in_channels=FEATURES, return_score=True)
    layer = pyg.ASAPooling(FEATURES, 0.6, kind)
    # PyG gives its layer the loops of A^, which a GCNConv has anyway: the same for both with them
    loops = torch.cat([index, torch.arange(13).expand(2, 13)], 1)
    layer.gnn_intra_cluster.load_state_dict(pool.gnn.state_dict())
    layer.lin.load_state_dict(pool.query.state_dict())
    layer.att.load_state_dict(pool.attention.state_dict())
    for theirs, ours in (("lin1", "neighbours"), ("lin2", "centre"), ("lin3", "own")):
        getattr(layer.gnn_score, theirs).load_state_dict(getattr(pool, ours).state_dict())
    layer.select.weight.data.fill_(1.0)
    out = pool(x, loops, BATCH)
    theirs, _, _, _, perm = layer(x, loops, None, BATCH)
    torch.testing.assert_close(out.x, theirs[perm.argsort()], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gnn": "GATConv"}, "gnn='GATConv': a module, a class"),
        ({"gnn": pyg.GATConv, "in_channels": None}, "gnn is a class, which needs in_channels"),
        ({"gnn": lambda n, m: 3}, "made a int: a module is expected"),
        ({"nonlinearity": "tan"}, "'tan' is not one of"),
    ],
)
def test_arguments_that_make_no_score(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        SAGPool(**{"ratio": 0.5, "in_channels": FEATURES, **arguments})


def test_a_layer_of_another_width_is_refused_by_its_shape() -> None:
    x, index, _ = graph()
    with pytest.raises(ValueError, match=r"gnn gives \[13, 2\] for 13 nodes"):
        sag(gnn=pyg.GCNConv(FEATURES, 2).double())(x, index, BATCH)


@pytest.mark.parametrize("directed", [False, True])
def test_topk_on_the_square_of_the_graph(directed: bool) -> None:
    """What PyG's GraphUNet makes of the graph before a pool; weighted, and a matrix read by its receivers."""
    x, index, weight = graph(directed)
    layer = pyg.GraphUNet(FEATURES, 2, 2, 1)
    edges, squares = layer.augment_adj(index, weight, 13)
    out = topk(squared=True)(x, index, BATCH, edge_weight=weight)
    kept = out.perm
    torch.testing.assert_close(_dense(out.a, out.edge_weight, len(kept)),
                               _dense(edges, squares, 13)[kept][:, kept])  # fmt: skip
    plain = topk()(x, index, BATCH, edge_weight=weight)
    assert torch.equal(plain.x, out.x) and out.a.shape[1] > plain.a.shape[1]
    weight.requires_grad_()
    topk(squared=True)(x, index, BATCH, edge_weight=weight).edge_weight.sum().backward()
    assert (weight.grad != 0).any()
    with pytest.raises(ValueError, match="takes no edge_attr"):
        topk(squared=True)(x, index, BATCH, edge_attr=weight.detach())
    assert "squared=True" in repr(topk(squared=True)) and TopKPool(0.5, True).return_selection
