"""CEXP, EXP and the pairs of CEXP that 1-WL tells apart: their format, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from poolbench.data import refinement
from poolbench.data.sources import satpairs
from poolbench.data.sources.satpairs import SatPairs
from poolbench.errors import PoolBenchError

# Two pairs: a path and a triangle, which 1-WL tells apart; a six-ring and two triangles, which it does not.
PATH = "3 1\n0 1 1\n1 2 2 0\n0 1 1\n"
TRIANGLE = "3 0\n0 2 1 2\n1 2 0 2\n0 2 0 1\n"
RING = "6 1\n" + "".join(f"0 2 {(k - 1) % 6} {(k + 1) % 6}\n" for k in range(6))
TWO = "6 0\n" + "".join(f"0 2 {k // 3 * 3 + (k - 1) % 3} {k // 3 * 3 + (k + 1) % 3}\n" for k in range(6))
FILE = "4\n" + PATH + TRIANGLE + RING + TWO
mirror = [
    pytest.mark.mirror,
    pytest.mark.skipif(not os.environ.get("POOLBENCH_MIRROR"), reason="POOLBENCH_MIRROR is not set"),
]


@pytest.fixture(autouse=True)
def _small_and_no_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(satpairs, "HOST", "http://127.0.0.1:9/Data")
    if not request.node.get_closest_marker("mirror"):
        monkeypatch.setattr(satpairs, "GRAPHS", 4)


def put(folder: Path, text: str = FILE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "GRAPHSAT.txt").write_text(text)


@pytest.mark.parametrize("name", ["CEXP", "EXP"])
def test_content(name: str, cache: Path) -> None:
    put(cache / "GNN-RNI" / name)
    dataset = SatPairs(name)
    raw = dataset.load()
    assert raw.name == name and raw.num_nodes.tolist() == [3, 3, 6, 6] and raw.y.tolist() == [1, 0, 1, 0]
    assert raw.node_labels[:6, 0].tolist() == [0, 1, 0, 0, 1, 0]
    assert raw.edge_index[:, :10].tolist() == [[0, 1, 1, 2, 3, 3, 4, 4, 5, 5], [1, 0, 2, 1, 4, 5, 3, 5, 3, 4]]
    assert torch.equal(dataset.node_features(raw).values[:3], torch.tensor([[1.0, 0], [0, 1], [1, 0]]))


def test_the_pairs_that_1_wl_tells_apart(tmp_path: Path) -> None:
    put(tmp_path / "mirror/GNN-RNI/Data/CEXP")
    raw = SatPairs("CEXP-WL1", mirror=str(tmp_path / "mirror")).load()
    assert raw.name == "CEXP-WL1" and raw.num_nodes.tolist() == [3, 3] and raw.y.tolist() == [1, 0]
    assert raw.provenance["where"] == "GNN-RNI/Data/CEXP/GRAPHSAT.txt"
    assert SatPairs("CEXP").load().num_graphs == 4  # the file is in the cache, and serves both


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "it begins with 0, expected the number of graphs, 4"),
        (FILE.replace("4\n", "5\n", 1), "it begins with 5"),
        (FILE[: len(FILE) // 2], "it ends within graph 2"),
        (FILE + "1 1\n", "it goes on after graph 3"),
        (FILE.replace("3 1\n", "3 2\n", 1), "is of class 2, expected 0 or 1"),
        (FILE.replace("0 1 1\n", "0 1 3\n", 1), "an edge to a node that there is not"),
        (FILE.replace("0 1 1\n", "2 1 1\n", 1), "a node of no kind"),
        (FILE.replace("0 1 1\n", "0 1 2\n", 1), "one in one direction alone"),
        (FILE.replace("0 1 1\n", "0 1 x\n", 1), "stands where a whole number"),
        (FILE.replace("0 1 1\n", "0 -1\n", 1), "stands where a whole number"),
        (FILE.replace("0 1 1\n", "0 1 0_1\n", 1), "stands where a whole number"),
        (FILE.replace("1 2 2 0\n", "1 3 2 0 1\n", 1), "a self-loop"),
    ],
)
def test_damaged(cache: Path, text: str, what: str) -> None:
    put(cache / "GNN-RNI/CEXP", text)
    with pytest.raises(PoolBenchError, match=f"is no sound copy of CEXP: .*{what}.*; fetch it again"):
        SatPairs("CEXP").load()


def test_a_file_that_is_too_large(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache / "GNN-RNI/CEXP")
    monkeypatch.setattr(satpairs, "LARGEST", 10)
    with pytest.raises(PoolBenchError, match="it is larger than"):
        SatPairs("CEXP").load()


def test_who_has_it_not_is_told_what_to_do() -> None:
    with pytest.raises(PoolBenchError, match=r"dataset EXP is not here: .* that holds GNN-RNI/Data/EXP/GRAPHSAT\.txt"):
        SatPairs("EXP").load()
    with pytest.raises(PoolBenchError, match=r"there is no set 'CEXP-WL2'.*did you mean CEXP-WL1"):
        SatPairs("CEXP-WL2")


@pytest.mark.parametrize("name", [pytest.param("CEXP", marks=mirror), pytest.param("CEXP-WL1", marks=mirror)])
def test_official_figures(name: str) -> None:
    raw = SatPairs(name).load()
    pairs = refinement.classes(raw).reshape(-1, 2)
    assert (pairs[:, 0] != pairs[:, 1]).sum() == 300
    assert raw.num_graphs == {"CEXP": 1200, "CEXP-WL1": 600}[name]
    assert (raw.y.view(-1, 2).sum(1) == 1).all() and int(raw.num_nodes.max()) == 81


@pytest.mark.parametrize("name", ["CEXP", "CEXP-WL1"])
def test_a_file_without_edges(name: str, cache: Path) -> None:
    """1-WL tells nothing apart there."""
    put(cache / "GNN-RNI/CEXP", "4\n" + "".join(f"2 {k % 2}\n0 0\n0 0\n" for k in range(4)))
    if name == "CEXP":
        assert SatPairs(name).load().num_edges == 0
        return
    with pytest.raises(PoolBenchError, match="1-WL tells none of its pairs apart; fetch it again"):
        SatPairs(name).load()
