from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch

from poolbench.data import encodings, features
from poolbench.data.features import NodeFeatures, edge_features
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError


def star(**changed: object) -> RawGraphs:
    """A centre with three leaves."""
    content: dict = {
        "name": "star",
        "num_nodes": torch.tensor([4]),
        "edge_index": torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]]),
        "node_labels": torch.tensor([[2], [4], [4], [2]]),
        "node_attributes": torch.tensor([[0.5], [1.5], [2.5], [3.5]]),
        "y": torch.tensor([0]),
    }
    return RawGraphs(**{**content, **changed})


def test_auto_is_labels_and_attributes() -> None:
    x, names, _ = NodeFeatures()(star())
    assert names == ["label0=2", "label0=3", "label0=4", "attribute0"]
    assert x.tolist() == [[1, 0, 0, 0.5], [0, 0, 1, 1.5], [0, 0, 1, 2.5], [1, 0, 0, 3.5]]
    assert x.dtype == torch.float32


def test_attributes_can_be_switched_off() -> None:
    assert NodeFeatures(use_node_attr=False)(star())[1] == ["label0=2", "label0=3", "label0=4"]
    assert NodeFeatures(use_node_attr=False)(star(node_labels=None))[1] == [f"degree={d}" for d in range(4)]


def test_degree_where_there_is_nothing_else() -> None:
    x, names, _ = NodeFeatures()(star(node_labels=None, node_attributes=None))
    assert names == ["degree=0", "degree=1", "degree=2", "degree=3"]
    assert x.argmax(1).tolist() == [3, 1, 1, 1] and x.sum(1).tolist() == [1] * 4


def test_large_degrees_share_a_column() -> None:
    x, names, _ = NodeFeatures("degree", max_degree=2)(star())
    assert names == ["degree=0", "degree=1", "degree>=2"] and x.argmax(1).tolist() == [2, 1, 1, 1]


def test_features_come_in_the_order_asked_for() -> None:
    x, names, _ = NodeFeatures(["constant", "degree-scalar", "attributes"])(star())
    assert names == ["constant", "log(1+degree)", "attribute0"]
    torch.testing.assert_close(x[0], torch.tensor([1.0, math.log(4), 0.5]))


def test_attributes_that_are_whole_numbers_can_be_one_hot() -> None:
    whole = star(node_attributes=torch.tensor([[3.0, -1.0], [-2.0, 1e9], [3.0, 0.0], [0.0, -0.0]]))
    x, names, _ = NodeFeatures("attributes-one-hot")(whole)
    assert names == [f"attribute0={v}" for v in (-2, 0, 3)] + [f"attribute1={v}" for v in (-1, 0, 10**9)]
    assert x.nonzero()[:, 1].view(4, 2).tolist() == [[2, 3], [0, 5], [2, 4], [1, 4]] and x.sum() == 8
    with pytest.raises(PoolBenchError, match=r"has 0.5 in its node attribute 0, and whole numbers are expected"):
        NodeFeatures("attributes-one-hot")(star())
    with pytest.raises(PoolBenchError, match=r"has no node attributes; choose from labels, degree, degree-binned"):
        NodeFeatures("attributes-one-hot")(star(node_attributes=None))


def test_all_label_columns_count_and_wide_ranges_are_closed_up() -> None:
    x, names, _ = NodeFeatures("labels")(star(node_labels=torch.tensor([[0, 10**6], [1, 5], [0, 5], [1, 10**6]])))
    assert names == ["label0=0", "label0=1", "label1=5", "label1=1000000"]
    assert x.tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1]]


def test_no_nodes() -> None:
    none = torch.zeros(0, 1, dtype=torch.int64)
    x, *_ = NodeFeatures()(
        star(
            num_nodes=torch.tensor([0]),
            edge_index=torch.zeros(2, 0, dtype=torch.int64),
            node_labels=none,
            node_attributes=none.float(),
        )
    )
    assert x.size(0) == 0


@pytest.mark.parametrize("name", ["labels", "attributes"])
def test_what_is_not_there_is_told(name: str) -> None:
    with pytest.raises(PoolBenchError, match=f"features={name}: dataset star has no node {name}; choose from degree"):
        NodeFeatures([name])(star(node_labels=None, node_attributes=None))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"features": "degre"}, "did you mean degree"),
        ({"features": ["labels", "auto"]}, "'auto' is unknown"),
        ({"features": []}, "at least one"),
        ({"features": ["labels", "labels"]}, "once"),
        ({"max_degree": 0}, "max_degree=0"),
        ({"use_node_attr": "yes"}, "use_node_attr='yes'"),
    ],
)
def test_wrong_arguments(arguments: dict, text: str) -> None:
    with pytest.raises(PoolBenchError, match=text):
        NodeFeatures(**arguments)


def test_a_matrix_beyond_reason_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MAX_BYTES", 15)
    with pytest.raises(PoolBenchError, match="choose others"):
        NodeFeatures()(star())


def test_degrees_in_bins_of_doubling_width() -> None:
    x, names, _ = NodeFeatures("degree-binned")(star())
    assert names == ["degree=0", "degree=1", "degree=2-3"] and x.argmax(1).tolist() == [2, 1, 1, 1]
    hub = graphs_of(nx.star_graph(9))
    assert NodeFeatures("degree-binned")(hub).names[-1] == "degree=8-15"
    assert NodeFeatures("degree-binned")(hub).values.argmax(1).tolist() == [4] + [1] * 9


