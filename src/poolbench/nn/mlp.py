"""Multi-layer perceptrons and the small pieces between layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.linalg import Nodes, Padded

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "none": lambda x: x,
}
NORMS = ("none", "batch", "layer")


class Norm(nn.Module):
    """Batch or layer normalisation of node features, [n, f] or [b, k, f] alike; padding has no part in it."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.norm: nn.Module
        if kind == "batch":
            self.norm = nn.BatchNorm1d(channels)
        elif kind == "layer":
            self.norm = nn.LayerNorm(channels)
        else:
            self.norm = nn.Identity()

    def forward(self, x: Tensor, nodes: Nodes | None = None) -> Tensor:
        if isinstance(self.norm, nn.Identity):
            return x
        mask = nodes.mask if isinstance(nodes, Padded) else None
        if mask is not None and isinstance(self.norm, nn.BatchNorm1d):
            return torch.zeros_like(x).masked_scatter(mask.unsqueeze(-1), self(x[mask]))
        if self.training and x.numel() == x.shape[-1] and isinstance(self.norm, nn.BatchNorm1d):
            return x  # one row has no variance: torch refuses it, and there is nothing to normalise by
        return self.norm(x.reshape(-1, x.shape[-1])).reshape(x.shape)


class MLP(nn.Module):
    """Linear layers of the given widths with an activation and dropout between them, none after the last."""

    def __init__(self, widths: Sequence[int], activation: str = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.dropout(self.activation(layer(x)))
        return self.layers[-1](x)
