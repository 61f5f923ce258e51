"""The books of a sweep: its jobs, and what became of each. `poolbench status` reads them from any shell.

    results/sweeps/<time>/jobs.json       the jobs of the sweep, in order, and what records say of their time
    results/sweeps/<time>/jobs/<n>.json   job n: what became of it, written by the process that does it

Each job writes a file of its own, in one step, so that any number of processes and machines keep one set of books
without a lock. What was measured stands in the records of the runs; these files only name them.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from poolbench.disk import cannot_write, create, put
from poolbench.errors import PoolBenchError, RunError, printable
from poolbench.records.attempts import Held, run_folder
from poolbench.records.forgotten import Forgotten
from poolbench.records.gathered import found_records
from poolbench.wording import count

log = logging.getLogger(__name__)

SWEEPS = "sweeps"
JOBS = "jobs.json"
SCHEMA = 1

ENDS = ("done", "failed", "refused")
"""How a job can end for good."""
ALL = "all"
"""The kind that every job is of."""
STATES = (*ENDS, "running", "elsewhere", "to go")
"""What `poolbench status` counts. Elsewhere: another process, of no part in this sweep, held the run."""


@dataclass(frozen=True)
class JobState:
    """What is known of one job.

    text: its number, and what sets it apart from the others. state: see `STATES`; `stopped` where it was interrupted.
    runs: identities of the runs that it consists of, as they become known. reason: why it failed, was
    refused or waits. host, pid: of the process that does it. began: seconds since the epoch. seconds: how long it took
    to do; None while it is not done, and where it was found done. kinds: of what kinds it is, the closest first
    (`records.clock.kinds`); jobs of one kind take about the same time.
    """

    text: str
    state: str = "to go"
    runs: tuple[str, ...] = ()
    reason: str | None = None
    host: str | None = None
    pid: int | None = None
    began: float | None = None
    seconds: float | None = None
    kinds: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------------------ writing


class Books:
    """The books of a sweep that begins.

    Args:
        folder: where they are kept; a sweep that finds another's books there takes `<folder>-2`, and so on.
        jobs: the overrides of each job. at_once: how many are done side by side.

    Raises `RunError` where the folder cannot be written to.
    """

    def __init__(self, folder: Path, jobs: Sequence[Sequence[str]], at_once: int) -> None:
        self.at_once = at_once
        self.jobs = [tuple(job) for job in jobs]
        self._texts = texts(self.jobs)
        self._kinds: dict[int, tuple[str, ...]] = {}
        self._times: dict[str, float] = {}
        self.folder = self._claim(folder)

    def _claim(self, folder: Path) -> Path:
        number = 1
        while True:
            place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            try:
                (place / "jobs").mkdir(parents=True, exist_ok=True)
                create(place / JOBS, self._content())
                return place
            except FileExistsError as error:
                if not (place / JOBS).is_file():
                    raise cannot_write(place, error) from error
                number += 1
            except OSError as error:
                raise cannot_write(place, error) from error

    def add(self, jobs: Sequence[Sequence[str]]) -> None:
        """Add a further batch of jobs."""
        self.jobs += [tuple(job) for job in jobs]
        self._texts = texts(self.jobs)
        self._write()

    def expect(self, kinds: Mapping[int, tuple[str, ...]], times: Mapping[str, float]) -> None:
        """Note of what kinds jobs are, by number, and the seconds that records say of each kind."""
        self._kinds |= kinds
        self._times |= times
        self._write()

    def _write(self) -> None:
        try:
            put(self.folder / JOBS, self._content())
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def text(self, number: int) -> str:
        """Job `number` for people: what sets it apart from the others."""
        return self._texts[number - 1]

    def sweep(self, jobs: Iterable[JobState]) -> Sweep:
        """The sweep, where that is what is known of its jobs."""
        return Sweep(self.folder, tuple(jobs), self.at_once, self._times)

    def job(self, number: int) -> JobState:
        """What is noted of job `number`."""
        return _read_job(self.folder, number, self.text(number), self._kinds.get(number, ()))

    def _content(self) -> bytes:
        kinds = [self._kinds.get(number, ()) for number in range(1, len(self.jobs) + 1)]
        content = {"schema": SCHEMA, "at_once": self.at_once, "jobs": self.jobs, "kinds": kinds, "times": self._times}
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def texts(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The number of each job and those of its overrides that not all jobs share."""
    shared = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [" ".join([f"[{n}]", *(word for word in job if word not in shared)]) for n, job in enumerate(jobs, 1)]


