"""Pairs of graphs, a model for each: trained to tell the two apart, and tested on whether it does.

A pair takes the place that an epoch has in other runs: it is a row of the curve, and a killed run goes on behind it.
What comes of a pair hangs on the seed and its number alone. See `poolbench.data.paired` for the protocol.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from poolbench.config import Config, replace
from poolbench.data.paired import pair_of
from poolbench.data.pairs import Comparison
from poolbench.data.prepared import Prepared
from poolbench.data.store import BatchLoader
from poolbench.learn import memory
from poolbench.learn.datamodule import GraphData
from poolbench.learn.keeper import Keeper, Selection, read_checkpoint, write_checkpoint
from poolbench.learn.learner import PairComparison
from poolbench.learn.outcome import Outcome, Row
from poolbench.learn.progress import Lines
from poolbench.learn.trainable import Trainable, drawn_by, packed_store
from poolbench.learn.trainer import build_trainer
from poolbench.records.outcomes import pack
from poolbench.splitmix import mix
from poolbench.statistics import hotelling, hotelling_threshold, told_apart

RESOLUTION = 1e-5
"""Embeddings that differ by less than this share of their root mean square do not differ. Nodes in another order are
summed in another order, and in that rounding (measured: up to 1.2e-6) the test would find a difference once in twenty
pairs, as it does in any noise."""


class Apart(Selection):
    """The last epoch counts. A pair is done with once its mean loss is below `enough`, or got no better for `patience`
    epochs."""

    def __init__(self, enough: float, patience: int, tolerance: float) -> None:
        super().__init__("train/loss", "last", patience, tolerance)
        self.enough, self.last = enough, float("inf")

    def update(self, epoch: int, row: dict[str, float], model: torch.nn.Module) -> None:
        self.epoch, self.last = epoch, row["train/loss"]
        if self.last < self.value - self.tolerance:
            self.value, self.stale = self.last, 0
        else:
            self.stale += 1

    @property
    def exhausted(self) -> bool:
        return self.last < self.enough or super().exhausted


class PairData(GraphData):
    """Batches of whole pairs of copies, in their order: `train` the two graphs, `test` one of them twice."""

    def train_dataloader(self) -> BatchLoader:
        return self.whole("train")


class Pair:
    """One pair, and the model that is trained on it.

    Args:
        config, prepared: of the run. number: of the pair.

    Raises `PoolBenchError` where model, protocol and data do not go together.
    """

    def __init__(self, config: Config, prepared: Prepared, number: int) -> None:
        assert prepared.comparison is not None
        self.how = prepared.comparison
        self.seed = mix(drawn_by(config, prepared), 0xB4EC, number)
        self.config = replace(config, seed=self.seed)
        own = pair_of(prepared, number)
        self.trainable = Trainable.of(self.config, own)
        made = self.trainable
        self.module = PairComparison(made.model, made.optimizer, config.loss_weights, own.target, config.loss_ramp)
        store = partial(packed_store, config, own, made.model, keep=False)
        self.data = PairData(store, own.split, config.batch_size, self.seed, "train")

    def row(self) -> Row:
        """Train, test, and say what came of it."""
        started = time.perf_counter(), time.process_time()
        callbacks, trainer = self.config.callbacks, self.config.trainer
        apart = Apart(self.how.stop_below, callbacks.patience, callbacks.tolerance)
        keeper = Keeper(apart, self.trainable.scheduler, self.seed, validates="train",
                        min_epochs=trainer.min_epochs or 0, min_steps=trainer.min_steps or 0)  # fmt: skip
        build_trainer(trainer, [keeper]).fit(self.module, datamodule=self.data)
        self.module.to(self.data.store.device)
        torch.manual_seed(mix(self.seed, 0x7E57))
        found = {"test/t2": self._t2("train"), "test/t2_same": self._t2("test"), "epochs": float(keeper.epoch)}
        clock = {"time": time.perf_counter() - started[0], "time_cpu": time.process_time() - started[1]}
        last = {name: value for name, value in keeper.curve[-1].items() if name.startswith("train/") or name == "lr"}
        return {**last, **found, **clock}

    @torch.no_grad()
    def _t2(self, part: str) -> float:
        """Hotelling's T^2 of the embeddings of the first and the second of each two graphs of a part."""
        self.module.eval()
        y = torch.cat([self.module(batch).y for batch in self.data.whole(part)]).double().cpu().numpy()
        return hotelling(y[0::2] - y[1::2], RESOLUTION * float(np.sqrt(np.square(y).sum(axis=1).mean())))

    def memory(self) -> int | None:
        """Bytes that a training step needs at its peak; trains the model further."""
        self.data.trainer = build_trainer(self.config.trainer, [])
        return memory.of_step(self.module, self.data, mix(self.seed, 0x7E57, 1))


