"""What a person sees while a run trains: a bar on a terminal, quiet lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class Lines(pl.Callback):
    """A line after the first epoch, then one every `every` seconds, and one for the last epoch. unit: what goes by the
    name of an epoch."""

    def __init__(self, names: Sequence[str], unit: str = "epoch", every: float = 10.0) -> None:
        self.names, self.unit, self.every = names, unit, every
        self._last, self._row = -1e9, ""

    def report(self, epoch: int, row: dict[str, float]) -> None:
        """Called by the run after each epoch."""
        self._row = _text(f"{self.unit} {epoch + 1:>4}", row, self.names)
        if time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            print(self._row, flush=True)
            self._row = ""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.end()

    def end(self) -> None:
        """Print the last line, where it was not."""
        if self._row:
            print(self._row, flush=True)


class Bar(RichProgressBar):
    """Lightning's rich bar over epochs' batches, with the latest epoch's numbers."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(leave=False)
        self.names = names
        self._row: dict[str, float] = {}

    def report(self, epoch: int, row: dict[str, float]) -> None:
        """Called by the run after each epoch."""
        self._row = row

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        return {name: f"{self._row[name]:.3f}" for name in self.names if name in self._row}


def progress(kind: str, names: Sequence[str]) -> Lines | Bar | None:
    """The display for `callbacks.progress`: auto takes the bar on a terminal and lines elsewhere.

    Args:
        names: of the numbers of an epoch's row that are shown.
    """
    if kind == "auto":
        kind = "bar" if sys.stdout.isatty() else "lines"
    if kind == "none":
        return None
    return Bar(names) if kind == "bar" else Lines(names)


def _text(head: str, row: dict[str, float], names: Sequence[str]) -> str:
    return "  ".join([head, *(f"{name} {row[name]:.4f}" for name in names if name in row)])
