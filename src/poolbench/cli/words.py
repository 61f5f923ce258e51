"""What is wrong with the words of a command line that Hydra would say late, at length, or not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString, RangeSweep

from poolbench.cli.folders import groups
from poolbench.cli.names import choices, some
from poolbench.errors import PoolBenchError, nearest

ONE = ("pool", "network", "tuned", "model", "dataset", "protocol", "optimizer", "scheduler", "trainer", "perturb")
"""Groups of which there is one choice: of a list Hydra would take the last, with what the others have beside it."""
MOST = 100_000
"""Jobs of a sweep: the books of more are nobody's to read, and Hydra would hold all of them in memory."""


def parsed(words: Sequence[str]) -> list[Override]:
    """The words as Hydra reads them. Raises what Hydra raises, and `PoolBenchError` for what it would stumble over."""
    found: list[Override] = OverridesParser.create().parse_overrides(list(words))
    own = {f"names.{word.key_or_group.removesuffix('._target_')}" for word in found
           if word.key_or_group.endswith("._target_")}  # fmt: skip
    for word in found:
        _check(word, own)
    return found


def _check(word: Override, own: Set[str]) -> None:
    """own: the names that may be given, since the class that they are of is given."""
    key, said = word.key_or_group, word.input_line
    if not key:
        raise PoolBenchError(f"{said}: a key is expected before =")
    if key == "names" or (key.startswith("names.") and key not in own):
        raise PoolBenchError(
            f"{said}: names say what was chosen of each group; choose with pool=, model= and the like, or give a class "
            "of your own beside it, as in names.pool=mine pool._target_=my_module.MyPool"
        )
    if (key in groups() or "/" in key) and not word.is_delete():
        value: Any = word.value()
        given = value.list if isinstance(value, ChoiceSweep) else [value]
        if not all(map(_names, given)) or (key in ONE and any(isinstance(each, list) for each in given)):
            raise PoolBenchError(f"{said}: the name of a choice is expected{some(choices(key))}")
        if key == "tuned":  # of which Hydra leaves out in silence what is not there
            for name in map(str, given):
                if "${" not in name and name not in (known := choices(key)):
                    raise PoolBenchError(
                        f"{said}: no values were tuned for {name}{nearest(name, known) or some(known)}"
                    )
    if key == "hydra/launcher" and word.value() not in (known := choices(key)):
        raise PoolBenchError(f"{said}: this hydra/launcher is none of PoolBench's{some(known)}")
    if key == "hydra.sweeper.max_batch_size" and not (word.value() is None or _counts(word.value())):
        raise PoolBenchError(f"{said}: a whole number of at least 1 or null is expected")
    if key.startswith("hydra.sweeper.params"):
        raise PoolBenchError(f"{said}: values of a sweep are words of their own, as in -m seed=1,2")
    if key in ("hydra.sweeper._target_", "hydra.launcher._target_"):
        raise PoolBenchError(f"{said}: choose with hydra/launcher={some(choices('hydra/launcher'))}")
    if key == "hydra" and not word.is_delete():
        raise PoolBenchError(f"{said}: keys of Hydra are set one by one, as in hydra.sweep.dir=FOLDER")


def _names(value: Any) -> bool:
    """Whether a value can name a choice, or several, as in logger=[csv,tensorboard]."""
    name = (str, QuotedString)
    return isinstance(value, (*name, Glob)) or (isinstance(value, list) and all(isinstance(one, name) for one in value))


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def elements(word: Override) -> list[str]:
    """The words of which a sweep takes one after the other; of a range the first and the last alone.

    Raises `PoolBenchError` for a sweep of nothing, and of what cannot be counted.
    """
    count = length(word)
    if not count:
        raise PoolBenchError(f"{word.input_line} gives no value, and so no job")
    key = word.get_key_element()
    if isinstance(word._value, RangeSweep):
        ends = dict.fromkeys((0, count - 1))
        return [f"{key}={_nth(word._value, n)}" for n in ends]
    return [f"{key}={value}" for value in _values(word)]


def length(word: Override) -> int:
    """How many values a word has in a sweep. Raises `PoolBenchError` for what cannot be counted."""
    value: Any = word._value
    if not word.is_sweep_override():
        return 1
    if not word.is_discrete_sweep():
        raise PoolBenchError(f"{word.input_line}: a sweep takes values one by one, as in KEY=a,b or KEY=range(10)")
    if isinstance(value, RangeSweep):
        start, stop, step = value.start or 0, value.stop or 0, value.step
        if not step or not all(map(math.isfinite, (start, stop, step))):
            raise PoolBenchError(f"{word.input_line}: range(START, STOP, STEP) of numbers, STEP not 0, is expected")
        return max(math.ceil((stop - start) / step), 0)
    return len(_values(word))


def _values(word: Override) -> list[str]:
    value: Any = word._value
    if not isinstance(value, Glob):
        return list(word.sweep_string_iterator())
    if word.key_or_group not in groups():
        raise PoolBenchError(f"{word.input_line}: glob chooses among the names of a group, such as pool")
    return value.filter(choices(word.key_or_group))


def _nth(value: RangeSweep, n: int) -> int | float:
    assert value.start is not None
    return value.start + n * value.step


def count(words: Sequence[Override]) -> int:
    """How many jobs the words of a sweep make. Raises `PoolBenchError` for more than `MOST`."""
    jobs = math.prod(map(length, words))
    if jobs > MOST:
        most = max(words, key=length)
        raise PoolBenchError(f"{most.input_line}: {jobs} jobs, and a sweep has at most {MOST}: give fewer values")
    return jobs
