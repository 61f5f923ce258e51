"""From a configuration's parts to objects. Nothing here touches data; whatever is impossible is said in one line.

Lightning is not asked here: to load it takes longer than to refuse.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.config import Config, Part, Trainer
from poolbench.data.dataset import GraphDataset
from poolbench.data.paired import PairedComparison
from poolbench.data.perturb import Perturbation
from poolbench.data.prepared import Loaded, Prepared
from poolbench.data.protocols import Nested, Protocol
from poolbench.data.scaling import Scale
from poolbench.errors import PoolBenchError, nearest
from poolbench.learn.locate import build_protocol, construct, locate, named, places
from poolbench.learn.loggers import LoggerConfig
from poolbench.linalg import Ragged, Sparse
from poolbench.nn import model as templates
from poolbench.nn.model import DataFacts, GraphModel
from poolbench.pool.base.src import GlobalPool, Operator
from poolbench.records.identity import processes
from poolbench.records.provenance import usable_cores

#: Epochs that a scheduler is tried for.
TRIED = 100
#: What an operator is told by the model around it. Given as well, it would change nothing but the identity of the run.
FILLED_IN = ("in_channels", "x0_channels", "return_selection")
#: Stand for data that is not there yet.
STAND_IN = DataFacts(in_channels=4, out_channels=2, mean_nodes=30.0, classes=4)


@dataclass(frozen=True)
class Parts:
    """What a configuration names and data does not change: built once for all its folds, trials and runs."""

    dataset: GraphDataset
    protocol: Protocol
    perturbation: Perturbation | None
    scale: Scale | None
    loggers: tuple[LoggerConfig, ...]

    @classmethod
    def of(cls, config: Config) -> Parts:
        """Build them, and try whatever is built later, so that data is touched for nothing that must fail.

        Raises `PoolBenchError` for what a constructor refuses, and for parts that do not go together.
        """
        dataset = build_dataset(config.dataset, config.paths.data, config.paths.mirror)
        protocol = build_protocol(config.protocol, config.split.seed, config.paths.data, config.paths.mirror)
        for fold in range(protocol.folds or 0) if config.fold is None else [config.fold]:
            protocol.check_fold(fold)
        if isinstance(protocol, PairedComparison):
            check_pairs(config)
        if protocol.select == "last" and config.callbacks.monitor != "auto":
            raise PoolBenchError(
                f"callbacks.monitor={config.callbacks.monitor} selects an epoch, and protocol.select=last takes "
                "the last: leave one of the two out"
            )
        nested = isinstance(protocol, Nested)
        # A trial of the search looks at no test graphs, and brings no search of its own.
        if (config.search and not nested) or (nested and not config.search and config.evaluate_test):
            raise PoolBenchError(
                "protocol=nested10 and search= go together, such as protocol=nested10 search=default"
                "; one search alone is `poolbench tune`"
            )
        model = build_model(config.model, config.pool, STAND_IN, config.names.pool)
        if nested and model.task == "kernel":
            raise PoolBenchError("a graph kernel chooses its own parameters on validation graphs: take protocol=cv10")
        if model.task != "kernel":
            check_losses(config, model, protocol.validates)
        elif config.feature_scale is not None:
            raise PoolBenchError("feature_scale: a graph kernel looks at labels, which are no numbers: leave it out")
        check_device(config.trainer)
        try_scheduler(config.scheduler, build_optimizer(config.optimizer, [nn.Parameter(torch.zeros(1))]))
        return cls(dataset, protocol, build_perturbation(config.perturb), config.feature_scale,
                   build_loggers(config.logger))  # fmt: skip

    @cached_property
    def _loaded(self) -> Loaded:
        return Loaded.of(self.dataset, self.protocol.level)

    def prepared(self, fold: int | None) -> Prepared:
        """The data of one fold, loaded for the first that asks. Raises `PoolBenchError` where that cannot be done."""
        return self._loaded.split(self.protocol, fold, self.perturbation, self.scale)


def build_dataset(part: Part, data: str | None = None, mirror: str | None = None) -> GraphDataset:
    """The dataset object; nothing is read yet. data, mirror: as in `config.Paths`; None for the environment's."""
    cls = locate("dataset", part)
    return construct("dataset", cls, **places("dataset", part, cls, data, mirror), **part.arguments)


def build_perturbation(part: Part | None) -> Perturbation | None:
    """What perturbs the graphs; None where nothing does."""
    if part is None:
        return None
    made = construct("perturb", locate("perturb", part), **part.arguments)
    if not isinstance(made, Perturbation):
        raise PoolBenchError(f"perturb._target_={part.target} is no Perturbation of poolbench.data.perturb")
    return made


