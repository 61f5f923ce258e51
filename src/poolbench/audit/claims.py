"""What a record claims in two places, or by a rule: names and classes, seeds, task, protocol, epochs, measurements."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from poolbench.audit.registry import Registry
from poolbench.config import read
from poolbench.errors import PoolBenchError
from poolbench.records.changes import today, upgrade
from poolbench.records.digests import count
from poolbench.records.identity import processes
from poolbench.records.outcomes import MOST
from poolbench.records.record import PAIRED, Record
from poolbench.report.board import FRACTIONS

_PROTOCOLS = "poolbench.data.protocols."
PROTOCOLS = {
    f"{_PROTOCOLS}{name}": facts for name, facts in {
        "Holdout": ("holdout", "val"), "CrossValidation": ("cv10", "val"), "Nested": ("nested10", "val"),
        "Official": ("ogb", "val"), "Transductive": ("cluster", "train"), "Nodes": ("nodes", "val"),
        "LegacyCrossValidation": ("legacy-cv10", "test")}.items()
} | {"poolbench.data.shift.Shift": ("shift", "val"),
     "poolbench.data.paired.PairedComparison": ("brec", "train"),
     "poolbench.data.published.PublishedFolds": ("published", "val")}  # fmt: skip
"""What the splits of a protocol are called (those of other folds than ten by their number), and the part on which it
selects an epoch."""

_GRAPHS = ("graph-classification", "graph-regression")
_EMBEDDED = (*_GRAPHS, PAIRED)
SCORED = (*_GRAPHS, "node-classification")
"""Tasks of which a metric can select the epoch."""
TASKS = {
    "poolbench.nn.hierarchical.Hierarchical": _EMBEDDED,
    "poolbench.nn.penalised.Penalised": _EMBEDDED,
    "poolbench.nn.diffpool.DiffPoolNet": _EMBEDDED,
    "poolbench.nn.flat.Global": _EMBEDDED,
    "poolbench.nn.dgcnn.DGCNN": _EMBEDDED,
    "poolbench.nn.structurefree.StructureFree": _EMBEDDED,
    "poolbench.nn.deepmultisets.DeepMultisets": _EMBEDDED,
    "poolbench.nn.unet.UNet": (*_EMBEDDED, "node-classification"),
    "poolbench.nn.clusterer.Clusterer": ("node-clustering",),
    "poolbench.nn.assigner.Assigner": ("node-clustering",),
    "poolbench.nn.autoencoder.Autoencoder": ("reconstruction",),
    "poolbench.nn.spectral.Spectral": ("structure-preservation",),
    "poolbench.learn.kernel.WeisfeilerLehman": ("graph-classification",),
    "poolbench.learn.kernel.ShortestPath": ("graph-classification",),
}
"""The tasks that a model can have."""

DRAW = frozenset(
    ("poolbench.pool.randompool.RandomSparsePool", "poolbench.pool.randompool.RandomDensePool",
     "poolbench.pool.bnpool.BNPool", "poolbench.pool.vipool.VIPool"))  # fmt: skip
"""Operators that draw when they are evaluated, so that validation at the end is not that of the selected epoch."""

TELLING = ("alias", "complement", "select")
"""Arguments by which choices of one class go by different names."""
CODE = re.compile("[0-9a-f]{16}")
BETWEEN_0_AND_1 = frozenset(FRACTIONS) - {"ari", "modularity"}


def wrong(record: Record, registry: Registry) -> Iterator[str]:
    """What of a record contradicts itself. Its configuration has all groups."""
    yield from _types(record)
    yield from _names(record.config, registry)
    yield from _seeds(record)
    yield from _what_was_run(record)
    yield from _measured(record)
    yield from _selection(record)
    if record.schema != 1 and record.done:
        yield from _missing(record)


def unknown(record: Record, registry: Registry) -> bool:
    """Whether a part is of somebody's own, so that its name and what follows from its class cannot be checked."""
    return any(
        target(record, group) not in registry.targets(group) for group in ("pool", "model", "dataset", "protocol")
    )


def target(record: Record, group: str) -> str:
    """The class of a part, where it is today."""
    return today(str(record.config[group].get("_target_")))


def trains(record: Record) -> bool:
    """Whether it has epochs, which a graph kernel has not."""
    return not target(record, "model").startswith("poolbench.learn.kernel.")


def measured_anew(record: Record) -> bool:
    """Whether validation at the end came to something else than in the selected epoch."""
    row = record.selected or {}
    return any(row.get(f"val/{name}", value) != value for name, value in record.metrics.val.items())


# --------------------------------------------------------------------------------------------------- the configuration


