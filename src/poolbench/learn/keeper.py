"""What a run keeps from epoch to epoch: the curve, the best weights, when to stop, and where to go on after a kill.

One callback, so that the order of these things is in one place: the epoch's numbers, the scheduler's step, the
selection, the loggers, and last the resume checkpoint, which holds the state of all of them after the step. (A
checkpoint written before the scheduler stepped would make a resumed run differ from one that was never killed.)
"""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch

from poolbench.data.store import BatchLoader
from poolbench.disk import put
from poolbench.errors import RunError
from poolbench.learn.learner import Learner
from poolbench.splitmix import mix

log = logging.getLogger(__name__)

VERSION = 2


class Selection:
    """The epoch with the best monitored value, and how long there was none better.

    Args:
        monitor: a name in the curve's rows, such as val/loss.
        mode: min, max, or last: the last epoch counts, and nothing stops before it.
        patience: stop after so many epochs without a better one.
        tolerance: an epoch is better that is so by more than this.
        ties: which of epochs with the same value counts, the `first` or the `last`, which then is a better one.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        mode: str = "min",
        patience: int = 50,
        tolerance: float = 0.0,
        ties: str = "first",
    ) -> None:
        self.monitor, self.mode, self.patience = monitor, mode, patience
        self.tolerance, self.ties = tolerance, ties
        self.epoch: int | None = None
        self.value = math.inf
        self.stale = 0
        self.weights: dict[str, torch.Tensor] = {}

    def update(self, epoch: int, row: dict[str, float], model: torch.nn.Module) -> None:
        """Take an epoch's row into account. Raises `RunError` where the row lacks the monitored value."""
        if self.mode == "last":
            self._take(epoch, 0.0, model)
            return
        value, least = self.score(row), self.value - self.tolerance
        if value < least or (value == least and self.ties == "last"):
            self._take(epoch, value, model)
        else:
            self.stale += 1

    def score(self, row: dict[str, float]) -> float:
        """The monitored value, signed so that less is better; where the last epoch counts and nothing is held out,
        the loss that is minimised."""
        if self.mode == "last" and self.monitor.startswith("train/"):
            return row["train/total_loss"]
        if self.monitor not in row:
            raise RunError(f"callbacks.monitor={self.monitor} is not measured; there are {', '.join(sorted(row))}")
        return -row[self.monitor] if self.mode == "max" else row[self.monitor]

    def _take(self, epoch: int, value: float, model: torch.nn.Module) -> None:
        self.epoch, self.value, self.stale = epoch, value, 0
        self.weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}

    @property
    def exhausted(self) -> bool:
        return self.stale >= self.patience

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "value": self.value, "stale": self.stale, "weights": self.weights}

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.value, self.stale = state["epoch"], state["value"], state["stale"]
        self.weights = state["weights"]


