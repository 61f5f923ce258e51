"""The records of a results folder: those that its runs left, and those that were gathered to be kept and committed.

    results/records/<dataset>/<protocol>.jsonl   a line each, without curves

Lines are only ever added; where a file is full, <protocol>-2.jsonl goes on. A record that is both in a run's folder and
gathered is one. One that is forgotten (`forgotten`) stays in its line and does not count.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec
from filelock import FileLock
from msgspec import Struct

from poolbench.errors import PoolBenchError, RunError
from poolbench.loading import resting
from poolbench.records import lines
from poolbench.records.attempts import attempts_of, iter_records
from poolbench.records.forgotten import Forgotten
from poolbench.records.record import Key, Known, Record, decode, encode, key, lean

FOLDER = "records"
WHAT = "a record"
"""What a line is, for people."""
FULL = 1 << 20
"""Bytes after which a file is gone on with in another one."""


class _Config(TypedDict, total=False):
    names: Any
    pool: Any
    dataset: Any


class _Splits(Struct):
    protocol: str


class Gist(Struct):
    """As much of a record as says of which operator, dataset and protocol it is, in the same places; a tenth of the
    work."""

    config: _Config
    splits: _Splits


Wanted = Callable[[Gist | Record], bool]


def gather(
    results: Path, curves: bool = False, wanted: Wanted | None = None, broken: list[str] | None = None
) -> list[Record]:
    """All records of a results folder, gathered ones and those of its runs, by id and attempt.

    Args:
        curves: keep the curves, nine tenths of a record, which gathered ones do not have. wanted: which are read; None:
            all. broken: filled in with the lines that are no records, each of which costs a warning.

    Raises `PoolBenchError` where there are none.
    """
    broken = [] if broken is None else broken
    found = found_records(results, curves, wanted, broken)
    if not found and broken:
        raise PoolBenchError(f"{results} holds no records that can be read: {broken[0]}")
    if not found and Forgotten.read(results).marks:
        raise PoolBenchError(
            f"{results} holds no records but forgotten ones; poolbench forget --undo ID brings one back"
        )
    if not found:
        raise PoolBenchError(f"{results} holds no records; train first, or give paths.results=FOLDER")
    return found


def found_records(
    results: Path, curves: bool = False, wanted: Wanted | None = None, broken: list[str] | None = None
) -> list[Record]:
    """As `gather`, for a folder that may have none."""
    forgotten = Forgotten.read(results)
    known = Known()
    kept = (record for path in files(results) for record in read(path, wanted, broken, known))
    with resting():
        found = {key(record): record for record in kept if record not in forgotten}
    made = (record for _, record in iter_records(results) if wanted is None or wanted(record))
    found |= {key(record): record if curves else lean(record) for record in made}
    return [found[each] for each in sorted(found, key=lambda each: (each[0], each[2], each[1]))]


def files(results: Path) -> list[Path]:
    """The files of gathered records in a results folder."""
    return sorted((Path(results) / FOLDER).glob("*/*.jsonl"))


def read(
    path: Path, wanted: Wanted | None = None, broken: list[str] | None = None, known: Known | None = None
) -> Iterator[Record]:
    """The records of one file. A line that is none is left out: it costs a warning, and is added to `broken`."""
    gist = msgspec.json.Decoder(Gist).decode

    def decoded(line: bytes) -> Record | None:
        return decode(line, known) if wanted is None or wanted(gist(line)) else None

    yield from (record for record in lines.read(path, decoded, WHAT, broken) if record is not None)


class _Code(Struct):
    code: str | None = None


class _Line(Struct):
    """As much of a record as its key takes."""

    id: str
    attempt: int
    provenance: _Code


class Spot(NamedTuple):
    """Where a gathered record stands: a file and the number of the line, from 1."""

    path: Path
    line: int


def places(results: Path) -> dict[Key, Spot]:
    """Where each gathered record stands."""
    decoder = msgspec.json.Decoder(_Line)
    found = {}
    for path in files(results):
        for number, line in lines.numbered(path, decoder.decode, WHAT):
            found[line.id, str(line.provenance.code), line.attempt] = Spot(path, number)
    return found


def add(records: Iterable[Record], results: Path) -> list[Path]:
    """Add those records to the gathered ones that are not among them yet; returns the files that were written.

    Raises `RunError` where a file cannot be written, with nothing lost.
    """
    homes: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        homes[home(record.config)].append(record)
    written: list[Path] = []
    folder = Path(results) / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # of two processes that add, the second sees what the first has added
            for place, found in sorted(homes.items()):
                written += _add(results, *place, found)
    except OSError as error:
        where = error.filename or folder
        raise RunError(f"cannot write {where}: {(error.strerror or str(error)).lower()}") from error
    return written


def _add(results: Path, dataset: str, protocol: str, records: Iterable[Record]) -> Iterator[Path]:
    there = parts(results, dataset, protocol)
    known = {key(record) for path in there for record in read(path)}
    new = [record for record in records if key(record) not in known]
    for path, text in _placed(results, dataset, protocol, len(there), sorted(new, key=key)):
        lines.add(path, text)
        yield path


def _placed(
    results: Path, dataset: str, protocol: str, count: int, records: Iterable[Record]
) -> Iterator[tuple[Path, bytes]]:
    """The lines that go into each file: the last of the `count` as long as it is not full, then further ones."""
    number = max(count, 1)
    path = _part(results, dataset, protocol, number)
    size, text = path.stat().st_size if path.is_file() else 0, b""
    for record in records:
        line = encode(lean(record)) + b"\n"
        if size and size + len(line) > FULL:
            if text:
                yield path, text
            number, size, text = number + 1, 0, b""
            path = _part(results, dataset, protocol, number)
        size, text = size + len(line), text + line
    if text:
        yield path, text


def parts(results: Path, dataset: str, protocol: str) -> list[Path]:
    """The files that records of a dataset under a protocol are gathered in."""
    numbered = (_part(results, dataset, protocol, number) for number in itertools.count(1))
    return list(itertools.takewhile(Path.is_file, numbered))


def _part(results: Path, dataset: str, protocol: str, number: int) -> Path:
    return Path(results) / FOLDER / dataset / f"{protocol}{f'-{number}' if number > 1 else ''}.jsonl"


def home(config: Mapping[str, Any]) -> tuple[str, str]:
    """The folder and the file that the records of a configuration are gathered in: names of dataset and protocol."""
    names = config.get("names") or {}
    dataset = (config.get("dataset") or {}).get("name") or names.get("dataset")
    return _safe(dataset), _safe(names.get("protocol"))


def _safe(name: Any) -> str:
    return re.sub(r"[^\w.-]", "_", str(name or "unnamed")).lstrip(".") or "unnamed"


@dataclass(frozen=True)
class Done:
    """A record that says that a run is done, and the file that it stands in."""

    record: Record
    path: Path


def find_done(results: Path, id: str, config: Mapping[str, Any], counts: Callable[[Record], bool]) -> Done | None:
    """The record of a run that is done: the latest of its folder, else a gathered one; None where it is not.

    Args:
        id: of the run. config: its configuration. counts: whether a record's version of the code counts.
    """
    found = [Done(record, path) for path, record in attempts_of(results, id)
             if record.done and counts(record)]  # fmt: skip
    if not found:
        seed, forgotten = (config.get("seed"), config.get("fold")), Forgotten.read(results)
        found = [Done(record, path) for path in parts(results, *home(config)) for record in read(path)
                 if record.done and (record.config.get("seed"), record.config.get("fold")) == seed
                 and record.setting == id and record not in forgotten and counts(record)]  # fmt: skip
    return found[-1] if found else None


def attempts(results: Path, id: str, config: Mapping[str, Any]) -> int:
    """The number of the last attempt at a run that is gathered or forgotten, 0 where none is."""
    found = (record for path in parts(results, *home(config)) for record in read(path))
    last = max((record.attempt for record in found if record.id == id), default=0)
    return max(last, Forgotten.read(results).last(id))
