"""Lines, markers and words on a sheet, written as SVG and as PNG: what the figures of a report are made of.

Places are (x, y) in points, 1/72 inch, from the upper left corner. matplotlib's panels took 17 s of a report of 2,338
records, and a layout that has no room left piles things up; the same in marks takes 2 s, most of it to pack PNGs. The
PNG takes matplotlib's rasteriser, and Pillow for words, which is ten times as fast at them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from poolbench.errors import printable

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

Point = tuple[float, float]

INK = "#1a1a1a"
"""Of text, axes and the baseline; in a page it becomes the colour of the page's text."""
PAPER = "#ffffff"
RESOLUTION = 160
"""Dots an inch of a PNG, and fewer where a side would have more than `LARGEST`."""
LARGEST = 2**16 - 1
"""What the rasteriser can do."""
DASHES = {"-": (), "--": (3.7, 1.6), ":": (1.0, 1.65), "-.": (6.4, 1.6, 1.0, 1.6)}
"""Drawn and left out in turn, in widths of the line."""


def _star(corners: int, *radii: float, turn: float = 0.0) -> tuple[Point, ...]:
    """A polygon around 0 with its corners at the radii in turn, the first one `turn` sixteenths right of the top."""
    return tuple(
        (radii[i % len(radii)] * math.sin(angle), -radii[i % len(radii)] * math.cos(angle))
        for i in range(corners)
        for angle in [math.tau * (i / corners + turn / 16)]
    )


_PLUS = tuple((x / 6, y / 6) for x, y in (
    (-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)
))  # fmt: skip
_TRIANGLE = ((0.0, -0.5), (0.5, 0.5), (-0.5, 0.5))
MARKERS: dict[str, tuple[Point, ...]] = {
    "o": (),
    "s": ((-0.45, -0.45), (0.45, -0.45), (0.45, 0.45), (-0.45, 0.45)),
    "^": _TRIANGLE,
    "v": tuple((x, -y) for x, y in _TRIANGLE),
    "<": tuple((y, x) for x, y in _TRIANGLE),
    ">": tuple((-y, x) for x, y in _TRIANGLE),
    "D": _star(4, 0.65),
    "P": _PLUS,
    "X": tuple(((x - y) * math.sqrt(0.5), (x + y) * math.sqrt(0.5)) for x, y in _PLUS),
    "p": _star(5, 0.53),
    "h": _star(6, 0.53),
}
"""Polygons around 0, as wide as 1; the one of "o" is a circle."""


# --------------------------------------------------------------------------------------------------------------- marks


@dataclass(frozen=True)
class Line:
    """points: joined in turn. dash: of `DASHES`."""

    points: Sequence[Point]
    colour: str
    width: float = 1.0
    dash: str = "-"
    alpha: float = 1.0


@dataclass(frozen=True)
class Markers:
    """The same one at each point. shape: of `MARKERS`. size: its width."""

    points: Sequence[Point]
    shape: str
    colour: str
    size: float
    alpha: float = 1.0


