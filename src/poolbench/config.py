"""The configuration of a run on one page: every key, its type, its range, its choices. conf/ holds the values.

Hydra composes plain dictionaries, and records keep them. `read` makes a `Config` of one, or refuses it in one line;
`plain` makes the same dictionaries again. What a run is made of (operator, model, dataset and so on) is a `Part`: a
class, and the arguments of its constructor, which alone knows what they may be.

A key with a default stands in no file of conf/: it is absent unless it was given.
"""

from __future__ import annotations

import copy
import math
import re
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from poolbench.errors import PoolBenchError, nearest

__all__ = ["Callbacks", "Config", "Names", "Part", "Paths", "Search", "Split", "Trainer", "Tuned", "has",
           "hint", "plain", "read", "replace", "with_values"]  # fmt: skip

LARGEST = 2**53
"""The largest whole number up to which every reader of JSON keeps each one."""

Whole = Annotated[int, Meta(ge=0, le=LARGEST)]
Count = Annotated[int, Meta(ge=1, le=LARGEST)]
Amount = Whole | Annotated[float, Meta(ge=0, le=LARGEST)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Jobs = Annotated[int, Meta(ge=1, le=100_000)]
"""Trials: more are nobody's to read."""
Epochs = Annotated[int, Meta(ge=1, le=1_000_000)]
Batch = Annotated[int, Meta(ge=1, le=100_000_000)]
"""Graphs: there is no larger dataset."""
Places = Annotated[int, Meta(ge=1, le=1024)]
"""Processes or threads: more than any machine has are a slip, and start all the same."""

WIDEST = 65_536
"""The largest whole number among the arguments of a pool, a model or a protocol, such as a width, a number of clusters
or of folds: a layer that is wider on both sides takes more than 16 GB."""
DEEPEST = 1000
DEEP = ("levels", "depth", "node_layers", "head_layers", "score_layers", "set_layers", "encoders", "decoders", "hops",
        "steps", "iterations", "order_k", "filter_size")  # fmt: skip
"""The arguments that count layers or rounds, at most `DEEPEST`; in a list `head_layers` are widths."""
NO_AMOUNTS = ("seed", "sizes", "num_neg_samples")
"""The arguments that are neither."""
STEPS = {"T_max": 1, "T_0": 1, "T_mult": 1, "step_size": 1, "warmup": 1, "total_iters": 1, "patience": 0, "cooldown": 0}
"""The arguments of schedulers that count epochs, with the least of each: torch takes any, and divides by some."""

Precision = Literal["32-true", "bf16-mixed", "16-mixed", 32, "32", "bf16", 16, "16"]
PRECISIONS = {32: "32-true", "32": "32-true", "bf16": "bf16-mixed", 16: "16-mixed", "16": "16-mixed"}
"""Lightning's other words for a precision, which are no other run. Its whole models in other types (64-true, bf16-true)
want their data converted, and Lightning converts no frozen batch."""
Strategy = Literal["auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_find_unused_parameters_true",
                   "ddp_spawn_find_unused_parameters_true", "ddp_fork_find_unused_parameters_true",
                   "ddp_notebook_find_unused_parameters_true"]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the keys


class Part(Struct, frozen=True):
    """A part of the run, written `{_target_: module.Class, **arguments}`."""

    target: str
    arguments: dict[str, Any]  # plain values; a part within a part (model.readout) is a mapping with its _target_

    @classmethod
    def of(cls, key: str, value: Any) -> Part:
        """The part that a mapping describes. Raises `PoolBenchError` that names `key`, where it stands."""
        if not isinstance(value, Mapping):
            raise PoolBenchError(f"{key}={value!r}: a mapping with a _target_ is expected")
        target = value.get("_target_")
        if not isinstance(target, str) or not target:
            raise PoolBenchError(f"{key} has no _target_: give the class as module.Class")
        arguments = {name: inner for name, inner in value.items() if name != "_target_"}
        _check_plain(key, arguments)
        for name, least in STEPS.items() if key == "scheduler" else ():
            if name in arguments:
                _value(f"{key}.{name}", arguments[name], (Annotated[int, Meta(ge=least, le=LARGEST)],))
        return cls(target, arguments)


class Split(Struct, frozen=True):
    seed: Whole  # which graphs are trained, validated and tested on


class Names(Struct, frozen=True):
    """What was chosen of each group, for people to read; no part of a run's identity. None: it is not known."""

    pool: str | None
    model: str | None
    dataset: str | None
    protocol: str | None


class Trainer(Struct, frozen=True, kw_only=True):
    """Arguments of pytorch_lightning.Trainer, threads and compile apart.

    Those that are not here do nothing in a run (validation is the run's own, one machine does it), and are refused.
    """

    accelerator: Literal["auto", "cpu", "cuda", "gpu", "mps"]
    devices: Annotated[int, Meta(ge=-1, le=1024)] | list[Whole] | str  # how many, or which; -1, auto: all there are
    strategy: Strategy  # ddp and the like start a process a device
    precision: Precision  # of the arithmetic; bf16-mixed for autocast
    max_epochs: Epochs
    gradient_clip_val: Amount | None  # None: gradients are taken as they are
    deterministic: bool | Literal["warn"]  # false: kernels that sum in any order may be used
    threads: Places  # of torch
    compile: bool  # torch.compile the model
    min_epochs: Whole | UnsetType = UNSET  # patience stops nothing before
    max_steps: Annotated[int, Meta(ge=-1, le=LARGEST)] | UnsetType = UNSET  # -1: no bound
    min_steps: Whole | UnsetType = UNSET  # patience stops nothing before
    limit_train_batches: Count | Share | UnsetType = UNSET  # how many batches of an epoch, or which share of them
    accumulate_grad_batches: Count | UnsetType = UNSET  # batches a step
    gradient_clip_algorithm: Literal["norm", "value"] | UnsetType = UNSET
    detect_anomaly: bool | UnsetType = UNSET  # autograd's search for what made a NaN

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "precision", PRECISIONS.get(self.precision, self.precision))
        if not _names_devices(self.devices):
            raise PoolBenchError(
                f"trainer.devices={self.devices!r}: how many (1 or more; -1: all there are), or a list of which, such "
                "as [0,1], is expected"
            )
        if self.max_steps == 0:
            raise PoolBenchError("trainer.max_steps=0: a whole number of at least 1, or -1 for no bound, is expected")
        for least, most in ((self.min_epochs, self.max_epochs), (self.min_steps, self.max_steps)):
            if isinstance(least, int) and isinstance(most, int) and least > most >= 0:
                what = "epochs" if most is self.max_epochs else "steps"
                raise PoolBenchError(f"trainer.min_{what}={least} is more than trainer.max_{what}={most}")
        if self.gradient_clip_algorithm is not UNSET and not self.gradient_clip_val:
            raise PoolBenchError("trainer.gradient_clip_algorithm goes with trainer.gradient_clip_val: give a number")

    @property
    def starts_processes(self) -> bool:
        """Whether further processes are started for the other devices."""
        return self.strategy.startswith("ddp")

    @property
    def hands_over(self) -> bool:
        """Whether these processes are given what was built, in place of the command, and none of them is this one."""
        return any(way in self.strategy for way in ("spawn", "fork", "notebook"))


