"""Marks on a sheet: the same in the SVG, in a page and in the PNG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from poolbench.report.canvas import INK, LARGEST, MARKERS, RESOLUTION, Canvas, Line, Markers, Point, Words, text_width
from poolbench.report.panels import Panel, costs_axis, linear, within

SVG = "{http://www.w3.org/2000/svg}"


def pixels(canvas: Canvas) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(canvas.png())).convert("RGB")).astype(int)


def extent(image: np.ndarray) -> tuple[float, ...]:
    """Left, top, right and bottom, in points, of what is drawn."""
    down, across = np.nonzero((image < 200).any(axis=2))
    edges = across.min(), down.min(), across.max() + 1, down.max() + 1
    return tuple(72 / RESOLUTION * float(edge) for edge in edges)


def test_a_line_lies_at_the_same_place_in_both_files() -> None:
    canvas = Canvas(100, 60, [Line([(10, 20), (38, 20)], "#0072B2", 2.0, "--", 0.5)])
    assert extent(pixels(canvas)) == pytest.approx((10, 19, 38, 21), abs=0.5)
    (path,) = ElementTree.fromstring(canvas.svg()).iter(f"{SVG}path")
    assert path.attrib == {
        "d": "M10 20L38 20", "stroke": "#0072B2", "stroke-width": "2", "stroke-opacity": "0.5",
        "stroke-dasharray": "7.4 3.2",
    }  # fmt: skip


@pytest.mark.parametrize("shape", MARKERS)
def test_a_marker_is_centred_as_wide_as_asked_for_and_of_its_colour(shape: str) -> None:
    canvas = Canvas(60, 60, [Markers([(20, 30)], shape, "#D55E00", 20)])
    image = pixels(canvas)
    left, top, right, bottom = extent(image)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((20, 30), abs=1.2)
    assert 15 <= right - left <= 27 and 15 <= bottom - top <= 27
    assert image[round(30 * RESOLUTION / 72), round(20 * RESOLUTION / 72)].tolist() == [0xD5, 0x5E, 0]
    (group,) = ElementTree.fromstring(canvas.svg()).iter(f"{SVG}g")
    (drawn,) = group
    assert group.attrib == {"fill": "#D55E00"}
    assert (drawn.attrib["cx"] == "20") if shape == "o" else drawn.attrib["d"].startswith("M20 30m")


def test_triangles_point_where_their_names_do() -> None:
    tips = {"^": (0, -0.5), "v": (0, 0.5), "<": (-0.5, 0), ">": (0.5, 0)}
    for shape, tip in tips.items():
        assert min(MARKERS[shape], key=lambda corner: math.dist(corner, tip)) == pytest.approx(tip)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("anchor", ["start", "middle", "end"])
def test_words_stand_in_their_box(anchor: str, turned: bool) -> None:
    words = Words((150, 150), "Hippopotamus", 12, anchor, turned=turned)  # type: ignore[arg-type]
    found, box = extent(pixels(Canvas(300, 300, [words]))), words.box
    assert all(a - 1 <= b for a, b in zip(box[:2], found[:2], strict=True)), (box, found)
    assert all(a + 1 >= b for a, b in zip(box[2:], found[2:], strict=True)), (box, found)
    long = 1 if turned else 0
    assert found[long + 2] - found[long] > 0.9 * (box[long + 2] - box[long])


def test_no_text_is_wider_than_it_is_taken_to_be() -> None:
    from matplotlib import get_data_path
    from PIL import ImageFont

    font = ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 100)
    for text in [*map(chr, range(32, 127)), "±−–…×é", "complement-graclus (model.mp=gin), hierarchical"]:
        assert font.getlength(text) <= text_width(text, 100) + 1e-6


def test_a_figure_in_a_page_takes_its_colour_and_no_paper_and_brings_no_ids() -> None:
    canvas = Canvas(50, 50, [Words((10, 10), "a < b & c"), Line([(0, 0), (9, 9)], INK)])
    text = canvas.inline()
    assert ElementTree.fromstring(text).findtext(f"{SVG}text") == "a < b & c"
    assert text.count("currentColor") == 2 and INK not in text and "#ffffff" not in text
    assert text.startswith("<svg ") and not re.search(r"\bid=|url\(", text)
    assert "#ffffff" in canvas.svg() and INK in canvas.svg()


def test_a_sheet_beyond_the_rasteriser_has_fewer_dots() -> None:
    tall = Canvas(2, 40_000, [Line([(0, 0), (2, 40_000)], INK)])
    assert pixels(tall).shape[0] <= LARGEST


# ---------------------------------------------------------------------------------------------------------------- axes


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.52, 0.88), ["0.5", "0.6", "0.7", "0.8", "0.9"]),
        ((0, 1), ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        ((-3, 7), ["-2", "0", "2", "4", "6"]),
        ((1e7, 9e7), ["2e+07", "4e+07", "6e+07", "8e+07"]),
        ((1e-7, 9e-7), ["2e-07", "4e-07", "6e-07", "8e-07"]),
        ((0.5, 0.5 + 2e-16), ["0.48", "0.49", "0.50", "0.51", "0.52"]),
        ((0.5, 0.5), ["0.48", "0.49", "0.50", "0.51", "0.52"]),
        ((), ["0.00", "0.25", "0.50", "0.75", "1.00"]),
    ],
)
def test_ticks_are_round_numbers(values: Sequence[float], texts: list[str]) -> None:
    axis = linear(values, 4)
    assert [text for _, text in axis.ticks] == texts
    assert all(float(text) == pytest.approx(value) and 0 <= axis.part(value) <= 1 for value, text in axis.ticks)


def test_costs_are_logarithmic_where_they_span_a_factor() -> None:
    wide, narrow = costs_axis([0.01, 0.3]), costs_axis([500, 505])
    assert wide.logarithmic and [text for _, text in wide.ticks] == ["0.01", "0.02", "0.05", "0.1", "0.2"]
    assert wide.part(math.sqrt(wide.low * wide.high)) == pytest.approx(0.5)
    assert not narrow.logarithmic and narrow.high - narrow.low == pytest.approx(101)


def test_numbers_that_would_meet_are_left_out() -> None:
    canvas = Canvas()
    Panel(canvas, "", 0, 0, 60, 10, costs_axis([1e-3, 1e4]), linear([], 4)).frame()
    boxes = [mark.box for mark in canvas.marks if isinstance(mark, Words) and mark.text]
    assert len(boxes) > 1 and all(one[2] < two[0] for one, two in pairwise(boxes))


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ([(0, 5), (1, 5), (2, 6)], [[(0, 5), (1, 5), (2, 6)]]),
        ([(0, 5), (2, 15), (4, 5)], [[(0, 5), (1, 10)], [(3, 10), (4, 5)]]),
        ([(0, -10), (2, 20)], [[(2 / 3, 0), (4 / 3, 10)]]),
        ([(0, 20), (1, 20)], []),
        ([(0, 1), (1, math.nan), (2, 1), (3, 1)], [[(2, 1), (3, 1)]]),
    ],
)
def test_a_line_is_cut_at_two_heights(line: list[Point], parts: list[list[Point]]) -> None:
    found = within(line, 0, 10)
    assert [len(part) for part in found] == [len(part) for part in parts]
    for part, wanted in zip(found, parts, strict=True):
        assert np.allclose(part, wanted)
