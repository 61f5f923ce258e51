"""A stopwatch for the phases of a training step."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

Stopwatch = Callable[[str], AbstractContextManager[None]]

#: The order in which tables show them; a contestant has those that it can tell apart.
PHASES = ("batching", "message passing", "padding", "select", "reduce", "connect", "pool", "losses", "readout",
          "other forward", "backward", "optimiser")  # fmt: skip


def untimed(phase: str) -> AbstractContextManager[None]:
    """The stopwatch of the epochs that count: none."""
    return nullcontext()


class Timer:
    """Seconds spent in each phase; of phases that nest the innermost one counts.

    Args:
        synchronise: waits for the device, so that time is booked where it was spent.
    """

    def __init__(self, synchronise: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._synchronise = synchronise
        self._stack: list[str] = []
        self._since = 0.0
        self._wrapped: list[tuple[Any, str, Any]] = []

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._book()
        self._stack.append(phase)
        try:
            yield
        finally:
            self._book()
            self._stack.pop()

    def _book(self) -> None:
        self._synchronise()
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def wrap(self, owner: Any, method: str, phase: str) -> None:
        """Book every call of `owner.method` (an object's or a class's) as `phase`, until `unwrap`."""
        inner = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(phase):
                return inner(*args, **kwargs)

        self._wrapped.append((owner, method, vars(owner).get(method)))
        setattr(owner, method, timed)

    def unwrap(self) -> None:
        """Take all wrappers off again."""
        for owner, method, before in reversed(self._wrapped):
            if before is None:
                delattr(owner, method)
            else:
                setattr(owner, method, before)
        self._wrapped.clear()
