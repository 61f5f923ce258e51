"""A small configuration for tests, and others like it; the words of a quick run."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from poolbench.config import Config, read

QUICK = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=2", "model.hidden=8", "logger=none",
         "callbacks.progress=none"]  # fmt: skip

SMALL: dict[str, Any] = {
    "seed": 0,
    "split": {"seed": 0},
    "fold": None,
    "batch_size": 16,
    "loss_weights": 1.0,
    "loss_ramp": 0,
    "k_from": "mean",
    "feature_scale": None,
    "evaluate_test": True,
    "force": False,
    "group": None,
    "tags": [],
    "names": {"pool": "mincut", "model": "hierarchical", "dataset": "planted", "protocol": "holdout"},
    "pool": {"_target_": "poolbench.pool.mincut.MinCutPool", "ratio": 0.5, "k": None, "mlp_hidden": [8]},
    "model": {
        "_target_": "poolbench.nn.hierarchical.Hierarchical",
        "readout": {"_target_": "poolbench.pool.readouts.globalpool.GlobalSumPool"},
        "hidden": 8,
        "levels": 1,
        "dropout": 0.2,
    },
    "dataset": {"_target_": "poolbench.data.generators.synthetic.PlantedGraphs", "num_graphs": 48},
    "protocol": {"_target_": "poolbench.data.protocols.Holdout", "test": 0.2, "val": 0.2},
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
    "scheduler": {"_target_": None},
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "strategy": "auto",
        "precision": "32-true",
        "max_epochs": 3,
        "gradient_clip_val": None,
        "deterministic": True,
        "threads": 1,
        "compile": False,
    },
    "callbacks": {
        "monitor": "auto",
        "mode": "auto",
        "patience": 50,
        "tolerance": 0.0,
        "ties": "first",
        "resume_every": 0.0,
        "progress": "none",
        "pictures_every": 0,
        "keep_weights": False,
    },
    "logger": {"_target_": None},
    "paths": {"results": "results", "data": None, "mirror": None},
}


def values(**changes: Any) -> dict[str, Any]:
    """As plain dictionaries; `changes` are dotted keys with __ for the dot, which need not be there."""
    made = copy.deepcopy(SMALL)
    for key, value in changes.items():
        node = made
        *path, last = key.split("__")
        for name in path:
            node = node[name]
        node[last] = copy.deepcopy(value)
    return made


def small(**changes: Any) -> Config:
    """As a run takes it."""
    return read(values(**changes))


@contextmanager
def results_in(folder: Path) -> Iterator[Path]:
    """While runs leave their records in a folder, and data its cache below it: for fixtures of several tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLBENCH_RESULTS", str(folder))
        patch.setenv("POOLBENCH_DATA", str(folder / "cache"))
        yield folder
