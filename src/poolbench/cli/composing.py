"""Hydra's composition of a configuration from the words of a command line, without a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from poolbench.cli.folders import conf_dir
from poolbench.cli.names import PEERS, named_datasets, offered, pools, refuse_taken


def register() -> None:
    """Make the names known to Hydra that have no file of their own name.

    `dataset=NAME` of the named datasets, `pool=NAME` of a peer (conf/pool/peers) or of another package. Raises
    `PoolBenchError` for a folder of one's own that claims a name of PoolBench's.
    """
    refuse_taken()
    _register_datasets()
    store = ConfigStore.instance()
    for name, path in pools().items():
        if path.startswith(PEERS):
            store.store(group="pool", name=name, node={"defaults": [f"{path}@_here_"]}, provider="poolbench")
    for plugin in offered():
        if not plugin.problem:
            store.store(group="pool", name=plugin.name, node=plugin.config, provider=plugin.package)


@cache
def _register_datasets() -> None:
    for name, base in named_datasets().items():
        node = {"defaults": [base], "name": name}
        ConfigStore.instance().store(group="dataset", name=name, node=node, provider="poolbench")


def compose(words: Sequence[str]) -> DictConfig:
    """The configuration that words make, not resolved. Raises what Hydra raises."""
    register()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose("train", overrides=list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # names of what was chosen are interpolated from there
    with open_dict(config):
        del config["hydra"]
    return config
