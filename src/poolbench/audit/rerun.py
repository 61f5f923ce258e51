"""`poolbench rerun`: a recorded run once more, and whether it comes to the same."""

from __future__ import annotations

import math
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolbench.audit.trust import Trust
from poolbench.config import read
from poolbench.errors import PoolBenchError, RunError, RunFailed, nearest
from poolbench.records.attempts import attempts_of, iter_records
from poolbench.records.changes import upgrade
from poolbench.records.digests import unpack
from poolbench.records.equivalence import Links
from poolbench.records.forgotten import Forgotten
from poolbench.records.frame import flatten
from poolbench.records.gathered import gather
from poolbench.records.identity import EXECUTION_KEYS, without
from poolbench.records.record import Record, read_record
from poolbench.records.version import installed_code
from poolbench.report.board import value_at

#: How far the metrics of a run on another machine, or with other packages, may be apart: rounding differs there, and
#: training multiplies it. 3 points is what the tables take for agreement with a published value.
TOLERANCE = 0.03
GROUPS = ("pool", "model", "dataset", "protocol")
#: Keys with a word or number, or with a mapping, in its place.
WHOLE = ("loss_weights", "loss_ramp", "model.mp", "model.readout")


@dataclass(frozen=True)
class Verdict:
    """Whether a run came to the same again."""

    same: bool
    lines: tuple[str, ...]


def find(what: str, results: Path) -> Record:
    """The record that a file or a run's id means; of several attempts the last that is done.

    Raises `PoolBenchError` where there is none.
    """
    path = Path(what)
    if path.is_file():
        try:
            return read_record(path)
        except RunError as error:
            raise PoolBenchError(str(error)) from error
    records = [record for _, record in attempts_of(results, what)] or gather(results)
    named = [record for record in records if what == record.id] or [r for r in records if what == r.setting]
    if not named and Forgotten.read(results).of(what):
        raise PoolBenchError(f"run {what} is forgotten: poolbench forget --undo {what} brings it back")
    if not named:
        known = [record.id for record in records]
        raise PoolBenchError(f"{results} holds no run {what}{nearest(what, known)}; give its id or a record.json")
    return ([record for record in named if record.done] or named)[-1]


# ---------------------------------------------------------------------------------------------------------- the command


def command(record: Record, compose: Callable[[list[str]], dict[str, Any]], options: Sequence[str] = ()) -> str | None:
    """The command that makes a run again; None for one that a search chose, which no command makes alone.

    Args:
        compose: the configuration that the words of a command line make, as a record holds it. options: of the command.
    """
    config = upgrade(record.config)
    if config.get("search"):
        return None
    names = config.get("names") or {}
    groups = [f"{group}={names[group]}" for group in GROUPS if _is_choice(group, names.get(group), compose)]
    if not any(word.startswith("pool=") for word in groups):
        groups.insert(0, "pool=none")  # an operator of one's own is set by its class, on a choice without arguments
    wanted, made = _values(config), _values(compose(groups))
    words = [f"{'' if key in made else '+'}{key}={_word(value)}" for key, value in wanted.items()
             if key not in made or made[key] != value]  # fmt: skip
    words += [f"~{key}" for key in made if key not in wanted]
    return shlex.join(["poolbench", "train", *options, *groups, *words])


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run, by dotted key; what may be a word or a mapping is one value."""
    own = without(config, [*EXECUTION_KEYS, "search", *WHOLE])
    whole = {key: value_at(config, key) for key in WHOLE}
    return flatten(own) | {key: value for key, value in whole.items() if value is not None}


def _is_choice(group: str, name: Any, compose: Callable[[list[str]], dict[str, Any]]) -> bool:
    """Whether there is such a choice: an operator of one's own goes by the name of its class."""
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", str(name)):  # a file elsewhere, or further words for Hydra
        return False
    try:
        compose([f"{group}={name}"])
    except Exception:  # whatever Hydra says to a name that it does not know
        return False
    return True


