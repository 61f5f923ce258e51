"""Message passing layers against PyG's with the same weights, and one layout against the other."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import (
    ChebConv,
    DenseGraphConv,
    DenseSAGEConv,
    GCNConv,
    GINConv,
    GINEConv,
    GraphConv,
    SAGEConv,
)

from poolbench.data.store import GraphStore
from poolbench.linalg import Dense, Padded, Ragged, Sparse, to_padded
from poolbench.nn.aggregation import aggregate
from poolbench.nn.encoder import Channels
from poolbench.nn.message_passing import GINE, LAYERS, layer_of

#: Layers with arguments, as a configuration gives them.
VARIANTS = [
    *LAYERS,
    *({"name": name, "aggregation": how} for name in ("sage", "graphconv", "gcs") for how in ("sum", "mean", "max")),
    {"name": "sage", "root": False, "normalize": True},
    {"name": "gcn", "delta": 0.85},
    {"name": "gcn", "skip": True},
    {"name": "cheb", "k": 1},
    {"name": "cheb", "k": 4},
    {"name": "gtv", "delta": 2.0, "eps": 0.5},
    {"name": "gin", "train_eps": False, "norm": "batch", "norm_at": "after", "activation": "elu"},
    {"name": "gin", "delta": 0.85},
    {"name": "mlp", "norm": "batch"},
    {"name": "gine", "norm": "batch"},
    {"name": "general", "norm": "batch"},
]


def made(mp: object, widths: tuple[int, int] = (6, 4)) -> torch.nn.Module:
    cls, options = layer_of(mp)
    return cls(*widths, **options).double()


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mp", VARIANTS, ids=str)
def test_both_layouts_give_the_same(mp: object, weighted: bool) -> None:
    x, a = graphs()
    if weighted:
        w = torch.rand(10, 10, dtype=torch.float64) * 2.0
        a = a.with_value((w + w.T)[a.row, a.col], symmetric=True)
    x.requires_grad_()
    layer = made(mp)
    flat = layer(x, a)
    (grad,) = torch.autograd.grad(flat.square().sum(), x)
    padded, dense = to_padded(x, a)
    assert isinstance(dense, Dense) and isinstance(dense.nodes, Padded)
    assert dense.nodes.mask is not None
    out = layer(padded, dense)[dense.nodes.mask]
    tolerance = 1e-10 if weighted else 1e-6  # roots of degrees are in float32 where there are no weights
    torch.testing.assert_close(out, flat, rtol=tolerance, atol=tolerance)
    (other,) = torch.autograd.grad(out.square().sum(), x)
    torch.testing.assert_close(other, grad, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
@pytest.mark.parametrize("widths", [(6, 3), (6, 8)])
def test_aggregations_equal_pyg(widths: tuple[int, int], how: str) -> None:
    """Without weights; with weights, PyG's dense layers, which ignore them where they take the maximum."""
    x, a = graphs()
    edge_index, dense = torch.stack([a.col, a.row]), a.to_dense().double().unsqueeze(0)

    sage, theirs = made({"name": "sage", "aggregation": how}, widths), SAGEConv(*widths, aggr=how).double()
    theirs.lin_l.weight.data, theirs.lin_r.weight.data = sage.neighbours.weight.data, sage.root.weight.data
    theirs.lin_l.bias.data = sage.root.bias.data.normal_()
    close(sage(x, a), theirs(x, edge_index))

    conv, other = made({"name": "graphconv", "aggregation": how}, widths), GraphConv(*widths, aggr=how).double()
    block = DenseGraphConv(*widths, aggr={"sum": "add"}.get(how, how)).double()
    for peer in (other, block):
        peer.lin_rel.weight.data, peer.lin_root.weight.data = conv.neighbours.weight.data, conv.root.weight.data
    other.lin_rel.bias.data = block.lin_rel.bias.data = conv.root.bias.data.normal_()
    close(conv(x, a), other(x, edge_index))
    close(conv(x, a), block(x.unsqueeze(0), dense)[0])
    if how != "max":
        weighted = Dense(dense * torch.rand_like(dense).add(0.5))
        close(conv(x.unsqueeze(0), weighted), block(x.unsqueeze(0), weighted.value))


