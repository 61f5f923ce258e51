"""What of a record is used to build anything, and what is refused: a record may come from anybody (docs/security.md).

A class that a record names is looked up before it is imported: the files of conf/ name it, or a configuration folder or
plugin of one's own, or torch has it as an optimiser or a scheduler, or its package was named by the user. Arguments are
plain values; what would be a path, an address or a module is refused, wherever it stands.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from poolbench.audit.limits import parameters, too_large
from poolbench.audit.registry import GROUPS, Registry
from poolbench.config import Config
from poolbench.data import index_files
from poolbench.errors import PoolBenchError, nearest
from poolbench.records.changes import today, upgrade
from poolbench.report.board import value_at

if TYPE_CHECKING:
    from poolbench.nn.model import DataFacts

OPTIMISERS = frozenset(
    f"torch.optim.{name}" for name in ("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam",
                                       "RAdam", "RMSprop", "Rprop", "SGD"))  # fmt: skip
"""Those of torch that take plain arguments and a step without a closure."""
SCHEDULERS = frozenset(
    f"torch.optim.lr_scheduler.{name}" for name in (
        "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR", "LinearLR",
        "MultiStepLR", "OneCycleLR", "PolynomialLR", "ReduceLROnPlateau", "StepLR"))  # fmt: skip
"""Those of torch that take plain arguments: neither functions nor other schedulers."""
FROM_FUNCTION = frozenset({"poolbench.data.sources.own.FromFunction"})
"""The dataset that a function makes, which is looked up as classes are."""
FURTHER = {"optimizer": OPTIMISERS, "scheduler": SCHEDULERS, "dataset": FROM_FUNCTION}
STRATEGIES = ("auto", "ddp")
"""Lightning has more, and looks for the packages of others."""

PLACES = {
    "pool": "pool",
    "model": "model",
    "model.readout": "pool",
    "dataset": "dataset",
    "dataset.function": "function",
    "protocol": "protocol",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "logger": "logger",
    "perturb": "perturb",
}
"""Where in a configuration a class may stand, or a function that makes a dataset, and the group that knows it."""
WITHIN = ("pool", "model.readout")
"""Of these, arguments may be layers: classes with arguments of their own."""
LAYER, FUNCTION = "layer", "function"
OPTIONAL = ("scheduler", "logger", "perturb")
"""Parts that may be none."""
KINDS = {
    "pool": "poolbench.pool.base.src.Operator",
    "model": "torch.nn.Module",
    "dataset": "poolbench.data.dataset.GraphDataset",
    "protocol": "poolbench.data.protocols.Protocol",
    "optimizer": "torch.optim.Optimizer",
    "scheduler": "torch.optim.lr_scheduler.LRScheduler",
    "perturb": "poolbench.data.perturb.Perturbation",
    LAYER: "torch.nn.Module",
}
"""What a class of a package that the user named must be."""

_FROM_OUTSIDE = re.compile(
    r"(^|_)(data|mirror|paths?|files?|folder|dir|directory|root|url|uri|address|module|checkpoint)$"
)
"""Names of arguments that say where something lies."""
_LONGEST = 200


ALLOW = "--allow-large does it all the same"


class Refused(PoolBenchError):
    """A record asks for what is not done for a record."""


@dataclass(frozen=True)
class Trust:
    """What a record may ask for.

    registry: the classes that are known. packages: others whose classes may be imported. large: whether what is above
    the limits (`limits`) may be done.

    Raises `PoolBenchError` for a package of Python's own, which no operator is in.
    """

    registry: Registry = field(default_factory=Registry.of)
    packages: tuple[str, ...] = ()
    large: bool = False

    def __post_init__(self) -> None:
        for package in self.packages:
            if not _is_package(package):
                raise PoolBenchError(f"trust={package}: the package of an operator, dataset or model is expected")

    def check(self, config: Mapping[str, Any], runs: bool = True) -> None:
        """Raise `Refused` for a configuration of a record that must not be built from.

        Args:
            runs: whether it is to be run; else only its dataset is split.
        """
        config = upgrade(config)
        for key in (*GROUPS, "trainer"):
            if not isinstance(config.get(key, {}), Mapping):
                raise Refused(f"{key}={config[key]!r}: a mapping is expected")
        for key, node in _walked(config):
            if not key.isprintable() or (isinstance(node, str) and not node.isprintable()):
                raise Refused(f"{key}: characters that a terminal would act on")
            if isinstance(node, Mapping) and "_target_" in node and not (node["_target_"] is None and key in OPTIONAL):
                self._check_class(key, node["_target_"])
        for key in PLACES:
            part = value_at(config, key)
            for name, value in part.items() if isinstance(part, Mapping) and key != "logger" else ():
                if name != "_target_" and (key, name) != ("model", "readout"):
                    _check_argument(f"{key}.{name}", value, config)
        if runs:
            _check_run(config)
        if not self.large and (said := too_large(config, runs)):
            raise Refused(f"{said}; {ALLOW}")

    def check_size(self, config: Config, facts: DataFacts | None = None) -> None:
        """Raise `Refused` where the model would have more parameters than are made for a record; nothing is allocated.

        Args:
            config: of a record that was checked. facts: of its data, where they are known.
        """
        import torch

        from poolbench.learn.build import STAND_IN, build_model

        with torch.device("meta"):
            model: Any = build_model(config.model, config.pool, facts or STAND_IN, config.names.pool)
        made = model.parameters() if isinstance(model, torch.nn.Module) else ()  # a graph kernel has none
        count = sum(p.numel() for p in made if not isinstance(p, torch.nn.UninitializedParameter))
        if not self.large and (said := parameters(count)):
            raise Refused(f"{said}; {ALLOW}")

    def _check_class(self, key: str, target: Any) -> None:
        group = LAYER if key.rpartition(".")[0] in WITHIN else PLACES.get(key)
        if group is None:
            raise Refused(f"{key}._target_={target!r}: no class is expected there")
        if not isinstance(target, str):
            raise Refused(f"{key}._target_={target!r}: module.Class is expected")
        known = self._known(group)
        if today(target) in known:
            return
        package = next((p for p in self.packages if target.startswith(f"{p}.")), None)
        if package is None:
            top = target.partition(".")[0]
            own = _is_package(target) and top not in ("poolbench", "torch")
            remedy = f"; --trust {top} imports it, if you know what its code does" if own else nearest(target, known)
            raise Refused(f"{key}._target_={target!r} is not known here as a {group}{remedy}")
        if group in KINDS and not _is_kind(target, KINDS[group]):
            raise Refused(f"{key}._target_={target} is no {KINDS[group].rpartition('.')[2]}")
        if group == FUNCTION and not _is_function(target, package):
            raise Refused(f"{key}._target_={target} is no function of {package}")

    def _known(self, group: str) -> frozenset[str]:
        """The names that need no further trust: of functions none."""
        if group == FUNCTION:
            return frozenset()
        known = self.registry.layers if group == LAYER else self.registry.targets(group)
        return known | FURTHER.get(group, frozenset())


def _is_package(name: str) -> bool:
    """Whether a dotted name is one of Python, and none of its own library."""
    parts = name.split(".")
    return all(part.isidentifier() for part in parts) and parts[0] not in sys.stdlib_module_names


def _walked(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in a configuration."""
    todo: list[tuple[str, Any]] = [("", config)]
    while todo:
        key, node = todo.pop()
        yield key, node
        if isinstance(node, Mapping):
            todo += [(f"{key}.{name}" if key else str(name), inner) for name, inner in node.items()]
        elif isinstance(node, list | tuple):
            todo += [(f"{key}[]", inner) for inner in node]


