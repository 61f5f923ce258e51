"""What a stranger's record may have done: nothing is imported, called, opened or fetched that it alone names."""

from __future__ import annotations

import copy
import inspect
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import results_in
from poolbench import cli, conf_dir
from poolbench.audit import limits, trust, verify
from poolbench.audit.registry import Registry
from poolbench.audit.rerun import command, rerun
from poolbench.audit.trust import OPTIMISERS, SCHEDULERS, Refused, Trust
from poolbench.config import Part
from poolbench.data import perturb
from poolbench.errors import PoolBenchError
from poolbench.learn.build import locate
from poolbench.pool.nopool import NoPool
from poolbench.records.changes import upgrade
from poolbench.records.record import decode

QUICK = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=1", "model.hidden=8", "logger=none",
         "callbacks.progress=none", "split.seed=0"]  # fmt: skip
Record = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    """A record of a quick run, as JSON has it."""
    with results_in(tmp_path_factory.mktemp("made")) as folder:
        assert cli.train(["pool=topk", "scheduler=step", *QUICK]) == 0
    (path,) = folder.glob("runs/*/1/record.json")
    yield json.loads(path.read_text())


@pytest.fixture
def alarms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened that must not: a call of the system, a process, a connection, an import of `acts`."""
    rung: list[str] = []

    def ring(name: str) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            if "git" not in str(args[1:2])[:8]:  # a process asks it for the installed commit
                rung.append(name)
            raise OSError(f"{name} was called")

        return called

    monkeypatch.setattr(os, "system", ring("os.system"))
    monkeypatch.setattr(subprocess.Popen, "__init__", ring("subprocess.Popen"))
    monkeypatch.setattr(socket.socket, "connect", ring("connect"))
    monkeypatch.setattr(torch.hub, "load", ring("torch.hub.load"))
    (tmp_path / "acts.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return rung


def changed(made: Record, key: str, value: Any) -> Record:
    """The record with a value at a dotted key of its configuration, and the id that follows."""
    record = copy.deepcopy(made)
    node = record["config"]
    *path, last = key.split(".")
    for name in path:
        node = node.setdefault(name, {})
    node[last] = value
    record["id"] = verify.identity(decode(json.dumps(record)))
    return record


PLANTED = "poolbench.data.generators.synthetic.PlantedGraphs"
TU = "poolbench.data.sources.tu.TUDataset"
HOSTILE: dict[str, tuple[str, Any]] = {
    "a call of the system": ("dataset", {"_target_": "os.system", "command": "touch pwned"}),
    "a process": ("dataset", {"_target_": "subprocess.Popen", "args": "touch pwned", "shell": True}),
    "a file of a folder": ("dataset", {"_target_": "pathlib.Path.unlink"}),
    "a function of PoolBench": ("dataset", {"_target_": "poolbench.data.sources.fetch.fetch_archive", "name": "a"}),
    "a model of a hub": ("dataset", {"_target_": "torch.hub.load", "repo_or_dir": "a"}),
    "a pickle": ("dataset", {"_target_": "torch.load", "f": "a"}),
    "an operator that acts when imported": ("pool._target_", "acts.Pool"),
    "an operator of 100,000 folders": ("pool._target_", "a." * 10**5 + "Pool"),
    "an operator by a path": ("pool._target_", "../acts.Pool"),
    "an operator in a dataset's place": ("dataset", {"_target_": "poolbench.pool.topk.TopKPool"}),
    "a protocol": ("protocol", {"_target_": "acts.Protocol"}),
    "a function as a protocol": ("protocol", {"_target_": "builtins.exec", "source": "1"}),
    "a model": ("model._target_", "acts.Model"),
    "a readout": ("model.readout", {"_target_": "acts.Readout"}),
    "an optimiser": ("optimizer", {"_target_": "acts.Optimizer"}),
    "a scheduler": ("scheduler", {"_target_": "acts.Scheduler"}),
    "a scheduler with a function": ("scheduler", {"_target_": "torch.optim.lr_scheduler.LambdaLR", "lr_lambda": "1"}),
    "a logger": ("logger", {"_target_": "acts.Logger"}),
    "a callback": ("callbacks.more", {"_target_": "os.system", "command": "touch pwned"}),
    "a class inside an argument": ("pool.scorer", {"_target_": "acts.Scorer"}),
    "a class inside a list": ("dataset.features", ["degree", {"_target_": "os.system"}]),
    "a class that is no word": ("pool._target_", {"_target_": "os.system"}),
    "a folder of data": ("dataset.data", "/etc"),
    "a mirror": ("dataset", {"_target_": TU, "name": "MUTAG", "mirror": "http://127.0.0.1:9/"}),
    "a file of folds": ("protocol", {"_target_": "poolbench.data.protocols.Nested", "folds_file": "/etc/passwd"}),
    "a dataset by a path": ("dataset", {"_target_": TU, "name": "../../../../etc/passwd"}),
    "a dataset by an address": ("dataset", {"_target_": TU, "name": "http://127.0.0.1:9/x"}),
    "a dataset that nobody knows": ("dataset", {"_target_": TU, "name": "no_such_set"}),
    "a dataset of 450,000 graphs": ("dataset", {"_target_": "poolbench.data.sources.ogb.OGBDataset",
                                                "name": "ogbg-code2"}),
    "a billion graphs": ("dataset.num_graphs", 10**9),
    "a graph of a billion nodes": ("dataset", {"_target_": "poolbench.data.generators.pointclouds.Ring",
                                               "num_nodes": 10**9}),
    "a grid whose columns are not given": ("dataset", {"_target_": "poolbench.data.generators.pointclouds.Grid2d",
                                                       "rows": 10**7}),
    "a degree of a billion": ("dataset.max_degree", 10**9),
    "a name that moves the cursor": ("names.pool", "\x1b[2Jtopk"),
    "a tag that turns the text": ("tags", ["\u202egnp"]),
}  # fmt: skip
BUILT: dict[str, tuple[str, Any]] = {
    "a whole search": ("search", {"sampler": "tpe", "trials": 10**9, "concurrency": 1, "prune": False,
                                  "space": {"dataset._target_": ["os.system"]}}),
    "a billion epochs": ("trainer.max_epochs", 10**9),
    "a million threads": ("trainer.threads", 10**6),
    "99 devices": ("trainer.devices", 99),
    "devices in words": ("trainer.devices", "0," * 99),
    "devices with too many digits": ("trainer.devices", "9" * 5000),
    "machines": ("trainer.num_nodes", 100),
    "a strategy of others": ("trainer.strategy", "deepspeed"),
    "a thousand levels": ("model.levels", 1000),
    "a thousand layers of a level": ("model.depth", [1, 1000]),
    "a width of 10 million": ("model.hidden", 10**7),
    "a width of nearly 10 thousand in many layers": ("model", {
        "_target_": "poolbench.nn.hierarchical.Hierarchical", "hidden": 9999, "depth": 3,
        "readout": {"_target_": "poolbench.pool.readouts.globalpool.GlobalSumPool"}}),
    "a layer of a library that is no convolution": ("pool", {"_target_": "poolbench.pool.peers.pyg.PyGSAG",
                                                             "gnn": "Sequential"}),
    "a hundred million layers": ("model", {
        "_target_": "poolbench.nn.hierarchical.Hierarchical", "levels": 10**4, "depth": [1, 10**4],
        "readout": {"_target_": "poolbench.pool.readouts.globalpool.GlobalSumPool"}}),
    "a long MLP": ("model.head_layers", 9999),
    "an operator of many layers": ("pool", {"_target_": "poolbench.pool.parspool.ParsPool", "set_layers": 9999}),
    "an endless list": ("pool.ratio", [0.5] * 10**5),
    "a batch of a billion": ("batch_size", 10**9),
    "a million copies": ("protocol.copies", 10**6),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_record_is_not_split_and_not_run(
    made: Record, alarms: list[str], case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = changed(made, *HOSTILE[case])
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    assert cli.main(["verify", str(path), "--splits"]) == 1
    said = capsys.readouterr().out
    assert "is not built from: " in said or "config lacks" in said
    for words in (["rerun", str(path)], ["rerun", str(path), "--command"]):
        assert cli.main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
    assert not alarms and "acts" not in sys.modules
    with pytest.raises(PoolBenchError):
        rerun(decode(json.dumps(record)), {"data": None, "mirror": None})


@pytest.mark.parametrize("case", BUILT)
def test_a_run_that_asks_for_too_much_is_not_begun(
    made: Record, alarms: list[str], case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(changed(made, *BUILT[case])))
    assert cli.main(["rerun", str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists() and not alarms


def test_what_is_above_a_limit_is_done_where_it_is_asked_for(made: Record) -> None:
    config = changed(made, "trainer.threads", 10**6)["config"]
    with pytest.raises(Refused, match=r"threads.*1,000,000 is above .*--allow-large"):
        Trust().check(config)
    Trust(large=True).check(config)
    with pytest.raises(Refused, match="search"):
        Trust(large=True).check(changed(made, *BUILT["a whole search"])["config"])


def test_text_and_lists_are_no_amounts(made: Record) -> None:
    # Repeated as often as the other argument says they would be a terabyte.
    for graphs in ("x" * 200, [1] * 60):
        dataset = {"_target_": "poolbench.data.generators.csbm.ContextualSBM", "num_graphs": graphs, "nodes": 10**10}
        assert limits.too_large(changed(made, "dataset", dataset)["config"], runs=True) is None
        with pytest.raises(PoolBenchError, match="num_graphs"):
            locate("dataset", Part(dataset["_target_"], {}))(num_graphs=graphs, nodes=10**10)


def test_a_record_without_harm_is_run(made: Record) -> None:
    Trust().check(made["config"])
    Trust().check(json.loads(json.dumps(made["config"]).replace("poolbench.pool.readouts.", "poolbench.pool.")))


OWN = """
import torch
from poolbench.pool.nopool import NoPool
class Layer(torch.nn.Linear):
    def forward(self, x, *further):
        return super().forward(x)
