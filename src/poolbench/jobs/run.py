"""One run, one record: the job that `train.py` and every sweep start."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.config import Config, plain, replace, with_values
from poolbench.data.known import note, recall
from poolbench.errors import PoolBenchError, RunError, RunFailed
from poolbench.jobs import attempt
from poolbench.jobs.attempt import Watch
from poolbench.jobs.search import Search, account, reached
from poolbench.jobs.sweep import note_run, note_score
from poolbench.loading import loading
from poolbench.records import attempts
from poolbench.records.equivalence import Links
from poolbench.records.gathered import Done, find_done
from poolbench.records.identity import run_identity
from poolbench.records.record import Record
from poolbench.records.version import installed_code

if TYPE_CHECKING:
    from poolbench.learn.build import Parts


def run(config: Config, wait: float = 0.0) -> Record:
    """Do the run that a configuration describes, or find that it was done; returns its record.

    A protocol with folds and no fold chosen makes one run a fold, and a summary; nested10 makes a search and several
    runs a fold. The last record is returned.

    Args:
        wait: see `one_run`.

    Raises:
        PoolBenchError: the configuration or the data cannot be used; nothing was written.
        RunFailed: the run failed; its record says why.
        RunError: another process does the run, or no record could be written.
    """
    if done := at_once(config):
        return done
    with loading():
        from poolbench.learn.build import Parts
    parts = Parts.of(config)
    if parts.protocol.folds is not None and config.fold is None:
        return _all_folds(config, parts)
    return _fold(config, parts, wait)[-1]


def one_run(
    config: Config, parts: Parts, watch: Watch | None = None, facts: Mapping[str, Any] | None = None, wait: float = 0.0
) -> Record:
    """Do a single run, or find that it was done; returns its record.

    Args:
        parts: those of the configuration.
        watch: see `train`; may raise `Pruned`. facts: added to the record's diagnostics.
        wait: seconds to wait for another process that does the same run; negative: as long as it takes.

    Raises: as `run`.
    """
    prepared = parts.prepared(config.fold)
    note(config, parts.dataset, parts.protocol, prepared)
    code = installed_code(plain(config))
    id = run_identity(plain(config), dataset=prepared.fingerprint, split=prepared.split.hash)
    note_run(id)
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return attempt.follow(config, prepared, id, code)
    if done := _found(config, id, code):
        return done
    with loading():
        from poolbench.learn.trainable import Trainable
    trainable = Trainable.of(config, prepared)  # what is refused is refused before anything is written
    if config.callbacks.keep_weights and trainable.learner is None:
        raise PoolBenchError("callbacks.keep_weights=true: a graph kernel has no weights; leave it out")
    with attempts.lease(Path(config.paths.results), id, wait=wait) as mine:
        if not mine:
            raise attempts.Held(id)
        if done := _found(config, id, code):  # by the process that was waited for
            return done
        return attempt.do(config, parts, prepared, trainable, id, code, watch, facts or {})


def at_once(config: Config) -> Record | None:
    """The record of what is done, where that can be told from what is known of the data, without torch; else None."""
    code = installed_code(plain(config))
    found: list[tuple[Config, str, Done]] = []
    for one, id in identities(config):
        done = known(one, id, code)
        if done is None:
            return None
        found.append((one, id, done))
    for one, id, done in found:
        note_run(id)
        _say(one, id, done)
    if len(found) > 1:
        _say_folds([[done.record] for _, _, done in found])
    return found[-1][2].record if found else None


def identities(config: Config) -> list[tuple[Config, str]]:
    """The runs that a configuration means, one or those of all folds, each with its configuration and its identity.

    None where that cannot be told from what is known of the data, or where the runs are to be done in any case. A
    search is none of this: what it chose is not known.
    """
    searches = config.search is not None and config.search.chosen is None
    if config.force or searches or int(os.environ.get("LOCAL_RANK", "0")) > 0 or (data := recall(config)) is None:
        return []
    found = []
    for fold in range(data.folds) if data.folds and config.fold is None else (config.fold,):
        one, split = replace(config, fold=fold), data.split(config.split.seed, fold)
        if not split:
            return []
        found.append((one, run_identity(plain(one), dataset=data.fingerprint, split=split)))
    return found


def known(config: Config, id: str, code: str) -> Done | None:
    """The record of a run that is done, by the version `code` or one that comes to the same; else None.

    A trial of a search counts where its record says what it reached: old gathered ones do not.
    """
    results = Path(config.paths.results)
    links = Links.read(results)
    return find_done(results, id, plain(config), lambda record: counts(record, config, code, links))


def counts(record: Record, config: Config, code: str, links: Links) -> bool:
    """Whether a record of the run says that it need not be done by the version `code`."""
    return links.of(record, code) == "same" and (config.evaluate_test or reached(record) is not None)


def _found(config: Config, id: str, code: str) -> Record | None:
    """The record of the run, where it is done and not to be done again."""
    done = None if config.force else known(config, id, code)
    if done is None:
        return None
    _say(config, id, done)
    return done.record


def _say(config: Config, id: str, done: Done) -> None:
    said = attempt.headline(attempt.run_name(config), done.record)
    lacking = config.callbacks.keep_weights and not done.path.with_name(attempts.WEIGHTS).is_file()
    why, more = ("its weights were not kept: ", " that keeps them") if lacking else ("", "")
    print(f"run {id} is done: {said}\nrecord: {done.path}   ({why}force=true makes another attempt{more})")


def _fold(config: Config, parts: Parts, wait: float = 0.0) -> list[Record]:
    """The records of one fold; of a protocol without folds that of its run."""
    if config.search is not None and config.search.chosen is None:
        return _nested_fold(config, parts)
    return [one_run(config, parts, wait=wait)]


def _nested_fold(config: Config, parts: Parts) -> list[Record]:
    """One fold of nested cross-validation: a search on the inner hold-out, then several runs with what it chose."""
    assert config.search is not None
    if config.search.prune:
        raise PoolBenchError("protocol=nested10 gives all trials the same epochs: leave search.prune=true out")
    search = Search(config, partial(one_run, parts=parts), installed_code(plain(config)))
    trials = search.finish()
    chosen = dict(search.best(trials).params)
    facts = {"search": {"key": search.key, "budget": search.budget, "epochs": config.trainer.max_epochs,
                        "trials": account(trials)}}  # fmt: skip
    final = replace(with_values(config, chosen), search=replace(config.search, chosen=chosen))
    # Another process that was started with the same command has helped with the search, and does these runs too.
    made: list[Record] = []
    failed: list[RunFailed] = []
    for seed in parts.protocol.seeds(config.seed):
        try:
            made.append(one_run(replace(final, seed=seed), parts, facts=facts, wait=-1.0))
        except RunFailed as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return made


def _all_folds(config: Config, parts: Parts) -> Record:
    """The runs of every fold; a fold that fails leaves the others running, and fails the whole at the end."""
    made: list[list[Record]] = []
    failed: list[str] = []
    held: list[str] = []
    folds = parts.protocol.folds or 0
    for fold in range(folds):
        try:
            made.append(_fold(replace(config, fold=fold), parts))
        except attempts.Held as error:
            held += error.ids
            print(f"fold {fold}: {error}", flush=True)
        except RunError as error:
            failed.append(str(error))
            print(f"error: fold {fold}: {error}", flush=True)
    if made:
        _say_folds(made, folds)
    if failed:
        raise RunError(f"{len(failed)} of {folds} folds failed; the first: {failed[0]}")
    if held:
        raise attempts.Held(*held)
    return made[-1][-1]


def _say_folds(made: Sequence[Sequence[Record]], folds: int | None = None) -> None:
    text = summary(made, folds)
    print(text)
    head, cut, _ = text.partition(" folds, ")  # the interval has no room in a line of a sweep
    note_score(f"{head} folds" if cut else text)


def summary(made: Sequence[Sequence[Record]], folds: int | None = None) -> str:
    """Mean, standard deviation and confidence interval of the test metric over the folds of one seed.

    Args:
        made: the records of each fold; a fold counts with their mean. folds: how many there are, where some failed.
    """
    from poolbench.statistics import LEVEL, estimate

    name, protocol = made[0][0].diagnostics["metric"]["name"], made[0][0].splits.protocol
    tested = [fold for fold in made if all(name in record.metrics.test for record in fold)]
    if len(tested) < 2:
        return f"{name}: {len(tested)} of {folds or len(made)} folds have a test value"
    values = [sum(record.metrics.test[name] for record in fold) / len(fold) for fold in tested]
    shares = [fold[0].splits.test / fold[0].splits.train for fold in tested]
    found = estimate(values, sum(shares) / len(shares))
    if found.low is None:
        return f"{protocol}: test {name} {found.mean:.4f} in each of {found.n} folds"
    return (
        f"{protocol}, seed {made[0][0].seeds.split}: test {name} {found.mean:.4f}, standard deviation "
        f"{found.std:.4f} over {found.n} folds, {LEVEL:.0%} interval {found.low:.4f} to {found.high:.4f} "
        "(corrected for shared training graphs)"
    )
