"""From records to boards: what a record belongs to, and one board a protocol of all that count (`board`)."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import fmean
from typing import Any

from poolbench import statistics
from poolbench.records.changes import canonical
from poolbench.records.counting import Counted
from poolbench.records.frame import flatten
from poolbench.records.gathered import Gist
from poolbench.records.identity import EXECUTION_KEYS, canonical_json, without
from poolbench.records.record import Record
from poolbench.report.board import Board, Cell, Column, Metric, Row, Run, value_at

# ------------------------------------------------------------------------------------------ what records have in common


@dataclass(frozen=True)
class Place:
    """Where a record belongs, worked out of its configuration as its run was first written.

    board: the protocol with its arguments and its version. row: see `setting`, with the names of pool and model.
    column: the dataset with its options and its content, or what draws it.
    """

    setting: Mapping[str, Any] = field(hash=False, compare=False)
    """The configuration less dataset, protocol and seeds."""
    board: str
    row: str
    column: str

    @classmethod
    def of(cls, record: Record) -> Place:
        splits = record.splits
        content = _content(record, "seed" in (record.config.get("dataset") or ()))
        known = record.alike, splits.protocol, splits.version, content
        if known not in _PLACES:
            config = canonical(record.config)
            setting, (dataset, _) = _setting(config), contents(record)
            _PLACES[known] = cls(
                setting,
                canonical_json([config.get("protocol"), splits.protocol, splits.version]),
                canonical_json({"pool": pool_name(record), "model": model_name(record), "config": setting}),
                canonical_json([dataset_name(record), dataset, content]),
            )
        return _PLACES[known]


_PLACES: dict[Hashable, Place] = {}
"""By what decides on them: most records of a folder differ from others in their seeds alone."""


def protocol_name(record: Gist | Record) -> str:
    return record.splits.protocol


def pool_name(record: Record) -> str:
    return str(value_at(record.config, "names.pool") or "?")


def model_name(record: Record) -> str:
    return str(value_at(record.config, "names.model") or "?")


def dataset_name(record: Gist | Record) -> str:
    return str(value_at(record.config, "dataset.name") or value_at(record.config, "names.dataset") or "?")


def contents(record: Record) -> tuple[dict[str, Any], str]:
    """The options of a dataset, and what says which content they make: its fingerprint.

    A dataset with a seed of its own has another content for each: its options are those without the seed, and what is
    said is what draws it, the version of the generator or the files that it starts from.
    """
    dataset = dict(canonical(record.config).get("dataset") or {})
    content = _content(record, "seed" in dataset)
    dataset.pop("seed", None)
    return dataset, content


def _content(record: Record, drawn: bool) -> str:
    """drawn: the dataset has a seed of its own."""
    if not drawn:
        return record.splits.dataset
    data = record.provenance.data
    files = data.get("sha256") or data.get("files_sha256")
    return str(files or data.get("where")).removesuffix(f", seed {record.config['dataset']['seed']}")


def _setting(config: Mapping[str, Any]) -> dict[str, Any]:
    # The number of devices is execution to a configuration, and yet part of what a run is.
    execution = [key for key in EXECUTION_KEYS if key != "trainer.devices"]
    # A nested protocol chooses hyper-parameters anew in every fold, `tuned` did on every dataset: the search is the
    # setting, not what it chose.
    chosen = [*(value_at(config, "search.chosen") or ()), *flatten(value_at(config, "tuned.chosen") or {})]
    apart = ["dataset", "protocol", "seed", "split", "fold", "search.chosen", "tuned.chosen"]
    return without(config, [*execution, *apart, *chosen])


def _context(setting: Mapping[str, Any]) -> str:
    return canonical_json(without(setting, ["pool", "loss_weights", "loss_ramp"]))


# ------------------------------------------------------------------------------------------------------------ boards


@dataclass(frozen=True)
class _Entry:
    """A record with its place. code: its version of the code, where that is another than the board's; else empty.
    column: the key of its column."""

    record: Record
    place: Place
    code: str
    close: bool
    column: str

    @property
    def row(self) -> tuple[str, str]:
        return self.place.row, self.code


def boards(records: Iterable[Counted]) -> list[Board]:
    """One board a protocol.

    Args:
        records: one a run. Those of versions of the code that are not linked to the tables' get rows of their own.
    """
    by_protocol: dict[str, list[_Entry]] = defaultdict(list)
    for one in records:
        place, code = Place.of(one.record), "" if one.kind else one.version
        by_protocol[place.board].append(_Entry(one.record, place, code, one.kind == "close", place.column))
    titles = _protocol_titles({key: found[0].record for key, found in by_protocol.items()})
    made = [_board(titles[key], found) for key, found in by_protocol.items()]
    return sorted(made, key=lambda board: board.protocol)


def _protocol_titles(firsts: Mapping[str, Record]) -> dict[str, str]:
    """Name and version of each protocol, and its arguments where two of a name differ in them."""
    names = {k: f"{protocol_name(r)} (version {r.splits.version})" for k, r in firsts.items()}
    flat = {key: flatten(canonical(record.config).get("protocol") or {}) for key, record in firsts.items()}
    options = differences({key: (names[key], flat[key]) for key in firsts})
    return {key: f"{names[key]}, {options[key]}" if options[key] else names[key] for key in names}


def _board(title: str, entries: Sequence[_Entry]) -> Board:
    entries = _by_task(entries)
    rows = _rows(entries)
    columns = _columns(entries)
    found: dict[tuple[Row, Column], list[Run]] = defaultdict(list)
    expected: dict[Column, set[Hashable]] = defaultdict(set)
    tasks: dict[Row, set[str | None]] = defaultdict(set)
    for entry in entries:
        column, row = columns[entry.column], rows[entry.row]
        run = _run(entry, column.metric)
        found[row, column].append(run)
        expected[column].add((run.split, run.seed))
        tasks[row].update(_task(entry.column))
    ordered = sorted(set(columns.values()), key=lambda c: (c.dataset.lower(), c.key))
    lines = sorted(set(rows.values()), key=lambda r: (r.model, bool(r.code), r.control, r.pool, r.options, r.key))
    cells = {
        (row, column): _cell(
            found[row, column],
            column,
            0 if row.code or not tasks[row].issuperset(_task(column.key)) else len(expected[column]),
        )
        for row in lines
        for column in ordered
    }
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower().replace("(version 1)", "").replace("version ", "v")).strip("-")
    return Board(title, slug, tuple(lines), tuple(ordered), cells)


def _by_task(entries: Sequence[_Entry]) -> list[_Entry]:
    """The same, with a column for each of several tasks on a dataset: their numbers have nothing in common."""
    tasks: dict[str, set[str]] = defaultdict(set)
    of_row: dict[tuple[str, str], str] = {}
    for entry in entries:
        if entry.record.task:
            tasks[entry.column].add(entry.record.task)
            of_row[entry.column, entry.place.row] = entry.record.task
    made = []
    for entry in entries:
        if len(tasks[entry.column]) > 1:  # what failed before it had a task is of its row's
            task = entry.record.task or of_row.get((entry.column, entry.place.row))
            entry = replace(entry, column=canonical_json([*json.loads(entry.column), task]))
        made.append(entry)
    return made


@cache
def _task(column: str) -> tuple[str | None, ...]:
    """The task that the key of a column names, where there are several on its dataset: a setting lacks no run of
    another task than its own."""
    return tuple(json.loads(column)[3:])


def _rows(entries: Sequence[_Entry]) -> dict[tuple[str, str], Row]:
    firsts = {entry.row: entry for entry in entries}
    settings = {key[0]: entry.place.setting for key, entry in firsts.items()}
    flat = {key[0]: (entry.record, flatten(settings[key[0]])) for key, entry in firsts.items()}
    own = {k: (pool_name(r), _kept(f, _of_pool)) for k, (r, f) in flat.items()}
    model = {k: (model_name(r), _kept(f, lambda name: name.startswith("model."))) for k, (r, f) in flat.items()}
    rest = {
        k: ("", _kept(f, lambda name: not _of_pool(name) and not name.startswith("model.")))
        for k, (_, f) in flat.items()
    }
    told = [differences(part) for part in (own, model, rest)]
    options = {key: ", ".join(part[key] for part in told if part[key]) for key in flat}
    return {
        (key, code): Row(
            key, pool_name(entry.record), model_name(entry.record), options[key], _context(settings[key]), code
        )
        for (key, code), entry in firsts.items()
    }


def _of_pool(name: str) -> bool:
    return name.startswith(("pool.", "loss_weights", "loss_ramp"))


def _kept(flat: Mapping[str, Any], wanted: Callable[[str], bool]) -> dict[str, Any]:
    return {name: value for name, value in flat.items() if wanted(name)}


def differences(things: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """For each thing the entries in which it differs from others of its group, as `key=value, key=value`.

    Args:
        things: (group, flat configuration) by key.
    """
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for group, flat in things.values():
        groups[group].append(flat)
    varying = {group: _varying(flats) for group, flats in groups.items()}
    return {
        key: ", ".join(f"{name}={_value(flat[name])}" for name in varying[group] if name in flat)
        for key, (group, flat) in things.items()
    }


def _varying(flats: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted({name for flat in flats for name in flat})
    return [name for name in names if len({canonical_json(flat.get(name, "no such key")) for flat in flats}) > 1]


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value.rpartition(".")[2] if re.fullmatch(r"[A-Za-z_][\w.]*\.[A-Za-z_]\w*", value) else value
    return json.dumps(value)


def _columns(entries: Sequence[_Entry]) -> dict[str, Column]:
    by_key: dict[str, list[Record]] = defaultdict(list)
    for entry in entries:
        by_key[entry.column].append(entry.record)
    firsts = {key: found[0] for key, found in by_key.items()}
    facts = {}
    for key, record in firsts.items():
        dataset, content = contents(record)
        data = content[:8] if re.fullmatch("[0-9a-f]+", content) else content
        task = _task(key)
        facts[key] = (dataset_name(record), {**flatten(dataset), "data": data, **({"task": task[0]} if task else {})})
    options = differences(facts)
    columns = {}
    for key, found in by_key.items():
        name = dataset_name(firsts[key])
        title = f"{name} ({options[key]})" if options[key] else name
        columns[key] = Column(key, title, _metric(found), _unit(found))
    return columns


def _unit(records: Sequence[Record]) -> str:
    """What the runs of a column differ in: see `Column.unit`."""
    if len({r.splits.dataset for r in records}) > 1:
        return "draws"
    fixed = len({r.splits.hash for r in records}) == 1
    return "seeds" if fixed and len({_seed(r) for r in records}) > 1 else "splits"


def _metric(records: Sequence[Record]) -> Metric:
    """That of most runs that got so far as to name one."""
    named = [r.diagnostics.get("metric") for r in records]
    counts = Counter((m["name"], m["mode"]) for m in named if m)
    if not counts:
        return Metric()
    (name, mode), _ = counts.most_common(1)[0]
    return Metric(name, "min" if mode == "min" else "max")


def _seed(record: Record) -> str:
    return str(record.config.get("seed"))


def score(record: Record, metric: Metric, part: str = "test") -> float | None:
    """The score of a run on its test graphs (or another part), where it has one, else None. A protocol that holds
    nothing out has the loss of what was trained on."""
    if not record.done:
        return None
    value = record.metrics.of(part).get(metric.name)
    if value is None and part == "test" and not record.splits.test:
        value = record.metrics.train.get(metric.name)
    return value if value is not None and math.isfinite(value) else None


def _run(entry: _Entry, metric: Metric) -> Run:
    record = entry.record
    # A loss that is not a number, or a metric that was not measured, is a failure.
    status = "failed" if record.done and score(record, metric) is None else record.status
    splits = record.splits
    return Run(record, record.id, status, _seed(record), splits.hash, splits.dataset, entry.close)


def _cell(runs: Sequence[Run], column: Column, expected: int) -> Cell:
    ordered = sorted(runs, key=lambda run: (_number(run.record.config.get("fold")), _number(run.seed), run.id))
    scores, ratio = _scores(ordered, column, "test")
    beside, beside_ratio = _scores(ordered, column, "id_test")
    present = len({(run.split, run.seed) for run in runs})
    in_domain = statistics.estimate(list(beside.values()), beside_ratio) if beside else None
    return Cell(tuple(ordered), scores, ratio, max(0, expected - present), in_domain)


def _scores(runs: Sequence[Run], column: Column, part: str) -> tuple[dict[str, float], float]:
    """Mean score by unit on a part, and the ratio of its graphs to those of training: 0 where units share no graphs."""
    by_unit: dict[str, list[float]] = defaultdict(list)
    ratios = []
    for run in runs:
        value = score(run.record, column.metric, part)
        if run.status == "done" and value is not None:
            by_unit[{"seeds": run.seed, "draws": run.draw}.get(column.unit, run.split)].append(value)
            ratios.append(_to_train(run.record, part))
    ratio = fmean(ratios) if ratios and column.unit == "splits" else 0.0
    return {unit: fmean(values) for unit, values in by_unit.items()}, ratio


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return -1.0


def _to_train(record: Record, part: str) -> float:
    """How many graphs a part has for each one of training."""
    splits = record.splits
    return (splits.id_test if part == "id_test" else splits.test) / splits.train if splits.train else 0.0
