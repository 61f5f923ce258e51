"""Graph convolutions inside operators: the layers of PyTorch Geometric by name, blind to the weights of edges.

Morris et al., AAAI 2019, arXiv 1810.02244 (GraphConv); Kipf & Welling, ICLR 2017, arXiv 1609.02907 (GCN); Hamilton,
Ying, Leskovec, NeurIPS 2017, arXiv 1706.02216 (SAGE); Veličković et al., ICLR 2018, arXiv 1710.10903 (GAT). A layer is
called as layer(x, a), computes in float32 where it is in a half type, and starts with PyTorch Geometric's values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.linalg import Matrix, Sparse, merged_entries
from poolbench.pool.base.gnn import GNN, made
from poolbench.pool.base.layers import Linear, SquareLinear, as_wide, not_half
from poolbench.pool.base.pairscore import pair_softmax


def pattern(a: Matrix) -> Sparse:
    """The edges of a, each once and without its weight; one of weight 0 is none. A view (`Matrix.view`)."""
    edges = merged_entries(a).without_zeros()
    return edges if edges.value is None else edges.with_value(None, edges.symmetric)


def looped(a: Matrix) -> Sparse:
    """The edges of a with one self-loop a node, without weights. A view."""
    loops = pattern(a).without_diagonal().add_identity()
    loops.distinct = True
    return loops


def propagate(x: Tensor, a: Matrix) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 X on the `looped` pattern: [n, f] -> [n, f]."""
    loops = a.view(looped)
    assert isinstance(loops, Sparse)
    root = loops.crow.diff().to(x.dtype).rsqrt().unsqueeze(-1)
    return root * loops.matmul(root * x)


class TorchLinear(Linear):
    """A linear layer that starts as torch's: weight and bias from U(-1 / sqrt(in), 1 / sqrt(in)).

    out_features: None for as many as the input has.
    """

    def __init__(self, in_features: int | None, out_features: int | None = None, bias: bool = True) -> None:
        super().__init__(in_features, out_features or in_features or 0, bias)

    def initialize_parameters(self, x: Tensor) -> None:
        self.out_features = self.out_features or x.shape[-1]
        super().initialize_parameters(x)

    def reset_parameters(self) -> None:
        if hasattr(self, "_parameters") and not self.has_uninitialized_params():
            bound = self.in_features**-0.5 if self.in_features else 0.0
            for tensor in self.parameters():
                if tensor.numel():
                    nn.init.uniform_(tensor, -bound, bound)


class GraphConv(nn.Module):
    """X W1 + A X W2 + b.

    Args:
        in_channels: f, inferred at the first call where it is None.
        out_channels: None for as many as x has.
    """

    def __init__(self, in_channels: int | None, out_channels: int | None = None) -> None:
        super().__init__()
        self.root = TorchLinear(in_channels, out_channels)
        self.neighbours = TorchLinear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        x = not_half(x)
        return self.root(x) + self.gather(self.neighbours(x), a)

    def gather(self, y: Tensor, a: Matrix) -> Tensor:
        """What each node hears of y: [n, f]."""
        return a.view(pattern).matmul(y)

    def combine(self, x: Tensor, gathered: Tensor) -> Tensor:
        """The layer's answer where X was gathered already: what several layers on the same x share."""
        return self.root(x) + self.neighbours(gathered)


class SAGEConv(GraphConv):
    """X W1 + mean of the neighbours' X W2 + b, the mean 0 without any."""

    def gather(self, y: Tensor, a: Matrix) -> Tensor:
        edges = a.view(pattern)
        assert isinstance(edges, Sparse)
        return edges.matmul(y) / edges.crow.diff().clamp(min=1).to(y.dtype).unsqueeze(-1)


class GCNConv(nn.Module):
    """D^-1/2 (A + I) D^-1/2 X W + b. The arguments are those of `GraphConv`."""

    def __init__(self, in_channels: int | None, out_channels: int | None = None) -> None:
        super().__init__()
        self.linear = _linear(in_channels, out_channels)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        y, bias = _apart(self.linear, not_half(x))
        return propagate(y, a) + bias


class GATConv(nn.Module):
    """sum_j alpha_ij y_j + b with Y = X W, alpha_ij = softmax over the j that i hears, i itself included, of
    LeakyReLU_0.2(u . y_i + v . y_j): one head. The arguments are those of `GraphConv`.
    """

    def __init__(self, in_channels: int | None, out_channels: int | None = None) -> None:
        super().__init__()
        self.linear = _linear(in_channels, out_channels)
        width = out_channels or in_channels
        self.target, self.source = Linear(width, 1, bias=False), Linear(width, 1, bias=False)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        y, bias = _apart(self.linear, not_half(x))
        loops = a.view(looped)
        assert isinstance(loops, Sparse)
        alpha = pair_softmax(self.target(y).squeeze(-1), self.source(y).squeeze(-1), loops, 0.2)
        return loops.with_value(alpha).matmul(y) + bias


def _linear(in_channels: int | None, out_channels: int | None = None) -> Linear:
    return SquareLinear(in_channels) if out_channels is None else Linear(in_channels, out_channels)


def _apart(layer: Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """X W' and b."""
    if layer.has_uninitialized_params():
        layer(x[:0])
    return F.linear(x, as_wide(layer.weight, x)), as_wide(layer.bias, x)


#: Layers by name. "cheb" is a Chebyshev filter of order 1: a linear layer, which does not look at the graph.
CONVS: dict[str, Callable[[int | None, int | None], nn.Module]] = {
    "gcn": GCNConv,
    "sage": SAGEConv,
    "gat": GATConv,
    "graphconv": GraphConv,
    "cheb": _linear,
}


def conv(argument: str, value: str | GNN, in_channels: int | None, out_channels: int | None = None) -> Any:
    """The layer that `value` names, is, or makes of two widths, `out_channels` None for as many as x has.

    Raises ValueError for an unknown name, and what `made` does.
    """
    if not isinstance(value, str):
        return made(value, in_channels, out_channels or in_channels)
    if value not in CONVS:
        raise ValueError(f"{argument}={value!r}: one of {', '.join(CONVS)}, or a module is expected")
    return CONVS[value](in_channels, out_channels)
