"""Networks of papers, as docs/models.md writes them, and what the options of the templates mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch_geometric.nn import GraphConv, dense_diff_pool
from torch_geometric.utils import scatter

from poolbench.cli.door import composed, resolve
from poolbench.cli.folders import conf_dir
from poolbench.data.store import Batch, GraphStore
from poolbench.errors import PoolBenchError
from poolbench.learn.build import build_model
from poolbench.linalg import Dense
from poolbench.nn.block import Logits
from poolbench.nn.model import DataFacts
from poolbench.pool.base.layers import INITIALIZERS
from poolbench.records.changes import ADDED, canonical

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
FOUND = re.findall(r"^```yaml\n# own/model/(\S+)\.yaml(?: with (.*?))?\n(.*?)^```$", PAGE, flags=re.M | re.S)
FILES, WITH = {name: text for name, _, text in FOUND}, {name: words.split() for name, words, _ in FOUND}
FACTS = DataFacts(in_channels=3, out_channels=2, mean_nodes=7.0, classes=2)
Build = Callable[..., Any]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """A model of words of the command line, the files of the page at hand; in evaluation."""
    (tmp_path / "model").mkdir()
    for name, text in FILES.items():
        (tmp_path / "model" / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("POOLBENCH_CONFIG", str(tmp_path))

    def made(*words: str) -> Any:
        config = resolve(composed([*words, "dataset=planted"]))
        return build_model(config.model, config.pool, FACTS, config.names.pool).eval()

    return made


def batch(net: Any) -> Batch:
    torch.manual_seed(0)
    sizes = (9, 1, 6, 4)
    a = torch.block_diag(*[(torch.rand(n, n) < 0.5).float().triu(1) for n in sizes])
    edges = (a + a.T).nonzero().T
    store = GraphStore(torch.randn(20, 3), torch.tensor(sizes), edges, torch.zeros(4), None, net.requirements())
    return store.batch(torch.arange(4))


@pytest.mark.parametrize("name", FILES)
def test_a_network_of_the_page_is_a_model(build: Build, name: str) -> None:
    clusters = "clusterer" in FILES[name]
    words = WITH[name] or ["pool=globalavg" if "global]" in FILES[name] else "pool=mincut"]
    net = build(f"model={name}", *words, *(["protocol=cluster"] if clusters else []))
    given = batch(net)
    assert net(given.x, given.a).y.shape == ((20, 2) if clusters else (4, 2))


def _mean(x: Tensor, index: Tensor) -> Tensor:
    return scatter(x, index, dim_size=4, reduce="mean")


def test_fey_and_lenssen_by_hand(build: Build) -> None:
    """Without a pool between: five layers of PyG with the same weights, their means side by side."""
    net = build("model=fey2019", "pool=none")
    given = batch(net)
    x, index, edges = given.x, given.a.nodes.index, torch.stack([given.a.col, given.a.row])
    means = []
    for layer in (layer for block in net.blocks for layer in block.layers):
        theirs = GraphConv(x.shape[1], 64, aggr="mean")
        theirs.lin_rel.weight.data, theirs.lin_root.weight.data = layer.neighbours.weight.data, layer.root.weight.data
        theirs.lin_rel.bias.data = layer.root.bias.data
        x = theirs(x, edges).relu()
        means.append(_mean(x, index))
    first, last = net.head.layers
    assert len(means) == 5 and first.weight.shape == (64, 320) and net.head.dropout.p == 0.5
    torch.testing.assert_close(net(given.x, given.a).y, last(first(torch.cat(means, 1)).relu()))


def test_readouts_after_every_pool_by_hand(build: Build) -> None:
    net = build("model=lee2019", "pool=topk", "model.hidden=8")
    given = batch(net)
    x, a, total = given.x, given.a, torch.zeros(4, 16)
    for block, pool in zip(net.blocks[:3], net.pools, strict=True):
        x, a = (out := pool(block(x, a), a)).x, out.a
        total = total + torch.cat([_mean(x, a.nodes.index), scatter(x, a.nodes.index, dim_size=4, reduce="max")], 1)
    torch.testing.assert_close(net(given.x, given.a).y, net.head(total))
    assert [layer.weight.shape for layer in net.head.layers] == [(128, 16), (64, 128), (2, 64)]
    after = build("model=lee2019", "pool=topk", "model.hidden=8", "model.depth=1")
    assert len(net.readouts) == 3 and len(after.readouts) == 4, "what follows the last pool is read out too"


def test_diffpool_as_its_authors_have_it_by_hand(build: Build) -> None:
    """Both networks see what the level is given; PyG's dense_diff_pool, its losses left aside."""
    net = build("model=ying2018", *WITH["ying2018"], "model.hidden=8", "pool.k=4")
    given = batch(net)
    block, pool = net.blocks[0], net.pools[0]
    sees = [layer.neighbours.in_features for layer in pool.gnn.block.layers]
    assert sees == [3, 8, 8] and pool.gnn.linear.weight.shape == (4, 8 + 8 + 4) and block.channels == 24
    norms = [m for m in (*block.modules(), *pool.gnn.modules()) if isinstance(m, nn.BatchNorm1d)]
    assert len(norms) == 4, "not behind the last layer of each"
    z, s = block(given.x, given.a), pool.gnn(given.x, given.a)
    a, nodes, pooled = given.a.to_dense(), given.a.nodes, []
    for graph in range(4):
        own = nodes.index == graph
        x, adjacency, *_ = dense_diff_pool(z[own][None], a[own][:, own][None], s[own][None])
        after = net.blocks[1](x, Dense(adjacency))
        pooled.append(torch.cat([z[own].amax(0), after[0].amax(0)]))
    torch.testing.assert_close(net(given.x, given.a).y, net.head(torch.stack(pooled)))
    assert isinstance(build("model=hierarchical", "pool=diffpool", "pool.gnn=level").pools[1].gnn, Logits)
    plain = build("model=hierarchical", "pool=diffpool")
    assert plain.pools[0].gnn is None and not plain.pools[0].takes_x0


