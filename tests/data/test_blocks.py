"""The folder form of a dataset: written in blocks, read whole or mapped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from poolbench.data import blocks
from poolbench.data.blocks import GraphWriter, read_folder
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError

# Two graphs: a path 0 - 1 - 2 and an edge 3 - 4; the edges in no order, with a self-loop and one edge twice.
EDGES = np.array([[1, 0, 4, 2, 1, 3, 2, 0], [0, 1, 3, 1, 2, 4, 2, 1]])
LABELS = np.array([[1], [9], [4], [3], [2], [5], [7], [0]])


def write(folder: Path, split: bool = False) -> Path:
    out = GraphWriter(folder)
    if split:
        first = np.array([0, 1, 3, 4, 6, 7])
        out.add(np.array([3]), EDGES[:, first], edge_labels=LABELS[first], node_labels=np.arange(3)[:, None])
        out.add(np.array([2]), EDGES[:, [2, 5]] - 3, edge_labels=LABELS[[2, 5]], node_labels=np.array([[3], [4]]))
    else:
        out.add(np.array([3, 2]), EDGES, edge_labels=LABELS, node_labels=np.arange(5)[:, None])
    out.put("targets", np.array([[0.5]]))
    out.put("targets", np.array([[1.5]]))
    out.close("pair", {"kind": "generated"}, answer=42)
    return folder


def test_content_is_canonical(tmp_path: Path) -> None:
    raw, facts = read_folder(write(tmp_path / "a"))
    assert raw.num_nodes.tolist() == [3, 2] and facts == {"answer": 42} and raw.name == "pair"
    assert raw.edge_index.tolist() == [[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]]
    assert raw.edge_labels.tolist() == [[0], [1], [2], [3], [5], [4]]  # of 0 - 1 the smaller of 9 and 0
    assert raw.targets.tolist() == [[0.5], [1.5]] and raw.targets.dtype == torch.float64
    assert raw.symmetric and raw.provenance == {"kind": "generated"}


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    whole, _ = read_folder(write(tmp_path / "a"))
    parts, _ = read_folder(write(tmp_path / "b", split=True))
    held = RawGraphs(
        "other", whole.num_nodes, whole.edge_index, whole.node_labels, edge_labels=whole.edge_labels,
        targets=whole.targets,
    )  # fmt: skip
    assert whole.fingerprint() == parts.fingerprint() == held.fingerprint()


def test_a_large_dataset_is_mapped_and_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "a")
    small, _ = read_folder(folder)
    monkeypatch.setattr(blocks, "IN_MEMORY", 0)
    raw, _ = read_folder(folder)
    assert raw.fingerprint() == small.fingerprint()
    assert torch.equal(raw.edge_index, small.edge_index) and torch.equal(raw.edge_labels, small.edge_labels)
    # What is mapped shows what the file holds now, and is not hashed anew.
    with open(folder / "edge_labels.npy", "r+b") as file:
        file.seek(-8, 2)
        file.write((6).to_bytes(8, "little"))
    assert raw.edge_labels.tolist()[-1] == [6]
    assert read_folder(folder)[0].fingerprint() == small.fingerprint()


@pytest.mark.parametrize("mapped", [False, True])
def test_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool) -> None:
    monkeypatch.setattr(blocks, "IN_MEMORY", 0 if mapped else 100)
    folder = write(tmp_path / "a")
    whole = (folder / "edge_index.npy").read_bytes()
    for content in (whole[:-8], whole[:50], b""):
        (folder / "edge_index.npy").write_bytes(content)
        with pytest.raises(PoolBenchError, match="is not a parsed dataset of this version"):
            read_folder(folder)
    (folder / "edge_index.npy").write_bytes(whole)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(PoolBenchError, match="format 99, expected 1"):
        read_folder(folder)
    (folder / "meta.json").unlink()
    with pytest.raises(FileNotFoundError):
        read_folder(folder)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    content = bytearray((folder / "node_labels.npy").read_bytes())
    content[-8] = 9
    (folder / "node_labels.npy").write_bytes(content)
    with pytest.raises(PoolBenchError, match="does not match its fingerprint"):
        read_folder(folder)


def test_directed_edges_and_no_edges(tmp_path: Path) -> None:
    out = GraphWriter(tmp_path / "a")
    out.add(np.array([2, 0, 1]), np.array([[1], [0]]))
    out.add(np.array([1]), np.zeros((2, 0), dtype=np.int64))
    out.close("arrow", {})
    raw, _ = read_folder(tmp_path / "a")
    assert not raw.symmetric and raw.edge_index.tolist() == [[1], [0]] and raw.num_nodes.tolist() == [2, 0, 1, 1]


def test_numbers_are_not_cut_to_whole_ones(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"node_labels.npy holds int64, got float64"):
        GraphWriter(tmp_path / "a").put("node_labels", np.array([[0.5]]))


def test_words_and_a_split_survive_both_forms(tmp_path: Path) -> None:
    out = GraphWriter(tmp_path / "a")
    out.add(np.array([2, 1]), np.array([[0, 1], [1, 0]]))
    for key, rows in (("num_words", [2, 0]), ("words", [1, 0]), ("train", [1]), ("val", []), ("test", [0])):
        out.put(key, np.array(rows, dtype=np.int64))
    out.put("lexicon", np.frombuffer("ä\nb".encode(), dtype=np.uint8))
    out.close("words", {})
    raw, _ = read_folder(tmp_path / "a")
    raw.save(tmp_path / "file.pt")
    again = RawGraphs.load(tmp_path / "file.pt")
    assert again.fingerprint() == raw.fingerprint()
    for held in (raw, again):
        assert bytes(held.lexicon.numpy()).decode().split("\n") == ["ä", "b"]
        assert [held.words.tolist(), held.num_words.tolist()] == [[1, 0], [2, 0]]
        assert [held.train.tolist(), held.val.tolist(), held.test.tolist()] == [[1], [], [0]]
