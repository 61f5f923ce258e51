"""Graphs with node classes, from generated files in the official formats and, with a mirror, against official facts."""

from __future__ import annotations

import os
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from poolbench.data.prepare import prepare
from poolbench.data.sources import files, nodegraphs
from poolbench.data.sources.nodegraph_names import NODE_GRAPHS
from poolbench.data.sources.nodegraphs import NodeGraph
from poolbench.errors import PoolBenchError

needs_mirror = [
    pytest.mark.mirror,
    pytest.mark.skipif(not os.environ.get("POOLBENCH_MIRROR"), reason="POOLBENCH_MIRROR is not set"),
]


@pytest.fixture(autouse=True)
def _no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:9/data"
    changed = {name: facts._replace(host=nowhere) for name, facts in NODE_GRAPHS.items()}
    monkeypatch.setattr(nodegraphs, "NODE_GRAPHS", changed)


# Seven nodes. Planetoid's parts: 0, 1 labelled, 2 unlabelled, 5 and 3 tested, in this order; nobody lists 4; 6 tested.
WORDS = np.array([[1, 0], [0, 1], [1, 1], [0, 2], [0, 0], [2, 0], [3, 1]], dtype=np.float32)
CLASSES = [0, 1, 1, 1, 0, 0, 1]
TEST = [5, 3, 6]


def planetoid(folder: Path, stem: str, **changed: object) -> None:
    one_hot = np.eye(2, dtype=np.int32)[CLASSES]
    graph = defaultdict(list, {0: [1, 1, 0], 1: [0, 2], 2: [1], 3: [5], 5: [3], 6: [2], 4: []})
    parts: dict = {
        "x": sp.csr_matrix(WORDS[:2]), "allx": sp.csr_matrix(WORDS[:3]), "tx": sp.csr_matrix(WORDS[TEST]),
        "y": one_hot[:2], "ally": one_hot[:3], "ty": one_hot[TEST], "graph": graph, **changed,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for part, value in parts.items():
        (folder / f"{stem}.{part}").write_bytes(pickle.dumps(value, protocol=2))
    (folder / f"{stem}.test.index").write_text("".join(f"{node}\n" for node in TEST))


def npz(path: Path, **changed: object) -> None:
    """0 - 1 given in one direction, 1 - 2 in both, a loop at 2, an entry that is zero, a weight of 3."""
    adjacency = sp.csr_matrix(([1.0, 1.0, 1.0, 1.0, 0.0, 3.0], ([0, 1, 2, 2, 0, 3], [1, 2, 1, 2, 3, 2])), shape=(4, 4))
    words = sp.csr_matrix(np.array([[1, 2, 0], [0, 0, 0], [0, 0, 5], [0, 1, 1]], dtype=np.float32))
    held: dict = {"labels": np.array([0, 1, 1, 0])}
    for name, matrix in (("adj", adjacency), ("attr", words)):
        held |= {f"{name}_data": matrix.data, f"{name}_indices": matrix.indices, f"{name}_indptr": matrix.indptr,
                 f"{name}_shape": np.array(matrix.shape)}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in {**held, **changed}.items() if value is not None})


def test_planetoid_content(cache: Path) -> None:
    planetoid(cache / "Planetoid/Cora/raw", "ind.cora")
    raw = NodeGraph("Cora").load()
    assert raw.node_attributes.tolist() == WORDS.tolist()
    assert raw.node_y.tolist() == CLASSES
    assert raw.edge_index.tolist() == [[0, 1, 1, 2, 2, 3, 5, 6], [1, 0, 2, 1, 6, 5, 3, 2]]
    assert raw.num_nodes.tolist() == [7] and raw.symmetric and raw.y is None


def test_the_official_parts_of_the_nodes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planetoid(cache / "Planetoid/Cora/raw", "ind.cora")
    with pytest.raises(
        PoolBenchError, match=r"cora\.y has 2 nodes; these and 500 more.* before the test nodes, 3 to 6 of 7"
    ):
        NodeGraph("Cora").official_node_split(NodeGraph("Cora").load())
    monkeypatch.setattr(nodegraphs, "VALIDATION", 1)
    parts = NodeGraph("Cora").official_node_split(NodeGraph("Cora").load())
    assert {part: nodes.tolist() for part, nodes in parts.items()} == {"train": [0, 1], "val": [2], "test": [3, 5, 6]}
    npz(cache / "Amazon/Photo/raw/amazon_electronics_photo.npz")
    assert NodeGraph("Amazon-Photo").official_node_split(NodeGraph("Amazon-Photo").load()) is None


def test_npz_content(cache: Path) -> None:
    npz(cache / "Amazon/Photo/raw/amazon_electronics_photo.npz")
    raw = NodeGraph("Amazon-Photo").load()
    assert raw.edge_index.tolist() == [[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]]
    assert raw.node_attributes.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 5], [0, 1, 1]]
    assert raw.node_y.tolist() == [0, 1, 1, 0]
    assert NodeGraph("Amazon-Photo", binary=True).load().node_attributes.max() == 1