@dataclass(frozen=True)
class Words:
    """at: the middle of the capital letters' height, at the start, middle or end of the words. turned: upwards."""

    at: Point
    text: str
    size: float = 9.0
    anchor: Literal["start", "middle", "end"] = "middle"
    colour: str = INK
    turned: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text))  # neither XML nor a font has control characters

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what they take up at most."""
        x, y = self.at
        along = {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]
        width, half = text_width(self.text, self.size), 0.6 * self.size
        if self.turned:
            return x - half, y - (1 - along) * width, x + half, y + along * width
        return x - along * width, y - half, x + (1 - along) * width, y + half


Mark = Line | Markers | Words

_WIDTHS = (
    32, 41, 46, 84, 64, 96, 78, 28, 40, 40, 50, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84,
    84, 84, 54, 100, 69, 69, 70, 78, 64, 58, 78, 76, 30, 30, 66, 56, 87, 75, 79, 61, 79, 70, 64, 62, 74, 69, 99, 69, 62,
    69, 40, 34, 40, 84, 50, 50, 62, 64, 55, 64, 62, 36, 64, 64, 28, 28, 58, 28, 98, 64, 62, 64, 64, 42, 53, 40, 64, 60,
    82, 60, 60, 53, 64, 34, 64, 84,
)  # fmt: skip
"""Of ASCII from the space on, in hundredths of the size, in DejaVu Sans: no usual sans-serif is wider."""


def text_width(text: str, size: float) -> float:
    """The most that a line of text takes up."""
    return size / 100 * sum(_WIDTHS[ord(c) - 32] if " " <= c <= "~" else 100 for c in text)


@dataclass
class Canvas:
    """Marks in the order in which they are drawn, on a sheet of a width and height."""

    width: float = 0.0
    height: float = 0.0
    marks: list[Mark] = field(default_factory=list)

    def svg(self) -> str:
        """On white, as the text of a file."""
        paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
        return f'<?xml version="1.0" encoding="utf-8"?>\n{self._element(paper)}\n'

    def inline(self) -> str:
        """As an <svg> element on the paper of the page around it, in the colour of its text."""
        return self._element("").replace(INK, "currentColor")

    def _element(self, paper: str) -> str:
        width, height = _number(self.width), _number(self.height)
        drawn = "\n".join(map(_drawn, self.marks))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" fill="none">{paper}\n{drawn}\n</svg>'
        )

    def png(self) -> bytes:
        """On white, as the bytes of a file."""
        from matplotlib.backends.backend_agg import RendererAgg
        from PIL import Image, ImageDraw

        scale = min(RESOLUTION / 72, LARGEST / max(self.width, self.height))
        width, height = math.ceil(scale * self.width), math.ceil(scale * self.height)
        renderer = RendererAgg(width, height, 72 * scale)
        memoryview(renderer.buffer_rgba()).cast("B")[:] = b"\xff" * (4 * width * height)
        for mark in self.marks:
            if not isinstance(mark, Words):
                _rasterise(renderer, mark, scale)
        image = Image.frombuffer("RGBA", (width, height), renderer.buffer_rgba()).convert("RGB")
        pen = ImageDraw.Draw(image)
        for mark in self.marks:
            if isinstance(mark, Words):
                _write(image, pen, mark, scale)
        file = io.BytesIO()
        image.save(file, "png", dpi=(RESOLUTION, RESOLUTION), compress_level=1)
        return file.getvalue()


# ----------------------------------------------------------------------------------------------------------------- SVG


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.8g}"


def _attributes(found: Mapping[str, Any]) -> str:
    return "".join(
        f' {k}="{_number(v) if isinstance(v, float) else v}"' for k, v in found.items() if v not in (None, "")
    )


def _drawn(mark: Mark) -> str:
    """A mark as SVG."""
    if isinstance(mark, Line):
        path = "L".join(f"{_number(x)} {_number(y)}" for x, y in mark.points)
        dashes = " ".join(_number(part * mark.width) for part in DASHES[mark.dash])
        return f'<path d="M{path}"' + _attributes({
            "stroke": mark.colour, "stroke-width": mark.width, "stroke-dasharray": dashes,
            "stroke-opacity": mark.alpha if mark.alpha < 1 else None,
        }) + "/>"  # fmt: skip
    if isinstance(mark, Markers):
        # Each by itself, so that those on top of each other are seen to be several where they are pale.
        opacity = mark.alpha if mark.alpha < 1 else None
        placed = [(_number(x), _number(y)) for x, y in mark.points]
        if MARKERS[mark.shape]:
            outline = _outline(mark.shape, mark.size)
            each = "".join(f'<path d="M{x} {y}{outline}"/>' for x, y in placed)
        else:
            radius = _number(mark.size / 2)
            each = "".join(f'<circle cx="{x}" cy="{y}" r="{radius}"/>' for x, y in placed)
        return f"<g{_attributes({'fill': mark.colour, 'fill-opacity': opacity})}>{each}</g>"
    x, y = mark.at
    below = 0.365 * mark.size  # from the middle of capital letters to the line that they stand on
    at = {"transform": f"translate({_number(x + below)} {_number(y)})rotate(-90)"} if mark.turned else {
        "x": x, "y": y + below
    }  # fmt: skip
    anchor = mark.anchor if mark.anchor != "start" else None
    said = _attributes({**at, "font-size": mark.size, "text-anchor": anchor, "fill": mark.colour})
    return f"<text{said}>{escape(mark.text, quote=False)}</text>"


@cache
def _outline(shape: str, size: float) -> str:
    """A marker as steps of a path from the point that it marks."""
    x, y, steps = 0.0, 0.0, []
    for corner in MARKERS[shape]:
        steps.append(f"{_number(size * corner[0] - x)} {_number(size * corner[1] - y)}")
        x, y = size * corner[0], size * corner[1]
    return f"m{'l'.join(steps)}z"


# ----------------------------------------------------------------------------------------------------------------- PNG


def _rasterise(renderer: Any, mark: Line | Markers, scale: float) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Affine2D, IdentityTransform

    pen = renderer.new_gc()
    pen.set_foreground(mark.colour)
    pen.set_alpha(mark.alpha)
    height = renderer.height
    places = Outline([(scale * x, height - scale * y) for x, y in mark.points])
    if isinstance(mark, Line):
        pen.set_linewidth(mark.width)
        pen.set_capstyle("butt")
        if DASHES[mark.dash]:
            pen.set_dashes(0, [part * mark.width for part in DASHES[mark.dash]])
        renderer.draw_path(pen, places, IdentityTransform())
        return
    pen.set_linewidth(0)
    corners = MARKERS[mark.shape]
    outline = Outline([*corners, corners[0]], closed=True) if corners else Outline.unit_circle()
    size = scale * mark.size * (1 if corners else 0.5)
    grown = Affine2D().scale(size, -size)
    renderer.draw_markers(pen, outline, grown, places, IdentityTransform(), to_rgb(mark.colour))


@cache
def _font(size: float) -> FreeTypeFont:
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def _write(image: Any, pen: Any, mark: Words, scale: float) -> None:
    from PIL import Image, ImageDraw

    font = _font(scale * mark.size)
    x, y, below = scale * mark.at[0], scale * mark.at[1], 0.365 * scale * mark.size
    at = {"start": "l", "middle": "m", "end": "r"}[mark.anchor]
    if not mark.turned:
        pen.text((x, y + below), mark.text, fill=mark.colour, font=font, anchor=f"{at}s")
        return
    left, top, right, bottom = (math.floor(value) for value in font.getbbox(mark.text, anchor=f"{at}s"))
    mask = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(mask).text((-left, -top), mark.text, fill=255, font=font, anchor=f"{at}s")
    turned = mask.transpose(Image.Transpose.ROTATE_90)
    image.paste(mark.colour, (round(x + below) + top, round(y) - left - mask.width), turned)
