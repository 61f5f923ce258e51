"""Every operator against one of them, graph by graph: what holds on a dataset, and over datasets.

`poolbench.statistics.graphs` has the method for one dataset, `poolbench.statistics.datasets` that over datasets. What
is compared are rows that differ in the pool alone, on the trainings that both have: the same split, the same seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from poolbench.errors import PoolBenchError, nearest
from poolbench.records.outcomes import unpack
from poolbench.records.record import Record
from poolbench.report.leaderboard import Board, Cell, Column, Row, p_number, paired
from poolbench.report.tables import Table
from poolbench.statistics import LEVEL, Comparison
from poolbench.statistics.datasets import LEAST, REGIONS, SCALES, Measured, Over, over
from poolbench.statistics.graphs import ENOUGH, Answers, Difference, Family, against
from poolbench.statistics.runs import student
from poolbench.wording import count

REGION = REGIONS[1]
"""On one dataset, a difference that is shown to be within two points is called equivalent."""

SEPARATING = ("BREC", "CEXP", "CEXP-WL1", "EXP", "csl")
"""Made for a question, with one draw: as those that are drawn anew for each seed, they stand for no other dataset."""

Verdict = Literal["better", "worse", "equivalent", "undecided", "too few runs"]


@dataclass(frozen=True)
class Pair:
    """A row against the baseline on a dataset.

    resampled: the corrected resampled test of the scores of whole trainings, to stand beside.
    """

    row: Row
    column: Column
    found: Difference
    resampled: Comparison | None

    @property
    def verdict(self) -> Verdict:
        d = self.found
        if d.error is None or d.joint_low is None or d.joint_high is None or d.freedom is None:
            return "too few runs"
        if d.joint_low > 0 or d.joint_high < 0:
            return "better" if d.difference > 0 else "worse"
        # Two one-sided tests at 1 - LEVEL.
        reach = abs(d.difference) + student(LEVEL, d.freedom) * d.error
        return "equivalent" if reach < REGION else "undecided"

    @property
    def words(self) -> str:
        """The verdict, and what it rests on."""
        d, verdict = self.found, self.verdict
        if verdict == "too few runs":
            if d.trainings >= ENOUGH:
                return "every answer is the same as the baseline's"
            return f"too few runs: {count(d.trainings, 'training')} of both, {ENOUGH} are the least"
        if verdict in ("better", "worse"):
            return f"{verdict} by {_points(abs(d.difference))} points"
        if verdict == "equivalent":
            return f"equivalent: within {_points(REGION)} points"
        return f"undecided: {_points(d.detectable)} points could have been shown"


@dataclass(frozen=True)
class Group:
    """Rows that differ in the pool alone, against the baseline among them."""

    baseline: Row
    pairs: tuple[Pair, ...]
    families: dict[Column, Family]

    def over(self, scale: float) -> Over | None:
        """Over the real datasets on which rows have intervals; None where those are too few."""
        measured = []
        for column, family in self.families.items():
            if real(column) and family.known:
                values = np.array([family.differences[name].difference for name in family.known])
                measured.append(Measured(family.known, values, family.covariance))
        return over(measured, scale) if len(measured) >= LEAST else None


def real(column: Column) -> bool:
    """Whether a dataset is one of many like it, and not a task that was made for a question."""
    return column.unit != "draws" and column.dataset.partition(" ")[0] not in SEPARATING


def groups(boards: Iterable[Board], operator: str) -> list[tuple[Board, list[Group]]]:
    """By board, every setting that has runs of the operator with everything else alike.

    Raises `PoolBenchError` where no board has it, and where no run has the answers to single graphs.
    """
    made, names, bare = [], set(), 0
    for board in boards:
        by_context: dict[str, list[Row]] = defaultdict(list)
        for row in board.rows:
            if not row.code:
                by_context[row.context].append(row)
                names.add(row.pool)
        found = []
        for rows in by_context.values():
            for baseline in (row for row in rows if row.pool == operator):
                group = _group(board, baseline, [row for row in rows if row != baseline])
                if group.pairs:
                    found.append(group)
                elif len(rows) > 1:
                    bare += 1
        if found:
            made.append((board, found))
    if operator not in names:
        raise PoolBenchError(f"--against {operator}: these records have no such pool{nearest(operator, sorted(names))}")
    if not made:
        why = "can be compared with it"
        if bare:
            why = (
                "has the answers to single graphs, right or wrong, and trainings in common with it; records of older "
                "versions have no answers, and pairs (protocol=brec), values and clusters are none"
            )
        raise PoolBenchError(f"--against {operator}: no other operator with the same settings {why}")
    return made


def _group(board: Board, baseline: Row, rows: Sequence[Row]) -> Group:
    pairs, families = [], {}
    for column in board.columns:
        if not (column.metric.points and column.metric.mode == "max"):
            continue
        cells = {row.key: board.cells[row, column] for row in (baseline, *rows)}
        ours = numbered(cells)
        theirs = ours.pop(baseline.key, None)
        if theirs is None or not ours:
            continue
        family = against(ours, theirs)
        families[column] = family
        for row in rows:
            if row.key in family.differences:
                beside = paired(cells[row.key], cells[baseline.key])
                pairs.append(Pair(row, column, family.differences[row.key], beside))
    return Group(baseline, tuple(pairs), families)


def numbered(cells: Mapping[str, Cell]) -> dict[str, Answers]:
    """The answers of each cell of a dataset, with numbers of graphs and of trainings that are the same in all of them.

    Cells of which no run says what was right are left out.
    """
    draws: dict[str, int] = {}
    trainings: dict[tuple[str, str], int] = {}
    made = {name: _answers(cell, draws, trainings) for name, cell in cells.items()}
    return {name: answers for name, answers in made.items() if answers is not None}


def _answers(cell: Cell, draws: dict[str, int], trainings: dict[tuple[str, str], int]) -> Answers | None:
    """draws, trainings: the numbers that are given out; filled in with those that are new."""
    graph, training, value, seen = [], [], [], set()
    for run in cell.runs:
        right = _right(run.record) if run.status == "done" else None
        if right is None or (run.split, run.seed) in seen:
            continue
        seen.add((run.split, run.seed))
        draw = draws.setdefault(run.draw, len(draws))
        number = trainings.setdefault((run.split, run.seed), len(trainings))
        graph.append(right[0].astype(np.int64) + (draw << 24))
        training.append(np.full(len(right[0]), number))
        value.append(right[1].astype(float))
    return Answers(np.concatenate(graph), np.concatenate(training), np.concatenate(value)) if graph else None


def _right(record: Record) -> tuple[np.ndarray, np.ndarray] | None:
    """Numbers of the test graphs, and whether each was right."""
    if record.outcomes is None:
        return None
    found = unpack(record.outcomes)
    return None if found.right is None else (found.graphs, found.right)


# -------------------------------------------------------------------------------------------------------------- tables


def tables(found: Sequence[tuple[Board, Sequence[Group]]]) -> list[Table]:
    """For each baseline: a line a dataset and operator, and a line an operator over datasets."""
    made = []
    for board, parts in found:
        for number, group in enumerate(parts, 1):
            name = f"against-{group.baseline.pool}" + (f"-{number}" if len(parts) > 1 else "")
            made.append(_by_dataset(board, group, name))
            if rows := _over_rows(board, group):
                made.append(_over_datasets(board, group, name, *rows))
    return made


def _by_dataset(board: Board, group: Group, name: str) -> Table:
    header = ("dataset", "pool", "difference", f"{LEVEL:.0%} interval", "all at once", "one more training", "p",
              "resampled p", "graphs", "trainings", "in words")  # fmt: skip
    rows, records = [], []
    for pair in _sorted(group):
        d, beside = pair.found, pair.resampled
        rows.append((
            pair.column.dataset, _label(board, pair.row, group.baseline), _signed(d.difference),
            _interval(d.low, d.high), _interval(d.joint_low, d.joint_high), _interval(d.new_low, d.new_high),
            p_number(d.p), p_number(beside.p if beside else None), f"{d.graphs:,}", str(d.trainings), pair.words,
        ))  # fmt: skip
        records.append({
            "protocol": board.protocol, "dataset": pair.column.dataset, "against": group.baseline.pool,
            "pool": pair.row.pool, "model": pair.row.model, "setting": pair.row.options,
            "metric": pair.column.metric.name, **vars(d), "resampled_p": beside and beside.p,
            "resampled_low": beside and beside.low, "resampled_high": beside and beside.high, "verdict": pair.verdict,
        })  # fmt: skip
    caption = (
        f"Differences of the share of right answers in points, pool - {group.baseline.pool}, on the graphs and "
        "trainings of both. The interval is about graphs like these, averaged over trainings like these: repeats make "
        "the training's part smaller, and never the graphs'. All at once: intervals that hold for all operators of the "
        "dataset together (Dunnett); p belongs to them, and words go by them. One more training: where the difference "
        "would lie if both were trained once more, on another training set of this size. Resampled p: the corrected "
        "resampled t test of whole trainings (Nadeau & Bengio, 2003), not corrected for their number. "
        f"Equivalent: two one-sided tests show less than {_points(REGION)} points."
    )
    title = f"Graph by graph against {group.baseline.label}, {board.protocol}"
    return Table(name, title, caption, header, tuple(rows), 2, tuple(records))


def _sorted(group: Group) -> list[Pair]:
    return sorted(group.pairs, key=lambda p: (p.column.dataset.lower(), p.column.key, -p.found.difference, p.row.label))


def _over_rows(board: Board, group: Group) -> tuple[list[Row], list[Over]] | None:
    rows = list(dict.fromkeys(pair.row for pair in group.pairs))
    found = [made for scale in SCALES if (made := group.over(scale)) is not None]
    return (rows, found) if len(found) == len(SCALES) else None


def _over_datasets(board: Board, group: Group, name: str, rows: Sequence[Row], found: Sequence[Over]) -> Table:
    low, high = REGIONS
    header = ("pool", "datasets", "mean difference", f"{LEVEL:.0%} interval", "the next dataset",
              f"within {_points(low)} point", f"within {_points(high)} points", "other priors")  # fmt: skip
    by_key = {row.key: row for row in rows}
    lines, records = [], []
    middle = found[SCALES.index(SCALES[1])]
    for mean in sorted(middle.means, key=lambda m: -m.mean.expected):
        row = by_key[mean.name]
        others = [next(m for m in one.means if m.name == mean.name) for one in found if one is not middle]
        decisions = [mean.decision(region) for region in REGIONS]
        other = [[m.decision(region) for region in REGIONS] for m in others]
        interval, following = mean.mean.interval(), mean.next.interval()
        lines.append((
            _label(board, row, group.baseline), str(mean.datasets), _signed(mean.mean.expected), _interval(*interval),
            _interval(*following), *decisions,
            "the same" if all(o == decisions for o in other) else "; ".join(", ".join(o) for o in other),
        ))  # fmt: skip
        record: dict[str, Any] = {
            "protocol": board.protocol, "against": group.baseline.pool, "pool": row.pool, "model": row.model,
            "setting": row.options, "datasets": mean.datasets, "difference": mean.mean.expected,
            "low": interval[0], "high": interval[1], "next_low": following[0], "next_high": following[1],
        }  # fmt: skip
        for scale, one in zip(SCALES, found, strict=True):
            own = next(m for m in one.means if m.name == mean.name)
            for region in REGIONS:
                tag = f"{_points(region)}_prior_{_points(scale)}"
                worse, same, better = own.mean.within(region)
                record |= {f"worse_{tag}": worse, f"equivalent_{tag}": same, f"better_{tag}": better}
        records.append(record)
    spreads = ", ".join(f"{_points(one.spread)} under {_points(one.scale)}" for one in found)
    caption = (
        f"A hierarchical model of the differences to {group.baseline.pool} on the real datasets, with one spread from "
        f"dataset to dataset for all operators; the prior of the spread is half-normal with a scale of "
        f"{_points(SCALES[1])} points, and the last column says what {_points(SCALES[0])} and {_points(SCALES[2])} "
        f"would. Its posterior median is {spreads} points. A decision (better, equivalent, worse) has a probability of "
        f"{LEVEL:.0%} at least, with differences within the region counted as none; it is about the mean over datasets "
        "like these. Tasks that were made for a question are not among them."
    )
    title = f"Over datasets against {group.baseline.label}, {board.protocol}"
    return Table(f"{name}-over", title, caption, header, tuple(lines), 1, tuple(records))


def _label(board: Board, row: Row, baseline: Row) -> str:
    return board.name_beside(row, baseline) + (" (control)" if row.control else "")


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}".removesuffix(".0")


def _signed(value: float) -> str:
    # Rounded first, so that nothing is written as -0.0.
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _interval(low: float | None, high: float | None) -> str:
    """Cut at what a difference of two shares can be."""
    if low is None or high is None:
        return "–"
    return f"{_signed(max(low, -1.0))} to {_signed(min(high, 1.0))}"
