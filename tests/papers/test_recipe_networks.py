"""The networks and protocols behind recipes, held to the formulas of their authors' code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import DenseSAGEConv, dense_diff_pool
from torch_geometric.utils import to_dense_adj, to_dense_batch

from poolbench.cli.commands.reproduce import composer
from poolbench.cli.folders import conf_dir
from poolbench.config import Config
from poolbench.data.store import Batch, GraphStore
from poolbench.learn.build import Parts, build_model
from poolbench.nn.block import Block
from poolbench.nn.diffpool import PaddedNorm, SAGEBlock
from poolbench.nn.model import DataFacts
from poolbench.papers.recipe import read_recipe

#: MUTAG: seven labels, two classes, 17.9 nodes.
MUTAG = DataFacts(in_channels=7, out_channels=2, mean_nodes=17.93, sizes=(10, 18, 28))


def words_of(table: str, method: str, dataset: str) -> list[str]:
    """The command line of one cell of a table."""
    recipe = read_recipe([conf_dir()], table)
    (line,) = [one for one in recipe.lines if (one.method, one.dataset, one.variant) == (
        method, dataset, recipe.lines[0].variant)]  # fmt: skip
    return [f"experiment={line.experiment}", "logger=none", *line.overrides]


def config_of(table: str, method: str, dataset: str, *more: str) -> Config:
    (config,) = composer()([*words_of(table, method, dataset), *more], [0])
    return config


def network(config: Config, facts: DataFacts = MUTAG) -> Any:
    torch.manual_seed(0)
    return build_model(config.model, config.pool, facts, config.names.pool)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def linear(n: int, m: int) -> int:
    return n * m + m


def graphs(net: Any, sizes: Sequence[int], width: int) -> tuple[Batch, Tensor, Tensor]:
    """A batch of random graphs, its edges and the graph of each node."""
    torch.manual_seed(1)
    a = torch.block_diag(*[(torch.rand(n, n) < 0.6).float().triu(1) for n in sizes])
    edges = (a + a.T).nonzero().T
    x, n = torch.randn(sum(sizes), width), torch.tensor(sizes)
    store = GraphStore(x, n, edges, torch.zeros(len(sizes)), None, net.requirements())
    return store.batch(torch.arange(len(sizes))), edges, torch.arange(len(sizes)).repeat_interleave(n)


# -------------------------------------------------------------------------------------------------- Fey & Lenssen 2019

FEY = "fey2019_pyg/classification"


@pytest.mark.parametrize("layers", [3, 5])
def test_the_kernel_benchmark_has_a_pool_after_every_second_layer_but_the_last(layers: int) -> None:
    shape = {3: ["model.levels=1", "model.depth=[2,1]"], 5: ["model.levels=2", "model.depth=[2,2,1]"]}[layers]
    net = network(config_of(FEY, "top-k", "MUTAG", *shape, "model.hidden=32"))
    assert len(net.pools) == (layers - 1) // 2
    # GraphConv is two matrices and a bias; a mean after each layer; H and the classes.
    convolutions = [2 * n * 32 + 32 for n in (7, *[32] * (layers - 1))]
    scores = 32 * len(net.pools)
    assert parameters(net) == sum(convolutions) + scores + linear(layers * 32, 32) + linear(32, 2)
    assert len(net.readouts) == layers
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout) and m.p > 0] == [0.5]


def test_the_kernel_benchmark_trains_as_its_script_does() -> None:
    config = config_of(FEY, "top-k", "PROTEINS")
    assert config.pool.arguments["ratio"] == 0.8 and config.batch_size == 128
    assert config.protocol.arguments["val"] == "previous" and config.trainer.max_epochs == 100
    assert config.callbacks.patience >= config.trainer.max_epochs and config.optimizer.arguments["lr"] == 0.01
    assert config.dataset.arguments["use_node_attr"] is False


def test_gin_of_the_kernel_benchmark_is_normalised_twice_a_layer() -> None:
    net = network(config_of(FEY, "GIN-eps", "MUTAG", "model.depth=2", "model.hidden=16"))
    layers = [linear(n, 16) + linear(16, 16) + 2 * 2 * 16 + 1 for n in (7, 16)]  # eps is one number
    assert parameters(net) == sum(layers) + linear(16, 16) + linear(16, 2)
    block = net.blocks[0]
    assert isinstance(block, Block) and block.norm_at == "after"


@pytest.mark.parametrize(("method", "readout", "seen"), [
    ("GlobalAttention", 64, 64),
    ("Set2Set", linear(64, 64) + 4 * (128 * 64 + 64 * 64 + 2 * 64), 128),
    ("SortPool", 32 * 5 * 64 + 32, 32 * 26),  # a convolution over the sorted nodes
])  # fmt: skip
def test_readouts_of_the_kernel_benchmark_read_graphsage(method: str, readout: int, seen: int) -> None:
    net = network(config_of(FEY, method, "MUTAG", "model.depth=2", "model.hidden=64"))
    sage = sum(2 * n * 64 + 64 for n in (7, 64))
    assert parameters(net) == sage + readout + linear(seen, 64) + linear(64, 2)


def test_diffpool_of_the_kernel_benchmark_has_the_weights_of_its_script() -> None:
    net = network(config_of(FEY, "DiffPool", "MUTAG", "model.hidden=32"))

    def block(n: int, out: int) -> int:
        return 2 * n * 32 + 32 + 2 * 32 * out + out + linear(32 + out, out)

    # The script's second block has an assignment, too, which no pool follows.
    assert parameters(net) == block(7, 32) + block(7, 7) + block(32, 32) + linear(64, 32) + linear(32, 2)
    assert config_of(FEY, "DiffPool", "MUTAG").loss_weights == 0.0


def test_diffpool_of_the_kernel_benchmark_is_what_pyg_computes_over_padded_graphs() -> None:
    net = network(config_of(FEY, "DiffPool", "MUTAG", "model.hidden=8", "model.rows=12", "pool.k=3")).eval()
    batch, edges, graph = graphs(net, (9, 4, 6), 7)
    x, mask = to_dense_batch(batch.x, graph, max_num_nodes=12)
    a = to_dense_adj(edges, graph, max_num_nodes=12)

    def block(given: SAGEBlock, x: Tensor, a: Tensor, mask: Tensor | None) -> Tensor:
        found = []
        for layer in given.layers:
            sage: Any = DenseSAGEConv(layer.neighbours.in_features, layer.neighbours.out_features)
            sage.lin_rel.weight, sage.lin_root.weight = layer.neighbours.weight, layer.root.weight
            sage.lin_root.bias = layer.root.bias
            x = sage(x, a, mask).relu()
            found.append(x)
        return given.linear(torch.cat(found, -1))

    with torch.no_grad():
        s, first = block(net.pools[0].gnn, x, a, mask), block(net.blocks[0], x, a, mask).relu()
        pooled, adj, *_ = dense_diff_pool(first, a, s, mask)
        second = block(net.blocks[1], pooled, adj, None).relu()
        expected = net.head(torch.cat([first.mean(1), second.mean(1)], -1))
        torch.testing.assert_close(net(batch.x, batch.a).y, expected, rtol=1e-4, atol=1e-5)


def test_normalisation_over_padded_rows_is_that_of_the_padded_batch() -> None:
    net = network(config_of(FEY, "DiffPool", "MUTAG"))
    batch, _, graph = graphs(net, (9, 4, 6), 7)
    padded, mask = to_dense_batch(batch.x, graph)
    ours, theirs = PaddedNorm(7), nn.BatchNorm1d(7)
    for _ in range(2):
        expected = theirs(padded.reshape(-1, 7)).reshape(padded.shape)[mask]
        torch.testing.assert_close(ours(batch.x, batch.a.nodes), expected)
    assert not torch.allclose(expected, F.batch_norm(batch.x, None, None, training=True))
    ours.eval()
    torch.testing.assert_close(ours(batch.x, batch.a.nodes), theirs.eval()(batch.x))
    torch.testing.assert_close(ours.norm.running_var, theirs.running_var)


# ----------------------------------------------------------------------------------------------------- Baek et al. 2021

GMT = "baek2021_gmt/tu_classification"


def attention(n: int, m: int, layer_norm: bool, keys: bool = True) -> int:
    """Queries, keys, values, what follows the sum, two normalisations."""
    return (2 + keys) * linear(n, m) + linear(m, m) + 2 * 2 * m * layer_norm


@pytest.mark.parametrize(("dataset", "width", "seeds", "layer_norm"), [
    ("MUTAG", 7, 5, True), ("PROTEINS", 4, 10, False), ("IMDB-BINARY", 136, 5, False),
])  # fmt: skip
def test_gmt_has_the_weights_of_its_authors_network(dataset: str, width: int, seeds: int, layer_norm: bool) -> None:
    config = config_of(GMT, "GMT", dataset)
    net = network(config, DataFacts(in_channels=width, out_channels=2, mean_nodes=20.0))
    convolutions = linear(width, 128) + 2 * linear(128, 128)
    pools = seeds * 384 + attention(384, 384, layer_norm) + attention(384, 128, layer_norm)
    pools += 128 + attention(128, 128, layer_norm, keys=False)  # theirs are given keys of which nothing hangs
    assert parameters(net) == convolutions + pools + 2 * linear(128, 128) + linear(128, 64) + linear(64, 2)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout) and m.p > 0] == [0.5]
    assert config.callbacks.patience == 51 and config.scheduler is not None
    assert config.scheduler.arguments == {"warmup": 50, "T_max": 500}
    assert config.trainer.gradient_clip_val == 1.0


def test_gmts_nodes_are_shared_out_among_its_seeds() -> None:
    net = network(config_of(GMT, "GMT", "MUTAG")).eval()
    batch, _, graph = graphs(net, (9, 4), 7)
    x, pool = torch.randn(13, 384), net.readout
    a, sparse = torch.eye(13), batch.a.sparse()
    a[sparse.row, sparse.col] += 1.0
    a = a / (a.sum(1).sqrt()[:, None] * a.sum(0).sqrt())

    def block(of: Any, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        parts = [
            qh + torch.softmax(qh @ kh.T / q.shape[1] ** 0.5, 0) @ vh  # over the seeds
            for qh, kh, vh in zip(q.chunk(4, 1), keys.chunk(4, 1), values.chunk(4, 1), strict=True)
        ]
        y = of.norms[0](torch.cat(parts, 1))
        return of.norms[1](y + of.mixed(y).relu())

    expected = []
    with torch.no_grad():
        for number in range(2):
            y = (a @ x)[graph == number]
            first, second, third = pool.shared, pool.among, pool.joined
            z = block(first, first.queries(pool.seeds.weight), first.keys(y), first.values(y))
            z = block(second, second.queries(z), second.keys(z), second.values(z))
            q, values = third.queries(pool.seed.weight), third.values(z)
            expected.append(pool.last(block(third, q, torch.zeros_like(values), values)))
        y = pool(x, batch.a.nodes, a=batch.a)
    torch.testing.assert_close(y, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_gin_of_gmt_is_normalised_between_two_activations() -> None:
    net = network(config_of(GMT, "GIN + sum", "MUTAG"))
    layers = [linear(n, 128) + linear(128, 128) + 2 * 128 for n in (7, 128, 128)]  # eps is 0
    assert parameters(net) == sum(layers) + linear(384, 128) + linear(128, 64) + linear(64, 2)
    assert all(block.norm_at == "between" for block in net.blocks)


# ------------------------------------------------------------------------------------------------ Hansen & Bianchi 2023

HANSEN = "hansen2023_tvgnn/classification"


def test_tvgnn_has_total_variation_layers_and_its_two_losses() -> None:
    config = config_of(HANSEN, "TVGNN", "MUTAG")
    net = network(config)
    assert [layer.delta for block in net.blocks for layer in block.layers] == [2.0] * 3
    pools = [linear(32, 32) + linear(32, k) for k in (14, 7)]  # half and a quarter of 28 nodes
    assert parameters(net) == linear(7, 32) + 2 * linear(32, 32) + sum(pools) + linear(32, 2)
    assert config.loss_weights == 0.5 and config.callbacks.patience == 10 and config.trainer.max_epochs == 100


def test_tvgnn_is_run_in_five_folds_of_whose_rest_a_tenth_validates() -> None:
    protocol = Parts.of(config_of(HANSEN, "Top-K", "MUTAG")).protocol
    splits = [protocol.split(torch.arange(100) % 2, "f", fold) for fold in range(5)]
    assert [s.sizes["test"] for s in splits] == [20] * 5 and [s.sizes["val"] for s in splits] == [8] * 5
    assert sorted(graph for s in splits for graph in s.test.tolist()) == list(range(100))


# ------------------------------------------------------------------------------------------------ Bianchi et al. 2020

MINCUT = "bianchi2020_mincut/classification"


def gcs(n: int, m: int) -> int:
    return 2 * n * m + m


@pytest.mark.parametrize(("method", "kernels"), [
    ("No-pool", [2 * 7 * 32, 2 * 32 * 32, 2 * 32 * 32]),
    ("Dense (MLP only)", [7 * 32, 32 * 32, 32 * 32]),
    # K is half and a quarter of 18, the rounded mean; the assignment has a hidden layer of 16.
    ("MinCutPool", [2 * 7 * 32, 2 * 32 * 32, 2 * 32 * 32, 32 * 16 + 16 * 9, 32 * 16 + 16 * 4]),
    ("DiffPool", [7 * 32 + 7 * 9, 32 * 32 + 32 * 4, 2 * 32 * 32]),
])  # fmt: skip
def test_squared_kernels_of_layers_and_pools_are_in_the_loss(method: str, kernels: list[int]) -> None:
    config = config_of(MINCUT, method, "PROTEINS")
    net = network(config).eval()
    biases = {"No-pool": 3 * 32, "Dense (MLP only)": 3 * 32, "MinCutPool": 3 * 32 + 2 * 16 + 9 + 4, "DiffPool": 32}
    assert parameters(net) == sum(kernels) + biases[method] + linear(32, 2)
    batch, *_ = graphs(net, (19, 14), 7)
    with torch.no_grad():
        losses = net(batch.x, batch.a).losses
    penalty = sum(float(value) for name, value in losses.items() if name == "l2" or "regularization" in name)
    of_head = set(net.head.parameters())
    squares = [float(p.detach().square().sum()) for p in net.parameters() if p.ndim == 2 and p not in of_head]
    assert penalty == pytest.approx(1e-4 * sum(squares), rel=1e-5)
    assert config.callbacks.monitor == "val/total_loss" and config.loss_weights == 1.0
    assert config.batch_size == (1 if method in ("MinCutPool", "DiffPool") else 8)
    assert not any(p.any() for p in net.parameters() if p.ndim == 1)  # biases begin at 0


def test_features_of_mincut_are_one_hot_but_for_a_scaled_clustering_coefficient() -> None:
    config = config_of(MINCUT, "No-pool", "PROTEINS")
    assert config.feature_scale == "standard"
    assert config.dataset.arguments["features"] == ["degree", "clustering", "attributes-one-hot", "labels"]


def test_clusterings_of_mincut_have_no_hidden_layer_and_diffpool_none_before_it() -> None:
    facts = DataFacts(in_channels=50, out_channels=0, mean_nodes=90.0, classes=7)
    table = "bianchi2020_mincut/clustering"
    net = network(config_of(table, "MinCutPool", "Cora"), facts)
    assert parameters(net) == gcs(50, 16) + linear(16, 7)
    alone = network(config_of(table, "DiffPool", "Cora"), facts)
    assert parameters(alone) == 50 * 16 + 50 * 7
    batch, *_ = graphs(alone, (30,), 50)
    out = alone(batch.x, batch.a)
    assert out.y.shape == (30, 7) and set(out.losses) == {"link", "entropy"}
    torch.testing.assert_close(out.y.sum(-1), torch.ones(30))
    drawn = [layer.weight for layer in net.block.modules() if isinstance(layer, nn.Linear)]
    assert all(abs(float(w.detach().std()) * 5.0 - 1.0) < 0.15 for w in drawn)  # He: sqrt(2 / 50) = 1 / 5


# ------------------------------------------------------------------------------------------------ Tsitsulin et al. 2023

DMON = "tsitsulin2023_dmon/clustering_citation"


def test_dmon_has_a_trained_skip_and_dropout_on_an_orthogonal_assignment() -> None:
    config = config_of(DMON, "DMoN", "Cora")
    net = network(config, DataFacts(in_channels=50, out_channels=0, mean_nodes=90.0, classes=7))
    # The weights, the bias, a number a column for the skip; the assignment.
    assert parameters(net) == 50 * 64 + 64 + 64 + linear(64, 16)
    (layer,) = net.block.layers
    assert float(layer.omega.detach().abs().max()) <= (6 / 128) ** 0.5 < 2 * float(layer.omega.detach().abs().max())
    (weight,) = [p for p in net.pool.parameters() if p.ndim == 2]
    torch.testing.assert_close(weight @ weight.T, torch.eye(16), rtol=0, atol=1e-5)
    assert config.pool.arguments["mlp_dropout"] == 0.5 and config.pool.arguments["collapse_regularization"] == 1.0
    assert net.block.activations == [F.selu] and config.trainer.max_epochs == 1000
    assert "normalize" not in config.dataset.arguments or not config.dataset.arguments["normalize"]


# --------------------------------------------------------------------------------------------------- Errica et al. 2020

ERRICA = "errica2020_fair/chemical"
#: ENZYMES: three labels and 18 attributes, six classes.
ENZYMES = DataFacts(in_channels=21, out_channels=6, mean_nodes=32.6, sizes=(10, 30, 126))


def rootless(n: int, last: int, of_assignment: bool = False) -> int:
    """Three layers of GraphSAGE without the node itself, two of them normalised; the logits of an assignment."""
    layers = linear(n, 64) + linear(64, 64) + 2 * 2 * 64 + linear(64, last)
    return layers + linear(64 + 64 + last, last) * of_assignment


def test_diffpool_of_the_fair_comparison_has_the_weights_of_its_script() -> None:
    config = config_of(ERRICA, "DiffPool", "ENZYMES")
    net = network(config, ENZYMES)
    assert [pool.k for pool in net.pools] == [32, 8]  # a quarter of 126, and of that
    embedding = rootless(21, 128) + 2 * rootless(256, 128)
    assignment = rootless(21, 32, True) + rootless(256, 8, True)
    assert parameters(net) == embedding + assignment + linear(3 * 256, 50) + linear(50, 6)
    assert config.batch_size == 8 and config.trainer.gradient_clip_val == 2.0 and config.callbacks.ties == "last"


def test_diffpool_of_the_fair_comparison_is_what_pyg_computes_over_padded_graphs_in_training() -> None:
    words = ["model.hidden=5", "model.last=6", "pool.k=4", "model.levels=1"]
    net = network(config_of(ERRICA, "DiffPool", "ENZYMES", *words), ENZYMES).train()
    batch, edges, graph = graphs(net, (9, 4, 6), 21)
    x, mask = to_dense_batch(batch.x, graph)
    a = to_dense_adj(edges, graph)

    def block(given: SAGEBlock, x: Tensor, a: Tensor, mask: Tensor | None) -> Tensor:
        found = []
        for number, layer in enumerate(given.layers):
            x = layer.neighbours(a @ x / a.sum(-1, keepdim=True).clamp(min=1)) + layer.bias
            x = x if mask is None else x * mask.unsqueeze(-1)
            if number < 2:
                x = F.batch_norm(x.relu().flatten(0, 1), None, None, training=True).reshape(x.shape)
            found.append(x)
        return given.linear(torch.cat(found, -1))

    with torch.no_grad():
        s, first = block(net.pools[0].gnn, x, a, mask), block(net.blocks[0], x, a, mask)
        pooled, adj, *_ = dense_diff_pool(first, a, s, mask)
        second = block(net.blocks[1], pooled, adj, None)
        expected = net.head(torch.cat([pooled.amax(1), second.amax(1)], -1))
        torch.testing.assert_close(net(batch.x, batch.a).y, expected, rtol=1e-3, atol=1e-4)


def test_gin_and_the_baseline_of_the_fair_comparison_have_the_weights_of_their_scripts() -> None:
    gin = network(config_of(ERRICA, "GIN", "ENZYMES"), ENZYMES)
    layers = [linear(n, 64) + linear(64, 64) + 2 * 2 * 64 for n in (21, 64, 64, 64, 64)]
    # Four trained eps; a linear layer on what stands after each of the five, of which one bias is enough.
    assert parameters(gin) == sum(layers) + 4 + linear(5 * 64, 6)
    sets = network(config_of(ERRICA, "Baseline (no structure)", "ENZYMES", "model.hidden=256"), ENZYMES)
    assert parameters(sets) == linear(21, 256) + linear(256, 256) + linear(256, 6)


# ------------------------------------------------------------------------------- Bianchi & Lachi 2023, Wang et al. 2024


def test_the_expressiveness_protocol_has_two_normalised_layers_before_its_pool_and_one_that_is_not_after() -> None:
    config = config_of("bianchi2023_expressive/expwl1_accuracy", "MinCut", "CEXP-WL1")
    net = network(config, DataFacts(in_channels=2, out_channels=2, mean_nodes=55.9))
    before = [linear(n, 64) + linear(64, 64) + 2 * 64 for n in (2, 64)]
    head = linear(64, 64) + linear(64, 32) + linear(32, 2)
    assert parameters(net) == sum(before) + linear(64, 6) + linear(64, 64) + linear(64, 64) + head
    assert config.loss_weights == {"cut": 0.5, "ortho": 1} and config.optimizer.arguments["lr"] == 1e-4
    alone = network(config_of("bianchi2023_expressive/expwl1_accuracy", "SAGPool", "CEXP-WL1"),
                    DataFacts(in_channels=2, out_channels=2, mean_nodes=55.9))  # fmt: skip
    assert [len(block.layers) for block in alone.blocks] == [1, 1]


def test_wang_et_als_diffpool_assigns_by_three_layers_of_what_its_level_is_given() -> None:
    config = config_of("wang2024_poolbench/accuracy", "DiffPooling", "PROTEINS")
    net = network(config, DataFacts(in_channels=4, out_channels=2, mean_nodes=39.0))

    def assignment(n: int) -> int:
        return linear(n, 64) + 2 * linear(64, 64) + 3 * 2 * 64

    assert parameters(net) == (
        linear(4, 64) + 2 * linear(64, 64) + assignment(4) + assignment(64) + linear(64, 32) + linear(32, 2)
    )
    assert config.loss_weights == 0.0 and config.callbacks.patience == 150 and config.callbacks.tolerance == 1e-4
    split = Parts.of(config).protocol.split(torch.zeros(200, dtype=torch.int64), "f")
    assert split.sizes["test"] == split.sizes["val"] == 30
