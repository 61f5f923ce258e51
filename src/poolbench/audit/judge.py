"""`poolbench verify --submission`: what a repository of results asks of a folder that a stranger hands in.

In this order: what lies there, before any of it is read; the metadata; the records by themselves and with their splits
and labels (`verify`); that they are of the operator that is named, stripped, and nowhere else; a share of them run
again; their place among reference rows. What the operator's package says is neither imported nor run, unless `trust`
names it.
"""

from __future__ import annotations

import contextlib
import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from poolbench.audit import beside, submission
from poolbench.audit.rerun import rerun
from poolbench.audit.submission import SUBMISSIONS, Metadata
from poolbench.audit.trust import Trust
from poolbench.audit.verify import Findings, verify
from poolbench.errors import PoolBenchError, printable
from poolbench.records import gathered
from poolbench.records.changes import today
from poolbench.records.equivalence import Covered, Links
from poolbench.records.record import Record
from poolbench.records.stripping import stripped
from poolbench.report.board import Board, value_at
from poolbench.report.leaderboard import Place, dataset_name, pool_name, protocol_name
from poolbench.report.table import markdown_escape
from poolbench.report.tables import results
from poolbench.wording import count

SHARE = 0.05
"""Of the records, that is run again."""
MOST, SHOWN = 500, 50
"""So many findings of a kind are printed, and stand in a summary."""


@dataclass
class Judged:
    """What was found.

    again: what came of each run that was done again, a line each. boards: see `beside.excerpt`.
    """

    folder: Path
    metadata: Metadata | None = None
    findings: Findings = field(default_factory=Findings)
    again: list[str] = field(default_factory=list)
    boards: list[Board] = field(default_factory=list)

    def written(self) -> str:
        """All of it for a terminal: a line a finding, `MOST` of a kind."""
        found = self.findings
        last = found.written().rpartition("\n")[2]
        parts: dict[str, Any] = {
            name: _first(getattr(found, name), MOST) for name in ("errors", "flags", "unchecked", "notes")
        }
        shown = replace(found, **parts).written().rpartition("\n")[0]
        return "\n".join(filter(None, [*map(printable, self.again), shown, last]))

    def markdown(self) -> str:
        """The same in Markdown, with the submitted rows beside reference rows."""
        found, said = self.findings, [f"## Submission {markdown_escape(self.folder.name)}", ""]
        if self.metadata:
            meta = self.metadata
            about = [f"{meta.operator} ({meta.target})", ", ".join(meta.authors), meta.licence, meta.code]
            said += [markdown_escape("; ".join(about)), ""]
        verdict = "Refused" if found.errors else "Verified"
        said += [f"**{verdict}**: {markdown_escape(found.written().splitlines()[-1])}"]
        for title, lines in (("Errors", found.errors), ("Flagged: a person should look", found.flags),
                             ("Run again", self.again), ("Not checked", found.unchecked),
                             ("Notes", found.notes)):  # fmt: skip
            if lines:
                said += ["", f"### {title}", "", *(f"* {markdown_escape(line)}" for line in _first(lines, SHOWN))]
        return "\n".join([*said, "", *(results(board).written("md") for board in self.boards)])


def _first(lines: list[str], most: int) -> list[str]:
    return [*lines[:most], *([f"and {len(lines) - most} more such lines"] if len(lines) > most else [])]


def judge(
    folder: Path, against: Path | None, share: float, seed: int, paths: Mapping[str, Any], trust: Trust
) -> Judged:
    """Look at the submission in a folder.

    Args:
        against: the results folder that holds reference rows and the links between versions of the code. share: of the
            records to run again, drawn by `seed`; 0: none. paths: `data` and `mirror`. trust: whose classes may be
            imported for that; packages that it does not name are not run, even where they are installed.

    Raises `PoolBenchError` where there is no such folder.
    """
    made = Judged(folder)
    found = made.findings
    found.errors += submission.problems(folder)
    if against is not None and not against.is_dir():
        raise PoolBenchError(f"--against {against}: there is no such results folder")
    if found.errors:
        return made
    try:
        metadata = made.metadata = Metadata.read(folder)
        links = Links.read(against) if against else Links()
        # For splits no operator is built, and so its class need not be known.
        declared = replace(trust, registry=metadata.declared(trust.registry), packages=())
        made.findings = found = verify(folder, splits=True, paths=paths, trust=declared, links=links)
    except PoolBenchError as error:
        found.errors.append(str(error))
    if found.errors:
        return made  # what does not hold by itself is not compared
    records = gathered.found_records(folder)
    found.errors += [f"run {r.id}: {said}" for r in records for said in _foreign(r, metadata)]
    found.errors += _mixed(records, links)
    known = _known(folder, against, records)
    found.errors += _twice(records, known)
    found.flags += _alike(records, known)
    if found.errors:
        return made  # what does not hold is neither run nor ranked
    _again(made, records, share, seed, paths, trust, links)
    reference = [record for place, record in known if place == against]
    for board, rows in beside.beside(records, reference, links):
        found.flags += beside.jumps(board, rows)
        made.boards.append(beside.excerpt(board, rows))
    return made


