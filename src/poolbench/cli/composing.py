"""Hydra's composition of a configuration from the words of a command line, without a run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from poolbench.cli import own
from poolbench.cli.folders import conf_dir, files, groups
from poolbench.cli.names import PEERS, canonical, named_datasets, offered, pools, refuse_taken

OF_DATA_FOLDER = "data folder"
"""Who provides the datasets that lie there, as Hydra has it."""


def register(words: Sequence[str]) -> None:
    """Make the names known to Hydra that have no file of their own name.

    `dataset=NAME` of the named datasets and of one's own, `pool=NAME` of a peer (conf/pool/peers) or of another
    package. Raises `PoolBenchError` for a folder of one's own that claims a name of PoolBench's, and for a dataset of
    one's own that lies in two places.

    Args:
        words: of the command line, which may name functions that make datasets, and the data folder.
    """
    refuse_taken()
    _register_datasets()
    _register_own(words)
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


def _register_own(words: Sequence[str]) -> None:
    """Those of one's own as they are now: what was known before and lies there no longer is forgotten."""
    store = ConfigStore.instance()
    known: dict[str, Any] = store.repo["dataset"]
    for name in [name for name, node in known.items() if getattr(node, "provider", None) == OF_DATA_FOLDER]:
        del known[name]
    for name, node in own.nodes(words, [*files("dataset"), *named_datasets()]).items():
        provider = "function" if "_target_" in node else OF_DATA_FOLDER
        store.store(group="dataset", name=name, node=node, provider=provider)


def compose(words: Sequence[str]) -> DictConfig:
    """The configuration that words make, not resolved. Raises what Hydra raises."""
    register(words)
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose("train", overrides=list(words), return_hydra_config=True)
    return _without_hydra(config)


def _without_hydra(config: DictConfig) -> DictConfig:
    HydraConfig.instance().set_config(config)  # names of what was chosen are interpolated from there
    with open_dict(config):
        del config["hydra"]
    return config


class Composer:
    """Compositions of many command lines that have much in common, such as the lines of a recipe.

    It makes what `compose` makes of each, sooner: a file is read once, and what is chosen of the groups is composed
    once, for all lines that differ from there on by values alone. (So `${hydra:job.override_dirname}` and the like,
    which name the words, know no values.) It does not see what changes in the configuration folders meanwhile.
    """

    def __init__(self) -> None:
        register(())
        self.canonical = cache(canonical)
        self._parser = OverridesParser.create()
        self._groups = groups()
        self._files: _Files | None = None
        self._chosen: dict[tuple[str, ...], _Chosen] = {}

    def compose(self, words: Sequence[str]) -> DictConfig:
        """As `compose`."""
        try:
            return self._compose(words)
        except (HydraException, OmegaConfBaseException):
            return compose(words)  # which says what is wrong in Hydra's words

    def _compose(self, words: Sequence[str]) -> DictConfig:
        values = self._parser.parse_overrides([word for word in words if self._is_value(word)])
        if any(value.is_sweep_override() for value in values):
            return compose(words)  # which refuses them
        chosen = tuple(word for word in words if not self._is_value(word))
        if chosen not in self._chosen:
            _register_own(words)
            self._chosen[chosen] = self._composed(chosen)
        found = self._chosen[chosen]
        config = copy.deepcopy(found.config)
        ConfigLoaderImpl._apply_overrides_to_config(values, config)  # Hydra's own last step
        HydraConfig.instance().cfg = found.hydra
        return config

    def _is_value(self, word: str) -> bool:
        """Whether a word says nothing about which files are composed."""
        key = word.lstrip("+~").partition("=")[0]
        return key not in self._groups and not key.startswith("hydra") and not {"/", "@"} & set(key)

    def _composed(self, chosen: Sequence[str]) -> _Chosen:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            loader: Any = GlobalHydra.instance().config_loader()
            self._files = loader.repository = self._files or _Files(loader.repository)
            config = _without_hydra(hydra.compose("train", overrides=list(chosen), return_hydra_config=True))
            return _Chosen(config, HydraConfig.instance().cfg)


@dataclass(frozen=True)
class _Chosen:
    """The configuration that the choices of the groups make, and Hydra's own beside it."""

    config: DictConfig
    hydra: HydraConf | None


NOT_OURS = ("env", "help", "hydra_help", "sweeper")
"""Groups of Hydra's own configuration, composed with each of ours, that ours has nothing of."""


class _Files(CachingConfigRepository):
    """Files as Hydra reads them, kept from one composition to the next; each has a copy of what it merges into."""

    def load_config(self, config_path: str) -> Any:
        found = super().load_config(config_path)
        if found is None:
            return None
        below = found.defaults_list
        if config_path == "hydra/config" and below is not None:
            below = [one for one in below if getattr(one, "group", None) not in NOT_OURS]
        return replace(found, config=copy.deepcopy(found.config), defaults_list=below)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Files:
        return self
