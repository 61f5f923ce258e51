"""From records to what a leaderboard says: settings by datasets under one protocol, and who beats no pooling.

A board is one protocol. A row is a setting: everything in the configuration but dataset, protocol and seeds. A column
is a dataset with its options and its content; where the content follows the dataset's own seed, it is what draws
it. The runs of a cell differ in their seeds and splits alone, and all come
from one version of the code. Whatever was tried and has no number (failed, pruned, missing where another row has a
run) is counted in the cell.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean, median
from typing import Any, Literal, NamedTuple

import numpy as np

from poolbench import statistics
from poolbench.records.changes import canonical
from poolbench.records.clock import hardware
from poolbench.records.counting import Counted
from poolbench.records.frame import flatten
from poolbench.records.gathered import Gist
from poolbench.records.identity import EXECUTION_KEYS, canonical_json, without
from poolbench.records.record import Record
from poolbench.statistics import LEVEL, Comparison, Estimate, Ranking

BASELINE = "none"
CONTROLS = (BASELINE, "none-normalised", "random-dense", "random-sparse")
"""Pools that every comparison holds to show what pooling itself is worth."""

FRACTIONS = ("accuracy", "acc", "balanced_accuracy", "rocauc", "ap", "f1", "nmi", "ari", "modularity", "conductance")
"""Metrics whose hundredth is called a point."""
SHARES = FRACTIONS[:7]
"""Those that lie between 0 and 1."""

_OPTION = re.compile(r", (?=[\w.]+=)")
"""Between the options of a row."""

DATASETS_FOR_BOOTSTRAP = 5
"""Fewer datasets than this give no interval over datasets."""


# ---------------------------------------------------------------------------------------------------- parts of a board


@dataclass(frozen=True)
class Metric:
    """What a task is judged by."""

    name: str = "accuracy"
    mode: Literal["max", "min"] = "max"

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.mode == "max" else -1

    @property
    def points(self) -> bool:
        return self.name in FRACTIONS

    def text(self, value: float) -> str:
        """A value as tables write it."""
        return f"{value:.3f}" if self.points or value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.3g}"

    def gap(self, difference: float) -> str:
        """A difference without its unit: points where the metric has them."""
        return points(difference) if self.points else f"{difference:.3g}"

    @property
    def unit(self) -> str:
        return "points" if self.points else self.name

    def reach(self, found: Estimate) -> list[float]:
        """The ends of an interval for a figure, cut at what the metric can be; none where there is no interval."""
        if found.low is None or found.high is None:
            return []
        return [min(max(end, 0.0), 1.0) if self.name in SHARES else end for end in (found.low, found.high)]


def points(difference: float) -> str:
    """A difference in hundredths of a metric, without a sign where it rounds to 0."""
    text = f"{100 * difference:.1f}"
    return "0.0" if text == "-0.0" else text


@dataclass(frozen=True)
class Run:
    """A record, as far as tables look at it."""

    record: Record = field(repr=False, compare=False)
    id: str
    status: str
    seed: str
    split: str
    """One for each set of training and test graphs."""
    draw: str
    """One for each content of the dataset."""
    close: bool = False
    """Whether it was made by a version of the code that is close to the board's, and not the same."""

    @property
    def reason(self) -> str:
        return self.record.reason or "no number was measured"


@dataclass(frozen=True)
class Row:
    """A setting."""

    key: str
    pool: str
    model: str
    options: str
    """What tells it from other settings of the pool, as `key=value, key=value`; mostly empty."""
    context: str
    """The setting less what belongs to the pool: rows of one context may be compared."""
    code: str
    """The version of the code, where it is another than the board's; else empty."""

    @property
    def control(self) -> bool:
        return self.pool in CONTROLS

    @property
    def label(self) -> str:
        """Pool and options, for a figure or a sentence."""
        extra = [part for part in (self.options, self.code and f"code {self.code[:8]}") if part]
        return f"{self.pool} ({', '.join(extra)})" if extra else self.pool


