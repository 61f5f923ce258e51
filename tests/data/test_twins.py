"""Isomorphic graphs: found exactly, counted, and left out."""

from __future__ import annotations

import itertools
import os

import networkx as nx
import pytest
import torch

from poolbench.data.generators.csl import CSL
from poolbench.data.prepare import prepare
from poolbench.data.raw import RawGraphs
from poolbench.data.sources.tu import TUDataset
from poolbench.data.twins import Twins, deduplicate, find, take
from poolbench.errors import PoolBenchError


def raw_of(graphs: list[nx.Graph], y: list[int] | None = None) -> RawGraphs:
    """Graphs of networkx with nodes 0 .. n - 1; `label` of nodes and `kind` of edges where they have them."""
    directed = [graph.to_directed() for graph in graphs]
    edges, labels, kinds, start = [], [], [], 0
    for graph in directed:
        for u, v in sorted(graph.edges):
            edges.append((u + start, v + start))
            kinds.append([graph.edges[u, v].get("kind", 0)])
        labels += [[graph.nodes[node].get("label", 0)] for node in sorted(graph)]
        start += len(graph)
    return RawGraphs(
        name="toy",
        num_nodes=torch.tensor([len(graph) for graph in graphs]),
        edge_index=torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T.contiguous(),
        node_labels=torch.tensor(labels),
        edge_labels=torch.tensor(kinds),
        y=torch.tensor(y if y is not None else [0] * len(graphs)),
    )


def shuffled(graph: nx.Graph, seed: int) -> nx.Graph:
    order = torch.randperm(len(graph), generator=torch.Generator().manual_seed(seed)).tolist()
    return nx.relabel_nodes(graph, dict(zip(sorted(graph), order, strict=True)))


def brute_force(graphs: list[nx.Graph], **match: object) -> list[int]:
    first = list(range(len(graphs)))
    for i, j in itertools.product(range(len(graphs)), repeat=2):
        if j < i and first[i] == i and nx.is_isomorphic(graphs[i], graphs[j], **match):
            first[i] = first[j]
    return first


def test_colour_refinement_alone_would_be_wrong() -> None:
    """Pairs of regular graphs: every node looks alike, yet they are not isomorphic."""
    hexagon, triangles = nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
    prism, bipartite = nx.circular_ladder_graph(3), nx.complete_bipartite_graph(3, 3)
    rook = nx.convert_node_labels_to_integers(nx.line_graph(nx.complete_bipartite_graph(4, 4)))
    shrikhande = nx.Graph(
        (4 * a + b, 4 * ((a + i) % 4) + (b + j) % 4)
        for a in range(4) for b in range(4) for i, j in ((0, 1), (1, 0), (1, 1))
    )  # fmt: skip
    graphs = [hexagon, triangles, prism, bipartite, rook, shrikhande]
    assert find(raw_of(graphs + [shuffled(graph, 3) for graph in graphs])).first.tolist() == [*range(6), *range(6)]


def test_all_graphs_of_up_to_six_nodes() -> None:
    """The atlas holds each graph once, so that none has a twin; shuffled copies have exactly one."""
    atlas = [graph for graph in nx.graph_atlas_g()[1:] if len(graph) <= 6]
    count = len(atlas)
    found = find(raw_of(atlas + [shuffled(graph, k) for k, graph in enumerate(atlas)]))
    assert found.first.tolist() == [*range(count), *range(count)]
    assert found.distinct == count


def test_random_labelled_graphs_against_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for k in range(60):
        graph = nx.gnp_random_graph(5, 0.5, seed=k)
        for node in graph:
            graph.nodes[node]["label"] = int(torch.randint(2, (1,), generator=generator))
        for edge in graph.edges:
            graph.edges[edge]["kind"] = int(torch.randint(2, (1,), generator=generator))
        graphs.append(shuffled(graph, k))
    node = {"node_match": lambda a, b: a["label"] == b["label"]}
    edge = {"edge_match": lambda a, b: a["kind"] == b["kind"]}
    raw = raw_of(graphs)
    assert find(raw).first.tolist() == brute_force(graphs, **node)
    assert find(raw, labels=False).first.tolist() == brute_force(graphs)
    assert find(raw, edge_labels=True).first.tolist() == brute_force(graphs, **node, **edge)
    assert find(raw).distinct < find(raw, edge_labels=True).distinct


def test_directions_count() -> None:
    there, back, round_trip = [[0], [1]], [[1], [0]], [[0, 1], [1, 0]]
    index = torch.cat([torch.tensor(e) + 2 * k for k, e in enumerate((there, back, round_trip))], dim=1)
    raw = RawGraphs("d", torch.tensor([2, 2, 2]), index[:, index[0].argsort(stable=True)])
    assert find(raw).first.tolist() == [0, 0, 2] and find(raw).ceiling is None


def test_attributes_count_on_request() -> None:
    raw = RawGraphs(
        "a", torch.tensor([1, 1, 1]), torch.zeros(2, 0, dtype=torch.int64),
        node_attributes=torch.tensor([[0.0], [-0.0], [1.0]]), y=torch.tensor([0, 0, 1]),
    )  # fmt: skip
    assert find(raw).first.tolist() == [0, 0, 0]
    assert find(raw, attributes=True).first.tolist() == [0, 0, 2]


