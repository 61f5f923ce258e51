"""Clustering metrics against brute force, scikit-learn and networkx."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from poolbench.learn.clustering import against_classes, by_itself, match


def brute_force(cluster: np.ndarray, y: np.ndarray) -> float:
    """The best accuracy of all one-to-one matchings of clusters and classes."""
    clusters, classes = list(np.unique(cluster)), list(np.unique(y))
    classes += [-1] * max(0, len(clusters) - len(classes))  # clusters beyond the classes are wrong
    best = 0.0
    for chosen in itertools.permutations(classes, len(clusters)):
        of = dict(zip(clusters, chosen, strict=True))
        best = max(best, float(np.mean([of[c] == t for c, t in zip(cluster, y, strict=True)])))
    return best


@pytest.mark.parametrize(("clusters", "classes"), [(3, 3), (5, 3), (2, 4), (1, 3)])
def test_accuracy_is_that_of_the_best_matching(clusters: int, classes: int) -> None:
    draw = np.random.default_rng(clusters)
    for _ in range(5):
        cluster, y = draw.integers(clusters, size=30), 2 * draw.integers(classes, size=30)  # with gaps
        found = against_classes(torch.from_numpy(cluster), torch.from_numpy(y))
        assert found["accuracy"] == pytest.approx(brute_force(cluster, y))
        matched = match(cluster, y)
        used = [c for c in np.unique(matched) if c >= 0]
        assert len(used) == min(len(np.unique(cluster)), len(np.unique(y))), "as many as can be are matched"
        per_class = [f1_score(y == t, matched == t, zero_division=0.0) for t in np.unique(y)]
        assert found["macro_f1"] == pytest.approx(np.mean(per_class))


def test_a_perfect_clustering_under_other_names() -> None:
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    found = against_classes(torch.tensor([7, 7, 0, 0, 3, 3]), y)
    assert found == {"nmi": pytest.approx(1.0), "accuracy": 1.0, "ari": 1.0, "macro_f1": 1.0}
    halves = against_classes(torch.tensor([0, 1, 2, 3, 4, 5]), y)
    assert halves["accuracy"] == 0.5, "of two clusters in a class one is right"


def test_mutual_information_over_the_mean_entropy() -> None:
    c, y = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 1, 0, 1, 1])
    joint = torch.zeros(3, 2, dtype=torch.float64)
    joint.index_put_((c, y), torch.full((8,), 1 / 8, dtype=torch.float64), accumulate=True)
    p, q = joint.sum(1), joint.sum(0)
    some = joint > 0
    information = float((joint * (joint / torch.outer(p, q)).log())[some].sum())
    entropy = -float((p * p.log()).sum() + (q * q.log()).sum()) / 2
    assert against_classes(c, y)["nmi"] == pytest.approx(information / entropy)


def graph(seed: int) -> tuple[nx.Graph, torch.Tensor]:
    made = nx.gnp_random_graph(20, 0.2, seed=seed)
    edges = torch.tensor(list(made.edges)).T
    return made, torch.cat([edges, edges.flip(0)], 1)


@pytest.mark.parametrize("seed", range(3))
def test_modularity_cut_and_conductance(seed: int) -> None:
    made, edge_index = graph(seed)
    cluster = torch.from_numpy(np.random.default_rng(seed).integers(3, size=20))
    found = by_itself(cluster, edge_index, 5)
    members = [set(np.flatnonzero(cluster.numpy() == c).tolist()) for c in range(3)]
    assert found["modularity"] == pytest.approx(nx.community.modularity(made, members))
    leaving = [nx.cut_size(made, group) for group in members]
    volumes = [nx.volume(made, group) for group in members]
    assert found["conductance"] == pytest.approx(np.mean([c / v for c, v in zip(leaving, volumes, strict=True)]))
    assert found["cut"] == pytest.approx(sum(leaving) / 2 / made.number_of_edges())
    assert found["used_clusters"] == 3


def test_clusters_without_edges_and_graphs_without_any() -> None:
    found = by_itself(torch.tensor([0, 0, 1]), torch.tensor([[0, 1], [1, 0]]), 4)
    assert found == {"modularity": 0.0, "conductance": 0.0, "cut": 0.0, "used_clusters": 2.0}
    nothing = by_itself(torch.tensor([0, 1]), torch.zeros(2, 0, dtype=torch.int64), 2)
    assert nothing == {"modularity": 0.0, "conductance": 0.0, "cut": 0.0, "used_clusters": 2.0}