@dataclass(frozen=True)
class Column:
    """A dataset."""

    key: str
    dataset: str
    metric: Metric
    unit: str
    """What n counts: `splits` that were resampled, independent `draws` of a generated dataset (the splits of a draw are
    averaged), or `seeds` on one fixed split."""


MEMORY = {
    "tensors": "the tensors that a training step needs at its peak",
    "allocator": "the most that the GPU's allocator held",
    "process": "the most that the process held, libraries and what earlier runs in it left behind included",
}
"""What is measured as the peak memory of a run."""


class Gauge(NamedTuple):
    """What costs are measured with, and are apart by: the hardware, and which of `MEMORY` is measured."""

    hardware: str
    memory: str

    def __str__(self) -> str:
        return f"{self.hardware} (memory: {self.memory})"


@dataclass(frozen=True)
class Cost:
    """Medians over the runs of a cell by one gauge."""

    epoch: float | None
    """Seconds a training epoch, see `epoch_seconds`."""
    memory: float | None
    """Bytes at the peak."""
    n: int


@dataclass(frozen=True)
class Cell:
    """The runs of a setting on a dataset."""

    runs: tuple[Run, ...]
    scores: Mapping[str, float]
    """One a unit: the split, the draw, or the seed where the split is fixed; several runs of a unit are averaged."""
    test_over_train: float
    missing: int
    """Runs that another row of the column has and this one lacks."""
    in_domain: Estimate | None = None
    """Of held-out graphs like those of training, where the test graphs are of another domain (`id_test`)."""

    def count(self, status: str) -> int:
        return sum(run.status == status for run in self.runs)

    @property
    def close(self) -> int:
        """How many runs with a number were made by a close version of the code."""
        return sum(run.close and run.status == "done" for run in self.runs)

    @cached_property
    def estimate(self) -> Estimate | None:
        return statistics.estimate(list(self.scores.values()), self.test_over_train) if self.scores else None

    @property
    def lost(self) -> list[str]:
        """What has no number, in words: `1 failed`, `2 missing`."""
        counts = (("failed", self.count("failed")), ("pruned", self.count("pruned")), ("missing", self.missing))
        return [f"{n} {what}" for what, n in counts if n]

    @property
    def parameters(self) -> int | None:
        """Trainable parameters, of the largest run; None where no run got so far."""
        return max((r.record.parameters for r in self.runs if r.record.parameters is not None), default=None)

    @cached_property
    def costs(self) -> dict[Gauge, Cost]:
        """By gauge: hardware is never mixed, nor are measures of memory."""
        by_gauge: dict[Gauge, list[Record]] = defaultdict(list)
        for run in self.runs:
            if run.status == "done" and (gauge := gauge_of(run.record)):
                by_gauge[gauge].append(run.record)
        return {gauge: _cost(records) for gauge, records in sorted(by_gauge.items())}


