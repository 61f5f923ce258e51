"""One run, one record: the job that `train.py` and every sweep start."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.config import Config, plain, replace, with_values
from poolbench.errors import PoolBenchError, RunError, RunFailed
from poolbench.jobs.search import Pruned, Search, account
from poolbench.jobs.sweep import note_run
from poolbench.loading import loading
from poolbench.records import record as records
from poolbench.records.identity import installed_code, run_identity
from poolbench.records.provenance import provenance

if TYPE_CHECKING:
    from poolbench.data.prepared import Prepared
    from poolbench.data.protocols import Protocol
    from poolbench.learn.build import Parts
    from poolbench.learn.train import Trainable

log = logging.getLogger(__name__)

Watch = Callable[[int, float], None]

#: Where the first process of a distributed run tells the others its attempt's folder.
LEADER = "POOLBENCH_ATTEMPT"


def run(config: Config, wait: float = 0.0) -> dict[str, Any]:
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
    with loading():
        from poolbench.learn.build import Parts
    parts = Parts.of(config)
    if parts.protocol.folds is not None and config.fold is None:
        return _all_folds(config, parts)
    return _fold(config, parts, wait)[-1]


def one_run(
    config: Config, parts: Parts, watch: Watch | None = None, facts: Mapping[str, Any] | None = None, wait: float = 0.0
) -> dict[str, Any]:
    """Do a single run, or find that it was done; returns its record.

    Args:
        parts: those of the configuration.
        watch: see `train`; may raise `Pruned`. facts: added to the record's diagnostics.
        wait: seconds to wait for another process that does the same run; negative: as long as it takes.

    Raises: as `run`.
    """
    prepared = parts.prepared(config.fold)
    code = installed_code(plain(config))
    id = identify(config, prepared, code)
    note_run(id)
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return _follow(config, id, prepared)
    done = _found(config, id)
    if done is not None:
        return done
    with loading():
        from poolbench.learn.train import Trainable
    trainable = Trainable.of(config, prepared)  # what is refused is refused before anything is written
    results = Path(config.paths.results)
    with records.lease(results, id, wait=wait) as mine:
        if not mine:
            raise records.Held(id)
        done = _found(config, id)  # by the process that was waited for
        if done is not None:
            return done
        return _attempt(config, parts, prepared, trainable, id, code, watch, facts or {})


def identify(config: Config, prepared: Prepared, code: str) -> str:
    """The identity of a run."""
    id, _ = run_identity(
        plain(config),
        dataset_fingerprint=prepared.raw.fingerprint(),
        split_hash=prepared.split.hash,
        code=code,
        precision=config.trainer.precision,
        processes=config.trainer.processes,
        threads=config.trainer.threads,
        evaluate_test=config.evaluate_test,
    )
    return id


def _found(config: Config, id: str) -> dict[str, Any] | None:
    """The record of the run, where it is done and not to be done again."""
    path = None if config.force else records.find_done(Path(config.paths.results), id)
    if path is None:
        return None
    found = records.read_record(path)
    print(
        f"run {id} is done: {_headline(run_name(config), found)}\nrecord: {path}   (force=true makes another attempt)"
    )
    return found


def _fold(config: Config, parts: Parts, wait: float = 0.0) -> list[dict[str, Any]]:
    """The records of one fold; of a protocol without folds that of its run."""
    if config.search is not None and config.search.chosen is None:
        return _nested_fold(config, parts)
    return [one_run(config, parts, wait=wait)]


def _nested_fold(config: Config, parts: Parts) -> list[dict[str, Any]]:
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
    made: list[dict[str, Any]] = []
    failed: list[RunFailed] = []
    for seed in parts.protocol.seeds(config.seed):
        try:
            made.append(one_run(replace(final, seed=seed), parts, facts=facts, wait=-1.0))
        except RunFailed as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return made


def _all_folds(config: Config, parts: Parts) -> dict[str, Any]:
    """The runs of every fold; a fold that fails leaves the others running, and fails the whole at the end."""
    made: list[list[dict[str, Any]]] = []
    failed: list[str] = []
    held: list[str] = []
    folds = parts.protocol.folds or 0
    for fold in range(folds):
        try:
            made.append(_fold(replace(config, fold=fold), parts))
        except records.Held as error:
            held += error.ids
            print(f"fold {fold}: {error}", flush=True)
        except RunError as error:
            failed.append(str(error))
            print(f"error: fold {fold}: {error}", flush=True)
    if made:
        print(summary(made, parts.protocol))
    if failed:
        raise RunError(f"{len(failed)} of {folds} folds failed; the first: {failed[0]}")
    if held:
        raise records.Held(*held)
    return made[-1][-1]


def summary(made: Sequence[Sequence[Mapping[str, Any]]], protocol: Protocol) -> str:
    """Mean, standard deviation and confidence interval of the test metric over the folds of one seed.

    Args:
        made: the records of each fold; a fold counts with their mean.
    """
    from poolbench.statistics import LEVEL, estimate

    name = made[0][0]["diagnostics"]["metric"]["name"]
    tested = [fold for fold in made if all(name in record["metrics"]["test"] for record in fold)]
    if len(tested) < 2:
        return f"{name}: {len(tested)} of {protocol.folds} folds have a test value"
    values = [sum(record["metrics"]["test"][name] for record in fold) / len(fold) for fold in tested]
    shares = [fold[0]["splits"]["test"] / fold[0]["splits"]["train"] for fold in tested]
    found = estimate(values, sum(shares) / len(shares))
    if found.low is None:
        return f"{protocol.name}: test {name} {found.mean:.4f} in each of {found.n} folds"
    return (
        f"{protocol.name}, seed {made[0][0]['seeds']['split']}: test {name} {found.mean:.4f}, standard deviation "
        f"{found.std:.4f} over {found.n} folds, {LEVEL:.0%} interval {found.low:.4f} to {found.high:.4f} "
        "(corrected for shared training graphs)"
    )


def _follow(config: Config, id: str, prepared: Prepared) -> dict[str, Any]:
    """One of the further processes of a distributed run: it trains along, and the first one keeps the books."""
    from poolbench.learn.train import Trainable, train

    quiet = with_values(config, {"callbacks.progress": "none"})
    folder = os.environ.get(LEADER)
    resume = Path(folder) / records.CHECKPOINT if folder else None
    train(quiet, prepared, Trainable.of(quiet, prepared), resume=resume, identity=id)
    return {"metrics": {"val": {}}}


def _attempt(
    config: Config,
    parts: Parts,
    prepared: Prepared,
    trainable: Trainable,
    id: str,
    code: str,
    watch: Watch | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    from poolbench.data.splits import PARTS
    from poolbench.learn.loggers import Loggers, RunInfo
    from poolbench.learn.outcome import Outcome
    from poolbench.learn.train import train

    raw, split, values = prepared.raw, prepared.split, plain(config)
    attempt = records.begin_attempt(Path(config.paths.results), id)
    os.environ[LEADER] = str(attempt.folder)  # for the processes that a distributed strategy starts
    outcome = Outcome()
    name = run_name(config)
    info = RunInfo(id, attempt.number, attempt.folder, name, values, config.group, config.job_type or "train",
                   tuple(config.tags))  # fmt: skip
    opened: list[Loggers] = []

    def write(status: str, reason: str | None = None) -> tuple[dict[str, Any], Path]:
        made = records.make_record(
            id=id,
            attempt=attempt.number,
            status=status,
            reason=reason,
            task=outcome.task,
            config={key: value for key, value in values.items() if key != "paths"},  # where files lie is nobody's
            splits={**split.as_dict(), "hash": split.hash, **{p: getattr(split, p).numel() for p in PARTS}},
            metrics=outcome.metrics,
            selected_epoch=outcome.selected_epoch,
            curve=outcome.curve,
            losses=outcome.losses,
            diagnostics={**outcome.diagnostics, **facts},
            time=outcome.time,
            memory_peak=outcome.memory_peak,
            parameters=outcome.parameters,
            seeds={"seed": config.seed, "split": config.split.seed},
            provenance={
                **provenance(
                    data={**raw.provenance, "fingerprint": raw.fingerprint(), "features": prepared.x.names},
                    split=split.hash,
                ),
                "code": code,
            },
        )  # fmt: skip
        return made, records.write_record(attempt.folder, made)

    def first_epoch(epoch: int) -> None:
        if epoch:
            print(f"run {id} goes on from epoch {epoch}")
        opened.append(Loggers(info, parts.loggers, first_epoch=epoch))
        records.note_start(attempt.folder)

    def each_picture(epoch: int, png: bytes) -> None:
        path = attempt.folder / "pictures" / f"epoch-{epoch + 1:04}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
        opened[0].picture(epoch, path)

    def each_epoch(epoch: int, row: dict[str, float]) -> None:
        opened[0].log(epoch, row)
        records.note_epoch(attempt.folder)

    status = "failed"
    interrupts: list[int] = []
    try:
        if attempt.failed:
            raise RunError(attempt.reason)
        with _counted(interrupts):
            train(
                config,
                prepared,
                trainable,
                resume=attempt.folder / records.CHECKPOINT,
                identity=id,
                on_start=first_epoch,
                on_epoch=each_epoch,
                on_picture=each_picture,
                watch=watch,
                outcome=outcome,
            )
        made, path = write("done")
        status = "done"
    except Pruned as pruned:
        status = "pruned"
        made, path = write(status, str(pruned))
    except BaseException as error:
        if interrupts or not isinstance(error, Exception):
            records.note_stop(attempt.folder)
            status = "stopped"
            raise KeyboardInterrupt from None
        reason = _reason(error)
        log.debug("run %s failed", id, exc_info=True)
        _, path = write("failed", reason)
        raise RunFailed(f"run {id} ({name}) failed: {reason}; record: {path}", id) from error
    finally:
        for logger in opened:
            if status == "done":
                logger.summary(_summary(outcome))
                if any(getattr(each, "artifacts", False) for each in parts.loggers):
                    logger.artifacts({"record": path, "checkpoint": _keep_weights(outcome, attempt.folder)})
            logger.finish(status)
    (attempt.folder / records.CHECKPOINT).unlink(missing_ok=True)  # a finished run needs none
    print(table(name, made) if status == "done" else f"{name} pruned: {made['reason']}")
    print(f"record: {path}")
    return made


def _keep_weights(outcome: Any, folder: Path) -> Path:
    """Write the weights of the selected epoch beside the record; `torch.load` reads them."""
    import torch

    path = folder / "best.pt"
    torch.save(outcome.weights, path)
    return path


@contextmanager
def _counted(interrupts: list[int]) -> Iterator[None]:
    """Count the interrupts (Ctrl-C) that arrive: a library that one hits at a bad moment can raise something else.

    torch.save, for one, raises RuntimeError when it is interrupted, and the run would pass for a failed one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_name(config: Config) -> str:
    """Readable, such as mincut-PROTEINS-s0."""
    fold = "" if config.fold is None else f"-f{config.fold}"
    return f"{config.names.pool}-{config.dataset_name}-s{config.seed}{fold}"


