"""A report on disk: tables, figures and a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from poolbench.disk import write_text
from poolbench.report.drawn import Drawn
from poolbench.report.figures import draw
from poolbench.report.page import page
from poolbench.report.report import Report
from poolbench.report.table import FORMATS, Table
from poolbench.report.tables import tables


def write_report(report: Report, results: Path, out: Path, gathered: bool = False) -> list[Path]:
    """Write tables/, figures/ and index.html into `out`; returns the files.

    Args:
        results: the folder of the records, to link to them. gathered: to the gathered ones, whatever else is there.
    """
    figures = {one.board.slug: draw(one) for one in report.evidence}
    written = []
    for one in report.evidence:
        written += write_parts(tables(one), figures[one.board.slug], out, f"{one.board.slug}-")
    write_text(out / "index.html", page(report, figures, results, out, gathered))
    return [*written, out / "index.html"]


def write_parts(tables: Iterable[Table], figures: Iterable[Drawn], out: Path, before: str = "") -> list[Path]:
    """Write tables and figures into tables/ and figures/ of `out`, their names with `before` in front."""
    written = []
    for table in tables:
        for format in FORMATS:
            path = out / "tables" / f"{before}{table.name}.{format}"
            write_text(path, table.written(format))
            written.append(path)
    for figure in figures:
        written += figure.save(out / "figures" / f"{before}{figure.name}")
    return written
