"""Why a run failed, without the places of the machine that it failed on: a record is handed on to others."""

from __future__ import annotations

import os
import re
from pathlib import Path

_INSTALLED = re.compile(r"(?<![\w.~/:])/[^\s'\"]{0,300}?((?:site|dist)-packages/)")
_ELSEWHERE = re.compile(r"(?<![\w.~/:])/(?:[^\s/:'\"(),;]+/)+(?=[^\s/:'\"(),;])")
"""The folders of an absolute path: what is behind an address or a word is none."""


def placeless(reason: str) -> str:
    """A reason whose absolute paths begin at `site-packages/`, or have their last name alone, as in .../graphs.zip. It
    is the same on every machine, and of what it was made of once."""
    return _ELSEWHERE.sub(".../", _INSTALLED.sub(r"\1", reason))


def placeless_here(reason: str) -> str:
    """The same, with the current folder as `.` and one's home as `~`."""
    for folder, name in ((os.getcwd(), "."), (str(Path.home()), "~")):
        if len(Path(folder).parts) > 1:
            reason = re.sub(rf"(?<![\w.~/]){re.escape(folder)}(?=/|\b)", name, reason)
    return placeless(reason)
