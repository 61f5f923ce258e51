"""Message passing layers against PyG's with the same weights, and one layout against the other."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import GCNConv, GINConv, GINEConv, GraphConv

from poolbench.data.store import GraphStore
from poolbench.linalg import Dense, Padded, Ragged, Sparse, to_padded
from poolbench.nn.encoder import Channels
from poolbench.nn.message_passing import GINE, LAYERS


def graphs(directed: bool = False) -> tuple[torch.Tensor, Sparse]:
    torch.manual_seed(1)
    a = torch.block_diag(*[(torch.rand(n, n) < 0.5).double().fill_diagonal_(0) for n in (5, 1, 4)])
    if not directed:
        a = torch.maximum(a, a.T)
    row, col = a.nonzero(as_tuple=True)
    nodes = Ragged(torch.tensor([0, 5, 6, 10]), [5, 1, 4])
    return torch.randn(10, 6, dtype=torch.float64), Sparse.from_edges(row, col, None, nodes, symmetric=not directed)


@pytest.mark.parametrize("widths", [(6, 3), (6, 8)])
def test_layers_equal_pyg(widths: tuple[int, int]) -> None:
    x, a = graphs()
    edge_index = torch.stack([a.row, a.col])
    f, h = widths

    gcn, theirs = LAYERS["gcn"](f, h).double(), GCNConv(f, h).double()
    theirs.lin.weight.data, theirs.bias.data = gcn.weight.weight.data, gcn.bias.data.normal_()
    torch.testing.assert_close(gcn(x, a), theirs(x, edge_index), rtol=1e-6, atol=1e-6)

    conv, other = LAYERS["graphconv"](f, h).double(), GraphConv(f, h).double()
    other.lin_root.weight.data = conv.root.weight.data
    other.lin_rel.weight.data = conv.neighbours.weight.data
    other.lin_rel.bias.data = conv.root.bias.data.normal_()
    torch.testing.assert_close(conv(x, a), other(x, edge_index))

    gin = LAYERS["gin"](f, h).double()
    pyg = GINConv(gin.mlp, eps=0.3).double()  # draws the weights of its network anew
    gin.eps.data.fill_(0.3)
    torch.testing.assert_close(gin(x, a), pyg(x, edge_index))


@pytest.mark.parametrize("name", LAYERS)
def test_both_layouts_give_the_same(name: str) -> None:
    x, a = graphs()
    layer = LAYERS[name](6, 4).double()
    flat = layer(x, a)
    padded, dense = to_padded(x, a)
    assert isinstance(dense, Dense) and isinstance(dense.nodes, Padded)
    out = layer(padded, dense)
    assert dense.nodes.mask is not None
    torch.testing.assert_close(out[dense.nodes.mask], flat)


@pytest.mark.parametrize("name", LAYERS)
def test_a_directed_graph_hears_along_its_rows(name: str) -> None:
    x, a = graphs(directed=True)
    layer = LAYERS[name](6, 4).double()
    x.requires_grad_()
    out = layer(x, a)
    (grad,) = torch.autograd.grad(out[0].sum(), x)
    heard = set(grad.abs().sum(1).nonzero().squeeze(-1).tolist())
    hops = a.to_dense().bool() | torch.eye(10, dtype=torch.bool)
    reach = hops[0] if name != "pan" else hops[hops[0]].any(0)  # pan hears along paths of two edges
    assert heard == set(reach.nonzero().squeeze(-1).tolist())


@pytest.mark.parametrize("undirected", [False, True])
def test_layers_equal_pyg_on_a_directed_dataset(undirected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an edge_index (source, target) with weights and features through the store: messages flow to the target.

    Undirected edges may have other features in each direction.
    """
    monkeypatch.setattr("poolbench.linalg.matrix.EPS", 0.0)  # PyG adds nothing to the root of a degree
    torch.manual_seed(3)
    present = torch.block_diag(*[(torch.rand(n, n) < 0.5).fill_diagonal_(False) for n in (5, 1, 4)])
    value = torch.rand(10, 10, dtype=torch.float64) + 0.5
    if undirected:
        present, value = present | present.T, value + value.T
    index = present.nonzero().T
    weight, edges = value[index[0], index[1]], torch.randn(index.shape[1], 2, dtype=torch.float64)
    x = torch.randn(10, 6, dtype=torch.float64)
    store = GraphStore(x, torch.tensor([5, 1, 4]), index, torch.zeros(3), weight, edges=edges)
    assert store.symmetric is undirected
    batch = store.batch(torch.arange(3))

    def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)

    gcn, theirs = LAYERS["gcn"](6, 4).double(), GCNConv(6, 4).double()
    theirs.lin.weight.data, theirs.bias.data = gcn.weight.weight.data, gcn.bias.data.normal_()
    close(gcn(x, batch.a), theirs(x, index, weight))

    gcs, theirs = LAYERS["gcs"](6, 4).double(), GCNConv(6, 4, add_self_loops=False, bias=False).double()
    theirs.lin.weight.data = gcs.neighbours.weight.data
    close(gcs(x, batch.a), gcs.root(x) + theirs(x, index, weight))

    conv, other = LAYERS["graphconv"](6, 4).double(), GraphConv(6, 4).double()
    other.lin_root.weight.data, other.lin_rel.weight.data = conv.root.weight.data, conv.neighbours.weight.data
    other.lin_rel.bias.data = conv.root.bias.data.normal_()
    close(conv(x, batch.a), other(x, index, weight))

    unweighted = batch.a.with_value(torch.ones_like(weight))
    gin = LAYERS["gin"](6, 4).double()
    pyg = GINConv(gin.mlp, eps=0.25).double()
    gin.eps.data.fill_(0.25)
    close(gin(x, unweighted), pyg(x, index))

    gine = GINE(6, 4, Channels(2)).double()
    pyg = GINEConv(gine.mlp, eps=0.25).double()
    gine.eps.data.fill_(0.25)
    assert batch.edges is not None and gine.encoder is not None
    close(gine(x, unweighted, batch.edges), pyg(x, index, gine.encoder(edges)))

    pan = LAYERS["pan"](6, 4).double()
    a = torch.zeros(10, 10, dtype=torch.float64).index_put((index[1], index[0]), weight)  # adj_t, as PANConv has it
    m = pan.paths[0] * torch.eye(10).double() + pan.paths[1] * a + pan.paths[2] * a @ a
    root = m.sum(-1).rsqrt()
    close(pan(x, batch.a), (root.unsqueeze(-1) * m * root) @ x @ pan.weight.weight.T + pan.bias)


