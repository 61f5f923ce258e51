"""The published ten folds, and TU datasets without their largest graphs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from poolbench.data.published import PublishedFolds
from poolbench.data.sources import fetch, index_folds
from poolbench.data.sources.download import Unreachable
from poolbench.data.sources.sized import SizedTUDataset
from poolbench.data.sources.tu import TUDataset
from poolbench.errors import PoolBenchError


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror with folds of 23 graphs, two in each; three are in none."""
    folder = tmp_path / "mirror" / index_folds.COLLECTION / "PROTEINS"
    folder.mkdir(parents=True)
    for fold in range(10):
        (folder / f"test_idx-{fold + 1}.txt").write_text(f"{fold}\n{fold + 10}\n")
    return tmp_path / "mirror"


def test_folds_are_those_of_the_files_and_the_previous_one_validates(mirror: Path, tmp_path: Path) -> None:
    y = torch.arange(23) % 2
    splits = [
        PublishedFolds("PROTEINS", val=val, data=tmp_path / "cache", mirror=str(mirror)).split(y, "f", fold)
        for val, fold in (("previous", 0), ("next", 3))
    ]
    assert [s.test.tolist() for s in splits] == [[0, 10], [3, 13]]
    assert [s.val.tolist() for s in splits] == [[9, 19], [4, 14]]
    assert all({20, 21, 22} <= set(s.train.tolist()) and s.train.numel() == 19 for s in splits)
    again = PublishedFolds("PROTEINS", seed=7, data=tmp_path / "cache", mirror=str(tmp_path / "gone"))  # from the cache
    assert again.split(y, "f", 0).hash == splits[0].hash  # one split, one hash, whatever the seed


def test_folds_of_another_dataset_are_refused(mirror: Path, tmp_path: Path) -> None:
    protocol = PublishedFolds("PROTEINS", data=tmp_path / "cache", mirror=str(mirror))
    for graphs in (19, 30):
        with pytest.raises(PoolBenchError, match=f"name 20 graphs up to number 19, and this dataset has {graphs}"):
            protocol.split(torch.zeros(graphs, dtype=torch.int64), "f", 0)
    with pytest.raises(PoolBenchError, match="published='MUTAG' is unknown"):
        PublishedFolds("MUTAG")
    with pytest.raises(PoolBenchError, match="val='file' is neither next nor previous"):
        PublishedFolds("PROTEINS", val="file")


def test_files_that_nobody_has_or_that_are_none_leave_nothing_behind(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str, target: Path, limit: int | None = None) -> str:
        raise Unreachable("no answer in time")

    monkeypatch.setattr(fetch, "download", unreachable)
    monkeypatch.delenv("POOLBENCH_MIRROR", raising=False)
    with pytest.raises(PoolBenchError, match=r"Put the files test_idx-1.txt to test_idx-10.txt into .*cache"):
        index_folds.test_graphs("DD", tmp_path / "cache")
    (mirror / index_folds.COLLECTION / "PROTEINS" / "test_idx-9.txt").write_text("1\n1\n")
    with pytest.raises(PoolBenchError, match=r"test_idx-9.txt is no fold: numbers of graphs from 0 on, each once"):
        index_folds.test_graphs("PROTEINS", tmp_path / "cache", str(mirror))
    assert not (tmp_path / "cache" / index_folds.COLLECTION / "PROTEINS").exists()


def test_large_graphs_are_left_out(tmp_path: Path) -> None:
    raw = TUDataset("MUTAG", data=tmp_path).load()
    small = SizedTUDataset("MUTAG", max_nodes=15, data=tmp_path).load()
    assert small.num_graphs == int((raw.num_nodes <= 15).sum()) < raw.num_graphs
    assert int(small.num_nodes.max()) == 15 and small.provenance["max_nodes"] == 15
    with pytest.raises(PoolBenchError, match="max_nodes=1: no graph of MUTAG is that small"):
        SizedTUDataset("MUTAG", max_nodes=1, data=tmp_path).load()
