"""`poolbench equivalent`: shows by witnesses, run again, that other versions of the code come to what this one does.

A version of the code, with an operator, its model template and protocol, is a group. Some of its records are run again
with the installed code (`audit.witnesses` says which) and compared (`audit.verdict`). Where all tell the same, a link
is added to the results folder, and the records of the group count as those of the installed version from then on. A
group with a witness that could not be run is not linked: what cannot be shown here was not shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poolbench.audit.oldcode import elsewhere
from poolbench.audit.showing import STATES, State, show
from poolbench.audit.trust import Trust
from poolbench.audit.witnesses import Effort, Group, groups
from poolbench.errors import PoolBenchError, printable
from poolbench.jobs.launcher import share_cores
from poolbench.jobs.sweep import duration
from poolbench.records.equivalence import COST, EPOCHS, Links
from poolbench.records.gathered import gather
from poolbench.records.record import Record
from poolbench.records.version import installed_code
from poolbench.report.report import answering


def equivalent(
    results: Path,
    words: Sequence[str] = (),
    *,
    paths: Mapping[str, Any],
    jobs: int | None = 1,
    cost: float = COST,
    epochs: int = EPOCHS,
    plan: bool = False,
    close: bool = False,
    old_code: bool = False,
    repository: Path | None = None,
    trust: Trust | None = None,
) -> int:
    """Link the versions of the code among the records of a results folder to the installed one; returns the exit code:
    1 where a group that has records to show it by is not linked.

    Args:
        words: which records, KEY=VALUE as in `poolbench report`. paths: `data` and `mirror`. jobs: processes at once.
        cost: seconds that a witness may take. epochs: so many of the first are compared where a record has digests of
            them; 0: all, and the numbers at the end. plan: say what would be done, and stop.
        close: link those that are merely close, too; every witness is run to its end.
        old_code: run the old version here as well, although the records were made on such a machine.
        repository: that has the commits of old versions; None: the checkout that the package is the source of.
        trust: what records may ask for; None: what PoolBench has.

    Raises:
        PoolBenchError: no records, words that none answers, numbers out of range, or links that were edited.
    """
    if not cost > 0 or epochs < 0:
        raise PoolBenchError(f"cost={cost} epochs={epochs}: seconds above 0 and a number of epochs are expected")
    links = Links.read(results)
    if links.broken:
        raise PoolBenchError(links.broken)
    records = answering(gather(results), words, lambda record: record)
    effort = Effort(cost, epochs or None, close, lambda record: old_code or elsewhere(record))
    todo = groups(records, links, installed_code, effort)
    count = share_cores(jobs, 1, max(sum(len(group.witnesses) for group in todo), 1))
    print("\n".join(map(printable, planned(records, todo, effort, count).split("\n"))), flush=True)
    if plan:
        return 0
    states = show(todo, results, paths, effort, count, trust or Trust(), repository)
    print(summary(results, records, states))
    return int(any(state != "linked" for group, state in states if group.witnesses))


# ----------------------------------------------------------------------------------------------------------- the plan


def planned(records: Sequence[Record], todo: Sequence[Group], effort: Effort, count: int) -> str:
    """What is to be shown, by which witnesses, and about how long that takes; a line each group."""
    lines = [_planned(group, effort) for group in todo]
    witnesses = [record for group in todo for record in group.witnesses]
    others = sum(len(group.records) for group in todo)
    seconds = sum(map(effort.seconds, witnesses))
    longest = max(map(effort.seconds, witnesses), default=0.0)
    lines.append(
        f"{_count(others, 'record')} of {len(records):,} are of other versions of the code, in "
        f"{_count(len(todo), 'group')}; {_count(len(witnesses), 'witness')}, {duration(seconds)} in all, about "
        f"{duration(max(seconds / count, longest))} with --jobs {count}"
    )
    commits = {str(record.provenance.git)[:12] for record in witnesses if effort.both(record)}
    if commits:
        lines.append(f"the old version is run here, too, from a worktree of {', '.join(sorted(commits))}")
    return "\n".join(lines)


def _planned(group: Group, effort: Effort) -> str:
    records = _count(len(group.records), "record")
    if not group.witnesses:
        return f"{group}: {records}, none of which is done: nothing can be shown"
    notes = [f"no witness of {name} ({duration(seconds)} or more)" for name, seconds in group.unseen]
    notes += [f"all take longer than {duration(effort.cost)}: these are the cheapest"] * group.over
    witnesses = _count(len(group.witnesses), "witness")
    return "; ".join([f"{group}: {records}, {witnesses}, {duration(group.seconds(effort))}", *notes])


def _count(number: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{plural if number != 1 else ''}"


def summary(results: Path, records: Sequence[Record], states: Sequence[tuple[Group, State]]) -> str:
    """The table at the end: what became of the groups and their records, and how many records are current."""
    counts = Counter(state for _, state in states)
    of = Counter({state: sum(len(group.records) for group, its in states if its == state) for state in STATES})
    lines = [f"{'':<10}{'groups':>8}{'records':>9}"]
    lines += [f"{state:<10}{counts[state]:>8,}{of[state]:>9,}" for state in STATES]
    links = Links.read(results)
    current = sum(links.of(record, installed_code(record.config)) is not None for record in records)
    lines.append(f"{current:,} of {_count(len(records), 'record')} count as made by the installed code")
    return "\n".join(lines)