def test_edge_features_are_labels_and_attributes() -> None:
    assert edge_features(star()) is None
    raw = star(edge_labels=torch.tensor([[1], [3], [1], [1], [3], [1]]), edge_attributes=torch.arange(6.0)[:, None])
    x, names, vocabulary = edge_features(raw)
    assert names == ["label0=1", "label0=2", "label0=3", "attribute0"] and vocabulary is None
    assert x[:2].tolist() == [[1, 0, 0, 0], [0, 0, 1, 1]] and x.dtype == torch.float32


# ---------------------------------------------------------------- structure


def graphs_of(*graphs: nx.Graph) -> RawGraphs:
    union = nx.disjoint_union_all([graph.to_directed() for graph in graphs])
    index = torch.tensor(sorted(union.edges), dtype=torch.int64).reshape(-1, 2).T.contiguous()
    return RawGraphs("g", torch.tensor([len(graph) for graph in graphs]), index)


MIXED = (
    nx.karate_club_graph(), nx.path_graph(1), nx.complete_graph(5), nx.star_graph(6), nx.empty_graph(3),
    nx.disjoint_union(nx.cycle_graph(4), nx.cycle_graph(7)), nx.gnp_random_graph(40, 0.1, seed=1),
)  # fmt: skip


def dense_walk(graph: nx.Graph) -> np.ndarray:
    a = nx.to_numpy_array(graph, weight=None)
    return a / np.maximum(a.sum(1), 1)[:, None]


def test_clustering_coefficients() -> None:
    x, names, _ = NodeFeatures("clustering")(graphs_of(*MIXED))
    expected = [value for graph in MIXED for value in nx.clustering(graph).values()]
    assert names == ["clustering"]
    torch.testing.assert_close(x[:, 0], torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("wedges", [1, 7, 1000])
def test_clustering_in_pieces(wedges: int, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = graphs_of(*MIXED)
    whole = encodings.clustering(raw)
    monkeypatch.setattr(encodings, "_WEDGES", wedges)
    assert np.array_equal(encodings.clustering(raw), whole)


@pytest.mark.parametrize("rows", [5, 1 << 12])
def test_return_probabilities(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "_ROWS", rows)
    x, names, _ = NodeFeatures(["random-walk-5"])(graphs_of(*MIXED))
    expected = []
    for graph in MIXED:
        step = dense_walk(graph)
        expected.append(np.stack([np.diag(np.linalg.matrix_power(step, k)) for k in range(1, 6)], axis=1))
    assert names == [f"random-walk{k}" for k in range(1, 6)]
    torch.testing.assert_close(x, torch.from_numpy(np.concatenate(expected)).float())


@pytest.mark.parametrize("dense", [256, 12])
def test_laplacian_eigenvectors(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """L v = lambda v with the eigenvalues in order, orthonormal, signs fixed; by Lanczos for the larger graphs."""
    monkeypatch.setattr(encodings, "_DENSE", dense)
    x, k, start = encodings.laplacian(graphs_of(*MIXED), 4), 4, 0
    for graph in MIXED:
        n = len(graph)
        degree = np.maximum(nx.to_numpy_array(graph, weight=None).sum(1), 1)
        laplacian = np.eye(n) - nx.to_numpy_array(graph, weight=None) / np.sqrt(np.outer(degree, degree))
        vectors, found = x[start : start + n], min(k, n - 1)
        assert (vectors[:, found:] == 0).all()
        vectors = vectors[:, :found]
        expected = np.linalg.eigvalsh(laplacian)[1 : found + 1]
        assert np.allclose(laplacian @ vectors, vectors * expected, atol=1e-7)
        assert np.allclose(vectors.T @ vectors, np.eye(found), atol=1e-7)
        if found:
            size = np.abs(vectors)
            top = (size > size.max(axis=0) - 1e-9).argmax(axis=0)  # the first of several
            assert (vectors[top, np.arange(found)] > 0).all()
        start += n
    assert np.array_equal(x, encodings.laplacian(graphs_of(*MIXED), 4))


def test_lanczos_misses_no_component(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty components make the eigenvalue 0 thirty times; a single Lanczos run sees it a few times."""
    monkeypatch.setattr(encodings, "_DENSE", 0)
    raw = graphs_of(nx.disjoint_union_all([nx.path_graph(k % 7 + 2) for k in range(30)]))
    x = encodings.laplacian(raw, 8)
    s = encodings.normalized(encodings.undirected(raw))
    assert np.allclose(s @ x, x, atol=1e-7) and np.allclose(x.T @ x, np.eye(8), atol=1e-7)


def test_directions_do_not_count() -> None:
    both = graphs_of(nx.complete_graph(4))
    upper = both.edge_index[:, both.edge_index[0] < both.edge_index[1]]
    one = RawGraphs("g", both.num_nodes, upper)
    for name in ("clustering", "random-walk", "laplacian-2"):
        assert torch.equal(NodeFeatures(name)(one).values, NodeFeatures(name)(both).values)
    assert NodeFeatures("random-walk")(both).values.shape == (4, 8)


@pytest.mark.parametrize("name", ["laplacian-0", "laplacian-", "random-walk-x", "clustering-3"])
def test_wrong_sizes(name: str) -> None:
    with pytest.raises(PoolBenchError, match="is unknown"):
        NodeFeatures(name)
