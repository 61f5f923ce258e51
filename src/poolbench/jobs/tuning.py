"""`poolbench tune`: a search by any number of processes, and the best configuration as an experiment file."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from poolbench.config import Config, plain, replace
from poolbench.disk import write_text
from poolbench.errors import PoolBenchError
from poolbench.jobs.search import Search, left_out, reached, score_name
from poolbench.records.identity import EXECUTION_KEYS
from poolbench.records.provenance import git_state
from poolbench.records.version import installed_code

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from poolbench.learn.build import Parts

MADE_BY = "# Found by poolbench tune: "
#: Groups whose choice belongs to what was found.
GROUPS = ("pool", "network", "tuned", "model", "protocol", "dataset", "optimizer", "scheduler", "trainer", "perturb")


def tune(config: Config, workers: int = 1) -> tuple[Search, list[FrozenTrial]]:
    """Do the search that a configuration describes, or what is missing of it.

    Args:
        config: with its `search`. workers: processes, this one among them.

    Returns the search and its trials.

    Raises:
        PoolBenchError: a configuration that cannot be searched. RunError: every trial failed.
    """
    search = new_search(config, check(config, workers))
    for key in left_out(config):
        print(f"search: {key} is left out: {config.names.pool} in this model has no such key")
    with _helpers(config, workers - 1):
        trials = search.finish()
    return search, trials


def new_search(config: Config, parts: Parts) -> Search:
    """The search of a configuration, whose trials are runs of this code."""
    from poolbench.jobs.run import one_run

    return Search(config, partial(one_run, parts=parts), installed_code(plain(config)))


def parts_of(config: Config) -> Parts:
    """What the trials of a search are made of. Raises `PoolBenchError`."""
    from poolbench.learn.build import Parts

    return Parts.of(replace(config, search=None, evaluate_test=False))


def check(config: Config, workers: int = 1) -> Parts:
    """The parts of a configuration, or `PoolBenchError` where it cannot be searched, before anything is started."""
    assert config.search is not None
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise PoolBenchError(f"workers={workers!r}: a whole number of at least 1 is expected")
    if workers > config.search.concurrency:
        raise PoolBenchError(
            f"workers={workers} is more than search.concurrency={config.search.concurrency}, the trials that may "
            "run at a time; raise that too (it is another search then)"
        )
    parts = parts_of(config)
    protocol = parts.protocol
    if protocol.validates == "test":
        raise PoolBenchError(f"protocol={protocol.name} chooses by the test split, which no search may see")
    if protocol.folds is not None and config.fold is None:
        raise PoolBenchError(
            f"protocol={protocol.name} has folds: give fold=, or search each fold with protocol=nested10 search=default"
        )
    return parts


def monitored(config: Config, parts: Parts) -> tuple[str, str]:
    """Name and mode (min, max) of the number by which runs of a configuration are searched, known before any is done.

    Where it is the dataset's own metric, the dataset is loaded to ask for it.
    """
    callbacks, protocol = config.callbacks, parts.protocol
    if config.search is not None and config.search.by == "metric":
        return _metric(config, parts)
    if callbacks.monitor != "auto":
        return callbacks.monitor, callbacks.mode
    if protocol.validates == "train":
        return "train/total_loss", "min"
    if protocol.select == "metric":
        return _metric(config, parts)
    return f"{protocol.validates}/loss", "min"


def _metric(config: Config, parts: Parts) -> tuple[str, str]:
    target = parts.prepared(config.fold).target
    return f"{parts.protocol.validates}/{target.metric}", target.mode


# ------------------------------------------------------------------------------------------------------- more processes


@contextmanager
def _helpers(config: Config, count: int) -> Iterator[None]:
    """`count` processes that do trials beside this one, and end with it."""
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=_help, args=(config, os.getpid())) for _ in range(count)]
    for process in started:
        process.start()
    try:
        yield
    except BaseException:
        for process in started:
            _interrupt(process)
        raise
    finally:
        for process in started:
            process.join()


def _interrupt(process: Any) -> None:
    """As Ctrl-C does, which a terminal may have sent to it already: its run stops in good order."""
    process.join(3.0)
    if process.is_alive():
        os.kill(process.pid, signal.SIGINT)


def _help(config: Config, parent: int) -> None:
    try:
        # One whose parent was killed goes no further: whoever starts the search again finds its trial as it is.
        new_search(config, parts_of(config)).finish(stopped=lambda: os.getppid() != parent)
    except KeyboardInterrupt:
        sys.exit(130)
    except PoolBenchError:
        sys.exit(1)  # the parent meets the same trial, and says so


# -------------------------------------------------------------------------------------------------------- what is found


def summary(search: Search, trials: Sequence[FrozenTrial], shown: int = 5) -> str:
    """The best trials, a line each, and how many there were."""
    ranked = sorted((t for t in trials if t.value is not None), key=lambda t: (t.value, t.number))
    lines = [f"search {search.key}: {_counts(trials)}; less is better"]
    for trial in ranked[:shown]:
        values = " ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in trial.params.items()
        )
        lines.append(f"  trial {trial.number + 1:<4} {trial.value:.4f}  {values}")
    return "\n".join(lines)


def _counts(trials: Sequence[FrozenTrial]) -> str:
    states = [trial.state.name for trial in trials]
    named = {"done": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    parts = [f"{states.count(state)} {word}" for word, state in named.items() if state in states]
    return f"{len(trials)} trials ({', '.join(parts)})"


def experiment(
    search: Search, trials: Sequence[FrozenTrial], choices: Mapping[str, Any], values: dict[str, Any]
) -> tuple[str, str]:
    """Name and text of the experiment file that makes the best configuration again.

    Args:
        choices: what was chosen of each group. values: what was set beside that (`set_values`).
    """
    best = search.best(trials)
    defaults = [f"  - {choices['experiment']}"] if choices.get("experiment") else []
    defaults += [f"  - override /{group}: {choices[group]}" for group in GROUPS if choices.get(group)]
    text = _file(search, trials, best, values, ["defaults:", *defaults, "  - _self_"])
    return f"tuned_{choices['pool']}_{choices['dataset']}_{search.key[:6]}", text


def tuned(search: Search, trials: Sequence[FrozenTrial]) -> str:
    """The text of conf/tuned/DATASET/POOL.yaml: the best trial's values alone, for experiments of any protocol."""
    best = search.best(trials)
    chosen = _with({}, best)
    told = {"sampler": search.search.sampler, "trials": search.budget, "chosen": chosen}
    return _file(search, trials, best, {"tuned": told}, [])


