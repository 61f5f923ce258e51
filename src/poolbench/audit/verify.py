"""`poolbench verify`: do records say what they must, and do they hold together? One's own, and what others submit.

Everything that a record claims and that can be worked out anew is: its id from the configuration, the data and the
split; an accuracy from the answers, or as a whole number of graphs; the digests of its epochs and the selected one from
the curve, where that is there; with `splits`, the split and what was right from the dataset itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from poolbench.audit import claims, paired
from poolbench.audit import splits as resplit
from poolbench.audit.claims import measured_anew
from poolbench.audit.registry import Registry
from poolbench.audit.trust import Trust
from poolbench.errors import PoolBenchError, printable
from poolbench.records import digests, gathered, outcomes
from poolbench.records.changes import canonical
from poolbench.records.equivalence import Covered, Links
from poolbench.records.forgotten import FOLDER, MARKS, Forgotten
from poolbench.records.identity import EXECUTION_KEYS, canonical_json, processes, run_identity, without
from poolbench.records.reasons import placeless
from poolbench.records.record import LARGEST, PAIRED, RECORD, Record, decode, encode, lean
from poolbench.records.version import installed_code
from poolbench.report.leaderboard import Place, dataset_name, pool_name, protocol_name
from poolbench.wording import count

#: So far may an accuracy be from a whole number of graphs: the rounding of a quotient.
ROUNDING = 1e-3
MOST_GRAPHS = 2**53
"""Above it a share of them is no exact number."""
BROKEN = 100
"""After so many lines that are none a file is no file of records."""
LINES = ".jsonl"
GROUPS = ("pool", "model", "dataset", "protocol", "split", "trainer")

Read = list[tuple[str, Record]]
"""Where each record stands, and the record."""


@dataclass
class Findings:
    """What is wrong, and what is worth knowing: a line each."""

    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    """What could not be checked, for want of data or of a curve."""
    flags: list[str] = field(default_factory=list)
    """What a person should look at; of a submission alone."""
    count: int = 0

    def strict(self) -> Findings:
        """The same, where what could not be checked is an error."""
        errors = [*self.errors, *(f"unchecked: {what}" for what in self.unchecked)]
        return replace(self, errors=errors, unchecked=[])

    def written(self) -> str:
        """All of it, and a last line that sums it up."""
        verdict = count(len(self.errors), "error") if self.errors else "no errors"
        verdict += " in what could be checked" if self.unchecked and not self.errors else ""
        lines = [*self.errors, *(f"flagged: {what}" for what in self.flags),
                 *(f"unchecked: {what}" for what in self.unchecked), *(f"note: {note}" for note in self.notes),
                 f"{count(self.count, 'record')}, {verdict}"]  # fmt: skip
        return "\n".join(map(printable, lines))


def verify(
    path: Path,
    splits: bool = False,
    paths: Mapping[str, Any] | None = None,
    trust: Trust | None = None,
    strict: bool = False,
    links: Links | None = None,
) -> Findings:
    """Check a results folder, a file of records (a line each) or one `record.json`.

    Args:
        splits: draw every split anew from its dataset, which is fetched where it is not there.
        paths: `data` and `mirror`, as in the configuration. trust: what records may name; None: what PoolBench has.
        strict: what cannot be checked is an error. links: which versions of the code come to the same; None: those
            beside the records.

    Raises `PoolBenchError` where there are no records.
    """
    found, trust = Findings(), trust or Trust()
    links = Links.read(path) if links is None else links
    found.errors += [links.broken] if links.broken else []
    forgotten = Forgotten.read(path)
    found.errors += forgotten.broken
    kept, made = _sources(path)
    read: Read = []
    for files in (kept, made):
        records = [one for file in files for one in _read(file, found) if _complete(*one, found)]
        _duplicates(records, found)
        read += records
    _forgotten([record for _, record in read], forgotten, path, found)
    read = [(where, record) for where, record in read if record not in forgotten]
    for where, record in read:
        found.errors += [f"{where}: {said}" for said in wrong(record, trust.registry)]
        if "paths" in record.config and Path(where).name != RECORD:
            found.errors.append(f"{where}: config.paths says where files lie on somebody's machine; leave it out")
        if record.reason and placeless(record.reason) != record.reason and Path(where).name != RECORD:
            found.errors.append(f"{where}: reason says where files lie on somebody's machine; leave it out")
    if path.is_dir():
        _at_home(read, path, found)
        _gathered_and_kept(read, found)
    # What stands in both places is one record, with its curve.
    once = list({gathered.key(record): (where, record) for where, record in read}.values())
    look_at(once, links, found, splits, paths or {}, trust)
    return found.strict() if strict else found


def look_at(read: Read, links: Links, found: Findings, splits: bool, paths: Mapping[str, Any], trust: Trust) -> None:
    """Add what is wrong with records together, and what of them could not be checked; for the arguments see `verify`.

    Args:
        read: each record once. links: which versions of the code come to the same. found: is added to.
    """
    records = [record for _, record in read]
    _attempts(read, links, found)
    _together(records, links, found)
    if splits:
        absent: Counter[str] = Counter()
        found.errors += resplit.wrong(read, paths, trust, absent)
        found.unchecked += [f"the splits of {count(number, 'record')}: {said}" for said, number in absent.items()]
    _unchecked(records, splits, trust, found)
    found.count = len(records)


# -------------------------------------------------------------------------------------------------------------- reading


def _sources(path: Path) -> tuple[list[Path], list[Path]]:
    """Files of gathered records, and files of single ones; neither may hold a record twice."""
    if path.is_file():
        return ([path], []) if path.suffix == LINES else ([], [path])
    kept, made = gathered.files(path), sorted(path.glob(f"runs/*/*/{RECORD}"))
    if not kept and not made:
        raise PoolBenchError(f"{path} holds no records; give a results folder, a file of records or a record.json")
    return kept, made


def _read(file: Path, found: Findings) -> Iterator[tuple[str, Record]]:
    """The records of a file; a line that is none is an error."""
    if file.suffix != LINES and file.stat().st_size > LARGEST:
        found.errors.append(f"{file}: is no record: it is larger than {LARGEST >> 20} MiB")
        return
    text = file.read_bytes()
    lines = [(str(file), text)]
    if file.suffix == LINES:
        lines = [(f"{file}:{number}", line) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    if not text.strip():
        raise PoolBenchError(f"{file} holds no records")
    broken = 0
    for where, line in lines:
        try:
            yield where, decode(line)
        except ValueError as error:
            found.errors.append(f"{where}: is no record: {error}")
            broken += 1
        if broken == BROKEN:
            found.errors.append(f"{where}: is the {BROKEN}th line that is no record: the rest of the file is not read")
            return


def _complete(where: str, record: Record, found: Findings) -> bool:
    """Whether its configuration has all groups, so that other checks can look into it, and it lies where it must."""
    lacks = [group for group in GROUPS if not isinstance(record.config.get(group), dict)]
    if lacks:
        found.errors.append(f"{where}: config lacks {', '.join(lacks)}")
    folder, stated = Path(where).parent, (record.id, str(record.attempt))
    if where.endswith(RECORD) and folder.name.isdigit() and (folder.parent.name, folder.name) != stated:
        found.errors.append(f"{where}: is of run {stated[0]}, attempt {stated[1]}: it lies in the wrong folder")
        return False
    return not lacks


# ----------------------------------------------------------------------------------------------------------- one record


def wrong(record: Record, registry: Registry | None = None) -> Iterator[str]:
    """What is wrong with a record by itself.

    Args:
        registry: of names and classes; None: PoolBench's own.
    """
    yield from claims.wrong(record, registry or Registry.of())
    yield from _wrong_identity(record)
    yield from _wrong_split(record)
    yield from _wrong_numbers(record)
    yield from _wrong_epochs(record)
    yield from _wrong_outcomes(record)


def identity(record: Record) -> str | None:
    """The id that follows from what a record says of itself; None where it does not say enough."""
    if record.schema == 1:
        return _identity_of_schema_1(record)
    return run_identity(record.config, dataset=record.splits.dataset, split=record.splits.hash)


def _says_enough(record: Record) -> bool:
    """Whether a record names all that its id was made of."""
    return record.schema != 1 or (record.code is not None and {"precision", "threads"} <= set(record.config["trainer"]))


def _identity_of_schema_1(record: Record) -> str | None:
    """As identities were made before the version of the code left them; None where the record does not name it."""
    config, trainer = record.config, record.config["trainer"]
    if not _says_enough(record):
        return None
    what = {
        "config": without(config, EXECUTION_KEYS),
        "dataset": record.splits.dataset,
        "split": record.splits.hash,
        "code": record.code,
        "precision": str(trainer["precision"]),
        "processes": processes(trainer),
        "threads": trainer["threads"],
        "evaluate_test": config.get("evaluate_test", True),
    }
    return hashlib.sha256(canonical_json(what).encode()).hexdigest()[:16]


def _wrong_identity(record: Record) -> Iterator[str]:
    made = identity(record)
    if made is not None and made != record.id:
        what = "configuration, data, split and code" if record.schema == 1 else "configuration, data and split"
        yield f"id {record.id} does not follow from its {what}, which make {made}"


def _wrong_split(record: Record) -> Iterator[str]:
    splits, provenance = record.splits, record.provenance
    if splits.hash != provenance.split:
        yield "splits.hash and provenance.split differ"
    if splits.dataset != provenance.data.get("fingerprint"):
        yield "splits.dataset and provenance.data.fingerprint differ: the split is of another dataset"
    if splits.seed not in (record.seeds.split, 0):
        yield f"splits.seed is {splits.seed}, seeds.split {record.seeds.split}"


def _wrong_numbers(record: Record) -> Iterator[str]:
    for part, values in record.metrics.parts().items():
        for name, value in values.items():
            if not math.isfinite(value):
                yield f"metrics.{part}.{name} is {value}"
            elif name == "accuracy" and not _whole_number(value, part, record):
                yield f"metrics.{part}.accuracy={value} is no share of {getattr(record.splits, part)} graphs"
    tested, evaluated = bool(record.metrics.test), record.config.get("evaluate_test", True)
    looked = tested or bool(record.metrics.id_test)
    if looked and not record.done:
        yield f"is {record.status} and has test metrics"
    if looked and not evaluated:
        yield "has test metrics, and evaluate_test is false"
    if record.done and evaluated and not tested and record.splits.test:
        yield "is done, and has no test metrics"


def _whole_number(accuracy: float, part: str, record: Record) -> bool:
    if record.task != "graph-classification":
        return True
    count = getattr(record.splits, part)
    if not 0 <= accuracy <= 1 or count > MOST_GRAPHS:
        return False
    return abs(accuracy * count - round(accuracy * count)) <= ROUNDING


def _wrong_epochs(record: Record) -> Iterator[str]:
    """The selected epoch and its row against the digests, and these against the curve, where it is there."""
    epoch, curve = record.selected_epoch, record.curve
    try:
        chain = digests.unpack(record.digests or "")
    except ValueError as error:
        yield f"digests: {error}"
        return
    epochs = len(curve) or len(chain)
    outside = epoch is not None and epoch >= epochs
    if (epochs or record.schema != 1) and (outside or (record.done and epochs and epoch is None)):
        yield f"selected_epoch={epoch} is none of its {epochs} epochs"
    elif record.schema == 1:
        return
    elif curve and record.digests != digests.chain(curve):
        yield "digests do not follow from its curve"
    elif epoch is not None and record.selected is None:
        yield "selected is missing: the curve's row of the selected epoch"
    elif epoch is not None and chain[epoch] != digests.follow(b"".join(chain[:epoch][-1:]), record.selected or {}):
        yield f"selected is not the row of epoch {epoch}: the digests are of another one"


def _wrong_outcomes(record: Record) -> Iterator[str]:
    """What was answered for each test graph, against the split's size and the accuracy."""
    if record.outcomes is None:
        return
    try:
        answers = outcomes.unpack(record.outcomes)
    except ValueError as error:
        yield f"outcomes: {error}"
        return
    if record.task == PAIRED:
        yield from paired.wrong(record, answers)
        return
    count, accuracy = len(answers.graphs), record.metrics.test.get("accuracy")
    if record.splits.test and count != record.splits.test:
        yield f"outcomes are of {count} graphs, and the test split has {record.splits.test}"
    elif answers.right is not None and accuracy != int(answers.right.sum()) / max(count, 1):
        yield f"metrics.test.accuracy={accuracy}, and {int(answers.right.sum())} of {count} outcomes are right"


