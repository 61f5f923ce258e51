"""The operators that conf/pool registers, as the contract tests build them, and small graphs to call them on."""

from __future__ import annotations

import importlib
from pathlib import Path

from omegaconf import OmegaConf

from poolbench.cli.folders import files
from poolbench.cli.names import refuse_taken
from poolbench.contract.subject import CLUSTERS, FEATURES, Graphs, Subject, graphs

__all__ = ["CLUSTERS", "FEATURES", "REGISTRY", "Graphs", "Registered", "graphs"]

Registered = Subject


def _register(path: Path) -> Registered:
    config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    assert isinstance(config, dict)
    module, _, name = config.pop("_target_").rpartition(".")
    return Registered.of(path.stem, getattr(importlib.import_module(module), name), config)


#: conf/pool and the folder pool/ of each that POOLBENCH_CONFIG names (docs/tutorial.md), less peers.
refuse_taken()
REGISTRY = [_register(path) for name, path in files("pool").items() if "/" not in name]
