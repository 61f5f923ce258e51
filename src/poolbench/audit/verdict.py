"""Whether a run that was done again by another version of the code came to the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from poolbench.records.digests import CLOCKS, chain, first_difference, unpack
from poolbench.records.equivalence import Witness
from poolbench.records.record import Record, Row
from poolbench.report.board import FRACTIONS
from poolbench.report.leaderboard import dataset_name

LOSS = 1e-3
"""So far may losses of two runs be apart that are `close`."""
RELATIVE = 0.03
"""So far may metrics without bounds, such as an error in units of the target, be apart, by their own size."""

Outcome = Literal["same", "close", "differs"]


@dataclass(frozen=True)
class Verdict:
    """What a witness showed. said: what differed first. witness: what was compared."""

    outcome: Outcome
    said: str
    witness: Witness


@dataclass(frozen=True)
class Difference:
    """A number that two runs do not share: where it stands, its name, and both values; None: not there."""

    where: str
    name: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.name} {_text(self.then)} then, {_text(self.now)} now"


def compare(then: Record, now: Record, epochs: int | None) -> Verdict:
    """Whether `now` tells what `then` does, which was done.

    By bits: each epoch that both have, where `then` has digests; where `now` came to its end, the numbers there, and
    what was answered for each test graph where `then` has that. `close`: metrics within one test graph (those without
    bounds within `RELATIVE`), losses within `LOSS`, and the same selected epoch.

    Args:
        epochs: after so many the run `now` was stopped; None: it was to come to its end.
    """
    shared = _shared(then, now)
    whole = now.done
    witness = Witness(id=then.id, dataset=dataset_name(then), epochs=shared or None, end=whole)
    if broken := _not_comparable(then, now, epochs):
        return Verdict("differs", broken, witness)
    found = [*_epochs(then, now), *((*_end(then, now), *_answers(then, now)) if whole else ())]
    if not found:
        return Verdict("same", "", witness)
    near = whole and all(_near(each, then) for each in _end(then, now))  # single answers may be others
    return Verdict("close" if near else "differs", str(found[0]), witness)


def digests(record: Record) -> str:
    """Those of a record's epochs; empty where it has neither digests nor a curve."""
    return record.digests or chain(record.curve)


def _shared(then: Record, now: Record) -> int:
    """How many epochs both have digests of."""
    return min(len(unpack(digests(record))) for record in (then, now))


def _not_comparable(then: Record, now: Record, epochs: int | None) -> str | None:
    if then.splits.dataset != now.splits.dataset:
        return "the dataset is another one now: its content has another fingerprint"
    if then.splits.hash != now.splits.hash:
        return "the split is another one now"
    if now.status == "failed":
        return f"done then, failed now: {now.reason}"
    if not now.done and len(now.curve) != epochs:
        return f"done then, stopped after {len(now.curve)} epochs now: {now.reason}"
    return None


def _epochs(then: Record, now: Record) -> Iterator[Difference]:
    """The first epoch that is another one, by its digest; and by its first number where that is known."""
    old, new = digests(then), chain(now.curve)
    if not old:
        return
    epoch = first_difference(old, new)
    if epoch is not None:
        yield _first_number(then, now, epoch)
    counts = len(unpack(old)), len(now.curve)
    if epoch is None and (counts[0] < counts[1] or (now.done and counts[0] != counts[1])):
        yield Difference("at the end", "epochs", *counts)


def _first_number(then: Record, now: Record, epoch: int) -> Difference:
    row = then.curve[epoch] if then.curve else then.selected if then.selected_epoch == epoch else None
    where = f"epoch {epoch + 1}"
    for name, a, b in _rows(row, now.curve[epoch]) if row is not None else ():
        if name not in CLOCKS and not equal(a, b):
            return Difference(where, name, a, b)
    a, b = (unpack(text)[epoch].hex() for text in (digests(then), chain(now.curve)))
    return Difference(where, "digest", a, b)


def _end(then: Record, now: Record) -> Iterator[Difference]:
    """What differs of the numbers at the end of a run, that which comes first in a run at first."""
    pairs = [("parameters", then.parameters, now.parameters), ("selected epoch", _number(then), _number(now))]
    for part, mine in then.metrics.parts().items():
        pairs += [(f"{part} {name}", a, b) for name, a, b in _rows(mine, now.metrics.of(part))]
    pairs += _rows(then.losses, now.losses)
    where = "at the end" if now.selected_epoch is None else f"at the selected epoch {_number(now)}"
    for name, a, b in pairs:
        if not equal(a, b):
            yield Difference(where, name, a, b)


def _answers(then: Record, now: Record) -> Iterator[Difference]:
    if then.outcomes is not None and then.outcomes != now.outcomes:
        yield Difference("at the end", "answers for the test part", "these", "others")


def _number(record: Record) -> int | None:
    return None if record.selected_epoch is None else record.selected_epoch + 1


def _rows(a: Row, b: Row) -> list[tuple[str, Any, Any]]:
    return [(name, a.get(name), b.get(name)) for name in dict.fromkeys((*a, *b))]


def equal(a: Any, b: Any) -> bool:
    """The same number; not a number is one, too."""
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def _near(difference: Difference, record: Record) -> bool:
    a, b = difference.then, difference.now
    if isinstance(a, int) or not all(isinstance(value, float) and math.isfinite(value) for value in (a, b)):
        return False
    name = difference.name.rpartition(" ")[2]
    if "loss" in name:
        return abs(a - b) <= LOSS
    if name in FRACTIONS:
        return abs(a - b) <= 1.0001 / max(record.splits.test, 1)  # a quotient is rounded
    return abs(a - b) <= RELATIVE * max(abs(a), abs(b))


def _text(value: Any) -> str:
    return "missing" if value is None else str(value)
