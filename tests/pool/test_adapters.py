"""The adapters of peers: each gives what the peer's layer gives when it is called by hand, trains, and agrees with
PoolBench's own operator where the two do the same work."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_geometric.nn as layers
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch_geometric.utils import to_dense_adj, to_dense_batch

from poolbench import cli
from poolbench.config import Part
from poolbench.errors import PoolBenchError
from poolbench.learn.locate import locate
from poolbench.linalg import Ragged, Sparse
from poolbench.pool import MinCutPool, PANPool, SAGPool, TopKPool
from poolbench.pool.base.src import SRCPool, constructor_arguments
from poolbench.records import version

PEERS = Path(__file__).parents[2] / "conf" / "pool" / "peers"
FEATURES, CLUSTERS = 4, 3
QUICK = ["dataset=planted", "dataset.num_graphs=24", "trainer.max_epochs=1", "model.hidden=8", "model=hierarchical",
         "logger=none", "callbacks.progress=none"]  # fmt: skip


def names(peer: str) -> list[str]:
    """The adapters of layers; those of readouts have tests of their own (test_readouts.py)."""
    paths = PEERS.glob(f"{peer}_*.yaml")
    return sorted(path.stem for path in paths if not path.read_text(encoding="utf-8").startswith("# Readout"))


def make(name: str, **changes: Any) -> Any:
    """The operator with the arguments of its file, in the type of `dtype`, its weights drawn from a seed."""
    config: Any = OmegaConf.to_container(OmegaConf.load(PEERS / f"{name}.yaml"), resolve=True)
    cls = locate("pool", Part.of("pool", config))
    del config["_target_"]
    if "k" in config:
        config = {key: value for key, value in config.items() if key != "ratio"} | {"k": CLUSTERS}
    torch.manual_seed(0)
    return cls(in_channels=FEATURES, return_selection=True, **config | changes).to(dtype(name))


def dtype(name: str) -> torch.dtype:
    """float64, but where a peer makes a float32 matrix of a graph without weights."""
    return torch.float32 if name == "pyg_asap" or name.startswith("tgp") else torch.float64


class Graphs:
    """A ring with a chord of 7 nodes and one of 5, features without ties."""

    x = torch.randn(12, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batch = torch.tensor([0] * 7 + [1] * 5)
    _pairs = [(u, (u + 1) % 7) for u in range(7)] + [(0, 2)] + [(7 + u, 7 + (u + 1) % 5) for u in range(5)] + [(8, 10)]
    index = torch.tensor(sorted(_pairs + [(v, u) for u, v in _pairs])).T
    weight = torch.ones(28, dtype=torch.float64)

    @classmethod
    def padded(cls) -> tuple[Tensor, Tensor, Tensor]:
        x, mask = to_dense_batch(cls.x, cls.batch)
        return x, to_dense_adj(cls.index, cls.batch).double(), mask


G = Graphs


def matrix(index: Tensor, weight: Tensor | None, n: int) -> Tensor:
    ones = torch.ones(index.shape[1], dtype=torch.float64) if weight is None else weight.double()
    return torch.zeros(n, n, dtype=torch.float64).index_put(tuple(index), ones, accumulate=True)


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def near(ours: Any, theirs: Any) -> None:
    """Up to the 1e-7 that PoolBench adds to the root of a degree, and PyG does not."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


# -- PyG: the layer called by hand --------


@pytest.mark.parametrize("name", ["pyg_topk", "pyg_sag"])
@pytest.mark.parametrize("weighted", [False, True])
def test_layers_that_keep_nodes(name: str, weighted: bool) -> None:
    pool = make(name)
    weight = torch.rand(28, generator=torch.Generator().manual_seed(2), dtype=torch.float64) if weighted else None
    out = pool(G.x, G.index, G.batch, edge_weight=weight)
    x, index, edge, batch, kept, score = pool.layer(G.x, G.index, weight, G.batch)
    close(out.x, x)
    close(matrix(out.a, out.edge_weight, 7), matrix(index, edge, 7))
    assert torch.equal(out.i, batch) and torch.equal(out.s.s.kept, kept)
    close(pool.lift(out.x, out.s)[kept], x * score.unsqueeze(-1))


