"""Sums over graphs, gathered in tensors and read once an epoch: a step costs no logging, no waiting for a device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from poolbench.data.store import Batch
from poolbench.data.target import Target
from poolbench.learn.metrics import measure
from poolbench.nn.model import ModelOutput
from poolbench.records.outcomes import MOST, pack
from poolbench.records.record import Outcomes

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over the processes of a distributed run."""


class Tally:
    """Losses and metrics over the graphs that it was shown; means are over graphs, never averages of batch averages.

    Args:
        target: what was to be predicted. Its metric is computed from all predictions together, where it is not the
            accuracy over classes, which is a sum.
        answers: filled in with what is predicted, where it is given.
    """

    def __init__(self, target: Target, answers: Answers | None = None) -> None:
        self.target, self._shown = target, answers
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
        if self._shown is not None:
            self._shown.add(out.y, batch)

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


class Answers:
    """What a model predicts for each graph (node) of a part: its class, or the values for questions and numbers.

    Args:
        nodes: whether the labels are of nodes; batches then come in the order of the dataset, whole.
        total: graphs (nodes) of the dataset.
    """

    def __init__(self, target: Target, nodes: bool, total: int) -> None:
        self._target, self._nodes, self._total = target, nodes, total
        self._asked: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._right: list[Tensor] = []
        self._seen = self._kept = 0

    def add(self, y: Tensor, batch: Batch) -> None:
        """Add a model's outputs for a batch."""
        if self._target.kind not in ("classes", "binary", "numbers") or self._kept > MOST:
            return
        asked, labels = batch.graphs, batch.y
        if self._nodes:
            known = labels >= 0
            asked, y, labels = self._seen + known.nonzero()[:, 0].cpu(), y[known], labels[known]
            self._seen += known.numel()
        if self._target.kind == "classes":
            y = y.argmax(-1)
            self._right.append(y == labels)
        self._asked.append(asked)
        self._predicted.append(y)
        self._kept += y.numel()

    def packed(self) -> Outcomes | None:
        """For the record; None where nothing was kept, or it was too much."""
        if not self._kept or self._kept > MOST:
            return None
        predicted = torch.cat(self._predicted).cpu()
        right = torch.cat(self._right).cpu().numpy() if self._right else None
        values = predicted if self._right else predicted.float()
        return pack(torch.cat(self._asked).numpy(), values.numpy(), right, self._total)
