"""Tables of what is compared with an operator (`comparing`): by dataset, and over datasets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from poolbench.report import statements
from poolbench.report.board import Board, Column, Metric
from poolbench.report.comparing import REGION, Compared, Pair, short
from poolbench.report.table import Table, p_number
from poolbench.statistics import LEVEL, POWER
from poolbench.statistics.datasets import REGIONS, SCALES


def tables(found: Sequence[tuple[Board, Sequence[Compared]]]) -> list[Table]:
    """Those of several boards, named apart."""
    return [
        table for board, parts in found for table in of_board(board, parts, f"{board.slug}-" if len(found) > 1 else "")
    ]


def of_board(board: Board, parts: Sequence[Compared], before: str = "") -> list[Table]:
    """For each baseline: a line a dataset and operator; where datasets are enough a line an operator that says where it
    helps and what it costs, and one over datasets. before: their names."""
    made = []
    for number, one in enumerate(parts, 1):
        name = f"{before}against-{one.baseline.pool}" + (f"-{number}" if len(parts) > 1 else "")
        made.append(_by_dataset(board, one, name))
        if one.means:
            made.append(statements.table(board, one, f"{name}-statements"))
            made.append(over_datasets(board, one, f"{name}-over"))
    return made


def _by_dataset(board: Board, one: Compared, name: str) -> Table:
    header = ("dataset", "pool", "difference", f"{LEVEL:.0%} interval", "all at once", "one more training", "p",
              "resampled p", "by", "n", "would decide", "in words")  # fmt: skip
    rows, records = [], []
    for pair in sorted(one.pairs.values(), key=_order):
        d, beside, metric = pair.found, pair.resampled, pair.column.metric
        unit = "" if metric.points else f" {metric.unit}"
        rows.append((
            pair.column.dataset, board.label_beside(pair.row, one.baseline), metric.signed(d.difference) + unit,
            metric.between(d.low, d.high), metric.between(d.joint_low, d.joint_high),
            metric.between(d.new_low, d.new_high), p_number(d.p), p_number(beside.p if beside else None), pair.by,
            pair.counted, pair.wanted, pair.words,
        ))  # fmt: skip
        records.append({
            "protocol": board.protocol, "dataset": pair.column.dataset, "against": one.baseline.pool,
            "pool": pair.row.pool, "model": pair.row.model, "setting": pair.row.options, "metric": metric.name,
            "by": pair.by, **vars(d), "resampled_p": beside and beside.p, "resampled_low": beside and beside.low,
            "resampled_high": beside and beside.high, "repeats": d.repeats, "repeats_wanted": pair.repeats,
            "verdict": pair.verdict,
        })  # fmt: skip
    title = f"Against {board.name(one.baseline)}, {board.protocol}"
    return Table(name, title, _caption(one), header, tuple(rows), 2, tuple(records))


def _order(pair: Pair) -> tuple[str, str, float, str]:
    return pair.column.dataset.lower(), pair.column.key, -pair.gain, pair.row.label


def _caption(one: Compared) -> str:
    base = one.baseline.pool
    units = "in points" if all(c.metric.points for c in one.families) else "in points, or in the metric that is named"
    said = [f"Differences pool - {base}, {units}, on what both were trained and tested on."]
    if any(column not in one.whole for column in one.families):
        said.append(
            "By graphs: of the share of right answers, graph by graph. The interval is about graphs like these, "
            "averaged over trainings like these: repeats make the training's part smaller, and never the graphs'. All "
            "at once: intervals that hold for all operators of the dataset together (Dunnett). One more training: "
            "where the difference would lie if both were trained once more, on another training set of this size."
        )
    if one.whole:
        said.append(
            "By runs: of the scores of whole runs, by the corrected resampled t test (Nadeau & Bengio, 2003); all at "
            f"once after Bonferroni. So it is for {_reasons(one.whole.items())}."
        )
    said.append(
        "p belongs to all at once, and words go by them. Resampled p: that test of whole runs alone, not corrected for "
        f"the number of operators. What could have been shown: at power {POWER}, for all at once. Equivalent: two "
        f"one-sided tests show less than {short(REGION)} points. Would decide: about how many repeats of the whole "
        f"protocol would with probability {POWER}, were the difference what it is estimated at; more graphs: no number "
        "of repeats would; a dash: it is decided, or one repeat does not tell."
    )
    return " ".join(said)


def _reasons(whole: Iterable[tuple[Column, str]]) -> str:
    """Such as: PROTEINS and MUTAG (why), ogbg-molhiv (why)."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for column, reason in whole:
        by_reason[reason].append(column.dataset)
    return ", ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())


def over_datasets(board: Board, one: Compared, name: str) -> Table:
    """Without rows where datasets are too few."""
    low, high = REGIONS
    header = ("pool", "datasets", "mean gain", f"{LEVEL:.0%} interval", "the next dataset",
              f"within {short(low)} point", f"within {short(high)} points", "other priors")  # fmt: skip
    lines, records = [], []
    for row, mean in sorted(one.means.items(), key=lambda item: -item[1].mean.expected):
        own = [next(m for m in over.means if m.name == row.key) for over in one.over]
        decisions = [mean.decision(region) for region in REGIONS]
        other = [[m.decision(region) for region in REGIONS] for m in (own[0], own[2])]
        ends, following = mean.mean.interval(), mean.next.interval()
        metric = Metric()
        lines.append((
            board.label_beside(row, one.baseline), str(mean.datasets), metric.signed(mean.mean.expected),
            metric.between(*ends), metric.between(*following), *decisions,
            "the same" if all(o == decisions for o in other) else "; ".join(", ".join(o) for o in other),
        ))  # fmt: skip
        record: dict[str, Any] = {
            "protocol": board.protocol, "against": one.baseline.pool, "pool": row.pool, "model": row.model,
            "setting": row.options, "datasets": mean.datasets, "gain": mean.mean.expected, "low": ends[0],
            "high": ends[1], "next_low": following[0], "next_high": following[1],
        }  # fmt: skip
        for scale, found in zip(SCALES, own, strict=True):
            for region in REGIONS:
                tag = f"{short(region)}_prior_{short(scale)}"
                worse, same, better = found.mean.within(region)
                record |= {f"worse_{tag}": worse, f"equivalent_{tag}": same, f"better_{tag}": better}
        records.append(record)
    spreads = ", ".join(f"{short(over.spread)} under {short(over.scale)}" for over in one.over)
    caption = (
        f"A hierarchical model of the gains over {one.baseline.pool} on the real datasets, in points, with one spread "
        f"from dataset to dataset for all operators; the prior of the spread is half-normal with a scale of "
        f"{short(SCALES[1])} points, and the last column says what {short(SCALES[0])} and {short(SCALES[2])} "
        f"would. Its posterior median is {spreads} points. A decision (better, equivalent, worse) has a probability of "
        f"{LEVEL:.0%} at least, with gains within the region counted as none; it is about the mean over datasets "
        "like these. Tasks that were made for a question, and datasets with too few runs, are not among them."
    )
    title = f"Over datasets against {board.name(one.baseline)}, {board.protocol}"
    return Table(name, title, caption, header, tuple(lines), 1, tuple(records))
