"""Metrics from all labels and predictions of a part."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from poolbench.data.target import Target


def measure(target: Target, y: Tensor, predicted: Tensor) -> dict[str, float]:
    """The metrics of a target's graphs, on the host.

    Args:
        y: [n, ...] labels. predicted: [n, ...] model outputs as they are (logits).

    Returns:
        what the dataset's own evaluator says where there is one; else for `binary` the ROC-AUC and the average
        precision, each a mean over the questions that have both answers, and for `numbers` MAE and RMSE over the
        known values. A metric that is not defined (one answer only) is NaN.
    """
    if target.kind == "none":
        return {}
    if target.evaluate is not None:
        return target.evaluate(y, predicted)
    if target.kind == "binary":
        return binary(y, predicted)
    if target.kind == "numbers":
        return errors(y, predicted)
    return {}


def names(target: Target) -> tuple[str, ...]:
    """What `measure` returns for a target, and the accuracy where it has classes."""
    counted = ("accuracy",) if target.kind == "classes" else ()
    if target.kind == "none":
        return ()
    if target.evaluate is not None:
        return (*counted, target.metric, *(("precision", "recall") if target.kind == "words" else ()))
    return {"binary": ("rocauc", "ap"), "numbers": ("mae", "rmse")}.get(target.kind, counted)


def binary(y: Tensor, predicted: Tensor) -> dict[str, float]:
    """ROC-AUC and average precision, means over the questions with both answers."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    auc, precision = [], []
    for answers, scores in zip(y.double().T.numpy(), predicted.double().T.numpy(), strict=True):
        known = ~np.isnan(answers)
        if len(np.unique(answers[known])) == 2:
            auc.append(float(roc_auc_score(answers[known], scores[known])))
            precision.append(float(average_precision_score(answers[known], scores[known])))
    return {"rocauc": _mean(auc), "ap": _mean(precision)}


def errors(y: Tensor, predicted: Tensor) -> dict[str, float]:
    """Mean absolute error and root mean squared error over the known values."""
    difference = (predicted.double() - y.double())[~torch.isnan(y)]
    return {"mae": float(difference.abs().mean()), "rmse": math.sqrt(float(difference.square().mean()))}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
