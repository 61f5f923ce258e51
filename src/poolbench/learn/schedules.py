"""Schedules of the learning rate that torch lacks, stepped once an epoch."""

from __future__ import annotations

import math

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from poolbench.errors import whole


class WarmupCosine(LRScheduler):
    """Up to the optimiser's rate in equal steps, then down to 0 along half a cosine: `scheduler=warmup-cosine`.

    Epoch e (from 0) has (e + 1) / warmup of the rate, from epoch `warmup` on
    (1 + cos(pi (e - warmup) / (T_max - warmup))) / 2 of it. As GMT's authors do (Baek et al., ICLR 2021,
    arXiv 2102.11533), who step it once a batch.

    Args:
        warmup: epochs on the way up, 1 or more.
        T_max: epochs in all. Where there are no more than `warmup`, the rate never comes down.

    Raises `ValueError` for what are no such numbers.
    """

    def __init__(self, optimizer: Optimizer, warmup: int, T_max: int) -> None:
        self.warmup, self.T_max = whole("warmup", warmup, 1), whole("T_max", T_max, 1)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group of parameters in epoch `last_epoch`."""
        down = self.last_epoch - self.warmup
        if down < 0:
            share = (self.last_epoch + 1) / self.warmup
        else:
            share = (1 + math.cos(math.pi * min(1.0, down / max(1, self.T_max - self.warmup)))) / 2
        return [rate * share for rate in self.base_lrs]
