"""The tables of a board: results, what they show against no pooling, ranks, costs and failures."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Any

from poolbench.records.record import PAIRED
from poolbench.report import against
from poolbench.report.board import MEMORY, Board, Cell, Column, Cost, Gauge, Row
from poolbench.report.evidence import Evidence
from poolbench.report.table import Table, p_number
from poolbench.statistics import LEVEL
from poolbench.statistics.families import ENOUGH
from poolbench.wording import count


def tables(evidence: Evidence) -> list[Table]:
    """All tables of a board that have something to say."""
    board = evidence.board
    made = [results(board), categories(board), *against.of_board(board, evidence.compared), ranks(board)]
    made += [costs(board, gauge, i) for i, gauge in enumerate(board.gauges, 1)]
    return [table for table in [*made, failures(board)] if table.rows]


def results(board: Board) -> Table:
    """A row a setting, a column a dataset."""
    options = any(row.options or row.code for row in board.rows)
    shifted = {c for c in board.columns if any(board.cells[row, c].in_domain for row in board.rows)}
    headings = [text for c in board.columns for text in (_heading(c), *(["in domain"] if c in shifted else []))]
    header = ["pool", "model", *(["setting"] if options else []), "parameters", *headings]
    rows = []
    for row in board.rows:
        cells = [board.cells[row, column] for column in board.columns]
        marks = ", ".join(filter(None, [row.options, row.code and f"other code {row.code[:8]}"]))
        text = [
            said
            for cell, column in zip(cells, board.columns, strict=True)
            for said in (cell_text(cell, column), *([in_domain_text(cell, column)] if column in shifted else []))
        ]
        rows.append((_pool(row), row.model, *([marks] if options else []), _parameters(cells), *text))
    caption = (
        f"Mean of the test metric ± half the width of its {LEVEL:.0%} interval, or its ends where it is cut at 0 or 1, "
        "with the variance corrected for resampled splits (Nadeau & Bengio, 2003); "
        f"n counts {' or '.join(sorted({c.unit for c in board.columns}))}, of which fewer than {ENOUGH} say nothing of "
        "their spread: too few runs. Failed, pruned and missing runs are counted and are in no mean."
    )
    if shifted:
        caption += (
            " In domain: the same of held-out graphs like those of training; the test graphs are of another domain."
        )
    return Table("results", f"Test results, {board.protocol}", caption, tuple(header), tuple(rows),
                 3 if options else 2, tuple(_result_records(board)))  # fmt: skip


def cell_text(cell: Cell, column: Column) -> str:
    """Such as `0.757 ± 0.043 (n = 10; 1 failed)`; so many runs of close code as `3 close`."""
    found = cell.estimate
    if found is None:
        return ", ".join(cell.lost) or "–"
    counted = f"n = {found.n}" + (", too few runs" if found.n < ENOUGH else "")
    close = [f"{cell.close} close"] if cell.close else []
    return f"{column.metric.said(found)} ({'; '.join([counted, *close, *cell.lost])})"


def in_domain_text(cell: Cell, column: Column) -> str:
    """The same of held-out graphs like those of training."""
    return "–" if cell.in_domain is None else column.metric.said(cell.in_domain)


def _heading(column: Column) -> str:
    if column.metric.name == "accuracy":
        return column.dataset
    return f"{column.dataset}, {column.metric.name}" + (" (less is better)" if column.metric.mode == "min" else "")


def _pool(row: Row) -> str:
    return f"{row.pool} (control)" if row.control else row.pool


def _named(row: Row) -> str:
    return _pool(row) + (f" ({row.options})" if row.options else "")


def _parameters(cells: Iterable[Cell]) -> str:
    counts = sorted({cell.parameters for cell in cells if cell.parameters is not None})
    if not counts:
        return "–"
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}–{counts[-1]:,}"


def _identity(board: Board, row: Row, column: Column) -> dict[str, Any]:
    return {"protocol": board.protocol, "dataset": column.dataset, **_row_identity(row)}


def _row_identity(row: Row) -> dict[str, Any]:
    return {
        "pool": row.pool,
        "model": row.model,
        "setting": row.options,
        "control": row.control,
        "other_code": row.code,
    }


def _result_records(board: Board) -> Iterable[dict[str, Any]]:
    any_close = any(cell.close for cell in board.cells.values())
    any_shift = any(cell.in_domain for cell in board.cells.values())
    for (row, column), cell in board.cells.items():
        found, beside = cell.estimate, cell.in_domain
        yield {
            **_identity(board, row, column),
            "metric": column.metric.name,
            "mean": found and found.mean,
            "std": found and found.std,
            "n": found.n if found else 0,
            "unit": column.unit,
            "low": found and found.low,
            "high": found and found.high,
            "test_over_train": cell.test_over_train,
            "runs": cell.count("done"),
            "failed": cell.count("failed"),
            "pruned": cell.count("pruned"),
            "missing": cell.missing,
            **({"close": cell.close} if any_close else {}),
            **(
                {
                    "in_domain_mean": beside and beside.mean,
                    "in_domain_low": beside and beside.low,
                    "in_domain_high": beside and beside.high,
                }
                if any_shift
                else {}
            ),
            "parameters": cell.parameters,
        }


def categories(board: Board) -> Table:
    """Of metrics that are counted by category (`pairs/cfi` of `pairs`), a row a setting and dataset, a column each."""
    found = {at: counted for at, cell in board.cells.items() if (counted := _counted(cell, at[1]))}
    names = list(dict.fromkeys(name for counted in found.values() for name in counted))
    rows, records = [], []
    for (row, column), counted in found.items():
        n = len(board.cells[row, column].scores)
        means = {name: fmean(values) for name, values in counted.items()}
        told = [f"{means[name]:.4g}" if name in means else "–" for name in names]
        rows.append((column.dataset, _named(row), row.model, *told, str(n)))
        records.append({**_identity(board, row, column), **{name: means.get(name) for name in names}, "n": n})
    totals = ", ".join(f"{kind} {total}" for kind, total in _totals(board).items())
    caption = (
        f"Means over n {' or '.join(sorted({c.unit for _, c in found}))}. Unreliable: pairs of which a graph differs "
        f"from itself by the same test; they count for nothing. There are: {totals}."
    )
    header = ("dataset", "pool", "model", *(name.rpartition("/")[2] for name in names), "n")
    return Table("categories", f"By category, {board.protocol}", caption, header, tuple(rows), 3, tuple(records))


def _counted(cell: Cell, column: Column) -> dict[str, list[float]]:
    """The values of each metric of a cell's runs, where there are some by category."""
    runs = [run.record.metrics.test for run in cell.runs if run.status == "done"]
    names = dict.fromkeys(name for test in runs for name in test)
    if not any(name.startswith(f"{column.metric.name}/") for name in names):
        return {}
    return {name: [test[name] for test in runs if name in test] for name in names}