class Note:
    """What the process that does job `number` of the sweep in `folder` notes of it.

    A note that cannot be written costs one warning and not the job, whose record is what counts.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._path = folder / "jobs" / f"{number}.json"
        self._state = JobState("")
        self._warned = False
        self.score: str | None = None

    def begin(self) -> None:
        self._write(state="running", host=socket.gethostname(), pid=os.getpid(), began=time.time())

    def run(self, id: str) -> None:
        """The job needs the run `id`."""
        if id not in self._state.runs:
            self._write(runs=(*self._state.runs, id))

    def end(self, state: str, reason: str | None = None, seconds: float | None = None) -> None:
        self._write(state=state, reason=reason, seconds=seconds)

    def _write(self, **facts: Any) -> None:
        self._state = replace(self._state, **facts)
        content = {k: v for k, v in asdict(self._state).items() if k not in ("text", "kinds")}
        try:
            put(self._path, json.dumps(content, ensure_ascii=False).encode())
        except OSError as error:
            if not self._warned:
                log.warning("%s cannot be written (%s): poolbench status will not know", self._path, error.strerror)
            self._warned = True


_note: ContextVar[Note | None] = ContextVar("note", default=None)


def note_run(id: str) -> None:
    """Note in the books that the job which is being done needs the run `id`; nothing outside a sweep."""
    note = _note.get()
    if note is not None:
        note.run(id)


def note_score(text: str) -> None:
    """Say what came out of the job that is being done, where it is more than its last run; nothing outside a sweep."""
    note = _note.get()
    if note is not None:
        note.score = text


@contextmanager
def noting(note: Note) -> Iterator[None]:
    """While a job is done: `note_run` reaches `note`."""
    token = _note.set(note)
    try:
        yield
    finally:
        _note.reset(token)


# ------------------------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class Sweep:
    """A sweep as its books have it at one moment."""

    folder: Path
    jobs: tuple[JobState, ...]
    at_once: int = 1
    times: Mapping[str, float] = field(default_factory=dict)
    """The seconds that records say of a kind of job."""
    counts: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", Counter("to go" if self._waits(job) else job.state for job in self.jobs))

    @staticmethod
    def _waits(job: JobState) -> bool:
        return job.state not in STATES or job.state == "to go"

    def of(self, *states: str) -> list[JobState]:
        """The jobs in one of `states`."""
        return [job for job in self.jobs if job.state in states]

    @property
    def ended(self) -> int:
        """How many jobs have ended for good."""
        return sum(self.counts[end] for end in ENDS)

    def line(self, now: float | None = None) -> str:
        """One line: how many jobs are done, running, failed, refused, to go, and for about how long."""
        counts = {state: self.counts[state] for state in ("done", "running", "failed", "refused", "elsewhere", "to go")}
        shown = [f"{count} {state}" for state, count in counts.items() if count or state == "done"]
        return f"{self.ended} of {len(self.jobs)}: {', '.join(shown)}{self._left(now)}"

    def to_go(self) -> str:
        """How many jobs are to go, and for about how long, before any is begun."""
        return f"{self.counts['to go']} to go{self._left(None)}"

    def _left(self, now: float | None) -> str:
        left = self.seconds_left(time.time() if now is None else now)
        return "" if left is None else f", about {duration(left)} left"

    def seconds_left(self, now: float) -> float | None:
        """About how long the jobs that are left will take, as many at once as there are workers.

        None where nothing is left, or nothing is known of such jobs.
        """
        running, waiting = self.of("running"), [job for job in self.jobs if self._waits(job)]
        expected = self._expected([*running, *waiting])
        if expected is None:
            return None
        begun, rest = expected[: len(running)], expected[len(running) :]
        busy = [max(each - (now - (job.began or now)), 0.0) for job, each in zip(running, begun, strict=True)]
        free = [*busy, *([0.0] * (self.at_once - len(busy)))]
        heapq.heapify(free)
        for each in rest:  # whoever is free first takes the next job
            heapq.heappush(free, heapq.heappop(free) + each)
        return max(free)

    def _expected(self, jobs: Sequence[JobState]) -> list[float] | None:
        """The seconds of each job: the median of jobs of its kind, here or else by records; of all, where none is."""
        took: dict[str, list[float]] = defaultdict(list)
        for job in self.jobs:
            if job.seconds is not None:
                for kind in (*job.kinds, ALL):
                    took[kind].append(job.seconds)
        known = {**self.times, **{kind: median(seconds) for kind, seconds in took.items()}}
        found = [next((known[kind] for kind in job.kinds if kind in known), None) for job in jobs]
        guesses = took[ALL] or [each for each in found if each is not None]
        if not jobs or not guesses:
            return None
        return [median(guesses) if each is None else each for each in found]


def duration(seconds: float) -> str:
    """Such as 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def find(folder: Path) -> Path:
    """The sweep that `folder` is, or the latest one of the results folder `folder`. Raises `PoolBenchError`."""
    if (folder / JOBS).is_file():
        return folder
    begun = [(path.stat().st_mtime_ns, path.parent) for path in (folder / SWEEPS).glob(f"*/{JOBS}")]
    if not begun:
        raise PoolBenchError(
            f"{folder} holds no sweep: give the results folder of one that was started with -m, or its own folder"
        )
    return max(begun)[1]


