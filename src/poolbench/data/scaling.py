"""Node features that are numbers, scaled by what is trained on, so that nothing of the other nodes is learnt."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from poolbench.data.features import Features
from poolbench.errors import PoolBenchError

Scale = Literal["standard", "range"]

_COLUMNS = 64
"""So many columns are held in 64 bits at once."""


def scaled(x: Features, trained: Tensor, how: Scale, dataset: str) -> tuple[Features, Tensor]:
    """`x` with its columns of numbers scaled by statistics over the rows `trained` [N] bool; and these statistics
    [2, F] float64: what becomes 0 in each column, and how much 1.

    One-hot columns (named what=value) and constants stay. A column of one value in these rows is shifted alone.

    Args:
        how: `standard`, to mean 0 and variance 1 (of the rows, not estimated for others); `range`, to 0 up to 1.
        dataset: what messages call it.

    Raises `PoolBenchError` where no column is a number, nothing is trained on, or a scaled number is none of 32 bits.
    """
    columns = [] if x.vocabulary is not None else [j for j, name in enumerate(x.names) if _is_number(name)]
    if not columns:
        raise PoolBenchError(
            f"feature_scale={how}: {dataset} has no node feature that is a number, but categories and constants alone; "
            "leave it out, or choose others by dataset.features"
        )
    if not bool(trained.any()):
        raise PoolBenchError(f"feature_scale={how}: of {dataset} no node is trained on, so there are no statistics")
    rows, values = trained.numpy(), x.values.numpy().copy()
    used = np.array([np.zeros(values.shape[1]), np.ones(values.shape[1])])
    for at in range(0, len(columns), _COLUMNS):
        block = columns[at : at + _COLUMNS]
        numbers = values[:, block].astype(np.float64)
        shift, width = _statistics(numbers[rows], how)
        used[:, block] = shift, np.where(width > 0, width, 1.0)
        with np.errstate(over="ignore"):  # said below, of which column
            values[:, block] = (numbers - used[0, block]) / used[1, block]
        if not (finite := np.isfinite(values[:, block]).all(axis=0)).all():
            raise PoolBenchError(
                f"feature_scale={how}: {x.names[block[int(finite.argmin())]]} of {dataset} is not finite in 32 bits "
                "once it is scaled; leave it out, or choose others by dataset.features"
            )
    return x._replace(values=torch.from_numpy(values)), torch.from_numpy(used)


def scaled_by(x: Tensor, statistics: Tensor) -> Tensor:
    """[N, F] float32 of other nodes, scaled as `scaled` did those of training."""
    return ((x.double() - statistics[0]) / statistics[1]).float()


def _statistics(numbers: np.ndarray[Any, Any], how: Scale) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What becomes 0 in each column, and how much 1."""
    low, high = numbers.min(axis=0), numbers.max(axis=0)
    if how == "range":
        return low, high - low
    # The rounded sum of equal numbers has a spread, and what it is divided by would be noise.
    return numbers.mean(axis=0), np.where(high > low, numbers.std(axis=0), 0.0)


def _is_number(column: str) -> bool:
    return "=" not in column and column != "constant"
