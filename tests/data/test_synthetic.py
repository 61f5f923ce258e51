from __future__ import annotations

import pytest
import torch

from poolbench.data.generators.multipartite import Multipartite
from poolbench.data.generators.plantednodes import PlantedNodes
from poolbench.data.generators.pointclouds import Grid2d, Ring
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.prepare import prepare
from poolbench.errors import PoolBenchError


def test_the_same_graphs_on_every_machine() -> None:
    assert (
        PlantedGraphs(num_graphs=20).load().fingerprint()
        == "c8498272bef6d6d90897e359ba7f652941253857397ea77ad2b62512658b0390"
    )
    assert (
        PlantedGraphs(num_graphs=20, seed=1).load().fingerprint() != PlantedGraphs(num_graphs=20).load().fingerprint()
    )


def test_graphs_are_as_described() -> None:
    dataset = PlantedGraphs()
    raw = dataset.load()
    stats = raw.stats()
    assert (stats["graphs"], stats["classes"], stats["node_attributes"]) == (300, 3, 8)
    assert raw.symmetric and int(raw.num_nodes.min()) >= 24 and stats["max_nodes"] <= 48
    row, col = raw.edge_index
    key = row * raw.total_nodes + col
    assert (key.diff() > 0).all() and (row != col).all()
    graph = torch.repeat_interleave(torch.arange(raw.num_graphs), raw.num_nodes)
    assert (graph[row] == graph[col]).all()
    # the degree must not give the class away
    degree = torch.stack([raw.degree()[raw.y[graph] == c].double().mean() for c in range(3)])
    assert (degree - 6).abs().max() < 0.2
    assert dataset.node_features(raw)[0].shape == (raw.total_nodes, 8)


def test_one_community_is_a_plain_random_graph() -> None:
    raw = PlantedGraphs(num_graphs=40, communities=(1, 4)).load()
    degree = torch.stack([raw.num_nodes, raw.num_nodes]).double().mean()
    assert degree > 24 and abs(raw.num_edges / raw.total_nodes - 6) < 0.5


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_graphs": 0},
        {"communities": [2]},
        {"communities": [2, 2]},
        {"communities": [2, 9]},
        {"nodes": [30, 20]},
        {"nodes": [5, 9]},
        {"degree": 0},
        {"inside": 1.5},
        {"seed": -1},
        {"features": "labels?"},
    ],
)
def test_wrong_arguments(arguments: dict) -> None:
    with pytest.raises(PoolBenchError):
        PlantedGraphs(**arguments)


def test_prepare_needs_no_folder() -> None:
    facts = prepare(PlantedGraphs(num_graphs=9))
    assert facts["source"] == "generated" and facts["path"] is None and facts["graphs"] == 9


# ---------------------------------------------------------------- one graph with planted communities


def test_planted_nodes_are_the_same_on_every_machine() -> None:
    raw = PlantedNodes().load()
    assert raw.fingerprint() == "5bf29000fe6c65b9e51a511072f9fae52ba5830d78b3b1bb508f05b58a0b6102"
    assert PlantedNodes(seed=1).load().fingerprint() != raw.fingerprint()


def test_planted_nodes_are_as_described() -> None:
    dataset = PlantedNodes(num_nodes=1003, degree=12, communities=4, inside=0.75)
    raw = dataset.load()
    row, col = raw.edge_index
    assert raw.num_graphs == 1 and raw.symmetric and (row != col).all()
    assert ((row * raw.total_nodes + col).diff() > 0).all()
    assert raw.num_edges == 2 * 1003 * 6 and raw.node_y.bincount().tolist() == [250, 251, 251, 251]
    assert (raw.node_y[row] == raw.node_y[col]).sum() == 2 * round(6018 * 0.75)
    assert (raw.node_y[:20] != raw.node_y[0]).any()  # nodes are not in the order of communities
    means = torch.stack([raw.node_attributes[raw.node_y == c].mean(0) for c in range(4)])
    assert (means - torch.eye(4)).abs().max() < 0.25
    assert abs(raw.node_attributes.var().item() - (1 + 3 / 16)) < 0.1
    assert dataset.target(raw).kind == "none"
    # edges are spread evenly: degrees vary about as those of a Poisson distribution do
    assert abs(raw.degree().double().var().item() / 12 - 1) < 0.2


def test_every_possible_edge_can_come() -> None:
    counts = torch.zeros(6, 6)
    for seed in range(300):
        raw = PlantedNodes(num_nodes=6, degree=2, communities=2, inside=0.5, seed=seed).load()
        assert raw.num_edges == 12
        counts[raw.edge_index[0], raw.edge_index[1]] += 1
    off = counts[~torch.eye(6, dtype=torch.bool)]
    assert (counts.diagonal() == 0).all() and off.min() > 75 and off.max() < 165  # 120 each