def test_there_is_nothing_to_predict(cache: Path) -> None:
    npz(cache / "Amazon/Photo/raw/amazon_electronics_photo.npz")
    dataset = NodeGraph("Amazon-Photo")
    target = dataset.target(dataset.load())
    assert (target.kind, target.loss, target.outputs, target.y.tolist()) == ("none", "none", 0, [0])


def test_rows_are_normalised_on_request_and_zero_rows_stay(cache: Path) -> None:
    npz(cache / "Coauthor/CS/raw/ms_academic_cs.npz")
    dataset = NodeGraph("Coauthor-CS", normalize=True)
    raw = dataset.load()
    x = dataset.node_features(raw).values
    torch.testing.assert_close(x, torch.tensor([[1 / 3, 2 / 3, 0], [0, 0, 0], [0, 0, 1], [0, 0.5, 0.5]]))
    assert raw.fingerprint() == NodeGraph("Coauthor-CS").load().fingerprint()
    assert NodeGraph("Coauthor-CS", features=["degree"]).node_features(raw).names == [
        "degree=0",
        "degree=1",
        "degree=2",
    ]


def test_files_come_from_a_mirror_and_stay(cache: Path, tmp_path: Path) -> None:
    npz(tmp_path / "mirror/CitationFull/dblp.npz")
    first = NodeGraph("DBLP", mirror=str(tmp_path / "mirror")).load()
    assert first.provenance["kind"] == "mirror" and len(first.provenance["sha256"]) == 64
    assert first.provenance["where"] == "CitationFull/dblp.npz"
    again = NodeGraph("DBLP").load()
    assert again.provenance == first.provenance and again.fingerprint() == first.fingerprint()
    assert prepare(NodeGraph("DBLP"))["path"] == str(cache / "CitationFull/dblp")


def test_all_files_of_a_dataset_come_or_none(cache: Path, tmp_path: Path) -> None:
    planetoid(tmp_path / "mirror/Planetoid", "ind.citeseer")
    (tmp_path / "mirror/Planetoid/ind.citeseer.graph").unlink()
    with pytest.raises(
        PoolBenchError, match=r"dataset CiteSeer is not here: .*its 8 files.*Planetoid/ind.citeseer.graph"
    ):
        NodeGraph("CiteSeer", mirror=str(tmp_path / "mirror")).load()
    assert not (cache / "Planetoid/CiteSeer").exists()
    planetoid(tmp_path / "mirror/Planetoid", "ind.citeseer")
    raw = NodeGraph("CiteSeer", mirror=str(tmp_path / "mirror")).load()
    assert raw.provenance["where"] == "Planetoid" and len(raw.provenance["files_sha256"]) == 64


def test_what_a_mirror_holds_is_parsed_before_it_is_kept(cache: Path, tmp_path: Path) -> None:
    npz(tmp_path / "mirror/CitationFull/dblp.npz", labels=np.array([0, 1]))
    with pytest.raises(PoolBenchError, match="4 rows of features, but 4 nodes and 2 classes"):
        NodeGraph("DBLP", mirror=str(tmp_path / "mirror")).load()
    assert not (cache / "CitationFull").exists()


def test_a_folder_in_the_way_is_named(cache: Path, tmp_path: Path) -> None:
    npz(tmp_path / "mirror/CitationFull/dblp.npz")
    (cache / "CitationFull/dblp/raw").mkdir(parents=True)
    with pytest.raises(PoolBenchError, match=r"dblp/raw exists and does not hold dblp\.npz; remove it"):
        NodeGraph("DBLP", mirror=str(tmp_path / "mirror")).load()


def test_files_that_somebody_put_there(cache: Path) -> None:
    npz(cache / "CitationFull/dblp/dblp.npz")
    facts = NodeGraph("DBLP").load().provenance
    assert facts["kind"] == "cache" and facts["where"] == "CitationFull/dblp"
    assert facts["sha256"] == files.fetch.file_sha256(cache / "CitationFull/dblp/dblp.npz")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"adj_indices": None}, "holds no array adj_indices"),
        ({"adj_indices": np.array([1, 9, 1, 2, 3, 2])}, "adj is no matrix"),
        ({"attr_shape": np.array([4])}, "attr is no matrix"),
        ({"adj_indices": np.array([1, 1, 2, -1, 2, 2])}, "adj is no matrix"),
        ({"adj_indptr": np.array([0, 4, 2, 5, 6])}, "adj is no matrix .its indptr is not that of 4 rows"),
        ({"adj_indptr": np.array([0, 2, 3, 5, 5])}, "6 numbers and 6 indices, but its indptr ends at 5"),
        ({"attr_data": np.array([1, 2, np.nan, 3, 4])}, "attr is no matrix .it holds a number that is not finite"),
        ({"attr_shape": np.array([4, 2])}, "attr is no matrix .it names column 2, but it has 2"),
        ({"attr_shape": np.array([4, 2**40])}, "attr is no matrix"),
        ({"attr_shape": np.array([4, 10**6])}, "has 4 nodes with 1000000 features"),
        ({"labels": np.array([0, 1])}, "4 rows of features, but 4 nodes and 2 classes"),
        ({"labels": np.array([0, 1, 1, 10**9])}, "classes from 0 to 1000000000, but DBLP has 17716, 1639 and 4"),
        ({"labels": np.array([0, 1, 1, -1])}, "classes from -1 to 1"),
        ({"labels": np.array([0, 1, 1, 0.5])}, "labels are no whole numbers"),
    ],
)
def test_damaged_npz(cache: Path, changed: dict, text: str) -> None:
    npz(cache / "CitationFull/dblp/raw/dblp.npz", **changed)
    with pytest.raises(PoolBenchError, match=text):
        NodeGraph("DBLP").load()


