"""The tasks: what enters the loss and what never does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from configs import small
from poolbench.config import Config
from poolbench.data.generators.plantednodes import PlantedNodes
from poolbench.data.generators.pointclouds import Ring
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.prepared import Prepared
from poolbench.data.protocols import Holdout, Nodes, Transductive
from poolbench.data.store import Batch, GraphStore
from poolbench.data.target import Target, node_classes
from poolbench.errors import PoolBenchError
from poolbench.learn.datamodule import GraphData
from poolbench.learn.learner import (
    GraphClassification,
    GraphRegression,
    Learner,
    NodeClassification,
    evaluate,
    learner_for,
)
from poolbench.learn.outcome import Outcome
from poolbench.learn.train import train
from poolbench.learn.trainable import Trainable
from poolbench.nn.model import ModelOutput
from poolbench.pool.ndp import NDPPool

NAN = math.nan


class Answers(nn.Module):
    """Returns x as the answer for graphs of one node each."""

    def forward(self, x: Tensor, a: Any, edges: Any = None, coarsenings: Any = ()) -> ModelOutput:
        return ModelOutput(x, {}, [])


def store(answers: Tensor, y: Tensor) -> GraphStore:
    """Graphs of one node, whose features are what `Answers` says of them."""
    count = torch.ones(len(y), dtype=torch.int64)
    return GraphStore(answers, count, torch.zeros(2, 0, dtype=torch.int64), y)


def module_of(cls: type[Learner], target: Target) -> Learner:
    return cls(Answers(), None, 1.0, target)  # type: ignore[arg-type]


def batches(of: GraphStore, size: int) -> list[Batch]:
    return [of.batch(graphs) for graphs in torch.arange(len(of)).split(size)]


Y = torch.tensor([[1.0, NAN], [0.0, 1.0], [NAN, NAN], [1.0, 0.0], [0.0, 1.0], [0.0, NAN], [1.0, 1.0]])


def test_yes_no_questions_without_an_answer_count_for_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 2)
    target = Target("binary", Y, 2, "rocauc")
    module = module_of(GraphClassification, target)
    known = [(g, q) for g in range(7) for q in range(2) if not math.isnan(Y[g, q])]
    plain = [-math.log(1 / (1 + math.exp((1 - 2 * float(Y[g, q])) * float(logits[g, q])))) for g, q in known]

    whole = store(logits.clone().requires_grad_(), Y).batch(torch.arange(7))
    loss, answers = module.task_loss(module(whole), whole)
    assert int(answers) == len(known) == 10
    assert loss.item() == pytest.approx(sum(plain) / len(known), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, whole.x)
    assert [(g, q) for g, q in gradient.nonzero().tolist()] == known

    found = evaluate(module, batches(store(logits, Y), 2), seed=0)  # the last batch is smaller, and so are the answers
    assert found["loss"] == pytest.approx(sum(plain) / len(known), rel=1e-5)
    wins, precision = [], []
    for q in range(2):
        yes, no = ([float(logits[g, q]) for g in range(7) if float(Y[g, q]) == answer] for answer in (1.0, 0.0))
        wins.append(np.mean([(a > b) + 0.5 * (a == b) for a in yes for b in no]))
        precision.append(average_precision_score([1] * len(yes) + [0] * len(no), yes + no))
    assert found["rocauc"] == pytest.approx(np.mean(wins))
    assert found["ap"] == pytest.approx(np.mean(precision))


def test_questions_with_one_answer_alone_are_left_out_of_the_metrics() -> None:
    y = torch.tensor([[1.0, 1.0], [0.0, NAN], [1.0, 1.0]])
    module = module_of(GraphClassification, Target("binary", y, 2, "rocauc"))
    found = evaluate(module, batches(store(torch.tensor([[2.0, 0.0], [1.0, 5.0], [0.0, 1.0]]), y), 2), seed=0)
    assert found["rocauc"] == 0.5
    nothing = module_of(GraphClassification, Target("binary", y[:, 1:], 1, "rocauc"))
    assert math.isnan(evaluate(nothing, batches(store(torch.zeros(3, 1), y[:, 1:]), 2), seed=0)["rocauc"])


@pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("mse", 2)])
def test_numbers_that_are_not_known_count_for_nothing(loss: str, power: int) -> None:
    torch.manual_seed(0)
    answers, y = torch.randn(7, 2), torch.where(torch.isnan(Y), NAN, 3 * Y + torch.randn(7, 2))
    module = module_of(GraphRegression, Target("numbers", y, 2, "mae", "min", loss))
    known = [(g, q) for g in range(7) for q in range(2) if not math.isnan(y[g, q])]
    errors = [abs(float(answers[g, q]) - float(y[g, q])) for g, q in known]
    found = evaluate(module, batches(store(answers, y), 3), seed=0)
    assert found["loss"] == pytest.approx(np.mean([e**power for e in errors]), rel=1e-5)
    assert found["mae"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["rmse"] == pytest.approx(math.sqrt(np.mean(np.square(errors))), rel=1e-5)
    whole = store(answers.clone().requires_grad_(), y).batch(torch.arange(7))
    (gradient,) = torch.autograd.grad(module.task_loss(module(whole), whole)[0], whole.x)
    assert [(g, q) for g, q in gradient.nonzero().tolist()] == known


def test_words_are_predicted_one_by_one() -> None:
    torch.manual_seed(0)
    vocabulary, length = 4, 3
    y, answers = torch.randint(vocabulary, (5, length)), torch.randn(5, length * vocabulary)
    target = Target("words", y, length * vocabulary, "f1", evaluate=lambda true, said: {"f1": float(len(true))})
    plain = []
    for g in range(5):
        for word in range(length):
            scores = answers[g, word * vocabulary : (word + 1) * vocabulary].double()
            plain.append(float(scores.logsumexp(0) - scores[y[g, word]]))
    found = evaluate(module_of(GraphClassification, target), batches(store(answers, y), 2), seed=0)
    assert found["loss"] == pytest.approx(np.mean(plain), rel=1e-5)
    assert found["f1"] == 5.0, "the evaluator sees all graphs of the part at once"


def test_only_the_nodes_of_a_part_are_looked_at() -> None:
    raw = PlantedNodes(num_nodes=40, communities=3, degree=4.0).load()
    split = Nodes(seed=1).split(node_classes(raw).y, raw.fingerprint())
    assert raw.node_y is not None
    torch.manual_seed(0)
    answers, classes = torch.randn(40, 3), raw.node_y

    def make(device: torch.device) -> GraphStore:
        return GraphStore(answers, raw.num_nodes, raw.edge_index, classes, node_labels=True)

    data = GraphData(make, split, batch_size=4, seed=0, level="nodes")
    module = module_of(NodeClassification, node_classes(raw))
    for part in ("train", "val", "test"):
        nodes = getattr(split, part)
        (batch,) = data.whole(part)
        seen = (batch.y >= 0).nonzero().squeeze(1)
        assert torch.equal(seen, nodes)
        assert torch.equal(batch.y[nodes], classes[nodes])
        found = evaluate(module, [batch], seed=0)
        plain = -answers.double().log_softmax(-1)[nodes, classes[nodes]].mean()
        assert found["loss"] == pytest.approx(float(plain), rel=1e-5)
        right = (answers[nodes].argmax(-1) == classes[nodes]).double().mean()
        assert found["accuracy"] == pytest.approx(float(right))


# -- trained ----------------------------------------------------------------------------------------------------------

MINCUT = {"_target_": "poolbench.pool.mincut.MinCutPool", "ratio": 0.5, "k": None}


def config(model: dict[str, Any], pool: dict[str, Any]) -> Config:
    return small(model=model, pool=pool)


def trained(made: Config, prepared: Prepared, **options: Any) -> Outcome:
    return train(made, prepared, Trainable.of(made, prepared), **options)


def weights(made: Config, prepared: Prepared, tmp_path: Path) -> tuple[dict[str, Tensor], Outcome]:
    """The trained weights after the last epoch."""
    resume = tmp_path / "resume.ckpt"
    resume.unlink(missing_ok=True)
    outcome = trained(made, prepared, resume=resume)
    return torch.load(resume, weights_only=True)["model"], outcome


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def relabelled(prepared: Prepared, nodes: Tensor) -> Prepared:
    """The same data with the classes of some nodes dealt out anew among them."""
    assert prepared.raw.node_y is not None
    y = prepared.raw.node_y.clone()
    y[nodes] = y[nodes].roll(1)
    assert not torch.equal(y, prepared.raw.node_y)
    raw = replace(prepared.raw, node_y=y)
    target = prepared.target if prepared.level == "graphs" else node_classes(raw)
    return replace(prepared, raw=raw, target=target)


def test_classes_touch_nothing_in_clustering_but_the_verdict(tmp_path: Path) -> None:
    prepared = Prepared.of(PlantedNodes(num_nodes=60, degree=4.0), Transductive(), None)
    model = {"_target_": "poolbench.nn.clusterer.Clusterer", "hidden": 8}
    shuffle = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    first, outcome = weights(config(model, MINCUT), prepared, tmp_path)
    second, other = weights(config(model, MINCUT), relabelled(prepared, shuffle), tmp_path)
    assert same(first, second)
    judged, changed = outcome.metrics.pop("test"), other.metrics.pop("test")
    assert outcome.metrics == other.metrics
    assert judged["modularity"] == changed["modularity"]
    assert judged["nmi"] != changed["nmi"]


def test_only_training_nodes_are_learnt_from(tmp_path: Path) -> None:
    prepared = Prepared.of(PlantedNodes(num_nodes=60, degree=4.0), Nodes(seed=0), None)
    made = config(
        {
            "_target_": "poolbench.nn.unet.UNet",
            "readout": {"_target_": "poolbench.pool.readouts.globalpool.GlobalSumPool"},
            "nodes": True,
            "levels": 1,
            "hidden": 8,
        },
        {"_target_": "poolbench.pool.topk.TopKPool", "ratio": 0.5},
    )
    first, _ = weights(made, prepared, tmp_path)
    held_out = torch.cat([prepared.split.val, prepared.split.test])
    assert same(first, weights(made, relabelled(prepared, held_out), tmp_path)[0])
    assert not same(first, weights(made, relabelled(prepared, prepared.split.train), tmp_path)[0])


HOLDOUT = Holdout(0, test=0.2, val=0.2)


@pytest.mark.parametrize("task", ["autoencoder.Autoencoder", "spectral.Spectral"])
def test_tasks_without_labels_take_graphs_that_have_some(task: str) -> None:
    prepared = Prepared.of(PlantedGraphs(num_graphs=12), HOLDOUT, None)
    outcome = trained(config({"_target_": f"poolbench.nn.{task}"}, MINCUT), prepared)
    assert outcome.diagnostics["metric"] == {"name": "loss", "mode": "min"}
    assert list(outcome.metrics) == ["train", "val", "test"]
    assert all(set(found) == {"loss", "loss_cut", "loss_ortho"} for found in outcome.metrics.values())


def test_graphs_with_labels_are_clustered_all_of_them_or_not_at_all() -> None:
    made = config({"_target_": "poolbench.nn.clusterer.Clusterer"}, {**MINCUT, "k": 3})
    outcome = trained(made, Prepared.of(PlantedGraphs(num_graphs=12), Transductive(), None))
    assert outcome.metrics["test"].keys() == {"modularity", "conductance", "cut", "used_clusters"}
    with pytest.raises(PoolBenchError, match="add protocol=cluster"):
        trained(made, Prepared.of(PlantedGraphs(num_graphs=12), HOLDOUT, None))


def test_an_operator_without_parameters_is_measured_by_its_laplacian() -> None:
    prepared = Prepared.of(Ring(num_nodes=16), Transductive(select="loss"), None)
    made = config({"_target_": "poolbench.nn.spectral.Spectral", "eigenvectors": 4},
                  {"_target_": "poolbench.pool.ndp.NDPPool"})  # fmt: skip
    outcome = trained(made, prepared)
    assert outcome.parameters == 0
    assert outcome.task == "structure-preservation"

    a = torch.zeros(16, 16, dtype=torch.float64)
    a[tuple(prepared.raw.edge_index)] = 1.0
    lap = a.sum(1).diag() - a
    x = prepared.x.values.double()
    x = torch.cat([(x - x.mean(0)) / (x - x.mean(0)).norm(dim=0), torch.linalg.eigh(lap).eigenvectors[:, :4]], 1)
    pooled = NDPPool()(x.float(), a.float())
    lap_p = pooled.a.sum(1).diag() - pooled.a
    change = (x.T @ lap @ x).diagonal() - (pooled.x.T @ lap_p @ pooled.x).diagonal()
    assert outcome.metrics["train"]["loss"] == pytest.approx(float(change.abs().mean()), rel=1e-3)


def test_a_task_that_does_not_fit_is_refused() -> None:
    class Model:
        task = "graphs"

    with pytest.raises(PoolBenchError, match="protocol=nodes"):
        learner_for(Model(), Target("classes", torch.zeros(1), 2, "accuracy"), "nodes")  # type: ignore[arg-type]
    with pytest.raises(PoolBenchError, match="no labels"):
        learner_for(Model(), Target("none", torch.zeros(1), 0, "loss", "min", "none"))  # type: ignore[arg-type]
