"""Every operator of a board against one of them: what holds on a dataset, and over datasets.

What is compared are rows that differ in the pool alone, on the trainings that both have: the same split, the same seed.
On a dataset it is done graph by graph (`statistics.graphs`) where the metric is a mean over graphs and all those
trainings say which answers were right; else by the scores of whole runs (`statistics.runs`). Either way there are
intervals that hold for all operators of the dataset at once, and `statistics.datasets` goes on from there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from typing import Literal

import numpy as np

from poolbench import statistics
from poolbench.errors import PoolBenchError, nearest
from poolbench.records.outcomes import hits
from poolbench.report.board import Board, Cell, Column, Row, Run, points
from poolbench.statistics import Comparison, graphs, runs
from poolbench.statistics.datasets import LEAST, REGIONS, SCALES, Mean, Measured, Over, over
from poolbench.statistics.families import ENOUGH, Difference, Family
from poolbench.statistics.graphs import Answers
from poolbench.wording import count

REGION = REGIONS[1]
"""On one dataset, a difference that is shown to be within two points is called equivalent."""

MANY = 100
"""Repeats, or datasets, that would decide: more are nobody's to run."""

MEANS = ("accuracy", "acc")
"""Metrics that are the share of right answers, and so have a part in each graph."""

SEPARATING = ("BREC", "CEXP", "CEXP-WL1", "EXP", "csl")
"""Made for a question, with one draw: as those that are drawn anew for each seed, they stand for no other dataset."""

Verdict = Literal["better", "worse", "equivalent", "undecided", "too few runs"]


def real(column: Column) -> bool:
    """Whether a dataset is one of many like it, and not a task that was made for a question."""
    return column.unit != "draws" and column.dataset.partition(" ")[0] not in SEPARATING


@dataclass(frozen=True)
class Pair:
    """A row against the baseline on a dataset.

    resampled: the corrected resampled test of the scores of whole trainings, to stand beside; None where they are too
    few.
    """

    row: Row
    column: Column
    found: Difference
    resampled: Comparison | None

    @property
    def gain(self) -> float:
        """The difference towards the better side."""
        return self.found.difference * self.column.metric.sign

    @property
    def by(self) -> Literal["graphs", "runs"]:
        return "runs" if self.found.graphs is None else "graphs"

    @property
    def counted(self) -> str:
        """What it rests on: `200 graphs, 10 trainings`, or `10 splits`."""
        d = self.found
        if d.graphs is None:
            return count(d.trainings, self.column.unit.removesuffix("s"))
        return f"{count(d.graphs, 'graph')}, {count(d.trainings, 'training')}"

    @cached_property
    def verdict(self) -> Verdict:
        d = self.found
        if d.error is None or d.joint_low is None or d.joint_high is None or d.freedom is None:
            return "too few runs"
        if d.joint_low > 0 or d.joint_high < 0:
            return "better" if self.gain > 0 else "worse"
        # Two one-sided tests at 1 - LEVEL.
        reach = abs(d.difference) + runs.student(statistics.LEVEL, d.freedom) * d.error
        return "equivalent" if self.column.metric.points and reach < REGION else "undecided"

    @property
    def words(self) -> str:
        """The verdict, and what it rests on."""
        d, verdict, metric = self.found, self.verdict, self.column.metric
        if verdict == "too few runs":
            if d.trainings < ENOUGH:
                what = "training" if self.by == "graphs" else self.column.unit.removesuffix("s")
                return f"too few runs: {count(d.trainings, what)} of both, {ENOUGH} are the least"
            what = "answer" if self.by == "graphs" else "score"
            return f"every {what} is the same as the baseline's" if not d.difference else "all differences are the same"
        if verdict in ("better", "worse"):
            return f"{verdict} by {metric.gap(abs(d.difference))} {metric.unit}"
        if verdict == "equivalent":
            return f"equivalent: within {short(REGION)} points"
        return f"undecided: {self.shown} could have been shown"

    @cached_property
    def repeats(self) -> float | None:
        """About how many repeats of the protocol would decide with `POWER`, were the difference what it is estimated
        at; infinitely many where none would, None where it is decided or cannot be told."""
        d = self.found
        if self.verdict != "undecided" or d.error is None or d.freedom is None or d.joint_high is None:
            return None
        beyond = runs.student(statistics.POWER, d.freedom)
        size, critical = abs(d.difference), (d.joint_high - d.difference) / d.error
        errors = [size / (critical + beyond)]  # it is told from 0 ...
        if self.column.metric.points:  # ... or shown to be small
            errors.append((REGION - size) / (runs.student(statistics.LEVEL, d.freedom) + beyond))
        return d.repeats_for(max(errors))

    @property
    def wanted(self) -> str:
        """The same in words."""
        wanted = self.repeats
        if wanted is None:
            return "–"
        if math.isinf(wanted):
            return "more graphs"
        return f"over {MANY} repeats" if wanted > MANY else count(math.ceil(wanted), "repeat")

    @property
    def shown(self) -> str:
        """The difference that would have been found, for all operators at once; in words."""
        metric, size = self.column.metric, self.found.joint_detectable
        if size is None or (metric.points and size > 1):
            return "no difference"
        return f"{metric.gap(size)} {metric.unit}"


