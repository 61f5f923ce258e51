"""`poolbench submit`: records of an operator are packed for a repository of results, and such a repository is begun."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from poolbench.audit import submission
from poolbench.audit.registry import Registry
from poolbench.audit.submission import METADATA, SUBMISSIONS, Metadata
from poolbench.audit.trust import Trust
from poolbench.audit.verify import Findings, look_at, wrong
from poolbench.disk import put
from poolbench.errors import PoolBenchError, RunError
from poolbench.records import gathered
from poolbench.records.changes import today
from poolbench.records.counting import counted
from poolbench.records.equivalence import Links
from poolbench.records.record import Record
from poolbench.records.stripping import local_words, stripped
from poolbench.report.board import value_at
from poolbench.report.leaderboard import pool_name
from poolbench.report.report import answering, standing
from poolbench.wording import count

SKELETON = {"README.md": "README.md", ".github/workflows/verify.yml": "verify.yml"}
"""The files that a repository of results begins with, and what they are called in the package."""


def pack(
    results: Path, query: Sequence[str], repository: Path, metadata: Mapping[str, Any], paths: Mapping[str, Any]
) -> tuple[Path, list[str]]:
    """Write the records of a results folder that a query asks for as a submission: the whole folder, or nothing.

    Args:
        query: as of `report.build`. repository: the folder that has, or gets, submissions/. metadata: `name`, `code`,
            `licence`, `authors`. paths: `data` and `mirror`, to draw splits anew.

    Returns the folder, and what is worth knowing, a line each.

    Raises:
        PoolBenchError: the metadata, or the first thing that `verify --strict` finds, with the run that has it.
        RunError: it cannot be written.
    """
    for key, value in metadata.items():  # before any work
        submission.check(key, value)
    if not repository.is_dir():
        raise PoolBenchError(f"there is no folder {repository}: clone the repository of results, or begin one: --init")
    folder = repository / SUBMISSIONS / str(metadata["name"])
    if folder.exists() or folder.is_symlink():
        raise PoolBenchError(f"{folder} is there already: choose another --name, or remove it first")
    links = Links.read(results)
    operator, records, notes = _chosen(results, query, links)
    made = Metadata.of({"schema": submission.SCHEMA, **metadata, **operator})
    trust = Trust(made.declared(Registry.of()))
    found = Findings()
    read = [(f"run {record.id}", record) for record in records]
    words = local_words()
    public = [(where, stripped(record, words)) for where, record in read]
    for where, record in [*read, *public]:
        found.errors += [f"{where}: {said}" for said in wrong(record, trust.registry)]
    look_at(read, links, found, splits=True, paths=paths, trust=trust)
    errors = list(dict.fromkeys(found.strict().errors))
    if errors:
        more = f" (and {len(errors) - 1} more: poolbench verify --splits --strict)" if len(errors) > 1 else ""
        raise PoolBenchError(f"{errors[0]}{more}")
    with _whole(folder) as place:
        put(place / METADATA, made.written())
        gathered.add([record for _, record in public], place)
        (place / gathered.FOLDER / ".lock").unlink(missing_ok=True)
        if strange := submission.problems(place):  # such as a dataset with a name that no folder may have there
            raise PoolBenchError(strange[0].replace(str(place), str(folder)))
    return folder, [*notes, *found.notes]


def begin(repository: Path, code: str) -> list[Path]:
    """Write the skeleton of a repository of results: its rules, and the workflow that checks what is handed in.

    Args:
        code: https://HOST/PATH@COMMIT of the PoolBench that the workflow installs.

    Raises `PoolBenchError` where one of the files is there already; then none is written.
    """
    submission.check("code", code)
    address, _, commit = code.rpartition("@")
    texts = {repository / place: files(__package__).joinpath("skeleton", name).read_text(encoding="utf-8")
             for place, name in SKELETON.items()}  # fmt: skip
    for path in texts:
        if path.exists():
            raise PoolBenchError(f"{path} is there already: --init begins a repository, and changes none")
    try:
        (repository / SUBMISSIONS).mkdir(parents=True, exist_ok=True)
        put(repository / SUBMISSIONS / ".gitkeep", b"")
        for path, text in texts.items():
            put(path, text.replace("POOLBENCH-ADDRESS", address).replace("POOLBENCH-COMMIT", commit).encode())
    except OSError as error:
        raise _cannot_write(repository, error) from error
    return list(texts)


def _chosen(results: Path, query: Sequence[str], links: Links) -> tuple[dict[str, str], list[Record], list[str]]:
    """The operator, its records that tables would show, one a run, with their curves; how many others were left out."""
    found = answering(counted(gathered.gather(results, curves=True), links), query, lambda one: one.record)
    operator = _operator([one.record for one in found])
    asked = standing(found, links)
    shown = [one.record for one in asked if one.kind]
    tested = [record for record in shown if record.config.get("evaluate_test", True)]
    if not tested:
        raise PoolBenchError(f"{results}: none of the {count(len(asked), 'run')} was evaluated on test graphs")
    notes = [
        f"{count(number, 'run')} {what}: left out" for number, what in (
            (len(asked) - len(shown), "of other versions of the code"),
            (len(shown) - len(tested), "without an evaluation of the test split")) if number
    ]  # fmt: skip
    return operator, tested, notes


def _operator(records: Sequence[Record]) -> dict[str, str]:
    """The one operator that records are of. Raises `PoolBenchError` where there are several."""
    named = sorted({(pool_name(r), today(str(value_at(r.config, "pool._target_")))) for r in records})
    if len({name for name, _ in named}) > 1:
        names = ", ".join(name for name, _ in named[:5])
        raise PoolBenchError(f"these are records of {len(named)} operators ({names}): choose one with pool=NAME")
    if len(named) > 1:
        raise PoolBenchError(f"{named[0][0]} is {' and '.join(target for _, target in named)}: submit one of them")
    ((name, target),) = named
    return {"operator": name, "class": target}


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which is called `folder` at the end, or is not there."""
    around = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}.tmp")
    place = around / folder.name
    try:
        place.mkdir(parents=True)
        yield place
        place.rename(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(around, ignore_errors=True)


def _cannot_write(folder: Path, error: OSError) -> RunError:
    return RunError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}")
