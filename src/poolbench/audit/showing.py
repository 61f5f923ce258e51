"""Running the witnesses of groups again, and what that shows: a link each, as soon as it is known."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from poolbench.audit.oldcode import machine, run_old, worktrees
from poolbench.audit.trust import Trust
from poolbench.audit.verdict import Verdict, compare
from poolbench.audit.witnesses import Effort, Group
from poolbench.config import Config, read, with_values
from poolbench.errors import PoolBenchError, printable
from poolbench.jobs.launcher import Ended, InProcess, Job, Processes, Workers, do_quietly
from poolbench.records.attempts import attempts_of, iter_records
from poolbench.records.changes import upgrade
from poolbench.records.equivalence import Kind, Link, Witness, append
from poolbench.records.provenance import git_state
from poolbench.records.record import Record
from poolbench.report.leaderboard import dataset_name

State = Literal["linked", "differ", "not shown", "failed"]
STATES: tuple[State, ...] = ("linked", "differ", "not shown", "failed")

THEN = "then"
"""The folder in a witness's results folder that holds what the old code came to."""


@dataclass
class _Case:
    """A group that is being shown.

    left: witnesses that nothing is known of yet. bad: what becomes of the group, and why, where it is not linked.
    """

    group: Group
    left: int
    verdicts: list[Verdict] = field(default_factory=list)
    bad: tuple[State, str] | None = None


@dataclass(frozen=True)
class _Task:
    """A witness to be run. tree: where the old code lies, which is to be run too; None: it is not."""

    case: _Case
    record: Record
    tree: Path | None


def show(
    todo: Sequence[Group],
    results: Path,
    paths: Mapping[str, Any],
    effort: Effort,
    count: int,
    trust: Trust,
    repository: Path | None = None,
) -> list[tuple[Group, State]]:
    """Run the witnesses of all groups, `count` at once; returns what became of each group.

    A link is added to `results` as soon as a group is shown: what is interrupted goes on where it was.

    Args:
        paths: `data` and `mirror`. trust: what records may ask for. repository: that has the commits of old
            versions, see `oldcode.worktrees`.
    """
    commits = [str(record.provenance.git) for group in todo for record in group.witnesses if effort.both(record)]
    workers = Processes(count) if count > 1 else _Here()
    with worktrees(commits, repository) as trees, tempfile.TemporaryDirectory(prefix="poolbench-equivalent-") as made:
        return _Show(results, paths, effort, trust, trees, Path(made)).do(todo, workers)


class _Here(InProcess):
    """Witnesses run in this process, one after the other."""

    def next(self) -> tuple[int, Ended | None]:
        assert self._job is not None
        return self._job.number, do_quietly(self._job)


