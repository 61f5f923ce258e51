"""The jobs of a sweep, done one after the other or by worker processes that live on from job to job.

A job is a configuration and a function that does it; Hydra is needed to make one and not to do it. What
becomes of a job is an `Ended`, never an exception, so that the other jobs go on. A job whose process died is started
again, and goes on from its last checkpoint; the records say when that is too often (`attempts.begin_attempt`).
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from poolbench.config import Config, with_values
from poolbench.errors import PoolBenchError
from poolbench.jobs import sweep
from poolbench.jobs.attempt import score
from poolbench.jobs.before import look
from poolbench.jobs.display import display
from poolbench.records.attempts import DEATHS_ALLOWED, Held, lease
from poolbench.records.provenance import usable_cores
from poolbench.records.record import Record
from poolbench.wording import count

log = logging.getLogger(__name__)

Work = Callable[[Config], Any]

SHOWN = ("bar", "lines")
"""Values of `callbacks.progress` that ask to see each run."""
COMPLAINTS = ("warning: ", "error: ")
"""How lines begin that a job prints and that are always shown."""
STARTS = DEATHS_ALLOWED + 1
"""So often a job is started whose process dies: the last start finds that it died too often, and records that."""
GRACE = 45.0
"""Seconds that a worker has to stop in good order: above the time that a logger may take to finish."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    number: from 1. text: what it is, for people. config: of the run. work: does it; a function of a
    module, so that a process can find it by name. folder: of the sweep's books. shown: whether all that it prints
    is shown, or what it has to complain of alone.
    """

    number: int
    text: str
    config: Config
    work: Work
    folder: Path
    shown: bool = True


@dataclass(frozen=True)
class Ended:
    """What became of a job: `state` as in the books, `reason` in one line, what it printed, and the traceback.

    score: the number that counts, with its name. seconds: how long it took to do; None where it was found done.
    held: the runs that another process does, where the state is `elsewhere`.
    """

    state: str
    reason: str | None = None
    score: str | None = None
    seconds: float | None = None
    printed: str = ""
    trace: str = ""
    held: tuple[str, ...] = ()


def do(job: Job) -> Ended:
    """Do a job, and note in the books what becomes of it. Raises nothing but `KeyboardInterrupt`."""
    note = sweep.Note(job.folder, job.number)
    note.begin()
    began = time.monotonic()
    try:
        with sweep.noting(note):
            made = job.work(job.config)
    except Exception as error:
        state, reason = sweep.state_of(error), " ".join(sweep.explain(error).split())
        note.end(state, reason)
        held = error.ids if isinstance(error, Held) else ()
        return Ended(state, reason, trace="".join(traceback.format_exception(error)), held=held)
    except BaseException:  # an interrupt, or the end of a cluster's patience
        note.end("stopped", "it was interrupted")
        raise
    spent = time.monotonic() - began
    seconds = spent if _was_trained(made, spent) else None
    note.end("done", seconds=seconds)
    return Ended("done", score=note.score or (score(made) if isinstance(made, Record) else None), seconds=seconds)


def _was_trained(made: Any, spent: float) -> bool:
    """Whether a record was made now; one that was found says nothing of how long such a job takes."""
    total = made.time.total if isinstance(made, Record) else None
    return total is None or total <= spent


def do_quietly(job: Job) -> Ended:
    """`do`, with what is printed held back: the lines of one job stand together."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        ended = do(job)
    lines = printed.getvalue().splitlines(keepends=True)
    return replace(ended, printed="".join(line for line in lines if job.shown or line.startswith(COMPLAINTS)))


# ---------------------------------------------------------------------------------------------------------- the sweep


class Workers(Protocol):
    """Where jobs are done."""

    count: int
    """How many are done at once."""

    def submit(self, job: Job) -> None:
        """Begin a job; called for as many as `count` at once."""

    def next(self) -> tuple[int, Ended | None]:
        """Wait for a job to end: its number and what became of it, None where its process died."""

    def stop(self) -> None:
        """Stop the jobs that are being done in good order, as an interrupt does."""

    def close(self) -> None:
        """Let go of everything."""


def beside(job: Job) -> Job:
    """A run as a job of a sweep: quiet, unless its configuration asks for a display of each run."""
    shown = job.config.callbacks.progress in SHOWN
    return job if shown else replace(job, config=with_values(job.config, {"callbacks.progress": "none"}), shown=False)


def launch(
    numbers: Sequence[int],
    make: Callable[[int], Job],
    books: sweep.Books,
    workers: Workers,
    traces: bool = False,
    runs: Mapping[int, Config] | None = None,
) -> list[str]:
    """Do the jobs `numbers` of a sweep; returns their states.

    A job that another process holds is left to it, and looked at again when all others are done.

    Args:
        make: composes a job; what it raises refuses the job. traces: print the tracebacks of errors. runs: the
            configurations of jobs that are runs: those that are done are not begun, and records say how long the others
            take.
    """
    return _Launch(make, books, workers, traces).do(numbers, runs or {})