def read(folder: Path) -> Sweep:
    """What the books in `folder` say. Raises `PoolBenchError` where there are none, or they cannot be read."""
    try:
        content = msgspec.json.decode((folder / JOBS).read_bytes(), type=_Books)
    except (OSError, ValueError, RecursionError) as error:
        raise PoolBenchError(f"{folder / JOBS} cannot be read as the books of a sweep ({printable(error)})") from error
    kinds = dict(enumerate(content.kinds, 1))
    jobs = (_read_job(folder, n, text, kinds.get(n, ())) for n, text in enumerate(texts(content.jobs), 1))
    return Sweep(folder, tuple(jobs), content.at_once, content.times)


class _Books(Struct):
    """As `Books` writes them."""

    jobs: list[tuple[str, ...]]
    at_once: Annotated[int, Meta(ge=1)]
    kinds: list[tuple[str, ...]] = []  # of each job
    times: dict[str, Annotated[float, Meta(ge=0)]] = {}


class _Noted(Struct):
    """As `Note` writes it: a job without its text."""

    state: str
    runs: tuple[Annotated[str, Meta(pattern=r"^\w+$")], ...]  # names of folders
    reason: str | None = None
    host: str | None = None
    pid: Annotated[int, Meta(ge=1, lt=2**31)] | None = None
    began: float | None = None
    seconds: Annotated[float, Meta(ge=0)] | None = None


def _read_job(folder: Path, number: int, text: str, kinds: tuple[str, ...]) -> JobState:
    try:
        found = msgspec.json.decode((folder / "jobs" / f"{number}.json").read_bytes(), type=_Noted)
    except (OSError, ValueError, RecursionError):
        return JobState(text, kinds=kinds)  # not begun
    job = JobState(text, **msgspec.structs.asdict(found), kinds=kinds)
    if job.state == "running" and not _alive(job):
        return replace(job, state="stopped", reason="the process that did it has died")
    return job


def _alive(job: JobState) -> bool:
    """Whether the process that does the job is there; of other machines only they know."""
    if job.host != socket.gethostname() or job.pid is None:
        return True
    try:
        os.kill(job.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def report(sweep: Sweep) -> str:
    """What `poolbench status` prints: the line, then the jobs that run, failed, were refused, or are elsewhere.

    A job of which a run is forgotten is to go: the same command does it again.
    """
    results = sweep.folder.absolute().parents[1]
    again = _forgotten(sweep, results)
    jobs = (replace(job, state="to go") if n in again else job for n, job in enumerate(sweep.jobs, 1))
    sweep = replace(sweep, jobs=tuple(jobs))
    lines = [f"sweep {sweep.folder}", sweep.line()]
    if again:
        lines.append(f"{count(len(again), 'job')} to go again, as runs were forgotten")
    for state in ("running", "failed", "refused", "elsewhere", "stopped"):
        for job in sweep.of(state):
            said = _epochs(job, results) if state == "running" else job.reason
            lines.append(printable(f"{state:<9}  {job.text}{': ' if said else ''}{said or ''}"))
    return "\n".join(lines)


def _forgotten(sweep: Sweep, results: Path) -> list[int]:
    """The numbers of the jobs that have ended, and of which a run has no record left that counts."""
    runs = {mark.run for mark in Forgotten.read(results).marks.values()}
    ended = {number: runs & set(job.runs) for number, job in enumerate(sweep.jobs, 1) if job.state in ENDS}
    if not any(ended.values()):
        return []
    left = {record.setting for record in found_records(results)}
    return [number for number, its in ended.items() if its - left]


def _epochs(job: JobState, results: Path) -> str:
    """How far the latest run of a job is, from the curve that it writes."""
    curves = sorted(run_folder(results, job.runs[-1]).glob("*/metrics.csv")) if job.runs else []
    try:
        rows = len(curves[-1].read_text(encoding="utf-8").splitlines()) if curves else 0
        return f"epoch {max(rows - 1, 0)}" if curves else "begins"
    except OSError:
        return ""


# ------------------------------------------------------------------------------------------------------------- errors


def state_of(error: BaseException) -> str:
    """What a job that raised `error` has come to: refused, where nothing but its configuration is to blame."""
    if isinstance(error, Held):
        return "elsewhere"
    refused = isinstance(error, PoolBenchError) and not isinstance(error, RunError) and not _unavailable(error)
    return "refused" if refused else "failed"


def _unavailable(error: BaseException) -> bool:
    """Whether data could not be had, as another day it might."""
    from poolbench.data.cache import CacheNotWritable
    from poolbench.data.sources.fetch import Absent, NoMirror

    return any(isinstance(cause, Absent | CacheNotWritable | NoMirror | OSError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def explain(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, PoolBenchError):
        return str(error)
    if isinstance(error, OSError):
        what = (error.strerror or str(error)).lower()
        return f"{error.filename or 'a file'}: {what}; set paths.results= to a folder that can be written to"
    return f"{type(error).__name__}: {error} (HYDRA_FULL_ERROR=1 shows where)"


def exit_code(states: Iterable[str]) -> int:
    """Of a sweep whose jobs came to `states`: 0 all done, 2 some refused and nothing worse, else 1."""
    found = set(states) - {"done"}
    return 0 if not found else 2 if found == {"refused"} else 1
