"""A table, for people (Markdown, LaTeX) and for programs (CSV, full precision)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from poolbench.errors import one_line, printable

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


def p_number(p: float | None) -> str:
    """A p value with two digits, or a dash."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
