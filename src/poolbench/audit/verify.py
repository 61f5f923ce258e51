"""`poolbench verify`: do records say what they must, and do they hold together? One's own, and what others submit.

Everything that a record claims and that can be worked out anew is: its id from the configuration, the data, the split
and the code that it names; an accuracy as a whole number of graphs; with `splits`, the split from the dataset itself.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poolbench.errors import PoolBenchError
from poolbench.records.gathered import GATHERED, lean
from poolbench.records.identity import installed_code, run_identity
from poolbench.records.record import KEYS, RECORD, SCHEMA, STATUSES, measured
from poolbench.report.leaderboard import dataset_name, pool_name, protocol_key, protocol_name, row_key

PROVENANCE = ("git", "dirty", "packages", "hardware", "data", "split")
PARTS = ("train", "val", "test")
#: So far may an accuracy be from a whole number of graphs: the rounding of a quotient.
ROUNDING = 1e-3

Record = dict[str, Any]


@dataclass
class Findings:
    """What is wrong, and what is worth knowing: a line each."""

    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    count: int = 0

    def written(self) -> str:
        """All of it, and a last line that sums it up."""
        verdict = f"{len(self.errors)} errors" if self.errors else "no errors"
        return "\n".join([*self.errors, *(f"note: {note}" for note in self.notes),
                          f"{self.count} record{'s'[: self.count != 1]}, {verdict}"])  # fmt: skip


def verify(path: Path, splits: bool = False, paths: Mapping[str, Any] | None = None) -> Findings:
    """Check a results folder, a file of records (a line each) or one `record.json`.

    Args:
        splits: draw every split anew from its dataset, which is fetched where it is not there.
        paths: `data` and `mirror`, as in the configuration.

    Raises `PoolBenchError` where there are no records.
    """
    found = Findings()
    read: list[tuple[str, Record]] = []
    for source in _sources(path):
        records = [(where, measured(record)) for where, record in _read(source, found) if _whole(where, record, found)]
        _duplicates(records, source.name, found)
        read += records
    for where, record in read:
        found.errors += [f"{where}: {said}" for said in wrong(record)]
        if "paths" in record["config"] and Path(where).name != RECORD:
            found.errors.append(f"{where}: config.paths says where files lie on somebody's machine; leave it out")
    _gathered_and_kept(read, found)
    _attempts(read, found)
    _together([record for _, record in read], found)
    if splits:
        _splits(read, paths or {}, found)
    found.count = len(read)
    return found


# -------------------------------------------------------------------------------------------------------------- reading


def _sources(path: Path) -> list[Path]:
    """The files and folders to read, of which none may hold a record twice."""
    if path.is_file():
        return [path]
    sources = [source for source in (path / GATHERED, path / "runs") if source.exists()]
    if not sources:
        raise PoolBenchError(f"{path} holds no records; give a results folder, {GATHERED} or a record.json")
    return sources


def _read(source: Path, found: Findings) -> Iterator[tuple[str, Any]]:
    """(where, what JSON makes of it)."""
    if source.suffix == ".jsonl":
        text = source.read_text(encoding="utf-8")
        lines = [(f"{source}:{number}", line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    else:
        files = [source] if source.is_file() else sorted(source.glob(f"*/*/{RECORD}"))
        lines = [(str(file), file.read_text(encoding="utf-8")) for file in files]
    if not lines:
        raise PoolBenchError(f"{source} holds no records")
    for where, text in lines:
        try:
            yield where, json.loads(text)
        except ValueError as error:
            found.errors.append(f"{where}: cannot be read ({error})")


def _whole(where: str, record: Any, found: Findings) -> bool:
    """Whether it is a record of this schema, so that the other checks can look into it."""
    if not isinstance(record, dict) or set(KEYS) - set(record):
        missing = sorted(set(KEYS) - set(record)) if isinstance(record, dict) else ["all keys"]
        found.errors.append(f"{where}: is no record: {', '.join(missing)} missing")
        return False
    if record["schema"] != SCHEMA:
        found.errors.append(f"{where}: schema {record['schema']!r}, this PoolBench reads {SCHEMA}")
        return False
    kinds = {"config": dict, "splits": dict, "metrics": dict, "provenance": dict, "diagnostics": dict, "losses": dict,
             "seeds": dict, "time": dict, "curve": list, "id": str, "attempt": int}  # fmt: skip
    for key, kind in kinds.items():
        if not isinstance(record[key], kind):
            found.errors.append(f"{where}: {key} is {type(record[key]).__name__}, {kind.__name__} is expected")
            return False
    lacks = [key for key in ("pool", "model", "dataset", "protocol", "split", "trainer")
             if not isinstance(record["config"].get(key), dict)]  # fmt: skip
    if lacks:
        found.errors.append(f"{where}: config lacks {', '.join(lacks)}")
        return False
    parts = record["metrics"]
    if set(parts) != set(PARTS) or not all(isinstance(values, dict) for values in parts.values()):
        found.errors.append(f"{where}: metrics has {', '.join(sorted(parts))}; train, val and test are expected")
        return False
    folder = Path(where).parent
    if Path(where).name == RECORD and folder.name.isdigit():
        stated = (record["id"], str(record["attempt"]))
        if (folder.parent.name, folder.name) != stated:
            found.errors.append(f"{where}: is of run {stated[0]}, attempt {stated[1]}: it lies in the wrong folder")
    return True


# ----------------------------------------------------------------------------------------------------------- one record


def wrong(record: Record) -> Iterator[str]:
    """What is wrong with a record by itself."""
    if extra := set(record) - set(KEYS):
        yield f"unknown keys {', '.join(sorted(extra))}"
    yield from _wrong_books(record)
    yield from _wrong_identity(record)
    yield from _wrong_split(record)
    yield from _wrong_numbers(record)


def _wrong_books(record: Record) -> Iterator[str]:
    if not re.fullmatch(r"[0-9a-f]{16}", record["id"]):
        yield f"id {record['id']!r} is not 16 hexadecimal digits"
    if record["attempt"] < 1:
        yield f"attempt {record['attempt']} is below 1"
    if record["status"] not in STATUSES:
        yield f"status {record['status']!r} is none of {', '.join(STATUSES)}"
    elif record["status"] != "done" and not record["reason"]:
        yield f"is {record['status']}, and no reason is given"
    if missing := [key for key in PROVENANCE if key not in record["provenance"]]:
        yield f"provenance lacks {', '.join(missing)}"


def identity(record: Record) -> str | None:
    """The id that follows from what a record says of itself; None where it does not say enough."""
    config, provenance = record["config"], record["provenance"]
    data, trainer = provenance.get("data"), config.get("trainer")
    if not isinstance(data, dict) or not isinstance(trainer, dict):
        return None
    said = [data.get("fingerprint"), provenance.get("split"), provenance.get("code")]
    if not all(isinstance(word, str) for word in said) or not {"precision", "threads"} <= set(trainer):
        return None
    devices = trainer.get("devices", 1)
    return run_identity(
        config,
        dataset_fingerprint=said[0],
        split_hash=said[1],
        code=said[2],
        precision=trainer["precision"],
        processes=devices if isinstance(devices, int) else len(devices) if isinstance(devices, list) else 1,
        threads=trainer["threads"],
        evaluate_test=config.get("evaluate_test", True),
    )[0]


def _wrong_identity(record: Record) -> Iterator[str]:
    made = identity(record)
    if made is not None and made != record["id"]:
        yield f"id {record['id']} does not follow from its configuration, data, split and code, which make {made}"


def _wrong_split(record: Record) -> Iterator[str]:
    splits, provenance = record["splits"], record["provenance"]
    if splits.get("hash") != provenance.get("split"):
        yield "splits.hash and provenance.split differ"
    data = provenance.get("data")
    if isinstance(data, dict) and splits.get("dataset") != data.get("fingerprint"):
        yield "splits.dataset and provenance.data.fingerprint differ: the split is of another dataset"
    sizes = [splits.get(part) for part in PARTS]
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        yield f"splits has the sizes {sizes}; three numbers are expected"
    if "split" in record["seeds"] and splits.get("seed") not in (record["seeds"]["split"], 0):
        yield f"splits.seed is {splits.get('seed')}, seeds.split {record['seeds']['split']}"


def _wrong_numbers(record: Record) -> Iterator[str]:
    metrics, done = record["metrics"], record["status"] == "done"
    for part, values in metrics.items():
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                yield f"metrics.{part}.{name} is {value}"
            elif name == "accuracy" and not _whole_number(value, part, record):
                yield f"metrics.{part}.accuracy={value} is no share of {record['splits'][part]} graphs"
    tested, evaluated = bool(metrics["test"]), record["config"].get("evaluate_test", True)
    if tested and not done:
        yield f"is {record['status']} and has test metrics"
    if tested and not evaluated:
        yield "has test metrics, and evaluate_test is false"
    if done and evaluated and not tested and record["splits"].get("test"):
        yield "is done, and has no test metrics"
    epoch, curve = record["selected_epoch"], record["curve"]
    if done and epoch is None and not curve:
        return  # a kernel has no epochs
    if done and (not isinstance(epoch, int) or epoch < 0 or (curve and epoch >= len(curve))):
        yield f"selected_epoch={epoch} is none of its {len(curve)} epochs"


def _whole_number(accuracy: float, part: str, record: Record) -> bool:
    size = record["splits"].get(part)
    if record["task"] != "graph-classification" or not isinstance(size, int):
        return True
    right = accuracy * size
    return 0 <= accuracy <= 1 and abs(right - round(right)) <= ROUNDING


# ----------------------------------------------------------------------------------------------------- records together


def _duplicates(records: Iterable[tuple[str, Record]], source: str, found: Findings) -> None:
    first: dict[tuple[str, int], str] = {}
    for where, record in records:
        key = record["id"], record["attempt"]
        if key in first:
            found.errors.append(f"{where}: is run {key[0]}, attempt {key[1]}, which stands in {first[key]} already")
        first.setdefault(key, where)


def _gathered_and_kept(read: Iterable[tuple[str, Record]], found: Findings) -> None:
    """A record of a run's folder and the same one in records.jsonl must be the same."""
    first: dict[tuple[str, int], str] = {}
    for where, record in read:
        mine = _text(lean(record))
        if first.setdefault((record["id"], record["attempt"]), mine) != mine:
            found.errors.append(f"{where}: is not what {GATHERED} says of run {record['id']}")


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _attempts(read: Iterable[tuple[str, Record]], found: Findings) -> None:
    """Attempts at one run on one machine must give the same bits."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for where, record in read:
        if record["status"] == "done":
            key = record["id"], _text([record["provenance"].get(name) for name in ("hardware", "packages")])
            came = _text([record["metrics"], record["selected_epoch"]])
            known = first.setdefault(key, (where, came))
            if known[1] != came:
                found.errors.append(f"{where}: differs from {known[0]}, an attempt at the same run on the same machine")


def _together(records: list[Record], found: Findings) -> None:
    unnamed = sum(identity(record) is None for record in records)
    if unnamed:
        found.notes.append(f"{_count(unnamed)} name no version of the code: their ids cannot be checked")
    other = [r for r in records if r["provenance"].get("code") not in (None, installed_code(r["config"]))]
    if other:
        found.notes.append(f"{_count(len(other))} of other versions of the code than the installed one")
    dirty = sum(bool(record["provenance"].get("dirty")) for record in records)
    if dirty:
        found.notes.append(f"{_count(dirty)} made with changes that were not committed")
    codes: dict[tuple[str, ...], set[str]] = defaultdict(set)
    protocols: dict[str, set[str]] = defaultdict(set)
    contents: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        name, config = dataset_name(record), record["config"]
        cell = f"{pool_name(record)} on {name}", protocol_key(record), row_key(record)
        codes[cell].add(str(record["provenance"].get("code")))
        protocols[name].add(f"{protocol_name(record)} version {record['splits'].get('version')}")
        contents[_text(config["dataset"])][str(record["splits"].get("dataset"))] += 1
    mixed = sorted(cell for (cell, *_), versions in codes.items() if len(versions) > 1)
    if mixed:
        found.notes.append(f"several versions of the code in {len(mixed)} cells ({', '.join(mixed[:3])} ...): tables "
                           "show one of them")  # fmt: skip
    found.notes += [f"{name} under several protocols, which tables keep apart: {', '.join(sorted(kinds))}"
                    for name, kinds in sorted(protocols.items()) if len(kinds) > 1]  # fmt: skip
    for counts in contents.values():
        if len(counts) > 1:
            found.errors.append(f"one dataset with {len(counts)} contents: fingerprints "
                                + ", ".join(f"{print[:8]} ({n})" for print, n in counts.most_common()))  # fmt: skip


def _count(number: int) -> str:
    return f"{number} record{'s'[: number != 1]}"


# --------------------------------------------------------------------------------------------------------------- splits


def _splits(read: Iterable[tuple[str, Record]], paths: Mapping[str, Any], found: Findings) -> None:
    """Draw every split anew and compare it with the hash in the record."""
    drawn: dict[str, tuple[str, str] | str] = {}
    for where, record in read:
        config = record["config"]
        key = _text([config["dataset"], config["protocol"], config["split"], config.get("fold")])
        if key not in drawn:
            try:
                drawn[key] = _draw(config, paths)
            except PoolBenchError as error:
                drawn[key] = str(error)
        now, splits = drawn[key], record["splits"]
        if isinstance(now, str):
            found.errors.append(f"{where}: its split cannot be drawn again: {now}")
        elif now[0] != splits.get("dataset"):
            found.errors.append(f"{where}: its dataset is not the one that there is now: fingerprints differ")
        elif now[1] != splits.get("hash"):
            found.errors.append(f"{where}: its split is not what its protocol draws: {now[1][:16]} is expected")


def _draw(config: Mapping[str, Any], paths: Mapping[str, Any]) -> tuple[str, str]:
    """Fingerprint of the dataset and hash of the split that a configuration makes."""
    from poolbench.config import Part
    from poolbench.learn import build
    from poolbench.learn.datamodule import Prepared

    places = paths.get("data"), paths.get("mirror")
    dataset = build.build_dataset(Part.of("dataset", config["dataset"]), *places)
    protocol = build.build_protocol(Part.of("protocol", config["protocol"]), config["split"]["seed"], *places)
    split = Prepared.of(dataset, protocol, config.get("fold")).split
    return split.fingerprint, split.hash