ONE_LIST = [0] * 100


@pytest.mark.parametrize(
    "changed",
    [
        {"graph": [1, 2]},
        {"graph": defaultdict(list, {0: [99]})},
        {"graph": defaultdict(list, {-1: [0]})},
        {"graph": defaultdict(list, {0: "12"})},
        {"graph": {node: ONE_LIST for node in range(7)}},
        {"allx": 3},
        {"tx": sp.csr_matrix((3, 9))},
        {"tx": sp.csr_matrix((2, 2))},
        {"ally": np.zeros((2, 2))},
        {"ty": np.zeros(3)},
    ],
)
def test_damaged_planetoid(cache: Path, changed: dict) -> None:
    planetoid(cache / "Planetoid/Cora/raw", "ind.cora", **changed)
    with pytest.raises(PoolBenchError, match=r"ind\.cora\.\* are no Planetoid files"):
        NodeGraph("Cora").load()


@pytest.mark.parametrize("index", [10**8, 1440, -1])
def test_a_matrix_that_names_what_it_has_not(cache: Path, index: int) -> None:
    """SciPy reads such a row from anywhere in memory, or dies of it."""
    forged = sp.csr_matrix(WORDS[:3])
    forged.indices[1] = index
    planetoid(cache / "Planetoid/Cora/raw", "ind.cora", allx=forged)
    with pytest.raises(
        PoolBenchError, match=rf"ind\.cora\.allx is no pickle of arrays .it names column {max(index, 1)}"
    ):
        NodeGraph("Cora").load()


@pytest.mark.parametrize("text", ["5\n3\n5\n", "", "5\n3\n-6\n", "5\n3\n99999999999999999999\n", "5 3 x", "5 3 ü"])
def test_a_list_of_test_nodes_that_is_none(cache: Path, text: str) -> None:
    planetoid(cache / "Planetoid/Cora/raw", "ind.cora")
    (cache / "Planetoid/Cora/raw/ind.cora.test.index").write_text(text, encoding="utf-8")
    with pytest.raises(PoolBenchError, match=r"ind\.cora\.test\.index is no list of nodes"):
        NodeGraph("Cora").load()


def test_a_test_node_beyond_the_dataset(cache: Path) -> None:
    planetoid(cache / "Planetoid/Cora/raw", "ind.cora")
    (cache / "Planetoid/Cora/raw/ind.cora.test.index").write_text("5\n3\n1000000000000\n")
    with pytest.raises(PoolBenchError, match=r"3 test nodes from 3 to 1000000000000, .* after 3 others of 2708"):
        NodeGraph("Cora").load()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"name": "cora"}, "did you mean Cora"),
        ({"name": "Cora", "normalize": "rows"}, "normalize='rows'"),
        ({"name": "Cora", "features": "word"}, "features='word' is unknown"),
    ],
)
def test_wrong_arguments(arguments: dict, text: str) -> None:
    with pytest.raises(PoolBenchError, match=text):
        NodeGraph(**arguments)


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_mirror) for name in ("Cora", "CiteSeer")])
def test_statistics_are_the_official_ones(name: str) -> None:
    dataset = NodeGraph(name)
    raw, facts = dataset.load(), NODE_GRAPHS[name]
    assert (raw.total_nodes, raw.num_edges) == (facts.nodes, facts.edges)
    assert raw.node_attributes.shape == (facts.nodes, facts.features)
    assert raw.node_y.unique().tolist() == list(range(facts.classes))
    assert raw.symmetric and set(raw.node_attributes.unique().tolist()) == {0.0, 1.0}
    x = NodeGraph(name, normalize=True).node_features(raw).values
    sums = x.double().sum(1)
    assert ((sums - 1).abs() < 1e-5).sum() + (sums == 0).sum() == facts.nodes
    parts = dataset.official_node_split(raw)
    assert [len(part) for part in parts.values()] == [20 * facts.classes, 500, 1000]
    assert raw.node_y[parts["train"]].bincount().tolist() == [20] * facts.classes
    assert torch.cat(list(parts.values())).unique().numel() == 20 * facts.classes + 1500
    assert (sums == 0).sum() == (15 if name == "CiteSeer" else 0)  # the test nodes that the files leave out