def test_asap() -> None:
    pool, features = make("pyg_asap"), G.x.float()
    out = pool(features, G.index, G.batch)
    x, index, edge, batch, _ = pool.layer(features, G.index, None, G.batch)
    close(out.x, x)
    assert edge is None
    close(matrix(out.a, out.edge_weight, 7), matrix(index, None, 7))
    assert torch.equal(out.i, batch)
    with pytest.raises(NotImplementedError, match="does not return the assignment"):
        pool.lift(out.x, out.s)


def test_edge_pooling_numbers_its_clusters_over_the_batch_and_they_are_sorted_here() -> None:
    pool = make("pyg_edge")
    out = pool(G.x, G.index, G.batch)
    x, index, batch, info = pool.layer(G.x, G.index, G.batch)
    assert bool((batch.diff() < 0).any())  # what the adapter has to put right
    order = torch.argsort(batch, stable=True)
    assert torch.equal(out.i, batch[order])
    close(out.x, x[order])
    close(matrix(out.a, out.edge_weight, len(x)), matrix(index, None, len(x))[order][:, order])
    close(out.s.reduce(G.x), out.x)
    close(pool.lift(out.x, out.s), (x * info.new_edge_score.unsqueeze(-1))[info.cluster])


def test_mincut() -> None:
    pool = make("pyg_mincut", temperature=0.5)
    out = pool(G.x, G.index, G.batch)
    x, a, mask = G.padded()
    x, a, cut, ortho = layers.dense_mincut_pool(x, a, pool.linear(x), mask, 0.5)
    close(out.x, x.flatten(0, 1))
    close(matrix(out.a, out.edge_weight, 6), torch.block_diag(*a))
    close(out.losses, {"cut": cut, "ortho": ortho})
    close(out.s.reduce(G.x), x)


@pytest.mark.parametrize("normalize", [True, False])
def test_diffpool(normalize: bool) -> None:
    pool = make("pyg_diffpool", normalize=normalize)
    out = pool(G.x, G.index, G.batch)
    (z, mask), (s, _) = (to_dense_batch(f(G.x, G.index), G.batch) for f in (pool.embedding, pool.assignment))
    x, a, link, entropy = layers.dense_diff_pool(z, G.padded()[1], s, mask, normalize)
    close(out.x, x.flatten(0, 1))
    close(matrix(out.a, out.edge_weight, 6), torch.block_diag(*a))
    close(out.losses, {"link": link, "entropy": entropy})


def test_dmon() -> None:
    pool = make("pyg_dmon")
    out = pool(G.x, G.index, G.batch)
    s, x, a, spectral, ortho, cluster = pool.layer(*G.padded())
    close(out.x, x.flatten(0, 1))
    close(matrix(out.a, out.edge_weight, 6), torch.block_diag(*a))
    close(out.losses, {"spectral": spectral, "ortho": ortho, "cluster": cluster})
    close(out.s.dense(), torch.cat([s[0], s[1, :5]]))


