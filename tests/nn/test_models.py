"""The model templates: every operator of the registry in each of them, and what they fill in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from poolbench import config
from poolbench.cli.folders import conf_dir
from poolbench.data.store import GraphStore
from poolbench.errors import PoolBenchError
from poolbench.learn.build import build_model
from poolbench.nn.hierarchical import Hierarchical
from poolbench.nn.model import DataFacts, Part, build_pool, clusters
from poolbench.pool import GlobalSumPool, MinCutPool, NoPool, TopKPool

POOLS = sorted(p.stem for p in (conf_dir() / "pool").glob("*.yaml"))
#: The networks; graph kernels (tests/learn/test_kernel.py) are no modules.
MODELS = sorted(p.stem for p in (conf_dir() / "model").glob("*.yaml") if "poolbench.nn." in p.read_text())
FACTS = DataFacts(in_channels=3, out_channels=2, mean_nodes=7.0, classes=2)
SHAPES = {"graphs": (4, 2), "clusters": (20, 2), "reconstruction": (20, 3), "structure": (4, 4)}


def load(group: str, name: str) -> dict:
    values = OmegaConf.to_container(OmegaConf.load(Path(conf_dir(), group, f"{name}.yaml")), resolve=True)
    assert isinstance(values, dict)
    return values


def data(sizes: tuple[int, ...] = (9, 1, 6, 4), views: set | None = None) -> GraphStore:
    torch.manual_seed(0)
    a = torch.block_diag(*[(torch.rand(n, n) < 0.5).float().triu(1) for n in sizes])
    row, col = (a + a.T).nonzero(as_tuple=True)
    labels = torch.arange(len(sizes)) % 2
    return GraphStore(
        torch.randn(sum(sizes), 3), torch.tensor(sizes), torch.stack([row, col]), labels, None, views or set()
    )


def model_of(pool: str, model: str, **changes: object) -> torch.nn.Module:
    template = load("model", model) | changes
    if "readout" in template:
        template["readout"] = load("pool", str(template["readout"]))
    return build_model(config.Part.of("model", template), config.Part.of("pool", load("pool", pool)), FACTS, pool)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_trains_in_every_model_or_is_refused_with_the_reason(pool: str, model: str) -> None:
    changes = {"eigenvectors": 1} if model == "spectral" else {"hidden": 8}
    try:
        net = model_of(pool, model, **changes)
    except PoolBenchError as refusal:
        assert f"pool={pool}" in str(refusal) or "pool." in str(refusal)
        assert "model=" in str(refusal)
        return
    store = data(views=net.requirements())
    batch = store.batch(torch.arange(4))
    if net.task == "structure":
        batch = replace(batch, x=torch.cat([batch.x, torch.ones(20, 1)], 1))  # an eigenvector
        if not list(net.parameters()):
            assert torch.isfinite(net(batch.x, batch.a).y).all()
            return
        for seed in range(50):  # graphs that are merged whole teach nothing
            taught = torch.autograd.grad(
                net(batch.x, batch.a).y.abs().mean(), list(net.parameters()), allow_unused=True
            )
            if any(p is not None and p.any() for p in taught):
                break
            torch.manual_seed(seed)
            net = model_of(pool, model, **changes)
    out = net(batch.x, batch.a)
    assert out.y.shape == SHAPES[net.task]
    if not list(net.parameters()):
        return  # a control without layers around it
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    before = [p.detach().clone() for p in net.parameters()]
    loss = sum(out.losses.values(), torch.zeros(()))
    if net.task == "graphs":
        loss = loss + F.cross_entropy(out.y, batch.y)
    elif net.task == "reconstruction":
        loss = loss + F.mse_loss(out.y, batch.x)
    elif net.task == "structure":
        loss = loss + out.y.abs().mean()
    elif not out.losses:
        return  # a control: it assigns nodes to clusters, and nothing trains it
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    moved = [not torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True)]
    # Alone, DiffPool's embedding is in none of its losses.
    assert sum(moved) >= len(moved) // 2 if model == "assigner" else sum(moved) > len(moved) // 2
    assert all(torch.isfinite(p).all() for p in net.parameters())


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_is_taken_by_some_model(pool: str) -> None:
    takers = 0
    for model in MODELS:
        try:
            model_of(pool, model)
            takers += 1
        except PoolBenchError:
            pass
    assert takers


@pytest.mark.parametrize("mp", ["gcn", "gin", "graphconv", "gcs"])
@pytest.mark.parametrize("jumping", ["none", "cat", "sum", "max"])
def test_arguments_of_the_hierarchical_template(mp: str, jumping: str) -> None:
    net = model_of(
        "mincut", "hierarchical", mp=mp, jumping=jumping, levels=3, depth=2, norm="batch", dropout=0.1, hidden=8
    )
    batch = data(views=net.requirements()).batch(torch.arange(4))
    out = net(batch.x, batch.a)
    assert out.y.shape == (4, 2)
    assert len(out.sizes) == 4
    assert set(out.losses) == {f"{name}_{level}" for name in ("cut", "ortho") for level in (1, 2, 3)}


@pytest.mark.parametrize("pool", ["topk", "mincut", "none"])
def test_a_graph_is_classified_alike_alone_and_in_company_and_in_any_order_of_its_nodes(pool: str) -> None:
    net = model_of(pool, "hierarchical").eval()
    store = data(views=net.requirements())
    batch = store.batch(torch.arange(4))
    together = net(batch.x, batch.a).y
    for g in range(4):
        alone = store.batch(torch.tensor([g]))
        torch.testing.assert_close(net(alone.x, alone.a).y[0], together[g], rtol=1e-4, atol=1e-5)
    one = store.batch(torch.tensor([0]))
    order = torch.randperm(9)
    a = one.a.to_dense()[order][:, order]
    row, col = a.nonzero(as_tuple=True)
    shuffled = GraphStore(one.x[order], torch.tensor([9]), torch.stack([row, col]), torch.zeros(1), None, [])
    other = shuffled.batch(torch.tensor([0]))
    torch.testing.assert_close(net(other.x, other.a).y[0], together[0], rtol=1e-4, atol=1e-5)


def test_k_comes_from_the_ratio_and_the_rounded_up_mean_size() -> None:
    assert clusters(39.06, [0.5]) == 20
    assert clusters(39.06, [0.5, 0.5]) == 10
    assert clusters(3.0, [0.5, 0.5]) == 2, "never one cluster: that would be a global pool"
    part = Part(MinCutPool, {"ratio": [0.5, 0.25], "k": None})
    assert [build_pool(part, level, 8, 39.06).k for level in range(3)] == [20, 5, 2]
    assert [build_pool(Part(MinCutPool, {"k": [7, 3], "ratio": 0.5}), level, 8, 39.0).k for level in (0, 1)] == [7, 3]
    assert build_pool(Part(TopKPool, {"ratio": [0.8, 4]}), 1, 8, 39.0).ratio == 4


@pytest.mark.parametrize("changes", [{"mp": "gnc"}, {"levels": 0}, {"dropout": 1.0}, {"norm": "x"}, {"hidden": 2.5}])
def test_impossible_arguments_name_themselves(changes: dict) -> None:
    with pytest.raises(ValueError, match=rf"^(model\.)?{next(iter(changes))}="):
        Hierarchical(FACTS, Part(NoPool), Part(GlobalSumPool), **changes)


def test_jumping_by_an_lstm_weights_the_layers_of_each_node() -> None:
    from torch_geometric.nn import JumpingKnowledge

    net = model_of("globalavg", "global", jumping="lstm", hidden=8, depth=3)
    batch = data(views=net.requirements()).batch(torch.arange(4))
    layers, x = [], batch.x
    for block in net.blocks:
        x = block(x, batch.a)
        layers.append(x)
    theirs = JumpingKnowledge("lstm", 8, 3)
    theirs.load_state_dict(net.jump.state_dict())
    torch.testing.assert_close(net(batch.x, batch.a).y, net.head(net.readout(theirs(layers), batch.a.nodes)))
    with pytest.raises(PoolBenchError, match="none, cat, sum, max, lstm"):
        model_of("globalavg", "global", jumping="gru")