# ----------------------------------------------------------------------------------------------------- records together


def _duplicates(records: Read, found: Findings) -> None:
    first: dict[gathered.Key, str] = {}
    for where, record in records:
        known = first.setdefault(gathered.key(record), where)
        if known != where:
            found.errors.append(
                f"{where}: is run {record.id}, attempt {record.attempt}, which stands in {known} already"
            )


def _at_home(read: Read, results: Path, found: Findings) -> None:
    """A gathered record must stand where it is looked for."""
    homes: dict[tuple[str, str], set[str]] = {}
    for where, record in read:
        home = gathered.home(record.config)
        if home not in homes:
            homes[home] = {str(path) for path in gathered.parts(results, *home)}
        if where.rpartition(":")[0] not in homes[home] and Path(where).name != RECORD:
            found.errors.append(f"{where}: is a record of {home[0]} under {home[1]}: it stands in the wrong file")


def _gathered_and_kept(read: Read, found: Findings) -> None:
    """A record of a run's folder and the same one gathered must be the same."""
    first: dict[gathered.Key, Record] = {}
    for where, record in read:
        kept = first.setdefault(gathered.key(record), record)
        if kept is not record and encode(lean(kept)) != encode(lean(record)):
            found.errors.append(f"{where}: is not what the gathered record of run {record.id} says")


