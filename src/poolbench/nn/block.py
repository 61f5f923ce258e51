"""Message passing layers in a row, with what stands around each of them."""

from __future__ import annotations

from collections.abc import Sequence

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
        norm_at: before or after the activation of each layer; block: once, what the block hands on.
        residual: what a layer gives is added to what it was given (sum; where the widths agree), or stands beside it
            (cat).
        combine: what the block hands on: none: its last layer; cat, sum, max: the outputs of all its layers, combined.
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
        for out in widths[1:]:
            self.norms.append(Norm("none" if norm_at == "block" else norm, out))
        #: Width of what the block hands on.
        self.channels = combined_width("model.combine", self.widths, combine) if self.widths else width
        self.last = Norm(norm if norm_at == "block" else "none", self.channels)
        self.activation, self.dropout = ACTIVATIONS[activation], nn.Dropout(dropout)

    @property
    def connectivities(self) -> set[Connectivity]:
        return {layer.connectivity for layer in self.layers if isinstance(layer, MessagePassing)}

    def forward(self, x: Tensor, a: Matrix, edges: Tensor | None = None, outputs: list[Tensor] | None = None) -> Tensor:
        """What the block hands on, node level. `outputs`: a list to which is added what each layer gives."""
        found = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            assert isinstance(norm, Norm)
            y = layer(x, a, edges) if self.takes_edges else layer(x, a)
            y = self.dropout(activated(y, self.activation, norm, self.norm_at, a.nodes))
            if self.residual == "cat":
                y = torch.cat([x, y], -1)
            elif self.residual == "sum" and x.shape[-1] == y.shape[-1]:
                y = x + y
            x = y
            found.append(y)
        if outputs is not None:
            outputs += found
        return self.last(combined(found, self.combine) if found else x, a.nodes)
