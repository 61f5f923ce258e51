"""What 1-WL tells apart, on graphs for which that is known."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import pytest
import torch

from poolbench.data import refinement
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.raw import RawGraphs


def raw_of(graphs: Sequence[nx.Graph], labels: Sequence[int] | None = None) -> RawGraphs:
    together = nx.disjoint_union_all(graphs)
    edges = sorted((u, v) for a, b in together.edges for u, v in ((a, b), (b, a)))
    return RawGraphs(
        "some",
        torch.tensor([len(g) for g in graphs]),
        torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T,
        node_labels=None if labels is None else torch.tensor(labels)[:, None],
    )


def test_colours_of_a_path() -> None:
    found = refinement.colours(raw_of([nx.path_graph(5)])).tolist()
    assert found[0] == found[4] and found[1] == found[3] and len({*found[:3]}) == 3


def test_six_ring_and_two_triangles_are_one_to_it() -> None:
    triangles = nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
    found = refinement.classes(raw_of([nx.cycle_graph(6), triangles, nx.cycle_graph(7), nx.path_graph(6)])).tolist()
    assert found[0] == found[1] and len(set(found)) == 3


def test_labels_tell_them_apart() -> None:
    """One node of each labelled: three steps away in the ring there is a node, in the triangle there is none."""
    triangles = nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
    found = refinement.classes(raw_of([nx.cycle_graph(6), triangles], [1, 0, 0, 0, 0, 0] * 2))
    assert found[0] != found[1]


def test_nodes_without_edges() -> None:
    raw = raw_of([nx.empty_graph(2), nx.empty_graph(2), nx.empty_graph(3)])
    assert refinement.classes(raw).tolist() == [0, 0, 1]


@pytest.mark.filterwarnings("ignore:The hashes produced for graphs without")
def test_as_the_hashes_of_networkx() -> None:
    raw = PlantedGraphs(num_graphs=60, nodes=(4, 5), communities=(1, 2), degree=2).load()
    starts = raw.num_nodes.cumsum(0) - raw.num_nodes
    graph = torch.repeat_interleave(torch.arange(60), raw.num_nodes)[raw.edge_index[0]]
    hashes = []
    for number, start in enumerate(starts.tolist()):
        one = nx.empty_graph(int(raw.num_nodes[number]))
        one.add_edges_from((raw.edge_index[:, graph == number] - start).T.tolist())
        hashes.append((len(one), nx.weisfeiler_lehman_graph_hash(one, iterations=6)))
    found = refinement.classes(raw).tolist()
    assert len(set(found)) == len(set(hashes)) == len(set(zip(found, hashes, strict=True))) < 60
