"""The house is as docs/design.md draws it: rooms stand on floors, look downwards alone, and no circle of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import poolbench

ROOT = Path(poolbench.__file__).parent

#: The rooms, from the ground up; those of one line stand on one floor, and none of them looks into another.
FLOORS = (
    ("errors", "loading", "signatures", "wording"),
    ("disk", "plugins", "splitmix", "statistics"),
    ("config",),
    ("linalg", "records"),
    ("pool", "data"),
    ("nn", "contract"),
    ("learn",),
    ("jobs", "report"),
    ("audit", "papers"),
    ("cli",),
)


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The modules of the package that a file imports, anywhere in it, but for the eyes of type checkers alone."""
    unseen: set[ast.AST] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            unseen |= {inner for statement in node.body for inner in ast.walk(statement)}
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "poolbench":
            assert not node.level, f"{path} has a relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in inner)


def _graph() -> dict[str, set[str]]:
    modules = _modules()
    return {name: set(_imports(path, modules)) - {name, "poolbench"} for name, path in modules.items()}


def test_there_is_no_circle_of_imports() -> None:
    assert list(TopologicalSorter(_graph()).static_order())


def test_rooms_look_downwards_alone() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for name, imported in _graph().items():
        for other in imported if name != "poolbench" else ():
            mine, theirs = (n.split(".")[1] for n in (name, other))
            if mine != theirs and floor[theirs] >= floor[mine]:
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_pool_shows_operators_and_three_folders() -> None:
    inside = sorted(path.name for path in (ROOT / "pool").iterdir() if path.is_dir() and path.name != "__pycache__")
    assert inside == ["base", "peers", "readouts"]
