"""What is said of files that strangers made and that are not what they should be."""

from __future__ import annotations

from poolbench.errors import one_line


def said(what: object, most: int = 160) -> str:
    """A text, or what an error says, that may come from the file itself: one line of at most `most` printable signs."""
    text = one_line(what) or type(what).__name__
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
