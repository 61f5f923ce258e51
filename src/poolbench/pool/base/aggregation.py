"""How the rows of a cluster, or of a graph, become one row: by a name, or by a module of somebody else's.

A module is called as the aggregations of PyTorch Geometric are, `module(rows, index, dim_size=...)`, the rows of a set
one after the other; nothing of it is imported here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poolbench.linalg import Nodes, Padded, Ragged

REDUCTIONS = ("sum", "mean", "max", "min")

#: A name, a module, or what makes one without arguments, such as `torch_geometric.nn.MedianAggregation`.
Aggregation = str | nn.Module | Callable[[], nn.Module]


def resolved(name: str, value: Aggregation) -> str | nn.Module:
    """The name or the module that the argument `name` means. Raises ValueError or TypeError for anything else."""
    if isinstance(value, str) and value not in REDUCTIONS:
        raise ValueError(f"{name}={value!r}: one of {', '.join(REDUCTIONS)}, or a module such as an aggregation of PyG")
    if isinstance(value, str | nn.Module):
        return value
    module = value() if callable(value) else None
    if not isinstance(module, nn.Module):
        raise TypeError(f"{name}={value!r}: one of {', '.join(REDUCTIONS)}, a module or a class of modules is expected")
    return module


def aggregated(how: str | nn.Module, rows: Tensor, sets: Ragged) -> Tensor:
    """rows [m, f] of the sets, one after the other -> a row a set [b, f']; of an empty one what `how` makes of it."""
    if isinstance(how, nn.Module):
        return how(rows, sets.index, dim_size=sets.num_graphs)
    if how == "min":
        return -sets.max(-rows)
    return {"sum": sets.sum, "mean": sets.mean, "max": sets.max}[how](rows)


@torch.no_grad()
def width(how: str | nn.Module, in_channels: int) -> int:
    """f' for f = `in_channels`, found by a call."""
    if not isinstance(how, nn.Module):
        return in_channels
    like = next(how.parameters(), torch.zeros(0))
    training = how.training
    try:
        rows = torch.zeros(2, in_channels, dtype=like.dtype, device=like.device)
        return how.eval()(rows, torch.zeros(2, dtype=torch.int64, device=like.device), dim_size=1).shape[-1]
    finally:
        how.train(training)


def disjoint(x: Tensor, nodes: Nodes) -> tuple[Tensor, Ragged]:
    """The real nodes of either layout as one disjoint union."""
    if isinstance(nodes, Padded):
        flat, index = x.flatten(0, 1), nodes.index
        if nodes.mask is not None:
            real = nodes.mask.reshape(-1)
            flat, index = flat[real], index[real]
        return flat, Ragged.from_index(index, nodes.num_graphs)
    assert isinstance(nodes, Ragged)
    return x, nodes