@dataclass(frozen=True)
class Versus:
    """A setting against no pooling on one dataset."""

    row: Row
    column: Column
    comparison: Comparison | None
    """Of paired scores, pool - none; None without a pair."""
    corrected: float | None
    """p after Holm's correction over the settings that are compared with the same baseline on the dataset."""
    improvement: float | None
    """Probability that a run beats one without pooling."""

    @property
    def verdict(self) -> Literal["better", "worse", "no detectable difference", "cannot tell"]:
        if self.comparison is None or self.corrected is None:
            return "cannot tell"
        if self.corrected >= 1 - LEVEL:
            return "no detectable difference"
        return "better" if self.comparison.difference * self.column.metric.sign > 0 else "worse"

    @property
    def interval(self) -> str:
        """That of the difference, in words."""
        found, metric = self.comparison, self.column.metric
        if found is None or found.low is None or found.high is None:
            return "no interval"
        return f"{LEVEL:.0%} interval {metric.gap(found.low)} to {metric.gap(found.high)}"

    @property
    def counted(self) -> str:
        return f"n = {self.comparison.n if self.comparison else 0} {self.column.unit}"

    @property
    def words(self) -> str:
        """The verdict, and what it rests on."""
        metric, found = self.column.metric, self.comparison
        if found is None:
            return f"cannot tell: no {self.column.unit} with both"
        if found.n < 2:
            return f"cannot tell: only one of the {self.column.unit} has both"
        if found.detectable is None:
            return f"cannot tell: the {found.n} differences are equal, so their spread is unknown"
        size = f"{metric.gap(abs(found.difference))} {metric.unit}"
        if self.verdict in ("better", "worse"):
            return f"{self.verdict} than {BASELINE} by {size}"
        return (
            f"no detectable difference: {found.n} {self.column.unit} could have shown "
            f"{metric.gap(found.detectable)} {metric.unit}"
        )


@dataclass(frozen=True)
class Overall:
    """A setting against no pooling over all datasets on which both ran."""

    row: Row
    datasets: int
    difference: float | None
    """Mean over datasets, in points; None unless every metric is measured in points."""
    interval: tuple[float, float] | None
    """Bootstrap over datasets, the independent units; None below `DATASETS_FOR_BOOTSTRAP` of them."""
    improvement: float
    improvement_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Board:
    """All that was measured under one protocol."""

    protocol: str
    slug: str
    """For file names."""
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[Row, Column], Cell] = field(repr=False)

    def baseline(self, row: Row) -> Row | None:
        """The row without pooling and with everything else as in `row`."""
        if row.code:
            return None  # another version of the code is shown, and not compared
        same = (r for r in self.rows if r.pool == BASELINE and r.context == row.context and not r.code)
        return next(same, None)

    @cached_property
    def versus(self) -> tuple[Versus, ...]:
        """Every setting against no pooling, by dataset; settings that have no such counterpart are left out."""
        return tuple(v for column in self.columns for v in self._compared(column))

    def _compared(self, column: Column) -> Iterable[Versus]:
        families: dict[Row, list[Row]] = defaultdict(list)
        for row in self.rows:
            other = self.baseline(row)
            if other is not None and other != row and self.cells[row, column].runs:
                families[other].append(row)
        for other, rows in families.items():
            pairs = [paired(self.cells[row, column], self.cells[other, column], len(rows)) for row in rows]
            corrected = statistics.holm([pair.p if pair else None for pair in pairs])
            for row, pair, p in zip(rows, pairs, corrected, strict=True):
                yield Versus(row, column, pair, p, self._improvement(row, other, column))

    def _improvement(self, row: Row, other: Row, column: Column) -> float | None:
        ours, theirs = (list(self.cells[r, column].scores.values()) for r in (row, other))
        if not ours or not theirs:
            return None
        sign = column.metric.sign
        return statistics.probability_of_improvement([sign * x for x in ours], [sign * x for x in theirs])

    @cached_property
    def overall(self) -> tuple[Overall, ...]:
        """Every setting against no pooling over datasets, where there are two at least."""
        by_row: dict[Row, list[Versus]] = defaultdict(list)
        for versus in self.versus:
            if versus.comparison is not None and versus.improvement is not None:
                by_row[versus.row].append(versus)
        return tuple(_overall(row, found) for row, found in by_row.items() if len(found) > 1)

    @cached_property
    def ranking(self) -> Ranking | str:
        """Average ranks over datasets of the settings that ran on all of them, or why there are none."""
        rows = [row for row in self.rows if not row.code and row not in self.twins and self._complete(row)]
        scores = [found for column in self.columns if (found := self._comparable(rows, column))]
        if len(rows) < 2 or len(scores) < 2:
            return (
                f"No ranks: they need two datasets and two settings that ran on all of them without a failure; "
                f"there are {len(scores)} and {len(rows)}."
            )
        return statistics.rank(np.array(scores), [self.name(row) for row in rows])

    @property
    def unranked(self) -> list[str]:
        """Settings that have no rank, since runs of theirs failed or they lack a dataset."""
        return [self.name(row) for row in self.rows if not row.code and not self._complete(row)]

    @cached_property
    def twins(self) -> dict[Row, Row]:
        """Settings that are one network under another name, and the one that stands for them: every run of both has the
        same loss and metrics to the bit, as of no pooling with a sum at the end and of the readout that is a sum."""
        firsts: dict[Hashable, Row] = {}
        found = {}
        for row in sorted(self.rows, key=lambda row: (row.pool != BASELINE, not row.control)):
            runs = [(column, run) for column in self.columns for run in self.cells[row, column].runs]
            if row.code or not runs or not all("loss" in run.record.metrics.train for _, run in runs):
                continue
            first = firsts.setdefault(
                frozenset((c, run.split, run.seed, _measured(run.record)) for c, run in runs), row
            )
            if first is not row:
                found[row] = first
        return found

    def _complete(self, row: Row) -> bool:
        cells = [self.cells[row, column] for column in self.columns]
        return all(cell.scores and not cell.count("failed") and not cell.count("pruned") for cell in cells)

    def _comparable(self, rows: Sequence[Row], column: Column) -> list[float] | None:
        """Mean score of each row over the units that all of them have, higher is better; None without such a unit."""
        cells = [self.cells[row, column] for row in rows]
        common = set.intersection(*(set(cell.scores) for cell in cells)) if cells else set()
        sign = column.metric.sign
        return [sign * fmean(cell.scores[unit] for unit in sorted(common)) for cell in cells] if common else None

    def name(self, row: Row) -> str:
        """A row's label, with its model where a row of another model has the same label."""
        return f"{row.label}, {row.model}" if len(self._models[row.label]) > 1 else row.label

    @cached_property
    def _models(self) -> Mapping[str, set[str]]:
        """Those of the rows of each label."""
        found: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            found[row.label].add(row.model)
        return found

    def name_beside(self, row: Row, baseline: Row) -> str:
        """A row's name without the options that the baseline has too: those stand in the title."""
        shared = set(_OPTION.split(baseline.options))
        own = ", ".join(part for part in _OPTION.split(row.options) if part not in shared)
        return self.name(row).replace(row.label, replace(row, options=own).label, 1)

    @property
    def gauges(self) -> list[Gauge]:
        return sorted({gauge for cell in self.cells.values() for gauge in cell.costs})


