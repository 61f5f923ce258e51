"""Networks of papers, as docs/models.md writes them, and what the options of the templates mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch_geometric.nn import GraphConv
from torch_geometric.utils import scatter

from poolbench.cli.door import composed, resolve
from poolbench.cli.folders import conf_dir
from poolbench.data.store import Batch, GraphStore
from poolbench.errors import PoolBenchError
from poolbench.learn.build import build_model
from poolbench.nn.model import DataFacts
from poolbench.pool.base.layers import INITIALIZERS
from poolbench.records.changes import ADDED, canonical

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```yaml\n# own/model/(\S+)\.yaml\n(.*?)^```$", PAGE, flags=re.M | re.S))
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
    pool = "pool=globalavg" if "global]" in FILES[name] else "pool=mincut"
    net = build(f"model={name}", pool, *(["protocol=cluster"] if clusters else []))
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
    "added", [a for a in ADDED if a.key.startswith("model.") or "dropout" in a.key], ids=lambda added: added.key
)
def test_files_of_templates_and_operators_have_the_neutral_values(added: Any) -> None:
    """So a run of a template as it is is the run that it was before the option came."""
    found = 0
    group, name = added.key.split(".")
    for path in (conf_dir() / group).glob("*.yaml"):
        values = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(values, dict)
        if values["_target_"] in added.targets:
            assert values[name] == added.neutral
            assert name not in canonical({group: values})[group]
            found += 1
    assert found == len(added.targets)
