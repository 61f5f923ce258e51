"""Published folds by name: where they are looked for, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from poolbench.data.protocols import Nested
from poolbench.data.sources import fetch
from poolbench.data.sources.download import Unreachable
from poolbench.data.sources.folds import COLLECTION, published_folds
from poolbench.errors import PoolBenchError


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror with the folds of a dataset of ten graphs."""
    folds = [
        {"test": [k], "model_selection": [{"train": [j for j in range(10) if j not in (k, (k + 1) % 10)],
                                           "validation": [(k + 1) % 10]}]}
        for k in range(10)
    ]  # fmt: skip
    path = tmp_path / "mirror" / COLLECTION / "CHEMICAL" / "PROTEINS_full_splits.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(folds))
    return tmp_path / "mirror"


def test_folds_come_from_a_mirror_once_and_then_from_the_cache(mirror: Path, tmp_path: Path) -> None:
    found = published_folds("CHEMICAL/PROTEINS", tmp_path / "cache", str(mirror))  # the graphs of PROTEINS_full
    assert found == tmp_path / "cache" / COLLECTION / "CHEMICAL" / "PROTEINS_full_splits.json"
    protocol = Nested(folds="CHEMICAL/PROTEINS", data=tmp_path / "cache", mirror=str(tmp_path / "gone"))
    split = protocol.split(torch.arange(10) % 2, "f", 9)
    assert (split.test.tolist(), split.val.tolist(), split.seed) == ([9], [0], 0)


def test_what_nobody_has_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, target: Path, limit: int | None = None) -> str:
        raise Unreachable("no answer in time")

    monkeypatch.setattr(fetch, "download", unreachable)
    monkeypatch.delenv("POOLBENCH_MIRROR", raising=False)
    with pytest.raises(PoolBenchError, match=r"Put CHEMICAL/DD_splits.json into .*cache") as error:
        published_folds("CHEMICAL/DD", tmp_path / "cache")
    assert "no answer in time" in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_unknown_folds_and_two_ways_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolBenchError, match=r"CHEMICAL/ENZYME is unknown \(did you mean CHEMICAL/ENZYMES"):
        published_folds("CHEMICAL/ENZYME", tmp_path)
    with pytest.raises(PoolBenchError, match="give one of them"):
        Nested(folds="CHEMICAL/DD", folds_file=tmp_path / "own.json")
