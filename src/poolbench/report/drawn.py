"""What figures have in common: what one is, how settings look, and panels side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from poolbench.errors import RunError
from poolbench.report.board import BASELINE, Column, Metric, Row
from poolbench.report.canvas import INK, Canvas, text_width
from poolbench.report.panels import COLOURS, EDGE, GAP, GREY, HEAD, NUMBER, TITLE, Axis, Look, Panel, names_size

MARKERS = ("o", "^", "D", "v", "P", "X", "<", ">")
CONTROL_MARKERS = ("p", "h")
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Drawn:
    """A figure, its file name without an ending, its title, and what it shows for those who cannot see it."""

    name: str
    title: str
    text: str
    canvas: Canvas
    panels: tuple[Panel, ...] = ()

    def save(self, stem: Path) -> list[Path]:
        """Write `stem`.svg and `stem`.png; returns the files."""
        paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("svg", "png")]
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            paths[0].write_text(self.canvas.svg(), encoding="utf-8")
            paths[1].write_bytes(self.canvas.png())
        except OSError as error:
            raise RunError(f"cannot write {stem}: {(error.strerror or str(error)).lower()}") from error
        return paths


def looks_of(rows: Iterable[Row]) -> dict[Row, Look]:
    """Of the lines of a panel: the baseline in ink, other controls grey, each operator a colour and a marker."""
    looks, operators, controls = {}, 0, 0
    for row in rows:
        if row.pool == BASELINE:
            looks[row] = Look(INK, "s", "-")
        elif row.control:
            looks[row] = Look(GREY, CONTROL_MARKERS[controls % 2], LINES[1 + controls % 2])
            controls += 1
        else:
            line = LINES[operators // len(COLOURS) % len(LINES)]
            looks[row] = Look(COLOURS[operators % len(COLOURS)], MARKERS[operators % len(MARKERS)], line)
            operators += 1
    return looks


def beside(names: Iterable[str], least: float) -> tuple[float, float]:
    """Where panels begin that have names at their left, and the height of each line, `least` at the least."""
    width, height = names_size(names)
    return EDGE + width + 6, max(least, height + 5)


def panel_width(titles: Iterable[str], least: float) -> float:
    """As wide as a panel has to be for titles that stay clear of their neighbours'."""
    return max(least, *(text_width(title, TITLE) - GAP / 2 for title in titles))


def pairs(
    titles: Sequence[str], axes: Mapping[tuple[int, int], tuple[Axis, Axis]], height: float, room: float
) -> tuple[Canvas, dict[tuple[int, int], Panel]]:
    """A sheet with two panels side by side for each title.

    Args:
        axes: by number of the title and side, 0 or 1; where there are none, there is no panel. room: at the right of
            each panel, for names.
    """
    width = panel_width(titles, 250)
    margin = EDGE + 22 + max(text_width(text, NUMBER) for _, y in axes.values() for _, text in y.ticks)
    pitch = margin + width + room + EDGE, HEAD + height + 34
    shown = sorted({i for i, _ in axes})
    canvas = Canvas(2 * pitch[0] + EDGE, len(shown) * pitch[1])
    panels = {}
    for (i, side), (x, y) in axes.items():
        left, top = margin + side * pitch[0], HEAD + shown.index(i) * pitch[1]
        panels[i, side] = Panel(canvas, titles[i], left, top, width, height, x, y)
    return canvas, panels


def named(metric: Metric) -> str:
    return f"test {metric.name}" + (" (less is better)" if metric.mode == "min" else "")


def joined(columns: Sequence[Column]) -> str:
    return ", ".join(column.dataset for column in columns)
