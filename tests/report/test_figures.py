"""Figures: what they draw, that nothing of them is cut off or lies over something else, and their files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from poolbench.errors import RunError
from poolbench.records.counting import Counted
from poolbench.records.record import Record
from poolbench.report import leaderboard
from poolbench.report.figures import COLOURS, GREY, INK, Drawn, draw, pareto
from poolbench.report.leaderboard import Board

Maker = Callable[..., Record]
POOLS = {"none": 0.70, "random-dense": 0.69, "mincut": 0.75, "asymcheegercut": 0.71}


def boards(records: list[Record]) -> list[Board]:
    return leaderboard.boards(Counted(made, "abc", "same") for made in records)


@pytest.fixture
def board(record: Maker) -> Board:
    made = [
        record(seed, score + 0.01 * seed, pool, dataset, epoch=0.1 * (1 + i))
        for i, (pool, score) in enumerate(POOLS.items())
        for dataset in ("MUTAG", "PROTEINS", "NCI1")
        for seed in range(3)
    ]
    return boards([*made, record(7, None, "lapool")])[0]


@pytest.fixture
def figures(board: Board) -> dict[str, Drawn]:
    return {figure.name: figure for figure in draw(board)}


def texts(figure: Drawn) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.figure.findobj(Text) if t.get_visible() and t.get_text()]


def test_all_figures_are_drawn(figures: dict[str, Drawn]) -> None:
    assert list(figures) == ["scores", "costs", "ranks", "curves", "diagnostics"]


def test_the_scores_show_means_intervals_and_failures(board: Board, figures: dict[str, Drawn]) -> None:
    place = next(axes for axes in figures["scores"].figure.axes if axes.get_title() == "MUTAG")
    drawn = {tuple(round(float(x), 6) for x in line.get_xdata()) for line in place.get_lines()}
    column = next(c for c in board.columns if c.dataset == "MUTAG")
    for row in board.rows:
        found = board.cells[row, column].estimate
        if found is not None and found.low is not None and found.high is not None:
            assert (round(found.mean, 6),) in drawn
            assert (round(found.low, 6), round(found.high, 6)) in drawn
    assert "1 failed, 3 missing" in texts(figures["scores"])


def test_every_setting_stands_in_every_legend(figures: dict[str, Drawn]) -> None:
    # The failed run left a curve and diagnostics, and no score to set against its cost.
    for name, shown in (("costs", set(POOLS)), ("curves", {*POOLS, "lapool"})):
        (legend,) = figures[name].figure.legends
        assert {text.get_text() for text in legend.get_texts()} == shown
    assert {*POOLS, "lapool"} <= set(texts(figures["diagnostics"]))


def test_settings_without_a_rank_are_not_in_the_diagram(figures: dict[str, Drawn]) -> None:
    said = texts(figures["ranks"])
    assert "mincut  1.00" in said and not any("lapool" in text for text in said)


def test_no_text_is_cut_off_or_lies_over_another(figures: dict[str, Drawn]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for figure in figures.values():
        canvas = FigureCanvasAgg(figure.figure)
        canvas.draw()
        width, height = canvas.get_width_height()
        boxes = _boxes(figure, canvas.get_renderer())
        for text, box in boxes:
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, f"{figure.name}: {text!r} is cut off"
        for i, (text, box) in enumerate(boxes):
            for other, second in boxes[i + 1 :]:
                over = min(box.x1, second.x1) - max(box.x0, second.x0), min(box.y1, second.y1) - max(box.y0, second.y0)
                assert min(over) <= 1, f"{figure.name}: {text!r} and {other!r} overlap"


def _boxes(figure: Drawn, renderer: Any) -> list[tuple[str, Any]]:
    from matplotlib.axis import Tick
    from matplotlib.text import Text

    hidden = {
        id(label)
        for tick in figure.figure.findobj(Tick)
        for label in (tick.label1, tick.label2)
        if not _shown(tick) or not label.get_visible()
    }
    found = [t for t in figure.figure.findobj(Text) if t.get_text() and t.get_visible() and id(t) not in hidden]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in found if t.axes is None or t.axes.get_visible()]


def _shown(tick: Any) -> bool:
    """Whether a tick lies within its axis: matplotlib keeps one beyond either end and does not draw it."""
    axis = tick.axes.xaxis if tick in tick.axes.xaxis.get_major_ticks() else tick.axes.yaxis
    low, high = sorted(axis.get_view_interval())
    return bool(low <= tick.get_loc() <= high)


def test_the_pareto_front_by_brute_force() -> None:
    points = [(3.0, 0.7), (1.0, 0.5), (2.0, 0.6), (2.5, 0.55), (2.0, 0.5), (4.0, 0.7)]

    def beaten(i: int) -> bool:
        x, y = points[i]
        return any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)

    assert pareto(points) == [1, 2, 0]
    assert sorted(pareto(points)) == [i for i in range(len(points)) if not beaten(i)]
    assert pareto([(1, 0.5), (2, 0.6), (3, 0.4)], sign=-1) == [0, 2]


def test_colours_are_those_of_okabe_and_ito() -> None:
    palette = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"}
    assert set(COLOURS) == palette and GREY not in palette


def test_files_are_the_same_each_time(board: Board, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (figure,) = [f for f in draw(board) if f.name == "ranks"]
        figure.save(tmp_path / folder / "ranks")
    for ending in ("svg", "png"):
        first, second = ((tmp_path / folder / f"ranks.{ending}").read_bytes() for folder in ("a", "b"))
        assert first == second


def test_an_inline_figure_takes_the_pages_colour_and_keeps_its_ids(figures: dict[str, Drawn]) -> None:
    svg = figures["scores"].inline("holdout-scores")
    ElementTree.fromstring(svg)
    assert svg.startswith("<svg") and "currentColor" in svg and INK not in svg and "#ffffff" not in svg
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert all(id.startswith("holdout-scores-") for id in ids)
    assert set(re.findall(r'href="#([^"]*)"', svg)) | set(re.findall(r"url\(#([^)]*)\)", svg)) <= set(ids)


def test_what_has_no_numbers_is_not_drawn(record: Maker) -> None:
    assert draw(boards([record(0, None)])[0])[0].name in ("curves", "diagnostics")
    lean = replace(record(0, 0.7), curve=[], diagnostics={}, memory_peak=None)
    assert [figure.name for figure in draw(boards([lean])[0])] == ["scores", "costs"]


def test_the_diagnostics_are_means_over_runs_by_level(record: Maker) -> None:
    made = [record(seed, 0.7) for seed in range(3)]
    for seed, one in enumerate(made):
        one.diagnostics["pooling"]["levels"] = [
            {"entropy": 0.1 * seed, "ratio": 0.5},
            {"entropy": 0.9, "ratio": None},
        ]
    (figure,) = [f for f in draw(boards(made)[0]) if f.name == "diagnostics"]
    drawn = {axes.get_title(): [float(line.get_xdata()[0]) for line in axes.get_lines()] for axes in figure.figure.axes}
    assert drawn["entropy of assignments"] == pytest.approx([0.1, 0.9])
    assert drawn["nodes kept"] == [0.5] and drawn["density"] == []
    assert [text.get_text() for text in figure.figure.legends[0].get_texts()][1:] == ["level 1", "level 2"]


def test_a_folder_that_cannot_be_written_to(figures: dict[str, Drawn], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        figures["ranks"].save(tmp_path / "file" / "ranks")
