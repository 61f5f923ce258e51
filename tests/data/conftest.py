"""A tiny TU dataset, and surroundings of its own for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from poolbench.data.sources import tu

# Three graphs: a triangle, a path of two nodes, one node alone. Classes -1, 1, -1. One self-loop, one edge twice.
TINY = {
    "A": "1, 2\n2, 1\n2, 3\n3, 2\n3, 1\n1, 3\n1, 3\n2, 2\n4, 5\n5, 4\n",
    "graph_indicator": "1\n1\n1\n2\n2\n3\n",
    "graph_labels": "-1\n1\n-1\n",
    "node_labels": "3\n5\n3\n4\n4\n3\n",
    "node_attributes": "0.5, 1\n1.5, 2\n2.5, 3\n3.5, 4\n4.5, 5\n5.5, 6\n",
}


@pytest.fixture(autouse=True)
def _own_surroundings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the user's cache or asks the official host; those marked `mirror` keep their mirror."""
    monkeypatch.setenv("POOLBENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(tu, "HOST", "http://127.0.0.1:9/graphkerneldatasets")
    if not request.node.get_closest_marker("mirror"):
        monkeypatch.delenv("POOLBENCH_MIRROR", raising=False)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def files_of() -> Callable[..., dict[str, str]]:
    """`files_of(name, **changed)`: the members of NAME.zip; a kind given as None is left out."""

    def members(name: str, **changed: str | None) -> dict[str, str]:
        kinds = {**TINY, **changed}
        return {f"{name}/{name}_{kind}.txt": text for kind, text in kinds.items() if text is not None}

    return members


@pytest.fixture
def unpacked(tmp_path: Path, files_of: Callable[..., dict[str, str]]) -> Callable[..., Path]:
    """`unpacked(name, **changed)` writes the text files into a folder."""

    def put(name: str, folder: Path | None = None, **changed: str | None) -> Path:
        folder = folder or tmp_path / "text"
        folder.mkdir(parents=True, exist_ok=True)
        for member, text in files_of(name, **changed).items():
            (folder / Path(member).name).write_text(text)
        return folder

    return put
