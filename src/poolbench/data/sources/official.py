"""Metrics as the authors of a dataset compute them."""

from __future__ import annotations

import functools
import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poolbench.errors import PoolBenchError

log = logging.getLogger(__name__)


@functools.cache
def ogb_module(name: str) -> Any:
    """A module of the ogb package by its path inside it, such as `graphproppred/evaluate`, loaded by itself.

    `import ogb` would start a thread that asks PyPI for newer versions, for which the process waits at its end, and
    import PyG and DGL. The modules that are used here need none of that.

    Raises `PoolBenchError` where ogb is not installed.
    """
    package = importlib.util.find_spec("ogb")
    if package is None or package.origin is None:
        raise PoolBenchError("the official metric needs the package ogb; pip install 'ogb>=1.3.6'")
    path = Path(package.origin).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"poolbench_ogb_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class OGBMetric:
    """`ogb.graphproppred.Evaluator` of the dataset `name`, as `Target.evaluate`.

    (y_true, y_pred) -> metrics: for `rocauc`, `ap` and `rmse` both [g, T]; for `acc` y_true [g] and scores [g, C].

    The metric is NaN, with one warning, where it is not defined: OGB's evaluator raises for `rocauc` and `ap` where no
    task has both answers. That is a matter of which graphs a part has, such as the few of a trial run, and no reason
    to end a run whose loss is sound. The same holds for predictions that are no numbers.
    """

    name: str
    metric: str

    def __call__(self, y_true: Tensor, y_pred: Tensor) -> dict[str, float]:
        if why := undefined(y_true, y_pred, answers=self.metric in ("rocauc", "ap")):
            return not_a_number(self.name, self.metric, why)
        if self.metric == "acc":
            y_true, y_pred = y_true.reshape(-1, 1), y_pred.argmax(1, keepdim=True)
        evaluator = ogb_module("graphproppred/evaluate").Evaluator(self.name)
        values = evaluator.eval({"y_true": y_true.detach().cpu().numpy(), "y_pred": y_pred.detach().cpu().numpy()})
        return {key: float(value) for key, value in values.items()}


@dataclass(frozen=True)
class MeanAveragePrecision:
    """Average precision, the mean over the tasks that have both answers: y_true and y_pred [g, T].

    So do OGB and LRGB (Dwivedi et al., 2022, arXiv 2206.08164) compute it; NaN as for `OGBMetric`.
    """

    name: str

    def __call__(self, y_true: Tensor, y_pred: Tensor) -> dict[str, float]:
        if why := undefined(y_true, y_pred, answers=True):
            return not_a_number(self.name, "ap", why)
        from sklearn.metrics import average_precision_score

        scores = [
            average_precision_score(true[known], pred[known])
            for true, pred in zip(y_true.cpu().numpy().T, y_pred.detach().cpu().numpy().T, strict=True)
            if bool((known := true >= 0).any()) and 0 < true[known].mean() < 1
        ]
        return {"ap": float(sum(scores) / len(scores))}


def undefined(y_true: Tensor, y_pred: Tensor, answers: bool) -> str:
    """Why a metric cannot be computed, or ''. `answers`: y_true are answers, of which a task must have both."""
    if not bool(torch.isfinite(y_pred).all()):
        return "predictions are not finite"
    if answers and not bool(((y_true == 0).any(0) & (y_true == 1).any(0)).any()):
        return "no task has both answers among these graphs"
    return ""


@functools.cache
def _warn(text: str) -> None:
    log.warning(text)


def not_a_number(name: str, metric: str, why: str) -> dict[str, float]:
    """The metric as NaN, and one warning that says why."""
    _warn(f"{name}: {metric} is not defined: {why}")
    return {metric: float("nan")}