def build_model(model: Part, pool: Part, data: DataFacts, name: str | None = None) -> GraphModel:
    """The model template around the pool, for data with these facts. Raises `PoolBenchError` for a refused pair.

    Args:
        name: what people call the pool.
    """
    cls = locate("model", model)
    if not hasattr(cls, "refuses"):
        raise PoolBenchError(f"model._target_={model.target} is no model template of poolbench.nn")
    operator = _operator("pool", pool)
    parts = {"pool": operator}
    if "pool" in model.arguments:
        raise PoolBenchError(f"model.pool={model.arguments['pool']!r}: the pool of a model is pool=")
    own = {f"model.{name}": value for name, value in model.arguments.items() if name != "readout"}
    if "readout" in model.arguments:
        if not isinstance(given := model.arguments["readout"], Mapping):
            raise PoolBenchError(f"model.readout={given!r}: the name of a readout, such as globalsum, is expected")
        readout = _operator("model.readout", Part.of("model.readout", given))
        if not issubclass(readout.cls, GlobalPool):
            raise PoolBenchError(f"model.readout={readout.cls.__name__} is no readout: give one such as globalavg")
        parts["model.readout"] = readout
    why = cls.refuses(operator.cls)
    if why is not None:
        raise PoolBenchError(f"pool={name or operator.cls.__name__} does not go with this model: {why}")

    def make(given: Mapping[str, Any]) -> GraphModel:
        args = {key.removeprefix("model."): value for key, value in given.items() if key in own}
        for key, part in parts.items():
            inner = {name: given[f"{key}.{name}"] for name in part.args if f"{key}.{name}" in given}
            args[key.removeprefix("model.")] = templates.Part(part.cls, inner)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Initializing zero-element tensors"
            )  # an error says it, or a layer is empty
            return cls(data=data, **args)

    inner = {f"{key}.{name}": value for key, part in parts.items() for name, value in part.args.items()}
    return named({"model": cls} | {key: part.cls for key, part in parts.items()}, own | inner, make)


def _operator(key: str, part: Part) -> templates.Part:
    cls = locate(key, part)
    if not (isinstance(cls, type) and issubclass(cls, Operator)):
        raise PoolBenchError(f"{key}._target_={part.target} is no SRCPool and no GlobalPool of poolbench.pool")
    for name in FILLED_IN:
        if part.arguments.get(name) is not None:
            raise PoolBenchError(f"{key}.{name}={part.arguments[name]!r}: the model says it; leave it out")
    return templates.Part(cls, {name: _inner(f"{key}.{name}", value) for name, value in part.arguments.items()})


def _inner(key: str, value: Any) -> Any:
    """An argument of an operator: of a part within it, such as `pool.gnn`, the class with its arguments filled in."""
    if not isinstance(value, Mapping) or "_target_" not in value:
        return value
    part = Part.of(key, value)
    cls: Callable[..., Any] = locate(key, part)
    return partial(cls, **part.arguments)


def build_optimizer(part: Part, parameters: Any) -> torch.optim.Optimizer:
    """The optimiser over some parameters."""
    return construct("optimizer", locate("optimizer", part), parameters, **part.arguments)


def build_scheduler(part: Part | None, optimizer: torch.optim.Optimizer) -> Any | None:
    """The learning-rate scheduler, stepped once an epoch; None where there is none."""
    return None if part is None else construct("scheduler", locate("scheduler", part), optimizer, **part.arguments)


def try_scheduler(part: Part | None, optimizer: torch.optim.Optimizer) -> None:
    """Step a scheduler through some epochs: torch's look at their arguments only then. Raises `PoolBenchError`."""
    if part is None:
        return
    cls = locate("scheduler", part)

    def make(given: Mapping[str, Any]) -> None:
        scheduler: Any = cls(optimizer, **{key.removeprefix("scheduler."): value for key, value in given.items()})
        plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the optimiser makes no step: its first loads much of torch
            for _ in range(TRIED):
                scheduler.step(*([1.0] if plateau else []))

    named({"scheduler": cls}, {f"scheduler.{name}": value for name, value in part.arguments.items()}, make)


def build_loggers(part: Part | None) -> tuple[LoggerConfig, ...]:
    """The settings of the loggers beside the curve."""
    if part is None:
        return ()
    made = construct("logger", locate("logger", part), **part.arguments)
    if not hasattr(made, "open"):
        raise PoolBenchError(f"logger._target_={part.target} makes no logger: it has no method open")
    return (made,)