def _forgotten(records: list[Record], forgotten: Forgotten, results: Path, found: Findings) -> None:
    """What is set aside is counted, and not checked: it may have been set aside for what is wrong with it."""
    there = {gathered.key(record): record for record in records if record in forgotten}
    ends = Counter(record.status for record in there.values())
    found.notes += forgotten.notes()
    if there:
        said = ", ".join(f"{number} {status}" for status, number in sorted(ends.items()))
        found.notes.append(f"{count(len(there), 'record')} of them here ({said}), and not checked")
    moved = {mark.key for mark in forgotten.marks.values()
             if mark.folder and (results / FOLDER / mark.id / mark.folder).is_dir()}  # fmt: skip
    if lost := forgotten.marks.keys() - there.keys() - moved:
        first = min(lost)
        found.notes.append(
            f"{count(len(lost), 'attempt')} in {MARKS} of which nothing lies here, such as {first[2]} of run {first[0]}"
        )


def _attempts(read: Read, links: Links, found: Findings) -> None:
    """Attempts at one run on one machine must give the same bits, by one version of the code or by linked ones."""
    runs: dict[str, Read] = defaultdict(list)
    for where, record in read:
        if record.done:
            runs[record.setting].append((where, record))
    for attempts in runs.values():
        first: dict[tuple[str, str], tuple[str, str]] = {}
        for where, record in attempts if len(attempts) > 1 else ():
            code = links.least(Covered.of(record.config), str(record.code), "same")
            machine = _text([record.provenance.hardware, record.provenance.packages])
            came = _text([record.metrics.parts(), record.selected_epoch])
            known = first.setdefault((code, machine), (where, came))
            if known[1] != came:
                found.errors.append(f"{where}: differs from {known[0]}, an attempt at the same run on the same machine")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _together(records: list[Record], links: Links, found: Findings) -> None:
    kinds = [links.of(record, installed_code(record.config)) for record in records]
    counts = {
        "with other validation metrics at the end than in the selected epoch, as operators that draw have": [
            measured_anew(r) for r in records],
        "of other versions of the code than the installed one": [r.code is not None and not kind
                                                                 for r, kind in zip(records, kinds, strict=True)],
        "of versions of the code that are close to the installed one, and not the same": [k == "close" for k in kinds],
        "made with changes that were not committed": [bool(r.provenance.dirty) for r in records],
    }  # fmt: skip
    found.notes += [f"{count(sum(each), 'record')} {what}" for what, each in counts.items() if any(each)]
    codes: dict[Place, set[str]] = defaultdict(set)
    names: dict[Place, str] = {}
    protocols: dict[str, set[str]] = defaultdict(set)
    contents: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        name, place = dataset_name(record), Place.of(record)
        names[place] = f"{pool_name(record)} on {name}"
        codes[place].add(links.least(Covered.of(record.config), str(record.code)))
        protocols[name].add(f"{protocol_name(record)} version {record.splits.version}")
        contents[_text(canonical({"dataset": record.config["dataset"]}))][record.splits.dataset] += 1
    mixed = sorted(names[place] for place, versions in codes.items() if len(versions) > 1)
    if mixed:
        cells = f"{count(len(mixed), 'cell')} ({', '.join(mixed[:3])} ...)"
        found.notes.append(f"several versions of the code in {cells}: tables show one of them")
    found.notes += [f"{name} under several protocols, which tables keep apart: {', '.join(sorted(kinds))}"
                    for name, kinds in sorted(protocols.items()) if len(kinds) > 1]  # fmt: skip
    for prints in contents.values():
        if len(prints) > 1:
            found.errors.append(f"one dataset with {len(prints)} contents: fingerprints "
                                + ", ".join(f"{print[:8]} ({n})" for print, n in prints.most_common()))  # fmt: skip


def _unchecked(records: list[Record], splits: bool, trust: Trust, found: Findings) -> None:
    """What could not be checked of how many records."""
    counts = {
        "that do not name all that their ids are made of": [not _says_enough(r) for r in records],
        "without curves: their epochs cannot be checked, but for the selected one where there are digests": [
            r.selected_epoch is not None and not r.curve for r in records],
        "without the answers to single graphs: their metrics are not worked out anew": [
            bool(r.metrics.test) and r.outcomes is None for r in records],
        "of somebody's own classes: whether they are what they are called is not known": [
            claims.unknown(r, trust.registry) for r in records],
        "whose splits and labels were not looked at: --splits does": [not splits] * len(records),
    }  # fmt: skip
    for what, each in counts.items():
        if any(each):
            named = records[each.index(True)].id + " ..." * (sum(each) > 1)
            found.unchecked.append(f"{count(sum(each), 'record')} {what} (run {named})")
