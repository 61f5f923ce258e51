"""Calls of one module in several threads at once, as a server makes them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from poolbench.linalg.plain import traced


def alone(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A `forward` that may keep on the module what its methods tell one another within a call.

    A call that begins while another one is under way runs on a shallow copy: of the same weights and layers, with
    attributes of its own.
    """

    @functools.wraps(forward)
    def call(self: nn.Module, *args: Any, **keywords: Any) -> Any:
        if traced():
            return forward(self, *args, **keywords)
        idle = vars(self).setdefault("_idle", [True])
        try:
            idle.pop()  # one step: no other thread comes between the question and the answer
        except IndexError:
            busy = True
        else:
            busy = False
        if busy:
            return forward(copy.copy(self), *args, **keywords)
        try:
            return forward(self, *args, **keywords)
        finally:
            idle.append(True)

    return call
