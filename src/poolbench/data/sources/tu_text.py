"""The text files of the TU format: numbers, a row a line, read fast, and refused with the line that is at fault.

All lines of a file are parsed and counted at once, as arrays. Only where something is wrong is the file read again line
by line, to say where.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from poolbench.errors import PoolBenchError

Array = np.ndarray[Any, np.dtype[Any]]

LONGEST = 1 << 20
"""Bytes of the longest line that is read: no dataset has a row of that size."""
WHOLE = 2**53
"""Up to which float64 tells whole numbers apart."""

_CHUNK = 1 << 25
_TO_SPACE = bytes.maketrans(b",;\t\r", b"    ")
_INT64 = np.iinfo(np.int64)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class TextFiles:
    """The files NAME_KIND.txt of one dataset in `folder`; `origin` is what messages call the place they came from.

    Every method raises `PoolBenchError` for a malformed file, with its name, the line and what is wrong there. Empty
    lines do not count, numbers stand apart by blanks, tabs, commas or semicolons, and each line has as many as the
    first one.
    """

    def __init__(self, name: str, folder: Path, origin: str) -> None:
        self.name, self.folder, self.origin = name, folder, origin

    def path(self, kind: str) -> Path:
        return self.folder / f"{self.name}_{kind}.txt"

    def error(self, kind: str, what: str) -> PoolBenchError:
        """The error of a whole file."""
        return PoolBenchError(
            f"dataset {self.name}: {self.path(kind).name}{what}; {self.origin} is no sound TU dataset, "
            "replace it by the official one"
        )

    def at(self, kind: str, row: int, what: str, column: int | None = None) -> PoolBenchError:
        """The error of row `row` from 0, empty lines not counted; with `column`, of the number that stands there."""
        for seen, (line, words) in enumerate(self._lines(kind)):
            if seen == row:
                return self._on(kind, line, what if column is None else f"{_shown(words[column])} {what}")
        return self.error(kind, f" {what}")

    def integers(self, kind: str, columns: int | None = None, required: bool = False) -> Any:
        """[lines, columns] int64, or None where there is no such file."""
        if required and not self.path(kind).is_file():
            raise self.error(kind, " is missing")
        return self._rows(kind, np.int64, columns)

    def floats(self, kind: str) -> Array | None:
        """[lines, columns] float32, all finite, or None where there is no such file."""
        rows = self._rows(kind, np.float64)
        if rows is None:
            return None
        self._refuse(kind, ~(np.abs(rows) <= _FLOAT32_MAX))
        return rows.astype(np.float32)

    def numbers(self, kind: str) -> Array | None:
        """[lines, columns] float64, NaN where a number is not known, or None where there is no such file."""
        rows = self._rows(kind, np.float64)
        if rows is not None:
            self._refuse(kind, np.abs(rows) > _FLOAT32_MAX)
        return rows

    def last_labels(self, kind: str) -> Array | None:
        """[lines, 1] int64, the last label of each line `time, label, time, label, ...`; None without such a file."""
        if not self.path(kind).is_file():
            return None
        labels = []
        for line, words in self._lines(kind):
            if len(words) % 2:
                raise self._on(kind, line, f"{len(words)} numbers, expected pairs of a time and a label")
            for place, word in enumerate(words):
                check = _is_whole if place % 2 else _is_number
                if not check(word):
                    raise self._on(kind, line, f"{_shown(word)} is no {'label' if place % 2 else 'time'}")
            labels.append(_whole(words[-1]))
        return np.array(labels, dtype=np.int64)[:, None]

    def chunks(self, kind: str, dtype: type, columns: int | None = None) -> Iterator[Array]:
        """The file in pieces of whole lines, [lines, columns] each: the whole text would be the peak of memory."""
        try:
            with open(self.path(kind), "rb") as file:
                rest = b"\n"  # each line with the end of the one before it, the first one too
                while block := file.read(_CHUNK):
                    head, newline, tail = (rest + block.translate(_TO_SPACE)).rpartition(b"\n")
                    rest = newline + tail
                    if len(rest) > LONGEST:
                        raise self._first_fault(kind, dtype, columns)
                    if head and not head.isspace():
                        rows = self._table(kind, head, dtype, columns)
                        columns = rows.shape[1]
                        yield rows
                if not rest.isspace():
                    yield self._table(kind, rest, dtype, columns)
        except OSError as error:
            raise self.error(kind, f" cannot be read ({error.strerror})") from error

    def _rows(self, kind: str, dtype: type, columns: int | None = None) -> Array | None:
        if not self.path(kind).is_file():
            return None
        chunks = list(self.chunks(kind, dtype, columns))
        return np.concatenate(chunks) if chunks else np.zeros((0, columns or 1), dtype=dtype)

    def _table(self, kind: str, text: bytes, dtype: type, columns: int | None) -> Array:
        shape, values = _shape(text, columns), _values(text, dtype)
        if shape is None or values is None or values.size != shape[0] * shape[1]:
            raise self._first_fault(kind, dtype, columns)
        return values.reshape(shape)

    def _refuse(self, kind: str, wrong: Array) -> None:
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            raise self.at(kind, row, "is no finite number of 32 bits", column)

    # ------------------------------------------------------------ line by line, once something is wrong

    def _on(self, kind: str, line: int, what: str) -> PoolBenchError:
        return self.error(kind, f", line {line}: {what}")

    def _lines(self, kind: str) -> Iterator[tuple[int, list[bytes]]]:
        """The number, from 1, and the words of each line that has some."""
        try:
            with open(self.path(kind), "rb") as file:
                for number, text in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
                    if len(text) == LONGEST:
                        raise self._on(kind, number, f"it has {LONGEST} bytes or more, which no row of a dataset has")
                    if words := text.translate(_TO_SPACE).split():
                        yield number, words
        except OSError as error:
            raise self.error(kind, f" cannot be read ({error.strerror})") from error

    def _first_fault(self, kind: str, dtype: type, columns: int | None) -> PoolBenchError:
        check, what = (_is_whole, "whole number of 64 bits") if dtype is np.int64 else (_is_number, "number")
        for line, words in self._lines(kind):
            columns = columns or len(words)
            if len(words) != columns:
                return self._on(kind, line, f"{len(words)} numbers, expected {columns}")
            for word in words:
                if not check(word):
                    return self._on(kind, line, f"{_shown(word)} is no {what}")
        return self.error(kind, " holds something that is no number")


def _shape(text: bytes, columns: int | None) -> tuple[int, int] | None:
    """Lines and words a line of a text in which an end of line stands before each line; None where lines differ."""
    codes = np.frombuffer(text, dtype=np.uint8)
    gap = codes <= 32
    words, lines = np.flatnonzero(gap[:-1] > gap[1:]), np.flatnonzero(codes == 10)
    if not words.size:
        return None
    if columns is None:
        second = np.searchsorted(lines, words[0], side="right")
        columns = int(np.searchsorted(words, lines[second])) if second < lines.size else words.size
    if words.size == lines.size * columns:
        within = (words[::columns] >= lines).all() and (words[columns - 1 :: columns][:-1] < lines[1:]).all()
        return (lines.size, columns) if within else None
    counts = np.bincount(np.searchsorted(lines, words, side="right"))
    counts = counts[counts > 0]
    return (counts.size, columns) if (counts == columns).all() else None


def _values(text: bytes, dtype: type) -> Array | None:
    """All numbers of a text, [n]; None where something is no such number."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # how numpy < 2.3 says what later ones raise
            values: Array = np.fromstring(text, dtype=dtype, sep=" ")
    except (ValueError, DeprecationWarning):
        if dtype is not np.int64:
            return None
        floats = _values(text, np.float64)  # some files write whole numbers as 1.0
        if floats is None or not ((floats == np.rint(floats)) & (np.abs(floats) <= WHOLE)).all():
            return None
        return floats.astype(np.int64)
    if dtype is np.int64 and values.size:
        # What is beyond int64 is read as its nearest number, and a sign alone as 0.
        beyond = values.max() == _INT64.max or values.min() == _INT64.min
        if beyond or ((b"-" in text or b"+" in text) and _lone_sign(text)):
            return None
    return values


def _lone_sign(text: bytes) -> bool:
    codes = np.frombuffer(text, dtype=np.uint8)
    after = np.append(codes[1:], 10)[(codes == ord("-")) | (codes == ord("+"))]
    return bool(((after < ord("0")) | (after > ord("9"))).any())


def _whole(word: bytes) -> int:
    """Raises `ValueError` or `OverflowError` where a word is no whole number."""
    if b"_" in word:
        raise ValueError(word)
    try:
        return int(word)
    except ValueError:
        value = float(word)
        if abs(value) > WHOLE or value != int(value):
            raise ValueError(word) from None
        return int(value)


def _is_whole(word: bytes) -> bool:
    try:
        return _INT64.min < _whole(word) < _INT64.max
    except (ValueError, OverflowError):
        return False


def _is_number(word: bytes) -> bool:
    try:
        float(word)
        return b"_" not in word
    except ValueError:
        return False


def _shown(word: bytes) -> str:
    return repr(word[:40].decode("ascii", "backslashreplace"))
