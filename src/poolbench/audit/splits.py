"""Splits drawn anew from their datasets, and what was answered against the labels: beside what records say."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from poolbench.audit import paired
from poolbench.audit.trust import Trust
from poolbench.data.index_files import NotHere
from poolbench.errors import PoolBenchError
from poolbench.records import outcomes
from poolbench.records.changes import upgrade
from poolbench.records.record import PAIRED, Record

if TYPE_CHECKING:
    from poolbench.data.prepared import Prepared


def wrong(
    read: Iterable[tuple[str, Record]], paths: Mapping[str, Any], trust: Trust, absent: Counter[str]
) -> Iterator[str]:
    """What is wrong with splits that are drawn anew, and with outcomes beside the labels.

    Args:
        read: where each record stands, and the record. paths: `data` and `mirror`. trust: what records may name.
        absent: counts the records whose index file is not here, by what is to be said of it.
    """
    drawn: dict[str, Prepared | PoolBenchError] = {}
    for where, record in read:
        config = upgrade(record.config)
        try:
            trust.check(config, runs=False)
        except PoolBenchError as error:
            yield f"{where}: is not built from: {error}"
            continue
        key = json.dumps([config["dataset"], config["protocol"], config["split"], config.get("fold")], sort_keys=True)
        if key not in drawn:
            try:
                drawn[key] = _draw(config, paths)
            except PoolBenchError as error:
                drawn[key] = error
        now = drawn[key]
        if isinstance(now, NotHere):
            absent[str(now)] += 1
        elif isinstance(now, PoolBenchError):
            yield f"{where}: its split cannot be drawn again: {now}"
        elif now.split.fingerprint != record.splits.dataset:
            yield f"{where}: its dataset is not the one that there is now: fingerprints differ"
        elif now.split.hash != record.splits.hash:
            yield f"{where}: its split is not what its protocol draws: {now.split.hash[:16]} is expected"
        else:
            yield from (f"{where}: {said}" for said in _wrong_labels(record, now))


def _draw(config: Mapping[str, Any], paths: Mapping[str, Any]) -> Prepared:
    """The data and the split that a configuration makes."""
    from poolbench.config import Part
    from poolbench.data.prepared import Prepared
    from poolbench.learn.build import build_dataset
    from poolbench.learn.locate import build_protocol

    places = paths.get("data"), paths.get("mirror")
    dataset = build_dataset(Part.of("dataset", config["dataset"]), *places)
    protocol = build_protocol(Part.of("protocol", config["protocol"]), config["split"]["seed"], *places)
    return Prepared.of(dataset, protocol, config.get("fold"))


def _wrong_labels(record: Record, prepared: Prepared) -> Iterator[str]:
    """The sizes of the split, and the outcomes against it and its labels."""
    import numpy as np

    sizes = {part: size for part, size in prepared.split.sizes.items() if part != "unused"}
    if sizes != {part: getattr(record.splits, part) for part in sizes}:
        yield f"splits are of other sizes than its protocol draws: {sizes}"
    if record.outcomes is None:
        return
    try:
        answers = outcomes.unpack(record.outcomes)
    except ValueError:
        return  # it is said elsewhere
    if record.task == PAIRED:
        yield from paired.against(record, answers, prepared)
    elif record.task == "node-clustering":
        if len(answers.predicted) != prepared.raw.total_nodes:
            yield f"outcomes are of {len(answers.predicted)} nodes, and there are {prepared.raw.total_nodes}"
            return
        yield from _wrong_metrics(record, _of_clusters(answers, prepared))
    elif not np.array_equal(answers.graphs, prepared.split.test.numpy()):
        yield "outcomes are not of the graphs of the test split"
    elif answers.right is None:
        yield from _wrong_metrics(record, _of_values(answers, prepared))
    else:
        labels = prepared.target.y[prepared.split.test].numpy()
        if not np.array_equal(answers.right, answers.predicted == labels):
            yield "outcomes say of other answers that they are right than the labels do"


def _wrong_metrics(record: Record, made: Mapping[str, float]) -> Iterator[str]:
    """Test metrics against those that the outcomes make, which are kept in float32."""
    for name, value in made.items():
        said = record.metrics.test.get(name, math.nan)
        if not math.isclose(said, value, rel_tol=1e-5, abs_tol=1e-7) and not (math.isnan(said) and math.isnan(value)):
            yield f"metrics.test.{name}={said}, and its outcomes make {value}"


def _of_values(answers: outcomes.Answers, prepared: Prepared) -> dict[str, float]:
    import torch

    from poolbench.learn.metrics import measure

    target = prepared.target
    if target.kind not in ("binary", "numbers") or answers.predicted.shape[1:] != target.y.shape[1:]:
        return {}
    return measure(target, target.y[prepared.split.test], torch.from_numpy(answers.predicted.copy()))


def _of_clusters(answers: outcomes.Answers, prepared: Prepared) -> dict[str, float]:
    import torch

    from poolbench.learn import clustering

    cluster, raw = torch.from_numpy(answers.predicted.astype("int64")), prepared.raw
    found = clustering.by_itself(cluster, raw.edge_index, int(cluster.max()) + 1)
    return found if raw.node_y is None else {**clustering.against_classes(cluster, raw.node_y), **found}