class Directed(Graphs):
    """Some edges of `Graphs` in one direction alone, weighted; a is read by rows as receivers."""

    index = Graphs.index[:, [k for k in range(28) if k % 3]]
    index = index[:, torch.argsort(index[1], stable=True)]  # in the order of the matrix: EdgePooling breaks ties by it
    weight = torch.rand(index.shape[1], generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 0.5

    @classmethod
    def padded(cls) -> tuple[Tensor, Tensor, Tensor]:
        x, mask = to_dense_batch(cls.x, cls.batch)
        return x, to_dense_adj(cls.index.flip(0), cls.batch, cls.weight), mask


@pytest.mark.parametrize("name", ["pyg_topk", "pyg_sag", "pyg_asap", "pyg_edge"])
def test_a_directed_graph_goes_to_the_layer_and_back_as_it_is(name: str) -> None:
    pool, d = make(name), Directed
    features = d.x.to(dtype(name))
    weight = None if name == "pyg_edge" else d.weight.to(features)
    more = [] if name == "pyg_edge" else [weight]
    out = pool(features, d.index, d.batch, edge_weight=weight)
    x, index, *rest = pool.layer(features, d.index, *more, d.batch)
    edge, graph = (None, rest[0]) if name == "pyg_edge" else rest[:2]
    order = torch.argsort(graph, stable=True)
    near(out.x, x[order])
    near(matrix(out.a, out.edge_weight, len(x)), matrix(index, edge, len(x))[order][:, order])


@pytest.mark.parametrize("name", ["pyg_mincut", "pyg_diffpool", "pyg_dmon"])
def test_a_dense_layer_gets_a_directed_graph_by_its_receivers(name: str) -> None:
    pool, d = make(name), Directed
    out = pool(d.x, d.index, d.batch, edge_weight=d.weight)
    x, a, mask = d.padded()
    if name == "pyg_mincut":
        x, a, *_ = layers.dense_mincut_pool(x, a, pool.linear(x), mask, pool.temperature)
    elif name == "pyg_diffpool":
        s, z = (to_dense_batch(f(d.x, d.index, d.weight), d.batch)[0] for f in (pool.assignment, pool.embedding))
        x, a, *_ = layers.dense_diff_pool(z, a, s, mask)
    else:
        _, x, a, *_ = pool.layer(x, a, mask)
    close(out.x, x.flatten(0, 1))
    close(matrix(out.a.flip(0), out.edge_weight, 6), torch.block_diag(*a))


# -- PyG: PoolBench's own operators --------


def with_weights(pool: SRCPool, **weights: Tensor) -> SRCPool:
    """The operator in float64 with these weights, by the names of its parameters."""
    pool = pool.double()
    named = dict(pool.named_parameters())
    assert set(named) == {name.replace("__", ".") for name in weights}
    with torch.no_grad():
        for name, value in weights.items():
            named[name.replace("__", ".")].copy_(value)
    return pool


def own(pool: SRCPool, view: bool = False) -> Any:
    a = Sparse.from_edges(G.index[0], G.index[1], G.weight, Ragged.from_index(G.batch), symmetric=True)
    return pool(G.x, a.view(pool.connectivity) if view else a)


def topk() -> tuple[Any, SRCPool]:
    peer = make("pyg_topk")
    mine = TopKPool(0.5, in_channels=FEATURES, return_selection=True)
    return peer, with_weights(mine, projection__weight=peer.layer.select.weight)


def sag() -> tuple[Any, SRCPool]:
    peer = make("pyg_sag", gnn="GCNConv")
    peer.layer.gnn.bias.data.zero_()
    peer.layer.select.weight.data.fill_(1.0)
    mine = SAGPool(0.5, in_channels=FEATURES, return_selection=True)
    return peer, with_weights(mine, projection__weight=peer.layer.gnn.lin.weight)


def pan() -> tuple[Any, SRCPool]:
    peer = make("pyg_pan")
    peer.layer.select.weight.data.fill_(1.0)
    mine = PANPool(0.5, in_channels=FEATURES, return_selection=True)
    return peer, with_weights(mine, paths=peer.paths, beta=peer.layer.beta, projection__p=peer.layer.p)


@pytest.mark.parametrize("pair", [topk, sag, pan])
def test_kept_nodes_are_those_of_poolbench(pair: Callable[[], tuple[Any, SRCPool]]) -> None:
    peer, mine = pair()
    theirs, ours = own(peer), own(mine)
    order = torch.argsort(theirs.s.s.kept)
    assert torch.equal(theirs.s.s.kept[order], ours.s.kept)
    near(theirs.x[order], ours.x)
    close(theirs.a.to_dense()[order][:, order], ours.a.to_dense())


def test_mincut_is_that_of_poolbench() -> None:
    peer = make("pyg_mincut")
    mine = MinCutPool(CLUSTERS, mlp_hidden=None, in_channels=FEATURES).double()
    shapes = [tuple(p.shape) for p in mine.parameters()]
    assert shapes == [tuple(peer.linear.weight.shape), tuple(peer.linear.bias.shape)]
    mine = with_weights(mine, **dict(zip((n.replace(".", "__") for n, _ in mine.named_parameters()),
                                         peer.linear.parameters(), strict=True)))  # fmt: skip
    theirs, ours = own(peer), own(mine)
    close(theirs.x, ours.x)
    near(theirs.a.value, ours.a.value)
    close(dict(theirs.losses), {name: ours.losses[name] for name in theirs.losses})


# -- all of PyG's --------


@pytest.mark.parametrize("name", names("pyg"))
def test_adapters_are_copied_shown_and_reset(name: str) -> None:
    pool = make(name)
    twin = pickle.loads(pickle.dumps(pool))
    assert repr(twin) == repr(pool)
    assert "return_selection=True" in repr(pool)
    assert not hasattr(pool, "n_nodes")
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1.0)
    torch.manual_seed(0)
    twin.reset_parameters()
    for p, q in zip(pool.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
    out = pool(G.x.to(dtype(name)), G.index, G.batch)
    inspect.getmembers(out.s)


@pytest.mark.parametrize("name", names("pyg"))
def test_an_empty_graph_between_others_stays_empty_or_is_a_graph_of_k_nodes(name: str) -> None:
    pool = make(name)
    nodes = Ragged(torch.tensor([0, 7, 7, 12]))
    features = G.x.to(dtype(name))
    out = pool(features, Sparse.from_edges(G.index[0], G.index[1], None, nodes))
    together = pool(features, G.index, G.batch)
    sizes = together.sizes.tolist()
    assert out.sizes.tolist() == [sizes[0], CLUSTERS if "k" in constructor_arguments(type(pool)) else 0, sizes[1]]
    kept = out.a.nodes.index[out.a.nodes.index != 1] if out.x.ndim == 2 else None
    close((out.x if kept is not None else out.x[[0, 2]].flatten(0, 1)).detach(), together.x.detach())


@pytest.mark.parametrize("name", names("pyg"))
def test_weights_get_gradients(name: str) -> None:
    pool = make(name)
    out = pool(G.x.to(dtype(name)), G.index, G.batch)
    (out.x.square().sum() + sum(out.losses.values(), torch.zeros(()))).backward()
    assert any(p.grad is not None and p.grad.any() for p in pool.parameters())


@pytest.mark.parametrize("name", names("pyg"))
def test_pyg_trains(name: str, results: Path) -> None:
    assert cli.train([f"pool={name}", *QUICK]) == 0
    (record,) = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    assert record["status"] == "done" and record["config"]["names"]["pool"] == name
    assert record["config"]["pool"]["_target_"].startswith("poolbench.pool.peers.pyg.")


def test_a_width_and_a_layer_are_asked_for_in_one_line() -> None:
    from poolbench.pool.peers.pyg import PyGSAG, PyGTopK

    with pytest.raises(ValueError, match="PyGTopK needs in_channels"):
        PyGTopK()
    with pytest.raises(ValueError, match="gnn='Nonsense'"):
        PyGSAG(in_channels=4, gnn="Nonsense")
    with pytest.raises(TypeError, match="did you mean 'multiplier'"):
        PyGTopK(in_channels=4, multiplyer=2.0)


def test_the_version_of_the_peer_is_part_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [["poolbench.pool.peers.pyg.PyGTopK"], ["poolbench.pool.topk.TopKPool"]]
    before = [version.code_version(t) for t in targets]
    monkeypatch.setattr(version, "package_version", lambda name: "99")
    after = [version.code_version(t) for t in targets]
    assert before[0] != after[0] and before[1] == after[1]


# -- tgp --------


def test_without_tgp_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tgp", None)
    monkeypatch.setitem(sys.modules, "tgp.poolers", None)
    monkeypatch.delitem(sys.modules, "poolbench.pool.peers.tgp", raising=False)
    with pytest.raises(PoolBenchError, match=r"cannot be imported: .* pip install .* torch-geometric-pool"):
        locate("pool", Part("poolbench.pool.peers.tgp.TGPPool", {}))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tgp" else found(name))
    assert cli.main(["list", "pools"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("tgp")] == [
        "tgp_*: operators of tgp, which is not installed: "
        "pip install -U setuptools wheel; pip install --no-build-isolation torch-scatter torch-geometric-pool"
    ]
    assert any(line.startswith("pyg_topk ") and line.endswith("PyG: TopKPooling") for line in lines)


needs_tgp = pytest.mark.skipif(
    importlib.util.find_spec("tgp") is None, reason="Torch Geometric Pool is an optional peer and not installed"
)


def tgp_pool(name: str) -> Any:
    if name == "tgp_graclus":
        pytest.importorskip("torch_cluster", reason="tgp's Graclus needs torch_cluster")
    return make(name)


@needs_tgp
@pytest.mark.parametrize("name", names("tgp"))
def test_tgp_by_hand(name: str) -> None:
    """The adapter gives what tgp gives, also where it hands tgp a padded batch; and lifts as tgp does."""
    seeded_numpy = importlib.import_module("poolbench.pool.peers.tgp").seeded_numpy
    pool, x = tgp_pool(name).eval(), G.x.float()
    torch.manual_seed(3)
    out = pool(x, G.index, G.batch)
    torch.manual_seed(3)
    with seeded_numpy():
        theirs = pool.layer(x=x, adj=G.index, edge_weight=None, batch=G.batch)
    dense = theirs.edge_index.ndim == 3
    near(out.x, theirs.x.flatten(0, 1) if dense else theirs.x)
    n = len(out.x)
    a = torch.block_diag(*theirs.edge_index) if dense else matrix(theirs.edge_index, theirs.edge_weight, n)
    near(matrix(out.a, out.edge_weight, n), a.double())
    near(out.losses, dict(theirs.loss or {}))
    lifted = pool.layer(x=theirs.x, so=theirs.so, lifting=True, batch=G.batch, batch_pooled=theirs.batch)
    near(pool.lift(out.x, out.s), lifted[to_dense_batch(x, G.batch)[1]] if lifted.ndim == 3 else lifted)
    with pytest.raises(NotImplementedError, match="lift='inverse'"):
        pool.lift(out.x, out.s, inverse=True)


@needs_tgp
@pytest.mark.parametrize("name", names("tgp"))
def test_tgp_trains(name: str, results: Path) -> None:
    tgp_pool(name)
    assert cli.train([f"pool={name}", *QUICK]) == 0
    (record,) = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    assert record["status"] == "done" and record["config"]["names"]["pool"] == name


@needs_tgp
def test_every_operator_of_tgp_has_a_file() -> None:
    from tgp.poolers import pooler_map

    assert {f"tgp_{alias}" for alias in set(pooler_map) - {"pan"}} == set(names("tgp"))
    tgp = importlib.import_module("poolbench.pool.peers.tgp")
    with pytest.raises(ValueError, match="takes the torch_sparse matrix of a PANConv"):
        tgp.TGPPool("pan", 4)
    with pytest.raises(ValueError, match="alias='mincutt' is no operator of tgp"):
        tgp.TGPPool("mincutt", 4)
    assert isinstance(tgp.TGPClusters("mincut", 3, 4).layer, nn.Module)