def _file(
    search: Search, trials: Sequence[FrozenTrial], best: FrozenTrial, values: Mapping[str, Any], head: Sequence[str]
) -> str:
    """Where it comes from, `head`, and `values` with those of the best trial among them."""
    made = _with(values, best)
    lines = ["# @package _global_", *_provenance(search, trials, best), *head, ""]
    return "\n".join(lines) + OmegaConf.to_yaml(OmegaConf.create(made))


def _with(values: Mapping[str, Any], best: FrozenTrial) -> dict[str, Any]:
    """Nested values with those of a trial among them."""
    made = copy.deepcopy(dict(values))
    for key, value in best.params.items():
        _put(made, key, value)
    return made


def _provenance(search: Search, trials: Sequence[FrozenTrial], best: FrozenTrial) -> list[str]:
    from poolbench.jobs.run import known

    id = best.user_attrs["record"]
    done = known(replace(search.config, evaluate_test=False), id, installed_code(plain(search.config)))
    lines = [f"{MADE_BY}search {search.key}, {_counts(trials)}, sampler {search.search.sampler}"]
    if done is not None:
        record, epoch, by = done.record, done.record.selected_epoch, search.search.by
        at = "" if epoch is None else f" at epoch {epoch + 1}"
        commit, dirty = git_state()
        lines += [
            f"# Best: trial {best.number + 1}, run {id}: {score_name(record, by)} {reached(record, by):.6g}{at}; "
            "no trial saw the test split",
            f"# Code {record.code}, commit {commit or 'unknown'}{' with changes' if dirty else ''}, "
            f"split {record.splits.hash[:16]}",
        ]
    return lines


def set_values(composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The values that the command line set, choices of groups and matters of execution apart, as nested dictionaries.

    Args:
        composed: the configuration as Hydra composed it. choices: what was chosen of each group. overrides: the words
            of the command line.
    """
    values: dict[str, Any] = {}
    for word in overrides:
        key = word.lstrip("+").partition("=")[0]
        skipped = (*EXECUTION_KEYS, "search", "evaluate_test")
        if word.startswith("~") and not word.startswith("~search"):
            raise PoolBenchError(f"poolbench tune: {word} cannot be written into an experiment; set a value instead")
        if key.startswith("~") or key in choices or any(key == name or key.startswith(f"{name}.") for name in skipped):
            continue
        value = OmegaConf.select(composed, key)
        _put(values, key, OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)
    return values


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        values = values.setdefault(name, {})
    values[last] = value


def write_found(folder: Path, name: str, text: str) -> Path:
    """Write what a search found as folder/NAME.yaml.

    Raises `PoolBenchError` where a file of that name was made by hand.
    """
    path = folder / f"{name}.yaml"
    if path.exists() and MADE_BY not in path.read_text(encoding="utf-8"):
        raise PoolBenchError(f"{path} was not written by poolbench tune: move it away")
    write_text(path, text)
    return path
