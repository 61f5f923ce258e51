"""Bianchi's benchmark: its format, its fixed parts, its official statistics."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from poolbench.data.sources import bench_dataset
from poolbench.data.sources.bench_dataset import BENCH, BenchDataset
from poolbench.errors import PoolBenchError

SIZES = (2, 1, 1)


@pytest.fixture(autouse=True)
def _small_and_no_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_dataset, "HOST", "http://127.0.0.1:9/datasets")
    if not request.node.get_closest_marker("mirror"):
        monkeypatch.setitem(BENCH, "Bench-easy-small", ("easy_small.npz", SIZES))


def objects(values: list) -> np.ndarray:
    held = np.empty(len(values), dtype=object)
    held[:] = values
    return held


def write(path: Path, **changed: object) -> None:
    """Paths of three nodes; the class and the colours of graph k are k mod 3."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = sp.csr_matrix(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=np.float32))
    held: dict = {}
    for part, numbers in (("tr", [0, 1]), ("val", [2]), ("te", [3])):
        held[f"{part}_adj"] = objects([line for _ in numbers])
        held[f"{part}_feat"] = objects([np.eye(5, dtype=np.float32)[[k % 3, 4, 0]] for k in numbers])
        held[f"{part}_class"] = np.eye(3, dtype=np.float32)[[k % 3 for k in numbers]]
    np.savez(path, **{**held, **changed})


def test_content_and_parts(cache: Path) -> None:
    write(cache / "graph_classification_bench/Bench-easy-small/raw/easy_small.npz")
    dataset = BenchDataset("Bench-easy-small")
    raw = dataset.load()
    assert raw.num_nodes.tolist() == [3, 3, 3, 3] and raw.y.tolist() == [0, 1, 2, 0]
    assert raw.node_labels[:, 0].tolist() == [0, 4, 0, 1, 4, 0, 2, 4, 0, 0, 4, 0]
    assert raw.edge_index[:, :8].tolist() == [[0, 1, 1, 2, 3, 4, 4, 5], [1, 0, 2, 1, 4, 3, 5, 4]]
    assert {key: part.tolist() for key, part in dataset.official_split(raw).items()} == {
        "train": [0, 1], "val": [2], "test": [3],
    }  # fmt: skip
    x = dataset.node_features(raw).values
    assert torch.equal(x[:3], torch.eye(5)[[0, 4, 0]])


def test_sets_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCH, "Bench-hard-small", ("hard_small.npz", SIZES))
    for file in ("easy_small", "hard_small"):
        write(tmp_path / f"mirror/graph_classification_bench/{file}.npz")
    for name in ("Bench-easy-small", "Bench-hard-small", "Bench-easy-small"):
        assert BenchDataset(name, mirror=str(tmp_path / "mirror")).load().num_graphs == 4


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"val_adj": objects([])}, r"parts of \(2, 0, 1\) graphs, expected \(2, 1, 1\)"),
        ({"val_adj": objects([sp.csr_matrix((4, 4))])}, "something that is no matrix of 3 nodes"),
        ({"te_feat": objects([])}, r"parts of \(2, 1, 0\) graphs, expected \(2, 1, 1\)"),
        ({"te_feat": objects([3])}, "no table of 5 columns"),
        ({"val_feat": objects([np.eye(4, dtype=np.float32)[:3]])}, "no table of 5 columns"),
        ({"val_adj": objects([7])}, "holds something that is no graph"),
        ({"val_feat": objects([np.full((3, 5), 0.2)])}, "not one-hot"),
        ({"te_class": np.ones((1, 3))}, "not one-hot"),
    ],
)
def test_damaged(cache: Path, changed: dict, text: str) -> None:
    write(cache / "graph_classification_bench/Bench-easy-small/raw/easy_small.npz", **changed)
    with pytest.raises(PoolBenchError, match=text):
        BenchDataset("Bench-easy-small").load()


def test_an_unknown_name() -> None:
    with pytest.raises(PoolBenchError, match="did you mean Bench-easy"):
        BenchDataset("bench-easy")


@pytest.mark.mirror
@pytest.mark.skipif(not os.environ.get("POOLBENCH_MIRROR"), reason="POOLBENCH_MIRROR is not set")
@pytest.mark.parametrize(
    ("name", "nodes", "edges"), [("Bench-easy-small", 58.25, 358.8), ("Bench-hard-small", 58.64, 224.95)]
)
def test_statistics_are_the_official_ones(name: str, nodes: float, edges: float) -> None:
    dataset = BenchDataset(name)
    raw = dataset.load()
    assert (raw.num_graphs, raw.num_classes, raw.symmetric) == (300, 3, True)
    assert (round(raw.total_nodes / 300, 2), round(raw.num_edges / 300, 2)) == (nodes, edges)
    parts = dataset.official_split(raw)
    assert tuple(len(part) for part in parts.values()) == BENCH[name][1]
    assert torch.cat(list(parts.values())).tolist() == list(range(300))
    assert dataset.node_features(raw).names == [f"label0={colour}" for colour in range(5)]


def test_one_graph_that_is_meant_many_times(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCH, "Bench-easy-small", ("easy_small.npz", (200, 1, 1)))
    full = {
        "tr_adj": objects([sp.csr_matrix(np.ones((30, 30)))] * 200),
        "tr_feat": objects([np.eye(5)[[0] * 30]] * 200),
        "tr_class": np.eye(3)[[0] * 200],
    }
    write(cache / "graph_classification_bench/Bench-easy-small/raw/easy_small.npz", **full)
    with pytest.raises(PoolBenchError, match="more than its bytes say: one graph again and again"):
        BenchDataset("Bench-easy-small").load()
