"""The folders of runs and of their attempts, who works on them, and what is done.

    results/runs/<id>/.lock                    held while a process works on the run
    results/runs/<id>/<attempt>/attempt.json   how often the attempt was started, by which code, and whether it died
    results/runs/<id>/<attempt>/record.json    written once, whole or not at all, never edited
    results/runs/<id>/<attempt>/weights.pt     written before the record, where it is asked for

An attempt without a record is unfinished: the next start goes on with it, where the code is the same.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout
from msgspec import Struct

from poolbench.disk import cannot_write, put, remove_temporaries
from poolbench.errors import RunError
from poolbench.records import lines
from poolbench.records.forgotten import Forgotten
from poolbench.records.record import RECORD, Record, read_record

MARKER = "attempt.json"
CHECKPOINT = "resume.ckpt"
"""The default name of the checkpoint that an unfinished attempt goes on from."""
WEIGHTS = "weights.pt"
"""The selected epoch's weights, where they are kept (`jobs.weights`)."""

DEATHS_ALLOWED = 2
"""So many deaths by a signal, with no epoch finished in between, and the attempt counts as failed."""


def _read_or_warn(path: Path) -> Record | None:
    try:
        return read_record(path)
    except RunError as error:
        lines.warn_once(f"{error}; it counts as not done")
        return None


def iter_records(results_dir: Path) -> Iterator[tuple[Path, Record]]:
    """(path, record) of every record that counts, by id and attempt; each unreadable one costs a warning."""
    forgotten = Forgotten.read(results_dir)
    for id in sorted(run_ids(results_dir)):
        yield from _records(run_folder(results_dir, id), forgotten)


def attempts_of(results_dir: Path, id: str) -> Iterator[tuple[Path, Record]]:
    """The same of the run `id`, by attempt."""
    yield from _records(run_folder(results_dir, id), Forgotten.read(results_dir))


def _records(run: Path, forgotten: Forgotten) -> Iterator[tuple[Path, Record]]:
    for folder in attempt_folders(run):
        path = folder / RECORD
        if path.exists() and (record := _read_or_warn(path)) and record not in forgotten:
            yield path, record


def run_ids(results_dir: Path) -> set[str]:
    """The runs that have a folder."""
    runs = Path(results_dir) / "runs"
    return {run.name for run in runs.iterdir()} if runs.is_dir() else set()


def run_folder(results_dir: Path, id: str) -> Path:
    """The folder of the run `id`."""
    return Path(results_dir) / "runs" / id


def attempt_folders(run: Path) -> list[Path]:
    """The attempt folders of a run, in the order of their numbers."""
    if not run.is_dir():
        return []
    folders = [p for p in run.iterdir() if re.fullmatch(r"[1-9]\d*", p.name) and p.is_dir()]
    return sorted(folders, key=lambda p: int(p.name))


def next_attempt(results_dir: Path, id: str, after: int = 0) -> Path:
    """A new attempt folder of the run `id`, numbered from `after` + 1; two processes never get the same one.

    Raises:
        RunError: the results folder cannot be written to.
    """
    run = run_folder(results_dir, id)
    try:
        run.mkdir(parents=True, exist_ok=True)
        number = max([after, *(int(p.name) for p in attempt_folders(run))])
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


class Marker(Struct, kw_only=True):
    """The file `MARKER` of an attempt: by which code it was begun, how often started, whether it runs or has died."""

    code: str = ""
    running: bool = False
    deaths: int = 0
    starts: int = 0

    @classmethod
    def read(cls, folder: Path) -> Marker:
        """That of an attempt; a new one where there is none, or none that can be read."""
        try:
            return msgspec.json.decode((folder / MARKER).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return cls()

    def write(self, folder: Path) -> None:
        try:
            put(folder / MARKER, msgspec.json.encode(self))
        except OSError as error:
            raise cannot_write(folder / MARKER, error) from error


def begin_attempt(results_dir: Path, id: str, code: str, *, after: int = 0, checkpoint: str = CHECKPOINT) -> Attempt:
    """Go on with the unfinished attempt of the run `id`, or begin a new one.

    To be called under the run's `lease`, and to be followed by `note_start` when training starts, `note_epoch` after
    each epoch, and a record or `note_stop` at the end. The latest attempt without a record is taken up again, where it
    was begun by the same code; a started one that was neither recorded nor stopped has died.

    Args:
        code: version of the code. after: attempts that there were elsewhere, or that are forgotten. checkpoint: name of
            the file in the attempt's folder from which it can go on.

    Raises:
        RunError: the results folder cannot be written to.
    """
    attempts = attempt_folders(run_folder(results_dir, id))
    # A record that nobody can read closes its attempt too: it is never overwritten.
    unfinished = bool(attempts) and not (attempts[-1] / RECORD).exists()
    # A marker that was lost or damaged says nothing of the code; the checkpoint does.
    # And what is numbered as one elsewhere would be taken for that one.
    mine = unfinished and int(attempts[-1].name) > after and Marker.read(attempts[-1]).code in (code, "")
    folder = attempts[-1] if mine else next_attempt(results_dir, id, after)
    remove_temporaries(folder)
    marker = Marker.read(folder)
    marker.code, marker.deaths, marker.running = code, marker.deaths + marker.running, False
    marker.write(folder)
    resume = folder / checkpoint
    return Attempt(folder, int(folder.name), resume if resume.exists() else None, marker.deaths)


def note_start(folder: Path) -> None:
    """Note that training starts: a death counts from here on, and not while a process is still importing."""
    marker = Marker.read(folder)
    marker.running, marker.starts = True, marker.starts + 1
    marker.write(folder)


def note_epoch(folder: Path) -> None:
    """Note that an epoch was finished, so that earlier deaths no longer count. Costs next to nothing."""
    marker = Marker.read(folder)
    if marker.deaths:
        marker.deaths = 0
        marker.write(folder)


def note_stop(folder: Path) -> None:
    """Note that the attempt was stopped in good order (an interrupt that was caught), and did not die."""
    marker = Marker.read(folder)
    marker.running = False
    marker.write(folder)


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
