"""One run, one record: the books that a run leaves on disk (design section 6).

    results/runs/<id>/.lock                    held while a process works on the run
    results/runs/<id>/<attempt>/attempt.json   how often the attempt was started, and whether it died
    results/runs/<id>/<attempt>/record.json    written once, whole or not at all, never edited

An attempt without a record is unfinished: the next start goes on with it. Numbers that JSON lacks are written as the
words "NaN", "Infinity" and "-Infinity" inside the parts that hold measurements, and read back as numbers.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from poolbench.errors import RunError

log = logging.getLogger(__name__)

SCHEMA = 1
"""Raised whenever the keys of a record, or their meaning, change."""

KEYS = (
    "schema",
    "id",
    "attempt",
    "status",
    "reason",
    "task",
    "config",
    "splits",
    "metrics",
    "selected_epoch",
    "curve",
    "losses",
    "diagnostics",
    "time",
    "memory_peak",
    "parameters",
    "seeds",
    "provenance",
)
STATUSES = ("done", "failed", "pruned")
MEASUREMENTS = ("metrics", "curve", "losses", "diagnostics", "time", "memory_peak")
"""The parts of a record in which the words for NaN and infinity are numbers."""

RECORD = "record.json"
MARKER = "attempt.json"
CHECKPOINT = "resume.ckpt"
"""The default name of the checkpoint that an unfinished attempt goes on from."""

DEATHS_ALLOWED = 2
"""So many deaths by a signal, with no epoch finished in between, and the attempt counts as failed."""


# --------------------------------------------------------------------------------------------------------- the record


def make_record(
    *,
    id: str,
    attempt: int,
    status: str,
    reason: str | None = None,
    task: str | None = None,
    config: Mapping[str, Any] | None = None,
    splits: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    selected_epoch: int | None = None,
    curve: Any = None,
    losses: Mapping[str, Any] | None = None,
    diagnostics: Mapping[str, Any] | None = None,
    time: Mapping[str, float | None] | None = None,
    memory_peak: int | None = None,
    parameters: int | None = None,
    seeds: Mapping[str, int] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A record with exactly the keys `KEYS`, out of JSON's types alone; what a failed run never got to is empty.

    Args:
        status: `done`, `failed` or `pruned`; the last two want a `reason`.
        metrics: `{train, val, test: {name: value}}` at the selected epoch.
        time: `{epoch, epoch_cpu, total}` in seconds, the first two medians over epochs.
        memory_peak: in bytes.

    Raises:
        ValueError: an unknown status, or a failed run without a reason.
    """
    if status not in STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
    if status != "done" and not reason:
        raise ValueError(f"a record with status {status!r} needs a reason")
    fields: dict[str, Any] = dict(
        schema=SCHEMA,
        id=id,
        attempt=attempt,
        status=status,
        reason=reason,
        task=task,
        config=config or {},
        splits=splits or {},
        metrics={part: dict((metrics or {}).get(part) or {}) for part in ("train", "val", "test")},
        selected_epoch=selected_epoch,
        curve=[] if curve is None else curve,
        losses=losses or {},
        diagnostics=diagnostics or {},
        time={name: (time or {}).get(name) for name in ("epoch", "epoch_cpu", "total")},
        memory_peak=memory_peak,
        parameters=parameters,
        seeds=seeds or {},
        provenance=provenance or {},
    )
    return {key: _to_json(fields[key]) for key in KEYS}