class Keeper(pl.Callback):
    """Keeps the books of a training run.

    Args:
        selection: which epoch counts, and when to stop.
        scheduler: stepped once an epoch, or None.
        seed: what the run draws by; the global generator is seeded anew from (seed, epoch).
        resume: file of the resume checkpoint; None writes none. every: seconds between two of them at the least.
        on_epoch: called with (epoch, row) after each epoch, for loggers; None for nobody.
        identity: of the run, checked when a checkpoint is read.
        validates: the part that is evaluated after each epoch; `train` where nothing is.
        min_epochs, min_steps: before so many of both nothing stops early.
    """

    def __init__(
        self,
        selection: Selection,
        scheduler: Any | None,
        seed: int,
        resume: Path | None = None,
        every: float = 5.0,
        on_epoch: Callable[[int, dict[str, float]], None] | None = None,
        identity: str = "",
        validates: str = "val",
        min_epochs: int = 0,
        min_steps: int = 0,
    ) -> None:
        self.validates, self.min_epochs, self.min_steps = validates, min_epochs, min_steps
        self.selection, self.scheduler, self.seed = selection, scheduler, seed
        self.resume, self.every, self.on_epoch, self.identity = resume, every, on_epoch, identity
        self.curve: list[dict[str, float]] = []
        #: Where the first process leaves the books for the one that started it, which has not seen the training.
        self.handover: Path | None = None
        self._pending: dict[str, Any] | None = None
        self._saved = time.monotonic()
        self._held_out: BatchLoader | None = None
        self._clock = (0.0, 0.0)

    @property
    def epoch(self) -> int:
        """Epochs finished so far; during an epoch, its number."""
        return len(self.curve)

    def epoch_times(self) -> tuple[float | None, float | None]:
        """Median wall and CPU seconds of a training epoch (validation apart)."""
        if not self.curve:
            return None, None
        return median(row["time"] for row in self.curve), median(row["time_cpu"] for row in self.curve)

    # -- Lightning's hooks, in the order in which they are called ------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if self._pending is not None:
            self._restore(pl_module, self._pending)
            for field in ("ready", "started", "processed", "completed"):
                setattr(trainer.fit_loop.epoch_progress.current, field, self.epoch)
            # max_steps counts these, and Lightning has no other place for them.
            trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = (
                self._pending["steps"]
            )
            self._pending = None
        self._stop_early(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(mix(self.seed, 1 + self.epoch))
        assert isinstance(trainer.train_dataloader, BatchLoader) and isinstance(pl_module, Learner)
        pl_module.begin(self.epoch)
        trainer.train_dataloader.epoch = self.epoch
        self._clock = (time.perf_counter(), time.process_time())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        epoch = self.epoch
        train = pl_module.tally.means(_reducer(trainer))  # waits for the device, so the clock is right
        wall, cpu = self._clock
        spent = (time.perf_counter() - wall, time.process_time() - cpu)
        row = {f"train/{name}": value for name, value in train.items()}
        row |= {f"{self.validates}/{name}": value for name, value in self._validate(trainer, pl_module).items()}
        row |= {"lr": pl_module.optimizer.param_groups[0]["lr"], "time": spent[0], "time_cpu": spent[1]}
        _refuse_nan(epoch, row)
        self._step_scheduler(row)
        self.selection.update(epoch, row, pl_module.model)
        self.curve.append(row)
        if self.on_epoch is not None:
            self.on_epoch(epoch, row)
        self._stop_early(trainer)
        if trainer.is_global_zero and self.resume is not None and time.monotonic() - self._saved >= self.every:
            self.save(pl_module, trainer.global_step)

    def _stop_early(self, trainer: pl.Trainer) -> None:
        enough = self.epoch >= self.min_epochs and trainer.global_step >= self.min_steps
        if enough and self.selection.exhausted:
            trainer.should_stop = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.handover is not None and trainer.is_global_zero:
            torch.save({"selection": self.selection.state(), "curve": self.curve}, self.handover)

    def take_back(self) -> None:
        """Read what the first process left at `handover`."""
        assert self.handover is not None
        state = torch.load(self.handover, weights_only=True)
        self.selection.restore(state["selection"])
        self.curve[:] = state["curve"]

    def _validate(self, trainer: pl.Trainer, module: Learner) -> dict[str, float]:
        """What is measured after each epoch. In a loop of its own: Lightning's takes 0.6 ms more for each batch."""
        if self.validates == "train":
            return {}
        if self._held_out is None:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            self._held_out = data.whole(self.validates)
        module.eval()
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            for batch in self._held_out:
                module.evaluate(batch, module.tally)
        module.train()
        found = module.tally.means()
        if self.selection.monitor == f"{self.validates}/total_loss":
            found["total_loss"] = module.total(found)
        return found

    # -- the resume checkpoint ------------------------------------------------------------------------------------

    def save(self, module: Learner, steps: int) -> None:
        """Write the resume checkpoint, whole or not at all. steps: of the optimiser so far."""
        assert self.resume is not None
        state = {
            "identity": self.identity,
            "model": module.model.state_dict(),
            "optimizer": module.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "selection": self.selection.state(),
            "curve": self.curve,
            "steps": steps,
        }
        write_checkpoint(self.resume, state)
        self._saved = time.monotonic()

    def read(self) -> bool:
        """Read the resume checkpoint where there is one that fits; training then goes on behind its last epoch."""
        state = None if self.resume is None else read_checkpoint(self.resume, self.identity)
        if state is None:
            return False
        self.selection.restore(state["selection"])
        self.curve = list(state["curve"])
        self._pending = state
        return True

    def _restore(self, module: Learner, state: dict[str, Any]) -> None:
        module.model.load_state_dict(state["model"])
        module.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])

    def _step_scheduler(self, row: dict[str, float]) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(self.selection.score(row))
        elif self.scheduler is not None:
            self.scheduler.step()


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a resume checkpoint, whole or not at all. state: with the `identity` of the run."""
    content = io.BytesIO()  # torch.save into a file makes a RuntimeError of a full disk
    torch.save({"version": VERSION, **state}, content)
    try:
        put(path, lambda file: file.write(content.getbuffer()))
    except OSError as error:
        raise RunError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def read_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """What `write_checkpoint` wrote, where there is a file that is whole and of this run."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state if state["version"] == VERSION and state["identity"] == identity else None
    except Exception as error:  # whatever a damaged file makes torch raise: it costs epochs, not the run
        log.warning("the checkpoint %s cannot be read (%s): starting from the beginning", path, error)
        return None


def _refuse_nan(epoch: int, row: dict[str, float]) -> None:
    # A metric may be undefined (ROC-AUC of a part with one answer); a loss may not.
    bad = [name for name, value in row.items() if "loss" in name and not math.isfinite(value)]
    if bad:
        raise RunError(
            f"{bad[0]} became {row[bad[0]]} in epoch {epoch + 1}: the run has diverged; "
            "try a smaller optimizer.lr or trainer.gradient_clip_val=1.0"
        )


def _reducer(trainer: pl.Trainer) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if trainer.world_size == 1:
        return None
    return lambda tensor: trainer.strategy.reduce(tensor, reduce_op="sum")
