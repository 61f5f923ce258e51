"""Multi-layer perceptrons and the small pieces between layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.linalg import Nodes, Padded
from poolbench.pool.base.module import Module


def _none(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,  # what it is given was made for it and is kept by nobody
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "none": _none,
}
NORMS = ("none", "batch", "layer")
NORM_AT = ("before", "after", "between")
"""Where a normalisation stands: before the activation of a layer, after it, or between two of them."""


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


def activated(
    x: Tensor, activation: Callable[[Tensor], Tensor], norm: Norm, norm_at: str, nodes: Nodes | None = None
) -> Tensor:
    """What a layer gave, normalised before its activation or where `norm_at` says (`NORM_AT`)."""
    if norm_at in ("after", "between"):
        y = norm(activation(x), nodes)
        return activation(y) if norm_at == "between" else y
    return activation(norm(x, nodes))


def among(name: str, value: Any, choices: Iterable[str]) -> str:
    """`value` of the argument `name`, one of some words; else ValueError that names them."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(choices)}")
    return value


def affine(x: Tensor, layer: nn.Linear, bias: Tensor | None = None) -> Tensor:
    """x W' + b: [.., n] -> [.., m] with the layer's W [m, n], and its bias or the one that is given.

    Of a W with no more columns than rows a copy of W' is taken. torch makes the gradient of W in the layout of what was
    multiplied with: as G'X it took six times as long as X'G for n = 4, m = 64 and 1,250 rows (one core, float32).
    """
    bias = layer.bias if bias is None else bias
    if x.ndim != 2 or layer.in_features > layer.out_features:
        return F.linear(x, layer.weight, bias)
    right = layer.weight.t().contiguous()
    return x @ right if bias is None else torch.addmm(bias, x, right)


class MLP(Module):
    """Linear layers of the given widths with normalisation, activation and dropout between them, none after the last.

    x is [.., f]; `nodes` says which rows are padding, where a batch normalisation must know.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        norm: str = "none",
        norm_at: str = "before",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))
        self.norms = nn.ModuleList(Norm(among("norm", norm, NORMS), m) for m in widths[1:-1])
        self.norm_at = among("norm_at", norm_at, NORM_AT)
        self.activation = ACTIVATIONS[among("activation", activation, ACTIVATIONS)]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, nodes: Nodes | None = None) -> Tensor:
        *hidden, last = (layer for layer in self.layers if isinstance(layer, nn.Linear))
        for layer, norm in zip(hidden, self.norms, strict=True):
            assert isinstance(norm, Norm)
            x = self.dropout(activated(affine(x, layer), self.activation, norm, self.norm_at, nodes))
        return affine(x, last)
