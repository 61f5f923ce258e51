"""Lightning's Trainer, as a run wants it."""

from __future__ import annotations

import logging
import warnings

import msgspec
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from poolbench.config import Trainer
from poolbench.errors import PoolBenchError
from poolbench.learn.locate import first_line

#: Settings in conf/trainer that are PoolBench's own and not pl.Trainer's. `Keeper` alone says when to stop early:
#: Lightning remembers a stop that came before the least epochs, and ends there while the run still improves.
OWN = ("threads", "compile", "min_epochs", "min_steps")


def build_trainer(settings: Trainer, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer with its own chatter, logging and checkpoints off: the run does those itself."""
    _hush()
    args = {name: value for name, value in msgspec.to_builtins(settings).items() if name not in OWN}
    args["enable_progress_bar"] = any(isinstance(c, ProgressBar) for c in callbacks)
    try:
        return pl.Trainer(
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **args,
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise PoolBenchError(f"trainer: {first_line(error)}") from error


def _hush() -> None:
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (".*does not have many workers.*", ".*smaller than the logging interval.*", ".*GPU available but.*",
                 ".*`training_step` returned.*", ".*LeafSpec.*", ".*treespec.*",
                 ".*across ranks is zero.*"):  # fmt: skip
        warnings.filterwarnings("ignore", text)