def check_device(settings: Trainer) -> None:
    """Raise `PoolBenchError` where this machine lacks what it is to be computed on."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there["gpu"] = any(there.values())
    if not there.get(settings.accelerator, True):
        raise PoolBenchError(f"trainer.accelerator={settings.accelerator}: torch finds none here; take trainer=cpu")
    if settings.accelerator == "cpu" or (settings.accelerator == "auto" and not there["gpu"]):
        if settings.precision == "16-mixed":
            raise PoolBenchError("trainer.precision=16-mixed is for GPUs; on the CPU take bf16-mixed")
        asked, cores = processes({"devices": settings.devices}), max(usable_cores(), 2)
        if asked > cores:
            raise PoolBenchError(f"trainer.devices={settings.devices}: this machine has cores for {cores} processes")


def check_pairs(config: Config) -> None:
    """Raise `PoolBenchError` for what does not go with a model for each pair."""
    trainer, monitor = config.trainer, config.callbacks.monitor
    if monitor != "auto":
        raise PoolBenchError(f"callbacks.monitor={monitor}: protocol=brec takes the last epoch of a pair; leave it out")
    if not config.evaluate_test:
        raise PoolBenchError(
            "evaluate_test=false: protocol=brec measures on the pairs that it trains on, and has no other part; "
            "search under another protocol"
        )
    if config.batch_size % 2:
        raise PoolBenchError(f"batch_size={config.batch_size}: graphs of a pair go together, take an even number")
    if trainer.compile:
        raise PoolBenchError("trainer.compile=true: protocol=brec has a model for each pair, and compiles none")
    for key in ("keep_weights", "pictures_every"):
        if asked := getattr(config.callbacks, key):
            raise PoolBenchError(
                f"callbacks.{key}={str(asked).lower()}: protocol=brec has a model for each pair, and keeps and draws "
                "none of them; leave it out"
            )
    if trainer.starts_processes or processes({"devices": trainer.devices}) != 1:
        raise PoolBenchError(
            f"trainer.devices={trainer.devices}, strategy={trainer.strategy}: protocol=brec trains in one process; "
            "take trainer.devices=1 trainer.strategy=auto"
        )


def check_losses(config: Config, model: GraphModel, validates: str) -> None:
    """Raise `PoolBenchError` for weights of losses that the pool has not, and where such a loss is monitored.

    Args:
        model: built for `STAND_IN`. validates: the part that is evaluated after each epoch.
    """
    part, _, name = config.callbacks.monitor.partition("/")
    if name and part not in ("train", validates):
        parts = " and ".join(dict.fromkeys(("train", validates)))
        raise PoolBenchError(f"callbacks.monitor={part}/{name}: this protocol measures {parts} after each epoch")
    if isinstance(config.loss_weights, Mapping) or config.loss_ramp or name.startswith("loss_"):
        losses = _auxiliary_losses(model)
        if losses is not None:
            by_loss("loss_weights", config.loss_weights, losses, 1.0)
            by_loss("loss_ramp", config.loss_ramp, losses, 0)
            if name.startswith("loss_"):
                check_monitor(config.callbacks.monitor, [f"loss_{loss}" for loss in losses])


def check_monitor(monitor: str, names: Sequence[str]) -> None:
    """Raise `PoolBenchError` where the monitored number (auto, or part/name) is none of those that are measured."""
    part, _, name = monitor.partition("/")
    if name and name not in names:
        near = nearest(name, names, prefix=f"{part}/") or f"; there are {', '.join(f'{part}/{n}' for n in names)}"
        raise PoolBenchError(f"callbacks.monitor={monitor} is not measured{near}")


def _auxiliary_losses(model: GraphModel) -> dict[str, Tensor] | None:
    """Those of a model built for `STAND_IN`, on two rings; None where somebody else's model takes no such graphs."""
    sizes = torch.tensor([8, 12])
    start = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    node = torch.arange(int(sizes.sum()))
    after = start + (node - start + 1) % torch.repeat_interleave(sizes, sizes)
    nodes = Ragged.from_index(torch.repeat_interleave(torch.arange(2), sizes))
    ring = Sparse.from_edges(torch.cat([node, after]), torch.cat([after, node]), None, nodes, symmetric=True)
    with torch.no_grad():
        try:
            return model(torch.rand(node.numel(), STAND_IN.in_channels), ring).losses
        except Exception:
            return None


def by_loss(
    key: str, config: float | Mapping[str, float], losses: Mapping[str, Tensor], others: float
) -> dict[str, float]:
    """A number for each auxiliary loss: one for all, or a mapping of names (without the level) to numbers.

    Args:
        key: of the configuration. others: what those get that the mapping does not name.

    Raises `PoolBenchError` for a name that is none.
    """
    if not isinstance(config, Mapping):
        return dict.fromkeys(losses, float(config))
    known = {name.rsplit("_", 1)[0] for name in losses}
    for name in config:
        if name not in known:
            raise PoolBenchError(f"{key}.{name}: this pool has no such loss{nearest(name, known)}")
    return {name: float(config.get(name.rsplit("_", 1)[0], others)) for name in losses}
