"""One training run from its configuration and data to measured numbers; writes no record, and knows no Hydra."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from poolbench.config import Callbacks, Config
from poolbench.data.prepared import Prepared
from poolbench.learn import diagnostics, memory
from poolbench.learn.datamodule import GraphData
from poolbench.learn.keeper import Keeper, Selection
from poolbench.learn.learner import Learner, evaluate
from poolbench.learn.outcome import Outcome, Row
from poolbench.learn.pairs import compare
from poolbench.learn.progress import progress
from poolbench.learn.tally import Answers
from poolbench.learn.trainable import Trainable, drawn_by, packed_store
from poolbench.learn.trainer import build_trainer
from poolbench.records.outcomes import pack
from poolbench.records.record import MEASURED, PARTS, TESTED
from poolbench.splitmix import mix

log = logging.getLogger(__name__)


def train(
    config: Config,
    prepared: Prepared,
    trainable: Trainable,
    *,
    resume: Path | None = None,
    identity: str = "",
    on_start: Callable[[int], None] = lambda epoch: None,
    on_epoch: Callable[[int, Row], None] = lambda epoch, row: None,
    on_picture: Callable[[int, bytes], None] = lambda epoch, png: None,
    watch: Callable[[int, float], None] | None = None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Train, select on validation, evaluate once from the selected epoch.

    Args:
        prepared: the data. trainable: what `Trainable.of` built for it.
        resume: file of the resume checkpoint, None for none. identity: of the run, written into it.
        on_start: called with the first epoch to be trained. on_epoch: called with each epoch's row.
        on_picture: called after every `callbacks.pictures_every`-th epoch, with a PNG of what the first pool does.
        watch: called after each epoch with the number that selects epochs, signed so that less is better; what it
            raises ends the training. A resumed run tells it of the epochs before, too.
        outcome: filled in as the run goes, so that a run that fails leaves what it measured.
    """
    outcome = outcome or Outcome()
    started = time.perf_counter()
    if prepared.comparison is not None:
        try:
            compare(config, prepared, outcome, resume, identity, on_start, on_epoch, watch)
        finally:
            outcome.time["total"] = time.perf_counter() - started
        return outcome
    seed, model, learner = drawn_by(config, prepared), trainable.model, trainable.learner
    if learner is None:
        on_start(0)
        _fit_kernel(model, prepared, config.evaluate_test, outcome)
        outcome.time["total"] = time.perf_counter() - started
        return outcome
    prepared = learner.adapt(prepared, model)
    target, split = prepared.target, prepared.split
    outcome.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    module = learner(model, trainable.optimizer, config.loss_weights, target, config.loss_ramp)
    outcome.task = module.task

    store = partial(packed_store, config, prepared, model)
    data = GraphData(store, split, config.batch_size, seed, prepared.validates, prepared.level)
    callbacks = config.callbacks
    selection = build_selection(callbacks, prepared, module)
    shown = ("train/loss" if target.kind != "none" else "train/total_loss", selection.monitor,
             f"{prepared.validates}/{target.metric}")  # fmt: skip
    display = progress(callbacks.progress, tuple(dict.fromkeys(shown)))
    report = display.report if display is not None else (lambda epoch, row: None)

    def each_epoch(epoch: int, row: Row) -> None:
        report(epoch, row)
        on_epoch(epoch, row)
        every = callbacks.pictures_every
        if every and (epoch + 1) % every == 0 and trainer.is_global_zero:
            png = _picture(module, data)
            if png is not None:
                on_picture(epoch, png)
        if watch is not None:
            watch(epoch, selection.score(row))

    over = config.trainer.hands_over
    keeper = Keeper(selection, trainable.scheduler, seed, resume, callbacks.resume_every, None if over else each_epoch,
                    identity, prepared.validates, config.trainer.min_epochs or 0,
                    config.trainer.min_steps or 0)  # fmt: skip
    keeper.read()
    outcome.curve = keeper.curve
    on_start(keeper.epoch)
    if watch is not None:  # of the epochs before a kill, too: the verdict may depend on them
        for epoch, row in enumerate(keeper.curve):
            watch(epoch, selection.score(row))
    displays: list[pl.Callback] = [] if display is None else [display]
    trainer = build_trainer(config.trainer, [keeper, *displays])
    if config.trainer.compile:
        module.model.compile(dynamic=True)
    memory.forget(trainer.strategy.root_device)
    try:
        if over:
            _fit_elsewhere(trainer, module, data, keeper, on_epoch)
        else:
            trainer.fit(module, datamodule=data)
    finally:
        outcome.time["epoch"], outcome.time["epoch_cpu"] = keeper.epoch_times()
        outcome.selected_epoch = selection.epoch
        outcome.memory_peak = memory.of_device(trainer.strategy.root_device)
        outcome.time["total"] = time.perf_counter() - started

    if not trainer.is_global_zero:
        return outcome  # the first process evaluates
    if selection.weights:
        model.load_state_dict(selection.weights)
        outcome.weights = selection.weights
    module.to(data.store.device)
    answers = Answers(target, prepared.level == "nodes", split.num_graphs)
    for number, part in enumerate(MEASURED):
        if getattr(split, part).numel() and (part not in TESTED or config.evaluate_test):
            kept = answers if part == "test" else None
            outcome.metrics[part] = evaluate(module, data.whole(part), mix(seed, 0x7E57, number), kept)
    outcome.outcomes = answers.packed()
    if config.evaluate_test:
        judged, clusters = judge(module, prepared, data, mix(seed, 0x7E57, len(PARTS)))
        outcome.metrics["test"] = {**outcome.metrics.get("test", {}), **judged}
        if clusters is not None:
            nodes = torch.arange(clusters.numel())
            outcome.outcomes = pack(nodes.numpy(), clusters.numpy(), None, clusters.numel())
    outcome.losses = {k: v for k, v in outcome.metrics["train"].items() if k.startswith("loss_")}
    metric, mode = (target.metric, target.mode) if target.kind != "none" else module.metric
    outcome.diagnostics = {"metric": {"name": metric, "mode": mode},
                           "selection": {"monitor": selection.monitor, "mode": selection.mode},
                           **_sizes(module, data),
                           **_pooling(module, data, prepared, mix(seed, 0x7E57, len(PARTS) + 1))}  # fmt: skip
    outcome.time["total"] = time.perf_counter() - started
    _measure_memory(outcome, module, data, mix(seed, 0x7E57, len(PARTS) + 2))
    return outcome


