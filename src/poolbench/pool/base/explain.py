"""What a caller got wrong, in one line, where Python and torch would say it in words of the depths."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, SupportsInt

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from poolbench.linalg.plain import traced
from poolbench.pool.base.module import Module

_METHODS = {
    torch.float64: "double()",
    torch.float32: "float()",
    torch.float16: "half()",
    torch.bfloat16: "bfloat16()",
}


def explained(positions: int, line: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A `forward` of x and more that says in one line what of a call does not fit it or its weights.

    What the type and the width of x should be is asked once torch has failed: a call that fits costs nothing.

    Args:
        positions: how many arguments may be given by position. line: what they are.
    """

    def decorate(forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def call(self: Module, *args: Any, **keywords: Any) -> Any:
            if len(args) > positions:
                raise TypeError(f"{type(self).__name__} got {len(args)} arguments by position: {line}")
            if traced():
                return forward(self, *args, **keywords)
            try:
                return forward(self, *args, **keywords)
            except RuntimeError as error:
                x = keywords.get("x", args[0] if args else None)
                misfit = _misfit(self, x[0] if isinstance(x, list | tuple) else x)
                if misfit is None or type(error) is not RuntimeError:
                    raise
                raise misfit from error

        return call

    return decorate


def check_floats(x: Tensor) -> None:
    """Raises TypeError for features that are no real floats."""
    if x.is_floating_point():
        return
    how = "torch.view_as_real(x).flatten(-2), or x.abs()" if x.is_complex() else "x.float()"
    raise TypeError(f"x is of {x.dtype}: floats are expected, give {how}")


def width_of(module: Module) -> int | None:
    """The features that a module was made for, or inferred from its first call; None where it has none of its own."""
    if (given := _given_width(module)) is not None:
        return given
    for layer in module.modules():
        if isinstance(layer, LazyModuleMixin):
            weight = next(layer.parameters(recurse=False), None)
            if weight is not None and not is_lazy(weight):
                return weight.shape[-1] // getattr(layer, "sides", 1)
    return None


def _given_width(module: Module) -> int | None:
    """`in_channels`, where it is one number: an operator of others may take several."""
    given = module._given[1].get("in_channels")
    return int(given) if isinstance(given, SupportsInt) else None


def _misfit(module: Module, x: Any) -> Exception | None:
    """What is wrong with x, None where it is not known."""
    if not isinstance(x, Tensor):
        return None
    owner, width = type(module).__name__, width_of(module)
    if width is not None and x.shape[-1] != width:
        given = "inferred before" if _given_width(module) is None else "given as in_channels"
        return ValueError(
            f"x has {x.shape[-1]} features, but this {owner} takes {width}, as was {given}: give x of that width, or "
            f"make another {owner}"
        )
    kinds = _types(module)
    if kinds and x.dtype not in kinds and not torch.is_autocast_enabled(x.device.type):
        ours, theirs = (_METHODS.get(kind, f"to({kind})") for kind in (x.dtype, kinds[0]))
        return TypeError(
            f"x is of {x.dtype}, but the weights of {owner} are of {kinds[0]}: give x.{theirs}, or call its .{ours}"
        )
    return None


def _types(module: nn.Module) -> list[torch.dtype]:
    return list(dict.fromkeys(p.dtype for p in module.parameters() if p.is_floating_point()))