def test_a_module_of_anybody_as_the_assignment_network(build: Build) -> None:
    net = build("model=hierarchical", "pool=diffpool", "pool.gnn={_target_: torch_geometric.nn.GATConv}")
    given = batch(net)
    assert net.pools[0].gnn.in_channels == 3 and net.pools[1].gnn.in_channels == 64, "of what the level is given"
    assert net(given.x, given.a).y.shape == (4, 2)


def test_hears_edges_at_every_level_that_is_read_out(build: Build) -> None:
    """A readout with keys by graph convolutions, on sparse and on pooled dense graphs, and in a U-Net."""
    words = ("model.readout={name: gmt, keys: gcn}", "model.jumping=cat", "model.hidden=8")
    for jumping_over in ("levels", "layers", "pools"):
        net = build("model=hierarchical", "pool=mincut", *words, f"model.jumping_over={jumping_over}")
        given = batch(net)
        y = net(given.x, given.a).y
        assert y.shape == (4, 2) and y.isfinite().all()
    net = build("model=unet", "pool=topk", "model.readout={name: gmt, keys: gcn}")
    given = batch(net)
    seen = []
    net.readout.projection.register_forward_hook(lambda *found: seen.append(found[2].shape[0]))
    assert net(given.x, given.a).y.shape == (4, 2) and seen == [20], "of the whole graph"


def test_global_hands_the_graph_to_its_readout(build: Build) -> None:
    net = build("model=baek2021", *WITH["baek2021"], "model.hidden=8")
    given, found = batch(net), []
    net.readout.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    y = net(given.x, given.a).y
    assert found[0].shape == (20, 24), "the three layers side by side"
    torch.testing.assert_close(y, net.head(net.readout(found[0], a=given.a)))


def test_the_square_of_the_graph_before_each_pool(build: Build) -> None:
    net = build("model=gao2019", *WITH["gao2019"], "model.hidden=8")
    assert all(pool.squared for pool in net.pools) and [pool.ratio for pool in net.pools] == [0.9, 0.8, 0.7]


def test_errica_gin_by_hand(build: Build) -> None:
    """A linear layer of each readout, added up, is one of all side by side."""
    net = build("model=errica2020-gin", *WITH["errica2020-gin"], "model.hidden=8")
    given = batch(net)
    x, a, sums = given.x, given.a.to_dense(), []
    layers = [(layer, norm) for block in net.blocks for layer, norm in zip(block.layers, block.norms, strict=True)]
    for number, (layer, norm) in enumerate(layers):
        first, last = layer.mlp.layers
        h = x if number == 0 else (1 + layer.eps) * x + a @ x
        x = norm.norm(last(layer.mlp.norms[0].norm(first(h)).relu())).relu()
        sums.append(scatter(x, given.a.nodes.index, dim_size=4))
    (linear,) = net.head.layers
    assert linear.weight.shape == (2, 32) and len(sums) == 4
    each = [s @ w.T for s, w in zip(sums, linear.weight.split(8, 1), strict=True)]
    torch.testing.assert_close(net(given.x, given.a).y, torch.stack(each).sum(0) + linear.bias)