def _totals(board: Board) -> dict[str, int]:
    """How many pairs each category has, as the records say."""
    said = [run.record.diagnostics.get("pairs") for cell in board.cells.values() for run in cell.runs]
    sizes = [one["of"] for one in said if isinstance(one, dict) and isinstance(one.get("of"), dict)]
    return {name: total for one in sizes for name, total in one.items()}


def ranks(board: Board) -> Table:
    """Average ranks over datasets; without rows where there are none."""
    found = board.ranking
    title = f"Average ranks, {board.protocol}"
    header = ("pool", "average rank", "Nemenyi p against the best")
    if isinstance(found, str):
        return Table("ranks", title, found, header, (), 1, ())
    pairs = list(zip(found.names, found.ranks, found.p_values[0], strict=True))
    rows = tuple((name, f"{rank:.2f}", p_number(p) if i else "–") for i, (name, rank, p) in enumerate(pairs))
    caption = (
        f"Over {found.datasets} datasets; Friedman p = {p_number(found.p)}; ranks closer than the critical difference "
        f"of {found.critical_difference:.2f} cannot be told apart (Nemenyi)."
    )
    if board.not_ranked_by:
        further = count(board.not_ranked_by, "further split")
        caption += (
            f" By what all of them were scored on: up to {further} of a dataset, which some lack, "
            f"{'is' if board.not_ranked_by == 1 else 'are'} left out."
        )
    if board.unranked:
        caption += f" Without a rank, since runs failed or are missing: {', '.join(board.unranked)}."
    for twin, first in board.twins.items():
        caption += f" {board.name(twin)} is the same network as {board.name(first)}, and is ranked once."
    records = [
        {"protocol": board.protocol, "pool": name, "rank": rank, "p_to_best": p if i else None,
         "datasets": found.datasets, "critical_difference": found.critical_difference, "friedman_p": found.p}
        for i, (name, rank, p) in enumerate(pairs)
    ]  # fmt: skip
    return Table("ranks", title, caption, header, rows, 1, tuple(records))