def test_long_paths_are_no_trouble() -> None:
    path = nx.path_graph(3000)
    assert find(raw_of([path, shuffled(path, 1), nx.star_graph(2999)])).first.tolist() == [0, 0, 2]


def test_the_ceiling_is_the_share_of_majorities() -> None:
    found = Twins(torch.tensor([0, 0, 0, 3, 3, 5]), torch.tensor([1, 1, 0, 0, 1, 0]))
    assert (found.distinct, found.ceiling) == (3, 4 / 6)
    assert found.contradicted.tolist() == [True] * 5 + [False]


def test_the_first_of_each_class_stays() -> None:
    triangle, path = nx.cycle_graph(3), nx.path_graph(3)
    raw = raw_of([triangle, path, shuffled(path, 2), triangle, nx.path_graph(2)], [0, 1, 0, 0, 1])
    assert deduplicate(raw).num_nodes.tolist() == [3, 3, 2] and deduplicate(raw).y.tolist() == [0, 1, 1]
    cleaned = deduplicate(raw, "cleaned")
    assert cleaned.num_nodes.tolist() == [3, 2] and cleaned.y.tolist() == [0, 1]
    assert deduplicate(raw, False) is raw
    assert deduplicate(deduplicate(raw)).fingerprint() == deduplicate(raw).fingerprint() != raw.fingerprint()
    with pytest.raises(PoolBenchError, match="deduplicate='yes'"):
        deduplicate(raw, "yes")


def test_cleaned_datasets_do_not_see_nodes_without_edges() -> None:
    path, lonely = nx.path_graph(3), nx.path_graph(3)
    lonely.add_node(3)
    raw = raw_of([path, lonely])
    assert deduplicate(raw).num_graphs == 2 and deduplicate(raw, "cleaned").num_nodes.tolist() == [3]


def test_take_takes_everything_along() -> None:
    raw = RawGraphs(
        "t",
        num_nodes=torch.tensor([2, 1, 3]),
        edge_index=torch.tensor([[0, 1, 3, 4], [1, 0, 4, 3]]),
        node_labels=torch.arange(6)[:, None],
        edge_attributes=torch.arange(4.0)[:, None],
        targets=torch.tensor([[0.5], [1.5], [2.5]], dtype=torch.float64),
        node_y=torch.arange(6),
        num_words=torch.tensor([1, 2, 1]),
        words=torch.tensor([7, 8, 9, 10]),
        train=torch.tensor([2, 1]),
        test=torch.tensor([0]),
    )
    kept = take(raw, [2, 0])
    assert kept.num_nodes.tolist() == [2, 3] and kept.edge_index.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2]]
    assert kept.node_labels[:, 0].tolist() == kept.node_y.tolist() == [0, 1, 3, 4, 5]
    assert kept.edge_attributes[:, 0].tolist() == [0, 1, 2, 3] and kept.targets[:, 0].tolist() == [0.5, 2.5]
    assert kept.words.tolist() == [7, 10] and (kept.train.tolist(), kept.test.tolist()) == ([1], [0])
    assert take(raw, []).num_graphs == 0 and take(raw, [0, 1, 2]).fingerprint() == raw.fingerprint()
    with pytest.raises(PoolBenchError, match="graphs 0 to 2, not 3"):
        take(raw, [3])


# name: distinct with node labels, ceiling, distinct as in the published cleaned sets (Ivanov et al., 2019)
KNOWN = {
    "MUTAG": (175, 1.0, 135),
    "PROTEINS": (1069, 1110 / 1113, 975),
    "ENZYMES": (595, 1.0, 595),
    "IMDB-BINARY": (537, 0.886, 493),
    "NCI1": (4039, 4103 / 4110, 3785),
}


@pytest.mark.mirror
@pytest.mark.skipif(not os.environ.get("POOLBENCH_MIRROR"), reason="POOLBENCH_MIRROR is not set")
@pytest.mark.parametrize("name", KNOWN)
def test_known_datasets(name: str) -> None:
    distinct, ceiling, cleaned = KNOWN[name]
    raw = TUDataset(name).load()
    found = find(raw)
    assert found.distinct == distinct and abs(found.ceiling - ceiling) < 1e-12
    assert TUDataset(name, deduplicate=True).load().num_graphs == distinct
    assert TUDataset(name, deduplicate="cleaned").load().num_graphs == cleaned


def test_a_search_that_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Circulant graphs of one colour, of which none is another: backtracking would go through all of them."""
    monkeypatch.setattr("poolbench.data.prepare.PATIENCE", 0.5)
    found = prepare(CSL())
    assert found["twins"] == "not counted: graphs that colours do not tell apart took more than 0.5 s"
    assert found["to_predict"].startswith("10 classes") and "ceiling" not in found
    assert prepare(CSL(skips=(2, 3), copies=2, nodes=11))["twins"] == "2"
