"""Perturbations: exactly the share that is asked for, in the graphs that are meant, the same whatever else there is."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from poolbench.data.features import Features, NodeFeatures
from poolbench.data.generators.plantednodes import PlantedNodes
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.perturb import (
    AddEdges,
    DropEdges,
    MaskFeatures,
    Perturbation,
    ReplaceFeatures,
    ReplaceGraph,
    _unranked,
)
from poolbench.data.prepared import Prepared
from poolbench.data.protocols import Holdout, Nodes, Transductive
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError

SIZES = [5, 1, 7, 4, 30]


def graphs(directed: bool = False, sizes: list[int] = SIZES) -> RawGraphs:
    """A path through each graph, and chords; labels of edges say which edge it was."""
    edges, start = [], 0
    for n in sizes:
        edges += [(start + k, start + k + 1) for k in range(n - 1)] + [(start + k, start + k + 3) for k in range(n - 3)]
        start += n
    index = torch.tensor(edges).T
    if not directed:
        index = torch.cat([index, index.flip(0)], 1)
    index = index[:, (index[0] * start + index[1]).argsort()]
    return RawGraphs("G", torch.tensor(sizes), index, edge_labels=torch.arange(index.shape[1])[:, None] + 7,
                     node_labels=torch.arange(start)[:, None] % 3, y=torch.arange(len(sizes)) % 2)  # fmt: skip


def all_of(raw: RawGraphs) -> Tensor:
    return torch.ones(raw.num_graphs, dtype=torch.bool)


def counts(raw: RawGraphs) -> list[int]:
    """Pairs of nodes with an edge, by graph."""
    owner = torch.repeat_interleave(torch.arange(raw.num_graphs), raw.num_nodes)
    assert torch.equal(owner[raw.edge_index[0]], owner[raw.edge_index[1]]), "an edge between two graphs"
    pairs = torch.stack([raw.edge_index.min(0).values, raw.edge_index.max(0).values]).unique(dim=1)
    return torch.bincount(owner[pairs[0]], minlength=raw.num_graphs).tolist()


def sound(raw: RawGraphs) -> None:
    row, col = raw.edge_index
    key = row * raw.total_nodes + col
    assert (row != col).all() and (key[1:] > key[:-1]).all(), "sorted, no loop, no edge twice"


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_edges_added_and_removed_are_the_share(directed: bool, share: float) -> None:
    raw = graphs(directed)
    before = counts(raw)
    fewer = DropEdges(share).graphs(raw, all_of(raw))
    more = AddEdges(share).graphs(raw, all_of(raw))
    for made in (fewer, more):
        sound(made)
        assert (not directed or not made.num_edges) is made.symmetric and torch.equal(made.num_nodes, raw.num_nodes)
    part = [int(share * m + 0.5) for m in before]
    free = [n * (n - 1) // 2 - m for n, m in zip(SIZES, before, strict=True)]
    assert counts(fewer) == [m - k for m, k in zip(before, part, strict=True)]
    assert counts(more) == [m + min(k, f) for m, k, f in zip(before, part, free, strict=True)]
    old = {tuple(e) for e in raw.edge_index.T.tolist()}
    assert {tuple(e) for e in fewer.edge_index.T.tolist()} <= old < {tuple(e) for e in more.edge_index.T.tolist()}


def test_a_new_edge_has_labels_of_its_graph_and_an_old_one_keeps_its_own() -> None:
    raw = graphs()
    label = {tuple(e): k for e, k in zip(raw.edge_index.T.tolist(), raw.edge_labels[:, 0].tolist(), strict=True)}
    owner = torch.repeat_interleave(torch.arange(raw.num_graphs), raw.num_nodes)
    of_graph = {k: {v for e, v in label.items() if owner[e[0]] == k} for k in range(raw.num_graphs)}
    made = AddEdges(0.5).graphs(raw, all_of(raw))
    for edge, value in zip(made.edge_index.T.tolist(), made.edge_labels[:, 0].tolist(), strict=True):
        assert value == label[tuple(edge)] if tuple(edge) in label else value in of_graph[int(owner[edge[0]])]


ALL: list[Perturbation] = [
    AddEdges(0.5), DropEdges(0.5), MaskFeatures(0.5), ReplaceFeatures("random"), ReplaceGraph("random"),
    ReplaceGraph("connected"), ReplaceGraph("complete"), ReplaceGraph("none"),
]  # fmt: skip


@pytest.mark.parametrize("one", ALL, ids=lambda one: f"{type(one).__name__}-{getattr(one, 'kind', '')}")
def test_a_graph_is_perturbed_the_same_whatever_else_is_and_others_stay(one: Perturbation) -> None:
    raw = graphs()
    x = NodeFeatures("labels")(raw)
    some = torch.tensor([False, False, True, False, True])
    whole, part = one.graphs(raw, all_of(raw)), one.graphs(raw, some)
    owner = torch.repeat_interleave(torch.arange(raw.num_graphs), raw.num_nodes)
    for k in range(raw.num_graphs):
        theirs = whole if some[k] else raw
        assert torch.equal(part.edge_index[:, owner[part.edge_index[0]] == k],
                           theirs.edge_index[:, owner[theirs.edge_index[0]] == k])  # fmt: skip
    everywhere, there = one.features(x, raw, all_of(raw)).values, one.features(x, raw, some).values
    rows = some[owner]
    assert torch.equal(there[rows], everywhere[rows]) and torch.equal(there[~rows], x.values[~rows])
    again = type(one)(**{k: v for k, v in vars(one).items() if k != "seed"}, seed=1)
    other = again.graphs(raw, all_of(raw)).edge_index, again.features(x, raw, all_of(raw)).values
    drawn = getattr(one, "kind", "") not in ("complete", "none")
    assert drawn is not (torch.equal(other[0], whole.edge_index) and torch.equal(other[1], everywhere))


@pytest.mark.parametrize("directed", [False, True])
def test_graphs_in_place_of_the_datasets(directed: bool) -> None:
    raw = graphs(directed)
    before = counts(raw)
    assert ReplaceGraph("none").graphs(raw, all_of(raw)).num_edges == 0
    complete = ReplaceGraph("complete").graphs(raw, all_of(raw))
    sound(complete)
    assert counts(complete) == [n * (n - 1) // 2 for n in SIZES]
    drawn = ReplaceGraph("random").graphs(raw, all_of(raw))
    sound(drawn)
    assert counts(drawn) == before
    # A matching has fewer edges than a tree: a connected graph then has as many as a tree.
    sparse = replace(raw, edge_index=raw.edge_index[:, :2], edge_labels=raw.edge_labels[:2])
    for given in (raw, sparse):
        joined = ReplaceGraph("connected").graphs(given, all_of(raw))
        sound(joined)
        assert counts(joined) == [max(m, n - 1) for n, m in zip(SIZES, counts(given), strict=True)]
        assert components(joined) == raw.num_graphs


def components(raw: RawGraphs) -> int:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = torch.ones(raw.num_edges).numpy()
    return int(connected_components(coo_array((ones, tuple(raw.edge_index.numpy())), (raw.total_nodes,) * 2), False)[0])


def test_random_edges_fall_anywhere_alike() -> None:
    """4,000 graphs of 6 nodes with one edge each: all 15 pairs come, each in about a 15th."""
    n = torch.full((4000,), 6)
    raw = RawGraphs("G", n, torch.stack([torch.arange(4000) * 6, torch.arange(4000) * 6 + 1]), y=n % 2)
    made = ReplaceGraph("random").graphs(raw, all_of(raw))
    pair = made.edge_index.sort(0).values % 6
    seen = torch.bincount(pair[0] * 6 + pair[1], minlength=36)
    seen = seen[seen > 0]
    assert len(seen) == 15 and float(((seen - 4000 / 15) ** 2 / (4000 / 15)).sum()) < 36.1, "chi-squared, 14, p=.001"
    trees = ReplaceGraph("connected").graphs(raw, all_of(raw))
    lower, upper = trees.edge_index.min(0).values % 6, trees.edge_index.max(0).values % 6
    seen = torch.bincount(lower * 6 + upper, minlength=36)
    seen = seen[seen > 0]
    assert len(seen) == 15 and float(((seen - 20000 / 15) ** 2 / (20000 / 15)).sum()) < 36.1


def test_unranked_counts_all_pairs() -> None:
    import numpy as np

    for n in (2, 3, 9, 100, 5748):
        rank = np.arange(n * (n - 1) // 2) if n < 200 else np.array([0, n - 2, n - 1, n * (n - 1) // 2 - 1])
        first, second = _unranked(rank, np.full(len(rank), n))
        assert (first * n - first * (first + 1) // 2 + second - first - 1 == rank).all()
        assert ((first >= 0) & (first < second) & (second < n)).all()


def test_features_masked_and_replaced() -> None:
    raw = graphs()
    owner = torch.repeat_interleave(torch.arange(raw.num_graphs), raw.num_nodes)
    floats = Features(torch.rand(raw.total_nodes, 3) + 1, ["a", "b", "c"])
    words = Features(torch.randint(0, 4, (raw.total_nodes, 2)), ["a", "b"], (4, 4))
    masked = MaskFeatures(0.5).features(floats, raw, all_of(raw)).values
    gone = (masked == 0).all(1)
    assert torch.bincount(owner[gone], minlength=5).tolist() == [int(n / 2 + 0.5) for n in SIZES]
    assert torch.equal(masked[~gone], floats.values[~gone])
    found = MaskFeatures(0.5).features(words, raw, all_of(raw))
    assert found.vocabulary == (5, 5) and torch.equal((found.values == 4).all(1), gone)
    assert not ReplaceFeatures("none").features(floats, raw, all_of(raw)).values.any()
    assert (ReplaceFeatures("none").features(words, raw, all_of(raw)).values == 4).all()
    assert (ReplaceFeatures("constant").features(floats, raw, all_of(raw)).values == 1).all()
    drawn = ReplaceFeatures("random").features(Features(torch.zeros(47, 300), []), raw, all_of(raw)).values
    assert abs(float(drawn.mean())) < 0.03 and abs(float(drawn.var()) - 1) < 0.03
    assert set(ReplaceFeatures("random").features(words, raw, all_of(raw)).values.flatten().tolist()) == {0, 1, 2, 3}
    nodes = ReplaceFeatures("node").features(floats, raw, all_of(raw)).values
    assert nodes.shape == (47, 30) and nodes.argmax(1).tolist() == [k for n in SIZES for k in range(n)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AddEdges(0), r"perturb.share=0 must be a share above 0 and at most 1"),
        (lambda: DropEdges(1.01), r"perturb.share=1.01 must be"),
        (lambda: MaskFeatures("half"), r"perturb.share='half' must be"),
        (lambda: MaskFeatures(True), r"perturb.share=True must be"),
        (lambda: AddEdges(0.5, at="val"), r"perturb.at='val' is none of both, train, test"),
        (lambda: AddEdges(0.5, seed=-1), r"perturb.seed=-1 must be a whole number"),
        (lambda: ReplaceGraph("ring"), r"perturb.kind='ring' is none of none, complete, random, connected"),
        (lambda: ReplaceFeatures("zeros"), r"perturb.kind='zeros' is none of"),
        (lambda: ReplaceFeatures("node", at="test"), r"perturb.kind=node has other columns"),
    ],
)
def test_bad_arguments_are_a_line(make: Any, said: str) -> None:
    with pytest.raises(PoolBenchError, match=said):
        make()


def test_what_no_machine_holds_is_refused() -> None:
    n = torch.tensor([20_000])
    raw = RawGraphs("big", n, torch.tensor([[0, 1], [1, 0]]), y=torch.tensor([0]))
    with pytest.raises(PoolBenchError, match="dataset big would have 399,980,002 edges, and 100,000,000 are the most"):
        ReplaceGraph("complete").graphs(raw, all_of(raw))
    n = torch.tensor([200_000])
    raw = RawGraphs("big", n, torch.tensor([[0, 1], [1, 0]]), y=torch.tensor([0]))
    with pytest.raises(PoolBenchError, match=r"make a matrix of 149.0 GiB"):
        ReplaceFeatures("node").features(Features(torch.zeros(200_000, 1), ["a"]), raw, all_of(raw))


def test_parts_of_a_split_and_what_is_computed_from_the_graph() -> None:
    """Degrees are those of the perturbed graphs; the fingerprint and the split are the dataset's."""
    dataset = PlantedGraphs(num_graphs=40, features="degree-scalar")
    plain = Prepared.of(dataset, Holdout(0), None)
    for at, parts in (("test", ("test",)), ("train", ("train", "val")), ("both", ("train", "val", "test"))):
        made = Prepared.of(dataset, Holdout(0), None, ReplaceGraph("none", at=at))
        assert made.fingerprint == plain.fingerprint and made.split.hash == plain.split.hash
        own = torch.zeros(40, dtype=torch.bool)
        for part in parts:
            own[getattr(made.split, part)] = True
        rows = torch.repeat_interleave(own, made.raw.num_nodes)
        assert not made.x.values[rows].any() and torch.equal(made.x.values[~rows], plain.x.values[~rows])
    with pytest.raises(PoolBenchError, match="nodes are split here"):
        Prepared.of(PlantedNodes(num_nodes=60, degree=4.0), Nodes(), None, DropEdges(0.5, at="test"))
    with pytest.raises(PoolBenchError, match=r"perturb\.at=test: this protocol has no graphs in that part"):
        Prepared.of(dataset, Transductive(), None, DropEdges(0.5, at="test"))


def test_thousands_of_graphs_in_a_second() -> None:
    n = torch.full((10_000,), 40)
    start = (torch.arange(10_000) * 40).repeat_interleave(60)
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(10_000, 780, generator=generator).topk(60, 1).indices.sort(1).values.flatten().numpy()
    import numpy as np

    first, second = (torch.from_numpy(part) + start for part in _unranked(one, np.full(len(one), 40)))
    raw = RawGraphs("G", n, torch.stack([first, second]), y=n % 2)
    began = time.process_time()
    made = AddEdges(0.5).graphs(raw, all_of(raw))
    assert time.process_time() - began < 5
    assert counts(made) == [90] * 10_000