class _Show:
    """The witnesses of all groups, done side by side.

    Args:
        trees: where the code of each commit lies that is to be run, or why it does not. home: a temporary folder, for
            the results folders of the witnesses.
    """

    def __init__(
        self,
        results: Path,
        paths: Mapping[str, Any],
        effort: Effort,
        trust: Trust,
        trees: Mapping[str, Path | str],
        home: Path,
    ) -> None:
        self.results, self.paths, self.effort, self.trust = results, paths, effort, trust
        self.trees, self.home = trees, home
        (home / "jobs").mkdir()  # a job notes there what becomes of it
        self.commit = _commit()
        self.groups = 0
        self.states: list[tuple[Group, State]] = []
        self.tasks: list[_Task] = []

    def do(self, todo: Sequence[Group], workers: Workers) -> list[tuple[Group, State]]:
        self.groups = len(todo)
        self.tasks = [task for group in todo for task in self._tasks(group)]
        queue, busy = deque(range(len(self.tasks))), 0
        try:
            while queue or busy:
                while queue and busy < workers.count:
                    busy += self._submit(queue.popleft(), workers)
                if busy:
                    self._ended(*workers.next())
                    busy -= 1
        except KeyboardInterrupt:
            workers.stop()
            raise
        finally:
            workers.close()
        return self.states

    def _tasks(self, group: Group) -> list[_Task]:
        case = _Case(group, len(group.witnesses))
        if not group.witnesses:
            case.bad = ("not shown", "none of its records is done")
        tasks = []
        for record in group.witnesses:
            tree = self.trees[str(record.provenance.git)] if self.effort.both(record) else None
            if isinstance(tree, str):
                case.bad = ("not shown", f"the old version has to be run here, and {tree}")
            else:
                tasks.append(_Task(case, record, tree))
        if case.bad:
            self._close(case)
            return []
        return tasks

    def _submit(self, number: int, workers: Workers) -> bool:
        """Begin a witness; False where its group is lost anyway."""
        task = self.tasks[number]
        if task.case.bad:
            self._told(task.case)
            return False
        try:
            self.trust.check(task.record.config)
            config = _config(task.record, {**self.paths, "results": str(self.home / str(number))})
            self.trust.check_size(config)
        except PoolBenchError as error:
            task.case.bad = "failed", f"{_named(task.record)}: {error}"
            self._told(task.case)
            return False
        work = partial(_again, epochs=self.effort.stop(task.record), record=task.record, tree=task.tree,
                       trust=self.trust)  # fmt: skip
        workers.submit(Job(number, task.record.id, config, work, self.home))
        return True

    def _ended(self, number: int, ended: Ended | None) -> None:
        task, folder = self.tasks[number], self.home / str(number)
        case = task.case
        bad: tuple[State, str] | None
        try:
            verdict = self._verdict(task, folder, ended)
            case.verdicts.append(verdict)
            bad = self._against(verdict)
        except _NotShown as error:
            bad = "failed", str(error)
        if bad and not case.bad:
            state, said = bad
            case.bad = state, f"{_named(task.record)}: {said}"
        shutil.rmtree(folder, ignore_errors=True)
        self._told(case)

    def _against(self, verdict: Verdict) -> tuple[State, str] | None:
        """What a verdict makes of its group, where it is not linked."""
        if verdict.outcome == "differs":
            return "differ", verdict.said
        if verdict.outcome == "close" and not self.effort.close:
            return "differ", f"{verdict.said}; no more than --close allows"
        return None

    def _verdict(self, task: _Task, folder: Path, ended: Ended | None) -> Verdict:
        record, stop = task.record, self.effort.stop(task.record)
        then = _only(folder / THEN) if task.tree else _whole(self.results, record)
        now = _only(folder)
        if ended is None:
            raise _NotShown("its process died (out of memory, or killed)")
        if then is None or now is None:
            raise _NotShown(ended.reason or "no record came of it")
        for made, wanted in ((then, task.case.group.old), (now, task.case.group.new)):
            if made.code != wanted:
                raise _NotShown(f"version {made.code} of the code was run, and {wanted} is meant")
        if not then.done:
            raise _NotShown(f"the old version failed here: {then.reason}")
        try:
            return compare(then, now, stop)
        except ValueError as error:
            raise _NotShown(f"its digests cannot be read ({error})") from error

    def _told(self, case: _Case) -> None:
        """Something became known of one of the witnesses of a case; after the last, it is decided."""
        case.left -= 1
        if not case.left:
            self._close(case)

    def _close(self, case: _Case) -> None:
        state, said = case.bad or ("linked", self._linked(case))
        self.states.append((case.group, state))
        print(printable(f"[{len(self.states)}/{self.groups}] {case.group}: {state}, {said}"), flush=True)

    def _linked(self, case: _Case) -> str:
        """Add the link; returns what it is."""
        group = case.group
        kind: Kind = "close" if any(verdict.outcome == "close" for verdict in case.verdicts) else "same"
        witnesses = tuple(verdict.witness for verdict in case.verdicts)
        link = Link(
            old=group.old,
            new=group.new,
            kind=kind,
            covers=group.covers,
            witnesses=witnesses,
            machine=machine(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=self.commit,
            both=any(map(self.effort.both, group.witnesses)),
        )
        append(self.results, link)
        return f"{kind} by {_compared(witnesses)}"


class _NotShown(Exception):
    """A witness cannot be compared."""


def _again(config: Config, epochs: int | None, record: Record, tree: Path | None, trust: Trust) -> Any:
    """A witness's run, in a worker; that of the old code first, where `tree` says where it lies."""
    from poolbench.jobs.run import one_run
    from poolbench.jobs.search import Pruned
    from poolbench.learn.build import Parts

    if tree is not None:
        run_old(record, tree, config.paths, Path(config.paths.results) / THEN, trust)

    def watch(epoch: int, value: float) -> None:
        # An end by max_epochs would change what schedulers do.
        if epoch + 1 == epochs:
            raise Pruned("so many epochs are compared")

    return one_run(config, Parts.of(config), watch=watch, wait=-1.0)


def _config(record: Record, paths: Mapping[str, Any]) -> Config:
    """The configuration of a record's run, to be done again in other folders, and quietly."""
    config = read({**upgrade(record.config), "paths": paths, "force": True, "logger": None})
    quiet = {
        "callbacks.progress": "none",
        "callbacks.pictures_every": 0,
        "callbacks.resume_every": 1e9,
        "callbacks.keep_weights": False,
    }
    return with_values(config, quiet)


def _only(folder: Path) -> Record | None:
    """The record that a witness's run left."""
    return next((record for _, record in iter_records(folder)), None)


def _whole(results: Path, record: Record) -> Record:
    """A record with its curve, where its run still lies in the results folder."""
    found = (each for _, each in attempts_of(results, record.id) if each.attempt == record.attempt)
    return next((each for each in found if each.code == record.code), record)


def _named(record: Record) -> str:
    return f"run {record.id} ({dataset_name(record)})"


def _compared(witnesses: Sequence[Witness]) -> str:
    """Such as: 5 witnesses, the first 5 epochs and the numbers at the end."""
    firsts = sorted({witness.epochs for witness in witnesses if witness.epochs and not witness.end})
    whole = [witness for witness in witnesses if witness.end]
    parts = [f"the first {' or '.join(map(str, firsts))} epochs"] * bool(firsts)
    parts += ["all epochs"] * any(witness.epochs for witness in whole) + ["the numbers at the end"] * bool(whole)
    return f"{len(witnesses)} witness{'es' * (len(witnesses) != 1)}: {' and '.join(parts)}"


def _commit() -> str | None:
    commit, dirty = git_state()
    return f"{commit}-dirty" if dirty else commit
