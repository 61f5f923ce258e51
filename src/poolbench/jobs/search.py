"""Hyper-parameter search: trials that never see the test split, each one a run with a record (Optuna, driven directly).

    results/searches/<key>/journal.log   the study; it is continued where it was left, by any number of processes

Trial n is drawn from (seed, n), with `fold_seeds: own` from (seed, fold, n), with `sampler: quasi` from the
configurations of operator and dataset, too; and from the trials up to n - `search.concurrency` alone. So the search is
the same whether one process does it or `concurrency` of them, whether it was killed and started again or not, and a
search with more trials begins with those of a shorter one. A process holds the lock of the trial that it does: a trial
that is begun, and that nobody holds, was left by a process that died, and is gone on with.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from poolbench.config import Config, has, hint, plain, replace, with_values
from poolbench.errors import PoolBenchError, RunError, RunFailed
from poolbench.records.changes import canonical
from poolbench.records.identity import EXECUTION_KEYS, canonical_json, without
from poolbench.records.record import Record

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

Value = float | int | str | bool | None

BOUNDS = {"low", "high", "log", "step"}
#: What a run is measured on and by, which no search may choose.
MEASURE = ("callbacks.mode", "callbacks.monitor", "dataset", "evaluate_test", "fold", "perturb", "protocol", "search",
           "seed", "split", "tuned")  # fmt: skip


class Pruned(Exception):
    """Raised in a trial that is not worth its remaining epochs."""


# ----------------------------------------------------------------------------------------------------- the search space


def dimensions(config: Config) -> dict[str, BaseDistribution]:
    """What is searched, by dotted key: the space without those optional keys that this configuration has not.

    Raises `PoolBenchError` for a search that cannot be done: no space, a key that the configuration has not.
    """
    assert config.search is not None
    found, values = {}, plain(config)
    for key, said in _flat(config.search.space):
        if any(key == name or key.startswith(f"{name}.") for name in (*MEASURE, *EXECUTION_KEYS)):
            raise PoolBenchError(f"search.space.{key}: a search chooses hyper-parameters, and this is none")
        made = _distribution(key, said, config.search.sampler)
        if has(values, key):
            found[key] = made
        elif not (isinstance(said, Mapping) and said.get("optional")):
            raise PoolBenchError(f"search.space.{key} is no key of the configuration{_hint(config, key)}")
    if not found:
        raise PoolBenchError("search.space is empty: give it keys of the configuration, such as optimizer.lr")
    return found


def searched(space: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """The dotted keys of a space that plain dictionaries hold, which are those that a search chooses."""
    return [key for key, _ in _flat(space) if has(values, key)]


def left_out(config: Config) -> list[str]:
    """The optional keys of the space that this configuration has not."""
    assert config.search is not None
    return [key for key, _ in _flat(config.search.space) if not has(plain(config), key)]


def _flat(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What is searched, by dotted key; `optimizer: {lr: ...}` and `optimizer.lr: ...` are the same."""
    for key, said in space.items():
        if isinstance(said, Mapping) and not {"values", "low", "high"} & set(said):
            yield from _flat(said, f"{prefix}{key}.")
        else:
            yield prefix + key, said


def _distribution(key: str, said: Any, sampler: str) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    terms = dict(said) if isinstance(said, Mapping) else {"values": said}
    terms.pop("optional", None)
    if set(terms) == {"values"}:
        values = terms["values"]
        if isinstance(values, list) and values and all(v is None or isinstance(v, int | float | str) for v in values):
            return CategoricalDistribution(values)
    elif {"low", "high"} <= set(terms) <= BOUNDS and sampler != "grid":
        low, high, step, log = terms["low"], terms["high"], terms.get("step"), bool(terms.get("log"))
        numbers = [n for n in (low, high, step) if n is not None]
        if len(numbers) >= 2 and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
            try:
                if all(isinstance(n, int) for n in numbers):
                    return IntDistribution(low, high, log, step or 1)
                return FloatDistribution(low, high, log, step)
            except ValueError as error:
                raise PoolBenchError(f"search.space.{key}={said}: {error}") from error
    ranges = "" if sampler == "grid" else ", or {low: a, high: b} with log: true or step: s"
    raise PoolBenchError(
        f"search.space.{key}={said!r}: a list of values (also as {{values: [...], optional: true}}) is expected{ranges}"
    )