class Callbacks(Struct, frozen=True):
    monitor: str  # the number of the curve by which epochs are selected; auto: the protocol's choice
    mode: Literal["auto", "min", "max"]  # whether less or more of it is better
    patience: Count  # stop after so many epochs without a better one
    tolerance: Amount  # one is better that is so by more than this
    ties: Literal["first", "last"]  # which of epochs with one value counts; last: such an epoch is a better one
    resume_every: Amount  # seconds between two resume checkpoints at the least
    progress: Literal["auto", "bar", "lines", "none"]
    pictures_every: Whole  # epochs between two pictures of what the first pool does; 0: none
    keep_weights: bool  # true: the selected epoch's weights stay beside the record

    def __post_init__(self) -> None:
        if self.monitor != "auto" and not re.fullmatch(r"(train|val|test)/\w+", self.monitor):
            raise PoolBenchError(
                f"callbacks.monitor={self.monitor}: auto or a number of the curve, such as val/loss, is expected"
            )
        if self.monitor != "auto" and self.mode == "auto":
            raise PoolBenchError(
                f"callbacks.monitor={self.monitor}: say whether more is better: callbacks.mode=min or max"
            )
        if self.monitor == "auto" and self.mode != "auto":
            raise PoolBenchError(
                f"callbacks.mode={self.mode} says nothing without callbacks.monitor: say of which number, such as "
                "callbacks.monitor=val/accuracy, or leave it out"
            )