def test_node_layers_come_first_and_a_level_may_be_without_layers(build: Build) -> None:
    words = ("pool=none", "model=hierarchical", "model.levels=1", "model.hidden=8", "model.depth=[0]")
    net = build(*words, "model.node_layers=2", "model.activation=elu", "model.readout=globalsum")
    given = batch(net)
    first, second = net.nodes.layers
    x = F.elu(second(F.elu(first(given.x))))
    torch.testing.assert_close(net(given.x, given.a).y, net.head(scatter(x, given.a.nodes.index, dim_size=4)))


def test_norms_layers_and_widths_by_level(build: Build) -> None:
    net = build("model=hierarchical", "pool=topk", "model.norm=[batch,none]", "model.mp=[gcn,{name: cheb, k: 3}]",
                "model.depth=[2,1]", "model.hidden=[8,16,32]")  # fmt: skip
    assert [block.widths for block in net.blocks] == [[8, 8], [16], [32]]
    assert [layer.weight.shape for layer in net.head.layers] == [(16, 32), (2, 16)]
    kinds = [[type(layer).__name__ for layer in block.layers] for block in net.blocks]
    assert kinds == [["GCN", "GCN"], ["Cheb"], ["Cheb"]], "the last one for all that follow"
    assert [sum(isinstance(m, nn.BatchNorm1d) for m in block.modules()) for block in net.blocks] == [2, 0, 0]


@pytest.mark.parametrize("initializer", ["torch", "orthogonal"])
@pytest.mark.parametrize("model", ["hierarchical", "global", "clusterer", "autoencoder", "unet"])
def test_weights_by_name_are_those_of_the_network_alone(build: Build, model: str, initializer: str) -> None:
    words = (f"model={model}", "pool=globalattention" if model == "global" else "pool=mincut", "model.hidden=8")
    torch.manual_seed(5)
    plain = dict(build(*words).named_parameters())
    torch.manual_seed(5)
    net = build(*words, f"model.initializer={initializer}")
    drawn = {f"{n}.weight": m for n, m in net.named_modules() if type(m) is nn.Linear}
    assert drawn
    for name, value in net.named_parameters():
        if name not in drawn:
            continue
        assert not torch.equal(value, plain[name])
        if initializer == "orthogonal":
            short = value if value.shape[0] <= value.shape[1] else value.T
            torch.testing.assert_close(short @ short.T, torch.eye(short.shape[0]))
        else:
            assert value.abs().max() <= value.shape[1] ** -0.5
    own = {n: p for n, p in net.named_parameters() if n.startswith(("pool", "readout")) and n not in drawn}
    assert all(torch.equal(value, plain[name]) for name, value in own.items()) and own


def test_layers_like_those_of_a_level_are_drawn_like_them(build: Build) -> None:
    words = ("model=ying2018", *WITH["ying2018"], "model.hidden=8")
    torch.manual_seed(5)
    plain = dict(build(*words).named_parameters())
    torch.manual_seed(5)
    net = build(*words, "model.initializer=orthogonal")
    names = [f"pools.0.gnn.{name}.weight" for name, m in net.pools[0].gnn.named_modules() if type(m) is nn.Linear]
    assert len(names) == 7
    for name in names:
        value = net.get_parameter(name)
        short = value if value.shape[0] <= value.shape[1] else value.T
        torch.testing.assert_close(short @ short.T, torch.eye(short.shape[0]))
        assert not torch.equal(value, plain[name])


def test_keras_names_leave_biases_zero(build: Build) -> None:
    net = build("model=hierarchical", "pool=topk", "model.initializer=he_normal", "model.mp=gin")
    linear = [m for m in net.modules() if type(m) is nn.Linear]
    assert all((m.bias == 0).all() for m in linear if m.bias is not None) and "he_normal" in INITIALIZERS