def table(name: str, made: Mapping[str, Any]) -> str:
    """The small table that ends a run."""
    metrics = made["metrics"]
    names = list(dict.fromkeys(name for values in metrics.values() for name in values if "loss_" not in name))
    names.sort(key=lambda name: (name != made["diagnostics"]["metric"]["name"], name == "loss"))
    lines = [_headline(name, made), "        " + "".join(f"{name:>{_width(name)}}" for name in names)]
    for part, values in metrics.items():
        if values:
            cells = (f"{values[name]:>{_width(name)}.4f}" if name in values else " " * _width(name) for name in names)
            lines.append(f"{part:<8}" + "".join(cells))
    time, selected = made["time"], made["selected_epoch"]
    epochs = ""
    if selected is not None:  # a graph kernel has none
        epochs = f"selected epoch {selected + 1} of {len(made['curve'])}, {1e3 * time['epoch']:.0f} ms an epoch, "
    lines.append(f"{epochs}{time['total']:.1f} s in all, {made['parameters']:,} parameters")
    return "\n".join(lines)


def _width(name: str) -> int:
    return max(10, len(name) + 2)


def _headline(name: str, made: Mapping[str, Any]) -> str:
    metrics = made["metrics"]
    metric = made["diagnostics"].get("metric", {}).get("name", "accuracy")
    for part in ("test", "val", "train"):
        if metric in metrics.get(part, {}):
            return f"{name}: {part} {metric} {metrics[part][metric]:.4f}"
    return name


def _summary(outcome: Any) -> dict[str, Any]:
    flat = {f"{part}/{k}": v for part, values in outcome.metrics.items() for k, v in values.items()}
    return {
        **flat,
        "selected_epoch": outcome.selected_epoch,
        "parameters": outcome.parameters,
        "time/epoch": outcome.time.get("epoch"),
        "memory_peak": outcome.memory_peak,
        **_pooling(outcome.diagnostics),
    }


def _pooling(diagnostics: Mapping[str, Any]) -> dict[str, float]:
    """The pooling diagnostics as single numbers, such as pool1/entropy."""
    levels = diagnostics.get("pooling", {}).get("levels", ())
    flat = {f"pool{number}/{name}": value for number, level in enumerate(levels, 1)
            for name, value in {**level, **level["losses"]}.items() if name != "losses"}  # fmt: skip
    return {name: value for name, value in flat.items() if value is not None}


def _reason(error: BaseException) -> str:
    if isinstance(error, PoolBenchError):
        return str(error)
    text = str(error).lower()
    # torch says the first of a GPU, the second of the host.
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return f"out of memory ({str(error).splitlines()[0] if text else 'host'})"
    first = (str(error) or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first}"
