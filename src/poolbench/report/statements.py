"""What a board says of each operator: where it helps or harms, what it costs, and what would decide what is open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from poolbench.report.board import Board, Cell, Column, Cost, Metric, Row
from poolbench.report.comparing import MANY, REGION, Compared, Verdict, short
from poolbench.report.table import Table
from poolbench.statistics import LEVEL, POWER
from poolbench.statistics.datasets import Decision, Mean
from poolbench.wording import count

NAMED = 8
"""Operators in one sentence; of more it says how many."""


@dataclass(frozen=True)
class Statement:
    """What is known of a row beside the baseline.

    on: datasets by verdict. time, memory: of an epoch and at the peak, in parts of the baseline's, the median over
    datasets; None where both were measured by one gauge on none.
    """

    row: Row
    mean: Mean
    on: Mapping[Verdict, Sequence[Column]]
    time: float | None
    memory: float | None

    @property
    def decision(self) -> Decision:
        return self.mean.decision(REGION)

    @property
    def ends(self) -> str:
        return Metric().between(*self.mean.mean.interval())

    @property
    def wanted(self) -> str:
        """How many datasets would decide, where it is open."""
        if self.decision != "undecided":
            return "–"
        wanted = self.mean.wanted(REGION)
        return f"more than {MANY}" if wanted > MANY else str(wanted)


def statements(board: Board, one: Compared) -> list[Statement]:
    """Of every row that is compared over datasets, the largest gain first."""
    made = []
    for row, mean in sorted(one.means.items(), key=lambda item: -item[1].mean.expected):
        on: dict[Verdict, list[Column]] = defaultdict(list)
        for (other, column), pair in one.pairs.items():
            if other == row:
                on[pair.verdict].append(column)
        cells = [(board.cells[row, c], board.cells[one.baseline, c]) for columns in on.values() for c in columns]
        made.append(Statement(row, mean, on, _part(cells, lambda c: c.epoch), _part(cells, lambda c: c.memory)))
    return made


def _part(cells: Sequence[tuple[Cell, Cell]], of: Callable[[Cost], float | None]) -> float | None:
    """The median of first to second, by gauges that measured both."""
    found = []
    for ours, theirs in cells:
        for gauge in ours.costs.keys() & theirs.costs.keys():
            a, b = of(ours.costs[gauge]), of(theirs.costs[gauge])
            if a is not None and b:
                found.append(a / b)
    return median(found) if found else None


def table(board: Board, one: Compared, name: str) -> Table:
    """A line an operator; without rows where datasets are too few."""
    parts: tuple[Verdict, ...] = ("better", "worse", "equivalent", "undecided")
    header = ("pool", f"over datasets, within {short(REGION)} points", "mean gain", f"{LEVEL:.0%} interval",
              "datasets that would decide", *(f"{part} on" for part in parts), "time", "memory")  # fmt: skip
    rows, records = [], []
    for said in statements(board, one):
        gain, ends = said.mean.mean.expected, said.mean.mean.interval()
        places = [", ".join(c.dataset for c in said.on.get(part, ())) or "–" for part in parts]
        costs = ["–" if part is None else f"{part:.2g} x" for part in (said.time, said.memory)]
        rows.append((board.label_beside(said.row, one.baseline), said.decision, Metric().signed(gain), said.ends,
                     said.wanted, *places, *costs))  # fmt: skip
        records.append({
            "protocol": board.protocol, "against": one.baseline.pool, "pool": said.row.pool, "model": said.row.model,
            "setting": said.row.options, "decision": said.decision, "gain": gain, "low": ends[0], "high": ends[1],
            "datasets": said.mean.datasets, "datasets_wanted": said.mean.wanted(REGION),
            **{f"{part}_on": " ".join(c.dataset for c in said.on.get(part, ())) for part in parts},
            "time_ratio": said.time, "memory_ratio": said.memory,
        })  # fmt: skip
    base = one.baseline.pool
    caption = (
        f"Each operator beside {base}. Over datasets: the decision of the hierarchical model, with mean differences "
        f"within {short(REGION)} points counted as none. Datasets that would decide: about how many like these would "
        f"with probability {POWER}, were the mean gain what it is estimated at. On: the verdicts of single datasets, "
        f"which hold for all operators of the dataset at once. Time of a training epoch and memory at its peak, in "
        f"parts of {base}'s: medians over datasets."
    )
    return Table(name, f"In a line each, {board.protocol}", caption, header, tuple(rows), 1, tuple(records))


def sentences(board: Board, one: Compared) -> list[str]:
    """What holds over datasets, a sentence a decision; nothing where datasets are too few."""
    by: dict[Decision, list[Statement]] = defaultdict(list)
    for said in statements(board, one):
        by[said.decision].append(said)
    if not by:
        return []
    base = one.baseline.pool

    def named(found: Sequence[Statement], more: Callable[[Statement], str]) -> str:
        return ", ".join(f"{board.label_beside(each.row, one.baseline)} ({more(each)})" for each in found)

    def gain(each: Statement) -> str:
        return f"{Metric().signed(each.mean.mean.expected)}, {each.ends}"

    most = max(mean.datasets for mean in one.means.values())
    made = [
        f"Over {count(most, 'real dataset')}, mean differences to {base} within {short(REGION)} points counted as none."
    ]
    decided: tuple[tuple[Decision, str], ...] = (
        ("better", f"Better than {base}"), ("worse", f"Worse than {base}"), ("equivalent", f"Equivalent to {base}"),
    )  # fmt: skip
    made += [f"{words}: {named(by[decision], gain)}." for decision, words in decided if by[decision]]
    undecided = sorted(by["undecided"], key=lambda each: each.mean.wanted(REGION))
    if len(undecided) > NAMED:
        ends = [Metric().signed(each.mean.mean.expected) for each in (by["undecided"][-1], by["undecided"][0])]
        made.append(
            f"Undecided: {count(len(undecided), 'operator')}, with mean gains from {ends[0]} to {ends[1]}; "
            f"{undecided[0].wanted} to {undecided[-1].wanted} such datasets would decide."
        )
    elif undecided:
        names = named(undecided, lambda each: f"{gain(each)}: {each.wanted}")
        made.append(f"Undecided, with the number of such datasets that would decide: {names}.")
    return made
