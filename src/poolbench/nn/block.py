"""Message passing layers in a row, with what stands around each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.linalg import Connectivity, Matrix
from poolbench.nn.encoder import Channels
from poolbench.nn.message_passing import MessagePassing, Named, layer_of
from poolbench.nn.mlp import ACTIVATIONS, NORM_AT, Norm, activated

BLOCK_NORM_AT = (*NORM_AT, "block")
RESIDUAL = ("none", "sum", "cat")
JUMPING = ("none", "cat", "sum", "max")


def combined(parts: Sequence[Tensor], how: str) -> Tensor:
    """Features or readouts of several layers, each [.., f], as one: side by side, their sum or maximum, or the last."""
    if how == "none":
        return parts[-1]
    if how == "cat":
        return torch.cat(list(parts), -1)
    stacked = torch.stack(list(parts))
    return stacked.sum(0) if how == "sum" else stacked.amax(0)


def combined_width(name: str, widths: Sequence[int], how: str) -> int:
    """The width of what `combined` makes of parts of these widths. `name`: the argument that says how, for the
    ValueError where parts of several widths are to be added up."""
    if how not in ("none", "cat") and len(set(widths)) > 1:
        raise ValueError(f"{name}={how}: parts of the widths {', '.join(map(str, widths))} go together as cat alone")
    return sum(widths) if how == "cat" else widths[-1]


class Block(nn.Module):
    """Message passing layers of the given widths, each with normalisation, activation and dropout.

    Args:
        mp: the layer: its name, or a mapping of its `name` and arguments. widths: of the input and of each layer; of
            the input alone, the block has no layers and hands on what it is given.
        edges: the edge features that the layers will see; None on a graph that has none.
        norm_at: before or after the activation of each layer, or between two of them; block: once, what the block hands
            on.
        residual: what a layer gives is added to what it was given (sum; where the widths agree), or stands beside it
            (cat).
        combine: what the block hands on: none: its last layer; cat, sum, max: the outputs of all its layers, combined.
        linear_last: the last layer has neither normalisation nor activation.
    """

    def __init__(
        self,
        mp: Named,
        widths: Sequence[int],
        activation: str,
        norm: str,
        dropout: float,
        edges: Channels | None = None,
        norm_at: str = "before",
        residual: str = "none",
        combine: str = "none",
        linear_last: bool = False,
    ) -> None:
        super().__init__()
        layer, options = layer_of(mp)
        self.takes_edges = layer.takes_edges
        self.norm_at, self.residual, self.combine = norm_at, residual, combine
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        #: Width of what each layer gives.
        self.widths: list[int] = []
        width = widths[0]
        for out in widths[1:]:
            self.layers.append(layer(width, out, **({"edges": edges} if self.takes_edges else {}), **options))
            width = width + out if residual == "cat" else out
            self.widths.append(width)
        #: Of each layer.
        self.activations = [ACTIVATIONS[activation] for _ in self.layers]
        if linear_last:
            self.activations[-1:] = [ACTIVATIONS["none"] for _ in self.layers[-1:]]
        for number, out in enumerate(widths[1:], 1):
            plain = norm_at == "block" or (linear_last and number == len(self.layers))
            self.norms.append(Norm("none" if plain else norm, out))
        #: Width of what the block hands on.
        self.channels = combined_width("model.combine", self.widths, combine) if self.widths else width
        self.last = Norm(norm if norm_at == "block" else "none", self.channels)
        self.dropout = nn.Dropout(dropout)

    @property
    def connectivities(self) -> set[Connectivity]:
        return {layer.connectivity for layer in self.layers if isinstance(layer, MessagePassing)}

    def forward(self, x: Tensor, a: Matrix, edges: Tensor | None = None, outputs: list[Tensor] | None = None) -> Tensor:
        """What the block hands on, node level. `outputs`: a list to which is added what each layer gives."""
        found = []
        for layer, norm, activation in zip(self.layers, self.norms, self.activations, strict=True):
            assert isinstance(norm, Norm)
            y = layer(x, a, edges) if self.takes_edges else layer(x, a)
            y = self.dropout(activated(y, activation, norm, self.norm_at, a.nodes))
            if self.residual == "cat":
                y = torch.cat([x, y], -1)
            elif self.residual == "sum" and x.shape[-1] == y.shape[-1]:
                y = x + y
            x = y
            found.append(y)
        if outputs is not None:
            outputs += found
        return self.last(combined(found, self.combine) if found else x, a.nodes)


class Logits(nn.Module):
    """A block of message passing layers as a network of an operator's own, [.., in] -> [.., out].

    All layers but the last are `hidden` wide, the last `out`; where the block hands on another number of columns, as
    the outputs of all its layers side by side, a linear layer follows.

    Args:
        depth: how many layers. settings: the other arguments of `Block`, by name.
    """

    def __init__(self, in_channels: int, out_channels: int, *, hidden: int, depth: int, **settings: Any) -> None:
        super().__init__()
        inner = [hidden] * (depth - 1) + [out_channels] * min(depth, 1)
        self.block = Block(widths=[in_channels, *inner], **settings)
        wide = self.block.channels
        self.linear = nn.Identity() if wide == out_channels else nn.Linear(wide, out_channels)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        return self.linear(self.block(x, a))
