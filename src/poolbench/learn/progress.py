"""What a person sees while a run trains: a bar on a terminal, quiet lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class Lines(pl.Callback):
    """A line after the first epoch, then one every `every` seconds, and one for the last epoch."""

    def __init__(self, every: float = 10.0) -> None:
        self.every, self._last, self._row = every, -1e9, ""

    def report(self, epoch: int, row: dict[str, float]) -> None:
        """Called by the run after each epoch."""
        self._row = _text(epoch, row)
        if time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            print(self._row, flush=True)
            self._row = ""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._row:
            print(self._row, flush=True)


class Bar(RichProgressBar):
    """Lightning's rich bar over epochs' batches, with the latest epoch's numbers."""

    def __init__(self) -> None:
        super().__init__(leave=False)
        self._row: dict[str, float] = {}

    def report(self, epoch: int, row: dict[str, float]) -> None:
        """Called by the run after each epoch."""
        self._row = row

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        names = ("train/loss", "val/loss", "val/accuracy")
        return {name: f"{self._row[name]:.3f}" for name in names if name in self._row}


def progress(kind: str) -> Lines | Bar | None:
    """The display for `callbacks.progress`: auto takes the bar on a terminal and lines elsewhere."""
    if kind == "auto":
        kind = "bar" if sys.stdout.isatty() else "lines"
    if kind == "none":
        return None
    return Bar() if kind == "bar" else Lines()


def _text(epoch: int, row: dict[str, float]) -> str:
    parts = [f"epoch {epoch + 1:>4}"]
    parts += [f"{name} {row[name]:.4f}" for name in ("train/loss", "val/loss", "val/accuracy") if name in row]
    return "  ".join(parts)
