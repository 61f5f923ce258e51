"""What a person sees of a sweep: a line for each job that has ended; with it a bar on a terminal, elsewhere a line now
and then that says how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from poolbench.errors import printable
from poolbench.jobs.sweep import Sweep, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

EVERY = 60.0
"""Seconds between two lines that say how far a sweep is, at the least."""
REFRESH = 1.0
"""How often the bar is drawn in a second: the runs of the same process shall not notice."""
WIDEST = 72
"""Letters of a job's text up to which the scores of all jobs stand below each other."""

Now = Callable[[], Sweep]


class Lines:
    """A line a job, and one for the sweep every `EVERY` seconds and at the end.

    Args:
        now: the sweep as it is. texts: of its jobs. every: see above.
    """

    def __init__(self, now: Now, texts: Sequence[str], every: float = EVERY) -> None:
        self.now, self.every = now, every
        self._width = min(max(map(len, texts), default=0), WIDEST)
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.line(self.now().line())

    def line(self, text: str) -> None:
        """Show a line, or several."""
        print(text, flush=True)

    def end(self, text: str, score: str | None, seconds: float | None, reason: str | None = None) -> None:
        """Show what became of a job.

        Args:
            text: the job. score: what came out. seconds: how long it took; None: it was found done. reason: why it is
                not done.
        """
        took = reason or (
            "done before" if seconds is None else f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
        )
        self.line(printable("  ".join(part for part in (text.ljust(self._width), score, took) if part)))

    def summary(self) -> None:
        """Say how far the sweep is, where it is time for that."""
        if time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self.line(self.now().line())


class Bar(Lines):
    """A line a job, and below them a bar that says how far the sweep is, with the jobs that run."""

    def __init__(self, now: Now, texts: Sequence[str]) -> None:
        from rich.live import Live

        super().__init__(now, texts)
        self._console = _console()
        # Streams that lead elsewhere are left to lead there.
        self._live = Live(get_renderable=self._drawn, console=self._console, refresh_per_second=REFRESH,
                          transient=True, redirect_stderr=sys.stderr.isatty())  # fmt: skip

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()
        super().__exit__(*error)

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def summary(self) -> None:
        self._live.refresh()

    def _drawn(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        sweep = self.now()
        grid = Table.grid(padding=(0, 1))
        grid.add_row(ProgressBar(len(sweep.jobs), sweep.ended, width=24), Text(sweep.line()))
        running = ", ".join(printable(job.text) for job in sweep.of("running"))
        return Group(grid, Text(running, no_wrap=True, overflow="ellipsis"))


def _console() -> Any:
    from rich.console import Console

    return Console(file=sys.stdout)


def display(now: Now, texts: Sequence[str], quiet: bool) -> Lines:
    """What shows a sweep: the bar on a terminal, where its jobs are quiet; lines elsewhere."""
    if quiet and sys.stdout.isatty():
        console = _console()
        if console.is_terminal and not console.is_dumb_terminal:
            return Bar(now, texts)
    return Lines(now, texts)