def _to_json(value: Any) -> Any:
    """`value` out of JSON's types: tensors and arrays as numbers and lists, NaN and infinity as words."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, Mapping):
        return {str(k): _to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(v) for v in value]
    if hasattr(value, "tolist"):  # a tensor, an array, or one number of either
        return _to_json(value.tolist())
    return str(value)


_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _from_json(value: Any) -> Any:
    if isinstance(value, str):
        return _WORDS.get(value, value)
    if isinstance(value, dict):
        return {k: _from_json(v) for k, v in value.items()}
    return [_from_json(v) for v in value] if isinstance(value, list) else value


def write_record(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write `record` as `folder/record.json`: whole or not at all, and never over another.

    Raises:
        RunError: a record is there already, or the folder cannot be written to (full disk, permission). Nothing is
            left behind.
        ValueError: the record's keys are not `KEYS`.
    """
    if tuple(record) != KEYS and set(record) != set(KEYS):
        raise ValueError(f"not a record: keys {sorted(set(KEYS) ^ set(record))} are missing or unknown")
    path = Path(folder) / RECORD
    text = json.dumps({k: _to_json(record[k]) for k in KEYS}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    try:
        create(path, text.encode())
    except FileExistsError:
        raise RunError(f"{path} is there already: records are never edited, force=true makes another attempt") from None
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def cannot_write(path: Path, error: OSError) -> RunError:
    """The error for a file that cannot be written: one line that names the path, what is wrong and what to do."""
    remedy = "make it writable or choose another folder with paths.results="
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space or choose another folder with paths.results=, and start again"
    return RunError(f"cannot write {path}: {(error.strerror or str(error)).lower()}; {remedy}")


def _write_temporary(path: Path, data: bytes) -> Path:
    """`data` on disk beside `path`, under a temporary name; nothing is left behind on failure."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def put(path: Path, data: bytes) -> None:
    """Write `data` as the file `path` in one step, over what was there. Raises `OSError`, with nothing left behind."""
    os.replace(_write_temporary(path, data), path)


def create(path: Path, data: bytes) -> None:
    """Create `path` with `data` in one step; FileExistsError where it exists, `OSError` where it cannot be written."""
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary = _write_temporary(path, data)
    try:
        _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _publish(temporary: Path, path: Path) -> None:
    try:
        # Unlike a rename, a link never replaces what another process wrote in the meantime.
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        # A file system without hard links (some network and FAT drives).
        os.replace(temporary, path)


def _sync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive a power cut, where the system lets a folder be synchronised."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_temporaries(folder: Path) -> None:
    """Delete what a process that was killed while writing left in `folder`."""
    for path in Path(folder).glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


# ---------------------------------------------------------------------------------------------------- reading records


def read_record(path: Path) -> dict[str, Any]:
    """The record in the file `path`, with NaN and infinity as numbers.

    Raises:
        RunError: unreadable, cut off, or no record at all.
    """
    try:
        record = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read the record {path}: {error}") from error
    if not isinstance(record, dict) or set(KEYS) - set(record):
        raise RunError(f"cannot read the record {path}: it is not a PoolBench record")
    if record["schema"] != SCHEMA:
        raise RunError(f"cannot read the record {path}: schema {record['schema']}, this PoolBench reads {SCHEMA}")
    return measured(record)


def measured(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as JSON holds it, with the words for NaN and infinity as numbers."""
    return {k: _from_json(v) if k in MEASUREMENTS else v for k, v in record.items()}


def _read_or_warn(path: Path) -> dict[str, Any] | None:
    try:
        return read_record(path)
    except RunError as error:
        log.warning("%s; it counts as not done", error)
        return None


def iter_records(results_dir: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(path, record) of every readable record, by id and attempt; each unreadable one costs a warning."""
    runs = Path(results_dir) / "runs"
    for run in sorted(runs.iterdir()) if runs.is_dir() else ():
        for folder in _attempts(run):
            path = folder / RECORD
            if path.exists() and (record := _read_or_warn(path)):
                yield path, record


def find_done(results_dir: Path, id: str) -> Path | None:
    """The latest record of the run `id` whose status is `done`, or None."""
    for folder in reversed(_attempts(run_folder(results_dir, id))):
        path = folder / RECORD
        if path.exists() and (record := _read_or_warn(path)) and record["status"] == "done":
            return path
    return None


# ----------------------------------------------------------------------------------------------------------- attempts


def run_folder(results_dir: Path, id: str) -> Path:
    """The folder of the run `id`."""
    return Path(results_dir) / "runs" / id


def _attempts(run: Path) -> list[Path]:
    """The attempt folders of a run, in the order of their numbers."""
    if not run.is_dir():
        return []
    folders = [p for p in run.iterdir() if re.fullmatch(r"[1-9]\d*", p.name) and p.is_dir()]
    return sorted(folders, key=lambda p: int(p.name))


def next_attempt(results_dir: Path, id: str) -> Path:
    """A new attempt folder of the run `id`, numbered from 1; two processes never get the same one.

    Raises:
        RunError: the results folder cannot be written to.
    """
    run = run_folder(results_dir, id)
    try:
        run.mkdir(parents=True, exist_ok=True)
        number = max((int(p.name) for p in _attempts(run)), default=0)
        while True:
            number += 1
            with contextlib.suppress(FileExistsError):
                (run / str(number)).mkdir()
                return run / str(number)
    except OSError as error:
        raise cannot_write(run, error) from error


@dataclass(frozen=True)
class Attempt:
    """Where a run is to be done, and what is known of earlier starts."""

    folder: Path
    number: int
    checkpoint: Path | None
    """The checkpoint to go on from; None to start at the beginning."""
    deaths: int
    """How many times in a row the attempt died by a signal without finishing an epoch."""

    @property
    def failed(self) -> bool:
        """Whether the attempt died too often: record it as failed and leave it."""
        return self.deaths >= DEATHS_ALLOWED

    @property
    def reason(self) -> str:
        """What to write into the record of an attempt that `failed`."""
        return f"died by a signal {self.deaths} times without finishing an epoch in between"


def begin_attempt(results_dir: Path, id: str, *, checkpoint: str = CHECKPOINT) -> Attempt:
    """Go on with the unfinished attempt of the run `id`, or begin a new one.

    To be called under the run's `lease`, and to be followed by `note_start` when training starts, `note_epoch` after
    each epoch, and a record or `note_stop` at the end. The latest attempt without a record is taken up again; a
    started one that was neither recorded nor stopped has died.

    Args:
        checkpoint: name of the file in the attempt's folder from which it can go on.

    Raises:
        RunError: the results folder cannot be written to.
    """
    attempts = _attempts(run_folder(results_dir, id))
    # A record that nobody can read closes its attempt too: it is never overwritten.
    unfinished = bool(attempts) and not (attempts[-1] / RECORD).exists()
    folder = attempts[-1] if unfinished else next_attempt(results_dir, id)
    remove_temporaries(folder)
    marker = _read_marker(folder)
    deaths = marker["deaths"] + int(marker["running"])
    _write_marker(folder, running=False, deaths=deaths, starts=marker["starts"])
    resume = folder / checkpoint
    return Attempt(folder, int(folder.name), resume if resume.exists() else None, deaths)


def note_start(folder: Path) -> None:
    """Note that training starts: a death counts from here on, and not while a process is still importing."""
    marker = _read_marker(folder)
    _write_marker(folder, running=True, deaths=marker["deaths"], starts=marker["starts"] + 1)


def note_epoch(folder: Path) -> None:
    """Note that an epoch was finished, so that earlier deaths no longer count. Costs next to nothing."""
    marker = _read_marker(folder)
    if marker["deaths"]:
        _write_marker(folder, running=True, deaths=0, starts=marker["starts"])


def note_stop(folder: Path) -> None:
    """Note that the attempt was stopped in good order (an interrupt that was caught), and did not die."""
    marker = _read_marker(folder)
    _write_marker(folder, running=False, deaths=marker["deaths"], starts=marker["starts"])


def _read_marker(folder: Path) -> dict[str, int]:
    try:
        found = json.loads((folder / MARKER).read_text())
        return {key: int(found[key]) for key in ("running", "deaths", "starts")}
    except (OSError, ValueError, KeyError, TypeError):
        return {"running": 0, "deaths": 0, "starts": 0}


def _write_marker(folder: Path, *, running: bool, deaths: int, starts: int) -> None:
    path = folder / MARKER
    try:
        put(path, json.dumps(dict(running=running, deaths=deaths, starts=starts)).encode())
    except OSError as error:
        raise cannot_write(path, error) from error


class Held(RunError):
    """Another process does the runs `ids`, or some of them."""

    def __init__(self, *ids: str) -> None:
        runs = f"run {ids[0]} is" if len(ids) == 1 else f"{len(ids)} runs are"
        super().__init__(f"{runs} being done by another process; wait for it, or leave it to it")
        self.ids = ids


@contextlib.contextmanager
def lease(results_dir: Path, id: str, *, wait: float = 0.0) -> Iterator[bool]:
    """Hold the run `id` for this process alone; yields False where another process holds it.

    The lock is the operating system's, so that a process that died holds nothing.

    Args:
        wait: how many seconds to wait for another process to end; negative waits for ever.

    Raises:
        RunError: the results folder cannot be written to.
    """
    run = run_folder(results_dir, id)
    lock = FileLock(run / ".lock")
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise cannot_write(run, error) from error
    try:
        yield True
    finally:
        lock.release()