def _types(record: Record) -> Iterator[str]:
    """Types by the schema of the configuration, which schema 1 is older than."""
    if record.code is None:
        yield "provenance.code is missing: it says which version of the code made it"
    elif not CODE.fullmatch(record.code):
        yield f"provenance.code={record.code!r} is no version of the code"
    if record.schema != 1:
        places = {"results": "results", "data": None, "mirror": None}
        try:
            read({**upgrade(record.config), "paths": places})
        except PoolBenchError as error:
            yield f"config: {error}"


def _names(config: Mapping[str, Any], registry: Registry) -> Iterator[str]:
    """What was chosen, by name, against the classes."""
    names = config.get("names")
    for group in ("pool", "model", "dataset", "protocol"):
        name, part = names.get(group) if isinstance(names, Mapping) else None, config[group]
        kind = today(str(part.get("_target_")))
        if name is None or (group == "dataset" and name == part.get("name")):
            continue
        files, known = registry.files[group], registry.targets(group)
        file = files.get(str(name))
        if file is None:
            if kind in known and name != kind.rpartition(".")[2]:
                yield f"config.names.{group}={name!r} is no {group} here, and its class is {kind}"
        elif file["_target_"] != kind and (kind in known or group == "pool"):  # a class of one's own is named in pool
            yield f"config.names.{group}={name!r} is {file['_target_']}, and its class is {kind}"
        elif key := _told(file, part, files.values()):
            yield f"config.names.{group}={name!r} has {key}={file[key]!r}, and it has {part.get(key)!r}"


def _told(file: Mapping[str, Any], part: Mapping[str, Any], files: Any) -> str | None:
    """The argument by which a part is not what its name says, where several names go by one class."""
    for key in TELLING:
        if key in file and file[key] != part.get(key):
            others = [each for each in files if each["_target_"] == file["_target_"]]
            return key if len({str(each.get(key)) for each in others}) > 1 else None
    return None


def _seeds(record: Record) -> Iterator[str]:
    config, splits, seeds = record.config, record.splits, record.seeds
    for key, said, meant in (
        ("seeds.seed", seeds.seed, config.get("seed")),
        ("seeds.split", seeds.split, config["split"].get("seed")),
        ("splits.fold", splits.fold, config.get("fold")),
    ):
        if said != meant:
            yield f"{key} is {said}, and the configuration says {meant}"


def _what_was_run(record: Record) -> Iterator[str]:
    protocol, model = target(record, "protocol"), target(record, "model")
    if protocol in PROTOCOLS:
        folds = record.config["protocol"].get("folds", 10)  # nested10's are the name of published ones
        name = PROTOCOLS[protocol][0].replace("10", str(folds) if isinstance(folds, int) else "10")
        if record.splits.protocol != name:
            yield f"splits.protocol is {record.splits.protocol!r}, and config.protocol splits by {name}"
    if record.task is not None and record.task not in TASKS.get(model, (record.task,)):
        yield f"task is {record.task!r}, and its model does {' or '.join(TASKS[model])}"
    if record.done and record.task is None:
        yield "is done, and names no task"
    if record.done and record.reason is not None:
        yield f"is done, and has a reason: {record.reason!r}"


# -------------------------------------------------------------------------------------------------------- measurements


def _measured(record: Record) -> Iterator[str]:
    metrics, time = record.metrics, record.time
    for part, values in metrics.parts().items():
        if values and not getattr(record.splits, part) and record.task != "node-clustering":
            yield f"metrics.{part} are of no graphs: splits.{part} is 0"
        for name, value in values.items():
            bounded = name in BETWEEN_0_AND_1 and not 0 <= value <= 1
            negative = value < 0 and (name in ("mae", "rmse") or (name == "loss" and record.task in _GRAPHS))
            if math.isfinite(value) and (bounded or negative):
                yield f"metrics.{part}.{name} is {value}"
    if record.done:
        tested = ("id_test",) if record.config.get("evaluate_test", True) else ()
        for part in ("train", "val", *tested):
            if getattr(record.splits, part) and not getattr(metrics, part) and target(record, "protocol") in PROTOCOLS:
                yield f"is done, and has no metrics.{part}"
        counts = _metric(record)
        if metrics.test and counts not in metrics.test:
            yield f"diagnostics.metric is {counts!r}, which metrics.test has not"
    losses = {name: value for name, value in metrics.train.items() if name.startswith("loss_")}
    if losses != record.losses:
        yield "losses are not those of metrics.train"
    for name in ("epoch", "epoch_cpu", "total"):
        value = getattr(time, name)
        if value is not None and not 0 <= value < math.inf:
            yield f"time.{name} is {value}"
    for name, column in (("epoch", "time"), ("epoch_cpu", "time_cpu")) if record.curve and record.done else ():
        clock = [row[column] for row in record.curve if column in row]
        if not clock or getattr(time, name) != median(clock):
            yield f"time.{name} is not the median of its curve"


def _metric(record: Record) -> Any:
    said = record.diagnostics.get("metric")
    return said.get("name") if isinstance(said, Mapping) else None