class _Launch:
    def __init__(self, make: Callable[[int], Job], books: sweep.Books, workers: Workers, traces: bool) -> None:
        self.make, self.books, self.workers, self.traces = make, books, workers, traces
        self.known: list[sweep.JobState] = []
        self.held: dict[int, Ended] = {}
        self.jobs: dict[int, Job] = {}
        self.busy: set[int] = set()
        self.starts: Counter[int] = Counter()
        self.warned = False

    def do(self, numbers: Sequence[int], runs: Mapping[int, Config]) -> list[str]:
        jobs, at_once = count(len(numbers), "job"), self.workers.count
        print(f"sweep of {jobs}, {at_once} at once; poolbench status {self.books.folder}", flush=True)
        done = self._look(runs)
        self.known = [self.books.job(number) for number in range(1, len(self.books.jobs) + 1)]
        for number in done:
            self._note(number, Ended("done"))
        left = [number for number in numbers if number not in done]
        shown = any(config.callbacks.progress in SHOWN for config in runs.values())
        self.display = display(self.now, [self.books.text(number) for number in left], quiet=bool(runs) and not shown)
        if runs:
            self.display.line(f"{len(done)} done before, {self.now().to_go()}")
        try:
            with self.display:
                try:
                    self._do_all(left)
                    while self.held:
                        self._do_all(self._wait_for_others())
                except KeyboardInterrupt:
                    self.workers.stop()
                    raise
        finally:
            self.workers.close()
        return [self.known[number - 1].state for number in numbers]

    def _look(self, runs: Mapping[int, Config]) -> set[int]:
        """The jobs that are done; what is known of the others is noted."""
        if not runs:
            return set()
        found = look(runs)
        for number, ids in found.done.items():
            note = sweep.Note(self.books.folder, number)
            for id in ids:
                note.run(id)
            note.end("done")
        self.books.expect(found.kinds, found.times)
        return set(found.done)

    def now(self) -> sweep.Sweep:
        """The sweep at this moment: what was noted of jobs that are being done, and how the others ended."""
        jobs = list(self.known)
        for number in tuple(self.busy):
            jobs[number - 1] = self.books.job(number)
        return self.books.sweep(jobs)

    def _do_all(self, numbers: Iterable[int]) -> None:
        queue = deque(numbers)
        while queue or self.busy:
            while queue and len(self.busy) < self.workers.count:
                self._submit(queue.popleft())
            if self.busy:
                number, ended = self.workers.next()
                self.busy.remove(number)
                if ended is None and self.starts[number] < STARTS:
                    self.display.line(f"{self.books.text(number)}: its process died; it is started again")
                    queue.appendleft(number)
                else:
                    self._end(number, ended or self._died(number))

    def _submit(self, number: int) -> None:
        """Begin a job, unless it is refused."""
        if number not in self.jobs:
            try:
                self.jobs[number] = self.make(number)
            except Exception as error:
                trace = "".join(traceback.format_exception(error))
                ended = Ended(sweep.state_of(error), " ".join(sweep.explain(error).split()), trace=trace)
                sweep.Note(self.books.folder, number).end(ended.state, ended.reason)
                self._end(number, ended)
                return
        self.starts[number] += 1
        self.busy.add(number)
        self.workers.submit(self.jobs[number])

    def _died(self, number: int) -> Ended:
        ended = Ended("failed", f"its process died {STARTS} times (out of memory, or killed)")
        sweep.Note(self.books.folder, number).end(ended.state, ended.reason)
        return ended

    def _note(self, number: int, ended: Ended) -> None:
        """What is known here is known although the books be lost, as on a full disk or where somebody removed them."""
        self.known[number - 1] = replace(
            self.books.job(number), state=ended.state, reason=ended.reason, seconds=ended.seconds
        )

    def _end(self, number: int, ended: Ended) -> None:
        self._note(number, ended)
        if not self.warned and not (self.books.folder / sweep.JOBS).is_file():
            self.warned = True
            said = (
                "%s is gone and cannot be read as the books of a sweep, which goes on; poolbench status will not know"
            )
            log.warning(said, self.books.folder / sweep.JOBS)
        text = self.books.text(number)
        if ended.state == "elsewhere":
            self.held[number] = ended
        if ended.printed:
            self.display.line(f"{text}\n{ended.printed}".rstrip())
        if ended.state in ("done", "elsewhere"):
            self.display.end(text, ended.score, ended.seconds, ended.reason)
        else:
            print(f"error: {text}: {ended.reason}", file=sys.stderr, flush=True)
            if self.traces:
                print(ended.trace, file=sys.stderr, flush=True)
        self.display.summary()

    def _wait_for_others(self) -> list[int]:
        """Wait until one of the runs that others do is free; the jobs that it belongs to can be looked at again."""
        self.display.line(f"waiting for other processes that do {len(self.held)} of the jobs")
        while True:
            for number, ended in self.held.items():
                results = Path(self.jobs[number].config.paths.results)
                for id in ended.held:
                    with lease(results, id) as mine:
                        free = mine
                    if free:
                        del self.held[number]
                        self.starts[number] = 0
                        return [number]
            time.sleep(0.5)