def _word(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_word, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_word(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str) and not all(c.isalnum() or c in "_-./:+%@" for c in value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)


# -------------------------------------------------------------------------------------------------------------- the run


def differences(record: Record, here: Mapping[str, Any], links: Links | None = None) -> list[str]:
    """What is not as it was: code, packages, machine; a line each.

    Args:
        here: the provenance of this machine (`provenance.provenance()`). links: which versions of the code come to the
            same.
    """
    then, now = record.provenance, installed_code(record.config)
    found = []
    if (links or Links()).of(record, now) != "same":
        found.append(f"code: the record was made by version {then.code or 'unknown'}, and {now} is installed")
    other = [f"{name} {was} (here {here['packages'].get(name)})" for name, was in sorted(then.packages.items())
             if was != here["packages"].get(name)]  # fmt: skip
    if other:
        found.append("packages: " + ", ".join(other))
    # Records from before do not say the generation of the CPU.
    facts = ("cpu", "gpus", "platform", *({"cpu_generation"} & then.hardware.keys()))
    if any(then.hardware.get(key) != here["hardware"][key] for key in facts):
        found.append(f"machine: {_machine(then.hardware)}; here {_machine(here['hardware'])}")
    return found


def _machine(hardware: Mapping[str, Any]) -> str:
    return ", ".join(
        str(part)
        for part in (
            *(hardware[key] for key in ("cpu", "cpu_generation") if key in hardware),
            *(hardware.get("gpus") or []),
            hardware.get("platform"),
        )
    )


def rerun(
    record: Record,
    paths: Mapping[str, Any],
    out: Path | None = None,
    links: Links | None = None,
    trust: Trust | None = None,
) -> Verdict:
    """Do a run again, as another attempt, and compare.

    Args:
        paths: `data` and `mirror`. out: the results folder of the new record; None: a temporary one. links: which
            versions of the code come to the same. trust: what the record may ask for; None: what PoolBench has.

    Raises:
        PoolBenchError: a run that cannot, or must not, be done again here. RunError: it could not be done this time.
    """
    from poolbench.jobs.run import run
    from poolbench.records.provenance import provenance

    if record.status == "pruned":
        raise PoolBenchError(
            f"run {record.id} was pruned by the other trials of its search: there is no such run alone"
        )
    trust = trust or Trust()
    trust.check(record.config)
    exact = not differences(record, provenance(), links)
    with _folder(out) as results:
        where = {"paths": {**paths, "results": str(results)}, "force": True, "logger": None}
        config = read({**upgrade(record.config), **where})
        trust.check_size(config)
        try:
            again = run(config, wait=-1.0)
        except RunFailed as error:
            (again,) = [r for _, r in iter_records(results) if r.id == error.id][-1:]
    return compare(record, again, exact)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="poolbench-rerun-") as made:
        yield Path(made)


# ---------------------------------------------------------------------------------------------------------- the verdict


def compare(old: Record, new: Record, exact: bool) -> Verdict:
    """Whether two records of a run tell the same.

    Args:
        exact: by bits; else metrics within `TOLERANCE`, and whatever came of the run.
    """
    if old.status != new.status:
        return Verdict(False, (f"differs: {old.status} then, {new.status} now ({new.reason or 'no reason'})",))
    if old.splits.hash != new.splits.hash:
        return Verdict(False, ("differs: the dataset or its split is another one: nothing can be compared",))
    apart = [(name, a, b) for name, a, b in _pairs(old, new, exact) if not _equal(a, b)]
    if exact:
        if not apart:
            return Verdict(True, ("same: every number has the same bits",))
        return Verdict(False, tuple(f"differs: {name} {a} then, {b} now" for name, a, b in apart[:10]))
    far = [(name, a, b) for name, a, b in apart if not _near(a, b)]
    if far:
        return Verdict(False, tuple(f"differs: {name} {a} then, {b} now" for name, a, b in far[:10]))
    worst = max((abs(a - b) for _, a, b in apart), default=0.0)
    if not apart:
        return Verdict(True, ("same: every metric has the same bits, although not all is as it was",))
    return Verdict(True, (f"same within {TOLERANCE}: metrics are at most {worst:.2g} apart (the same bits are promised "
                          "for the same code, packages and machine alone)",))  # fmt: skip


def _pairs(old: Record, new: Record, exact: bool) -> list[tuple[str, Any, Any]]:
    """What is compared, by name. Time and memory are not; nor is a curve that the old record was stripped of."""
    then, now = flatten(old.metrics.parts()), flatten(new.metrics.parts())
    pairs = [(name, then.get(name), now.get(name)) for name in sorted({*then, *now})]
    if not exact:
        return pairs
    pairs += [("selected_epoch", old.selected_epoch, new.selected_epoch)]
    pairs += [("parameters", old.parameters, new.parameters)]
    if old.curve:
        pairs += [("number of epochs", len(old.curve), len(new.curve))]
        for epoch, (a, b) in enumerate(zip(old.curve, new.curve, strict=False), 1):
            pairs += [(f"{name} in epoch {epoch}", a.get(name), b.get(name)) for name in sorted({*a, *b})
                      if not name.startswith("time")]  # fmt: skip
    elif old.digests:
        mine, other = ([digest.hex() for digest in unpack(r.digests or "")] for r in (old, new))
        pairs += [("number of epochs", len(mine), len(other))]
        pairs += [(f"digest of epoch {n}", a, b) for n, (a, b) in enumerate(zip(mine, other, strict=False), 1)]
    return pairs


def _equal(a: Any, b: Any) -> bool:
    return a == b or (_nan(a) and _nan(b))


def _nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _near(a: Any, b: Any) -> bool:
    if not isinstance(a, int | float) or not isinstance(b, int | float):
        return False
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a))