class Paths(Struct, frozen=True):
    """Where files lie; no part of a run, and so in no record."""

    results: str
    data: str | None  # None: the user's cache folder
    mirror: str | None  # a folder or base URL laid out as the official hosts are

    def __post_init__(self) -> None:
        for name in ("results", "data"):
            place = getattr(self, name)
            if place is not None and (not place or "://" in place):
                raise PoolBenchError(f"paths.{name}={place}: a folder of this machine is expected")


class Search(Struct, frozen=True, omit_defaults=True):
    """A search of hyper-parameters (`jobs.search`)."""

    sampler: Literal["tpe", "random", "grid", "quasi"]
    trials: Jobs
    concurrency: Places  # trials that may run at a time
    prune: bool  # stop trials that are worse than the median of those before
    space: dict[str, Any]  # keys of the configuration: a list of values, or {low: a, high: b} with log: true or step: s
    by: Literal["metric"] | None = None  # what trials are compared by: the metric, or None: what selects epochs
    chosen: dict[str, Any] | None = None  # of a final run of nested cross-validation: the values of the best trial


class Tuned(Struct, frozen=True):
    """What of a run was chosen by an earlier search, of this operator on this dataset (`conf/tuned`): tables compare
    runs that were tuned in the same way, whatever was chosen."""

    sampler: str
    trials: Jobs
    chosen: dict[str, Any]  # nested as the configuration, which has the same values


