"""The door to Hydra: from the words of a command line to a configuration, a run or a sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from poolbench.cli import arguments, own, sweeping
from poolbench.cli.composing import Composer, compose, register
from poolbench.cli.explain import HYDRA_ERRORS, explain, unresolved
from poolbench.cli.folders import conf_dir, files
from poolbench.cli.names import about, canonical, choices, offered, pools, some
from poolbench.cli.terminal import TRACEBACKS
from poolbench.cli.words import parsed
from poolbench.config import Config, hint, read
from poolbench.errors import PoolBenchError, nearest
from poolbench.jobs import sweep

NO_CONFIGURATION = ("hydra", "deviations")
"""What is composed and belongs to no run: Hydra's own keys, and what an experiment does otherwise than its paper
(`poolbench.papers.recipe`)."""
ONE_RUN = "this command does not go with -m: start it once for each choice"


class Task:
    """What Hydra is given to do: it calls this for a single run; a sweep's launcher takes the parts.

    Args:
        work: does a configuration; a function of a module, so that other processes find it. None: there are
            no sweeps of this. job: does a composed one that is no job of a sweep; None: reads it and does the work.
        trains: whether the work is a run, which leaves a record.
    """

    def __init__(
        self,
        work: Callable[[Config], Any] | None,
        job: Callable[[DictConfig], Any] | None = None,
        trains: bool = False,
    ) -> None:
        self.sweeps, self.trains = work is not None, trains
        self._work, self._job = work, job
        self.traces = TRACEBACKS
        #: What the job of a single run raised.
        self.error: Exception | None = None
        #: What the jobs of a sweep came to.
        self.states: list[str] = []
        #: Composes the jobs of a sweep.
        self.composer: Composer | None = None

    def __call__(self, config: DictConfig) -> None:
        try:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise PoolBenchError(f"this hydra/launcher is none of PoolBench's{some(choices('hydra/launcher'))}")
            say_untuned([tuned()])
            if self._job is not None:
                self._job(config)
            else:
                self.work(resolve(config))
        except Exception as error:  # on its way through Hydra it would cost a line of Hydra's own
            self.error = error

    @property
    def work(self) -> Callable[[Config], Any]:
        if self._work is None:
            raise PoolBenchError(ONE_RUN)
        return self._work

    def resolve(self, config: DictConfig) -> Config:
        """The configuration of a job. Raises `PoolBenchError`."""
        with open_dict(config):
            config.pop("hydra")
        return resolve(config)


def run(task: Task, words: Sequence[str], flags: Sequence[str] = ()) -> int:
    """Let Hydra compose the configuration and do the task, or a sweep of it; returns the exit code.

    Args:
        words: overrides. flags: Hydra's own options, which it wants in front.

    Raises `PoolBenchError` for words that make no configuration, and whatever the task raises.
    """
    if "--multirun" in flags and not task.sweeps:
        raise PoolBenchError(ONE_RUN)
    alone = [flag for flag in ("--package", "--resolve") if flag in flags and "--cfg" not in flags]
    if alone:
        raise PoolBenchError(f"{alone[0]} says what --cfg prints: add --cfg job")
    register(words)
    words = [canonical(word) for word in words]
    try:
        if "--multirun" in flags:
            composer = task.composer = Composer()
            words = sweeping.checked(words, composer, lambda job: _check_fold(resolve(composed(job, composer))))
        else:
            parsed(words)
        _check_package(flags, words)
    except HYDRA_ERRORS as error:
        raise PoolBenchError(explain(error, words, task.sweeps)) from error
    old_argv, old_full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [sys.argv[0], *flags, *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises; what is shown is decided elsewhere
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
        if task.error is not None:
            raise task.error
    except HYDRA_ERRORS as error:
        raise PoolBenchError(explain(error, words, task.sweeps)) from error
    except OSError as error:
        if error is task.error or "--multirun" in flags:
            raise
        raise PoolBenchError(
            f"hydra.run.dir: {error.filename} cannot be written ({error.strerror}); give a folder that can be"
        ) from error
    finally:
        sys.argv = old_argv
        if old_full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = old_full
    return sweep.exit_code(task.states)


def _check_fold(config: Config) -> None:
    """Refuse a fold that the protocol has not, which takes neither torch nor data."""
    from poolbench.learn.locate import build_protocol

    paths = config.paths
    if config.fold is not None or config.protocol.arguments.get("folds_file") is not None:
        protocol = build_protocol(config.protocol, config.split.seed, paths.data, paths.mirror)
        for fold in range(protocol.folds or 0) if config.fold is None else [config.fold]:
            protocol.check_fold(fold)


def _check_package(flags: Sequence[str], words: Sequence[str]) -> None:
    """Refuse a part of the configuration to print that it has not: Hydra ends the process there."""
    package = flags[flags.index("--package") + 1] if "--package" in flags else "_global_"
    if package != "_global_" and "--multirun" not in flags:
        parts: dict[str, Any] = {"job": compose(words), "hydra": HydraConfig.instance().cfg}
        what = flags[flags.index("--cfg") + 1]
        if all(OmegaConf.select(part, package) is None for name, part in parts.items() if what in (name, "all")):
            keys: Any = OmegaConf.to_container(parts["job"], resolve=False)
            raise PoolBenchError(f"--package {package}: {package} is no key of the configuration{hint(keys, package)}")


def composed(words: Sequence[str], composer: Composer | None = None) -> DictConfig:
    """The configuration that words make, not resolved. Raises `PoolBenchError` for words that make none.

    Args:
        composer: of many command lines; None: this is the only one.
    """
    words = [(composer.canonical if composer else canonical)(word) for word in words]
    try:
        return composer.compose(words) if composer else compose(words)
    except HYDRA_ERRORS as error:
        raise PoolBenchError(explain(error, words)) from error


def tuned() -> str | None:
    """DATASET/POOL of the tuned values that the configuration composed last is to have (conf/tuned)."""
    return HydraConfig.get().runtime.choices.get("tuned")


def say_untuned(names: Iterable[str | None]) -> None:
    """Say in a line for which names there are no tuned values: Hydra leaves them out in silence."""
    if lacking := sorted({name for name in names if name is not None} - {*files("tuned")}):
        print(f"no values were tuned for {', '.join(lacking)}: the experiment's own are taken", file=sys.stderr)


def resolve(config: DictConfig) -> Config:
    """The configuration that Hydra composed, with a readout in place of its name and the class that calls it in that of
    a function. Raises `PoolBenchError`."""
    try:
        plain: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
            config, resolve=True, throw_on_missing=True
        )
    except HYDRA_ERRORS as error:
        raise PoolBenchError(unresolved(error, config)) from error
    for apart in NO_CONFIGURATION:
        plain.pop(apart, None)
    if isinstance(plain.get("dataset"), Mapping):
        plain["dataset"] = own.with_function(plain["dataset"])
    model, names, paths = plain.get("model"), plain.get("names"), plain.get("paths")
    if isinstance(model, Mapping):
        plain["model"] |= {"readout": _readout(model["readout"])} if "readout" in model else {}
    if isinstance(names, Mapping):
        _name_own_pool(plain)
    if isinstance(paths, Mapping):
        plain["paths"] = {name: _absolute(place) for name, place in paths.items()}
        _keep_folds(plain)
    arguments.check(plain)
    return read(plain)


def _readout(given: Any) -> Any:
    """The readout that a name means, or the `name` of a mapping with arguments; what is neither, as it is."""
    options = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = options.pop("name", None)
    if not isinstance(name, str) or "_target_" in options:
        return given
    found = _pool_file(name) or _pool_file(canonical(f"pool={name}").removeprefix("pool="))
    if found is None:
        known = [known for known in choices("pool") if about("pool", known).startswith("Readout")]
        raise PoolBenchError(f"model.readout={name} is unknown{nearest(name, known) or some(known)}")
    return found | options


def _absolute(place: Any) -> Any:
    """A folder, wherever the job is done; an address, and what is none of both, as it is."""
    return str(Path(place).absolute()) if isinstance(place, str) and place and "://" not in place else place


def _keep_folds(plain: dict[str, Any]) -> None:
    """Put what an index file holds in the place of where it lies."""
    protocol, data = plain.get("protocol"), plain["paths"].get("data")
    given = protocol.get("folds_file") if isinstance(protocol, Mapping) else None
    if isinstance(given, str):
        from poolbench.data.index_files import keep

        plain["protocol"] |= {"folds_file": keep(given, data)}


def _pool_file(name: str) -> dict[str, Any] | None:
    """The configuration of the operator NAME, wherever it comes from; None where there is none."""
    path = files("pool").get(pools().get(name, name))
    if path is not None:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=True)  # type: ignore[return-value]
    return next((plugin.config for plugin in offered() if plugin.name == name and not plugin.problem), None)


def _name_own_pool(plain: dict[str, Any]) -> None:
    """Call an operator that `pool._target_=` brought by its class, not by the choice that it stands in for."""
    pool, chosen = plain.get("pool"), _pool_file(str(plain["names"].get("pool")))
    target = pool.get("_target_") if isinstance(pool, Mapping) else None
    if isinstance(target, str) and chosen is not None and chosen.get("_target_") != target:
        plain["names"]["pool"] = target.rpartition(".")[2]
