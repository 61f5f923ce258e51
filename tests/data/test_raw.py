from __future__ import annotations

from pathlib import Path

import pytest
import torch

from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError


def two_graphs(**changed: object) -> RawGraphs:
    """A path of three nodes, undirected, and a single node."""
    content: dict = {
        "name": "two",
        "num_nodes": torch.tensor([3, 1]),
        "edge_index": torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]),
        "node_labels": torch.tensor([[0], [1], [0], [2]]),
        "y": torch.tensor([1, 0]),
    }
    return RawGraphs(**{**content, **changed})


def test_stats_count_undirected_edges_once() -> None:
    stats = two_graphs().stats()
    assert (stats["graphs"], stats["classes"], stats["mean_nodes"], stats["max_nodes"]) == (2, 2, 2.0, 3)
    assert stats["mean_edges"] == 1.0 and not stats["directed"]


def test_directed_graphs_are_noticed() -> None:
    raw = two_graphs(edge_index=torch.tensor([[0, 1], [1, 2]]))
    assert not raw.symmetric and raw.stats()["mean_edges"] == 1.0


def test_no_edges_and_no_graphs() -> None:
    none = torch.zeros(2, 0, dtype=torch.int64)
    assert two_graphs(edge_index=none).symmetric
    empty = RawGraphs("empty", torch.zeros(0, dtype=torch.int64), none, y=torch.zeros(0, dtype=torch.int64))
    assert empty.stats()["graphs"] == 0 and empty.num_classes == 0


def test_fingerprint_is_of_the_content_alone() -> None:
    raw = two_graphs()
    assert raw.fingerprint() == two_graphs(name="other", provenance={"kind": "mirror"}).fingerprint()
    assert raw.fingerprint() != two_graphs(y=torch.tensor([0, 1])).fingerprint()
    assert raw.fingerprint() != two_graphs(node_labels=None).fingerprint()
    labels = two_graphs().node_labels
    assert raw.fingerprint() != two_graphs(node_labels=None, edge_labels=labels).fingerprint()


def test_fingerprint_is_the_same_in_every_version() -> None:
    """Records and splits hold it: a change of this value orphans them all."""
    assert two_graphs().fingerprint() == "820470a630384332841697b612735a91e33979a4fb33f565d4b55a3e9846898f"


def test_save_and_load(tmp_path: Path) -> None:
    raw = two_graphs(node_attributes=torch.rand(4, 2), provenance={"kind": "mirror"})
    raw.save(tmp_path / "a" / "two.pt", files={"x": 1})
    again, facts = RawGraphs.load_facts(tmp_path / "a" / "two.pt")
    assert again.fingerprint() == raw.fingerprint() and facts == {"files": {"x": 1}}
    assert again.edge_index.dtype == torch.int64 and again.provenance == {"kind": "mirror"} and again.symmetric
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["two.pt"]


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "two.pt"
    two_graphs().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PoolBenchError, match="not a parsed dataset"):
        RawGraphs.load(path)
    at = whole.index(torch.tensor([3, 1]).numpy().tobytes())
    path.write_bytes(whole[:at] + b"\x07" + whole[at + 1 :])
    with pytest.raises(PoolBenchError):
        RawGraphs.load(path)


def test_graphs_without_classes() -> None:
    raw = two_graphs(y=None, targets=torch.rand(2, 3, dtype=torch.float64))
    assert raw.stats()["classes"] is None
    with pytest.raises(PoolBenchError, match="two has no classes: its graphs carry 3 column"):
        raw.class_labels()