# ---------------------------------------------------------------------------------------------------------- its records


def _foreign(record: Record, metadata: Metadata) -> Iterator[str]:
    """What of a record does not belong into this submission."""
    name, target = pool_name(record), today(str(value_at(record.config, "pool._target_")))
    if (name, target) != (metadata.operator, metadata.target):
        yield f"is of {name} ({target}), and the submission of {metadata.operator} ({metadata.target})"
    public = stripped(record)
    for part in ("curve", "reason", "diagnostics", "provenance"):
        if not _same(getattr(record, part), getattr(public, part)):
            yield f"{part} has what poolbench submit leaves out: curves, and names of machines, folders and accounts"
    for key, value in record.config.items():
        if key not in public.config or not _same(value, public.config[key]):
            yield f"config.{key} has what poolbench submit leaves out: names of machines, folders and accounts"


def _same(a: Any, b: Any) -> bool:
    return repr(a) == repr(b)  # not a number is the same as itself here


def _mixed(records: Sequence[Record], links: Links) -> Iterator[str]:
    """Runs of a cell by several versions of the code: which of them counts would be a choice."""
    versions: dict[Place, dict[str, Record]] = defaultdict(dict)
    for record in records:
        version = links.least(Covered.of(record.config), str(record.code))
        versions[Place.of(record)].setdefault(version, record)
    for found in versions.values():
        if len(found) > 1:
            runs = list(found.values())
            yield (
                f"run {runs[1].id}: is by another version of the code than run {runs[0].id}, of the same setting on "
                f"{dataset_name(runs[0])}: submit those of one"
            )


Known = list[tuple[Path, Record]]
"""A results folder or another submission, and a record in it."""


def _known(folder: Path, against: Path | None, records: Sequence[Record]) -> Known:
    """What there is already of the datasets and protocols of a submission."""
    homes = {gathered.home(record.config) for record in records}
    places = [against] if against else []
    if folder.absolute().parent.name == SUBMISSIONS:
        others = sorted(folder.parent.glob("[!.]*"))
        places += [one for one in others if one.name != folder.name and not one.is_symlink() and one.is_dir()]
    return [
        (place, record) for place in places
        for record in gathered.found_records(place, wanted=lambda gist: gathered.home(gist.config) in homes)
    ]  # fmt: skip


def _twice(records: Sequence[Record], known: Known) -> Iterator[str]:
    """Runs that are there more than once."""
    for setting, number in Counter(record.setting for record in records).items():
        if number > 1:
            yield f"run {setting}: is there {number} times; one record of a run is submitted"
    there = {record.setting: place for place, record in known}
    for record in records:
        if record.setting in there:
            yield f"run {record.id}: is in {there[record.setting]} already"


def _alike(records: Sequence[Record], known: Known) -> Iterator[str]:
    """Runs with every epoch of another run, to the bit: a copy, or an operator that does the same."""
    there = {record.digests: (place, record) for place, record in known if record.digests}
    for record in records:
        if record.digests in there:
            place, other = there[record.digests]
            yield f"run {record.id}: has the epochs of run {other.id} ({pool_name(other)}) in {place}, to the bit"


# ------------------------------------------------------------------------------------------------------------ run again


def _again(
    made: Judged, records: Sequence[Record], share: float, seed: int, paths: Mapping[str, Any], trust: Trust,
    links: Links,
) -> None:  # fmt: skip
    """Run a share of the records again, and say what came of it."""
    assert made.metadata is not None
    found, package, target = made.findings, made.metadata.package, made.metadata.target
    done = sorted((record for record in records if record.done), key=lambda record: record.id)
    wanted = min(math.ceil(share * len(done)), len(done))
    if not wanted:
        found.unchecked.append(f"{count(len(records), 'record')} not re-run")
        return
    if package is not None and not any(target.startswith(f"{named}.") for named in trust.packages):
        found.unchecked.append(f"{count(len(records), 'record')} not re-run (needs --trust {package})")
        return
    for record in random.Random(seed).sample(done, wanted):
        name = f"run {record.id}, {pool_name(record)} on {dataset_name(record)} under {protocol_name(record)}"
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a run prints
                verdict = rerun(record, paths, links=links, trust=trust)
        except PoolBenchError as error:
            found.unchecked.append(f"{name}: not re-run: {error}")
            continue
        if verdict.same:
            made.again.append(f"re-run: {name}: {verdict.lines[0]}")
        else:
            found.errors += [f"{name}: re-run {line}" for line in verdict.lines]
    made.again.append(f"re-run: {wanted} of {count(len(done), 'record')}, drawn by --seed {seed}")
