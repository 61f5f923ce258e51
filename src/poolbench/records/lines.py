"""Files of lines that are only added to: what is no line costs itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from poolbench.disk import put
from poolbench.errors import printable

log = logging.getLogger(__name__)

T = TypeVar("T")

_warned: set[str] = set()


def read(path: Path, decoded: Callable[[bytes], T], what: str, broken: list[str] | None = None) -> Iterator[T]:
    """What each line of a file holds, as `numbered`."""
    yield from (value for _, value in numbered(path, decoded, what, broken))


def numbered(
    path: Path, decoded: Callable[[bytes], T], what: str, broken: list[str] | None = None
) -> Iterator[tuple[int, T]]:
    """The number of each line, from 1, and what it holds. A line that holds none is left out: it costs a warning, the
    first time that this process reads it, and is added to `broken`.

    Args:
        decoded: of a line; raises ValueError. what: a line is, for people.
    """
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = decoded(line)
        except (ValueError, RecursionError) as error:
            said = f"{path}, line {number}: not {what} ({printable(error)})"
            warn_once(f"{said}: it is left out")
            if broken is not None:
                broken.append(said)
            continue
        yield number, value


def warn_once(said: str) -> None:
    """A warning that this process has not given yet: files of records are read several times by one command."""
    if said not in _warned:
        _warned.add(said)
        log.warning("%s", said)


def add(path: Path, lines: bytes) -> None:
    """Add whole lines to a file, in one step, behind a line that was cut off too. Raises `OSError`."""
    before = path.read_bytes() if path.is_file() else b""
    put(path, before + (b"" if before.endswith(b"\n") or not before else b"\n") + lines)
