"""A submission beside what is known: its rows among reference rows, and cells that are better than all of these."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from poolbench.records.counting import counted
from poolbench.records.equivalence import Links
from poolbench.records.record import Record
from poolbench.report.board import Board, Column, Row
from poolbench.report.leaderboard import boards
from poolbench.report.report import standing
from poolbench.statistics import LEVEL, Estimate

BEST = 5
"""So many of the reference rows are shown beside the controls, by their place in the first column of all."""


def beside(submitted: Sequence[Record], reference: Sequence[Record], links: Links) -> list[tuple[Board, list[Row]]]:
    """The boards that hold submitted records, each with the rows that are of them.

    Of each side what counts is the installed version of the code, or else the version of most runs: the code of a
    submission need not be installed.
    """
    sides = [standing(counted(records, links), links) for records in (reference, submitted)]
    made = boards(one for side in sides for one in side if one.kind)
    ids = {record.id for record in submitted}
    found = [(board, [row for row in board.rows if _ours(board, row, ids)]) for board in made]
    return [(board, rows) for board, rows in found if rows]


def _ours(board: Board, row: Row, ids: Collection[str]) -> bool:
    return any(run.id in ids for column in board.columns for run in board.cells[row, column].runs)


def jumps(board: Board, ours: Sequence[Row]) -> Iterator[str]:
    """The submitted cells that are better than the best reference row by more than their interval bears."""
    for column in board.columns:
        others = [(row, found) for row in board.rows if row not in ours and (found := _estimate(board, row, column))]
        if not others:
            continue
        metric = column.metric
        best, best_found = max(others, key=lambda one: metric.sign * one[1].mean)
        for row in ours:
            found = _estimate(board, row, column)
            gain = metric.sign * (found.mean - best_found.mean) if found else 0.0
            if found is None or gain <= (found.half or 0.0):
                continue
            said = "which has no interval" if found.half is None else f"{LEVEL:.0%} interval ± {metric.gap(found.half)}"
            yield (
                f"{board.name(row)} on {column.dataset}, {board.protocol}: {metric.text(found.mean)} ({said}) is "
                f"{metric.gap(gain)} {metric.unit} better than the best reference row, {board.name(best)} with "
                f"{metric.text(best_found.mean)}"
            )


def _estimate(board: Board, row: Row, column: Column) -> Estimate | None:
    return board.cells[row, column].estimate


def excerpt(board: Board, ours: Sequence[Row]) -> Board:
    """The board of the submitted rows and, under the same settings, the controls and the best of the reference rows.

    Columns are those that the submission has.
    """
    columns = tuple(c for c in board.columns if any(board.cells[row, c].runs for row in ours))
    contexts = {row.context for row in ours}
    others = [row for row in board.rows if row not in ours and row.context in contexts]
    others = [row for row in others if any(board.cells[row, c].runs for c in columns)]
    ranked = sorted((row for row in others if not row.control), key=lambda row: _place(board, row, columns[0]))
    shown = [*ours, *(row for row in others if row.control), *ranked[:BEST]]
    cells = {(row, column): board.cells[row, column] for row in shown for column in columns}
    return replace(board, rows=tuple(shown), columns=columns, cells=cells)


def _place(board: Board, row: Row, column: Column) -> float:
    found = _estimate(board, row, column)
    return float("inf") if found is None else -column.metric.sign * found.mean