def _fit_elsewhere(
    trainer: pl.Trainer, module: Learner, data: GraphData, keeper: Keeper, on_epoch: Callable[[int, Row], None]
) -> None:
    """Train in processes that get everything handed over; their epochs are told here once all are done."""
    seen = keeper.epoch
    with tempfile.TemporaryDirectory() as folder:
        keeper.handover = Path(folder, "books")
        trainer.fit(module, datamodule=data)
        keeper.take_back()
    module.trainer = data.trainer = trainer  # Lightning tells them there alone
    for epoch, row in enumerate(keeper.curve[seen:], seen):
        on_epoch(epoch, row)


def _measure_memory(outcome: Outcome, module: Learner, data: GraphData, seed: int) -> None:
    """Trains `module` further, so it comes last."""
    if data.store.device.type == "cpu":
        outcome.memory_peak = memory.of_step(module, data, seed)
        outcome.diagnostics["memory"] = memory.TENSORS
    elif outcome.memory_peak is not None:
        outcome.diagnostics["memory"] = memory.ALLOCATOR


def _fit_kernel(model: Any, prepared: Prepared, evaluate_test: bool, outcome: Outcome) -> None:
    """A graph kernel (`learn.kernel`) has no epochs."""
    try:
        model.fit(prepared, outcome, evaluate_test)
    finally:
        outcome.time["epoch"] = outcome.time["epoch_cpu"] = None


def build_selection(callbacks: Callbacks, prepared: Prepared, module: Learner) -> Selection:
    """Which epoch counts: the protocol's choice, where `callbacks.monitor` is `auto`."""
    target, monitor, mode = prepared.target, f"{prepared.validates}/loss", "min"
    if callbacks.monitor != "auto":
        monitor, mode = callbacks.monitor, callbacks.mode
    elif prepared.select == "last":
        mode = "last"
    elif prepared.select == "metric" and target.kind != "none":
        monitor, mode = f"{prepared.validates}/{target.metric}", target.mode
    return Selection(monitor, mode, callbacks.patience, callbacks.tolerance, callbacks.ties)


@torch.no_grad()
def judge(module: Learner, prepared: Prepared, data: GraphData, seed: int) -> tuple[Row, torch.Tensor | None]:
    """What the trained model is asked once, at the end (`Learner.judge`), in evaluation mode, draws seeded."""
    torch.manual_seed(seed)
    module.eval()
    return module.judge(prepared.raw, data.whole("train"))


def _pooling(module: Learner, data: GraphData, prepared: Prepared, seed: int) -> dict[str, Any]:
    """What the operators do to some validation graphs (`learn.diagnostics`); a failure there is none of the run."""
    graphs = data.graphs(data.validates)
    graphs = graphs[: diagnostics.sample(data.store.host_sizes[graphs])]
    torch.manual_seed(seed)
    try:
        batches = map(data.store.batch, graphs.split(data.batch_size))
        found = diagnostics.pooling(module, module.model, batches, diagnostics.Known.of(prepared))
    except Exception as error:
        log.warning("no pooling diagnostics: %s: %s", type(error).__name__, error)
        return {}
    return {"pooling": found} if found["levels"] else {}


def _picture(module: Learner, data: GraphData) -> bytes | None:
    """Of the first validation graph that can be drawn; a failure there is none of the run."""
    from poolbench.learn.pictures import NODES, picture

    graphs = data.graphs(data.validates)
    fitting = graphs[data.store.host_sizes[graphs] <= NODES][:1]
    try:
        return picture(module, module.model, data.store.batch(fitting)) if fitting.numel() else None
    except Exception as error:
        log.warning("no picture: %s: %s", type(error).__name__, error)
        return None


@torch.no_grad()
def _sizes(module: Learner, data: GraphData) -> dict[str, Any]:
    """Mean nodes a graph at each level, over the validation graphs (the training graphs where none are held out)."""
    module.eval()
    totals: list[float] = []
    graphs = 0
    for batch in data.whole(data.validates):
        sizes = [float(level.sum()) for level in module(batch).sizes]
        totals = [a + b for a, b in zip(totals, sizes, strict=True)] if totals else sizes
        graphs += batch.num_graphs
    return {"nodes_per_level": [total / max(graphs, 1) for total in totals]}
