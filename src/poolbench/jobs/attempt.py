"""One attempt at a run: trained, recorded, logged; and what is printed of it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.config import Config, plain, with_values
from poolbench.errors import PoolBenchError, RunError, RunFailed
from poolbench.jobs.search import Pruned
from poolbench.loading import loading
from poolbench.records import attempts, gathered
from poolbench.records.digests import chain
from poolbench.records.provenance import provenance
from poolbench.records.reasons import placeless_here
from poolbench.records.record import (
    PAIRED,
    PARTS,
    SCHEMA,
    Metrics,
    Provenance,
    Record,
    Seeds,
    Splits,
    Status,
    Time,
    write_record,
)

if TYPE_CHECKING:
    from poolbench.data.prepared import Prepared
    from poolbench.learn.build import Parts
    from poolbench.learn.trainable import Trainable

log = logging.getLogger(__name__)

Watch = Callable[[int, float], None]

#: Where the first process of a distributed run tells the others its attempt's folder.
LEADER = "POOLBENCH_ATTEMPT"


def follow(config: Config, prepared: Prepared, id: str, code: str) -> Any:
    """One of the further processes of a distributed run: it trains along, and the first one keeps the books.

    Returns nothing: nobody asks such a process for a record.
    """
    with loading():
        from poolbench.learn.train import train
        from poolbench.learn.trainable import Trainable
    quiet = with_values(config, {"callbacks.progress": "none"})
    folder = os.environ.get(LEADER)
    resume = Path(folder) / attempts.CHECKPOINT if folder else None
    train(quiet, prepared, Trainable.of(quiet, prepared), resume=resume, identity=_resumed(id, code))


def _resumed(id: str, code: str) -> str:
    """What a checkpoint is of: a run, and the version of the code that does it."""
    return f"{id} {code}"


def do(
    config: Config,
    parts: Parts,
    prepared: Prepared,
    trainable: Trainable,
    id: str,
    code: str,
    watch: Watch | None,
    facts: Mapping[str, Any],
) -> Record:
    """Do a run, or go on with it where it was left; returns its record. For the arguments and errors see `run.one_run`.

    Args:
        trainable: what is to be trained on `prepared`. id: of the run. code: version of the code.
    """
    from poolbench.jobs.weights import Weights
    from poolbench.learn.loggers import Loggers, RunInfo
    from poolbench.learn.outcome import Outcome
    from poolbench.learn.train import train
    from poolbench.learn.trainable import data_facts

    raw, split, values = prepared.raw, prepared.split, plain(config)
    results = Path(config.paths.results)
    attempt = attempts.begin_attempt(results, id, code, after=gathered.attempts(results, id, values))
    os.environ[LEADER] = str(attempt.folder)  # for the processes that a distributed strategy starts
    outcome = Outcome()
    name = run_name(config)
    info = RunInfo(id, attempt.number, attempt.folder, name, _placeless(values), config.group,
                   config.job_type or "train", tags(config))  # fmt: skip
    opened: list[Loggers] = []
    artifacts = any(getattr(each, "artifacts", False) for each in parts.loggers)
    files: dict[str, Path] = {}

    def write(status: Status, reason: str | None = None) -> tuple[Record, Path]:
        epoch, curve = outcome.selected_epoch, outcome.curve
        data = {**raw.provenance, "fingerprint": prepared.fingerprint, "features": prepared.x.names}
        made = Record(
            schema=SCHEMA,
            id=id,
            attempt=attempt.number,
            status=status,
            reason=None if reason is None else placeless_here(reason),
            task=outcome.task,
            config={key: value for key, value in values.items() if key != "paths"},  # where files lie is nobody's
            splits=Splits(hash=split.hash, **{**split.as_dict(), **split.sizes}),
            metrics=Metrics(**{part: {} for part in PARTS} | outcome.metrics),
            selected_epoch=epoch,
            curve=curve,
            losses=outcome.losses,
            diagnostics={**outcome.diagnostics, **facts},
            time=Time(**{name: outcome.time.get(name) for name in Time.__struct_fields__}),
            memory_peak=outcome.memory_peak,
            parameters=outcome.parameters,
            seeds=Seeds(seed=config.seed, split=config.split.seed),
            provenance=Provenance(**provenance(data=data, split=split.hash), code=code),
            outcomes=outcome.outcomes,
            digests=chain(curve) if curve else None,
            selected=curve[epoch] if curve and epoch is not None else None,
        )
        path = write_record(attempt.folder, made)
        (attempt.folder / attempts.CHECKPOINT).unlink(missing_ok=True)  # what has a record is not gone on with
        return made, path

    def first_epoch(epoch: int) -> None:
        if epoch:
            print(f"run {id} goes on from {unit(outcome.task)} {epoch + 1}")
        opened.append(Loggers(info, parts.loggers, first_epoch=epoch + 1))
        attempts.note_start(attempt.folder)

    def each_picture(epoch: int, png: bytes) -> None:
        path = attempt.folder / "pictures" / f"epoch-{epoch + 1:04}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png)
        opened[0].picture(epoch + 1, path)

    def each_epoch(epoch: int, row: dict[str, float]) -> None:
        opened[0].log(epoch + 1, row)
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
                trainable,
                resume=attempt.folder / attempts.CHECKPOINT,
                identity=_resumed(id, code),
                on_start=first_epoch,
                on_epoch=each_epoch,
                on_picture=each_picture,
                watch=watch,
                outcome=outcome,
            )
        one = trainable.learner is not None and prepared.comparison is None  # model, with weights of its own
        if one and (artifacts or config.callbacks.keep_weights):
            facts_of_data = data_facts(prepared, config.k_from)
            kept = Weights.of(id, attempt.number, code, prepared, facts_of_data, outcome.weights)
            files["checkpoint"] = kept.write(attempt.folder)  # before the record, which says that all is there
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
                if artifacts:
                    logger.artifacts({"record": path, **files})
            logger.finish(status)
    print(table(name, made) if status == "done" else f"{name} pruned: {made.reason}")
    print(f"record: {path}")
    return made


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


def tags(config: Config) -> tuple[str, ...]:
    """What a logger can find the run by: operator, dataset, protocol (as much of them as W&B takes), and the user's."""
    own = (config.names.pool, config.dataset_name, config.names.protocol)
    return tuple(dict.fromkeys([*(name[:64] for name in own if name), *config.tags]))


