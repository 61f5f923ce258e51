"""An extension of Griffe, which reads docstrings for the site: lines such as `x: pooled features` become a list.

Docstrings name what a tuple holds, or what further keywords do, a line each without a heading; Markdown would run them
together.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"[\w*]+(, [\w*]+)*: ")


def listed(text: str) -> str:
    """The text with a bullet before each line that names something, where a paragraph begins with such a line."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.split("\n")
        if ENTRY.match(lines[0]) and len(lines) > 1:
            lines = [re.sub(r"^([^:]+):", r"* **\1**:", x) if ENTRY.match(x) else f"    {x.strip()}" for x in lines]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


class Lists(griffe.Extension):
    """Changes every docstring when its object is read."""

    def on_object(self, *, obj: griffe.Object, **rest: Any) -> None:
        """Called by Griffe with each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = listed(obj.docstring.value)
