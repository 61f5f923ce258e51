"""Parsing of the TU format, from generated files and, with a mirror, against the official statistics."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from poolbench.data.prepare import prepare
from poolbench.data.sources import tu_text
from poolbench.data.sources.tu import TU_NAMES, TUDataset, parse
from poolbench.data.sources.tu_names import TEMPORAL
from poolbench.errors import PoolBenchError

Unpacked = Callable[..., Path]


def test_content(unpacked: Unpacked) -> None:
    raw = parse("TINY", unpacked("TINY"))
    assert raw.num_nodes.tolist() == [3, 2, 1]
    assert raw.edge_index.tolist() == [[0, 0, 1, 1, 2, 2, 3, 4], [1, 2, 0, 2, 0, 1, 4, 3]]
    assert raw.y.tolist() == [0, 1, 0] and raw.num_classes == 2 and raw.targets is None
    assert raw.node_labels.tolist() == [[3], [5], [3], [4], [4], [3]]
    assert raw.node_attributes[1].tolist() == [1.5, 2.0] and raw.node_attributes.dtype == torch.float32
    assert raw.symmetric


@pytest.mark.parametrize("chunk", [1, 7, 16, 1 << 20])
def test_pieces_of_any_size_give_the_same(unpacked: Unpacked, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    whole = parse("TINY", unpacked("TINY")).fingerprint()
    monkeypatch.setattr(tu_text, "_CHUNK", chunk)
    assert parse("TINY", unpacked("TINY")).fingerprint() == whole


def test_the_fingerprint_does_not_hang_on_how_it_was_written(unpacked: Unpacked) -> None:
    plain = parse("TINY", unpacked("TINY")).fingerprint()
    edges = "5,4\r\n4,5\r\n\r\n1 , 3\r\n2,3\r\n3,2\r\n3,1\r\n1,2\r\n2,1"
    assert parse("TINY", unpacked("TINY", A=edges)).fingerprint() == plain
    assert parse("TINY", unpacked("TINY", node_labels="3.0\n5.0\n3.0\n4.0\n4.0\n3.0\n\n")).fingerprint() == plain
    # nodes that are not in the order of their graphs are put in order
    mixed = {
        "A": "1, 4\n4, 1\n4, 6\n6, 4\n6, 1\n1, 6\n2, 5\n5, 2\n",
        "graph_indicator": "1\n2\n3\n1\n2\n1\n",
        "node_labels": "3\n4\n3\n5\n4\n3\n",
        "node_attributes": "0.5,1\n3.5,4\n5.5,6\n1.5,2\n4.5,5\n2.5,3\n",
    }
    assert parse("TINY", unpacked("TINY", **mixed)).fingerprint() == plain


def test_edge_labels_follow_their_edges(unpacked: Unpacked) -> None:
    """The loop 2, 2 goes with its label; of 1, 3, given with labels 9 and 6, the smaller one stays."""
    labels = "1\n2\n3\n4\n5\n9\n6\n7\n8\n0\n"
    attributes = "".join(f"{k}.5\n" for k in range(10))
    raw = parse("TINY", unpacked("TINY", edge_labels=labels, edge_attributes=attributes))
    assert raw.edge_labels.tolist() == [[1], [6], [2], [3], [5], [4], [8], [0]]
    assert raw.edge_attributes[:, 0].tolist() == [0.5, 6.5, 1.5, 2.5, 4.5, 3.5, 8.5, 9.5]


def test_directed_edges_stay_directed(unpacked: Unpacked) -> None:
    raw = parse("TINY", unpacked("TINY", A="1, 2\n3, 2\n"))
    assert not raw.symmetric and raw.edge_index.tolist() == [[0, 2], [1, 1]]


def test_no_edges_and_graphs_without_nodes(unpacked: Unpacked) -> None:
    sparse = unpacked("TINY", A="", graph_indicator="1\n1\n1\n2\n2\n4\n", graph_labels="0\n1\n0\n1\n")
    raw = parse("TINY", sparse)
    assert raw.num_edges == 0 and raw.num_nodes.tolist() == [3, 2, 0, 1] and raw.symmetric


@pytest.mark.parametrize(
    ("changed", "width"),
    [
        ({"graph_labels": "0.5\n1\n2\n"}, 1),
        ({"graph_labels": "1, 2\n1, 3\n0, 0\n"}, 2),
        ({"graph_labels": None, "graph_attributes": "0.5, 1\n1, 2\nnan, 3\n"}, 2),
    ],
)
def test_labels_that_are_no_classes_are_held_as_targets(unpacked: Unpacked, changed: dict, width: int) -> None:
    raw = parse("TINY", unpacked("TINY", **changed))
    assert raw.y is None and raw.targets.shape == (3, width)
    with pytest.raises(PoolBenchError, match="TINY has no classes"):
        raw.class_labels()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"graph_indicator": None}, "TINY_graph_indicator.txt is missing"),
        ({"graph_labels": None}, "TINY_graph_labels.txt is missing"),
        ({"graph_labels": "1\n0\n"}, "TINY_graph_indicator.txt, line 6: '3' is no graph: only 2 have labels"),
        ({"graph_labels": "1\n0\n1\n\n0\n"}, "graph_labels.txt, line 5: the label of graph 4, but .* graphs 1 to 3"),
        ({"graph_indicator": "0\n1\n1\n2\n2\n3\n"}, "graph_indicator.txt, line 1: '0' is no graph, they count from 1"),
        ({"graph_indicator": "1\n1\n1\n2 3\n2\n3\n"}, "graph_indicator.txt, line 4: 2 numbers, expected 1"),
        ({"graph_labels": "1\n1e19\n2\n"}, "graph_labels.txt, line 2: '1e19' is too large"),
        ({"graph_labels": "1\ninf\n2\n"}, "graph_labels.txt, line 2: 'inf' is no finite number"),
        ({"node_labels": "1\n2\n"}, "TINY_node_labels.txt has 2 lines, but the dataset has 6 nodes"),
        ({"node_labels": "3\n5\n\n1e19\n4\n4\n3\n"}, "TINY_node_labels.txt, line 4: '1e19' is no whole number"),
        ({"node_labels": "3\n5\n10000000000000000000\n4\n4\n3\n"}, "line 3: '10000000000000000000' is no whole number"),
        ({"node_labels": "3\n5\n3\n4\n4\n-\n"}, "TINY_node_labels.txt, line 6: '-' is no whole number"),
        ({"node_labels": "\0\n"}, r"TINY_node_labels.txt, line 1: '\\x00' is no whole number"),
        ({"node_attributes": "1\n" * 7}, "TINY_node_attributes.txt has 7 lines"),
        ({"node_attributes": "1\n2\nnan\n4\n5\n6\n"}, "node_attributes.txt, line 3: 'nan' is no finite number"),
        ({"node_attributes": "1,2\n3,-inf\n" + "5,6\n" * 4}, "node_attributes.txt, line 2: '-inf' is no finite"),
        ({"node_attributes": "1\n2\n3\n4\n5\n1e39\n"}, "node_attributes.txt, line 6: '1e39' is no finite number"),
        ({"edge_labels": "1\n"}, "TINY_edge_labels.txt has 1 lines, but TINY_A.txt has 10"),
        ({"A": "1, 2\n\n1, 7\n"}, "TINY_A.txt, line 3: '7' is no node, they are 1 to 6"),
        ({"A": "0, 1\n"}, "TINY_A.txt, line 1: '0' is no node"),
        ({"A": "1, 2\n3, 4\n"}, "line 2: an edge between two graphs, nodes 3 and 4"),
        ({"A": "1, 2\n3\n"}, "line 2: 1 numbers, expected 2"),
        ({"A": "1, 2\n2, 1, 3\n4\n"}, "line 2: 3 numbers, expected 2"),
        ({"A": "1\n2, 1, 3\n4, 5\n"}, "line 1: 1 numbers, expected 2"),
        ({"A": "1, two\n"}, "line 1: 'two' is no whole number"),
        ({"A": "1, 2\n1, 2.5\n"}, "line 2: '2.5' is no whole number"),
        ({"A": "1, 99999999999999999999\n"}, "'99999999999999999999' is no whole number"),
        ({"A": "1" * (1 << 20)}, "line 1: it has 1048576 bytes or more"),
        ({"node_labels": "0, 0\n0\n0\n0\n0\n0\n"}, "line 2: 1 numbers, expected 2"),
        ({"node_attributes": "1;2;3\nx\n"}, "line 2: 1 numbers, expected 3"),
        ({"node_attributes": "1;2;3\n4;x;6\n"}, "line 2: 'x' is no number"),
    ],
)
def test_malformed_files(unpacked: Unpacked, changed: dict, text: str) -> None:
    with pytest.raises(PoolBenchError, match=text) as caught:
        parse("TINY", unpacked("TINY", **changed))
    assert "\n" not in str(caught.value) and "dataset TINY: " in str(caught.value)


@pytest.mark.parametrize("chunk", [1, 16, 1 << 20])
def test_the_line_is_found_in_any_piece(unpacked: Unpacked, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(tu_text, "_CHUNK", chunk)
    for edges, text in (
        ("1, 2\n\n" * 9 + "2, 9\n", "line 19: '9' is no node"),
        ("1, 2\n" * 9 + "2\n", "line 10: 1 num"),
    ):
        with pytest.raises(PoolBenchError, match=text):
            parse("TINY", unpacked("TINY", A=edges))


def test_lines_that_end_as_they_did_on_old_systems_are_not_joined(unpacked: Unpacked) -> None:
    with pytest.raises(PoolBenchError, match="line 1: 6 numbers, expected 1"):
        parse("TINY", unpacked("TINY", graph_indicator="1\r1\r1\r2\r2\r3\r"))


def test_graphs_over_time(unpacked: Unpacked) -> None:
    """The format of Oettershagen et al.: nodes with labels over time, an edge for each of its times."""
    changed = {
        "A": "1, 2\n2, 1\n1, 2\n2, 1\n3, 4\n4, 3\n",
        "edge_attributes": "7\n7\n3\n3\n5\n5\n",
        "graph_indicator": "1\n1\n2\n2\n",
        "graph_labels": "0\n1\n",
        "node_labels": "0, 0, 4, 1\n0, 0\n0, 1\n0, 0, 2, 1, 9, 2\n",
        "node_attributes": None,
    }
    raw = parse("mit_ct1", unpacked("mit_ct1", **changed))
    assert raw.node_labels.tolist() == [[1], [0], [1], [2]] and raw.y.tolist() == [0, 1]
    assert raw.edge_index.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2]]
    assert raw.edge_attributes.tolist() == [[3], [3], [5], [5]]
    for labels, text in (
        ("0, 0, 4\n0, 0\n0, 1\n0, 0\n", "line 1: 3 numbers, expected pairs of a time and a label"),
        ("0, 0\nx, 0\n0, 1\n0, 0\n", "line 2: 'x' is no time"),
        ("0, 0\n0, 0.5\n0, 1\n0, 0\n", "line 2: '0.5' is no label"),
    ):
        with pytest.raises(PoolBenchError, match=f"mit_ct1_node_labels.txt, {text}"):
            parse("mit_ct1", unpacked("mit_ct1", **{**changed, "node_labels": labels}))
    assert len(TEMPORAL) == 12 and set(TU_NAMES) >= TEMPORAL


def test_a_damaged_parsed_form_is_made_anew(unpacked: Unpacked, cache: Path) -> None:
    unpacked("TINY", cache / "TUDataset/TINY/raw")
    whole = TUDataset("TINY").load()
    parsed = cache / "TUDataset/TINY/parsed-v1.pt"
    parsed.write_bytes(parsed.read_bytes()[:100])
    assert TUDataset("TINY").load().fingerprint() == whole.fingerprint()
    assert parsed.stat().st_size > 100


def test_prepare_says_what_there_is(unpacked: Unpacked, cache: Path) -> None:
    unpacked("TINY", cache / "TUDataset/TINY")
    facts = prepare(TUDataset("TINY"))
    assert (facts["name"], facts["graphs"], facts["classes"], facts["source"]) == ("TINY", 3, 2, "cache")
    assert facts["path"] == str(cache / "TUDataset/TINY") and len(facts["fingerprint"]) == 64


def test_features_are_checked_when_the_dataset_is_made() -> None:
    with pytest.raises(PoolBenchError, match="did you mean labels"):
        TUDataset("MUTAG", features="label")
    assert TUDataset("MUTAG", features=["degree"], max_degree=3).features.max_degree == 3


def test_edge_features_and_graphs_without_twins(unpacked: Unpacked, cache: Path) -> None:
    """Graph 3 of the files is a copy of graph 1 with other labels."""
    again = {
        "A": "1, 2\n2, 1\n3, 4\n4, 3\n5, 6\n6, 5\n",
        "graph_indicator": "1\n1\n2\n2\n3\n3\n",
        "graph_labels": "1\n0\n1\n",
        "node_labels": "3\n5\n3\n3\n5\n3\n",
        "edge_labels": "0\n0\n2\n2\n0\n0\n",
    }
    unpacked("TINY", cache / "TUDataset/TINY/raw", **again)
    dataset = TUDataset("TINY")
    raw = dataset.load()
    assert dataset.edge_features(raw).values.tolist() == [[1, 0, 0]] * 2 + [[0, 0, 1]] * 2 + [[1, 0, 0]] * 2
    fewer = TUDataset("TINY", deduplicate=True).load()
    assert fewer.num_graphs == 2 and fewer.fingerprint() != raw.fingerprint()
    assert fewer.provenance["deduplicated"] is True and fewer.provenance["graphs_before"] == 3
    assert TUDataset("TINY", deduplicate="cleaned").load().num_graphs == 0  # all look alike, and they differ in class
    assert TUDataset("TINY").load().fingerprint() == raw.fingerprint()
    with pytest.raises(PoolBenchError, match="deduplicate='all' must be true, false or cleaned"):
        TUDataset("TINY", deduplicate="all")


def test_names() -> None:
    assert len(TU_NAMES) > 120 and TU_NAMES["PROTEINS"] == (1113, 2) and TU_NAMES["QM9"] == (129433, 0)
    for name in TU_NAMES:
        TUDataset(name)


# ---------------------------------------------------------------- real data

needs_mirror = [
    pytest.mark.mirror,
    pytest.mark.skipif(not os.environ.get("POOLBENCH_MIRROR"), reason="POOLBENCH_MIRROR is not set"),
]

# name: graphs, classes, mean nodes, mean undirected edges without loops, columns of x
OFFICIAL = {
    "MUTAG": (188, 2, 17.93, 19.79, 7),
    "PROTEINS": (1113, 2, 39.06, 72.82, 4),
    "ENZYMES": (600, 6, 32.63, 62.14, 21),
    "NCI1": (4110, 2, 29.87, 32.30, 37),
    "IMDB-BINARY": (1000, 2, 19.77, 96.53, 136),
    "IMDB-MULTI": (1500, 3, 13.00, 65.94, 89),
    "COX2": (467, 2, 41.22, 43.45, 38),
    "Mutagenicity": (4337, 2, 30.32, 30.77, 14),
    "DD": (1178, 2, 284.32, 715.66, 89),
    "REDDIT-BINARY": (2000, 2, 429.63, 497.75, 136),
    "COLLAB": (5000, 3, 74.49, 2457.22, 136),
}
LARGE = ("DD", "REDDIT-BINARY", "COLLAB")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[*needs_mirror, *([pytest.mark.slow] if name in LARGE else [])]) for name in OFFICIAL],
)
def test_statistics_are_the_official_ones(name: str) -> None:
    dataset = TUDataset(name)
    raw = dataset.load()
    stats = raw.stats()
    graphs, classes, nodes, edges, columns = OFFICIAL[name]
    assert (stats["graphs"], stats["classes"]) == (graphs, classes) == TU_NAMES[name]
    assert (round(stats["mean_nodes"], 2), round(stats["mean_edges"], 2)) == (nodes, edges)
    assert not stats["directed"]
    if name in LARGE[1:]:
        return  # x of these is large, and made as for the others
    x, names, _ = dataset.node_features(raw)
    assert x.shape == (raw.total_nodes, columns) and len(names) == columns
    if raw.node_labels is not None:
        labels = sum(column.startswith("label") for column in names)
        assert (x[:, :labels].sum(1) == raw.node_labels.size(1)).all()


@pytest.mark.mirror
@pytest.mark.skipif(not os.environ.get("POOLBENCH_MIRROR"), reason="POOLBENCH_MIRROR is not set")
def test_shipped_mutag_is_that_of_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grakel", reason="no wheel for this Python")
    shipped = TUDataset("MUTAG").load()
    assert shipped.provenance["kind"] == "shipped"
    monkeypatch.setenv("POOLBENCH_DATA", os.environ["POOLBENCH_DATA"] + "-other")
    monkeypatch.setattr("poolbench.data.sources.fetch.shipped_folder", lambda name: None)
    other = TUDataset("MUTAG").load()
    assert other.provenance["kind"] == "mirror" and other.fingerprint() == shipped.fingerprint()