def compare(
    config: Config,
    prepared: Prepared,
    outcome: Outcome,
    resume: Path | None = None,
    identity: str = "",
    on_start: Callable[[int], None] = lambda pair: None,
    on_pair: Callable[[int, Row], None] = lambda pair, row: None,
    watch: Callable[[int, float], None] | None = None,
) -> None:
    """Compare all pairs and fill in `outcome`. The arguments are those of `learn.train.train`, a pair for an epoch."""
    how = prepared.comparison
    assert how is not None
    outcome.task = PairComparison.task
    curve = outcome.curve = _left(resume, identity)
    lines = None if config.callbacks.progress == "none" else Lines(("test/t2", "test/t2_same"), "pair")
    on_start(len(curve))
    for number, row in enumerate(curve):
        if watch is not None:
            watch(number, row["train/loss"])
    saved = time.monotonic()
    try:
        for number in range(len(curve), len(how.pairs)):
            row = Pair(config, prepared, number).row()
            curve.append(row)
            if lines is not None:
                lines.report(number, row)
            on_pair(number, row)
            if watch is not None:
                watch(number, row["train/loss"])
            if resume is not None and time.monotonic() - saved >= config.callbacks.resume_every:
                write_checkpoint(resume, {"identity": identity, "curve": curve})
                saved = time.monotonic()
    finally:
        if curve:
            outcome.time["epoch"] = median(row["time"] for row in curve)
            outcome.time["epoch_cpu"] = median(row["time_cpu"] for row in curve)
            outcome.selected_epoch = len(curve) - 1
    if lines is not None:
        lines.end()
    _fill_in(outcome, how, prepared)
    largest = Pair(config, prepared, _largest(prepared))
    outcome.parameters = sum(p.numel() for p in largest.trainable.model.parameters() if p.requires_grad)
    if largest.data.store.device.type == "cpu":
        outcome.memory_peak, outcome.diagnostics["memory"] = largest.memory(), memory.TENSORS


def _left(resume: Path | None, identity: str) -> list[Row]:
    """The rows of the pairs that a run that was killed had done."""
    state = None if resume is None else read_checkpoint(resume, identity)
    return [] if state is None else list(state["curve"])


def _largest(prepared: Prepared) -> int:
    """The pair with the most nodes, whose training step needs the most memory, and whose model is the largest."""
    assert prepared.comparison is not None
    return int(prepared.raw.num_nodes[prepared.comparison.pairs.graphs].sum(dim=1).argmax())


def _fill_in(outcome: Outcome, how: Comparison, prepared: Prepared) -> None:
    # In float32, as they are kept, so that the record says the same of a pair in all places.
    t2 = np.array([[row["test/t2"], row["test/t2_same"]] for row in outcome.curve], dtype=np.float32)
    threshold = hotelling_threshold(how.copies, how.dim, how.alpha)
    told = told_apart(t2, threshold)
    found = {"pairs": float(told.sum()), "unreliable": float((~(t2[:, 1] <= threshold)).sum())}
    kinds = np.array(how.pairs.kinds)
    found |= {f"pairs/{kind}": float(told[kinds == kind].sum()) for kind in how.pairs.sizes}
    outcome.metrics["test"] = found
    first = how.pairs.graphs[:, 0].numpy()
    outcome.outcomes = pack(first, t2, told, prepared.raw.num_graphs)
    outcome.diagnostics = {
        "metric": {"name": "pairs", "mode": "max"},
        "selection": {"monitor": "train/loss", "mode": "last"},
        "pairs": {"threshold": threshold, "of": how.pairs.sizes},
    }