def _selection(record: Record) -> Iterator[str]:
    """The selected epoch and its row, by the rule that selects."""
    epochs = len(record.curve) or count(record.digests or "")
    most = record.config["trainer"].get("max_epochs")
    if isinstance(most, int) and epochs > most and record.task != PAIRED:
        yield f"has more epochs than trainer.max_epochs={most}"
    said = record.diagnostics.get("selection")
    if not isinstance(said, Mapping):
        if record.done:
            yield "is done, and diagnostics.selection is missing: the rule by which the epoch was selected"
        return
    monitor, mode = str(said.get("monitor")), said.get("mode")
    callbacks, protocol = record.config.get("callbacks"), target(record, "protocol")
    if isinstance(callbacks, Mapping) and callbacks.get("monitor", "auto") != "auto":
        if [monitor, mode] != [callbacks["monitor"], callbacks.get("mode")]:
            yield f"diagnostics.selection is {mode} of {monitor}, and callbacks say another"
    elif protocol in PROTOCOLS and monitor.partition("/")[0] != PROTOCOLS[protocol][1]:
        yield f"diagnostics.selection is by {monitor}, and its protocol selects on {PROTOCOLS[protocol][1]}"
    elif protocol in PROTOCOLS and trains(record):
        select = upgrade(record.config)["protocol"].get("select")
        rule = _rule(record, select, PROTOCOLS[protocol][1])
        if select is not None and [monitor, mode] != rule:
            yield f"diagnostics.selection is {mode} of {monitor}, and select={select} means {rule[1]} of {rule[0]}"
    if record.done and mode == "last" and not record.curve and record.selected_epoch != epochs - 1 >= 0:
        yield f"selected_epoch is {record.selected_epoch}, and the last is {epochs - 1}"
    if record.done and record.curve and record.selected_epoch is not None:
        part = upgrade(record.config).get("callbacks")
        stopping = part if isinstance(part, Mapping) else {}
        tolerance = stopping.get("tolerance")
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float):
            yield f"config.callbacks.tolerance is {tolerance!r}, and the epoch is selected by it"
        elif (best := _best(record.curve, monitor, mode, tolerance, stopping.get("ties"))) != record.selected_epoch:
            yield f"selected_epoch is {record.selected_epoch}, and by {mode} of {monitor} it is {best}"
    if record.done and record.selected is not None and _repeats(record) and measured_anew(record):
        yield "metrics.val are not those of the selected epoch's row"


def _rule(record: Record, select: Any, part: str) -> list[Any]:
    """The number by which a protocol selects an epoch, and its mode, as `learn.train.build_selection` does it."""
    metric = record.diagnostics.get("metric")
    if select == "metric" and isinstance(metric, Mapping) and record.task in SCORED:
        return [f"{part}/{metric.get('name')}", metric.get("mode")]
    return [f"{part}/loss", "last" if select == "last" else "min"]


def _best(curve: list[dict[str, float]], monitor: str, mode: Any, tolerance: float, ties: Any) -> int | None:
    """As `learn.keeper.Selection` does it; not a number is never best."""
    if mode == "last":
        return len(curve) - 1
    sign, best, epoch = (-1 if mode == "max" else 1), math.inf, None
    for number, row in enumerate(curve):
        value, least = sign * row.get(monitor, math.nan), best - tolerance
        if value < least or (value == least and ties == "last"):
            best, epoch = value, number
    return epoch


def _repeats(record: Record) -> bool:
    """Whether the same weights, measured again, give the same bits: PoolBench's operators that do not draw, in float32
    on one CPU process."""
    trainer, pool = record.config["trainer"], target(record, "pool")
    ours = pool.startswith("poolbench.pool.") and ".peers." not in pool and pool not in DRAW
    plain = str(trainer.get("precision")) in ("32", "32-true") and trainer.get("compile") is False
    return ours and plain and trainer.get("accelerator") == "cpu" and processes(trainer) == 1


def _missing(record: Record) -> Iterator[str]:
    """What a run that was done leaves in schema 2, whatever is gathered of it."""
    if trains(record) and record.digests is None:
        yield "is done, and lacks the digests of its epochs"
    classes = "accuracy" in record.metrics.test and record.splits.test <= MOST
    if classes and record.outcomes is None and record.task in ("graph-classification", "node-classification"):
        yield "is done, and lacks outcomes: what was answered for each test graph"
    if classes and record.outcomes is not None and record.task in _GRAPHS and record.outcomes.right is None:
        yield "outcomes.right is missing: which of the answers are right"
    if record.task == PAIRED and record.outcomes is None:
        yield "is done, and lacks outcomes: T^2 of each pair"
    for name in ("parameters", "memory_peak") if trains(record) else ():
        if getattr(record, name) is None:
            yield f"is done, and lacks {name}"
