"""Figures: what they draw, that nothing of them is cut off or lies over something else, and their files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from poolbench.errors import RunError
from poolbench.records.counting import Counted
from poolbench.records.record import Record
from poolbench.report import leaderboard
from poolbench.report.board import Board
from poolbench.report.canvas import INK, Line, Markers, Point, Words
from poolbench.report.drawn import Drawn
from poolbench.report.evidence import Evidence
from poolbench.report.figures import draw, pareto
from poolbench.report.panels import COLOURS, GREY, MOST

Maker = Callable[..., Record]
POOLS = {"none": 0.70, "random-dense": 0.69, "mincut": 0.75, "asymcheegercut": 0.71}


def boards(records: list[Record]) -> list[Board]:
    return leaderboard.boards(Counted(made, "abc", "same") for made in records)


@pytest.fixture
def board(record: Maker) -> Board:
    made = [
        record(seed, score + 0.01 * seed * (1 + 0.2 * i), pool, dataset, epoch=0.1 * (1 + i))
        for i, (pool, score) in enumerate(POOLS.items())
        for dataset in ("MUTAG", "PROTEINS", "NCI1")
        for seed in range(5)
    ]
    return boards([*made, record(7, None, "lapool")])[0]


@pytest.fixture
def figures(board: Board) -> dict[str, Drawn]:
    return {figure.name: figure for figure in draw(Evidence(board))}


def texts(figure: Drawn) -> list[str]:
    return [mark.text for mark in figure.canvas.marks if isinstance(mark, Words)]


def points(figure: Drawn) -> set[Point]:
    """Where there is a marker, to a hundredth of a point."""
    marks = (mark for mark in figure.canvas.marks if isinstance(mark, Markers))
    return {rounded(point) for mark in marks for point in mark.points}


def rounded(point: Point) -> Point:
    return round(point[0], 2), round(point[1], 2)


def entries(figure: Drawn) -> list[str]:
    """The names in the legend, which stands below all panels."""
    below = max(panel.bottom for panel in figure.panels)
    words = (mark for mark in figure.canvas.marks if isinstance(mark, Words))
    return [mark.text for mark in words if mark.at[1] > below and mark.anchor == "start"]


def test_all_figures_are_drawn(figures: dict[str, Drawn]) -> None:
    curves = [f"curves-{i}" for i in (1, 2, 3)]
    assert list(figures) == ["scores", "costs", "ranks", *curves, "diagnostics"]


def test_the_scores_show_means_intervals_and_failures(board: Board, figures: dict[str, Drawn]) -> None:
    drawn = figures["scores"]
    panel = next(panel for panel in drawn.panels if panel.title == "MUTAG")
    lines = {tuple(map(rounded, mark.points)) for mark in drawn.canvas.marks if isinstance(mark, Line)}
    column = next(c for c in board.columns if c.dataset == "MUTAG")
    for y, row in enumerate(Evidence(board).rows):
        cell = board.cells[row, column]
        found = cell.estimate
        assert {rounded(panel.at(value, y + 0.26)) for value in cell.scores.values()} <= points(drawn)
        if found is not None and (ends := column.metric.reach(found)):
            assert rounded(panel.at(found.mean, y)) in points(drawn)
            assert tuple(rounded(panel.at(end, y)) for end in ends) in lines
    assert "1 failed, 5 missing" in texts(drawn)


def test_the_scores_are_sorted_by_what_they_gain_over_datasets(board: Board, figures: dict[str, Drawn]) -> None:
    first = figures["scores"].panels[0]
    assert first.title == "all datasets"
    assert [name for _, name in first.y.ticks] == ["mincut", "asymcheegercut", "none", "random-dense", "lapool"]
    over = {row.pool: mean.mean for row, mean in Evidence(board).over.items()}
    gains = {pool: 100 * mean.expected for pool, mean in over.items()}
    assert gains == pytest.approx({"mincut": 5.8, "asymcheegercut": 2.2, "random-dense": -0.6})
    lines = {tuple(map(rounded, mark.points)) for mark in figures["scores"].canvas.marks if isinstance(mark, Line)}
    for y, (_, pool) in enumerate(first.y.ticks):
        if pool in over:
            assert tuple(rounded(first.at(100 * end, y)) for end in over[pool].interval()) in lines
    at = {rounded(first.at(gains[pool], y)) for y, (_, pool) in enumerate(first.y.ticks) if pool in gains}
    assert at <= points(figures["scores"])


def test_colours_say_on_which_side_of_none_the_interval_lies(record: Maker) -> None:
    shaken = {"none": (0.70, 0.72, 0.71, 0.70, 0.71), "mincut": (0.80, 0.81, 0.82, 0.81, 0.81),
              "topk": (0.60, 0.61, 0.62, 0.60, 0.61), "sag": (0.70, 0.73, 0.705, 0.71, 0.70)}  # fmt: skip
    made = [record(seed, score, pool) for pool, scores in shaken.items() for seed, score in enumerate(scores)]
    (scores,) = [figure for figure in draw(Evidence(boards(made)[0])) if figure.name == "scores"]
    (panel,) = scores.panels
    colours = {rounded(point): mark.colour for mark in scores.canvas.marks if isinstance(mark, Markers)
               for point in mark.points}  # fmt: skip
    found = {pool: colours[rounded(panel.at(sum(shaken[pool]) / 5, y))] for y, (_, pool) in enumerate(panel.y.ticks)}
    assert found == {"mincut": COLOURS[0], "topk": COLOURS[1], "sag": GREY, "none": INK}


def test_costs_lie_where_their_axes_say(board: Board, figures: dict[str, Drawn]) -> None:
    drawn, (gauge,) = figures["costs"], board.gauges
    times = next(panel for panel in drawn.panels if panel.title == "MUTAG")
    column = next(c for c in board.columns if c.dataset == "MUTAG")
    assert times.x.logarithmic and [text for _, text in times.x.ticks] == ["0.1", "0.2", "0.5"]
    for row in board.rows:
        cell = board.cells[row, column]
        if cell.estimate is not None:
            assert rounded(times.at(cell.costs[gauge].epoch or 0, cell.estimate.mean)) in points(drawn)


def test_a_cost_that_is_no_number_has_no_point(record: Maker) -> None:
    found = draw(Evidence(boards([record(0, 0.7, epoch=math.nan), record(0, 0.8, "topk")])[0]))
    (costs,) = [figure for figure in found if figure.name == "costs"]
    assert [
        sum(rounded(panel.at(x, y)) in points(costs) for x, y in pairs)
        for panel, pairs in zip(costs.panels, [[(0.1, 0.7), (0.1, 0.8)], [(100, 0.7), (100, 0.8)]], strict=True)
    ] == [1, 2]


def test_names_stand_beside_what_they_name(figures: dict[str, Drawn]) -> None:
    # Of costs, those on the Pareto front; the failed run left a curve and diagnostics, and no score.
    assert set(POOLS) & set(texts(figures["costs"])) == {"none", "mincut"}
    assert {*POOLS, "lapool"} <= set(texts(figures["curves-1"])) and set(POOLS) <= set(texts(figures["curves-2"]))
    assert {*POOLS, "lapool"} <= set(texts(figures["diagnostics"]))


def test_a_panel_of_curves_has_a_dozen_lines_at_the_most_and_none_in_each(record: Maker) -> None:
    made = [record(seed, 0.5 + 0.01 * i, pool) for i, pool in enumerate(["none", *map("p{}".format, range(30))])
            for seed in range(2)]  # fmt: skip
    (curves,) = [figure for figure in draw(Evidence(boards(made)[0])) if figure.name == "curves"]
    assert len(curves.panels) == 6
    for panel in curves.panels:
        words = [mark for mark in curves.canvas.marks if isinstance(mark, Words)]
        beside = [mark.text for mark in words if panel.top - 1 <= mark.at[1] <= panel.bottom + 1
                  and panel.right < mark.at[0] < panel.right + 25 and not mark.turned]  # fmt: skip
        assert "none" in beside and len(beside) <= MOST
    assert {*map("p{}".format, range(30))} <= set(texts(curves))


def test_settings_without_a_rank_are_not_in_the_diagram(figures: dict[str, Drawn]) -> None:
    said = texts(figures["ranks"])
    assert "mincut  1.00" in said and not any("lapool" in text for text in said)


@pytest.mark.parametrize("long", [False, True])
def test_no_text_is_cut_off_or_lies_over_another(record: Maker, long: bool) -> None:
    """With many settings of long names too: a figure grows by what it has to say."""
    made = [
        record(seed, score + 0.01 * seed, pool, f"{dataset}{'-of-long-name' * 3 * long}", epoch=0.1 * (1 + i),
               **{f"an_option_of_a_long_name_{k}": i for k in range(5 * long)})
        for i, (pool, score) in enumerate([*POOLS.items()] * (8 if long else 1))
        for dataset in ("MUTAG", "PROTEINS", "NCI1", "DD", "ENZYMES", "AIDS")
        for seed in range(2)
    ]  # fmt: skip
    for figure in draw(Evidence(boards([*made, record(7, None, "lapool")])[0])):
        boxes = [(mark.text, mark.box) for mark in figure.canvas.marks if isinstance(mark, Words)]
        for text, (left, top, right, bottom) in boxes:
            inside = left >= 0 and top >= 0 and right <= figure.canvas.width and bottom <= figure.canvas.height
            assert inside, f"{figure.name}: {text!r} is cut off"
        for i, (text, one) in enumerate(boxes):
            for other, two in boxes[i + 1 :]:
                across, down = (min(one[k + 2], two[k + 2]) - max(one[k], two[k]) for k in (0, 1))
                assert min(across, down) <= 0, f"{figure.name}: {text!r} and {other!r} overlap"


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
        (figure,) = [f for f in draw(Evidence(board)) if f.name == "ranks"]
        figure.save(tmp_path / folder / "ranks")
    for ending in ("svg", "png"):
        first, second = ((tmp_path / folder / f"ranks.{ending}").read_bytes() for folder in ("a", "b"))
        assert first == second


def test_what_has_no_numbers_is_not_drawn(record: Maker) -> None:
    assert [figure.name for figure in draw(Evidence(boards([record(0, None)])[0]))] == ["curves", "diagnostics"]
    lean = replace(record(0, 0.7), curve=[], diagnostics={}, memory_peak=None)
    assert [figure.name for figure in draw(Evidence(boards([lean])[0]))] == ["scores", "costs"]


def test_the_diagnostics_are_means_over_runs_by_level(record: Maker) -> None:
    made = [record(seed, 0.7) for seed in range(3)]
    for seed, one in enumerate(made):
        one.diagnostics["pooling"]["levels"] = [
            {"entropy": 0.1 * seed, "ratio": 0.5},
            {"entropy": 0.9, "ratio": None},
        ]
    (figure,) = [f for f in draw(Evidence(boards(made)[0])) if f.name == "diagnostics"]
    panels = {panel.title: panel for panel in figure.panels}
    wanted = [("entropy of assignments", 0.1), ("entropy of assignments", 0.9), ("nodes kept", 0.5)]
    in_panels = {point for point in points(figure) if point[1] < panels["density"].bottom}
    assert in_panels == {rounded(panels[title].at(value, 0)) for title, value in wanted}
    assert entries(figure)[1:] == ["level 1", "level 2"]


def test_what_a_pool_keeps_of_known_nodes_has_a_panel_where_it_was_measured(record: Maker) -> None:
    made = record(0, 0.7)
    made.diagnostics["pooling"]["levels"] = [{"ratio": 0.5, "recall": 0.8, "kept_salient": 0.3}]
    (figure,) = [f for f in draw(Evidence(boards([made])[0])) if f.name == "diagnostics"]
    panels = {panel.title: panel for panel in figure.panels}
    assert {"salient nodes kept", "salient of the kept"} < set(panels) and "NMI with known clusters" not in panels
    assert rounded(panels["salient nodes kept"].at(0.8, 0)) in points(figure)


def test_a_curve_is_a_median_that_ends_with_half_of_its_runs(record: Maker) -> None:
    made = [replace(record(seed, 0.7), curve=[{"val/loss": float(seed)}] * (1 + seed)) for seed in range(3)]
    (figure,) = [f for f in draw(Evidence(boards(made)[0])) if f.name == "curves"]
    (panel,) = figure.panels
    (line,) = [mark for mark in figure.canvas.marks if isinstance(mark, Line) and mark.width == 1.4 and
               mark.points[0][1] < panel.bottom]  # fmt: skip
    assert list(map(rounded, line.points)) == [rounded(panel.at(1, 1.25)), rounded(panel.at(2, 1.25))]


def test_a_folder_that_cannot_be_written_to(figures: dict[str, Drawn], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        figures["ranks"].save(tmp_path / "file" / "ranks")