@dataclass(frozen=True)
class Compared:
    """Rows that differ in the pool alone, against the baseline among them.

    pairs: by row and dataset. families: of each dataset, by the keys of rows. whole: why a dataset was compared by
    whole runs, where it was.
    """

    baseline: Row
    pairs: Mapping[tuple[Row, Column], Pair]
    families: Mapping[Column, Family]
    whole: Mapping[Column, str]

    @property
    def rows(self) -> list[Row]:
        return list(dict.fromkeys(row for row, _ in self.pairs))

    @cached_property
    def over(self) -> tuple[Over, ...]:
        """Gains over the real datasets whose metric has points and on which rows have intervals, under each scale of
        `SCALES`; none where these datasets are too few."""
        measured = []
        for column, family in self.families.items():
            if real(column) and column.metric.points and family.known:
                gains = np.array([column.metric.sign * family.differences[name].difference for name in family.known])
                measured.append(Measured(family.known, gains, family.covariance))
        return tuple(over(measured, scale) for scale in SCALES) if len(measured) >= LEAST else ()

    @cached_property
    def means(self) -> Mapping[Row, Mean]:
        """What each row came to over datasets, under the scale that is decided by; none where datasets are too few."""
        if not self.over:
            return {}
        found = {mean.name: mean for mean in self.over[1].means}
        return {row: found[row.key] for row in self.rows if row.key in found and found[row.key].datasets >= LEAST}


def compared(board: Board, operator: str) -> list[Compared]:
    """Every setting of a board that has runs of the operator and of others with everything else alike."""
    by_context: dict[str, list[Row]] = defaultdict(list)
    for row in board.rows:
        if not row.code:  # another version of the code is shown, and not compared
            by_context[row.context].append(row)
    made = [
        _compared(board, baseline, [row for row in rows if row != baseline])
        for rows in by_context.values()
        for baseline in rows
        if baseline.pool == operator
    ]
    return [one for one in made if one.pairs]


def all_compared(boards: Sequence[Board], operator: str) -> list[tuple[Board, list[Compared]]]:
    """By board, what is compared with an operator.

    Raises `PoolBenchError` where no board has it, or nothing to compare it with.
    """
    names = {row.pool for board in boards for row in board.rows if not row.code}
    if operator not in names:
        raise PoolBenchError(f"--against {operator}: these records have no such pool{nearest(operator, sorted(names))}")
    made = [(board, found) for board in boards if (found := compared(board, operator))]
    if not made:
        raise PoolBenchError(
            f"--against {operator}: no other operator with the same settings has a number for a split, or a seed, that "
            f"{operator} has one for"
        )
    return made