def _placeless(config: Any) -> Any:
    """A configuration for others to see: no `paths`, and no folder of this machine in what else it says."""
    if isinstance(config, str):
        return placeless_here(config)
    if isinstance(config, Mapping):
        return {key: _placeless(value) for key, value in config.items() if key != "paths"}
    return [_placeless(value) for value in config] if isinstance(config, list | tuple) else config


def table(name: str, made: Record) -> str:
    """The small table that ends a run."""
    metrics = made.metrics.parts()
    names = list(dict.fromkeys(name for values in metrics.values() for name in values if "loss_" not in name))
    names.sort(key=lambda name: (name != made.diagnostics["metric"]["name"], name == "loss"))
    lines = [headline(name, made), "        " + "".join(f"{name:>{_width(name)}}" for name in names)]
    for part, values in metrics.items():
        if values:
            cells = (f"{values[name]:>{_width(name)}.4f}" if name in values else " " * _width(name) for name in names)
            lines.append(f"{part:<8}" + "".join(cells))
    time, selected = made.time, made.selected_epoch
    epochs = ""
    if selected is not None and time.epoch is not None:  # a graph kernel has none
        each = unit(made.task)
        which = f"selected epoch {selected + 1} of {len(made.curve)}" if each == "epoch" else f"{len(made.curve)} pairs"
        epochs = f"{which}, {1e3 * time.epoch:.0f} ms {'an epoch' if each == 'epoch' else 'a pair'}, "
    lines.append(f"{epochs}{time.total:.1f} s in all, {made.parameters:,} parameters")
    return "\n".join(lines)


def unit(task: str | None) -> str:
    """What a row of the curve is of."""
    return "pair" if task == PAIRED else "epoch"


def _width(name: str) -> int:
    return max(10, len(name) + 2)


def headline(name: str, made: Record) -> str:
    """The name of a run and the number that counts."""
    found = score(made)
    return f"{name}: {found}" if found else name


def score(made: Record) -> str | None:
    """The one number of a run that counts, with its name, such as test accuracy 0.8123."""
    metric = made.diagnostics.get("metric", {}).get("name", "accuracy")
    for part in reversed(PARTS):
        if (value := made.metrics.of(part).get(metric)) is not None:
            return f"{part} {metric} {value:.4f}"
    return None


def _summary(outcome: Any) -> dict[str, Any]:
    """The run in single numbers: its selected epoch under the names of the curve, its last one under `last/`.

    Where the record's metrics have a name of the curve, they count: what the selected weights do on training graphs,
    and not what was seen of these while the weights still changed.
    """
    selected, curve = outcome.selected_epoch, outcome.curve
    rows: dict[str, Any] = {}
    if curve and selected is not None:  # a graph kernel has none
        rows = {**curve[selected], "epoch": selected + 1, "selected_epoch": selected + 1}
        rows |= {f"last/{name}": value for name, value in {**curve[-1], "epoch": len(curve)}.items()}
    return {
        **rows,
        **{f"{part}/{k}": v for part, values in outcome.metrics.items() for k, v in values.items()},
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
