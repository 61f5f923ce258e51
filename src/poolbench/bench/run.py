"""One run, one record: the job that `train.py` and every sweep start."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poolbench.bench import record as records
from poolbench.bench.identity import code_version, config_targets, run_identity
from poolbench.bench.provenance import provenance
from poolbench.data.splits import PARTS
from poolbench.errors import PoolBenchError, RunError

log = logging.getLogger(__name__)

#: Where the first process of a distributed run tells the others its attempt's folder.
LEADER = "POOLBENCH_ATTEMPT"
#: Modules that every run imports, beside the classes that its configuration names.
ENTRY = ("poolbench.learn.train",)


def run(config: Mapping[str, Any]) -> dict[str, Any]:
    """Do the run that a resolved configuration describes, or find that it was done; returns its record.

    Raises:
        PoolBenchError: the configuration or the data cannot be used; nothing was written.
        RunError: the run failed; its record says why.
    """
    from poolbench.learn import build

    build.check(config)
    loggers = _logger_configs(config["logger"])
    dataset = build.build_dataset(config["dataset"], config["paths"])
    protocol = build.build_protocol(config["protocol"], config["split"]["seed"])
    raw = dataset.load()
    features, names, _ = dataset.node_features(raw)
    split = protocol.split(raw.class_labels(), raw.fingerprint())
    trainer = config["trainer"]
    code = code_version([*ENTRY, *config_targets(config)])
    id, _ = run_identity(
        config,
        dataset_fingerprint=raw.fingerprint(),
        split_hash=split.hash,
        code=code,
        precision=trainer["precision"],
        processes=_processes(trainer),
        threads=trainer["threads"],
        evaluate_test=config["evaluate_test"],
    )
    results = Path(config["paths"]["results"])
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return _follow(config, id, raw, features, split)
    with records.lease(results, id) as mine:
        if not mine:
            raise RunError(f"run {id} is being done by another process; wait for it, or leave it to it")
        done = records.find_done(results, id)
        if done is not None and not config["force"]:
            found = records.read_record(done)
            print(f"run {id} is done: {_headline(found)}\nrecord: {done}   (force=true makes another attempt)")
            return found
        return _attempt(config, id, results, raw, features, split, loggers, code, {"features": names})


def _follow(config: Mapping[str, Any], id: str, raw: Any, features: Any, split: Any) -> dict[str, Any]:
    """One of the further processes of a distributed run: it trains along, and the first one keeps the books."""
    from poolbench.learn.train import train

    quiet = {**config, "callbacks": {**config["callbacks"], "progress": "none"}}
    folder = os.environ.get(LEADER)
    resume = Path(folder) / records.CHECKPOINT if folder else None
    train(quiet, raw, features, split, resume=resume, identity=id)
    return {"metrics": {"val": {}}}


def _attempt(
    config: Mapping[str, Any],
    id: str,
    results: Path,
    raw: Any,
    features: Any,
    split: Any,
    loggers: list[Any],
    code: str,
    facts: dict[str, Any],
) -> dict[str, Any]:
    from poolbench.learn.loggers import Loggers, RunInfo
    from poolbench.learn.train import Outcome, train

    attempt = records.begin_attempt(results, id)
    os.environ[LEADER] = str(attempt.folder)  # for the processes that a distributed strategy starts
    outcome = Outcome()
    name = run_name(config)
    info = RunInfo(id, attempt.number, attempt.folder, name, dict(config), config.get("group"),
                   "train", tuple(config["tags"]))  # fmt: skip
    opened: list[Loggers] = []

    def write(status: str, reason: str | None = None) -> tuple[dict[str, Any], Path]:
        made = records.make_record(
            id=id,
            attempt=attempt.number,
            status=status,
            reason=reason,
            task="graph-classification",
            config={key: value for key, value in config.items() if key != "paths"},  # where files lie is nobody's
            splits={**split.as_dict(), "hash": split.hash, **{p: getattr(split, p).numel() for p in PARTS}},
            metrics=outcome.metrics,
            selected_epoch=outcome.selected_epoch,
            curve=outcome.curve,
            losses=outcome.losses,
            diagnostics=outcome.diagnostics,
            time=outcome.time,
            memory_peak=outcome.memory_peak,
            parameters=outcome.parameters,
            seeds={"seed": config["seed"], "split": config["split"]["seed"]},
            provenance={
                **provenance(data={**raw.provenance, "fingerprint": raw.fingerprint(), **facts}, split=split.hash),
                "code": code,
            },
        )  # fmt: skip
        return made, records.write_record(attempt.folder, made)

    def first_epoch(epoch: int) -> None:
        if epoch:
            print(f"run {id} goes on from epoch {epoch}")
        opened.append(Loggers(info, loggers, first_epoch=epoch))
        records.note_start(attempt.folder)

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
                raw,
                features,
                split,
                resume=attempt.folder / records.CHECKPOINT,
                identity=id,
                on_start=first_epoch,
                on_epoch=each_epoch,
                outcome=outcome,
            )
        made, path = write("done")
        status = "done"
    except BaseException as error:
        if interrupts or not isinstance(error, Exception):
            records.note_stop(attempt.folder)
            status = "stopped"
            raise KeyboardInterrupt from None
        reason = _reason(error)
        log.debug("run %s failed", id, exc_info=True)
        _, path = write("failed", reason)
        raise RunError(f"run {id} ({name}) failed: {reason}; record: {path}") from error
    finally:
        for logger in opened:
            if status == "done":
                logger.summary(_summary(outcome))
            logger.finish(status)
    (attempt.folder / records.CHECKPOINT).unlink(missing_ok=True)  # a finished run needs none
    print(table(made))
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


def run_name(config: Mapping[str, Any]) -> str:
    """Readable, such as mincut-PROTEINS-s0."""
    names = config["names"]
    dataset = config["dataset"].get("name") or names["dataset"]
    return f"{names['pool']}-{dataset}-s{config['seed']}"


def table(made: Mapping[str, Any]) -> str:
    """The small table that ends a run."""
    lines = [_headline(made), f"{'':<8}{'accuracy':>10}{'loss':>10}"]
    for part, values in made["metrics"].items():
        if values:
            lines.append(f"{part:<8}{values['accuracy']:>10.4f}{values['loss']:>10.4f}")
    time, epochs = made["time"], len(made["curve"])
    lines.append(
        f"selected epoch {made['selected_epoch'] + 1} of {epochs}, {1e3 * time['epoch']:.0f} ms an epoch, "
        f"{time['total']:.1f} s in all, {made['parameters']:,} parameters"
    )
    return "\n".join(lines)


def _headline(made: Mapping[str, Any]) -> str:
    metrics = made["metrics"]
    name = run_name(made["config"])
    part = "test" if metrics.get("test") else "val"
    accuracy = metrics.get(part, {}).get("accuracy")
    return name if accuracy is None else f"{name}: {part} accuracy {accuracy:.4f}"


def _summary(outcome: Any) -> dict[str, Any]:
    flat = {f"{part}/{k}": v for part, values in outcome.metrics.items() for k, v in values.items()}
    return {
        **flat,
        "selected_epoch": outcome.selected_epoch,
        "parameters": outcome.parameters,
        "time/epoch": outcome.time.get("epoch"),
        "memory_peak": outcome.memory_peak,
    }


def _reason(error: BaseException) -> str:
    if isinstance(error, PoolBenchError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return f"out of memory ({str(error).splitlines()[0] if str(error) else 'host'})"
    first = (str(error) or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first}"


def _processes(trainer: Mapping[str, Any]) -> int:
    devices = trainer.get("devices", 1)
    return devices if isinstance(devices, int) else len(devices) if isinstance(devices, list) else 1


def _logger_configs(config: Mapping[str, Any] | None) -> list[Any]:
    from poolbench.learn import build

    if not config or not config.get("_target_"):
        return []
    cls, args = build.part(config, "logger")
    return [build.construct("logger", cls, **args)]