def _measured(record: Record) -> str:
    return repr((record.status, record.parameters, record.metrics.parts()))


def paired(cell: Cell, baseline: Cell, comparisons: int = 1) -> Comparison | None:
    """The corrected resampled test of the scores on the units of both; None where they have none in common."""
    common = sorted(set(cell.scores) & set(baseline.scores))
    if not common:
        return None
    ours, theirs = ([c.scores[unit] for unit in common] for c in (cell, baseline))
    return statistics.compare(ours, theirs, cell.test_over_train, comparisons=comparisons)


def _overall(row: Row, found: Sequence[Versus]) -> Overall:
    points = all(v.column.metric.points for v in found)
    # Towards the better side, so that metrics of which less is better can be averaged with the others.
    gains = [v.comparison.difference * v.column.metric.sign for v in found if v.comparison] if points else []
    chances = [v.improvement for v in found if v.improvement is not None]
    return Overall(
        row, len(found), fmean(gains) if gains else None, _over_datasets(gains), fmean(chances), _over_datasets(chances)
    )


def _over_datasets(values: Sequence[float]) -> tuple[float, float] | None:
    return statistics.bootstrap_interval(values) if len(values) >= DATASETS_FOR_BOOTSTRAP else None


def _cost(records: Sequence[Record]) -> Cost:
    epochs = [seconds for r in records if (seconds := epoch_seconds(r)) is not None]
    peaks = [r.memory_peak for r in records if r.memory_peak is not None]
    return Cost(median(epochs) if epochs else None, median(peaks) if peaks else None, len(records))