@pytest.mark.parametrize(("words", "said"), [
    (["model.jumping_over=layers"], "model.jumping_over=layers: say how"),
    (["model.residual=cat", "model.jumping=sum"], "model.jumping=sum: parts of the widths"),
    (["model.depth=[1,-1]"], "model.depth=-1: a whole number of at least 0"),
    (["model.depth=0"], "model.depth=0: a whole number of at least 1"),
    (["model.depth=[]"], r"model.depth=\[\]: give one value a level"),
    (["model.norm=[batch,no]"], "model.norm='no' is not one of none, batch, layer"),
    (["model.mp=[gcn,{name: gtv, dleta: 1}]"], "model.mp.dleta: gtv takes delta and eps"),
    (["model.head_layers=[8,0]"], "model.head_layers=0: a whole number"),
    (["model.head_dropout=1"], "model.head_dropout=1: a share"),
    (["model.linear_last=1"], "linear_last=1: True or False"),
    (["pool=diffpool", "pool.gnn=levle"], "pool.gnn=levle: level or null is expected"),
    (["pool=diffpool", "pool.gnn=level", "pool.channels=8"], "channels=8: with gnn"),
    (["pool=diffpool", "pool.gnn=level", "model=unet"], "pool.gnn=level: model=hierarchical alone"),
    (["pool=diffpool", "pool.gnn=levels"], "pool.gnn=levels: level or null is expected"),
    (["pool=gmt", "pool.keys=gcn", "model=structure-free"], "the readout looks at edges"),
    (["model.readout={name: gmt, keys: gat}"], "keys='gat': one of linear, gcn"),
    (["pool.squared=2"], "squared=2: True or False"),
    (["+model.linear_lasst=true"], r"model.linear_lasst is no argument of Hierarchical .did you mean linear_last"),
    (["model=unet", "+model.jumping=cat"], "model.jumping is no argument of UNet; it takes data, pool, readout, nodes"),
    (["model.node_layers=-1"], "model.node_layers=-1: a whole number of at least 0"),
    (["model.initializer=glorot"], "model.initializer='glorot' is not one of torch, glorot_uniform"),
    (["model.depth=[0]", "model.jumping=cat", "model.jumping_over=layers"], "no layer to read out after"),
    (["model.readout={name: multi, agregations: [max]}"], "no argument 'agregations': did you mean 'aggregations'"),
    (["model.readout={name: mlti}"], "model.readout=mlti is unknown .did you mean multi"),
    (["pool=globalavg", "model=global", "model.norm_at=block"], "model.norm_at='block' is not one of before, after"),
    (["pool=globalavg", "model=global", "model.residual=cat", "model.jumping=lstm"], "layers of one width"),
    (["pool=globalavg", "model=global", "model.mp=[gcn,gin]"], "model.mp="),
])  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(build: Build, words: list[str], said: str) -> None:
    with pytest.raises(PoolBenchError, match=said):
        build("model=hierarchical", "pool=topk", *words)


def test_dropout_of_an_assignment(build: Build) -> None:
    """Of its logits, in training alone."""
    net = build("model=clusterer", "pool=dmon", "protocol=cluster", "pool.mlp_hidden=null", "pool.mlp_dropout=0.5",
                "pool.use_bias=false")  # fmt: skip
    given = batch(net)
    plain = net(given.x, given.a).y
    net.train()
    torch.manual_seed(4)
    y = net(given.x, given.a).y
    logits = net.pool.mlp(net.block(given.x, given.a))
    torch.manual_seed(4)
    torch.testing.assert_close(y, F.dropout(logits, 0.5).softmax(-1))
    torch.testing.assert_close(plain, logits.softmax(-1))
    with pytest.raises(PoolBenchError, match=r"mlp_dropout=1\.5: a probability"):
        build("model=clusterer", "pool=mincut", "protocol=cluster", "pool.mlp_dropout=1.5")


@pytest.mark.parametrize(
    "added", [a for a in ADDED if a.key.startswith(("pool.", "model."))], ids=lambda added: added.key
)
def test_files_of_templates_and_operators_have_the_neutral_values(added: Any) -> None:
    """So a run of a template as it is is the run that it was before the option came."""
    found = 0
    *groups, name = added.key.split(".")
    for path in (conf_dir() / ("pool" if groups[-1] == "readout" else groups[-1])).glob("*.yaml"):
        values = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(values, dict)
        if values["_target_"] in added.targets:
            assert values[name] == added.neutral
            left: Any = canonical(reduce(lambda inner, group: {group: inner}, reversed(groups), values))
            assert name not in reduce(lambda node, group: node[group], groups, left)
            found += 1
    assert found == len(added.targets)
