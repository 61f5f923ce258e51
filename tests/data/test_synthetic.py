from __future__ import annotations

import pytest
import torch

from poolbench.data.prepare import prepare
from poolbench.data.synthetic import PlantedGraphs
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