def costs(board: Board, gauge: Gauge, number: int = 1) -> Table:
    """Time and memory by one gauge, which is never mixed with another."""
    rows, records = [], []
    for row in board.rows:
        found = [board.cells[row, column].costs.get(gauge) for column in board.columns]
        if any(found):
            parameters = _parameters(board.cells[row, column] for column in board.columns)
            rows.append((board.name(row), parameters, *map(_cost_text, found)))
        for column, cost in zip(board.columns, found, strict=True):
            if cost:
                records.append({
                    **_identity(board, row, column), "hardware": gauge.hardware, "seconds_per_epoch": cost.epoch,
                    "peak_memory_bytes": cost.memory, "memory": gauge.memory, "runs": cost.n,
                    "parameters": board.cells[row, column].parameters,
                })  # fmt: skip
    header = ("pool", "parameters", *(column.dataset for column in board.columns))
    caption = (
        f"Median over runs of the median time of {_unit(board)} (of the processor where one thread of it did "
        f"everything, else of the clock), and of the peak memory: {MEMORY[gauge.memory]}."
    )
    name = "costs" if len(board.gauges) == 1 else f"costs-{number}"
    title = f"Time and memory on {gauge}, {board.protocol}"
    return Table(name, title, caption, header, tuple(rows), 1, tuple(records))


def _unit(board: Board) -> str:
    """What the time is of: a record of paired comparison has a model, and no epoch, for each row of its curve."""
    tasks = {run.record.task for cell in board.cells.values() for run in cell.runs}
    return "a pair, trained and tested" if tasks == {PAIRED} else "a training epoch"


def _cost_text(cost: Cost | None) -> str:
    if cost is None:
        return "–"
    parts = [time_text(cost.epoch), memory_text(cost.memory)]
    return f"{', '.join(part for part in parts if part != '–') or '–'} (n = {cost.n})"


def time_text(seconds: float | None) -> str:
    """Seconds with their unit."""
    if seconds is None:
        return "–"
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def memory_text(size: float | None) -> str:
    """Bytes as MB (10^6) or GB (10^9)."""
    if size is None:
        return "–"
    if size < 1e7:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def failures(board: Board) -> Table:
    """Every run without a number, and why."""
    rows, records = [], []
    for (row, column), cell in board.cells.items():
        for run in cell.runs:
            if run.status == "done":
                continue
            rows.append((column.dataset, board.name(row), run.seed, run.status, run.reason, run.id))
            records.append({**_identity(board, row, column), "seed": run.seed, "status": run.status,
                            "reason": run.reason, "id": run.id})  # fmt: skip
    header = ("dataset", "pool", "seed", "status", "reason", "id")
    caption = "Runs that ended without a number. They count in no mean; their reason stands in their record."
    return Table(
        "failures", f"Failed and pruned runs, {board.protocol}", caption, header, tuple(rows), 6, tuple(records)
    )
