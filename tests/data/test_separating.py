"""The generated sets that separate pooling operators: what differs between their classes, and what must not."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
import torch

from poolbench.data import refinement
from poolbench.data.dataset import GraphDataset
from poolbench.data.generators import graphuniverse
from poolbench.data.generators.ba2motif import BA2Motif
from poolbench.data.generators.csbm import ContextualSBM
from poolbench.data.generators.csl import CSL
from poolbench.data.generators.goodmotif import GoodMotif
from poolbench.data.generators.graphuniverse import GraphUniverse
from poolbench.data.generators.only import Only, OnlyClusters, OnlyFeatures, OnlyNodes, OnlyStructure
from poolbench.data.generators.shapes import CRANE, CYCLE, HOUSE, Shape, base
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError

FAMILY = (OnlyFeatures, OnlyNodes, OnlyClusters, OnlyStructure)
PRINTS = {
    ContextualSBM: "f89d1a7b0c0ee66c2a988cc34eda18efc5b38f87feb609b1b093cc00bc5ad217",
    OnlyFeatures: "b7d4732a72144b37524fa9b60ceb357dca0f275f90ee546b66afd4f1e33b435f",
    OnlyNodes: "4ff22a810925215f4981979e86730f123d9b607d72be52ec73580f5c662b252f",
    OnlyClusters: "29dee614012ac5fe3f009d4df543cead93117c10f39a4275f3928fa78fc48b88",
    OnlyStructure: "403e33b8a53087df920032446fc279b72f0f6438844822a6cdec627d4b69bd84",
    GoodMotif: "695edabbd564d60fd21e417d545c2c6ad118a375d7077272c319e02864ac6763",
    BA2Motif: "bbcadac0b9fc75d2493c7aa70a66b86ed0b3e4ff54898e7f2d6cb5425cb75ccb",
    CSL: "2f0a9925db5217493879a94ab4dc287528f452c6ff4141abbeaeedc54d2b1cc2",
}


def graph_of(raw: RawGraphs) -> torch.Tensor:
    """[N] which graph a node is of."""
    return torch.repeat_interleave(torch.arange(raw.num_graphs), raw.num_nodes)


def graphs(raw: RawGraphs) -> list[nx.Graph]:
    """Each graph by itself."""
    found, starts = [nx.empty_graph(n) for n in raw.num_nodes.tolist()], raw.num_nodes.cumsum(0) - raw.num_nodes
    graph = graph_of(raw)[raw.edge_index[0]]
    for number, (u, v) in zip(graph.tolist(), (raw.edge_index - starts[graph]).T.tolist(), strict=True):
        found[number].add_edge(u, v)
    return found


def shape(of: Shape) -> nx.Graph:
    made = nx.empty_graph(of.n)
    made.add_edges_from(of.edges.T.tolist())
    return made


def colours_at_edges(raw: RawGraphs) -> torch.Tensor:
    """[2, 3]: for each class, mean numbers of edges between nodes of colours 0 and 0, 0 and 1, 1 and 1."""
    row, col = raw.edge_index
    both = raw.node_labels[row, 0] + raw.node_labels[col, 0]
    key = raw.y[graph_of(raw)[row]] * 3 + both
    return torch.bincount(key, minlength=6).view(2, 3) / raw.num_graphs


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("cls", PRINTS)
def test_the_same_graphs_on_every_machine_and_others_for_another_seed(cls: Callable[..., GraphDataset]) -> None:
    size = {"copies": 2} if cls is CSL else {"num_graphs": 40}
    raw = cls(**size).load()
    assert raw.fingerprint() == PRINTS[cls]
    assert cls(**size, seed=1).load().fingerprint() != raw.fingerprint()
    row, col = raw.edge_index
    assert raw.symmetric and ((row * raw.total_nodes + col).diff() > 0).all() and (row != col).all()
    assert (graph_of(raw)[row] == graph_of(raw)[col]).all()
    assert raw.provenance["where"].endswith(", seed 0")


@pytest.mark.parametrize("cls", [c for c in PRINTS if c is not CSL])
def test_ten_thousand_graphs_take_seconds(cls: Callable[..., GraphDataset]) -> None:
    began = time.process_time()
    raw = cls(num_graphs=10_000).load()
    assert raw.num_graphs == 10_000 and time.process_time() - began < 10


@pytest.mark.parametrize(
    ("cls", "arguments", "text"),
    [
        (ContextualSBM, {"lam": -0.1}, r"lam \(lambda\) of 0 or more"),
        (ContextualSBM, {"lam": float("nan")}, "lam=nan must be a number of at most"),
        (ContextualSBM, {"lam": 4.0}, "lam=4.0 is too large: at degree=10.0 all edges are within .* from lam=3.2"),
        (ContextualSBM, {"nodes": 101}, "nodes=101 must be even"),
        (ContextualSBM, {"nodes": 4}, "nodes=4 must be a whole number, 6 or more"),
        (ContextualSBM, {"degree": 60}, "more than half of the pairs"),
        (ContextualSBM, {"degree": 0}, "expected degree > 0"),
        (ContextualSBM, {"mu": float("inf")}, "mu=inf must be a number"),
        (ContextualSBM, {"num_graphs": 1}, "num_graphs=1 must be"),
        (OnlyFeatures, {"excess": 49}, "excess=49 must be at most 48"),
        (OnlyFeatures, {"size": 4}, "more than half of the 48 and 128 pairs"),
        (OnlyNodes, {"inside": 1.1}, "inside between 0 and 1"),
        (OnlyClusters, {"purity": 0.4}, "purity=0.4 must be between 0.5 and 1"),
        (OnlyStructure, {"size": 12.0}, "size=12.0 must be a whole number"),
        (GoodMotif, {"shift": "sizes"}, r"shift='sizes' is none of none, base, size \(did you mean size"),
        (GoodMotif, {"num_graphs": 29}, "num_graphs=29 are too few for shift=base, 30 are needed"),
        (GoodMotif, {"noise": 2}, "noise between 0 and 1"),
        (GoodMotif, {"extra": 0.6}, "extra between 0 and 0.5"),
        (BA2Motif, {"base_nodes": 1}, "base_nodes=1 must be"),
        (ContextualSBM, {"degree": "abc"}, "degree='abc' must be a number"),
        (ContextualSBM, {"nodes": 10**9}, r"1,000 graphs of 1,000,000,000 nodes .* are the most; take fewer"),
        (ContextualSBM, {"num_graphs": 10**12}, "1,000,000,000,000 graphs of 100 nodes and 500 edges make"),
        (OnlyNodes, {"num_graphs": 10**7}, "are the most; take fewer"),
        (GoodMotif, {"num_graphs": 10**9}, "are the most; take fewer"),
        (BA2Motif, {"base_nodes": 10**7}, "are the most; take fewer"),
        (CSL, {"copies": 10**9}, "are the most; take fewer"),
        (CSL, {"skips": [2, 2]}, "two or more different numbers"),
        (CSL, {"skips": [2, 21]}, "each below nodes / 2"),
        (CSL, {"skips": [1, 2]}, "skips=1 must be a whole number, 2 or more"),
    ],
)
def test_bad_input_is_one_line(cls: type[GraphDataset], arguments: dict, text: str) -> None:
    with pytest.raises(PoolBenchError, match=text) as caught:
        cls(**arguments)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- contextual stochastic block models


def test_csbm_is_as_described() -> None:
    dataset = ContextualSBM(num_graphs=2000, nodes=60, degree=8, lam=1.5, mu=0.4)
    raw = dataset.load()
    assert raw.num_nodes.unique().tolist() == [60] and raw.y.bincount().tolist() == [1000, 1000]
    assert torch.bincount(graph_of(raw)[raw.edge_index[0]]).unique().tolist() == [2 * 240]  # exactly n d / 2 edges
    side = raw.node_y.view(-1, 60)
    assert side.sum(1).unique().tolist() == [30]
    row, col = raw.edge_index
    within = (raw.node_y[row] == raw.node_y[col]).view(2000, -1).double().mean(1)
    assert within[raw.y == 1].unique().tolist() == [dataset.near / 240]
    assert abs(within[raw.y == 0].mean() - 29 / 59) < 0.005
    # probabilities within and across differ by 2 lam sqrt(d) / n
    assert abs(dataset.near / (60 * 29 / 2) - dataset.far / (60 * 30 / 2) - 2 * 1.5 * 8**0.5 / 60) < 2e-3
    # the law of degrees is the same in both classes: its mean, variance and shares
    degree = raw.degree().view(-1, 60)
    shares = [torch.bincount(degree[raw.y == c].reshape(-1), minlength=25) / 60_000 for c in (0, 1)]
    assert (shares[0] - shares[1]).abs().max() < 0.008  # about three standard deviations
    x = raw.node_attributes.view(-1, 60, 4)
    for of_class in (0, 1):
        own, ours = x[raw.y == of_class], side[raw.y == of_class]
        assert abs(own[ours == 1][:, 0].mean() - 0.4) < 0.02 and abs(own[ours == 0][:, 0].mean() + 0.4) < 0.02
        assert (own[..., 1:].mean((0, 1))).abs().max() < 0.02
        assert (own.reshape(-1, 4).var(0) - torch.tensor([1.16, 1, 1, 1])).abs().max() < 0.03


def test_independent_edges_would_give_the_class_away_by_degrees() -> None:
    """What the circle is for: the variance of degrees, at the strength where nobody sees the communities."""
    raw = ContextualSBM(num_graphs=4000, lam=2.5).load()
    variance = raw.degree().view(-1, 100).double().var(1)
    halves = variance > variance.median()
    assert abs((halves == (raw.y == 0)).double().mean() - 0.5) < 0.03
    rng = np.random.default_rng(0)
    u, v = np.triu_indices(100, 1)
    p_out = (10 - 49 * 0.05 * 10**0.5) / 99
    p_in = p_out + 0.05 * 10**0.5
    plain = []
    for of_class in (0, 1):
        p = np.where(u % 2 == v % 2, p_in, p_out) if of_class else np.full(len(u), 10 / 99)
        a = np.zeros((1000, 100))
        for graph in range(1000):
            kept = rng.random(len(u)) < p
            a[graph] = np.bincount(u[kept], minlength=100) + np.bincount(v[kept], minlength=100)
        plain.append(a.var(1))
    middle = np.median(np.concatenate(plain))
    assert ((plain[0] > middle).mean() + (plain[1] <= middle).mean()) / 2 > 0.55


def test_no_communities_where_lambda_is_0() -> None:
    dataset = ContextualSBM(num_graphs=400, lam=0, mu=0)
    raw = dataset.load()
    row, col = raw.edge_index
    within = (raw.node_y[row] == raw.node_y[col]).view(400, -1).double().mean(1)
    assert (within.view(-1, 2).mean(0) - 49 / 99).abs().max() < 0.005
    assert abs(raw.node_attributes[raw.node_y == 1].mean()) < 0.02


@pytest.mark.parametrize("nodes", [6, 8, 10])  # with and without a place opposite among the likelier partners
def test_small_circles_hold_their_counts(nodes: int) -> None:
    dataset = ContextualSBM(num_graphs=20, nodes=nodes, degree=2, lam=0.2)
    raw = dataset.load()
    assert raw.num_edges == 20 * 2 * nodes and (dataset.near + dataset.far) == nodes


# ---------------------------------------------------------------- the family


@pytest.mark.parametrize("cls", FAMILY)
def test_the_family_is_alike_but_for_the_answer(cls: type[Only]) -> None:
    dataset = cls(num_graphs=4000)
    raw = dataset.load()
    assert raw.num_nodes.unique().tolist() == [96] and raw.y.bincount().tolist() == [2000, 2000]
    assert torch.bincount(graph_of(raw)[raw.edge_index[0]]).unique().tolist() == [2 * 288]
    colour, mark = raw.node_labels.view(-1, 96, 2).unbind(2)
    assert mark.sum(1).unique().tolist() == [1]
    ones = colour.sum(1)
    assert ones[raw.y == 0].unique().tolist() == [40 if cls is OnlyFeatures else 48]
    assert ones[raw.y == 1].unique().tolist() == [56 if cls is OnlyFeatures else 48]
    marked = (colour * mark).sum(1).double()
    expected = {OnlyNodes: (0, 1), OnlyFeatures: (40 / 96, 56 / 96)}.get(cls, (0.5, 0.5))
    assert abs(marked[raw.y == 0].mean() - expected[0]) < 0.04 and abs(marked[raw.y == 1].mean() - expected[1]) < 0.04
    degree = raw.degree().view(-1, 96)
    shares = [torch.bincount(degree[raw.y == c].reshape(-1), minlength=25) / 192_000 for c in (0, 1)]
    assert (shares[0] - shares[1]).abs().max() < 0.005
    if cls is not OnlyFeatures:  # edges join as many nodes of each pair of colours
        of_edges = colours_at_edges(raw)
        assert (of_edges[0] - of_edges[1]).abs().max() < 0.8
    if cls is not OnlyNodes:
        inside = raw.node_y[raw.edge_index[0]] == raw.node_y[raw.edge_index[1]]
        assert inside.view(4000, -1).sum(1).unique().tolist() == [2 * dataset.edges_inside]
        assert (torch.bincount(graph_of(raw) * 8 + raw.node_y) == 12).all()


def test_the_marked_node_is_the_salient_one() -> None:
    raw = OnlyNodes(num_graphs=50).load()
    assert torch.equal(raw.node_y, raw.node_labels[:, 1])
    assert torch.equal(raw.node_labels[raw.node_y == 1, 0], raw.y)


def test_clusters_say_the_answer() -> None:
    """The majority of each cluster, round the ring: where both neighbours differ or agree, it is class 1."""
    raw = OnlyClusters(num_graphs=200).load()
    key = graph_of(raw) * 8 + raw.node_y
    ones = torch.bincount(key, weights=raw.node_labels[:, 0].double()).view(-1, 8)
    assert ones.unique().tolist() == [3, 9]
    of_cluster = ones > 6
    same = of_cluster == of_cluster.roll(1, 1)
    assert same.sum(1).unique().tolist() == [4]
    turns = (same != same.roll(1, 1)).all(1)  # two and two by turns
    assert torch.equal(turns, raw.y == 0)


def test_structure_is_a_ring_of_clusters_or_none() -> None:
    raw = OnlyStructure(num_graphs=60).load()
    row, col = raw.edge_index
    step = (raw.node_y[row] - raw.node_y[col]) % 8
    ring = raw.y[graph_of(raw)[row]] == 0
    assert step[ring].unique().tolist() == [0, 1, 7]
    assert step[~ring].unique().tolist() == list(range(8))
    far = [max(nx.single_source_shortest_path_length(g, 0).values()) for g in graphs(raw)]
    assert np.mean(far[::2]) > np.mean(far[1::2]) + 0.5


# ---------------------------------------------------------------- motifs


def test_shapes() -> None:
    assert nx.is_isomorphic(shape(CYCLE), nx.cycle_graph(5))
    assert nx.is_isomorphic(shape(HOUSE), nx.house_graph())
    assert nx.is_isomorphic(shape(CRANE), nx.complete_bipartite_graph(2, 3))
    for width in (1, 2, 3, 4, 5, 9, 16):
        expected = {
            "ladder": nx.ladder_graph(width),
            "star": nx.star_graph(width),
            "path": nx.path_graph(width),
            "wheel": nx.wheel_graph(width),
            "tree": nx.balanced_tree(2, max(1, int(np.log2(width)) - 1)),
        }
        for kind, graph in expected.items():
            made = shape(base(kind, width))
            assert made.number_of_nodes() == graph.number_of_nodes() and nx.is_isomorphic(made, graph), (kind, width)


def test_ba_2motif_is_a_tree_with_a_motif() -> None:
    raw = BA2Motif(num_graphs=40).load()
    starts = raw.num_nodes.cumsum(0) - raw.num_nodes
    for number, graph in enumerate(graphs(raw)):
        start = int(starts[number])
        motif = set((raw.node_y[start : start + 25] == 1).nonzero()[:, 0].tolist())
        assert nx.is_isomorphic(graph.subgraph(motif), shape([HOUSE, CYCLE][int(raw.y[number])]))
        rest = graph.subgraph(set(graph) - motif)
        assert nx.is_tree(rest) and len(rest) == 20
        assert sum((u in motif) != (v in motif) for u, v in graph.edges) == 1
    assert raw.node_y[:25].tolist() != [0] * 20 + [1] * 5  # the number of a node does not tell


def test_trees_grow_by_degree() -> None:
    """With four nodes the third joins either of two, and the fourth the middle with probability 1/2: stars are half."""
    raw = BA2Motif(num_graphs=4000, base_nodes=4).load()
    row, col = raw.edge_index
    inner = (raw.node_y[row] == 0) & (raw.node_y[col] == 0)
    degree = torch.bincount(row[inner], minlength=raw.total_nodes)
    stars = degree.view(4000, 9).max(1).values == 3
    assert abs(stars.double().mean() - 0.5) < 0.03


@pytest.mark.parametrize("shift", ["none", "base", "size"])
def test_good_motif_is_as_described(shift: str) -> None:
    dataset = GoodMotif(num_graphs=600, shift=shift, extra=0, noise=0)
    raw = dataset.load()
    assert raw.y.bincount().tolist() == [200, 200, 200]
    assert torch.bincount(graph_of(raw), weights=raw.node_y.double()).unique().tolist() == [5]
    parts = dataset.official_split(raw)
    assert (parts is None) == (shift == "none")
    bases: list[str] = []
    starts = raw.num_nodes.cumsum(0) - raw.num_nodes
    for number, graph in enumerate(graphs(raw)):
        start, n = int(starts[number]), int(raw.num_nodes[number])
        motif = set((raw.node_y[start : start + n] == 1).nonzero()[:, 0].tolist())
        if number % 10 == 0:
            assert nx.is_isomorphic(graph.subgraph(motif), shape([HOUSE, CYCLE, CRANE][int(raw.y[number])]))
            assert sum((u in motif) != (v in motif) for u, v in graph.edges) == 1
        rest = graph.subgraph(set(graph) - motif)
        most = max(d for _, d in rest.degree)
        bases.append(
            "path" if nx.is_tree(rest) and most <= 2 else "star" if nx.is_tree(rest) and most == n - 6 else "other"
        )
    if parts is None:
        assert {"path", "star", "other"} == set(bases)
        return
    assert {part: len(of) for part, of in parts.items()} == {"train": 420, "val": 60, "test": 60, "id_test": 60}
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(600))
    if shift == "base":
        assert {bases[k] for k in parts["test"]} == {"path"} and {bases[k] for k in parts["val"]} == {"star"}
        # a tree of depth 1, three nodes, is a path: the smallest widths make it
        assert {bases[k] for part in ("train", "id_test") for k in parts[part]} <= {"other", "path"}
    else:
        sizes = [raw.num_nodes[part].double().mean().item() for part in parts.values()]
        assert sizes[1] > 1.7 * sizes[0] and sizes[2] > 1.7 * sizes[1] and sizes[3] < 1.2 * sizes[0]


def test_good_motif_adds_edges_and_noise() -> None:
    plain, noisy = (GoodMotif(num_graphs=3000, shift="none", extra=e, noise=n) for e, n in ((0, 0), (0.2, 0.3)))
    bare, raw = plain.load(), noisy.load()
    before, after = (torch.bincount(graph_of(r)[r.edge_index[0]]) // 2 for r in (bare, raw))
    assert torch.equal(after, before + (before * 0.2).long())
    assert abs((raw.y == bare.y).double().mean() - 0.8) < 0.03  # three in ten are drawn anew, a third of them alike
    row, col = raw.edge_index
    motif = raw.node_y.bool()
    within = torch.bincount(graph_of(raw)[row[motif[row] & motif[col]]]) // 2
    assert torch.equal(within, torch.tensor([6, 5, 6])[torch.arange(3000) % 3])


# ---------------------------------------------------------------- circular skip links


def test_csl() -> None:
    raw = CSL().load()
    assert raw.num_graphs == 150 and raw.y.bincount().tolist() == [15] * 10 and raw.degree().unique().tolist() == [4]
    found = graphs(raw)
    for number in (0, 20, 149):
        skip = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)[number // 15]
        assert nx.is_isomorphic(found[number], nx.circulant_graph(41, [1, skip]))
    assert set(found[0].edges) != set(found[1].edges)  # numbered anew
    assert len(set(refinement.classes(raw))) == 1


# ---------------------------------------------------------------- GraphUniverse


def test_graph_universe_is_asked_for() -> None:
    if graphuniverse.importlib.util.find_spec("graph_universe") is not None:
        assert GraphUniverse(num_graphs=5).load().num_graphs == 5
        return
    with pytest.raises(PoolBenchError, match="the package is not installed; pip install graph-universe"):
        GraphUniverse()


def test_what_the_package_makes_becomes_a_dataset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a stand-in of the package that has the parts of version 0.1.2 which are used."""
    asked: dict = {}

    class Family:
        def __init__(self, **arguments: object) -> None:
            asked.update(arguments)
            if arguments["n_communities_range"][1] > arguments["universe"].K:  # type: ignore[index, union-attr]
                raise ValueError("max_communities cannot exceed universe size (8)")

        def generate_family(self, **_: object) -> None:
            np.random.seed(5)
            self.graphs = [
                SimpleNamespace(
                    n_nodes=n, graph=nx.complete_graph(n), features=np.full((n, 2), n / 2.0),
                    community_labels_universe_level=np.arange(n) % 3, count_triangles_graph=lambda n=n: n,
                )
                for n in (3, 4, 5)
            ]  # fmt: skip

    package = types.ModuleType("graph_universe")
    package.GraphFamilyGenerator = Family  # type: ignore[attr-defined]
    package.GraphUniverse = SimpleNamespace  # type: ignore[attr-defined]
    package.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "graph_universe", package)
    monkeypatch.setattr(graphuniverse.importlib.metadata, "version", lambda name: "0.1.2")
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    dataset = GraphUniverse(num_graphs=3, seed=4)
    raw = dataset.load()
    assert np.array_equal(np.random.get_state()[1], before)
    assert asked["n_graphs"] == 3 and asked["seed"] == 4 and asked["universe"].seed == 0
    assert raw.num_nodes.tolist() == [3, 4, 5] and raw.num_edges == 6 + 12 + 20 and raw.symmetric
    assert raw.node_y.tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 0, 1] and raw.targets.tolist() == [[3], [4], [5]]
    assert dataset.target(raw).kind == "numbers" and raw.provenance["where"] == "graph-universe 0.1.2, seed 4"
    with pytest.raises(PoolBenchError, match="max_communities cannot exceed"):
        GraphUniverse(communities_of_graph=(2, 60)).load()
    with pytest.raises(PoolBenchError, match="must be the smallest and the largest value"):
        GraphUniverse(degree=(3, 2))
