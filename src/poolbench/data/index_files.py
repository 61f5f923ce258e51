"""Index files: folds that a file gives, one's own or published ones.

A run is known by what its file holds, not by where that lies. So the command line keeps a copy under the SHA-256 of the
content, and a configuration, and the record made of it, says these 64 digits in place of the path:

    <cache>/splits/own/<64 digits>.json

The form is that of Errica et al. (`sources.folds`), of which `model_selection` may be left out:

    [{"test": [...], "model_selection": [{"train": [...], "validation": [...]}]}, ...]
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from poolbench.data.cache import cache_dir, writing
from poolbench.disk import put
from poolbench.errors import PoolBenchError, one_line
from poolbench.wording import count as counted

COLLECTION = "splits/own"
"""In the cache."""
LARGEST = 256 << 20
"""Bytes of a file; ten folds of a million graphs take a third of that."""
_FORM = 'a list of folds {"test": [...], "model_selection": [{"train": [...], "validation": [...]}]}'
_DIGITS = re.compile("[0-9a-f]{64}")

Graphs = list[Annotated[int, Meta(ge=0, le=2**53)]]


class Selection(Struct):
    """How the graphs outside a fold are divided."""

    train: Graphs
    validation: Graphs


class Fold(Struct):
    """A fold, as far as it is read: of several selections the first."""

    test: Graphs
    model_selection: list[Selection] = []


class NotHere(PoolBenchError):
    """An index file is known by its content alone, and is not in the cache."""


@dataclass(frozen=True)
class IndexFile:
    """The file that `protocol.folds_file` means.

    given: its path, or the 64 digits of its content. data: the cache folder; None for POOLBENCH_DATA or the user's.
    """

    given: str
    data: str | Path | None = None

    @property
    def path(self) -> Path:
        return _kept(self.given, self.data) if by_content(self.given) else Path(self.given)

    def folds(self, count: int, num_graphs: int | None = None) -> list[Fold]:
        """`count` folds of `num_graphs` graphs. Raises `PoolBenchError` where the file has others, or is none.

        num_graphs: None: of however many.
        """
        if len(self._read) != count:
            raise PoolBenchError(
                f"{self._said} has {len(self._read)} folds, and the protocol {count}; how many cv10 and legacy-cv10 "
                "have is protocol.folds"
            )
        named = sum(len(fold.test) for fold in self._read)
        if num_graphs is not None and named != num_graphs:
            raise PoolBenchError(f"{self._said} names {named} graphs, and the dataset has {num_graphs}")
        return self._read

    @property
    def _said(self) -> str:
        return f"protocol.folds_file={self.given}"

    @cached_property
    def _read(self) -> list[Fold]:
        if by_content(self.given) and not self.path.is_file():
            raise NotHere(
                f"{self._said}: no file with this SHA-256 is in {self.path.parent}; a command with "
                "protocol.folds_file=PATH, of the file itself, keeps it there"
            )
        content = _bytes(self.path, self._said)
        if by_content(self.given) and hashlib.sha256(content).hexdigest() != self.given:
            raise PoolBenchError(f"{self.path} is damaged: its SHA-256 is not its name; remove it")
        return _parsed(content, self._said)


def by_content(given: str) -> bool:
    """Whether a file is known by what it holds: the 64 digits of its SHA-256."""
    return _DIGITS.fullmatch(given) is not None


def keep(given: str, data: str | Path | None = None) -> str:
    """Check an index file and keep a copy in the cache; returns the 64 digits that it is known by from there on.

    Args:
        given: its path; digits are given back. data: see `IndexFile`.

    Raises `PoolBenchError` for what is no such file, and for a cache that cannot be written to.
    """
    if by_content(given):
        return given
    content = _bytes(Path(given), f"protocol.folds_file={given}")
    _parsed(content, f"protocol.folds_file={given}")
    digits = hashlib.sha256(content).hexdigest()
    path = _kept(digits, data)
    if not path.is_file():
        with writing(cache_dir(data)):
            path.parent.mkdir(parents=True, exist_ok=True)
            put(path, content)
    return digits


def _kept(digits: str, data: str | Path | None) -> Path:
    return cache_dir(data) / COLLECTION / f"{digits}.json"


def _bytes(path: Path, said: str) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe waits for ever, and /dev/zero has no end
            raise ValueError("it is no file")
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
        return content
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise PoolBenchError(f"{said} cannot be read ({one_line(error)}); expected {_FORM}") from error


def _parsed(content: bytes, said: str) -> list[Fold]:
    try:
        folds = msgspec.json.decode(content, type=list[Fold])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PoolBenchError(f"{said} cannot be read ({one_line(error)}); expected {_FORM}") from error
    _check(folds, said)
    return folds


def _check(folds: list[Fold], said: str) -> None:
    """Each graph in exactly one test part; of each fold that says more, in exactly one part."""
    tested: dict[int, int] = {}
    for number, fold in enumerate(folds):
        if not fold.test:
            raise PoolBenchError(f"{said}: fold {number} has no graph in its test part; folds are counted from 0")
        for graph in fold.test:
            if graph in tested:
                raise PoolBenchError(
                    f"{said}: graph {graph} is in the test parts of the folds {tested[graph]} and {number}; each "
                    "graph in exactly one is expected"
                )
            tested[graph] = number
    lacks = next((graph for graph in range(len(tested)) if graph not in tested), None)
    if lacks is not None:
        raise PoolBenchError(
            f"{said}: graph {lacks} is in no test part, and graph {max(tested)} is; {len(tested)} graphs are counted "
            f"from 0 to {len(tested) - 1}"
        )
    for number, fold in enumerate(folds):
        for inner in fold.model_selection[:1]:
            if not inner.train or not inner.validation:
                lacking = "validate" if inner.train else "train"
                raise PoolBenchError(f"{said}: fold {number} has no graph to {lacking} on; folds are counted from 0")
            counts = Counter([*fold.test, *inner.train, *inner.validation])
            wrong = next((graph for graph in range(len(tested)) if counts[graph] != 1), max(counts))
            if counts[wrong] != 1 or wrong >= len(tested):
                raise PoolBenchError(
                    f"{said}: fold {number} has graph {wrong} in it {counted(counts[wrong], 'time')}; each of the "
                    f"graphs 0 to {len(tested) - 1} once in train, validation or test is expected"
                )
