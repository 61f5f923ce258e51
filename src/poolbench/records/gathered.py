"""Gathered records: those of many runs in one file, a JSON line each, without their curves; they are committed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from poolbench.errors import PoolBenchError, RunError
from poolbench.records.record import iter_records, put

GATHERED = "records.jsonl"

Record = Mapping[str, Any]


def gather(results: Path, curves: bool = False) -> list[dict[str, Any]]:
    """All records of a results folder: those of its runs, and those of its records.jsonl that are not among them.

    Args:
        curves: keep the curves, nine tenths of a record, which records.jsonl does not hold.

    Raises:
        PoolBenchError: there are none, or a line of records.jsonl is no record.
    """
    found = found_records(results, curves)
    if not found:
        raise PoolBenchError(f"{results} holds no records; train first, or give paths.results=FOLDER")
    return found


def found_records(results: Path, curves: bool = False) -> list[dict[str, Any]]:
    """As `gather`, for a folder that may have none."""
    found = {(r["id"], r["attempt"]): dict(r) for r in read_gathered(results / GATHERED)}
    found |= {(r["id"], r["attempt"]): r if curves else lean(r) for _, r in iter_records(results)}
    return [found[key] for key in sorted(found)]


def lean(record: dict[str, Any]) -> dict[str, Any]:
    """A record as it is committed: without its curve, and where files lay on somebody's machine."""
    return {**record, "curve": [], "config": {k: v for k, v in record["config"].items() if k != "paths"}}


def read_gathered(path: Path) -> Iterable[Record]:
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise PoolBenchError(f"{path}, line {number}: not a record ({error}); remove the line") from error


def write_gathered(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Write records as one JSON line each, without their curves, whole or not at all."""
    write_text(path, "".join(json.dumps(lean(r), sort_keys=True) + "\n" for r in records))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the folders above it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, text.encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
