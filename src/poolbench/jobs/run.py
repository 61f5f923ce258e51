"""One run, one record: the job that `train.py` and every sweep start."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.data.protocols import Nested, Protocol
from poolbench.data.splits import PARTS
from poolbench.errors import PoolBenchError, RunError, RunFailed
from poolbench.jobs.search import Pruned, Search, account, reached, with_values
from poolbench.jobs.sweep import note_run
from poolbench.records import attempts
from poolbench.records.digests import chain
from poolbench.records.equivalence import Links
from poolbench.records.gathered import Done, find_done
from poolbench.records.identity import run_identity
from poolbench.records.provenance import provenance
from poolbench.records.record import SCHEMA, Metrics, Provenance, Record, Seeds, Splits, Status, Time, write_record
from poolbench.records.version import code_version, installed_code
from poolbench.statistics import LEVEL, estimate

if TYPE_CHECKING:
    from poolbench.learn.datamodule import Prepared

log = logging.getLogger(__name__)

#: Where the first process of a distributed run tells the others its attempt's folder.
LEADER = "POOLBENCH_ATTEMPT"


def run(
    config: Mapping[str, Any],
    watch: Callable[[int, float], None] | None = None,
    facts: Mapping[str, Any] | None = None,
    wait: float = 0.0,
) -> Record:
    """Do the run that a resolved configuration describes, or find that it was done; returns its record.

    A protocol with folds and no fold chosen makes one run a fold, and a summary; nested10 makes a search and several
    runs a fold. The last record is returned.

    Args:
        watch: see `train`; may raise `Pruned`. facts: added to the record's diagnostics.
        wait: seconds to wait for another process that does the same run; negative: as long as it takes.

    Raises:
        PoolBenchError: the configuration or the data cannot be used; nothing was written.
        RunFailed: the run failed; its record says why.
        RunError: another process does the run, or no record could be written.
    """
    from poolbench.learn import build
    from poolbench.learn.datamodule import Prepared
    from poolbench.learn.train import check as check_data

    build.check(config)
    loggers = _logger_configs(config["logger"])
    dataset = build.build_dataset(config["dataset"], config["paths"])
    protocol = build.build_protocol(config["protocol"], config["split"]["seed"], config["paths"])
    if protocol.folds is not None and config["fold"] is None:
        return _all_folds(config, protocol)
    if isinstance(protocol, Nested) and config.get("search") and "chosen" not in config["search"]:
        return nested_fold(config, protocol)[-1]
    prepared = Prepared.of(dataset, protocol, config["fold"])
    check_data(config, prepared)
    raw, split = prepared.raw, prepared.split
    code = installed_code(config)
    id = run_identity(config, dataset=raw.fingerprint(), split=split.hash)
    note_run(id)
    results = Path(config["paths"]["results"])
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return _follow(config, _resumed(id, code), prepared)
    with attempts.lease(results, id, wait=wait) as mine:
        if not mine:
            raise attempts.Held(id)
        done = None if config["force"] else known(results, id, config)
        if done is not None:
            print(f"run {id} is done: {_headline(done.record)}\nrecord: {done.path}   "
                  "(force=true makes another attempt)")  # fmt: skip
            return done.record
        return _attempt(config, id, results, prepared, loggers, code, watch, facts or {})


def known(results: Path, id: str, config: Mapping[str, Any]) -> Done | None:
    """The record of a run that is done, by the installed code or by a version that comes to the same; else None.

    A trial of a search counts where its record says what it reached: old gathered ones do not.
    """
    links, code = Links.read(results), installed_code(config)
    return find_done(
        results,
        id,
        config,
        lambda record: links.of(record, code) == "same" and (config["evaluate_test"] or reached(record) is not None),
    )


def _resumed(id: str, code: str) -> str:
    """What a checkpoint is of: a run, and the version of the code that does it."""
    return f"{id} {code}"


def nested_fold(config: Mapping[str, Any], protocol: Nested) -> list[Record]:
    """One fold of nested cross-validation: a search on the inner hold-out, then several runs with what it chose."""
    if config["search"]["prune"]:
        raise PoolBenchError("protocol=nested10 gives all trials the same epochs: leave search.prune=true out")
    search = Search(config, run, installed_code(config))
    trials = search.finish()
    chosen = dict(search.best(trials).params)
    facts = {"search": {"key": search.key, "budget": search.budget, "epochs": config["trainer"]["max_epochs"],
                        "trials": account(trials)}}  # fmt: skip
    final = {**with_values(config, chosen), "search": {**config["search"], "chosen": chosen}}
    first = int(config["seed"]) * protocol.runs
    # Another process that was started with the same command has helped with the search, and does these runs too.
    made: list[Record] = []
    failed: list[RunFailed] = []
    for number in range(protocol.runs):
        try:
            made.append(run({**final, "seed": first + number}, facts=facts, wait=-1.0))
        except RunFailed as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return made


def _all_folds(config: Mapping[str, Any], protocol: Protocol) -> Record:
    """The runs of every fold; a fold that fails leaves the others running, and fails the whole at the end."""
    made: list[list[Record]] = []
    failed: list[str] = []
    held: list[str] = []
    for fold in range(protocol.folds or 0):
        try:
            one = {**config, "fold": fold}
            made.append(nested_fold(one, protocol) if isinstance(protocol, Nested) else [run(one)])
        except attempts.Held as error:
            held += error.ids
            print(f"fold {fold}: {error}", flush=True)
        except RunError as error:
            failed.append(str(error))
            print(f"error: fold {fold}: {error}", flush=True)
    if made:
        print(summary(made, protocol))
    if failed:
        raise RunError(f"{len(failed)} of {protocol.folds} folds failed; the first: {failed[0]}")
    if held:
        raise attempts.Held(*held)
    return made[-1][-1]


def summary(made: Sequence[Sequence[Record]], protocol: Protocol) -> str:
    """Mean, standard deviation and confidence interval of the test metric over the folds of one seed.

    Args:
        made: the records of each fold; a fold counts with their mean.
    """
    name = made[0][0].diagnostics["metric"]["name"]
    tested = [fold for fold in made if all(name in record.metrics.test for record in fold)]
    if len(tested) < 2:
        return f"{name}: {len(tested)} of {protocol.folds} folds have a test value"
    values = [sum(record.metrics.test[name] for record in fold) / len(fold) for fold in tested]
    shares = [fold[0].splits.test / fold[0].splits.train for fold in tested]
    found = estimate(values, sum(shares) / len(shares))
    if found.low is None:
        return f"{protocol.name}: test {name} {found.mean:.4f} in each of {found.n} folds"
    return (
        f"{protocol.name}, seed {made[0][0].seeds.split}: test {name} {found.mean:.4f}, standard deviation "
        f"{found.std:.4f} over {found.n} folds, {LEVEL:.0%} interval {found.low:.4f} to {found.high:.4f} "
        "(corrected for shared training graphs)"
    )


def _follow(config: Mapping[str, Any], identity: str, prepared: Prepared) -> Any:
    """One of the further processes of a distributed run: it trains along, and the first one keeps the books."""
    from poolbench.learn.train import train

    quiet = {**config, "callbacks": {**config["callbacks"], "progress": "none"}}
    folder = os.environ.get(LEADER)
    resume = Path(folder) / attempts.CHECKPOINT if folder else None
    pool_code = code_version([str(config["pool"]["_target_"])])
    train(quiet, prepared, resume=resume, identity=identity, pool_code=pool_code)


def _attempt(
    config: Mapping[str, Any],
    id: str,
    results: Path,
    prepared: Prepared,
    loggers: list[Any],
    code: str,
    watch: Callable[[int, float], None] | None,
    facts: Mapping[str, Any],
) -> Record:
    from poolbench.learn.loggers import Loggers, RunInfo
    from poolbench.learn.train import Outcome, train

    raw, split = prepared.raw, prepared.split
    attempt = attempts.begin_attempt(results, id, code)
    os.environ[LEADER] = str(attempt.folder)  # for the processes that a distributed strategy starts
    outcome = Outcome()
    name = run_name(config)
    info = RunInfo(id, attempt.number, attempt.folder, name, dict(config), config.get("group"),
                   config.get("job_type") or "train", tuple(config["tags"]))  # fmt: skip
    opened: list[Loggers] = []

    def write(status: Status, reason: str | None = None) -> tuple[Record, Path]:
        epoch, curve = outcome.selected_epoch, outcome.curve
        data = {**raw.provenance, "fingerprint": raw.fingerprint(), "features": prepared.x.names}
        made = Record(
            schema=SCHEMA,
            id=id,
            attempt=attempt.number,
            status=status,
            reason=reason,
            task=outcome.task,
            config={key: value for key, value in config.items() if key != "paths"},  # where files lie is nobody's
            splits=Splits(hash=split.hash, **{**split.as_dict(), **split.sizes}),
            metrics=Metrics(**{part: outcome.metrics.get(part, {}) for part in PARTS}),
            selected_epoch=epoch,
            curve=curve,
            losses=outcome.losses,
            diagnostics={**outcome.diagnostics, **facts},
            time=Time(**{name: outcome.time.get(name) for name in Time.__struct_fields__}),
            memory_peak=outcome.memory_peak,
            parameters=outcome.parameters,
            seeds=Seeds(seed=config["seed"], split=config["split"]["seed"]),
            provenance=Provenance(**provenance(data=data, split=split.hash), code=code),
            outcomes=outcome.outcomes,
            digests=chain(curve) if curve else None,
            selected=curve[epoch] if curve and epoch is not None else None,
        )
        return made, write_record(attempt.folder, made)

    def first_epoch(epoch: int) -> None:
        if epoch:
            print(f"run {id} goes on from epoch {epoch}")
        opened.append(Loggers(info, loggers, first_epoch=epoch))
        attempts.note_start(attempt.folder)

    def each_picture(epoch: int, png: bytes) -> None:
        path = attempt.folder / "pictures" / f"epoch-{epoch + 1:04}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
        opened[0].picture(epoch, path)

    def each_epoch(epoch: int, row: dict[str, float]) -> None:
        opened[0].log(epoch, row)
        attempts.note_epoch(attempt.folder)

    status: str = "failed"
    interrupts: list[int] = []
    try:
        if attempt.failed:
            raise RunError(attempt.reason)
        with _counted(interrupts):
            train(
                config,
                prepared,
                resume=attempt.folder / attempts.CHECKPOINT,
                identity=_resumed(id, code),
                pool_code=code_version([str(config["pool"]["_target_"])]),
                on_start=first_epoch,
                on_epoch=each_epoch,
                on_picture=each_picture,
                watch=watch,
                outcome=outcome,
            )
        made, path = write("done")
        status = "done"
    except Pruned as pruned:
        made, path = write("pruned", str(pruned))
        status = "pruned"
    except BaseException as error:
        if interrupts or not isinstance(error, Exception):
            attempts.note_stop(attempt.folder)
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
                if any(getattr(each, "artifacts", False) for each in loggers):
                    logger.artifacts({"record": path, "checkpoint": _keep_weights(outcome, attempt.folder)})
            logger.finish(status)
    (attempt.folder / attempts.CHECKPOINT).unlink(missing_ok=True)  # a finished run needs none
    print(table(made) if status == "done" else f"{name} pruned: {made.reason}")
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


def run_name(config: Mapping[str, Any]) -> str:
    """Readable, such as mincut-PROTEINS-s0."""
    names = config["names"]
    dataset = config["dataset"].get("name") or names["dataset"]
    fold = "" if config.get("fold") is None else f"-f{config['fold']}"
    return f"{names['pool']}-{dataset}-s{config['seed']}{fold}"


def table(made: Record) -> str:
    """The small table that ends a run."""
    metrics = made.metrics.parts()
    names = list(dict.fromkeys(name for values in metrics.values() for name in values if "loss_" not in name))
    names.sort(key=lambda name: (name != made.diagnostics["metric"]["name"], name == "loss"))
    lines = [_headline(made), "        " + "".join(f"{name:>{_width(name)}}" for name in names)]
    for part, values in metrics.items():
        if values:
            cells = (f"{values[name]:>{_width(name)}.4f}" if name in values else " " * _width(name) for name in names)
            lines.append(f"{part:<8}" + "".join(cells))
    time, selected = made.time, made.selected_epoch
    epochs = ""
    if selected is not None and time.epoch is not None:  # a graph kernel has none
        epochs = f"selected epoch {selected + 1} of {len(made.curve)}, {1e3 * time.epoch:.0f} ms an epoch, "
    lines.append(f"{epochs}{time.total:.1f} s in all, {made.parameters:,} parameters")
    return "\n".join(lines)


def _width(name: str) -> int:
    return max(10, len(name) + 2)


def _headline(made: Record) -> str:
    name, metric = run_name(made.config), made.diagnostics.get("metric", {}).get("name", "accuracy")
    for part in reversed(PARTS):
        if (value := made.metrics.of(part).get(metric)) is not None:
            return f"{name}: {part} {metric} {value:.4f}"
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


def _logger_configs(config: Mapping[str, Any] | None) -> list[Any]:
    from poolbench.learn import build

    if not config or not config.get("_target_"):
        return []
    cls, args = build.part(config, "logger")
    return [build.construct("logger", cls, **args)]
