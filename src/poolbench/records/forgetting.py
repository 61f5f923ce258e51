"""Attempts at runs are set aside, and brought back. Nothing is deleted, and no record is edited.

    results/forgotten/<id>/<attempt>/   what lay in results/runs/<id>/<attempt>/

What counts is the line in results/forgotten.jsonl (`forgotten`), one write for all that a command names. Folders are
moved after it, and moved back before it, each by one rename. So a command that was killed has done all that it was
asked for or nothing, but for folders that lie in the other place; given again, it moves them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from poolbench.errors import PoolBenchError, RunError, nearest, printable
from poolbench.records.attempts import Marker, attempt_folders, lease, run_folder
from poolbench.records.forgotten import FOLDER, MARKS, Forgotten, Mark, append, changing
from poolbench.records.gathered import Spot, files, places, read
from poolbench.records.record import RECORD, Key, key, read_record

SHOWN = 5

T = TypeVar("T", "_Attempt", Mark)


@dataclass
class _Attempt:
    """An attempt in a results folder: the identity of its run, its folder in runs/, the file it is gathered in."""

    key: Key
    run: str
    folder: Path | None = None
    file: Path | None = None


def forget(
    results: Path, names: Sequence[str], attempt: int | None = None, reason: str | None = None, command: str = ""
) -> list[str]:
    """Set runs aside; returns what became of each attempt, a line each.

    Args:
        names: ids of runs, or beginnings of them. attempt: this one alone; None: all. reason, command: to be noted.

    Raises:
        PoolBenchError: a run that is not there, is meant by no name alone, or is being done; nothing was changed.
        RunError: something cannot be written or moved.
    """
    with changing(results), ExitStack() as stack:
        marks = Forgotten.read(results)
        known = _there(results)
        for mark in marks.marks.values():  # so that they are known by name when nothing of them is left
            known.setdefault(mark.id, {})
            known.setdefault(mark.run, {})
        chosen = [(name, known[name]) for name in _named(results, names, known, "holds no run")]
        todo = {one.key: one for name, found in chosen for one in _left(name, found, attempt, marks)}
        _hold(stack, results, {id for one in todo.values() for id in (one.key[0], one.run)})
        new = [
            Mark(id=one.key[0], code=one.key[1], attempt=one.key[2], run=one.run, date=_now(), command=command,
                 reason=printable(reason) if reason else None, folder=_free(results, one) if one.folder else None)
            for one in todo.values() if one.key not in marks.marks
        ]  # fmt: skip
        append(results, new)
        made = marks.marks | {mark.key: mark for mark in new}
        return [line for one in todo.values() for line in _set_aside(results, one, made[one.key])]


def bring_back(results: Path, names: Sequence[str], attempt: int | None = None, command: str = "") -> list[str]:
    """Let runs count again that were set aside, their folders where they were; for the rest see `forget`.

    Raises: as `forget`; also where another attempt has taken the place of one.
    """
    with changing(results), ExitStack() as stack:
        marks = Forgotten.read(results).marks.values()
        known = _by_name((mark.id, mark.run, mark.key, mark) for mark in marks)
        chosen = [(name, known[name]) for name in _named(results, names, known, "has forgotten no run")]
        todo = {mark.key: mark for name, found in chosen for mark in _of_attempt(name, found, attempt)}
        _hold(stack, results, {mark.id for mark in todo.values()})
        for mark in todo.values():
            aside, place = _aside(results, mark), _in_place(results, mark)
            if aside and aside.exists() and place.exists():
                raise PoolBenchError(f"{place} is there already, and so {aside} cannot go back; forget that one first")
        gathered = places(results)
        lines = [_moved_back(results, mark, gathered) for mark in todo.values()]
        append(results, [replace(mark, date=_now(), command=command, reason=None, back=True) for mark in todo.values()])
        return lines


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# -------------------------------------------------------------------------------------------------------------- finding


def _there(results: Path) -> dict[str, dict[Key, _Attempt]]:
    """The attempts in a results folder, under the id and under the identity of their run."""
    found: dict[Key, _Attempt] = {}
    for file in files(results):
        for record in read(file):
            found[key(record)] = _Attempt(key(record), record.setting, file=file)
    runs = Path(results) / "runs"
    for run in sorted(runs.glob("[0-9a-f]" * 16)):
        for folder in attempt_folders(run):
            code, setting = _made_by(folder)
            this = run.name, code, int(folder.name)
            found.setdefault(this, _Attempt(this, setting)).folder = folder
    return _by_name((each.key[0], each.run, each.key, each) for each in found.values())


def _made_by(folder: Path) -> tuple[str, str]:
    """The version of the code and the identity of the run of an attempt, whether it has a record or not."""
    try:
        record = read_record(folder / RECORD)
    except RunError:
        return Marker.read(folder).code, folder.parent.name
    return str(record.code), record.setting


def _by_name(found: Iterable[tuple[str, str, Key, T]]) -> dict[str, dict[Key, T]]:
    """What was found of each run, under the id of its records and under its identity."""
    named: dict[str, dict[Key, T]] = defaultdict(dict)
    for id, run, this, one in found:
        named[id][this] = named[run][this] = one
    return dict(named)


def _named(results: Path, names: Iterable[str], known: Collection[str], lacks: str) -> list[str]:
    """The names of runs that some words mean, each once."""
    chosen: dict[str, None] = {}
    for name in names:
        meant = [name] if name in known else sorted(each for each in known if name and each.startswith(name))
        if not meant:
            raise PoolBenchError(f"{results} {lacks} {name}{nearest(name, known)}; give its id, or the beginning of it")
        if len(meant) > 1:
            more = ", ..." if len(meant) > SHOWN else ""
            raise PoolBenchError(
                f"{name} is the beginning of {len(meant)} runs ({', '.join(meant[:SHOWN])}{more}): give more of it"
            )
        chosen[meant[0]] = None
    return list(chosen)


def _of_attempt(name: str, found: Mapping[Key, T], attempt: int | None) -> list[T]:
    """Of what was found of a run all, or what is of one attempt. Raises `PoolBenchError` where nothing is."""
    chosen = [one for (_, _, number), one in sorted(found.items()) if attempt in (None, number)]
    if found and not chosen:
        there = ", ".join(map(str, sorted({number for _, _, number in found})))
        raise PoolBenchError(f"run {name} has no attempt {attempt} there: give --attempt one of {there}")
    return chosen


def _left(name: str, found: Mapping[Key, _Attempt], attempt: int | None, marks: Forgotten) -> list[_Attempt]:
    """What is to be set aside of a run: what counts, and folders that are still in their place."""
    chosen = _of_attempt(name, found, attempt)
    left = [one for one in chosen if one.key not in marks.marks or (one.folder and marks.marks[one.key].folder)]
    if not left:
        last = ([marks.marks[one.key] for one in chosen] or marks.of(name))[-1]
        why = f" ({last.reason})" if last.reason else ""
        raise PoolBenchError(
            f"run {name} was forgotten on {last.date}{why}: poolbench forget --undo {name} brings it back"
        )
    return left


def _hold(stack: ExitStack, results: Path, ids: Iterable[str]) -> None:
    """Keep other processes from those of the runs that have a folder. Raises `PoolBenchError` where one does one."""
    for id in sorted(ids):
        if run_folder(results, id).is_dir() and not stack.enter_context(lease(results, id)):
            raise PoolBenchError(f"run {id} is being done by another process: stop that, or wait for it")


# --------------------------------------------------------------------------------------------------------------- moving


def _free(results: Path, one: _Attempt) -> str:
    """The name of its folder among the forgotten ones: its number, with another one after it where that is taken."""
    id, _, number = one.key
    names = itertools.chain([str(number)], (f"{number}-{again}" for again in itertools.count(2)))
    return next(name for name in names if not (Path(results) / FOLDER / id / name).exists())


def _aside(results: Path, mark: Mark) -> Path | None:
    """Where the folder of an attempt lies when it is set aside; None: it had none."""
    return Path(results) / FOLDER / mark.id / mark.folder if mark.folder else None


def _in_place(results: Path, mark: Mark) -> Path:
    """Where it lies when it counts."""
    return run_folder(results, mark.id) / str(mark.attempt)


def _move(source: Path, target: Path) -> None:
    """By one rename, which never writes over files; it is not tried by copies, which a kill leaves in halves."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise RunError(
            f"cannot move {source} to {target}: {why}; mend that and give the command again, or leave it there: what "
            f"counts is what {MARKS} says"
        ) from error


def _set_aside(results: Path, one: _Attempt, mark: Mark) -> Iterator[str]:
    aside = _aside(results, mark)
    if one.folder and aside:
        _move(one.folder, aside)
        yield f"{_said(mark)}: moved from {one.folder} to {aside}"
    if one.file:
        yield f"{_said(mark)}: stays in {one.file}, and does not count"


def _moved_back(results: Path, mark: Mark, gathered: Mapping[Key, Spot]) -> str:
    aside, place = _aside(results, mark), _in_place(results, mark)
    if aside and aside.exists():
        _move(aside, place)
        return f"{_said(mark)}: moved from {aside} to {place}, and counts again"
    spot = gathered.get(mark.key)
    where = spot.path if spot else place if place.exists() else None
    return f"{_said(mark)}: counts again" + (f", in {where}" if where else "; nothing of it lies here")


def _said(mark: Mark) -> str:
    return f"run {mark.id}, attempt {mark.attempt}"
