"""Sums over graphs, gathered in tensors and read once an epoch: a step costs no logging, no waiting for a device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from poolbench.data.store import Batch
from poolbench.data.target import Target
from poolbench.learn.metrics import measure
from poolbench.nn.model import ModelOutput

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over the processes of a distributed run."""


class Tally:
    """Losses and metrics over the graphs that it was shown; means are over graphs, never averages of batch averages.

    Args:
        target: what was to be predicted. Its metric is computed from all predictions together, where it is not the
            accuracy over classes, which is a sum.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._clear()

    def _clear(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._answers: Tensor | int = 0
        self._hits: Tensor | int = 0
        self._graphs = 0
        self._held: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def add(
        self, out: ModelOutput, batch: Batch, task: Tensor, answers: Tensor | int, total: Tensor | None = None
    ) -> None:
        """Add a batch of b graphs.

        Args:
            task: the task's loss, a mean over `answers` answers.
            total: in training, the loss that is minimised; without, the predictions are kept for the metrics.
        """
        y, b = batch.y, batch.y.shape[0]
        values = [*([] if total is None else [total]), *out.losses.values()]
        row = torch.stack([task * answers / b, *values]) * b
        if self._sums is None:
            self._names = tuple(
                ["loss"] + ([] if total is None else ["total_loss"]) + [f"loss_{n}" for n in out.losses]
            )
            self._sums = row
        else:
            self._sums = self._sums + row
        self._answers = self._answers + answers
        self._graphs += b
        if self.target.kind == "classes":
            self._hits = self._hits + (out.y.argmax(-1) == y).sum()
        if total is None and (self.target.kind != "classes" or self.target.evaluate is not None):
            held = y if self.target.references is None else self.target.references[batch.graphs]
            self._held.append((held, out.y if self.target.choose is None else self.target.choose(out.y)))

    def means(self, reduce: Reduce | None = None) -> dict[str, float]:
        """Every loss and metric over the graphs since the last call, which are then forgotten."""
        if self._sums is None:
            return {}
        # float64, so that the counts and the sums survive the division and the trip between processes
        counts = [self._answers, self._hits, self._graphs]
        tail = torch.stack([torch.as_tensor(c, dtype=torch.float64, device=self._sums.device) for c in counts])
        values = torch.cat([self._sums.double(), tail])
        if reduce is not None:
            values = reduce(values)
        task, *sums, answers, hits, graphs = values.tolist()
        out = {"loss": task / max(answers, 1.0)}
        if self.target.kind == "classes":
            out["accuracy"] = hits / max(answers, 1.0)
        out |= {name: value / graphs for name, value in zip(self._names[1:], sums, strict=True)}
        if self._held:
            y, predicted = (torch.cat(part).cpu() for part in zip(*self._held, strict=True))
            out |= measure(self.target, y, predicted)
        self._clear()
        return out
