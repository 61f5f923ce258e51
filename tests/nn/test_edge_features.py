"""Edge features in models: GINE goes on with them after pools that keep or merge edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from poolbench import config
from poolbench.cli.folders import conf_dir
from poolbench.data.store import Batch, GraphStore
from poolbench.learn.build import build_model
from poolbench.linalg import RAW
from poolbench.nn.encoder import Channels, Encoder
from poolbench.nn.message_passing import GINE
from poolbench.nn.model import DataFacts, GraphModel
from poolbench.pool import SRCPool

SIZES = (24, 1, 18, 11)
CATEGORIES = Channels(2, (3, 4))
NUMBERS = Channels(3)


def load(group: str, name: str) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(Path(conf_dir(), group, f"{name}.yaml")), resolve=True)
    assert isinstance(values, dict)
    return values


def model_of(
    pool: str, edges: Channels | None, model: str = "hierarchical", seed: int = 0, **changes: Any
) -> GraphModel:
    torch.manual_seed(seed)
    template = load("model", model) | {"mp": "gine", "hidden": 8, "levels": 2} | changes
    template["readout"] = load("pool", str(template["readout"]))
    facts = DataFacts(in_channels=3, out_channels=2, mean_nodes=6.0, edges=edges)
    return build_model(config.Part.of("model", template), config.Part.of("pool", load("pool", pool)), facts, pool)


def is_hierarchical(name: str) -> bool:
    return "readout" not in load("pool", name)["_target_"]


POOLS = sorted(p.stem for p in (conf_dir() / "pool").glob("*.yaml") if is_hierarchical(p.stem))


def carries(pool: SRCPool) -> bool:
    """Whether its pooled edges are those of the graph, and it is given the graph as it is."""
    return bool(pool.pooled_edges) and pool.connectivity == RAW


CARRYING = [name for name in POOLS if carries(model_of(name, None).pools[0])]


def features(count: int, edges: Channels, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    if edges.vocabulary is None:
        return torch.randn(count, edges.count, generator=g)
    return torch.stack([torch.randint(size, (count,), generator=g) for size in edges.vocabulary], 1)


def store(edges: Channels, order: Tensor | None = None) -> GraphStore:
    """Some undirected graphs; order: of their nodes."""
    g = torch.Generator().manual_seed(0)
    paths = [torch.ones(n - 1).diag(1) for n in SIZES]
    a = torch.block_diag(*[((torch.rand(p.shape, generator=g) < 0.1).triu(1) | (p > 0)).float() for p in paths])
    x, a = torch.randn(sum(SIZES), 3, generator=g), a + a.T
    values = torch.zeros(*a.shape, edges.count, dtype=features(0, edges).dtype)
    row, col = a.nonzero(as_tuple=True)
    values[row, col] = features(row.numel(), edges)
    if order is not None:
        x, a, values = x[order], a[order][:, order], values[order][:, order]
        row, col = a.nonzero(as_tuple=True)
    return GraphStore(x, torch.tensor(SIZES), torch.stack([row, col]), torch.zeros(len(SIZES)), edges=values[row, col])


def batch(edges: Channels) -> Batch:
    return store(edges).batch(torch.arange(len(SIZES)))


def with_edges_left(pool: str, edges: Channels, model: str, training: bool, **changes: Any) -> GraphModel:
    """A model whose first pool leaves edges: some operators merge all of a graph, if their weights say so."""
    given = batch(edges)
    for seed in range(50):
        net = model_of(pool, edges, model, seed, **changes).train(training)
        out: list[Any] = []
        hook = net.pools[0].register_forward_hook(lambda _, args, got, out=out: out.append(got))
        with torch.no_grad():
            net(given.x, given.a, given.edges)
        hook.remove()
        if out[0].a.sparse().col.numel():
            return net
    raise AssertionError(f"{pool} leaves no edges")


def encoders(net: GraphModel) -> list[Encoder]:
    return [layer.encoder for layer in net.modules() if isinstance(layer, GINE) and layer.encoder is not None]


def silence_the_first(net: GraphModel) -> None:
    """So that an edge feature is heard after a pool, or not at all."""
    for p in encoders(net)[0].parameters():
        torch.nn.init.zeros_(p)


@pytest.mark.parametrize("edges", [NUMBERS, CATEGORIES], ids=["numbers", "categories"])
@pytest.mark.parametrize("model", ["hierarchical", "unet"])
@pytest.mark.parametrize("pool", POOLS)
def test_layers_after_a_pool_see_the_features_where_pooled_edges_are_edges(
    pool: str, model: str, edges: Channels
) -> None:
    net, given = with_edges_left(pool, edges, model, training=False), batch(edges)
    silence_the_first(net)
    assert given.edges is not None
    outputs = []
    for e in (given.edges, given.edges.flip(0)):
        torch.manual_seed(0)
        outputs.append(net(given.x, given.a, e).y)
    assert torch.isfinite(outputs[0]).all()
    blocks = {"hierarchical": 3, "unet": 5}[model]
    if pool in CARRYING:
        assert len(encoders(net)) == blocks
        assert not torch.equal(*outputs)
    else:
        assert len(encoders(net)) == 1
        assert torch.equal(*outputs)


@pytest.mark.parametrize("edges", [NUMBERS, CATEGORIES], ids=["numbers", "categories"])
@pytest.mark.parametrize("model", ["hierarchical", "unet"])
@pytest.mark.parametrize("pool", CARRYING)
def test_every_encoder_is_trained(pool: str, model: str, edges: Channels) -> None:
    """As far as there are edges: a pool that halves graphs at least leaves none of small ones."""
    net, given = with_edges_left(pool, edges, model, training=True, activation="elu"), batch(edges)
    asked: list[Encoder] = []
    for encoder in encoders(net):
        encoder.register_forward_hook(lambda own, args, out: asked.append(own) if len(out) else None)
    torch.manual_seed(0)
    out = net(given.x, given.a, given.edges)
    (out.y.square().sum() + sum(out.losses.values())).backward()
    assert len(asked) > 1
    for encoder in asked:
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("edges", [NUMBERS, CATEGORIES], ids=["numbers", "categories"])
@pytest.mark.parametrize("pool", CARRYING)
def test_what_a_layer_after_a_pool_sees(pool: str, edges: Channels) -> None:
    """The features of kept edges as they are; of merged ones their means, of categories the share of each."""
    net, given = model_of(pool, edges, levels=1), batch(edges)
    seen: list[Tensor] = []
    net.blocks[-1].register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    results: list[Any] = []
    net.pools[0].register_forward_hook(lambda _, args, out: results.append(out))
    net(given.x, given.a, given.edges)
    (out,) = results
    assert given.edges is not None
    pooled, source = out.edge.tolist()
    if net.pools[0].pooled_edges == "kept":
        assert torch.equal(seen[0], given.edges[source])
        return
    rows = given.edges
    if edges.vocabulary is not None:
        rows = torch.cat([torch.eye(n)[rows[:, c]] for c, n in enumerate(edges.vocabulary)], 1)
    means = [rows[[s for p, s in zip(pooled, source, strict=True) if p == e]].mean(0) for e in range(len(seen[0]))]
    torch.testing.assert_close(seen[0], torch.stack(means))
    if edges.vocabulary is not None:
        torch.testing.assert_close(seen[0].sum(1), torch.full((len(means),), float(len(edges.vocabulary))))


@pytest.mark.parametrize("edges", [NUMBERS, CATEGORIES], ids=["numbers", "categories"])
@pytest.mark.parametrize("pool", ["topk", "sag", "kmis", "edgepool", "maxcut"])
def test_alone_in_company_and_in_any_order_of_the_nodes(pool: str, edges: Channels) -> None:
    net, given = model_of(pool, edges, activation="elu").eval(), batch(edges)
    together = net(given.x, given.a, given.edges).y
    for g in range(len(SIZES)):
        alone = store(edges).batch(torch.tensor([g]))
        torch.testing.assert_close(net(alone.x, alone.a, alone.edges).y[0], together[g], rtol=1e-4, atol=1e-5)
    if pool != "edgepool":  # its equal scores are tried in the order of the nodes
        order = torch.cat([part.flip(0) for part in torch.arange(sum(SIZES)).split(SIZES)])
        other = store(edges, order).batch(torch.arange(len(SIZES)))
        torch.testing.assert_close(net(other.x, other.a, other.edges).y, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["graclus", "sep"])
def test_with_coarsenings_that_were_computed_ahead(pool: str) -> None:
    net, given = model_of(pool, CATEGORIES).eval(), batch(CATEGORIES)
    coarsenings, a = [], given.a
    for level in net.precomputed():
        coarsenings.append(level.coarsen(a))
        a = coarsenings[-1].a
    fly, read = (net(given.x, given.a, given.edges, c).y for c in ((), coarsenings))
    assert torch.equal(fly, read)


@pytest.mark.parametrize("pool", ["topk", "graclus"])
def test_other_layers_and_data_without_features_ask_for_nothing(pool: str) -> None:
    gcn, plain = model_of(pool, CATEGORIES, mp="gcn"), model_of(pool, None)
    given = batch(CATEGORIES)
    results: list[Any] = []
    for net in (gcn, plain):
        assert not encoders(net)
        net.pools[0].register_forward_hook(lambda _, args, out: results.append(out))
        net(given.x, given.a, None)
    assert [out.edge for out in results] == [None, None]


def test_categories_as_numbers_are_what_an_embedding_looks_up() -> None:
    x = features(10, CATEGORIES)
    encoder = Encoder(CATEGORIES, 5)
    torch.testing.assert_close(CATEGORIES.as_numbers(x, torch.float32) @ encoder.table, encoder(x))
    assert CATEGORIES.numbers == Channels(7)
    assert NUMBERS.numbers == NUMBERS
    values = features(4, NUMBERS)
    assert NUMBERS.as_numbers(values, torch.float32) is values
