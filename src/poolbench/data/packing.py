"""Index arithmetic of segments that lie one after the other in flat tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def offsets(sizes: Tensor) -> Tensor:
    """Where each of some segments begins and the last one ends: [0, sizes[0], sizes[0] + sizes[1], ...]."""
    ptr = torch.zeros(sizes.numel() + 1, dtype=torch.int64)
    torch.cumsum(sizes, 0, out=ptr[1:])
    return ptr


def ranges(start: Tensor, ptr: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """start[g], start[g] + 1, ... for each segment g of `ptr`, one after the other, and the segment of each."""
    segment = torch.repeat_interleave(torch.arange(start.numel(), device=ptr.device), ptr.diff(), output_size=count)
    return torch.arange(count, device=ptr.device) + (start - ptr[:-1]).index_select(0, segment), segment
