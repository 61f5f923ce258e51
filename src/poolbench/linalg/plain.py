"""The products in torch's own terms: what `torch.compile`, `torch.export` and `torch.func` see.

A traced call must neither read sizes back from the device nor meet an `autograd.Function`; a transform (`torch.func`)
needs operations that it can differentiate itself. These formulas have static shapes, given n, e and b, and derivatives
of any order. Called as they are they take longer and more memory than `products`, and on CUDA `index_add` adds in any
order. Shapes: n rows, m columns, e stored entries, b graphs, k clusters, f features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# Rows of a tile: a graph's rows stand in tiles of its own, so that graphs of any sizes are one batched product.
TILE = 32


def traced() -> bool:
    """Whether torch.compile or torch.export traces this call: no shape may depend on what the tensors hold."""
    return torch.compiler.is_compiling()


def by_formula() -> bool:
    """Whether products are taken by their formulas: in a trace, and where a transform of torch.func looks on."""
    return traced() or torch._C._are_functorch_transforms_active()


def hooked() -> bool:
    """Whether hooks take what is saved for the backward pass: `torch.utils.checkpoint` computes a call again there, and
    must meet what the first one did."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def lasting(make: Callable[[], T]) -> T:
    """What `make` makes, to be kept beyond this call: of tensors that were made under `torch.inference_mode` no later
    call could take a derivative."""
    if traced() or not torch.is_inference_mode_enabled():
        return make()
    with torch.inference_mode(False), torch.no_grad():
        return make()


def spmm(value: Tensor | None, x: Tensor, row: Tensor, col: Tensor, count: int) -> Tensor:
    """sum over the entries (u, v) of each row u of value_uv x_v: [m, f] -> [count, f]. Cost O(e f) time and memory."""
    near = x.index_select(0, col)
    return segment_sum(near if value is None else near * value.unsqueeze(-1), row, count)


def segment_sum(x: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum of the rows of each segment: [n, f] -> [count, f]."""
    return x.new_zeros(count, x.shape[1]).index_add(0, index, x)


def segment_max(x: Tensor, index: Tensor, count: int) -> Tensor:
    """Largest entry of each segment and column, 0 for an empty segment: [n, f] -> [count, f]."""
    top = x.new_full((count, x.shape[1]), -torch.inf)
    top = top.scatter_reduce(0, index.unsqueeze(-1).expand_as(x), x, "amax")
    empty = x.new_ones(count, dtype=torch.bool).index_fill(0, index, False)
    return top.masked_fill(empty.unsqueeze(-1), 0.0)


def merge(key: Tensor, value: Tensor | None) -> tuple[Tensor, Tensor]:
    """The keys in order and their values [e], those of equal keys added up in the first of them, the others 0."""
    key, order = torch.sort(key, stable=True)
    value = torch.ones(key.numel(), device=key.device) if value is None else value.index_select(0, order)
    return key, torch.zeros_like(value).index_add(0, torch.searchsorted(key, key), value)


def padded(rows: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All graphs as one block (graphs [b], rows [b, w, f], which are real [b, w]); `rows` [n + 1, f] ends with a zero.

    w is the size of the largest graph, at least 2. It is read back: the only number that a traced call depends on.
    """
    width: int = ptr.diff().max().clamp(min=2).item()  # type: ignore[assignment]  # int() would fix it
    torch._check(width >= 2)  # what comes may ask whether it is 1
    place = ptr[:-1].unsqueeze(-1) + torch.arange(width, device=ptr.device)
    real = place < ptr[1:].unsqueeze(-1)
    place = place.masked_fill(~real, rows.shape[0] - 1)
    block = rows.index_select(0, place.reshape(-1)).reshape(-1, width, rows.shape[1])
    return torch.arange(ptr.numel() - 1, device=ptr.device), block, real


class Tiles:
    """The rows of a ragged batch in n // TILE + b tiles of TILE rows, as many as there can be whatever the sizes are.

    A product of n rows costs that of at most n + b TILE rows, and O(n k f / TILE + b k f) memory.
    """

    def __init__(self, ptr: Tensor, index: Tensor) -> None:
        self.graphs, self.count = ptr.numel() - 1, index.numel() // TILE + ptr.numel() - 1
        each = (ptr.diff() + (TILE - 1)) // TILE
        end = torch.cumsum(each, 0)
        number = torch.arange(index.numel(), device=ptr.device) - ptr[:-1].index_select(0, index)
        self.place = (end - each).index_select(0, index) + number // TILE, number % TILE  # tile and row in it, of each
        tiles = torch.arange(self.count, device=ptr.device)
        self.graph = torch.searchsorted(end, tiles, right=True).clamp(max=self.graphs - 1)  # of each tile

    def gram(self, s: Tensor, x: Tensor) -> Tensor:
        """s_g' x_g of each graph: [n, k], [n, f] -> [b, k, f]."""
        with torch.autocast(s.device.type, enabled=False):
            product = self._tiled(s).transpose(1, 2) @ self._tiled(x)
            return product.new_zeros(self.graphs, *product.shape[1:]).index_add(0, self.graph, product)

    def spread(self, s: Tensor, y: Tensor) -> Tensor:
        """s_g y_g of each graph: [n, k], [b, k, f] -> [n, f]."""
        with torch.autocast(s.device.type, enabled=False):
            return (self._tiled(s) @ y.index_select(0, self.graph))[self.place]

    def _tiled(self, x: Tensor) -> Tensor:
        """[n, f] -> [count, TILE, f], zeros where there is no row."""
        return x.new_zeros(self.count, TILE, x.shape[1]).index_put(self.place, x)