def _check_argument(key: str, value: Any, config: Mapping[str, Any]) -> None:
    """Refuse an argument that is not plain: a name that is none, a mapping, or whatever says where something lies."""
    name = key.rpartition(".")[2]
    if not name.isidentifier():
        raise Refused(f"{key!r}: the name of an argument is expected")
    by_content = key == "protocol.folds_file" and isinstance(value, str) and index_files.by_content(value)
    if not isinstance(value, bool | None) and _FROM_OUTSIDE.search(name) and not by_content:
        raise Refused(f"{key}={value!r}: a record says nothing of places; where data lies is said here")
    if isinstance(value, Mapping):  # such as loss_coeffs
        for inner, each in value.items():
            if isinstance(each, Mapping):
                raise Refused(f"{key}.{inner}: a number, a word, true, false or null is expected, no mapping")
            _check_argument(f"{key}.{inner}", each, config)
        return
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, list | tuple | Mapping):
            raise Refused(f"{key}: a number, a word, true, false, null or a list of them is expected")
        if isinstance(each, str) and key != "protocol.folds" and (len(each) > _LONGEST or _place(each)):
            raise Refused(f"{key}={each[:_LONGEST]!r}: a word is expected, no path and no address")
    if name == "gnn" and ".peers." in str(value_at(config, "pool._target_")) and not str(value).endswith("Conv"):
        raise Refused(f"{key}={value!r}: a convolution is expected, such as GCNConv")


def _place(word: str) -> bool:
    return any(mark in word for mark in ("/", "\\", "\0", "..")) or word.startswith(("~", "."))


def _check_run(config: Mapping[str, Any]) -> None:
    """Refuse what makes more than the one run that a record is of."""
    search = config.get("search")
    if search is not None and not (isinstance(search, Mapping) and search.get("chosen")):
        raise Refused("search: a record is of one run, and this is a whole search")
    strategy = value_at(config, "trainer.strategy")
    if strategy not in STRATEGIES:
        raise Refused(f"trainer.strategy={strategy!r} is none of {', '.join(STRATEGIES)}")


def _is_kind(target: str, base: str) -> bool:
    """Whether a class of a package that the user trusts, which is imported here, is what belongs in its place."""
    found, wanted = (_imported(name) for name in (target, base))
    return isinstance(found, type) and issubclass(found, wanted)


def _is_function(target: str, package: str) -> bool:
    """Whether a package that the user trusts, which is imported here, defines a function of this name: what it took
    from elsewhere, such as `os.system`, is none of its own."""
    found = _imported(target)
    return inspect.isfunction(found) and f"{found.__module__}.".startswith(f"{package}.")


def _imported(name: str) -> Any:
    module, _, last = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), last)
    except (ImportError, AttributeError, ValueError) as error:
        raise PoolBenchError(f"{name} cannot be imported: {error}") from error
