"""One HTML file that says what was found, from file:// and without a network: no part of it lies elsewhere.

Tables are in the file as plain HTML. Its script filters and sorts them, draws the charts, and shows the records behind
a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from poolbench import __version__
from poolbench.report import against, statements
from poolbench.report.board import BASELINE, MEMORY
from poolbench.report.comparing import REGION, short
from poolbench.report.dial import all_sheets
from poolbench.report.drawn import Drawn
from poolbench.report.evidence import Evidence
from poolbench.report.page.charts import Chart, costs, curves
from poolbench.report.page.matrix import matrix
from poolbench.report.page.records import FIELDS, data, links
from poolbench.report.page.tables import comparisons, folded, in_words, leaderboard
from poolbench.report.report import Report
from poolbench.report.tables import failures, ranks
from poolbench.statistics import LEVEL, POWER
from poolbench.statistics.families import ENOUGH
from poolbench.wording import count

__all__ = ["FIELDS", "page"]

DRAWN_ANEW = ("scores", "costs")
"""Figures that the matrix and the charts take the place of."""


def page(
    report: Report, figures: Mapping[str, Sequence[Drawn]], results: Path, out: Path, gathered: bool = False
) -> str:
    """The page of a report.

    Args:
        figures: the figures of each board, by its slug.
        results: the folder of the records.
        out: the folder that the page will lie in, from which it links to the records.
        gathered: link to the gathered records, with which the page is handed on, also where the runs' own files are
            there.
    """
    runs = [run for board in report.boards for cell in board.cells.values() for run in cell.runs]
    lost = sum(run.status != "done" for run in runs)
    pools = {row.pool for board in report.boards for row in board.rows}
    datasets = {column.dataset for board in report.boards for column in board.columns}
    summary = (
        f"{count(len(pools), 'operator')} on {count(len(datasets), 'dataset')}, {count(len(runs), 'run')}, {lost} of "
        f"them without a number. Written by PoolBench {__version__} (poolbench report)."
    )
    boards = sorted(report.evidence, key=_worth)
    charts: list[Chart] = []
    parts = {
        "summary": escape(summary),
        "notes": f'<div class="notes">{"".join(map(_paragraph, report.notes))}</div>' if report.notes else "",
        "protocols": _options(board.protocol for board in report.boards),
        "datasets": _options(datasets),
        "models": _options(row.model for board in report.boards for row in board.rows),
        "contents": _contents(boards) if len(boards) > 1 else "",
        "boards": "\n".join(_board(evidence, figures.get(evidence.board.slug, ()), charts) for evidence in boards),
        "reading": _READING,
        "style": _file("page.css"),
        "script": _file("charts.js") + _file("page.js"),
    }
    parts["data"] = data(boards, charts, links(results, out, gathered))
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _file("page.html"))


def _worth(evidence: Evidence) -> tuple[int, int]:
    """Boards that compare most come first."""
    return -len(evidence.pairs), -sum(len(cell.runs) for cell in evidence.board.cells.values())


def _contents(boards: Sequence[Evidence]) -> str:
    lines = "".join(
        f'<li><a href="#protocol={quote(one.board.protocol)}">'
        f"{escape(one.board.protocol)}</a>: {count(len(one.board.rows), 'setting')} on "
        f"{count(len(one.board.columns), 'dataset')}, {len(one.pairs)} compared with {BASELINE}</li>"
        for one in boards
    )
    return f'<nav aria-label="Protocols"><ul>{lines}</ul></nav>'


def _file(name: str) -> str:
    return files("poolbench.report.page").joinpath(name).read_text(encoding="utf-8")


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _options(names: Iterable[str]) -> str:
    return "".join(f"<option>{escape(name)}</option>" for name in sorted(set(names), key=str.lower))


def _charts(made: Sequence[Chart], charts: list[Chart]) -> str:
    """Places for charts, which are added to those that the script draws."""
    start = len(charts)
    charts += made
    places = "\n".join(
        f'<figure class="chart" data-chart="{i}"><figcaption>{escape(chart["title"])}</figcaption><div></div></figure>'
        for i, chart in enumerate(made, start)
    )
    kind = made[0]["kind"] if made else ""
    return f'<div class="charts {kind}">{places}</div>' if made else ""


def _board(evidence: Evidence, figures: Sequence[Drawn], charts: list[Chart]) -> str:
    board = evidence.board
    more = "\n".join(_more(evidence))
    no_ranks = _paragraph(board.ranking) if isinstance(board.ranking, str) else ""
    panels = _charts(costs(evidence), charts)
    spent = (
        '<section class="part" aria-label="Cost against gain"><h3>Cost against gain</h3>\n<p class="soft">Up is better '
        f"than {BASELINE}, left is cheaper. Blue and named: the Pareto front of what is shown, which nothing beats in "
        "one and equals in the other, by means alone. Black: controls. Point at a mark for its interval.</p>\n"
        f"{panels}</section>"
        if panels
        else ""
    )
    dials = _charts(curves(all_sheets([board]), evidence), charts)
    turned = (
        f'<section class="part" aria-label="Curves"><h3>Scores over a dial</h3>\n<p class="soft">Mean and {LEVEL:.0%} '
        f"interval at each value, of the score and of the gain over {BASELINE}. Squares: {BASELINE}; "
        f"dashed: other controls, and what has no such key.</p>\n{dials}</section>"
        if dials
        else ""
    )
    drawn = "\n".join(map(_figure, (figure for figure in figures if figure.name not in DRAWN_ANEW)))
    return (
        f'<article data-protocol="{escape(board.protocol)}">\n<h2>{escape(board.protocol)}</h2>\n'
        f"{in_words(evidence)}\n{matrix(evidence)}\n{turned}\n{spent}\n{comparisons(evidence)}\n{leaderboard(evidence)}\n"
        f"{more}\n{no_ranks}\n{drawn}\n</article>"
    )


def _more(evidence: Evidence) -> Iterable[str]:
    """The tables that the page has no part of its own for, folded."""
    board = evidence.board
    for one in evidence.compared:
        if one.means:
            names = {board.label_beside(row, one.baseline): row for row in one.rows}
            yield folded(board, statements.table(board, one, ""), names)
            yield folded(board, against.over_datasets(board, one, ""), names)
    names = {board.name(row): row for row in board.rows}
    yield from (folded(board, table, names) for table in (ranks(board), failures(board)) if table.rows)


def _figure(figure: Drawn) -> str:
    labelled = figure.canvas.inline().replace("<svg ", f'<svg role="img" aria-label="{escape(figure.text)}" ', 1)
    return (
        f'<details class="figure"><summary>{escape(figure.title)}</summary><figure>{labelled}\n'
        f"<figcaption>{escape(figure.text)}</figcaption></figure></details>"
    )


_MEASURES = "; ".join(f"{name}: {text}" for name, text in MEMORY.items())

_READING = f"""<p>A number with ± is the mean over n resampled splits (or seeds on one fixed split) and half the width
of its {LEVEL:.0%} interval. Resampled splits share graphs, so the variance of the mean is (1/n + n_test/n_train) s²
(Nadeau &amp; Bengio, 2003). Below {ENOUGH} runs there is no interval. Pools are compared with {BASELINE} on the same
splits, graph by graph where all runs hold their answers, and by the scores of whole runs elsewhere; intervals and p
hold for all pools of a dataset at once. “Undecided” names the true difference that would have been shown with
probability {POWER}: it is no proof that two pools are alike; “equivalent” is one, within {short(REGION)} points. Over
datasets the gain is that of a hierarchical model of the real ones. Failed, pruned and missing runs are counted and are
in no mean. A control shows what a pool is worth that learns nothing: {BASELINE} pools not at all, random-dense and
random-sparse pool at random. Time and memory are medians over runs, apart for each kind of hardware and measure of
memory; time is that of the processor where one thread of it did everything; memory is one of {_MEASURES}.</p>
<p>In the matrix the hue says which side of {BASELINE} an operator is on, the depth how far, in parts of the large
differences of the table, and the saturation how far the {LEVEL:.0%} interval for all at once keeps away from 0: what
it does not leave out is nearly grey.</p>
<p>The filters act on everything: matrix, charts and tables. Several pools are written with commas: mincut, topk. The
address of this page holds the filters and the order. Within a matrix, a chart or a table the arrow keys lead from
number to number, and Enter shows its records with their file and line; <code>poolbench rerun ID</code> does a run
again.</p>"""
