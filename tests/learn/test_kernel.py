"""Graph kernels with an SVM: kernels against plain counts, the choice on validation, what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from configs import small
from poolbench import config as configuration
from poolbench.config import Config
from poolbench.config import replace as replace_config
from poolbench.data.dataset import GraphDataset
from poolbench.data.features import Features, NodeFeatures
from poolbench.data.prepared import Prepared
from poolbench.data.protocols import CrossValidation, Holdout, Protocol, Transductive
from poolbench.data.raw import RawGraphs
from poolbench.data.target import numbers
from poolbench.errors import PoolBenchError
from poolbench.learn import kernel
from poolbench.learn.build import build_model
from poolbench.learn.kernel import ShortestPath, WeisfeilerLehman, labelled, node_labels, normalized
from poolbench.learn.outcome import Outcome
from poolbench.learn.train import train
from poolbench.learn.trainable import Trainable
from poolbench.nn.model import DataFacts, Part
from poolbench.pool import NoPool

FACTS = DataFacts(in_channels=1, out_channels=2, mean_nodes=5.0)


class Cycles(GraphDataset):
    """A cycle of 6 or two cycles of 3, with noise in the labels: distances tell them apart."""

    name = "cycles"

    def __init__(self, node_labels: bool = True, attributes: bool = False) -> None:
        self.with_labels, self.attributes = node_labels, attributes

    def node_features(self, raw: RawGraphs) -> Features:
        return NodeFeatures("constant")(raw)

    def load(self) -> RawGraphs:
        draw = np.random.default_rng(0)
        edges, labels, y = [], [], []
        for graph in range(60):
            kind = graph % 2
            around = [(u, (u + 1) % 6) for u in range(6)] if kind else [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
            edges += [(6 * graph + u, 6 * graph + v) for pair in around for u, v in (pair, pair[::-1])]
            labels += [(u % 2 if draw.random() < 0.9 else 2, 0) for u in range(6)]
            y.append(kind)
        return RawGraphs(
            "cycles",
            torch.full((60,), 6),
            torch.tensor(sorted(edges)).T,
            node_labels=torch.tensor(labels) if self.with_labels else None,
            node_attributes=torch.zeros(360, 1) if self.attributes else None,
            y=torch.tensor(y),
        )


def prepared(protocol: Protocol | None = None, fold: int | None = None, **changes: Any) -> Prepared:
    return Prepared.of(Cycles(**changes), protocol or Holdout(0), fold)


def paths(raw: RawGraphs, graph: int) -> Counter[tuple[int, int, int]]:
    """How often each (label, label, distance) stands in a graph of six nodes."""
    block = raw.edge_index[:, (raw.edge_index[0] // 6) == graph] - 6 * graph
    distance = np.full((6, 6), np.inf)
    np.fill_diagonal(distance, 0)
    distance[tuple(block.numpy())] = 1
    for k in range(6):
        distance = np.minimum(distance, distance[:, k : k + 1] + distance[k])
    label = node_labels(raw)[0][6 * graph : 6 * graph + 6].tolist()
    pairs = [(u, v) for u in range(6) for v in range(6) if u != v and np.isfinite(distance[u, v])]
    return Counter((label[u], label[v], int(distance[u, v])) for u, v in pairs)


def trees(raw: RawGraphs, graph: int, rounds: int) -> Counter[Any]:
    """How often each label stands in a graph of six nodes, over all rounds of relabelling; labels are nested tuples."""
    block = (raw.edge_index[:, (raw.edge_index[0] // 6) == graph] - 6 * graph).T.tolist()
    label: list[Any] = node_labels(raw)[0][6 * graph : 6 * graph + 6].tolist()
    found: Counter[Any] = Counter()
    for level in range(rounds + 1):
        found.update((level, now) for now in label)
        label = [(label[u], tuple(sorted((label[v] for w, v in block if w == u), key=repr))) for u in range(6)]
    return found


def products(counts: list[Counter[Any]]) -> np.ndarray:
    return np.array([[sum(c * other[name] for name, c in one.items()) for other in counts] for one in counts])


def test_kernels_count_what_graphs_share() -> None:
    raw = Cycles().load()
    graphs = labelled(raw, node_labels(raw)[0])[:8]
    wl = WeisfeilerLehman(FACTS, Part(NoPool), iterations=[1, 3])
    for setting, matrix in wl.kernels(graphs):
        np.testing.assert_array_equal(matrix, products([trees(raw, g, setting["iterations"]) for g in range(8)]))
    ((_, matrix),) = ShortestPath(FACTS, Part(NoPool)).kernels(graphs)
    np.testing.assert_array_equal(matrix, products([paths(raw, g) for g in range(8)]))


def test_a_kernel_matrix_has_ones_on_its_diagonal_or_nothing() -> None:
    k = normalized(np.array([[4.0, 2.0, 0.0], [2.0, 9.0, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(k, [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])


def test_graphs_without_nodes_or_edges_are_like_themselves_alone() -> None:
    raw = RawGraphs("odd", torch.tensor([2, 0, 1, 0]), torch.tensor([[0, 1], [1, 0]]))
    labels, source = node_labels(raw)
    assert (labels.tolist(), source) == ([1, 1, 0], "degree")
    graphs = labelled(raw, labels)
    assert graphs == [[{0: {1: 1.0}, 1: {0: 1.0}}, {0: 1, 1: 1}], [{0: {}}, {0: -1}], [{0: {}}, {0: 0}],
                      [{0: {}}, {0: -1}]]  # fmt: skip
    ((_, k),) = WeisfeilerLehman(FACTS, Part(NoPool), iterations=[2]).kernels(graphs)
    np.testing.assert_array_equal(normalized(k) > 0, np.eye(4, dtype=bool) | np.eye(4, dtype=bool)[[0, 3, 2, 1]])


def test_labels_of_several_columns_are_one_label() -> None:
    raw = replace(Cycles().load(), node_labels=torch.tensor([[0, 1], [0, 2], [1, 1], [0, 1], [1, 1], [0, 2]]))
    assert node_labels(raw)[0].tolist() == [0, 1, 2, 0, 2, 1]


@pytest.mark.parametrize("protocol", [Holdout(0), CrossValidation(0)])
def test_the_best_on_validation_is_tested_once(protocol: Protocol) -> None:
    made, outcome = prepared(protocol, 2 if protocol.folds else None), Outcome()
    model = WeisfeilerLehman(FACTS, Part(NoPool), C=[0.01, 1.0, 100.0], iterations=[1, 2])
    model.fit(made, outcome, evaluate_test=True)
    y, split = made.target.y.numpy(), made.split
    graphs = labelled(made.raw, node_labels(made.raw)[0])
    tried = []
    for setting, matrix in model.kernels(graphs):
        for c in model.C:
            k = normalized(matrix)
            svm = SVC(C=c, kernel="precomputed").fit(k[np.ix_(split.train, split.train)], y[split.train])
            accuracy = {}
            for part, graphs_of in (("train", split.train), ("val", split.val), ("test", split.test)):
                accuracy[part] = float((svm.predict(k[np.ix_(graphs_of, split.train)]) == y[graphs_of]).mean())
            tried.append((accuracy, {"C": c, **setting}))
    found, chosen = max(tried, key=lambda one: one[0]["val"])  # the first of equals
    assert {part: values["accuracy"] for part, values in outcome.metrics.items()} == pytest.approx(found)
    assert outcome.diagnostics["selection"].items() >= chosen.items()
    assert outcome.diagnostics["selection"]["node_labels"] == "labels"


def config(target: str, **model: Any) -> Config:
    pool = {"_target_": "poolbench.pool.nopool.NoPool"}
    return small(model={"_target_": f"poolbench.learn.kernel.{target}", **model}, pool=pool)


def trained(made: Config, data: Prepared, **options: Any) -> Outcome:
    return train(made, data, Trainable.of(made, data), **options)


def built(target: str, **model: Any) -> Any:
    made = config(target, **model)
    return build_model(made.model, made.pool, FACTS)


@pytest.mark.parametrize("target", ["WeisfeilerLehman", "ShortestPath"])
def test_a_run_is_the_same_each_time_and_says_what_it_is(target: str) -> None:
    starts: list[int] = []
    first, again = (trained(config(target), prepared(), on_start=starts.append) for _ in range(2))
    assert (first.metrics, first.diagnostics) == (again.metrics, again.diagnostics)
    if target == "ShortestPath":
        assert first.metrics["test"]["accuracy"] == 1.0
    assert (first.task, first.parameters, first.curve, first.selected_epoch) == ("graph-classification", 0, [], None)
    assert first.time["epoch"] is None and first.time["total"] > 0  # type: ignore[operator]
    assert first.memory_peak is None  # nothing is trained by steps
    assert starts == [0, 0]
    assert set(trained(replace_config(config(target), evaluate_test=False), prepared()).metrics) == {"train", "val"}


def test_what_kernels_cannot_do_is_refused() -> None:
    with pytest.raises(PoolBenchError, match=r"pool=topk .* add pool=none"):
        pool = configuration.Part.of("pool", {"_target_": "poolbench.pool.topk.TopKPool", "ratio": 0.5})
        build_model(config("ShortestPath").model, pool, FACTS, "topk")
    for wrong in ({"C": []}, {"C": [0.0]}, {"C": [True]}, {"iterations": []}, {"iterations": [0]}):
        with pytest.raises(PoolBenchError, match=f"model.{next(iter(wrong))}="):
            built("WeisfeilerLehman", **wrong)
    made, model = prepared(), ShortestPath(FACTS, Part(NoPool))
    regression = replace(made.raw, targets=torch.zeros(60, 1, dtype=torch.float64))
    lonely = replace(made.target, y=torch.zeros(60, dtype=torch.int64))
    for bad, reason in (
        (prepared(node_labels=False, attributes=True), "continuous attributes of nodes and no labels"),
        (replace(made, target=numbers(regression)), "these graphs carry numbers to regress"),
        (replace(made, target=lonely), "all of one class"),
        (prepared(Transductive()), "protocol=cluster has none"),
    ):
        with pytest.raises(PoolBenchError, match=reason):
            model.fit(bad, Outcome(), evaluate_test=True)


@pytest.mark.parametrize(("version", "advice"), [((3, 13), "use Python 3.12"), ((3, 11), "pip install grakel")])
def test_a_missing_grakel_is_one_line(version: tuple[int, int], advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "find_spec", lambda name: None)
    monkeypatch.setattr(kernel.sys, "version_info", version)
    with pytest.raises(PoolBenchError, match=f"model=wl-svm needs the package grakel, .*{advice}") as refusal:
        built("WeisfeilerLehman")
    assert "\n" not in str(refusal.value)