def epoch_seconds(record: Record) -> float | None:
    """Seconds of a training epoch: of the processor where one thread of it did everything, else of the clock.

    What else runs on a machine, such as the other jobs of a sweep, stretches the clock's.
    """
    alone = value_at(record.config, "trainer.accelerator") == "cpu" and value_at(record.config, "trainer.threads") == 1
    worked = record.time.epoch_cpu if alone else None
    return worked if worked is not None else record.time.epoch


def gauge_of(record: Record) -> Gauge | None:
    """What the costs of a run were measured with; None where nothing was."""
    if record.memory_peak is None and epoch_seconds(record) is None:
        return None
    return Gauge(hardware(record), memory_measure(record))


def memory_measure(record: Record) -> str:
    """Which of `MEMORY` the peak memory is. Before runs said so, it was the GPU's or else the process's."""
    gpu = bool(record.provenance.hardware.get("gpus"))
    before = "allocator" if gpu and value_at(record.config, "trainer.accelerator") != "cpu" else "process"
    return record.diagnostics.get("memory") or before


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
        config, splits = canonical(record.config), record.splits
        setting, (dataset, content) = _setting(config), contents(record)
        return cls(
            setting,
            canonical_json([config.get("protocol"), splits.protocol, splits.version]),
            canonical_json({"pool": pool_name(record), "model": model_name(record), "config": setting}),
            canonical_json([dataset_name(record), dataset, content]),
        )


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
    dataset, data = dict(canonical(record.config).get("dataset") or {}), record.provenance.data
    if "seed" not in dataset:
        return dataset, record.splits.dataset
    seed = dataset.pop("seed")
    files = data.get("sha256") or data.get("files_sha256")
    return dataset, str(files or data.get("where")).removesuffix(f", seed {seed}")


def _setting(config: Mapping[str, Any]) -> dict[str, Any]:
    # The number of devices is execution to a configuration, and yet part of what a run is.
    execution = [key for key in EXECUTION_KEYS if key != "trainer.devices"]
    # A nested protocol chooses hyper-parameters anew in every fold: the search is the setting, not what it chose.
    chosen = list(value_at(config, "search.chosen") or ())
    apart = ["dataset", "protocol", "seed", "split", "fold", "search.chosen"]
    return without(config, [*execution, *apart, *chosen])


def _context(setting: Mapping[str, Any]) -> str:
    return canonical_json(without(setting, ["pool", "loss_weights", "loss_ramp"]))


def value_at(config: Any, dotted: str) -> Any:
    """What a configuration has at a dotted key; None where it has nothing there."""
    for name in dotted.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return None
        config = config[name]
    return config


# ------------------------------------------------------------------------------------------------------------ boards


@dataclass(frozen=True)
class _Entry:
    """A record with its place. code: its version of the code, where that is another than the board's; else empty."""

    record: Record
    place: Place
    code: str
    close: bool

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
        entry = _Entry(one.record, Place.of(one.record), "" if one.kind else one.version, one.kind == "close")
        by_protocol[entry.place.board].append(entry)
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
    rows = _rows(entries)
    columns = _columns(entries)
    found: dict[tuple[Row, Column], list[Run]] = defaultdict(list)
    expected: dict[Column, set[Hashable]] = defaultdict(set)
    for entry in entries:
        column, row = columns[entry.place.column], rows[entry.row]
        run = _run(entry, column.metric)
        found[row, column].append(run)
        expected[column].add((run.split, run.seed))
    ordered = sorted(set(columns.values()), key=lambda c: (c.dataset.lower(), c.key))
    lines = sorted(set(rows.values()), key=lambda r: (r.model, bool(r.code), r.control, r.pool, r.options, r.key))
    cells = {
        (row, column): _cell(found[row, column], column, 0 if row.code else len(expected[column]))
        for row in lines
        for column in ordered
    }
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower().replace("(version 1)", "").replace("version ", "v")).strip("-")
    return Board(title, slug, tuple(lines), tuple(ordered), cells)


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
        by_key[entry.place.column].append(entry.record)
    firsts = {key: found[0] for key, found in by_key.items()}
    facts = {}
    for key, record in firsts.items():
        dataset, content = contents(record)
        data = content[:8] if re.fullmatch("[0-9a-f]+", content) else content
        facts[key] = (dataset_name(record), {**flatten(dataset), "data": data})
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
    """The score of a run on its test graphs (or another part), where it has one, else None."""
    value = record.metrics.of(part).get(metric.name) if record.done else None
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


