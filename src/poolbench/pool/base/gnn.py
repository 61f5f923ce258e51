"""Layers of others inside an operator: how the argument `gnn` becomes a module, and how that is called.

A layer is known by the parameters of its `forward`, so that PyTorch Geometric's and PoolBench's serve alike and neither
is imported here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from poolbench.linalg import Dense, Matrix, merged_entries, to_flat
from poolbench.pool.base.selection import node_level

#: A module, or what makes one of two widths, such as a class of `torch_geometric.nn`.
GNN = nn.Module | Callable[[int, int], nn.Module]


def made(gnn: GNN | None, in_channels: int | None, out_channels: int | None) -> nn.Module | None:
    """The module that `gnn` is, or makes of the two widths; None for None.

    Raises TypeError for what is neither, ValueError for a class without `in_channels`.
    """
    if gnn is None or isinstance(gnn, nn.Module):
        return gnn
    if not callable(gnn):
        raise TypeError(f"gnn={gnn!r}: a module, a class of modules that takes two widths, or None is expected")
    if in_channels is None or out_channels is None:
        raise ValueError("gnn is a class, which needs in_channels: give them, or a module in place of the class")
    module = gnn(in_channels, out_channels)
    if not isinstance(module, nn.Module):
        raise TypeError(f"gnn={gnn!r} made a {type(module).__name__}: a module is expected")
    return module


def called(gnn: nn.Module, x: Tensor, a: Matrix) -> Tensor:
    """What a layer makes of x, [n, f] or [b, n, f].

    It gets x alone where it takes nothing else, (x, a) where its second parameter is called `a`, and else (x,
    edge_index), with `edge_weight` where the graph has weights and the layer takes them; all in its own type, for
    layers from elsewhere take no other. An edge of weight 0 is none.
    """
    x = x.to(next(gnn.parameters(), x).dtype)
    parameters = inspect.signature(gnn.forward).parameters
    names = list(parameters)
    if len(names) == 1 and parameters[names[0]].kind is not inspect.Parameter.VAR_POSITIONAL:
        return gnn(x)
    if names[1:2] == ["a"]:
        return gnn(x, a)
    if isinstance(a, Dense):
        return node_level(called(gnn, *to_flat(x, a)), a.nodes)
    edges = merged_entries(a).without_zeros()
    # a row hears its columns, and an edge_index names the source first
    index = torch.stack([edges.col, edges.row])
    if edges.value is None or "edge_weight" not in names:
        return gnn(x, index)
    return gnn(x, index, edge_weight=edges.value.to(x.dtype))


def scores(gnn: nn.Module, x: Tensor, a: Matrix) -> Tensor:
    """`called`, of a layer that gives a number a node: [n]. Raises ValueError for any other shape."""
    y = called(gnn, x, a)
    if y.shape not in ((x.shape[0], 1), (x.shape[0],)):
        raise ValueError(f"gnn gives {list(y.shape)} for {x.shape[0]} nodes: a score a node, [n, 1], is expected")
    return y.reshape(-1)
