"""From a plain configuration to objects. Nothing here touches data; whatever is impossible is said in one line.

The configuration is a plain dictionary (Hydra's, resolved); `_target_` names the class of each part.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from poolbench.data.dataset import GraphDataset
from poolbench.data.protocols import Nested, Protocol
from poolbench.errors import PoolBenchError, nearest
from poolbench.nn.model import DataFacts, GraphModel, Part
from poolbench.pool.base.src import GlobalPool, Operator

Config = Mapping[str, Any]

#: Settings in conf/trainer that are PoolBench's own and not pl.Trainer's.
OWN = ("threads", "compile")
PROGRESS = ("auto", "bar", "lines", "none")


def locate(path: str, key: str) -> type[Any]:
    """The class that a dotted name means. Raises `PoolBenchError` naming `key`, the part of the configuration."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise PoolBenchError(
            f"{key}._target_={path} cannot be imported ({error}); give module.Class of a module on the Python path"
        ) from error
    except Exception as error:  # whatever somebody else's module raises
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise PoolBenchError(f"{key}._target_={path} cannot be imported: {kind}{_first_line(error)}") from error


def part(config: Config, key: str) -> tuple[type[Any], dict[str, Any]]:
    """Class and arguments of one group of the configuration."""
    if not config.get("_target_"):
        raise PoolBenchError(f"{key} has no _target_: give the class as module.Class")
    return locate(str(config["_target_"]), key), {k: v for k, v in config.items() if k != "_target_"}