def test_sage_equals_pyg_with_weights_without_the_root_and_of_length_one() -> None:
    x, a = graphs()
    dense = a.to_dense().unsqueeze(0) * torch.rand(10, 10).double().add(0.2)
    sage, theirs = made("sage"), DenseSAGEConv(6, 4).double()
    theirs.lin_rel.weight.data, theirs.lin_root.weight.data = sage.neighbours.weight.data, sage.root.weight.data
    theirs.lin_root.bias.data = sage.root.bias.data.normal_()
    close(sage(x.unsqueeze(0), Dense(dense)), theirs(x.unsqueeze(0), dense))

    own = {"name": "sage", "root": False, "normalize": True}
    sage, sparse = made(own), SAGEConv(6, 4, root_weight=False, normalize=True).double()
    sparse.lin_l.weight.data, sparse.lin_l.bias.data = sage.neighbours.weight.data, sage.bias.data.normal_()
    close(sage(x, a), sparse(x, torch.stack([a.col, a.row])))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_cheb_equals_pyg(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolbench.linalg.matrix.EPS", 0.0)
    x, a = graphs()
    a = a.with_value(torch.ones(a.col.numel(), dtype=torch.float64), symmetric=True)
    cheb, theirs = made({"name": "cheb", "k": k}), ChebConv(6, 4, k).double()
    for ours, lin in zip(cheb.weights, theirs.lins, strict=True):
        lin.weight.data = ours.weight.data
    theirs.bias.data = cheb.bias.data.normal_()
    close(cheb(x, a), theirs(x, torch.stack([a.row, a.col])))


def test_layers_are_the_formulas_of_their_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolbench.linalg.matrix.EPS", 0.0)
    x, a = graphs()
    a = a.with_value(torch.ones(a.col.numel(), dtype=torch.float64), symmetric=True)
    dense, eye = a.to_dense().double(), torch.eye(10).double()
    root = dense.sum(1).rsqrt().masked_fill(dense.sum(1) == 0, 0.0)
    laplacian = eye - root.unsqueeze(1) * dense * root

    gcn = made({"name": "gcn", "delta": 0.85})
    gcn.bias.data.normal_()
    close(gcn(x, a), (eye - 0.85 * laplacian) @ x @ gcn.weight.weight.T + gcn.bias)

    gcn = made({"name": "gcn", "skip": True})
    plain = made("gcn")
    plain.weight.weight.data = gcn.weight.weight.data
    close(gcn(x, a), plain(x, a) + gcn.omega * (x @ gcn.weight.weight.T))

    gtv = made({"name": "gtv", "delta": 2.0, "eps": 0.7})
    h = x @ gtv.weight.weight.T
    gamma = dense / (h.unsqueeze(1) - h).abs().sum(-1).clamp(min=0.7)
    close(gtv(x, a), h - 2.0 * (gamma.sum(1).diag() - gamma) @ h + gtv.bias)

    general = made("general")
    close(general(x, a), dense @ (x @ general.linear.weight.T + general.linear.bias).relu())

    gin = made({"name": "gin", "train_eps": False, "norm": "batch", "activation": "tanh"})
    first, last = gin.mlp.layers
    y = torch.nn.functional.batch_norm(first(x + dense @ x), None, None, training=True)
    close(gin(x, a), last(y.tanh()))

    gin = made({"name": "gin", "delta": 0.85})
    gin.eps.data += 0.3
    first, last = gin.mlp.layers
    close(gin(x, a), last(first(1.3 * x + (eye - 0.85 * laplacian) @ x).relu()))

    alone = made("mlp")
    first, last = alone.mlp.layers
    close(alone(x, a), last(first(x).relu()))


def test_the_maximum_knows_no_parts_and_no_edges_of_weight_zero() -> None:
    """An entry that stands in two parts is one neighbour, and one of 0 is none."""
    _, a = graphs()
    x = -torch.rand(10, 6, dtype=torch.float64) - 0.5
    twice = a.with_value(torch.full((a.col.numel(),), 0.5, dtype=torch.float64), symmetric=True)
    parts = twice.add_identity().add_identity()  # the diagonal in two parts
    want = torch.maximum(0.5 * aggregate(x, a, "max").where(a.degree().unsqueeze(1) > 0, -torch.inf), 2.0 * x)
    close(aggregate(x, parts, "max"), want)
    value = torch.ones(a.col.numel(), dtype=torch.float64)
    value[a.row == 0] = 0.0
    top = aggregate(x, a.with_value(value), "max")
    assert (top[0] == 0).all() and (top[1:5] < 0).all() and (top[5] == 0).all(), "node 5 has no neighbours"


@pytest.mark.parametrize("mp", ["sage", {"name": "sage", "aggregation": "max"}, "gtv", {"name": "cheb", "k": 3}],
                         ids=str)  # fmt: skip
def test_gradients_reach_features_and_weights_of_edges(mp: object) -> None:
    x, a = graphs()
    layer = made(mp, (6, 2))
    value = torch.rand(a.col.numel(), dtype=torch.float64) + 0.5
    given = (x.requires_grad_(), value.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, v: layer(x, a.with_value(v)), given)
    assert torch.autograd.gradgradcheck(lambda x, v: layer(x, a.with_value(v)), given)


@pytest.mark.parametrize(("mp", "said"), [
    ({"name": "sage", "agregation": "max"}, "model.mp.agregation: sage takes aggregation and root and normalize "
                                            r"\(did you mean aggregation"),
    ({"name": "pan", "delta": 1}, "model.mp.delta: pan takes filter_size"),
    ({"name": "pan", "filter_size": 0}, "filter_size=0: a whole number of at least 1"),
    ({"name": "sgae"}, "model.mp='sgae' is not one of gcn, gin"),
    ({"delta": 1.0}, r"model.mp={'delta': 1.0} is not one of"),
    (["gcn"], r"model.mp=\['gcn'\] is not one of"),
    ({"name": "sage", "aggregation": "median"}, "aggregation='median' is not one of sum, mean, max"),
    ({"name": "cheb", "k": 0}, "k=0: a whole number of at least 1"),
    ({"name": "gtv", "eps": 0}, "eps=0: a number above 0"),
    ({"name": "gtv", "delta": "2"}, "delta='2': a number .*is expected"),
    ({"name": "gcn", "delta": 1e40}, "delta=1e\\+40: a number that float32 holds is expected"),
    ({"name": "gin", "delta": "2"}, "delta='2': a number or None is expected"),
    ({"name": "mlp", "delta": 1}, "model.mp.delta: mlp takes activation and norm and norm_at"),
    ({"name": "gin", "norm": "graph"}, "norm='graph' is not one of none, batch, layer"),
])  # fmt: skip
def test_what_there_is_not_is_said_in_one_line(mp: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(mp)


@pytest.mark.parametrize("name", LAYERS)
def test_a_directed_graph_hears_along_its_rows(name: str) -> None:
    x, a = graphs(directed=True)
    layer = LAYERS[name](6, 4).double()
    x.requires_grad_()
    out = layer(x, a)
    (grad,) = torch.autograd.grad(out[0].sum(), x)
    heard = set(grad.abs().sum(1).nonzero().squeeze(-1).tolist())
    hops = a.to_dense().bool() | (torch.eye(10, dtype=torch.bool) if name != "general" else False)  # that has no root
    hops &= torch.tensor(name != "mlp") | torch.eye(10, dtype=torch.bool)  # that hears nobody
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
    for how in ("sum", "mean", "max"):
        sage, theirs = made({"name": "sage", "aggregation": how}), SAGEConv(6, 4, aggr=how).double()
        theirs.lin_l.weight.data, theirs.lin_r.weight.data = sage.neighbours.weight.data, sage.root.weight.data
        theirs.lin_l.bias.data = sage.root.bias.data
        close(sage(x, unweighted), theirs(x, index))
    conv, other = made({"name": "graphconv", "aggregation": "max"}), GraphConv(6, 4, aggr="max").double()
    other.lin_root.weight.data, other.lin_rel.weight.data = conv.root.weight.data, conv.neighbours.weight.data
    other.lin_rel.bias.data = conv.root.bias.data
    close(conv(x, batch.a), other(x, index, weight))

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