@pytest.mark.parametrize("vocabulary", [None, (3, 4)])
@pytest.mark.parametrize("weighted", [False, True])
def test_gine_adds_the_edge_to_the_neighbour(vocabulary: tuple[int, ...] | None, weighted: bool) -> None:
    x, a = graphs(directed=True)
    if weighted:
        a = a.with_value(torch.rand(a.col.numel(), dtype=torch.float64) + 0.5)
    count = a.col.numel()
    edges = torch.randn(count, 2, dtype=torch.float64) if vocabulary is None else torch.randint(3, (count, 2))
    layer = GINE(6, 4, Channels(2, vocabulary)).double()
    layer.eps.data.fill_(0.3)
    assert layer.encoder is not None
    encoded = layer.encoder(edges)
    heard = torch.zeros_like(x)
    for k, (u, v) in enumerate(zip(a.row.tolist(), a.col.tolist(), strict=True)):
        weight = 1.0 if a.value is None else a.value[k]
        heard[u] += weight * torch.relu(x[v] + encoded[k])
    torch.testing.assert_close(layer(x, a, edges), layer.mlp(1.3 * x + heard))
    plain = torch.stack([sum((w * torch.relu(x[v]) for v, w in enumerate(row)), 0 * x[0]) for row in a.to_dense()])
    torch.testing.assert_close(layer(x, a), layer.mlp(1.3 * x + plain))
