"""Tensors, and what is made of them, in a line each: shapes and types in place of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def shape_of(v: Tensor) -> str:
    """Such as `[12, 8]`, `csr [12, 12] float64`, `[3] cuda:0`; int64, the default float type and the CPU are silent."""
    layout = "" if v.layout == torch.strided else f"{str(v.layout).removeprefix('torch.').removeprefix('sparse_')} "
    kind = "" if v.dtype in (torch.int64, torch.get_default_dtype()) else f" {str(v.dtype).removeprefix('torch.')}"
    return f"{layout}{list(v.shape)}{kind}" + ("" if v.device.type == "cpu" else f" {v.device}")


def brief(value: Any) -> str:
    """A scalar tensor by its value, another one by its shape, a mapping by that of its values, the rest by its repr."""
    if isinstance(value, Tensor):
        return f"{value.detach().item():.4g}" if value.ndim == 0 and value.device.type != "meta" else shape_of(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {brief(v)}' for name, v in value.items())}}}"
    return repr(value)


def listed(owner: object, *words: str, **values: Any) -> str:
    """`Owner(words, name=brief(value))`, without empty words and without what is None or empty."""
    there = {n: v for n, v in values.items() if v is not None and not (isinstance(v, Mapping) and not v)}
    named = (f"{name}={brief(value)}" for name, value in there.items())
    return f"{type(owner).__name__}({', '.join([*filter(None, words), *named])})"


def counted(number: int, noun: str) -> str:
    """`1 graph`, `2 graphs`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