def test_communities_share_colours_where_there_are_fewer() -> None:
    raw = PlantedNodes(num_nodes=60, degree=4, communities=3, colours=2, noise=0).load()
    assert raw.node_attributes.argmax(1).tolist() == (raw.node_y % 2).tolist()


def test_a_large_planted_graph_takes_no_matrix() -> None:
    """100,000 nodes and a million edges: nothing may grow with the number of pairs."""
    raw = PlantedNodes(num_nodes=100_000, degree=20, communities=10).load()
    assert raw.num_edges == 2_000_000


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_nodes": 1},
        {"num_nodes": 7, "communities": 4},
        {"num_nodes": 20, "degree": 15},
        {"num_nodes": 100, "degree": 30, "communities": 10},
        {"communities": 1},
        {"inside": 1.1},
        {"noise": -1},
        {"colours": 0},
        {"num_nodes": 1000.0},
    ],
)
def test_wrong_arguments_of_planted_nodes(arguments: dict) -> None:
    with pytest.raises(PoolBenchError, match="planted-nodes: "):
        PlantedNodes(**arguments)


# ---------------------------------------------------------------- multipartite graphs


def test_multipartite_graphs_are_the_same_on_every_machine() -> None:
    raw = Multipartite(graphs_per_class=2).load()
    assert raw.fingerprint() == "f1987266425624a349912826f7b43fb018d35732ca7d674b968e3bc43103ad2b"


def test_multipartite_graphs_are_as_described() -> None:
    raw = Multipartite(clusters=4, largest=5, graphs_per_class=30).load()
    assert raw.y.tolist() == [c for c in range(4) for _ in range(30)] and raw.symmetric
    graph = torch.repeat_interleave(torch.arange(120), raw.num_nodes)
    cluster = raw.node_attributes[:, 2].long()
    sizes = torch.zeros(120, 4, dtype=torch.int64).index_put_((graph, cluster), torch.tensor(1), accumulate=True)
    assert sizes.min() == 1 and sizes.max() == 5
    # joined to all other nodes of the graph but those of the own cluster
    assert torch.equal(raw.degree(), raw.num_nodes[graph] - sizes[graph, cluster])
    row, col = raw.edge_index
    assert (graph[row] == graph[col]).all() and (cluster[row] != cluster[col]).all()
    assert ((row * raw.total_nodes + col).diff() > 0).all()
    # the vertex nearest to a node tells its class from its cluster, and the centres lie at distance 20 C
    angle = torch.atan2(raw.node_attributes[:, 1], raw.node_attributes[:, 0]) / (2 * torch.pi) * 4
    assert torch.equal((cluster - angle.round().long()) % 4, raw.y[graph])
    assert abs(raw.node_attributes[:, :2].norm(dim=1).mean() - 80) < 0.5
    assert abs((raw.node_attributes[:, :2] - raw.node_attributes[:, :2].round(decimals=-1)).var().item() - 1) < 0.2


# ---------------------------------------------------------------- point clouds


def test_grid() -> None:
    """As PyGSP numbers it: along x first, from the top row down."""
    dataset = Grid2d(rows=2, columns=3)
    raw = dataset.load()
    expected = [[0, 0.5], [1 / 3, 0.5], [2 / 3, 0.5], [0, 0], [1 / 3, 0], [2 / 3, 0]]
    torch.testing.assert_close(raw.node_attributes, torch.tensor(expected))
    pairs = {tuple(pair) for pair in raw.edge_index.T.tolist()}
    assert pairs == {(a, b) for e in ((0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)) for a, b in (e, e[::-1])}
    assert dataset.target(raw).kind == "none" and raw.y is None
    default = Grid2d().load()
    assert default.total_nodes == 64 and default.num_edges == 2 * 112
    assert default.fingerprint() == "6ca6b0b7a8a0f8285fd5734664fe96535e9b8c07e46f15aa7921880e34eb3e1f"


def test_ring() -> None:
    raw = Ring(4).load()
    assert raw.node_attributes.tolist() == [[1, 0], [0, 1], [-1, 0], [0, -1]]
    assert raw.edge_index.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3], [1, 3, 0, 2, 1, 3, 0, 2]]
    assert Ring().load().fingerprint() == "5a78829ecb0f9aabfccf19c2fabe73d07549a091c506c505637472292bcb34ce"


@pytest.mark.parametrize(
    ("cls", "arguments"), [(Ring, {"num_nodes": 2}), (Grid2d, {"rows": 1}), (Grid2d, {"columns": "8"})]
)
def test_wrong_arguments_of_point_clouds(cls: type, arguments: dict) -> None:
    with pytest.raises(PoolBenchError, match="must be a whole number"):
        cls(**arguments)
