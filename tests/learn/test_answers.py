"""What a run keeps of its answers: of each test graph (node) the class and whether it is right, or the values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from poolbench import cli
from poolbench.audit.verify import verify
from poolbench.data.target import Target
from poolbench.learn import tally
from poolbench.learn.tally import Answers
from poolbench.records.attempts import iter_records
from poolbench.records.outcomes import Answers as Unpacked
from poolbench.records.outcomes import unpack
from poolbench.records.record import Record

QUICK = ["trainer.max_epochs=2", "logger=none", "callbacks.progress=none"]


def target(kind: str, width: int = 3) -> Target:
    loss = "mse" if kind == "numbers" else "cross-entropy"
    return Target(kind, torch.zeros(0), width, "accuracy", loss=loss)


def answered(
    target: Target, batches: list[tuple[list[int], torch.Tensor, torch.Tensor]], nodes: bool = False, total: int = 10
) -> Unpacked | None:
    """The answers of some batches of (graphs, outputs, labels)."""
    answers = Answers(target, nodes, total)
    for graphs, y, labels in batches:
        batch: Any = SimpleNamespace(graphs=torch.tensor(graphs), y=labels)
        answers.add(y, batch)
    packed = answers.packed()
    return packed and unpack(packed)


def test_classes_and_what_was_right() -> None:
    one_hot = torch.eye(3)
    found = answered(target("classes"), [([7, 2], one_hot[[2, 0]], torch.tensor([2, 1])),
                                         ([5], one_hot[[1]], torch.tensor([1]))])  # fmt: skip
    assert found is not None and found.right is not None
    assert found.graphs.tolist() == [2, 5, 7]
    assert found.predicted.tolist() == [0, 1, 2] and found.right.tolist() == [False, True, True]


@pytest.mark.parametrize("kind", ["binary", "numbers"])
def test_questions_and_numbers_keep_the_values(kind: str) -> None:
    values = torch.randn(3, 2, dtype=torch.float32)
    labels = torch.tensor([[1.0, float("nan")]] * 3)
    found = answered(target(kind, 2), [([4, 1, 9], values, labels)])
    assert found is not None and found.right is None
    assert found.predicted.tobytes() == values[[1, 0, 2]].numpy().tobytes()
    half = answered(target(kind, 2), [([4, 1, 9], values.bfloat16(), labels)])
    assert half is not None and np.array_equal(half.predicted, values.bfloat16().float()[[1, 0, 2]].numpy())


def test_nodes_are_counted_through_the_batches_and_those_not_asked_left_out() -> None:
    one_hot = torch.eye(3)
    found = answered(target("classes"), [([0, 1], one_hot[[0, 1, 2, 0]], torch.tensor([-1, 1, 1, -1])),
                                         ([2], one_hot[[1, 2]], torch.tensor([-1, 2]))], nodes=True)  # fmt: skip
    assert found is not None and found.right is not None
    assert found.graphs.tolist() == [1, 2, 5]
    assert found.predicted.tolist() == [1, 2, 2] and found.right.tolist() == [True, False, True]


def test_words_are_not_kept_nor_is_what_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = ([0, 1], torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    for kind in ("words", "none"):
        kindless = replace(target("classes"), kind=kind, loss="none" if kind == "none" else "cross-entropy")
        assert answered(kindless, [batch]) is None
    monkeypatch.setattr(tally, "MOST", 1)
    assert answered(target("classes"), [batch]) is None
    assert answered(target("classes"), []) is None


# ---------------------------------------------------------------------------------------------------------- whole runs


def run(results: Path, *words: str) -> tuple[Record, Unpacked | None]:
    assert cli.train([*QUICK, *words]) == 0
    assert verify(results, splits=True, paths={"data": str(results.parent / "cache"), "mirror": None}).errors == []
    (record,) = (record for _, record in iter_records(results))
    return record, record.outcomes and unpack(record.outcomes)


def test_graphs_of_a_run(results: Path) -> None:
    record, found = run(results, "pool=topk", "dataset=planted", "dataset.num_graphs=60", "batch_size=4")
    assert found is not None and found.right is not None
    assert found.right.mean() == record.metrics.test["accuracy"] and len(found.graphs) == record.splits.test == 6
    assert record.digests and record.selected == record.curve[record.selected_epoch or 0]


def test_a_kernel_answers_too(results: Path) -> None:
    pytest.importorskip("grakel")
    record, found = run(results, "pool=none", "model=wl-svm", "model.iterations=[1]", "dataset=MUTAG")
    assert found is not None and found.right is not None
    assert found.right.mean() == record.metrics.test["accuracy"]
    assert (record.digests, record.selected) == (None, None)


def test_nodes_of_a_run(results: Path) -> None:
    words = ["dataset=planted-nodes", "dataset.num_nodes=120", "protocol=nodes", "model=unet", "model.nodes=true"]
    record, found = run(results, "pool=topk", *words)
    assert found is not None and found.right is not None
    assert found.right.mean() == record.metrics.test["accuracy"] and len(found.graphs) == record.splits.test


def test_clusters_of_a_run(results: Path) -> None:
    record, found = run(results, "pool=dmon", "pool.k=4", "dataset=planted-nodes", "dataset.num_nodes=120")
    assert found is not None and found.right is None and found.predicted.max() < 4
    assert found.graphs.tolist() == list(range(120)) and "nmi" in record.metrics.test


def test_a_reconstruction_has_none_nor_has_a_run_that_is_not_tested(results: Path) -> None:
    _, found = run(results, "pool=ndp", "dataset=ring")
    assert found is None
