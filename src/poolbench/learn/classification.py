"""Graph classification: the Lightning module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.data.store import Batch
from poolbench.learn.build import loss_weights
from poolbench.nn.model import GraphModel, ModelOutput
from poolbench.pool.src import Operator


class GraphClassification(pl.LightningModule):
    """One class a graph: cross-entropy, and the pool's auxiliary losses added with their weights.

    Sums over graphs are gathered in tensors and read once an epoch, so that a step costs no logging and no waiting
    for the device; accuracy is over graphs, never an average over batches.

    Args:
        model: (x, a) -> `ModelOutput` with y [b, classes].
        optimizer, scheduler: built by `learn.build`; the scheduler is stepped by `Keeper`, once an epoch.
        weights: one number for all auxiliary losses, or a mapping by name.
    """

    task = "graph-classification"

    def __init__(
        self, model: GraphModel, optimizer: torch.optim.Optimizer, weights: float | Mapping[str, float]
    ) -> None:
        super().__init__()
        self.model, self.optimizer, self.weights = model, optimizer, weights
        self._by_name: dict[str, float] | None = None
        self.tally = Tally()
        self._constrained = [m for m in model.modules() if isinstance(m, Operator)]

    def forward(self, batch: Batch) -> ModelOutput:
        return self.model(batch.x, batch.a)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        out = self(batch)
        task = F.cross_entropy(out.y, batch.y)
        if self._by_name is None:
            self._by_name = loss_weights(self.weights, out.losses)
        total = task
        for name, value in out.losses.items():
            if self._by_name[name]:
                total = total + self._by_name[name] * value
        self.tally.add(out, batch.y, task, total)
        return total

    def validation_step(self, batch: Batch, index: int) -> None:
        self.evaluate(batch, self.tally)

    def evaluate(self, batch: Batch, tally: Tally) -> None:
        """One batch of an evaluation, added to `tally`."""
        out = self(batch)
        tally.add(out, batch.y, F.cross_entropy(out.y, batch.y), None)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        for module in self._constrained:
            module.apply_constraints()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer


class Tally:
    """Sums over graphs of losses, hits and sizes, on the device until `means` reads them."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._graphs = 0

    @torch.no_grad()
    def add(self, out: ModelOutput, y: Tensor, task: Tensor, total: Tensor | None) -> None:
        """Add a batch of b graphs: losses are means over them."""
        b = y.numel()
        values = {"loss": task.detach() * b, "accuracy": (out.y.argmax(-1) == y).sum()}
        if total is not None:
            values["total_loss"] = total.detach() * b
        for name, value in out.losses.items():
            values[f"loss_{name}"] = value.detach() * b
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._graphs += b

    def means(self, reduce: Any = None) -> dict[str, float]:
        """The mean of each over the graphs since the last call; `reduce` sums a tensor over processes."""
        if not self._graphs:
            return {}
        names = list(self._sums)
        # float64, so that the count of graphs and the sums survive the division and the trip between processes
        values = torch.stack([self._sums[name].double() for name in names] + [torch.tensor(
            float(self._graphs), dtype=torch.float64, device=self._sums[names[0]].device)])  # fmt: skip
        if reduce is not None:
            values = reduce(values)
        *sums, graphs = values.tolist()
        self._sums, self._graphs = {}, 0
        return {name: value / graphs for name, value in zip(names, sums, strict=True)}


@torch.no_grad()
def evaluate(module: GraphClassification, batches: Iterable[Batch], seed: int) -> dict[str, float]:
    """Metrics of a trained module over some batches, in evaluation mode, draws seeded. Plain, outside the Trainer."""
    torch.manual_seed(seed)
    was_training, tally = module.training, Tally()
    module.eval()
    for batch in batches:
        module.evaluate(batch, tally)
    module.train(was_training)
    return tally.means()
