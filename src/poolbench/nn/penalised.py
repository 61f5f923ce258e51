"""Levels of message passing and pooling with a penalty of their weights in the loss (`model=penalised`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.linalg import Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.hierarchical import Hierarchical
from poolbench.nn.model import ModelOutput


class Penalised(Hierarchical):
    """`Hierarchical`, with the auxiliary loss `l2` = l2 * the sum of w^2 over the weights of all layers on nodes.

    These are what Keras calls kernels: no biases, no normalisation, nothing of the readout and the MLP. Those of an
    operator are penalised where `pool.kernel_regularizer` says so. Unlike a weight decay it is part of the loss,
    in validation too: `callbacks.monitor=val/total_loss` stops by it.

    Args:
        l2: of each squared weight. The others are those of `Hierarchical`.

    Raises ValueError for a number below 0.
    """

    def __init__(self, *args: Any, l2: float = 1e-4, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        if l2 < 0:
            raise ValueError(f"model.l2={l2!r}: a number of at least 0 is expected")
        self.l2 = l2

    @property
    def kernels(self) -> list[Tensor]:
        """The weights that are penalised."""
        inner = [self.blocks, *([] if self.nodes is None else [self.nodes])]
        return [layer.weight for part in inner for layer in part.modules() if isinstance(layer, nn.Linear)]

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        out = super().forward(x, a, edges, coarsenings)
        squares = [kernel.square().sum() for kernel in self.kernels]
        penalty = self.l2 * (torch.stack(squares).sum() if squares else out.y.new_zeros(()))
        return out._replace(losses={**out.losses, "l2": penalty})
