"""One training run from built parts to measured numbers; knows no record and no Hydra."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from poolbench.data.raw import RawGraphs
from poolbench.data.splits import Split
from poolbench.data.store import GraphStore, mix
from poolbench.learn.build import build_model, build_optimizer, build_scheduler, build_trainer
from poolbench.learn.classification import GraphClassification, evaluate
from poolbench.learn.datamodule import GraphData
from poolbench.learn.keeper import Keeper, Selection
from poolbench.learn.progress import progress
from poolbench.linalg import RAW
from poolbench.nn.model import DataFacts

Row = dict[str, float]


@dataclass
class Outcome:
    """What a run measured."""

    metrics: dict[str, Row] = field(default_factory=dict)
    selected_epoch: int | None = None
    curve: list[Row] = field(default_factory=list)
    losses: Row = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    time: dict[str, float | None] = field(default_factory=dict)
    memory_peak: int | None = None
    parameters: int | None = None


def set_threads(threads: int) -> None:
    """Threads of torch: the order of sums depends on it, so it is a part of a run's identity."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def train(
    config: Mapping[str, Any],
    raw: RawGraphs,
    features: torch.Tensor,
    split: Split,
    *,
    resume: Path | None = None,
    identity: str = "",
    on_start: Callable[[int], None] = lambda epoch: None,
    on_epoch: Callable[[int, Row], None] = lambda epoch, row: None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Train, select on validation, evaluate once from the selected epoch.

    Args:
        config: the resolved configuration. raw, features, split: the data.
        resume: file of the resume checkpoint, None for none. identity: of the run, written into it.
        on_start: called with the first epoch to be trained. on_epoch: called with each epoch's row.
        outcome: filled in as the run goes, so that a run that fails leaves what it measured.
    """
    outcome = outcome or Outcome()
    started = time.perf_counter()
    settings, seed = dict(config["trainer"]), int(config["seed"])
    set_threads(settings["threads"])
    mean_nodes = float(raw.num_nodes[split.train].double().mean())
    facts = DataFacts(features.shape[1], raw.num_classes, mean_nodes)

    torch.manual_seed(mix(seed, 0))
    model = build_model(config, facts)
    outcome.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    optimizer = build_optimizer(config["optimizer"], model.parameters())
    scheduler = build_scheduler(config["scheduler"], optimizer)
    module = GraphClassification(model, optimizer, config["loss_weights"])

    def store(device: torch.device) -> GraphStore:
        views = model.requirements() - {RAW}
        labels = raw.class_labels()
        return GraphStore(features, raw.num_nodes, raw.edge_index, labels, None, views, device)

    data = GraphData(store, split, int(config["batch_size"]), seed)
    callbacks = config["callbacks"]
    selection = Selection(callbacks["monitor"], callbacks["mode"], callbacks["patience"])
    display = progress(callbacks["progress"])
    report = display.report if display is not None else (lambda epoch, row: None)

    def each_epoch(epoch: int, row: Row) -> None:
        on_epoch(epoch, row)
        report(epoch, row)

    keeper = Keeper(selection, scheduler, seed, resume, callbacks["resume_every"], each_epoch, identity)
    keeper.read()
    outcome.curve = keeper.curve
    on_start(keeper.epoch)
    shown: list[pl.Callback] = [] if display is None else [display]
    trainer = build_trainer(settings, [keeper, *shown])
    if settings["compile"]:
        module.model.compile()
    try:
        trainer.fit(module, datamodule=data)
    finally:
        outcome.time["epoch"], outcome.time["epoch_cpu"] = keeper.epoch_times()
        outcome.selected_epoch = selection.epoch
        outcome.memory_peak = _memory_peak(data)
        outcome.time["total"] = time.perf_counter() - started

    if not trainer.is_global_zero:
        return outcome  # the first process evaluates
    if selection.weights:
        model.load_state_dict(selection.weights)
    parts = ["train", "val"] + (["test"] if config["evaluate_test"] else [])
    module.to(data.store.device)
    for number, part in enumerate(parts):
        outcome.metrics[part] = evaluate(module, data.whole(part), mix(seed, 0x7E57, number))
    outcome.losses = {k: v for k, v in outcome.metrics["train"].items() if k.startswith("loss_")}
    outcome.diagnostics = _sizes(module, data)
    outcome.time["total"] = time.perf_counter() - started
    return outcome


def _memory_peak(data: GraphData) -> int:
    """Bytes: of the device where training ran on one, else the most that this process ever held."""
    device = data.store.device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@torch.no_grad()
def _sizes(module: GraphClassification, data: GraphData) -> dict[str, Any]:
    """Mean nodes a graph at each level, over the validation graphs."""
    module.eval()
    totals: list[float] = []
    graphs = 0
    for batch in data.whole("val"):
        sizes = [float(level.sum()) for level in module(batch).sizes]
        totals = [a + b for a, b in zip(totals, sizes, strict=True)] if totals else sizes
        graphs += batch.num_graphs
    return {"nodes_per_level": [total / max(graphs, 1) for total in totals]}
