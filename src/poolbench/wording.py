"""Numbers in words, for people."""

from __future__ import annotations


def count(number: int, what: str) -> str:
    """Such as: 1 attempt, 2 attempts."""
    return f"{number} {what}{'s'[: number != 1]}"
