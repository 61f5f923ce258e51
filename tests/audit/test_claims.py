"""Forged records: what a record says in two places, or by a rule, is compared; what cannot be is said."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from poolbench import cli
from poolbench.audit import claims, splits, verify
from poolbench.audit.registry import Registry
from poolbench.config import Part
from poolbench.data.target import Target
from poolbench.learn.build import locate
from poolbench.learn.learner import GraphClassification, GraphRegression
from poolbench.records.digests import chain
from poolbench.records.outcomes import Answers
from poolbench.records.record import Metrics, decode

Record = dict[str, Any]
QUICK = ["trainer.max_epochs=3", "model.hidden=8", "logger=none", "callbacks.progress=none"]
RUNS = {
    "graphs": ["pool=mincut", "dataset=planted", "dataset.num_graphs=40"],
    "clusters": ["pool=mincut", "model=clusterer", "protocol=cluster", "dataset=planted-nodes"],
    "draws": ["pool=random-dense", "dataset=planted", "dataset.num_graphs=40"],
    "last": ["pool=mincut", "dataset=planted", "dataset.num_graphs=40", "protocol=cv10", "protocol.select=last",
             "protocol.folds=5", "protocol.fold_seeds=own", "protocol.val=0.2", "fold=1"],
    "metric": ["pool=mincut", "dataset=planted", "dataset.num_graphs=40", "protocol.select=metric"],
    "legacy": ["pool=mincut", "dataset=planted", "dataset.num_graphs=40", "protocol=legacy-cv10", "fold=1"],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Record]]:
    folder = tmp_path_factory.mktemp("made")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLBENCH_DATA", str(folder / "cache"))
        for name, words in RUNS.items():
            patch.setenv("POOLBENCH_RESULTS", str(folder / name))
            assert cli.train([*words, *QUICK]) == 0
            (path,) = (folder / name).glob("runs/*/1/record.json")
            found[name] = json.loads(path.read_text())
        yield found


@pytest.fixture
def record(made: dict[str, Record]) -> Record:
    return copy.deepcopy(made["graphs"])


def wrong(record: Record) -> list[str]:
    return list(verify.wrong(decode(json.dumps(record))))


def put(key: str, value: Any) -> Callable[[Record], None]:
    """Puts a value at a dotted key; a slash is part of a name."""

    def change(record: Record) -> None:
        *path, last = key.split(".")
        for name in path:
            record = record[name]
        record[last] = value

    return change


def follows(record: Record) -> None:
    """All that follows from the curve made anew, and the id: a forger can do that."""
    record["id"] = verify.identity(decode(json.dumps(record)))
    if record["curve"]:
        record["digests"] = chain(record["curve"])


FORGED: dict[str, tuple[Callable[[Record], Any], str]] = {
    "another operator's name": (put("config.names.pool", "topk"), "config.names.pool='topk' is poolbench.pool.topk"),
    "an operator's name that is none": (put("config.names.pool", "best"), "config.names.pool='best' is no pool here"),
    "another model's name": (put("config.names.model", "global"), "config.names.model='global' is"),
    "another dataset's name": (put("config.names.dataset", "ring"), "config.names.dataset='ring' is"),
    "a dataset's name that is none": (put("config.names.dataset", "MUTAG"), "config.names.dataset='MUTAG' is no"),
    "another protocol's name": (put("config.names.protocol", "cv10"), "config.names.protocol='cv10' is"),
    "another protocol's split": (put("splits.protocol", "cv10"), "splits.protocol is 'cv10'"),
    "another task": (put("task", "node-clustering"), "task is 'node-clustering'"),
    "no task": (put("task", None), "names no task"),
    "another seed": (put("seeds.seed", 3), "seeds.seed is 3"),
    "another seed of the split": (put("seeds.split", 3), "seeds.split is 3"),
    "another fold": (put("splits.fold", 3), "splits.fold is 3"),
    "no digests": (lambda r: r.update(digests=None, selected=None, curve=[]), "lacks the digests"),
    "no outcomes": (lambda r: r.pop("outcomes"), "lacks outcomes"),
    "outcomes without rights": (put("outcomes.right", None), "outcomes.right is missing"),
    "all of schema 2 left out": (lambda r: [r.pop(k) for k in ("digests", "selected", "outcomes")], "lacks outcomes"),
    "no parameters": (put("parameters", None), "lacks parameters"),
    "better validation": (put("metrics.val.accuracy", 1.0), "metrics.val are not those of the selected epoch's row"),
    "validation loss": (put("metrics.val.loss", 0.01), "metrics.val are not those"),
    "training loss of the operator": (put("metrics.train.loss_cut_1", -9.0), "losses are not those of metrics.train"),
    "losses": (put("losses.loss_cut_1", -9.0), "losses are not those of metrics.train"),
    "no training metrics": (lambda r: r.update(losses={}, metrics={**r["metrics"], "train": {}}), "no metrics.train"),
    "no validation metrics": (put("metrics.val", {}), "no metrics.val"),
    "another epoch": (
        lambda r: r.update(selected_epoch=(r["selected_epoch"] + 1) % 3),
        ", and by min of val/loss it is",
    ),
    "another rule": (put("diagnostics.selection.monitor", "test/loss"), "diagnostics.selection is by test/loss"),
    "no rule": (lambda r: r["diagnostics"].pop("selection"), "diagnostics.selection is missing"),
    "another metric": (put("diagnostics.metric.name", "f1"), "diagnostics.metric is 'f1'"),
    "more epochs": (lambda r: r["config"]["trainer"].update(max_epochs=1), "more epochs than trainer.max_epochs=1"),
    "no test graphs": (put("splits.test", 0), "metrics.test are of no graphs"),
    "time": (put("time.epoch", 1e-9), "time.epoch is not the median"),
    "negative time": (put("time.total", -1.0), "time.total is -1.0"),
    "negative loss": (put("metrics.test.loss", -1.0), "metrics.test.loss is -1.0"),
    "impossible share": (lambda r: r["metrics"]["test"].update(rocauc=1.2), "metrics.test.rocauc is 1.2"),
    "a reason": (put("reason", "it went well"), "is done, and has a reason"),
    "no version of the code": (put("provenance.code", None), "provenance.code is missing"),
    "text for epochs": (put("config.trainer.max_epochs", "many"), "config: trainer.max_epochs='many'"),
    "an unknown key": (put("config.wonder", 1), "config: wonder is no key"),
}


@pytest.mark.parametrize("case", FORGED)
def test_what_is_forged_is_found(record: Record, case: str) -> None:
    change, said = FORGED[case]
    change(record)
    found = wrong(record)
    assert any(said in line for line in found), found
    follows(record)
    assert wrong(record), "also where all that follows was made anew"


@pytest.mark.parametrize("name", RUNS)
def test_what_runs_leave_is_sound(made: dict[str, Record], name: str) -> None:
    assert wrong(made[name]) == []


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("select", ["loss", "metric", "last"])
def test_the_rule_that_selects_is_the_one_that_the_protocol_has(
    made: dict[str, Record], name: str, select: str
) -> None:
    record = copy.deepcopy(made[name])
    protocol = record["config"]["protocol"]
    if protocol["select"] != select:
        protocol["select"] = select
        assert any(f"select={select} means " in line for line in wrong(record))


def test_the_last_epoch_is_the_last_without_a_curve_too(made: dict[str, Record]) -> None:
    record = copy.deepcopy(made["last"])
    record["curve"] = []
    assert not any("selected_epoch" in line for line in wrong(record))
    record["selected_epoch"] = 1
    assert "selected_epoch is 1, and the last is 2" in wrong(record)


def test_folds_are_counted(made: dict[str, Record]) -> None:
    record = copy.deepcopy(made["last"])
    record["config"]["protocol"]["folds"] = 10
    assert any("splits.protocol is 'cv5', and config.protocol splits by cv10" in line for line in wrong(record))


def test_an_operator_that_draws_measures_anew(made: dict[str, Record]) -> None:
    drawn = copy.deepcopy(made["draws"])
    drawn["metrics"]["val"]["loss"] += 0.01
    assert wrong(drawn) == []


def test_choices_of_one_class_are_told_apart(record: Record) -> None:
    pool = {"_target_": "poolbench.pool.graclus.GraclusPool", "complement": True}
    record["config"] |= {"pool": pool, "names": {**record["config"]["names"], "pool": "graclus"}}
    follows(record)
    (line,) = (line for line in wrong(record) if "names" in line)
    assert line == "config.names.pool='graclus' has complement=False, and it has True"
    record["config"]["names"]["pool"] = "complement-graclus"
    assert not any("names" in line for line in wrong(record))


def test_an_operator_of_ones_own_goes_by_its_class_and_is_not_known(record: Record, tmp_path: Path) -> None:
    record["config"]["pool"] = {"_target_": "somebodys.Pool"}
    record["config"]["names"]["pool"] = "Pool"
    follows(record)
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(record) + "\n")
    found = verify.verify(path)
    assert found.errors == []
    assert any("1 record of somebody's own classes" in line for line in found.unchecked)
    assert cli.main(["verify", str(path)]) == 0 and cli.main(["verify", str(path), "--strict"]) == 1
    record["config"]["names"]["pool"] = "mincut"
    assert wrong(record)[0].startswith("config.names.pool='mincut' is poolbench.pool.mincut.MinCutPool")


def test_another_part_of_ones_own_keeps_the_name_of_the_choice_that_it_was_put_in(record: Record) -> None:
    """`model=hierarchical model._target_=own.Model`: nothing renames it, and so it is only not known."""
    record["config"]["model"]["_target_"] = "own.Model"
    follows(record)
    assert wrong(record) == []
    assert claims.unknown(decode(json.dumps(record)), Registry.of())


def test_the_whole_curve_may_be_forged_and_only_a_rerun_tells(record: Record) -> None:
    """What the page on security says of the limits of `verify`."""
    for row in record["curve"]:
        row["time"] = row["time_cpu"] = 1.0
    record["time"] |= {"epoch": 1.0, "epoch_cpu": 1.0}
    follows(record)
    record["selected"] = record["curve"][record["selected_epoch"]]
    assert wrong(record) == []
    assert median([row["time"] for row in record["curve"]]) == 1.0


def checked(record: Record, tmp_path: Path) -> list[str]:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    return verify.verify(path, splits=True, paths={"data": str(tmp_path / "cache"), "mirror": None}).errors


def test_clusters_are_judged_again(made: dict[str, Record], tmp_path: Path) -> None:
    record = copy.deepcopy(made["clusters"])
    assert checked(record, tmp_path) == []
    record["metrics"]["test"]["nmi"] = 0.99
    (line,) = checked(record, tmp_path)
    assert "metrics.test.nmi=0.99, and its outcomes make 0." in line


def test_values_are_measured_again() -> None:
    """Of questions and numbers, by the measures of training."""
    numbers = Target("numbers", torch.tensor([[1.0], [2.0], [5.0]]), 1, "mae", "min", "l1")
    prepared: Any = SimpleNamespace(target=numbers, split=SimpleNamespace(test=torch.tensor([0, 2])))
    answers = Answers(np.array([0, 2]), np.array([[1.5], [5.0]], dtype=np.float32), None)
    made = splits._of_values(answers, prepared)
    assert made == {"mae": 0.25, "rmse": pytest.approx(0.125**0.5)}
    record: Any = SimpleNamespace(metrics=Metrics(train={}, val={}, test={"mae": 0.25, "rmse": 0.1}))
    (line,) = splits._wrong_metrics(record, made)
    assert line.startswith("metrics.test.rmse=0.1, and its outcomes make 0.35")


def test_the_sizes_of_a_split_are_counted_again(record: Record, tmp_path: Path) -> None:
    record["splits"]["train"] = 96
    assert any("splits are of other sizes than its protocol draws" in line for line in checked(record, tmp_path))


def test_the_tables_are_what_the_classes_say() -> None:
    registry = Registry.of()
    assert set(claims.PROTOCOLS) == registry.targets("protocol") and set(claims.TASKS) == registry.targets("model")
    for target, (name, validates) in claims.PROTOCOLS.items():
        protocol = locate("protocol", Part(target, {}))
        assert (protocol.name, protocol.validates) == (name, validates)
    tasks = {"graphs": (GraphClassification.task, GraphRegression.task), "clusters": ("node-clustering",),
             "structure": ("structure-preservation",), "reconstruction": ("reconstruction",),
             "kernel": ("graph-classification",)}  # fmt: skip
    for target, named in claims.TASKS.items():
        said = locate("model", Part(target, {})).task
        assert set(tasks[said]) <= set(named)
    own = [target for target in registry.targets("pool") if ".peers." not in target]
    assert {target for target in own if locate("pool", Part(target, {})).stochastic} == claims.DRAW
