"""A report on disk: tables, figures and a page."""

from __future__ import annotations

from pathlib import Path

from poolbench.disk import write_text
from poolbench.report.figures import draw
from poolbench.report.page import page
from poolbench.report.report import Report
from poolbench.report.tables import tables


def write_report(report: Report, results: Path, out: Path, gathered: bool = False) -> list[Path]:
    """Write tables/, figures/ and index.html into `out`; returns the files.

    Args:
        results: the folder of the records, to link to them. gathered: to the gathered ones, whatever else is there.
    """
    written = []
    for board in report.boards:
        for table in tables(board):
            for format in ("md", "tex", "csv"):
                path = out / "tables" / f"{board.slug}-{table.name}.{format}"
                write_text(path, table.written(format))
                written.append(path)
    figures = {board.slug: draw(board) for board in report.boards}
    for board in report.boards:
        for figure in figures[board.slug]:
            path = out / "figures" / f"{board.slug}-{figure.name}"
            written += figure.save(path)
    write_text(out / "index.html", page(report, figures, results, out, gathered))
    return [*written, out / "index.html"]