def construct(key: str, cls: type[Any], *args: Any, **kwargs: Any) -> Any:
    """cls(*args, **kwargs), with a refusal as one line that names the part of the configuration."""
    try:
        return cls(*args, **kwargs)
    except PoolBenchError:
        raise
    except (TypeError, ValueError) as error:
        raise PoolBenchError(f"{key}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def build_dataset(config: Config, paths: Config) -> GraphDataset:
    """The dataset object; nothing is read yet."""
    cls, args = part(config, "dataset")
    return construct("dataset", cls, **_places(cls, paths), **args)


def build_protocol(config: Config, seed: int, paths: Config | None = None) -> Protocol:
    """The object that draws the split. paths: where published folds are found; None for the environment's."""
    cls, args = part(config, "protocol")
    return construct("protocol", cls, seed=seed, **_places(cls, paths or {}), **args)


def _places(cls: type[Any], paths: Config) -> dict[str, Any]:
    """The folders that the constructor of `cls` asks for."""
    places = {"data": paths.get("data"), "mirror": paths.get("mirror")}
    takes = inspect.signature(cls).parameters
    return {k: v for k, v in places.items() if v is not None and k in takes}


def build_model(config: Config, data: DataFacts) -> GraphModel:
    """The model template around the pool, for data with these facts. Raises `PoolBenchError` for a refused pair."""
    cls, args = part(config["model"], "model")
    pool = _operator(config["pool"], "pool")
    if isinstance(args.get("readout"), Mapping):
        readout = _operator(args["readout"], "model.readout")
        if not issubclass(readout.cls, GlobalPool):
            raise PoolBenchError(f"model.readout={readout.cls.__name__} is no readout: give one such as globalavg")
        args["readout"] = readout
    why = cls.refuses(pool.cls)
    if why is not None:
        raise PoolBenchError(f"pool={_name(config, 'pool', pool.cls)} does not go with this model: {why}")
    return construct("model or pool", cls, data=data, pool=pool, **args)


def _operator(config: Config, key: str) -> Part:
    cls, args = part(config, key)
    if not (isinstance(cls, type) and issubclass(cls, Operator)):
        raise PoolBenchError(f"{key}._target_={config['_target_']} is no SRCPool and no GlobalPool of poolbench.pool")
    return Part(cls, args)


def _name(config: Config, key: str, cls: type[Any]) -> str:
    return (config.get("names") or {}).get(key) or cls.__name__


def build_optimizer(config: Config, parameters: Any) -> torch.optim.Optimizer:
    """The optimiser over some parameters."""
    cls, args = part(config, "optimizer")
    return construct("optimizer", cls, parameters, **args)


def build_scheduler(config: Config | None, optimizer: torch.optim.Optimizer) -> Any | None:
    """The learning-rate scheduler, stepped once an epoch; None where there is none."""
    if not config or not config.get("_target_"):
        return None
    cls, args = part(config, "scheduler")
    return construct("scheduler", cls, optimizer, **args)


def loss_weights(config: Any, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The weight of each auxiliary loss: one number for all, or a mapping of names (without the level) to weights."""
    if not isinstance(config, Mapping):
        return dict.fromkeys(losses, float(config))
    known = {name.rsplit("_", 1)[0] for name in losses}
    for name in config:
        if name not in known:
            raise PoolBenchError(f"loss_weights.{name}: this pool has no such loss{nearest(name, known)}")
    return {name: float(config.get(name.rsplit("_", 1)[0], 1.0)) for name in losses}


def check(config: Config) -> None:
    """Everything about a configuration that can be known before data is touched. Raises `PoolBenchError`."""
    _at_least("batch_size", config["batch_size"], 1)
    _at_least("seed", config["seed"], 0)
    _at_least("split.seed", config["split"]["seed"], 0)
    _at_least("trainer.max_epochs", config["trainer"]["max_epochs"], 1)
    _at_least("trainer.threads", config["trainer"]["threads"], 1)
    _at_least("callbacks.patience", config["callbacks"]["patience"], 1)
    _at_least("callbacks.pictures_every", config["callbacks"].get("pictures_every", 0), 0)
    _one_of("callbacks.mode", config["callbacks"]["mode"], ("auto", "min", "max"))
    _one_of("callbacks.progress", config["callbacks"]["progress"], PROGRESS)
    weights = config["loss_weights"]
    for name, value in (weights if isinstance(weights, Mapping) else {"": weights}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise PoolBenchError(f"loss_weights{name and '.'}{name}={value!r}: a number of at least 0 is expected")
    build_dataset(config["dataset"], config["paths"])
    protocol = build_protocol(config["protocol"], config["split"]["seed"])
    if config["fold"] is not None:
        protocol.check_fold(config["fold"])
    nested, search = isinstance(protocol, Nested), config.get("search")
    # A trial of the search looks at no test graphs, and brings no search of its own.
    if (search and not nested) or (nested and not search and config["evaluate_test"]):
        raise PoolBenchError(
            "protocol=nested10 and search= go together, such as protocol=nested10 search=default"
            "; one search alone is `poolbench tune`"
        )
    model = build_model(config, DataFacts(in_channels=4, out_channels=2, mean_nodes=30.0, classes=4))
    if nested and model.task == "kernel":
        raise PoolBenchError("a graph kernel chooses its own parameters on validation graphs: take protocol=cv10")
    build_trainer(config["trainer"], [])
    optimizer = build_optimizer(config["optimizer"], [nn.Parameter(torch.zeros(1))])
    build_scheduler(config["scheduler"], optimizer)


def _one_of(key: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise PoolBenchError(f"{key}={value!r} is not one of {', '.join(choices)}")


def build_trainer(settings: Config, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer with its own chatter, logging and checkpoints off: the run does those itself."""
    _hush()
    args = {name: value for name, value in settings.items() if name not in OWN}
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
        raise PoolBenchError(f"trainer: {_first_line(error)}") from error


def _hush() -> None:
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (".*does not have many workers.*", ".*smaller than the logging interval.*", ".*GPU available but.*",
                 ".*`training_step` returned.*", ".*LeafSpec.*", ".*treespec.*",
                 ".*across ranks is zero.*"):  # fmt: skip
        warnings.filterwarnings("ignore", text)


def _at_least(key: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PoolBenchError(f"{key}={value!r}: a whole number of at least {least} is expected")
