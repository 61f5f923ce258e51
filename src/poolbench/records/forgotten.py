"""Attempts that do not count: what `poolbench forget` has set aside, run folders and gathered records alike.

    results/forgotten.jsonl             a line each attempt that was set aside, or brought back: which, when, why
    results/forgotten/<id>/<attempt>/   what lay in results/runs/<id>/<attempt>/

Lines are only added; of several on an attempt the last counts. Whoever reads records leaves these out, wherever they
lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from filelock import FileLock
from msgspec import Meta, Struct

from poolbench.disk import cannot_write
from poolbench.errors import PoolBenchError
from poolbench.records import lines
from poolbench.records.record import Hex, Key, Record, key
from poolbench.wording import count

MARKS = "forgotten.jsonl"
FOLDER = "forgotten"


class Mark(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An attempt that was set aside.

    id, code, attempt: see `record.key`. run: the identity of the run, which `id` is not in records of schema 1. date:
    ISO 8601. command: that did it. folder: where it lies in results/forgotten/<id>/; None: it was gathered alone. back:
    it was brought back.
    """

    id: Hex
    code: str
    attempt: Annotated[int, Meta(ge=1)]
    run: Hex
    date: str
    command: str
    reason: str | None = None
    folder: Annotated[str, Meta(pattern=r"^[1-9][0-9]*(-[0-9]+)?$")] | None = None
    back: bool = False

    @property
    def key(self) -> Key:
        return self.id, self.code, self.attempt


class Forgotten:
    """The attempts of a results folder that are set aside.

    Args:
        marks: in the order of the file. broken: its lines that are none, and what is wrong with them.
    """

    def __init__(self, marks: Iterable[Mark] = (), broken: tuple[str, ...] = ()) -> None:
        last = {mark.key: mark for mark in marks}
        self.marks = {key: mark for key, mark in last.items() if not mark.back}
        self.broken = broken

    @classmethod
    def read(cls, results: Path) -> Forgotten:
        """Those in `results`; none where there is no file. A line that is no mark is left out and costs a warning."""
        path, broken = Path(results) / MARKS, list[str]()
        decoder = msgspec.json.Decoder(Mark)
        marks = list(lines.read(path, decoder.decode, "a forgotten attempt", broken)) if path.is_file() else []
        return cls(marks, tuple(broken))

    def __contains__(self, record: Record) -> bool:
        return bool(self.marks) and key(record) in self.marks

    def of(self, name: str) -> list[Mark]:
        """Those of a run, by its identity or by the id of its records."""
        return [mark for mark in self.marks.values() if name in (mark.id, mark.run)]

    def last(self, id: str) -> int:
        """The number of the last attempt among them with an id, 0 where there is none."""
        return max((mark.attempt for mark in self.marks.values() if mark.id == id), default=0)

    def notes(self) -> list[str]:
        """How many there are, for whoever leaves them out: a sentence, or nothing where there are none."""
        runs = len({mark.run for mark in self.marks.values()})
        said = f"Forgotten, and left out: {count(len(self.marks), 'attempt')} at {count(runs, 'run')} ({MARKS})."
        return [said] if runs else []


@contextmanager
def changing(results: Path) -> Iterator[None]:
    """While no other process sets attempts aside; one that does is waited for.

    Raises:
        PoolBenchError: there is no such folder. RunError: it cannot be written to.
    """
    if not Path(results).is_dir():
        raise PoolBenchError(f"there is no results folder {results}; give one, or set POOLBENCH_RESULTS")
    lock = FileLock(Path(results) / f".{MARKS}.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise cannot_write(Path(results), error) from error
    try:
        yield
    finally:
        lock.release()


def append(results: Path, marks: Iterable[Mark]) -> None:
    """Add marks to those of a results folder, all of them in one step; to be called under `changing`.

    Raises `RunError` where the file cannot be written, with nothing lost.
    """
    path = Path(results) / MARKS
    try:
        lines.add(path, b"".join(msgspec.json.encode(mark) + b"\n" for mark in marks))
    except OSError as error:
        raise cannot_write(path, error) from error
