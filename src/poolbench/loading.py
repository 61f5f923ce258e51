"""How large libraries are loaded: torch and Lightning bring 4,000 modules, and a run waits for them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MANY = 100
"""Modules from which on a library is a large one."""


@contextmanager
def loading() -> Iterator[None]:
    """To import large libraries in: a fifth quicker, as the collector of circular garbage rests meanwhile.

    It would look at a million new objects over and over and find nothing, for modules stay. For the same reason it need
    not look at them later on (`gc.freeze`).
    """
    before = len(sys.modules)
    with resting():
        try:
            yield
        finally:
            if len(sys.modules) - before > MANY:
                gc.freeze()


@contextmanager
def resting(last: bool = False) -> Iterator[None]:
    """To make much in that is kept: a tenth quicker, as the collector of circular garbage rests meanwhile.

    Args:
        last: nothing is done afterwards, so that it need not look through all that at the end of the process either.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if last:
            gc.freeze()
        if enabled:
            gc.enable()