def say_stopping(jobs: int) -> None:
    """Tell who pressed Ctrl-C what happens."""
    print(f"stopping {jobs} jobs in good order; another interrupt kills them", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------------- this process


class InProcess:
    """Jobs done here, one after the other; what is shown of what they print appears as they print it."""

    count = 1

    def __init__(self) -> None:
        self._job: Job | None = None

    def submit(self, job: Job) -> None:
        self._job = job

    def next(self) -> tuple[int, Ended | None]:
        job = self._job
        assert job is not None
        if not job.shown:
            return job.number, do_quietly(job)
        print(job.text, flush=True)
        return job.number, do(job)

    def stop(self) -> None:
        """The interrupt has stopped the job."""

    def close(self) -> None:
        """Nothing is held."""


# --------------------------------------------------------------------------------------------------- worker processes

#: The libraries that would otherwise take a thread a core in each worker.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def share_cores(n_jobs: int | None, threads: int, jobs: int) -> int:
    """How many jobs to do at once: `n_jobs`, or as many as fill the cores with `threads` threads each.

    Args:
        n_jobs: None or -1 for as many as there are cores for. threads: of one job. jobs: that there are.

    Raises `PoolBenchError` for any other number below 1.
    """
    if n_jobs in (None, -1):
        n_jobs = max(usable_cores() // threads, 1)
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs < 1:
        raise PoolBenchError(
            f"hydra.launcher.n_jobs={n_jobs!r}: a whole number of at least 1 is expected, or -1 for all"
        )
    return max(min(n_jobs, jobs), 1)


class Processes:
    """Worker processes that do one job after the other; one that died is replaced.

    Args:
        count: how many. threads: that a library may use in each, unless the environment says.
    """

    def __init__(self, count: int, threads: int = 1) -> None:
        self.count, self.threads = count, threads
        self._workers: list[_Worker] = []

    def submit(self, job: Job) -> None:
        worker = next((w for w in self._workers if w.job is None), None)
        if worker is None:
            worker = _Worker(self.threads)
            self._workers.append(worker)
        worker.submit(job)

    def next(self) -> tuple[int, Ended | None]:
        while True:
            ready = wait([w.connection for w in self._workers if w.job is not None])
            worker = next(w for w in self._workers if w.connection in ready)
            assert worker.job is not None
            number, ended = worker.job, worker.receive()
            if ended is None:
                worker.close()
                self._workers.remove(worker)
            return number, ended

    def stop(self) -> None:
        """Interrupt the busy workers and wait for them; a further interrupt, or `GRACE` seconds, end the patience."""
        busy = [worker for worker in self._workers if worker.job is not None]
        say_stopping(len(busy))
        for worker in busy:
            worker.interrupt()
        deadline = time.monotonic() + GRACE
        with contextlib.suppress(KeyboardInterrupt):
            for worker in busy:
                worker.process.join(max(deadline - time.monotonic(), 0.0))

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers.clear()


class _Worker:
    """One worker process, and this end of the pipe to it. job: the number of the job that it does."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.job: int | None = None
        self.connection, theirs = context.Pipe()
        # No daemon: those may have no children, and the coarsenings of a large dataset are computed by several.
        self.process = context.Process(target=_serve, args=(theirs,), name="poolbench worker", daemon=False)
        with _environment(dict.fromkeys(THREADS, str(threads))), _interrupts_held():
            self.process.start()
        theirs.close()  # so that the pipe ends when the worker does

    def submit(self, job: Job) -> None:
        self.job = job.number
        with contextlib.suppress(OSError):  # it died while idle: receive says so
            self.connection.send(job)

    def receive(self) -> Ended | None:
        """What became of the job; None where the worker died."""
        self.job = None
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def interrupt(self) -> None:
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(self.process.pid, signal.SIGINT)  # type: ignore[arg-type]

    def close(self) -> None:
        """An idle worker ends with its pipe; a busy one is killed."""
        if self.job is not None:
            self.process.kill()
        self.connection.close()
        self.process.join(5.0)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # type: ignore[arg-type]  # children of one that was killed
        self.process.close()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set those of the variables that are not set, for processes that are started within."""
    mine = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            del os.environ[name]


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back interrupts: a process that is started within inherits that, until it is ready for one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection) -> None:
    """The life of a worker process."""
    os.setpgrp()  # the terminal's Ctrl-C reaches the sweep alone, which passes it on
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        while True:
            connection.send(do_quietly(connection.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        pass  # the sweep has ended, or was interrupted


def _end_with_parent() -> None:
    """Stop in good order when the process of the sweep dies: the next start shall find the run free."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    os.killpg(os.getpid(), signal.SIGKILL)
