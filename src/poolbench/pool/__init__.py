"""The pooling operators. `from poolbench.pool import MinCutPool` imports torch and that operator's file, no more.

An operator is a class in a file of this folder and a YAML file in conf/pool; nothing else names it. Beside them lie
`base` (what operators are made of), `readouts` and `peers` (operators of other libraries).
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _homes() -> dict[str, str]:
    """Public class -> the module below this folder that defines it, found by reading the files, not by importing."""
    homes = {}
    root = Path(__path__[0])
    for path in sorted(root.rglob("*.py")):
        for name in re.findall(r"^class ([A-Z]\w*)\(", path.read_text(encoding="utf-8"), flags=re.M):
            homes[name] = ".".join((__name__, *path.relative_to(root).with_suffix("").parts))
    return homes


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name in _homes():
        return getattr(importlib.import_module(_homes()[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


#: What `from poolbench.pool import *` gives: operators, their bases, selections and results. Parts of operators, some
#: named as in torch or PyTorch Geometric (`Linear`, `GCNConv`), are imported by name alone.
_PUBLIC = re.compile(r"\w*(Pool|Selection|Operator|Output)")


def __dir__() -> list[str]:
    """Without `peers`, whose libraries need not be there."""
    homes = _homes().items()
    return sorted(n for n, home in homes if _PUBLIC.fullmatch(n) and not home.startswith(f"{__name__}.peers."))