# ----------------------------------------------------------------------------------------------------------- sentences


def answers(board: Board, column: Column) -> list[str]:
    """Whether pooling beats no pooling on a dataset and how sure that is: a sentence for each baseline."""
    found: dict[Row, list[Versus]] = defaultdict(list)
    for versus in board.versus:
        other = board.baseline(versus.row)
        if versus.column == column and other is not None and not versus.row.control:
            found[other].append(versus)
    if not found:
        return [f"Cannot tell: there are no runs of a pooling operator and of {BASELINE} with the same settings."]
    several = len(found) > 1
    return [(f"With {_described(other)}: " if several else "") + _answer(all) for other, all in found.items()]


def _described(row: Row) -> str:
    return f"the {row.model} model" + (f" ({row.options})" if row.options else "")


def _answer(found: Sequence[Versus]) -> str:
    by_verdict: dict[str, list[Versus]] = defaultdict(list)
    for versus in found:
        by_verdict[versus.verdict].append(versus)
    parts = [_proven(v) for v in [*by_verdict["better"], *by_verdict["worse"]]]
    undecided, unknown = by_verdict["no detectable difference"], by_verdict["cannot tell"]
    if undecided:
        parts.append(_undecided(undecided))
    if unknown:
        parts += [f"cannot tell for {v.row.label} ({v.words.removeprefix('cannot tell: ')})" for v in unknown]
    head = "Yes" if by_verdict["better"] else "Not shown" if undecided else "No" if by_verdict["worse"] else ""
    text = f"{head}: {'; '.join(parts)}." if head else f"{'; '.join(parts)}."
    return text[0].upper() + text[1:]


def _proven(versus: Versus) -> str:
    return f"{versus.row.label} is {versus.words} ({versus.interval}, {p_text(versus.corrected)}, {versus.counted})"


def _undecided(found: Sequence[Versus]) -> str:
    """One clause for all settings that could not be told from no pooling."""
    sizes = sorted(v.comparison.detectable for v in found if v.comparison and v.comparison.detectable is not None)
    counts = sorted({v.comparison.n for v in found if v.comparison})
    closest = min(found, key=lambda v: v.corrected if v.corrected is not None else 1.0)
    column = closest.column
    names = [v.row.label for v in found]
    who = ", ".join(names) if len(names) <= 6 else f"{len(names)} operators"
    low, high = column.metric.gap(sizes[0]), column.metric.gap(sizes[-1])
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"no detectable difference between {BASELINE} and {who} "
        f"({'smallest ' if len(found) > 1 else ''}{p_text(closest.corrected)}); {n} {column.unit} could have shown "
        f"{low if low == high else f'{low} to {high}'} {column.metric.unit}"
    )


def p_text(p: float | None) -> str:
    """A corrected p value in words, never as 0."""
    return f"Holm-corrected p {'' if p is not None and p < 0.001 else '= '}{p_number(p)}"


def p_number(p: float | None) -> str:
    """A p value with two digits, or a dash."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
