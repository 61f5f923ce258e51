"""MagEdgePool: distances and diversities against closed forms, and the edges that are contracted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from poolbench.pool import MagEdgePool
from poolbench.pool.base.geometry import DIVERSITIES, METRICS, edge_scores, magnitude, spread
from poolbench.pool.base.hostgraph import Array
from poolbench.pool.magedge import ranked

F64 = torch.float64


def random_graph(n: int, seed: int = 0, density: float = 0.4) -> Array:
    """Undirected, on a path."""
    hit = np.triu(np.random.default_rng(seed).random((n, n)) < density, 1) | np.eye(n, k=1, dtype=bool)
    return hit | hit.T


def path(n: int) -> Array:
    return np.eye(n, k=1, dtype=bool) | np.eye(n, k=-1, dtype=bool)


def pooled(graph: Array, **arguments: Any) -> Any:
    x = torch.arange(len(graph), dtype=F64).unsqueeze(-1)
    return MagEdgePool(return_selection=True, **arguments)(x, torch.from_numpy(graph).double())


def contracted_by_hand(graph: Array, a: int, b: int) -> Array:
    kept = [i for i in range(len(graph)) if i != b]
    one = graph.copy()
    for i in range(len(graph)):
        if graph[b, i] and i != a:
            one[a, i] = one[i, a] = True
    return one[np.ix_(kept, kept)]


def test_distances_of_a_path() -> None:
    a = path(3).astype(float)[None]
    line = np.array([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]])
    np.testing.assert_allclose(METRICS["shortest_path_distance"](a)[0], line)
    np.testing.assert_allclose(METRICS["resistance_distance"](a)[0], line, atol=1e-12)
    r = 2**-0.5  # rows of L: (1, -r, 0), (-r, 1, -r), (0, -r, 1)
    near, far = ((1 + r) ** 2 * 2 + r**2) ** 0.5, 2**0.5
    want = np.array([[0, near, far], [near, 0, near], [far, near, 0]])
    np.testing.assert_allclose(METRICS["diffusion_distance"](a)[0], want)


def test_resistances_in_parallel() -> None:
    triangle = 1.0 - np.eye(3)
    np.testing.assert_allclose(METRICS["resistance_distance"](triangle[None])[0], 2 / 3 * triangle, atol=1e-12)


def test_distances_of_spectra_are_between_embeddings_by_eigenvectors() -> None:
    """As the authors define both: node i goes to (f(lambda_1) v_1i, ..., f(lambda_n) v_ni)."""
    a = random_graph(9).astype(float)
    root = a.sum(1) ** -0.5
    values, vectors = np.linalg.eigh(np.eye(9) - root[:, None] * a * root)
    for metric, f in (("diffusion_distance", values), ("heat_kernel_distance", np.exp(-values))):
        rows = vectors * f
        want = np.linalg.norm(rows[:, None] - rows, axis=-1)
        np.testing.assert_allclose(METRICS[metric](a[None])[0], want, atol=1e-7)


def test_diversities_of_one_and_two_points() -> None:
    for d in (0.5, 3.0):
        two = np.array([[[0, d], [d, 0]]])
        np.testing.assert_allclose([magnitude(two), spread(two)], 2 / (1 + np.exp(-d)))
    assert magnitude(np.zeros((1, 1, 1))) == spread(np.zeros((1, 1, 1))) == 1


def test_magnitude_of_a_space_that_is_not_positive_definite() -> None:
    """Of K_5,5 with lengths of paths, e^-d has a negative eigenvalue; its neighbour in the stack has none."""
    half = np.kron(np.eye(2, dtype=bool), np.ones((5, 5), dtype=bool))
    bipartite, other = METRICS["shortest_path_distance"](np.stack([~half, random_graph(10)]).astype(float))
    z = np.exp(-bipartite)
    assert np.linalg.eigvalsh(z)[0] < 0
    found = magnitude(np.stack([bipartite, other]))
    np.testing.assert_allclose(found, [np.linalg.inv(z + 0.01 * np.eye(10)).sum(), magnitude(other[None])[0]])


@pytest.mark.parametrize("diversity", DIVERSITIES)
def test_scores_near_an_edge_are_those_of_the_whole_graph(diversity: str, monkeypatch: Any) -> None:
    """Among them edges whose ends share neighbours, and of a node without others."""
    graph = random_graph(30, density=0.15)
    graph[:, 29] = graph[29] = False
    graph[29, 4] = graph[4, 29] = True
    assert any((graph[u] & graph[v]).any() for u, v in np.argwhere(graph))
    found = []
    for bound in (1, 30):
        monkeypatch.setattr("poolbench.pool.base.geometry.NEARBY", bound)
        found.append(edge_scores(graph, "diffusion_distance", diversity)[1])
    np.testing.assert_allclose(*found, rtol=1e-10)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("diversity", DIVERSITIES)
def test_scores_are_those_of_contractions_one_by_one(metric: str, diversity: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("poolbench.pool.base.geometry.AT_ONCE", 200)  # several blocks
    graph = random_graph(8)
    edges, scores = edge_scores(graph, metric, diversity)
    assert edges.tolist() == [[u, v] for u in range(8) for v in range(u + 1, 8) if graph[u, v]]

    def div(g: Array) -> float:
        return float(DIVERSITIES[diversity](METRICS[metric](g.astype(float)[None]))[0])

    want = [abs(div(graph) - div(contracted_by_hand(graph, u, v))) for u, v in edges]
    np.testing.assert_allclose(scores, want, atol=1e-9)


def test_components_are_scored_and_contracted_side_by_side() -> None:
    one, other = random_graph(6, seed=1), random_graph(8, seed=2)
    both = np.zeros((15, 15), dtype=bool)  # the last node is alone
    both[:6, :6], both[6:14, 6:14] = one, other
    alone = [edge_scores(g, "diffusion_distance", "magnitude")[1] for g in (one, other)]
    np.testing.assert_allclose(edge_scores(both, "diffusion_distance", "magnitude")[1], np.concatenate(alone))
    out = pooled(both, ratio=0.1)
    assert out.s.of_node[14] == len(out.x) - 1
    assert len(out.x) == 3


def test_what_is_merged_is_averaged() -> None:
    """Nodes that are merged need not stand together; an edge that is contracted is a self-loop afterwards."""
    graph = random_graph(10)
    out = pooled(graph)
    cluster = out.s.of_node.tolist()
    assert cluster != sorted(cluster)
    members = [[i for i in range(10) if cluster[i] == k] for k in range(len(out.x))]
    assert out.x.squeeze(-1).tolist() == [sum(own) / len(own) for own in members]
    assert MagEdgePool().lift(out.x, out.s).squeeze(-1).tolist() == [out.x[k].item() for k in cluster]
    want = [[float(graph[np.ix_(one, other)].any()) for other in members] for one in members]
    assert out.a.tolist() == want
    assert out.a.diagonal().tolist() == [float(len(own) == 2) for own in members]
    assert not pooled(graph, remove_self_loops=True).a.diagonal().any()


def test_one_pass_is_a_matching_and_more_reach_a_smaller_number() -> None:
    graph = random_graph(20)
    assert pooled(graph, ratio=0.5).s.of_node.bincount().max() == 2
    for ratio, left in ((0.75, 15), (0.9, 18), (1.0, 20), (0.2, 4), (4, 4), (30, 20)):
        assert len(pooled(graph, ratio=ratio).x) == left
    star = np.zeros((9, 9), dtype=bool)
    star[0, 1:] = star[1:, 0] = True
    assert len(pooled(star, ratio=0.5).x) == 8  # no two edges of it may be contracted
    assert len(pooled(star, ratio=0.4).x) == 9 - 5


def test_the_cheapest_edges_go_first() -> None:
    graph = random_graph(12)
    out = pooled(graph, ratio=0.9, diversity="spread")
    edges, scores = edge_scores(graph, "diffusion_distance", "spread")
    (pair,) = (out.s.of_node == int(out.s.of_node.bincount().argmax())).nonzero().T.tolist()
    assert edges[scores.argmin()].tolist() == pair


def test_ties_are_settled_whatever_the_numbers_of_the_nodes() -> None:
    """Two pairs of twins hang on a path: many equal scores, and the same clusters after a permutation."""
    assert ranked(np.array([2.0, 1.0 + 1e-10, 1.0, 2.0 - 1e-10])).tolist() == [1, 2, 0, 3]
    graph = random_graph(10, seed=3, density=0.25)
    scores = edge_scores(graph, "diffusion_distance", "magnitude")[1]
    assert len(np.unique(scores.round(7))) < len(scores)
    order = np.random.default_rng(0).permutation(10)
    one, other = (pooled(g).s.of_node for g in (graph, graph[np.ix_(order, order)]))
    together = one.unsqueeze(0) == one.unsqueeze(1)
    assert torch.equal(together[order][:, order], other.unsqueeze(0) == other.unsqueeze(1))


def test_weights_take_part_only_where_asked_for() -> None:
    graph = torch.from_numpy(random_graph(9)).double()
    x, weight = torch.randn(9, 2, dtype=F64), torch.rand(9, 9, dtype=F64) + 0.5
    weight = weight + weight.T
    plain, heavy = (MagEdgePool(weighted=w, return_selection=True)(x, graph * weight) for w in (False, True))
    assert set(plain.a.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(plain.a != 0, heavy.a != 0)
    torch.testing.assert_close(heavy.a.sum(), (graph * weight).sum())


@pytest.mark.parametrize("wrong", [{"diversity": "volume"}, {"metric": "hops"}, {"ratio": 1.5}, {"ratio": 0}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=[^\n]*$"):
        MagEdgePool(**wrong)