def _compared(board: Board, baseline: Row, rows: Sequence[Row]) -> Compared:
    pairs, families, whole = {}, {}, {}
    for column in board.columns:
        theirs = board.cells[baseline, column]
        cells = {row.key: cell for row in rows if (cell := board.cells[row, column]).scores.keys() & theirs.scores}
        if not cells:
            continue
        family: Family | None = None
        if column.metric.name not in MEANS:
            whole[column] = f"{column.metric.name} is no mean over graphs"
        elif (family := _by_graph(theirs, cells)) is None:
            whole[column] = "some of its runs have no answers to single graphs"
        families[column] = family or runs.against(
            {name: cell.scores for name, cell in cells.items()}, theirs.scores,
            {name: cell.test_over_train for name, cell in cells.items()},
        )  # fmt: skip
        for row in rows:
            if (found := families[column].differences.get(row.key)) is not None:
                pairs[row, column] = Pair(row, column, found, _resampled(cells[row.key], theirs))
    return Compared(baseline, pairs, families, whole)


def _resampled(cell: Cell, baseline: Cell) -> Comparison | None:
    """The corrected resampled test of the scores on the units of both."""
    common = sorted(cell.scores.keys() & baseline.scores)
    if len(common) < ENOUGH:
        return None
    ours, theirs = ([c.scores[unit] for unit in common] for c in (cell, baseline))
    return statistics.compare(ours, theirs, cell.test_over_train)


# ------------------------------------------------------------------------------------------------- answers by graph

Training = tuple[str, str]
"""A split and a seed."""


def _by_graph(baseline: Cell, cells: Mapping[str, Cell]) -> Family | None:
    """None where a training that is to be compared has no answers to single graphs."""
    theirs, ours = trainings(baseline), {name: trainings(cell) for name, cell in cells.items()}
    common = [training for training in theirs if any(training in one for one in ours.values())]
    chosen = [[one[training] for training in common if training in one] for one in (theirs, *ours.values())]
    made = numbered(chosen)
    return None if made is None else graphs.against(dict(zip(ours, made[1:], strict=True)), made[0])


def numbered(operators: Sequence[Sequence[Run]]) -> list[Answers] | None:
    """The answers of each operator's runs, with numbers of graphs and of trainings that are the same for all of them.

    None where a run has no answers to single graphs, or an operator no run.
    """
    said = [[hits(run.record.outcomes) if run.record.outcomes else None for run in part] for part in operators]
    if not all(part and all(one and one[1] is not None for one in part) for part in said):
        return None
    # Numbers of graphs go on from draw to draw, so that there is one for each.
    sizes: dict[str, int] = {}
    for run, one in zip(chain(*operators), chain(*said), strict=True):
        sizes[run.draw] = max(sizes.get(run.draw, 0), 1 + int(one[0][-1]) if one and len(one[0]) else 0)
    starts = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    numbers: dict[Training, int] = {}
    for run in chain(*operators):
        numbers.setdefault((run.split, run.seed), len(numbers))
    return [
        Answers(
            np.concatenate([one[0] + starts[run.draw] for run, one in zip(part, answers, strict=True) if one]),
            np.repeat([numbers[run.split, run.seed] for run in part], [len(one[0]) for one in answers if one]),
            np.concatenate([one[1] for one in answers if one and one[1] is not None]).astype(float),
        )
        for part, answers in zip(operators, said, strict=True)
    ]  # fmt: skip


def trainings(cell: Cell) -> dict[Training, Run]:
    """A cell's finished runs, one for each training; of several the first."""
    found: dict[Training, Run] = {}
    for run in cell.runs:
        if run.status == "done":
            found.setdefault((run.split, run.seed), run)
    return found


def short(value: float) -> str:
    """In hundredths, as short as it can be said: `2`, `0.5`."""
    return points(value).removesuffix(".0")
