"""What a board is: settings by datasets under one protocol, the runs in each cell, and what they scored and cost.

A board is one protocol. A row is a setting: everything in the configuration but dataset, protocol and seeds. A column
is a dataset with its options and its content; where the content follows the dataset's own seed, it is what draws
it. The runs of a cell differ in their seeds and splits alone, and all come
from one version of the code. Whatever was tried and has no number (failed, pruned, missing where another row has a
run) is counted in the cell.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean, median
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from poolbench import statistics
from poolbench.records.clock import hardware
from poolbench.records.record import Record
from poolbench.statistics import Estimate, Ranking
from poolbench.statistics.families import ENOUGH

BASELINE = "none"
CONTROLS = (BASELINE, "none-normalised", "random-dense", "random-sparse")
"""Pools that every comparison holds to show what pooling itself is worth."""

FRACTIONS = ("accuracy", "acc", "balanced_accuracy", "rocauc", "ap", "f1", "nmi", "ari", "modularity", "conductance")
"""Metrics whose hundredth is called a point."""
SHARES = FRACTIONS[:7]
"""Those that lie between 0 and 1."""

_OPTION = re.compile(r", (?=[\w.]+=)")
"""Between the options of a row."""


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

    def signed(self, difference: float) -> str:
        """The same with its sign; 0 has none but a plus."""
        # Rounded first, so that nothing is written as -0.0.
        return f"{round(100 * difference, 1) + 0.0:+.1f}" if self.points else f"{difference:+.3g}"

    def between(self, low: float | None, high: float | None) -> str:
        """The interval of a difference, cut at what a difference of two shares can be."""
        if low is None or high is None:
            return "–"
        if self.points:
            low, high = max(low, -1.0), min(high, 1.0)
        return f"{self.signed(low)} to {self.signed(high)}"

    @property
    def unit(self) -> str:
        return "points" if self.points else self.name

    def reach(self, found: Estimate) -> list[float]:
        """The ends of an interval as it is shown, cut at what the metric can be; none where fewer than `ENOUGH` units
        say nothing of it."""
        if found.low is None or found.high is None or found.n < ENOUGH:
            return []
        return [min(max(end, 0.0), 1.0) if self.name in SHARES else end for end in (found.low, found.high)]

    def said(self, found: Estimate) -> str:
        """A mean with its interval: `0.757 ± 0.043`, or its ends where one was cut: `0.950 (0.890 to 1.000)`."""
        mean, ends = self.text(found.mean), self.reach(found)
        if not ends or found.half is None:
            return mean
        if ends == [found.low, found.high]:
            return f"{mean} ± {self.text(found.half)}"
        return f"{mean} ({self.text(ends[0])} to {self.text(ends[1])})"


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
    def ranking(self) -> Ranking | str:
        """Average ranks over datasets of the settings that ran on all of them, or why there are none."""
        rows = self._ranked
        scores = [found for column in self.columns if (found := self._comparable(column))]
        if len(rows) < 2 or len(scores) < 2:
            return (
                f"No ranks: they need two datasets and two settings that ran on all of them without a failure; "
                f"there are {len(scores)} and {len(rows)}."
            )
        return statistics.rank(np.array(scores), [self.name(row) for row in rows])

    @cached_property
    def _ranked(self) -> list[Row]:
        return [row for row in self.rows if not row.code and row not in self.twins and self._complete(row)]

    @property
    def not_ranked_by(self) -> int:
        """How many units (splits, draws) of a dataset the ranks leave out at most, since not every setting has them."""
        return max((len(of_any - of_all) for of_all, of_any in map(self._units, self.columns)), default=0)

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

    def _units(self, column: Column) -> tuple[set[str], set[str]]:
        """The units of a dataset that all settings with a rank were scored on, and those that any of them was."""
        units = [set(self.cells[row, column].scores) for row in self._ranked]
        return (set.intersection(*units), set.union(*units)) if units else (set(), set())

    def _comparable(self, column: Column) -> list[float] | None:
        """Mean score of each setting with a rank over the units that all of them have, higher is better; None without
        such a unit."""
        common = sorted(self._units(column)[0])
        cells = [self.cells[row, column] for row in self._ranked]
        return [column.metric.sign * fmean(cell.scores[unit] for unit in common) for cell in cells] if common else None

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

    def label_beside(self, row: Row, baseline: Row) -> str:
        """The same, of a line that says whether it is a control."""
        return self.name_beside(row, baseline) + (" (control)" if row.control else "")

    @property
    def gauges(self) -> list[Gauge]:
        return sorted({gauge for cell in self.cells.values() for gauge in cell.costs})


def _measured(record: Record) -> Hashable:
    return record.status, record.parameters, msgspec.json.encode(record.metrics)


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


def value_at(config: Any, dotted: str) -> Any:
    """What a configuration has at a dotted key; None where it has nothing there."""
    for name in dotted.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return None
        config = config[name]
    return config