class Config(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run, or several where the protocol has folds."""

    seed: Whole  # initialisation, batch order, draws
    split: Split
    fold: Whole | None  # of a protocol that has folds; None: all of them, one run each
    batch_size: Batch
    loss_weights: Amount | dict[str, Amount]  # of the operator's auxiliary losses: for all of them, or by name
    loss_ramp: Whole | dict[str, Whole]  # epochs in which these weights rise from 0: for all of them, or by name
    k_from: Literal["mean", "largest"] | Share  # the size of which pool.ratio makes k; a number: that quantile
    feature_scale: Literal["standard", "range"] | None  # of node features that are numbers, by the training part
    evaluate_test: bool  # false: the test split is never looked at
    force: bool  # true: run again what is done, as another attempt
    group: str | None  # of the run in W&B
    tags: list[str]  # of the run in W&B
    names: Names
    pool: Part  # an operator, a readout or a control of poolbench.pool, or one's own
    model: Part  # the network around it
    protocol: Part  # how graphs are split, and which epoch counts
    dataset: Part
    optimizer: Part
    scheduler: Part | None  # None: the learning rate stays as it is
    trainer: Trainer
    callbacks: Callbacks
    logger: Part | None  # beside the curve, which is always written
    paths: Paths
    perturb: Part | None = None  # what is done to the graphs before anything is learnt from them
    search: Search | None = None
    tuned: Tuned | None = None
    job_type: str | None = None  # of the run in W&B

    def __post_init__(self) -> None:
        for key in ("loss_weights", "loss_ramp"):
            if getattr(self, key) == {}:
                raise PoolBenchError(f"{key}={{}} names no loss: give a number for all, or numbers by name")
        if self.search is not None and self.trainer.starts_processes:
            raise PoolBenchError("trainer=ddp starts its own processes and does not go with a search: give one device")

    @property
    def dataset_name(self) -> str | None:
        """What people call the dataset."""
        return self.dataset.arguments.get("name") or self.names.dataset


def _names_devices(devices: int | list[int] | str) -> bool:
    """Whether Lightning would take this for at least one device, each of them once."""
    if isinstance(devices, str):  # "2" is how many, "0,1" and "2," say which
        if devices.strip() in ("auto", "-1"):
            return True
        if not re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*,?\s*", devices):
            return False
        devices = [int(word) for word in devices.split(",") if word.strip()] if "," in devices else int(devices)
    return 0 < len(devices) == len(set(devices)) if isinstance(devices, list) else devices != 0


# ----------------------------------------------------------------------------------------- from dictionaries, and back


def read(values: Mapping[str, Any]) -> Config:
    """The configuration that plain dictionaries hold; nothing is shared with them.

    What was tuned and then set to something else counts as tuned no more.

    Raises `PoolBenchError`, in one line that names the key: it is unknown or missing, or its value is no such thing.
    """
    made = _struct(Config, "", copy.deepcopy(values))
    if made.tuned is not None:
        chosen = _common(made.tuned.chosen, values)
        made = replace(made, tuned=replace(made.tuned, chosen=chosen) if chosen else None)
    return made


def _common(chosen: Mapping[str, Any], values: Any) -> dict[str, Any]:
    """Those of nested values that other ones hold in the same places."""
    kept = {}
    for key, value in chosen.items():
        own = values.get(key) if isinstance(values, Mapping) else None
        if isinstance(value, Mapping):
            if inner := _common(value, own):
                kept[key] = inner
        elif own == value:
            kept[key] = value
    return kept


def plain(config: Config) -> dict[str, Any]:
    """The plain dictionaries that `read` would make `config` of; nothing is shared with it."""
    values = msgspec.to_builtins(config)
    for key in _PARTS & values.keys():
        found = values[key]
        values[key] = {"_target_": None} if found is None else {"_target_": found["target"], **found["arguments"]}
    return values


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with other values at dotted keys, such as `optimizer.lr`.

    Raises `PoolBenchError` for a key that the configuration has not, and as `read` does.
    """
    changed = plain(config)
    for key, value in values.items():
        if not has(changed, key):
            raise PoolBenchError(f"{key} is no key of the configuration{hint(changed, key)}")
        node: Any = changed
        *path, last = key.split(".")
        for name in path:
            node = node[name]
        node[last] = value
    return read(changed)


def has(values: Mapping[str, Any], key: str) -> bool:
    """Whether plain dictionaries hold a dotted key."""
    node: Any = values
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return True


def hint(values: Mapping[str, Any], key: str) -> str:
    """' (did you mean X?)' for a dotted key that plain dictionaries do not hold; '' where nothing is near."""
    node: Any = values
    prefix = ""
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            break
        node, prefix = node[name], f"{prefix}{name}."
    return nearest(name, map(str, node), prefix=prefix) if isinstance(node, Mapping) else ""


def _check_plain(key: str, value: Any, listed: bool = False) -> None:
    """Refuse what no JSON file holds, so that no constructor need ask whether a number is one, and whole numbers out of
    all measure. listed: whether the value stands in a list."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_plain(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_plain(key, inner, True)
    elif isinstance(value, float) and not math.isfinite(value):
        raise PoolBenchError(f"{key}={value}: a number is expected")
    elif isinstance(value, int) and abs(value) > (most := _most(key, listed)):
        raise PoolBenchError(f"{key}={value}: a whole number of at most {most} is expected")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise PoolBenchError(f"{key}={value!r}: a number, a word, true, false, null, a list or a mapping is expected")


def _most(key: str, listed: bool) -> int:
    group, name = key.partition(".")[0], key.rpartition(".")[2]
    if group not in ("pool", "model", "protocol") or name in NO_AMOUNTS:
        return LARGEST
    return DEEPEST if name in DEEP and not (listed and name == "head_layers") else WIDEST


# ------------------------------------------------------------------------------------------- types, and words for them


@cache
def _fields(kind: Any) -> dict[str, tuple[tuple[Any, ...], bool]]:
    """Of each key of a struct the types that it may have, and whether it must be there."""
    return {field.name: (_options(field.type), field.required) for field in msgspec.structs.fields(kind)}


def _options(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else itself."""
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return tuple(member for member in members if member is not UnsetType)


_PARTS = {name for name, (options, _) in _fields(Config).items() if Part in options}


def _struct(kind: Any, prefix: str, values: Any) -> Any:
    """The struct that a mapping describes. prefix: what stands before its keys, the last dot included."""
    if not isinstance(values, Mapping):
        raise PoolBenchError(f"{prefix.rstrip('.') or 'the configuration'}={values!r}: a mapping is expected")
    fields = _fields(kind)
    for name in values:
        if name not in fields:
            near = nearest(str(name), fields, prefix=prefix)
            raise PoolBenchError(f"{prefix}{name} is no key of the configuration{near}")
    for name, (options, required) in fields.items():
        if required and name not in values:
            raise PoolBenchError(f"{prefix}{name} is missing: {_expected(options)} is expected")
    return kind(**{name: _value(prefix + name, value, fields[name][0]) for name, value in values.items()})


def _value(key: str, value: Any, options: Sequence[Any]) -> Any:
    """A value that may be of any of these types."""
    if value is None and type(None) in options:
        return None
    for option in options:
        if option is Part:
            return None if value == {"_target_": None} and type(None) in options else Part.of(key, value)
        if isinstance(option, type) and issubclass(option, Struct):
            return _struct(option, f"{key}.", value)
        if get_origin(option) is dict and isinstance(value, Mapping):
            inner = _options(get_args(option)[1])
            return {str(name): _value(f"{key}.{name}", each, inner) for name, each in value.items()}
    try:
        return msgspec.convert(value, Union[tuple(options)])  # noqa: UP007 (of a tuple)
    except msgspec.ValidationError:
        if get_origin(options[0]) is Literal and len(options) == 1:
            choices = ", ".join(dict.fromkeys(map(str, get_args(options[0]))))
            raise PoolBenchError(f"{key}={value!r} is not one of {choices}") from None
        raise PoolBenchError(f"{key}={value!r}: {_expected(options, value)} is expected") from None


def _expected(options: Sequence[Any], value: Any = None) -> str:
    """What a value may be, in words. value: what it was, which says whether an upper bound is worth a word."""
    said = [word for option in options for word in _words(option, value)]
    said = [word for word in said if word.replace("a whole", "a") not in said or "whole" not in word]
    return " or ".join(filter(None, (", ".join(said[:-1]), said[-1])))


def _words(option: Any, value: Any) -> list[str]:
    if get_origin(option) is Literal:
        return [str(choice) for choice in get_args(option)]
    if get_origin(option) is Annotated:
        kind, bounds = get_args(option)
        number = "a whole number" if kind is int else "a number"
        if bounds.gt is not None:
            return [f"{number} between {bounds.gt} and {bounds.lt}"]
        told = isinstance(value, int | float) and value > bounds.le
        return [f"{number} from {bounds.ge} to {bounds.le}" if told else f"{number} of at least {bounds.ge}"]
    if get_origin(option) is list:
        return ["a list of words" if get_args(option)[0] is str else "a list of numbers"]
    names = {bool: ["true", "false"], str: ["a word"], type(None): ["null"], Part: ["a mapping with a _target_"]}
    return names.get(option, ["a mapping"])
