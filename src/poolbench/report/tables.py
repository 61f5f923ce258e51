"""Tables of a board, for people (Markdown, LaTeX) and for programs (CSV, full precision)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from poolbench.errors import one_line, printable
from poolbench.records.record import PAIRED
from poolbench.report.leaderboard import (
    BASELINE,
    DATASETS_FOR_BOOTSTRAP,
    MEMORY,
    Board,
    Cell,
    Column,
    Cost,
    Gauge,
    Row,
    p_number,
    points,
)
from poolbench.statistics import LEVEL, POWER

FORMATS = ("md", "tex", "csv")


@dataclass(frozen=True)
class Table:
    """Text in rows, what it shows, and the same as records for a program."""

    name: str
    """For file names, unique on a board."""
    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int
    """How many columns hold names, and so stand to the left; the last one too where it holds words."""
    records: tuple[dict[str, Any], ...]

    def written(self, format: str) -> str:
        """As Markdown (`md`), LaTeX (`tex`) or CSV (`csv`), with a line end."""
        return {"md": _markdown, "tex": _latex, "csv": lambda table: to_csv(table.records)}[format](self)


def tables(board: Board) -> list[Table]:
    """All tables of a board that have something to say."""
    made = [results(board), categories(board), against_baseline(board), over_datasets(board), ranks(board)]
    made += [costs(board, gauge, i) for i, gauge in enumerate(board.gauges, 1)]
    return [table for table in [*made, failures(board)] if table.rows]


# -------------------------------------------------------------------------------------------------------- what is shown


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
        f"Mean of the test metric ± half the width of its {LEVEL:.0%} interval, with the variance corrected for "
        f"resampled splits (Nadeau & Bengio, 2003); n counts {' or '.join(sorted({c.unit for c in board.columns}))}. "
        "Failed, pruned and missing runs are counted and are in no mean."
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
    half = "" if found.half is None else f" ± {column.metric.text(found.half)}"
    close = [f"{cell.close} close"] if cell.close else []
    return f"{column.metric.text(found.mean)}{half} ({'; '.join([f'n = {found.n}', *close, *cell.lost])})"


def in_domain_text(cell: Cell, column: Column) -> str:
    """The same of held-out graphs like those of training."""
    found = cell.in_domain
    if found is None:
        return "–"
    return column.metric.text(found.mean) + ("" if found.half is None else f" ± {column.metric.text(found.half)}")


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


def against_baseline(board: Board) -> Table:
    """Every setting against no pooling, on paired units."""
    header = (
        "dataset", "pool", "model", f"difference to {BASELINE}", f"{LEVEL:.0%} interval", "p", "Holm p", "P(better)",
        "n", "in words",
    )  # fmt: skip
    rows, records = [], []
    for versus in board.versus:
        metric, found = versus.column.metric, versus.comparison
        low, high = (found.low, found.high) if found else (None, None)
        rows.append((
            versus.column.dataset,
            _named(versus.row),
            versus.row.model,
            f"{metric.gap(found.difference)} {metric.unit}" if found else "–",
            "–" if low is None or high is None else f"{metric.gap(low)} to {metric.gap(high)}",
            p_number(found.p if found else None),
            p_number(versus.corrected),
            "–" if versus.improvement is None else f"{versus.improvement:.2f}",
            str(found.n if found else 0),
            versus.words,
        ))  # fmt: skip
        records.append({
            **_identity(board, versus.row, versus.column),
            "metric": metric.name,
            "difference": found and found.difference,
            "std": found and found.std,
            "n": found.n if found else 0,
            "unit": versus.column.unit,
            "low": low,
            "high": high,
            "t": found and found.t,
            "p": found and found.p,
            "p_holm": versus.corrected,
            "probability_of_improvement": versus.improvement,
            "detectable_difference": found and found.detectable,
            "verdict": versus.verdict,
        })  # fmt: skip
    caption = (
        f"Paired differences pool − {BASELINE} on the same splits with the same settings, corrected resampled t test; "
        "Holm's correction over the settings compared on a dataset (the interval is that of the pair alone); "
        f"P(better): how often a run beats one of {BASELINE}; what could have been shown: at power {POWER}."
    )
    title = f"Against {BASELINE}, {board.protocol}"
    return Table("against-none", title, caption, header, tuple(rows), 3, tuple(records))


def over_datasets(board: Board) -> Table:
    """Every setting against no pooling, datasets as the units."""
    header = ("pool", "datasets", "mean gain", f"{LEVEL:.0%} interval", "P(better)", f"{LEVEL:.0%} interval")
    rows, records = [], []
    for one in board.overall:
        gain, chance = one.interval, one.improvement_interval
        rows.append((
            board.name(one.row),
            str(one.datasets),
            "–" if one.difference is None else f"{points(one.difference)} points",
            f"{points(gain[0])} to {points(gain[1])}" if gain else "too few datasets",
            f"{one.improvement:.2f}",
            f"{chance[0]:.2f} to {chance[1]:.2f}" if chance else "too few datasets",
        ))  # fmt: skip
        records.append({
            "protocol": board.protocol,
            **_row_identity(one.row),
            "datasets": one.datasets,
            "mean_gain": one.difference,
            "low": gain and gain[0],
            "high": gain and gain[1],
            "probability_of_improvement": one.improvement,
            "probability_low": chance and chance[0],
            "probability_high": chance and chance[1],
        })  # fmt: skip
    caption = (
        f"Gain over {BASELINE}, averaged over datasets; intervals are bootstrapped over datasets, the independent "
        f"units, where there are {DATASETS_FOR_BOOTSTRAP} at least."
    )
    return Table(
        "over-datasets", f"Over all datasets, {board.protocol}", caption, header, tuple(rows), 1, tuple(records)
    )


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


# --------------------------------------------------------------------------------------------------------- how it looks


def document(tables: Sequence[Table], notes: Sequence[str], format: str) -> str:
    """Notes and tables as `md` or `tex`, or what the tables hold as one `csv` file."""
    if format == "csv":
        return to_csv([record for table in tables for record in table.records])
    said = [f"% {printable(note)}" if format == "tex" else markdown_escape(note) for note in notes]
    return "\n".join([*(["\n".join(said) + "\n"] if said else []), *(table.written(format) for table in tables)])


def _aligned(table: Table) -> list[str]:
    """`l` or `r` for each column: names and words to the left, numbers to the right."""
    last = len(table.header) - 1
    return ["l" if i < table.left or (i == last and table.header[i] == "in words") else "r" for i in range(last + 1)]


_HTML = re.compile(r"<(?=[a-zA-Z/!?])")
"""What would begin an element."""


def markdown_escape(text: str) -> str:
    """Plain text as Markdown in one line, in a cell too: nothing of it is a column, an element, a link or a picture."""
    return _HTML.sub(r"\\<", one_line(text).replace("|", "\\|").replace("](", "]\\("))


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(markdown_escape, cells)) + " |"

    rule = "| " + " | ".join("---" if side == "l" else "---:" for side in _aligned(table)) + " |"
    title, caption = markdown_escape(table.title), markdown_escape(table.caption)
    lines = [f"### {title}", "", line(table.header), rule, *map(line, table.rows), "", caption]
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "±": r"$\pm$", "−": "$-$", "–": "--",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Plain text as LaTeX in one line, with a minus sign before negative numbers."""
    escaped = "".join(_LATEX.get(c, c) for c in printable(text))
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        row = " & ".join(map(latex_escape, cells)) + r" \\"
        return f"{{{row[0]}}}{row[1:]}" if row[0] in "[*" else row  # the line break before it would take them

    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_escape(f'{table.title}. {table.caption}')}}}",
            rf"\begin{{tabular}}{{{''.join(_aligned(table))}}}",
            r"\toprule",
            line(table.header),
            r"\midrule",
            *map(line, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def to_csv(records: Sequence[dict[str, Any]]) -> str:
    """Records with the same keys as CSV with a header; what is not known is an empty field.

    A text that a spreadsheet would take for a formula, which begins with =, +, - or @, gets a quote in front.
    """
    if not records:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_text(value) for key, value in record.items()} for record in records)
    return text.getvalue()


def _csv_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    said = printable(value)
    return f"'{said}" if said.lstrip().startswith(("=", "+", "-", "@")) else said