class Own(NoPool):
    pass
def function(**arguments): raise AssertionError
class Other: pass
"""


def test_a_package_that_is_named_is_trusted(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_trusted.py").write_text(OWN)
    (tmp_path / "conf" / "pool").mkdir(parents=True)
    (tmp_path / "conf" / "pool" / "own.yaml").write_text("_target_: own_trusted.Own\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.train(["pool=none", "pool._target_=own_trusted.Own", *QUICK]) == 0
    (path,) = results.glob("runs/*/1/record.json")
    for words in (["rerun", str(path)], ["verify", str(path), "--splits"]):
        capsys.readouterr()
        assert cli.main(words) != 0
        said = "".join(capsys.readouterr())
        assert "pool._target_='own_trusted.Own' is not known here" in said and "--trust own_trusted imports it" in said
        assert cli.main([*words, "--trust", "own_trusted"]) == 0
        assert cli.main([*words, "--config-dir", str(tmp_path / "conf")]) == 0, "its folder was named"
    assert cli.main(["verify", str(path)]) == 0, "nothing is built from it"

    trusting = Trust(packages=("own_trusted",))
    config = json.loads(path.read_text())["config"]
    for name in ("function", "Other", "missing"):
        with pytest.raises(PoolBenchError, match="own_trusted"):
            trusting.check({**config, "pool": {"_target_": f"own_trusted.{name}"}})
    with pytest.raises(Refused, match="own_trusted_else"):
        trusting.check({**config, "pool": {"_target_": "own_trusted_else.Own"}})
    for package in ("os", "subprocess", "a/b", "", "..x"):
        with pytest.raises(PoolBenchError, match="the package of an operator"):
            Trust(packages=(package,))


def test_a_layer_within_an_operator_is_trusted_with_its_package(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_layers.py").write_text(OWN)
    (tmp_path / "conf" / "pool").mkdir(parents=True)
    (tmp_path / "conf" / "pool" / "own.yaml").write_text("_target_: a.B\ngnn: { _target_: own_layers.Layer }\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.train(["pool=sag", "+pool.gnn._target_=own_layers.Layer", "+pool.gnn.bias=false", *QUICK]) == 0
    (path,) = results.glob("runs/*/1/record.json")
    for words in (["rerun", str(path)], ["verify", str(path), "--splits"]):
        capsys.readouterr()
        assert cli.main(words) != 0
        said = "".join(capsys.readouterr())
        assert "pool.gnn._target_='own_layers.Layer' is not known here as a layer; --trust own_layers" in said
        assert cli.main([*words, "--trust", "own_layers"]) == 0
        assert cli.main([*words, "--config-dir", str(tmp_path / "conf")]) == 0, "its folder was named"

    trusting = Trust(packages=("own_layers",))
    config = json.loads(path.read_text())["config"]
    for gnn, said in (
        ({"_target_": "own_layers.function"}, "is no Module"),
        ({"_target_": "os.system", "command": "touch pwned"}, "not known here as a layer"),
        ({"_target_": "own_layers.Layer", "path": "x"}, "says nothing of places"),
        ({"_target_": "own_layers.Layer", "inner": {"_target_": "own_layers.Layer"}}, "no class is expected there"),
        ([{"_target_": "own_layers.Layer"}], "a list of them is expected"),
    ):
        with pytest.raises(Refused, match=said):
            trusting.check({**config, "pool": {**config["pool"], "gnn": gnn}})
    with pytest.raises(Refused, match="no class is expected there"):
        trusting.check({**config, "model": {**config["model"], "mp": {"_target_": "own_layers.Layer"}}})


def test_the_lists_are_those_of_torch() -> None:
    """What torch has more takes a closure, functions or other schedulers, or is for gradients of its own kind."""
    optimisers = {f"torch.optim.{n}" for n in dir(torch.optim) if isinstance(getattr(torch.optim, n), type)}
    assert optimisers - OPTIMISERS <= {f"torch.optim.{n}" for n in ("LBFGS", "Optimizer", "SparseAdam", "Muon")}
    assert optimisers >= OPTIMISERS
    for name in SCHEDULERS:
        assert issubclass(locate("scheduler", Part(name, {})), torch.optim.lr_scheduler.LRScheduler)


def test_every_class_of_the_registry_is_known_and_says_nothing_of_places_otherwise() -> None:
    """A path or an address goes by a name that is refused, so that a class with another one does not pass unseen."""
    registry = Registry.of()
    for group in ("pool", "model", "dataset", "protocol"):
        assert len(registry.files[group]) >= len(list((conf_dir() / group).glob("*.yaml")))
        for target in registry.targets(group):
            if target.startswith("poolbench.pool.peers."):
                continue  # tgp may be missing; what they take are words of another library
            for name, parameter in inspect.signature(locate(group, Part(target, {}))).parameters.items():
                if "Path" in str(parameter.annotation) or name in ("data", "mirror", "folds_file"):
                    assert trust._FROM_OUTSIDE.search(name), f"{target}({name})"


def test_conf_is_below_the_limits() -> None:
    """Each choice of conf/, as it stands there."""
    registry = Registry.of()
    for group in ("pool", "model", "dataset"):
        for name, file in registry.files[group].items():
            if name in ("tu", "ogb", "nodegraph", "bench"):
                continue  # a name is to be given
            assert limits.too_large(upgrade({group: dict(file), "trainer": {}}), runs=True) is None, name


def test_every_generator_has_a_limit() -> None:
    for target in Registry.of().targets("dataset"):
        if locate("dataset", Part(target, {})).generated:
            assert target.rpartition(".")[2] in limits._MADE, target


def test_a_perturbation_makes_no_more_than_a_generator() -> None:
    assert perturb.MOST_EDGES <= limits.MADE


def test_the_command_composes_no_name_that_is_none() -> None:
    """A name of a record is a word for Hydra, which would take a file elsewhere or a list of choices for one."""
    asked: list[list[str]] = []

    def compose(words: list[str]) -> dict[str, Any]:
        asked.append(words)
        return {}

    names = {"pool": "../../etc/x", "model": "a,b", "dataset": "${oc.env:HOME}", "protocol": "holdout"}
    record = decode(json.dumps(_bare(names)))
    command(record, compose)
    assert [word for words in asked for word in words if word.split("=")[0] in names] == [
        "protocol=holdout", "pool=none", "protocol=holdout"]  # fmt: skip


def _bare(names: dict[str, str]) -> dict[str, Any]:
    splits = {"protocol": "holdout", "version": 1, "seed": 0, "fold": None, "dataset": "", "hash": "", "train": 1,
              "val": 1, "test": 1}  # fmt: skip
    rest = {"id": "0" * 16, "attempt": 1, "status": "done", "reason": None, "task": None, "selected_epoch": None}
    provenance = {"git": None, "dirty": None, "packages": {}, "hardware": {}, "data": {}, "split": ""}
    return {"schema": 2, **rest, "config": {"names": names}, "splits": splits, "curve": [], "losses": {},
            "metrics": {"train": {}, "val": {}, "test": {}}, "diagnostics": {}, "memory_peak": None, "parameters": None,
            "time": {"epoch": None, "epoch_cpu": None, "total": None}, "seeds": {"seed": 0, "split": 0},
            "provenance": provenance}  # fmt: skip


def test_a_target_that_is_a_path_opens_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from poolbench.records.version import imported_modules

    (tmp_path / "secret.py").write_text("x = 1\n")
    assert not imported_modules([f"poolbench.{tmp_path}/secret.Pool", f"{tmp_path}/secret"])
    assert NoPool.__name__ and not list(tmp_path.glob("__pycache__/*"))
