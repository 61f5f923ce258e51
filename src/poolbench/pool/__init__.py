"""The pooling operators. `from poolbench.pool import MinCutPool` imports torch and that operator's file, no more.

An operator is a class in a file of this folder and a YAML file in conf/pool; nothing else names it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _homes() -> dict[str, str]:
    """Public class -> the module of this folder that defines it, found by reading the files, not by importing."""
    homes = {}
    for module in pkgutil.iter_modules(__path__):
        text = Path(__path__[0], f"{module.name}.py").read_text(encoding="utf-8")
        for name in re.findall(r"^class ([A-Z]\w*)\(", text, flags=re.M):
            homes[name] = f"{__name__}.{module.name}"
    return homes


def __getattr__(name: str) -> Any:
    if name in _homes():
        return getattr(importlib.import_module(_homes()[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_homes())
