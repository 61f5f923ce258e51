"""What is to be predicted of each graph: the values, the loss that fits them, and the metric that counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError

KINDS = ("classes", "binary", "numbers", "words", "none", "pairs")
LOSSES = {"classes": ("cross-entropy",), "binary": ("cross-entropy",), "numbers": ("mse", "l1"),
          "words": ("cross-entropy",), "none": ("none",), "pairs": ("cosine",)}  # fmt: skip

Evaluate = Callable[[Tensor, Tensor], dict[str, float]]
"""(y_true, y_pred) of all graphs of a part -> metrics by name."""


@dataclass(frozen=True, eq=False)
class Target:
    """The labels of a dataset's G graphs.

    Args:
        kind: `classes`: y [G] int64, one class a graph. `binary`: y [G, T] float32, T yes/no questions, NaN where the
            answer is not known. `numbers`: y [G, T] float32, NaN where not known. `words`: y [G, L] int64, the words of
            a sequence as numbers below `vocabulary`. `none`: y [G] zeros; nothing is known of the graphs, and a model
            learns from the pool's own losses or from the features. `pairs`: y [G] zeros; of two graphs that follow one
            another the answers are to differ.
        y: the values.
        outputs: what a model must return for a graph: C, T, T, L * vocabulary, 0, any.
        metric: the name of the metric that counts. mode: `max` where larger is better, else `min`.
        loss: `cross-entropy`, or for numbers `mse` or `l1`, for pairs `cosine`.
        evaluate: metrics out of all labels and predictions of a part (model outputs as they are: logits). The official
            evaluator of a dataset, where it has one; None: accuracy for classes, mean errors for numbers.
        references: [G, ...] what `evaluate` takes as y_true where y does not say all, such as the words beyond the
            first L and those outside the vocabulary; None: y itself.
        choose: makes of a batch's outputs what `evaluate` takes, where the outputs of a part would be too much to
            keep, such as a score for each word; None: the outputs themselves.
    """

    kind: str
    y: Tensor
    outputs: int
    metric: str
    mode: str = "max"
    loss: str = "cross-entropy"
    evaluate: Evaluate | None = None
    references: Tensor | None = None
    choose: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} is none of {', '.join(KINDS)}")
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode={self.mode!r} is neither min nor max")
        if self.loss not in LOSSES[self.kind]:
            raise PoolBenchError(
                f"loss={self.loss} does not fit {self.kind}; choose from {', '.join(LOSSES[self.kind])}"
            )

    @property
    def strata(self) -> Tensor:
        """[G] int64, what a stratified split keeps in proportion: the classes, the answers to a single question where
        all are known, else nothing (one class for all)."""
        if self.kind == "classes":
            return self.y
        if self.kind == "binary" and self.y.shape[1] == 1 and not bool(torch.isnan(self.y).any()):
            return self.y[:, 0].to(torch.int64)
        return torch.zeros(self.y.shape[0], dtype=torch.int64)


def classes(raw: RawGraphs) -> Target:
    """One class a graph. Raises `PoolBenchError` where graphs have none, or all the same."""
    y = raw.class_labels()
    if raw.num_classes < 2:
        raise PoolBenchError(f"dataset {raw.name} has a single class: there is nothing to tell apart")
    return Target("classes", y, raw.num_classes, "accuracy")


def node_classes(raw: RawGraphs) -> Target:
    """One class a node. Raises `PoolBenchError` where nodes have none."""
    if raw.node_y is None:
        raise PoolBenchError(f"dataset {raw.name} has no classes of nodes: take a protocol of graphs, such as holdout")
    return Target("classes", raw.node_y, int(raw.node_y.max()) + 1, "accuracy")


def numbers(raw: RawGraphs, loss: str = "mse", columns: list[int] | None = None) -> Target:
    """Numbers to regress: all columns of `raw.targets`, or some. Raises `PoolBenchError` where there are none."""
    if raw.targets is None:
        raise PoolBenchError(f"dataset {raw.name} has no numbers to regress: its graphs have classes")
    width = raw.targets.shape[1]
    if columns is not None and not (columns and all(0 <= c < width for c in columns)):
        raise PoolBenchError(f"columns={columns}: dataset {raw.name} has the columns 0 to {width - 1}")
    y = raw.targets if columns is None else raw.targets[:, columns]
    metric = "mae" if loss == "l1" else "rmse"
    return Target("numbers", y.to(torch.float32), y.shape[1], metric, "min", loss)


def nothing(raw: RawGraphs) -> Target:
    """No labels: what a model learns from are the losses of its own parts."""
    return Target("none", torch.zeros(raw.num_graphs, dtype=torch.int64), 0, "loss", "min", "none")


def pairs(raw: RawGraphs, width: int) -> Target:
    """Embeddings [G, width], of which two that follow one another are to differ."""
    return Target("pairs", torch.zeros(raw.num_graphs, dtype=torch.int64), width, "pairs", "max", "cosine")


def natural(raw: RawGraphs) -> Target:
    """What the files hold: classes where graphs have one each, else numbers."""
    return classes(raw) if raw.y is not None or raw.targets is None else numbers(raw)
