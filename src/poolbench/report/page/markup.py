"""What all parts of the page share: how a number leads to its records, and what the filters know of an element."""

from __future__ import annotations

from html import escape

from poolbench.report.board import Board, Cell, Column, Row

LEFT = ' class="l"'


def cell_id(board: Board, row: Row, column: Column) -> str:
    return f"{board.slug}.{board.rows.index(row)}.{board.columns.index(column)}"


def all_id(board: Board, row: Row) -> str:
    """That of what a row came to over datasets."""
    return f"{board.slug}.{board.rows.index(row)}.all"


def link(id: str, text: str, label: str = "") -> str:
    """A number that leads to its records; what has no number leads nowhere. label: what a screen reader says of it."""
    if text in ("", "–"):
        return text
    id, said = escape(id), f' aria-label="{escape(label)}"' if label else ""
    return f'<a class="cell" href="#cell={id}" data-cell="{id}"{said}>{escape(text)}</a>'


def badge(row: Row) -> str:
    return ' <span class="badge">control</span>' if row.control else ""


def lost(cell: Cell) -> int:
    """How many runs have no number."""
    return cell.count("failed") + cell.count("pruned") + cell.missing


def facts(board: Board, row: Row, columns: tuple[Column, ...], said: bool = True) -> dict[str, str | int]:
    """What the filters go by, of a row on these datasets. said: with the dataset, which is one."""
    return {
        "pool": board.name(row),
        "model": row.model,
        **({"dataset": columns[0].dataset} if said else {}),
        "control": int(row.control),
        "lost": int(any(lost(board.cells[row, column]) for column in columns)),
    }


def attributes(found: dict[str, str | int]) -> str:
    return "".join(f' data-{name}="{escape(str(value))}"' for name, value in found.items())


def heads(names: list[tuple[str, bool]]) -> str:
    """Heads of columns, those of names to the left."""
    return "".join(f'<th scope="col"{LEFT if left else ""}>{escape(name)}</th>' for name, left in names)


def interval(middle: float, low: float | None, high: float | None, reach: float, kind: str = "") -> str:
    """An interval as a bar around 0, `reach` of which are shown to either side. kind: better, worse or neither."""
    if low is None or high is None or reach == 0:
        return ""

    def x(value: float) -> float:
        return round(80 + 74 * value / reach, 1)

    colour = f"var(--{kind})" if kind else "currentColor"
    return (
        '<svg class="range" width="160" height="14" aria-hidden="true"><path d="M80 0V14" stroke="var(--zero)"/>'
        f'<path d="M{x(low)} 7H{x(high)}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x(middle)}" cy="7" r="3.5" fill="{colour}"/></svg>'
    )
