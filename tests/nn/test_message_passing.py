"""Message passing layers against PyG's with the same weights, and one layout against the other."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import GCNConv, GINConv, GraphConv

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
