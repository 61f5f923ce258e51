"""Hyper-parameter search: trials that never see the test split, each one a run with a record (Optuna, driven directly).

    results/searches/<key>/journal.log   the study; it is continued where it was left, by any number of processes

What a trial tries is a function of the trials before it, its number and the seed alone, so that a search by one process
that was killed and started again is the search that was never killed.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.bench.identity import EXECUTION_KEYS, canonical_json, without
from poolbench.data.store import mix
from poolbench.errors import PoolBenchError, RunError, nearest

if TYPE_CHECKING:
    import optuna

Config = Mapping[str, Any]
Value = float | int | str | bool

SAMPLERS = ("tpe", "random", "grid")


class Pruned(Exception):
    """Raised in a trial that is not worth its remaining epochs."""


def check(config: Config) -> None:
    """Raise `PoolBenchError` for a search that cannot be done: no space, a key that the configuration has not."""
    search = config["search"]
    if search["sampler"] not in SAMPLERS:
        raise PoolBenchError(f"search.sampler={search['sampler']!r} is not one of {', '.join(SAMPLERS)}")
    trials = search["trials"]
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise PoolBenchError(f"search.trials={trials!r}: a whole number of at least 1 is expected")
    if not search["space"]:
        raise PoolBenchError("search.space is empty: give it keys of the configuration, such as optimizer.lr")
    for key, values in search["space"].items():
        _slot(config, key)
        _check_values(key, values, search["sampler"])


def _check_values(key: str, values: Any, sampler: str) -> None:
    if isinstance(values, list) and values:
        return
    bounds = isinstance(values, Mapping) and {"low", "high"} <= set(values) <= {"low", "high", "log", "step"}
    if not bounds or sampler == "grid":
        raise PoolBenchError(
            f"search.space.{key}={values!r}: a list of values is expected"
            + ("" if sampler == "grid" else ", or {low: a, high: b, log: true}")
        )
    if not values["low"] <= values["high"]:
        raise PoolBenchError(f"search.space.{key}: low={values['low']} is above high={values['high']}")


def _slot(config: Config, key: str) -> tuple[Any, str]:
    """The dictionary that holds the dotted `key`, and its last part."""
    node: Any = config
    *path, last = key.split(".")
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or last not in node:
        known = list(node) if isinstance(node, Mapping) else list(config)
        raise PoolBenchError(f"search.space.{key} is no key of the configuration{nearest(last, known)}")
    return node, last


def with_values(config: Config, values: Mapping[str, Value]) -> dict[str, Any]:
    """A copy of the configuration with the values at dotted keys."""
    changed = copy.deepcopy(dict(config))
    for key, value in values.items():
        node, last = _slot(changed, key)
        node[last] = value
    return changed


def search_key(config: Config, code: str) -> str:
    """16 hexadecimal digits that name a search: all that can change its outcome."""
    text = canonical_json([without(config, EXECUTION_KEYS), code])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Search:
    """The search that `config["search"]` describes, kept in the results folder.

    Args:
        config: the resolved configuration. run: does one run and returns its record; called with a configuration and
            with `watch`, which is to be called with each epoch and its score, and may raise `Pruned`.
        code: version of the code that a trial consists of: another code makes another search.

    Raises `PoolBenchError` where the search makes no sense.
    """

    def __init__(self, config: Config, run: Callable[..., dict[str, Any]], code: str) -> None:
        check(config)
        self.config, self.search, self.run = config, config["search"], run
        self.key = search_key(config, code)
        self.folder = Path(config["paths"]["results"]) / "searches" / self.key
        self.budget = self._budget()

    def _budget(self) -> int:
        if self.search["sampler"] != "grid":
            return self.search["trials"]
        size = 1
        for values in self.search["space"].values():
            size *= len(values)
        return min(size, self.search["trials"])

    def finish(self) -> optuna.Study:
        """Do the trials that are missing, and return the study.

        Raises `RunError` where no trial came to an end.
        """
        with _quiet():
            study = self._study()
            while self._taken(study) < self.budget:
                self._trial(study)
        if not any(t.value is not None for t in study.trials):
            raise RunError(f"search {self.key}: all {len(study.trials)} trials failed; see the records of its runs")
        return study

    def _study(self) -> optuna.Study:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        self.folder.mkdir(parents=True, exist_ok=True)
        log = str(self.folder / "journal.log")
        storage = JournalStorage(JournalFileBackend(log, lock_obj=JournalFileOpenLock(log)))
        study = optuna.create_study(
            storage=storage,
            study_name=self.key,
            sampler=optuna.samplers.RandomSampler(0),  # each trial brings its own
            pruner=self._pruner(),
            direction="minimize",
            load_if_exists=True,
        )
        if not study.user_attrs:
            study.set_user_attr("search", dict(self.search))
        return study

    def _pruner(self) -> optuna.pruners.BasePruner:
        import optuna

        if self.search["prune"]:
            return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=10)
        return optuna.pruners.NopPruner()

    @staticmethod
    def _taken(study: optuna.Study) -> int:
        """Trials that ended, well or not; one that a killed process left half-way is done again."""
        return sum(trial.state.is_finished() and "abandoned" not in trial.user_attrs for trial in study.trials)

    def _trial(self, study: optuna.Study) -> None:
        import optuna

        number = self._taken(study)
        study.sampler = self._sampler(number)
        trial = study.ask()
        trial.set_user_attr("number", number)
        values = {key: self._suggest(trial, key, space) for key, space in self.search["space"].items()}
        config = {**with_values(self.config, values), "evaluate_test": False}
        del config["search"]  # a trial is an ordinary run, which another search may find done

        def watch(epoch: int, score: float) -> None:
            trial.report(score, epoch)
            if trial.should_prune():
                raise Pruned(f"worse than the median of the trials before it at epoch {epoch + 1}")

        state = optuna.trial.TrialState
        try:
            record = self.run(config, watch=watch if self.search["prune"] else None)
        except RunError as error:
            trial.set_user_attr("reason", str(error))
            study.tell(trial, state=state.FAIL)
        except BaseException:
            # Interrupted: the same values are to be tried again.
            trial.set_user_attr("abandoned", True)
            study.tell(trial, state=state.FAIL)
            raise
        else:
            trial.set_user_attr("record", record["id"])
            if record["status"] == "pruned":
                study.tell(trial, state=state.PRUNED)
            else:
                study.tell(trial, score(record))

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = mix(int(self.config["seed"]), number) % 2**32
        if self.search["sampler"] == "grid":
            return optuna.samplers.GridSampler(dict(self.search["space"]), seed=int(self.config["seed"]))
        if self.search["sampler"] == "random":
            return optuna.samplers.RandomSampler(seed)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(2, self.budget // 3)))

    @staticmethod
    def _suggest(trial: optuna.Trial, key: str, space: Any) -> Value:
        if isinstance(space, list):
            chosen: Value = trial.suggest_categorical(key, space)
            return chosen
        if all(isinstance(space[end], int) for end in ("low", "high")):
            return trial.suggest_int(key, space["low"], space["high"], log=bool(space.get("log")))
        return trial.suggest_float(key, space["low"], space["high"], log=bool(space.get("log")))


def score(record: Mapping[str, Any]) -> float:
    """What a search minimises: the number that selects epochs, at the selected epoch."""
    chosen = record["diagnostics"]["selection"]
    value = float(record["curve"][record["selected_epoch"]][chosen["monitor"]])
    return -value if chosen["mode"] == "max" else value


def best_values(study: optuna.Study) -> dict[str, Value]:
    """The values of the best trial; of equal ones the first."""
    done = [t for t in study.trials if t.value is not None]
    return dict(min(done, key=lambda t: (t.value, t.number)).params)


def account(study: optuna.Study) -> list[dict[str, Any]]:
    """Every trial in plain types, for the record: values, what came of it, the run's id."""
    return [
        {
            "values": dict(t.params),
            "status": {"COMPLETE": "done", "PRUNED": "pruned"}.get(t.state.name, "failed"),
            "score": t.value,
            "run": t.user_attrs.get("record"),
        }
        for t in study.trials
        if "abandoned" not in t.user_attrs and t.state.is_finished()
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's own lines, which repeat what each run's table says."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
