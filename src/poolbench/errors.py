"""The errors that a user can cause, and the text that helps to mend them.

Everything that a person can get wrong (a name, a number, a file, a permission) is raised as one of these two, with
one line that names the input, says what was expected and what to do. The command line prints that line and ends
with `exit_code`; whoever calls the library catches an ordinary exception.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from numbers import Real
from typing import Any


class PoolBenchError(Exception):
    """Bad input, found before any work was done with it."""

    exit_code = 2


class RunError(PoolBenchError):
    """A failure while running, of input that was sound: out of memory, a loss that is not a number, a full disk."""

    exit_code = 1


class RunFailed(RunError):
    """A run that failed and left a record that says why.

    Args:
        id: of the run.
    """

    def __init__(self, message: str, id: str) -> None:
        super().__init__(message)
        self.id = id


def one_line(error: object) -> str:
    """What an error says, on one line."""
    return printable(" ".join(str(error).split()))


def printable(text: object) -> str:
    """Text from outside for a terminal or a file of lines: white space becomes spaces, and what is no character to be
    seen (control characters, half characters, those that turn the direction of text) is written out, as \\x1b."""
    said = re.sub(r"\s", " ", str(text))
    if said.isprintable():
        return said
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in said)


def whole(name: str, value: Any, least: int = 1) -> int:
    """`value` of the argument `name` as an int; ValueError where it is no whole number of at least `least`."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or value % 1 != 0 or value < least:
        raise ValueError(f"{name}={value!r}: a whole number of at least {least} is expected")
    return int(value)


def nearest(name: str, choices: Iterable[str], n: int = 3, prefix: str = "") -> str:
    """' (did you mean X, Y?)' with the at most `n` choices closest to `name`, or '' where none is close.

    Case does not count, so that `proteins` finds `PROTEINS`. Each is shown with `prefix` before it.
    """
    by_key: dict[str, list[str]] = {}
    for choice in choices:
        by_key.setdefault(choice.lower(), []).append(choice)
    keys = difflib.get_close_matches(name.lower(), list(by_key), n=n, cutoff=0.6)
    found = [choice for key in keys for choice in by_key[key]][:n]
    return f" (did you mean {', '.join(prefix + choice for choice in found)}?)" if found else ""