def _hint(config: Config, key: str) -> str:
    """What to do about a key that the configuration has not."""
    whose = f": pool={config.names.pool} takes none" if key.startswith("pool.") else ""
    return hint(plain(config), key) or f"{whose}; optional: true leaves it out where it is missing"


def search_key(config: Config, code: str) -> str:
    """16 hexadecimal digits that name a search: all that can change what its trials come to, their number apart."""
    text = canonical_json([canonical(without(plain(config), (*EXECUTION_KEYS, "search.trials"))), code])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ----------------------------------------------------------------------------------------------------------- the search


@dataclass(frozen=True)
class Claim:
    """A trial that this process is to do, and the lock that says so."""

    number: int
    values: dict[str, Value]
    reported: dict[int, float]
    """The scores by epoch that an earlier start of the trial wrote down."""
    lock: FileLock


class Search:
    """The search that a configuration describes, kept in the results folder.

    Args:
        config: with its `search`. run: does one run and returns its record; called with a configuration, with
            `watch`, which is to be called with each epoch and its score and may raise `Pruned`, and with `wait`, how
            many seconds to wait for another process that does the same run. It raises `RunFailed` for a run that failed
            and has a record; whatever else it raises ends the search, and the trial is gone on with at the next start.
        code: version of the code that a trial consists of: another code makes another search.

    Raises `PoolBenchError` where the search makes no sense.
    """

    def __init__(self, config: Config, run: Callable[..., Record], code: str) -> None:
        assert config.search is not None
        self.config, self.search, self.run = config, config.search, run
        if self.search.prune and self.search.by == "metric":
            raise PoolBenchError("search.by=metric with search.prune=true: what is pruned goes by what selects epochs")
        self.space = dimensions(config)
        self.key = search_key(config, code)
        self.folder = Path(config.paths.results) / "searches" / self.key
        self._seed = self._drawn_by()
        self._points = self._grid() if self.search.sampler == "grid" else []
        self.budget = min(self.search.trials, len(self._points) or self.search.trials)

    def _drawn_by(self) -> int:
        """What the trials are drawn by: the seed, or another one in each fold (`Protocol.fold_seeds`)."""
        from poolbench.splitmix import mix

        fold, own = self.config.fold, self.config.protocol.arguments.get("fold_seeds") == "own"
        return mix(self.config.seed, fold) if own and fold is not None else self.config.seed

    def _grid(self) -> list[dict[str, Value]]:
        """The points of a grid, in an order drawn from the seed, so that some of them stand for all."""
        from optuna.distributions import CategoricalDistribution

        from poolbench.splitmix import mix

        values = [d.choices for d in self.space.values() if isinstance(d, CategoricalDistribution)]
        points = [dict(zip(self.space, point, strict=True)) for point in itertools.product(*values)]
        return [points[i] for i in sorted(range(len(points)), key=lambda i: mix(self._seed, i))]

    def _scrambled_by(self) -> int:
        """What quasi-random points are scrambled by: each operator has points of its own on each dataset, so that none
        is lucky or unlucky with the points of all."""
        from poolbench.splitmix import mix

        whole = canonical(plain(self.config))
        text = canonical_json([whole["pool"], whole["dataset"]])
        return mix(self._seed, int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]))

    def finish(self, stopped: Callable[[], bool] = lambda: False) -> list[FrozenTrial]:
        """Do the trials that are missing, beside any other process, wait for those, and return all of them in order.

        Args:
            stopped: asked before each trial; true leaves the rest undone.

        Raises `RunError` where no trial came to an end.
        """
        with _quiet():
            study = self._study()
            while not stopped():
                claim = self._claim(study)
                if claim is not None:
                    try:
                        self._do(study, claim)
                    finally:
                        claim.lock.release()
                elif all(map(_ended, self._begun(study, self.budget))):
                    break
                else:
                    time.sleep(0.1)  # other processes do what is left
            trials = self.trials(study)
        if trials and not any(trial.value is not None for trial in trials):
            why = next((trial.user_attrs["reason"] for trial in trials if "reason" in trial.user_attrs), "all pruned")
            raise RunError(f"search {self.key}: all {len(trials)} trials failed; the first: {why}")
        return trials

    def trials(self, study: optuna.Study | None = None) -> list[FrozenTrial]:
        """The finished trials of the budget, by number."""
        begun = (study or self._study()).get_trials(deepcopy=False)[: self.budget]
        return [trial for trial in begun if trial.state.is_finished()]

    def _study(self) -> optuna.Study:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "journal.log"
        lock: Any = JournalLock(log)
        with FileLock(self.folder / ".lock"):  # of two processes that begin, one makes the study
            study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(log), lock_obj=lock)),
                study_name=self.key,
                sampler=optuna.samplers.RandomSampler(0),  # draws nothing: `_draw` does
                direction="minimize",
                load_if_exists=True,
            )
            if not study.user_attrs:
                study.set_user_attr("search", plain(self.config)["search"])
        return study

    @staticmethod
    def _begun(study: optuna.Study, count: int) -> list[FrozenTrial | None]:
        """The first `count` trials, None for those that were not begun."""
        begun: list[FrozenTrial | None] = list(study.get_trials(deepcopy=False)[:count])
        return begun + [None] * (count - len(begun))

    def _claim(self, study: optuna.Study) -> Claim | None:
        """The first trial that nobody does and nobody ended; None where there is none, or where it must wait."""
        import optuna

        with FileLock(self.folder / ".lock"):
            for number, trial in enumerate(self._begun(study, self.budget)):
                if _ended(trial):
                    continue
                lock = FileLock(self.folder / f".trial-{number}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                if trial is not None:
                    return Claim(number, dict(trial.params), dict(trial.intermediate_values), lock)
                known = self._known(study, number)
                if known is None:
                    lock.release()
                    return None
                values = self._draw(number, known)
                study.add_trial(
                    optuna.trial.create_trial(
                        state=optuna.trial.TrialState.RUNNING, params=values, distributions=self.space
                    )
                )
                return Claim(number, values, {}, lock)
        return None

    def _known(self, study: optuna.Study, number: int) -> list[FrozenTrial] | None:
        """The trials that trial `number` may learn from; None while one of them is not done."""
        known = self._begun(study, max(0, number + 1 - self.search.concurrency))
        ended = [trial for trial in known if trial is not None and _ended(trial)]
        return ended if len(ended) == len(known) else None

    def _draw(self, number: int, known: Sequence[FrozenTrial]) -> dict[str, Value]:
        import optuna

        from poolbench.jobs.quasi import point
        from poolbench.splitmix import mix

        if self._points:
            return self._points[number]
        if self.search.sampler == "quasi":
            return point(self.space, number, self._scrambled_by())
        seed = mix(self._seed, number) % 2**32
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed)
        if self.search.sampler == "tpe":
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=10)
        study = optuna.create_study(sampler=sampler, direction="minimize")
        study.add_trials(known)
        return dict(study.ask(self.space).params)

    def _do(self, study: optuna.Study, claim: Claim) -> None:
        import optuna

        state = optuna.trial.TrialState
        told = " ".join(f"{key}={_short(value)}" for key, value in claim.values.items())
        print(f"trial {claim.number + 1} of {self.budget}: {told}", flush=True)
        # The trial in the journal; Optuna itself makes them so.
        trial = optuna.trial.Trial(study, study.get_trials(deepcopy=False)[claim.number]._trial_id)
        watch = self._watch(study, trial, claim) if self.search.prune else None
        try:
            record = self.run(self._config(claim), watch=watch, wait=-1.0)
        except RunFailed as error:
            trial.set_user_attr("record", error.id)
            trial.set_user_attr("reason", str(error))
            study.tell(claim.number, state=state.FAIL)
            return
        trial.set_user_attr("record", record.id)
        if record.status == "pruned":
            study.tell(claim.number, state=state.PRUNED)
        elif math.isfinite(value := score(record, self.search.by)):
            study.tell(claim.number, value)
        else:
            trial.set_user_attr("reason", f"{score_name(record, self.search.by)} is {value}")
            study.tell(claim.number, state=state.FAIL)

    def _config(self, claim: Claim) -> Config:
        """A trial is an ordinary run, which another search may find done."""
        chosen, group = with_values(self.config, claim.values), self.config.group or f"search-{self.key}"
        return replace(chosen, search=None, evaluate_test=False, job_type="trial", group=group)

    def _watch(self, study: optuna.Study, trial: optuna.Trial, claim: Claim) -> Callable[[int, float], None]:
        """Reports each epoch's score, and raises `Pruned` by what is known of the trials that this one learns from."""
        import optuna

        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=10)
        judge = optuna.create_study(pruner=pruner, direction="minimize")
        judge.add_trials(self._known(study, claim.number) or [])
        judge.enqueue_trial(claim.values)
        judged = judge.ask(self.space)

        def watch(epoch: int, value: float) -> None:
            if epoch not in claim.reported:
                trial.report(value, epoch)
            judged.report(value, epoch)
            if judged.should_prune():
                raise Pruned(f"worse than the median of the trials before it at epoch {epoch + 1}")

        return watch

    def best(self, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        """The trial with the least score; of equal ones the first."""
        return min((t for t in trials if t.value is not None), key=lambda t: (t.value, t.number))


def _ended(trial: FrozenTrial | None) -> bool:
    return trial is not None and trial.state.is_finished()


class JournalLock:
    """The lock of a journal, held by the operating system: unlike Optuna's own, a process that died holds nothing."""

    def __init__(self, journal: Path) -> None:
        self._lock = FileLock(journal.with_name(f".{journal.name}.lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


# ------------------------------------------------------------------------------------------------- what came of a trial


def score_name(record: Record, by: str | None = None) -> str:
    """The number of the curve that a search minimises, or maximises (`_is_max`).

    It is what selects epochs, or with `by` = metric the dataset's metric of the validation part. Where only the last
    epoch counts and nothing is held out, what selects is the loss that is trained.
    """
    if by == "metric":
        return f"val/{record.diagnostics['metric']['name']}"
    chosen = record.diagnostics["selection"]
    unsupervised = chosen["mode"] == "last" and chosen["monitor"].startswith("train/")
    return "train/total_loss" if unsupervised else chosen["monitor"]


def reached(record: Record, by: str | None = None) -> float | None:
    """The value of `score_name` at the selected epoch; of a model without epochs that of the whole part.

    None where the record does not say: of schema 1, gathered, and so without its curve; or where nothing was held out
    that has the metric.
    """
    name, epoch = score_name(record, by), record.selected_epoch
    if epoch is not None:
        row = record.selected or (record.curve[epoch] if record.curve else {})
        return row.get(name)
    part, _, metric = name.partition("/")
    return record.metrics.of(part).get(metric)


def _is_max(record: Record, by: str | None) -> bool:
    return bool(record.diagnostics["metric" if by == "metric" else "selection"]["mode"] == "max")


def score(record: Record, by: str | None = None) -> float:
    """What was reached, signed so that less is better; NaN where the record does not say."""
    value = reached(record, by)
    return math.nan if value is None else -value if _is_max(record, by) else value


def account(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Every trial in plain types, for the record: values, what came of it, the run's id."""
    status = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}
    return [
        {"values": dict(t.params), "status": status[t.state.name], "score": t.value, "run": t.user_attrs.get("record")}
        for t in trials
    ]


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
