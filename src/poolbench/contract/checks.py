"""What a check of the contract is, which there are, and how they are done."""

from __future__ import annotations

import importlib
import inspect
import itertools
import linecache
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from poolbench.contract.subject import SIZES, Inapplicable, Subject, answer, graphs
from poolbench.errors import PoolBenchError, one_line
from poolbench.pool.base.selection import Selection

MODULES = ("modes", "numbers", "results", "modules")
"""The modules of this package with checks, in the order in which they are done."""
KINDS = ("operator", "pool", "readout")
"""What the first parameter of a check may be called, and so whom it is for: both, or one of them."""
LONGEST = 200
"""Of what went wrong, in a line."""


@dataclass(frozen=True)
class Check:
    """One thing that operators keep to.

    function: (subject, **case), raises where it does not hold. kind: one of `KINDS`. remedy: what to do then. cases:
    the values of its further parameters.
    """

    function: Callable[..., None]
    kind: str
    remedy: str
    cases: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        return self.function.__name__

    def is_for(self, subject: Subject) -> bool:
        return self.kind == "operator" or subject.is_readout == (self.kind == "readout")


@dataclass(frozen=True)
class Result:
    """What came of a check. failed: of each case that failed, what went wrong. inapplicable: why it was not done."""

    check: Check
    failed: tuple[str, ...]
    inapplicable: str | None

    def __str__(self) -> str:
        said = self.check.name.replace("_", " ")
        if self.failed:
            more = f" (and {len(self.failed) - 1} more)" if len(self.failed) > 1 else ""
            return f"failed  {said}: {self.failed[0]}{more}; {self.check.remedy}"
        return f"-       {said}: {self.inapplicable}" if self.inapplicable else f"ok      {said}"


_CHECKS: list[Check] = []


def check(remedy: str, **values: Sequence[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a check. remedy: what to do where it fails. values: of each further parameter; all combinations
    are cases."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        kind, *rest = inspect.signature(function).parameters
        assert kind in KINDS and set(rest) == set(values), function.__name__
        cases = tuple(dict(zip(values, each, strict=True)) for each in itertools.product(*values.values()))
        _CHECKS.append(Check(function, kind, remedy, cases))
        return function

    return add


def checks() -> tuple[Check, ...]:
    """All of them, module by module, whichever was imported first."""
    names = [importlib.import_module(f"poolbench.contract.{name}").__name__ for name in MODULES]
    return tuple(sorted(_CHECKS, key=lambda each: names.index(each.function.__module__)))


def case_name(case: Mapping[str, Any]) -> str:
    """A case in words, such as directed=True, dtype=float16."""
    return ", ".join(f"{key}={str(value).removeprefix('torch.')}" for key, value in case.items())


def done(subject: Subject) -> Iterator[Result]:
    """Hold an operator to every check that is for it. Raises `PoolBenchError` where Python leaves assertions out."""
    if not __debug__:
        raise PoolBenchError("python -O leaves assertions out, and with them every check: run it without -O")
    for each in checks():
        if each.is_for(subject):
            yield _result(each, subject)


def first_call(subject: Subject) -> str | None:
    """What goes wrong when an operator is called on a few graphs, in a line; None: nothing.

    What fails here fails in most checks, and their remedies would lead astray.
    """
    module, returned = subject.make(), [object]
    if not subject.is_readout:
        select = module.select

        def watched(*arguments: Any, **keywords: Any) -> Any:
            made = select(*arguments, **keywords)
            returned.append(type(made))
            return made

        module.select = watched
    try:
        answer(subject, module, graphs(*SIZES))
    except (Exception, SystemExit) as error:  # whatever somebody's operator raises
        if not issubclass(returned[-1], Selection | Tensor) and returned[-1] is not object:
            return f"its select returns {returned[-1].__name__}, where a Selection (poolbench.pool.base) is expected"
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == inspect.getsourcefile(subject.cls)] or frames
        line = f"{Path(own[-1].filename).name}, line {own[-1].lineno}: {own[-1].line}"
        return f"a call on {len(SIZES)} graphs raises {_said(error)} ({one_line(line)})"
    return None


def _result(one: Check, subject: Subject) -> Result:
    failed: list[str] = []
    inapplicable = None
    for case in one.cases:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                one.function(subject, **case)
        except Inapplicable as reason:
            inapplicable = str(reason)
        except (Exception, SystemExit) as error:  # whatever somebody's operator raises
            said = case_name(case)
            failed.append(f"{said}: {_said(error)}" if said else _said(error))
    return Result(one, tuple(failed), inapplicable)


def _said(error: BaseException) -> str:
    """What went wrong, in one line: the message, or of a bare assertion the line of code."""
    said = one_line(error) if not isinstance(error, AssertionError) else one_line(error) or _line(error)
    if not isinstance(error, AssertionError):
        said = f"{type(error).__name__}: {said}"
    said = said.rstrip(".")
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 3]}..."


def _line(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return one_line(linecache.getline(frame.filename, frame.lineno or 0).strip()) or "it does not hold"


@contextmanager
def raises(kind: type[Exception], match: str) -> Iterator[None]:
    """AssertionError where the block does not raise such an error whose message has `match` in it."""
    try:
        yield
    except kind as error:
        assert re.search(match, str(error)), f"{match!r} is not in {one_line(error)!r}"
        return
    raise AssertionError(f"{kind.__name__} is expected, and nothing was raised")
