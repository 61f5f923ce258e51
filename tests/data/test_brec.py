"""BREC: graph6, the official pairs, their copies, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from poolbench import cli
from poolbench.audit.rerun import rerun
from poolbench.audit.verify import verify
from poolbench.data import refinement
from poolbench.data.sources import brec
from poolbench.data.sources.brec import BREC, graph6
from poolbench.errors import PoolBenchError
from poolbench.records.attempts import iter_records
from poolbench.records.outcomes import pack, unpack
from poolbench.records.record import encode

GRAPHS = [
    nx.cycle_graph(6),
    nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)),
    nx.path_graph(3),
    nx.star_graph(3),
]
mirror = [
    pytest.mark.mirror,
    pytest.mark.skipif(not os.environ.get("POOLBENCH_MIRROR"), reason="POOLBENCH_MIRROR is not set"),
]


@pytest.fixture(autouse=True)
def _small_and_no_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brec, "HOST", "http://127.0.0.1:9/raw")
    if not request.node.get_closest_marker("mirror"):
        monkeypatch.setattr(brec, "PAIRS", {"basic": 2, "cfi": 1})


def text(graph: nx.Graph) -> str:
    return nx.to_graph6_bytes(graph, header=False).decode().strip()


def put(cache: Path, **changed: np.ndarray) -> None:
    """Two pairs as text, one after the other, and a pair as bytes, side by side, as the official files have them."""
    files = {"basic": np.array([text(g) for g in GRAPHS]), "cfi": np.array([[text(g).encode() for g in GRAPHS[:2]]])}
    (cache / "BREC").mkdir(parents=True)
    for name, held in {**files, **changed}.items():
        np.save(cache / f"BREC/{name}.npy", held)


@pytest.mark.parametrize("n", [1, 2, 5, 62, 63, 70])
def test_graph6(n: int) -> None:
    graph = nx.gnp_random_graph(n, 0.4, seed=1)
    nodes, edges = graph6(text(graph).encode())
    assert nodes == n and {tuple(edge) for edge in edges.T.tolist()} == {tuple(sorted(edge)) for edge in graph.edges}


@pytest.mark.parametrize("wrong", [b"", b"D", b"D??????", b"~", b"~??", b"\xff", b"D? ", b"?"])
def test_what_is_no_graph6(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="graph"):
        graph6(wrong)


def header(said: str, rest: bytes = b"") -> bytes:
    """A .npy file whose header says so."""
    text = said.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rest


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK\x03\x04", b"\x93NUMPY", header("{'descr': '<U500000000', 'fortran_order': False, 'shape': (4,)}"),
        header("{'descr': '|S3', 'fortran_order': False, 'shape': (10000000000000,)}"),
        header("{'descr': '|S3', 'fortran_order': False, 'shape': (99999999999999999999999,)}"),
        header("{'descr': '|S3', 'fortran_order': False, 'shape': (True, 4)}", b"abc"),
        header("(" * 2000), header("-" * 2000),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (4,)}", b"x" * 32),
        header("{'descr': '<U1', 'fortran_order': False, 'shape': (4,)}", b"\xff\xff\xff\x7f" * 4),
    ],
)  # fmt: skip
def test_files_that_are_no_texts(cache: Path, content: bytes) -> None:
    put(cache)
    (cache / "BREC/basic.npy").write_bytes(content)
    with pytest.raises(PoolBenchError, match=r"basic.npy is no sound file of BREC: .*; fetch it again"):
        BREC("basic").load()


def test_content_and_parts(cache: Path) -> None:
    put(cache)
    dataset = BREC(copies=4)
    raw = dataset.load()
    assert raw.num_nodes.tolist() == [6, 6, 3, 4, 6, 6] * 4 and raw.y.tolist() == [0, 1] * 12
    parts = dataset.official_split(raw)
    assert torch.equal(torch.cat(list(parts.values())), torch.arange(24)) and [len(p) for p in parts.values()] == [
        12,
        6,
        6,
    ]
    graph = torch.repeat_interleave(torch.arange(24), raw.num_nodes)[raw.edge_index[0]]
    starts = raw.num_nodes.cumsum(0) - raw.num_nodes
    for number, expected in enumerate([*GRAPHS, *GRAPHS[:2]] * 4):
        made = nx.empty_graph(int(raw.num_nodes[number]))
        made.add_edges_from((raw.edge_index[:, graph == number] - starts[number]).T.tolist())
        assert nx.is_isomorphic(made, expected)
    other = BREC(copies=4, seed=1).load()
    assert other.fingerprint() != raw.fingerprint() and BREC(copies=4).load().fingerprint() == raw.fingerprint()


def test_a_kind_and_a_pair(cache: Path) -> None:
    put(cache)
    assert BREC("cfi", copies=3).load().num_nodes.tolist() == [6, 6] * 3
    assert BREC("basic", pair=1, copies=3).load().num_nodes.tolist() == [3, 4] * 3
    assert BREC(pair=2, copies=3).load().num_nodes.tolist() == [6, 6] * 3


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"kind": "basics"}, r"kind='basics' is none of all, basic, cfi \(did you mean basic"),
        ({"kind": "cfi", "pair": 1}, "pair=1 is not there: kind=cfi has the pairs 0 to 0"),
        ({"pair": -1}, "pair=-1 must be a whole number, 0 or more"),
        ({"copies": 2}, "copies=2 must be a whole number, 3 or more"),
    ],
)
def test_wrong_arguments(arguments: dict, what: str) -> None:
    with pytest.raises(PoolBenchError, match=what):
        BREC(**arguments)


@pytest.mark.parametrize(
    ("held", "what"),
    [
        (np.array(["E?Bw"]), "it holds 16 bytes as <U4 of shape .*, expected 2 texts"),
        (np.array([3, 4]), "it holds 16 bytes as int64 of shape .*, expected 2 texts"),
        (np.array(["E?Bw", "E?B"]), "a graph6 of 6 nodes and 3 signs"),
        (np.array(["E?Bw", object()], dtype=object), "it holds .* as object of shape .*, expected 2 texts"),
    ],
)
def test_damaged(cache: Path, held: np.ndarray, what: str) -> None:
    put(cache, cfi=held)
    with pytest.raises(PoolBenchError, match=f"cfi.npy is no sound file of BREC: {what}.*; fetch it again"):
        BREC().load()


def test_who_has_it_not_is_told_what_to_do() -> None:
    with pytest.raises(
        PoolBenchError, match=r"dataset BREC is not here: .* that holds BREC/customize/Data/raw/basic.npy"
    ):
        BREC().load()


@pytest.mark.parametrize("name", [pytest.param("BREC", marks=mirror)])
def test_official_figures(name: str) -> None:
    raw = BREC(copies=3).load()
    assert raw.num_graphs == 3 * 800 and int(raw.num_nodes.max()) == 198
    classes = refinement.classes(raw).reshape(3, 400, 2)
    assert (classes[0] == classes[1]).all() and (classes[..., 0] == classes[..., 1]).all()  # 1-WL tells no pair apart


def test_more_copies_than_any_machine_holds_are_refused() -> None:
    for arguments in ({"copies": 10**6}, {"copies": 10**9, "pair": 1}):
        with pytest.raises(PoolBenchError, match=r"BREC: .* copies of [31] pairs make .* are the most"):
            BREC(**arguments)


def test_the_pairs_and_their_categories(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache)
    dataset = BREC(copies=3)
    raw = dataset.load()
    pairs = dataset.pairs(raw)
    assert pairs.graphs.tolist() == [[0, 1], [2, 3], [4, 5]] and pairs.kinds == ("basic", "basic", "cfi")
    one = BREC(pair=2, copies=3)
    assert one.pairs(one.load()).graphs.tolist() == [[0, 1]] and one.pairs(one.load()).sizes == {"cfi": 1}
    monkeypatch.setattr(brec, "PAIRS", {"regular": 50, "str": 50, "dr": 20})
    assert BREC().pairs(raw).sizes == {"regular": 100, "dr": 20}


PAIRED = ["protocol=brec", "protocol.copies=6", "protocol.dim=2", "dataset=BREC", "pool=none", "trainer.max_epochs=2",
          "model.hidden=8", "logger=none", "callbacks.progress=none"]  # fmt: skip


def test_one_run_compares_all_pairs_and_its_record_holds(
    cache: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cache)
    assert cli.train(PAIRED) == 0
    said = capsys.readouterr().out
    assert "none-BREC-s0: test pairs 1.0000" in said and "3 pairs, " in said and "ms a pair" in said
    ((_, record),) = iter_records(results)
    assert record.metrics.test == {"pairs": 1, "unreliable": 0, "pairs/basic": 1, "pairs/cfi": 0}
    assert (record.splits.test, record.splits.unused, record.splits.train) == (6, 18, 0)
    assert cli.train(PAIRED) == 0
    assert "is done: none-BREC-s0: test pairs 1.0000" in capsys.readouterr().out
    verdict = rerun(record, {"data": str(cache), "mirror": None})
    assert verdict.lines == ("same: every number has the same bits",)
    found = verify(results, splits=True, paths={"data": str(cache), "mirror": None}, strict=True)
    assert found.errors == []
    capsys.readouterr()
    assert cli.main(["report", str(results)]) == 0
    table = capsys.readouterr().out.partition("### By category")[2].partition("###")[0]
    assert "| dataset | pool | model | pairs | unreliable | basic | cfi | n |" in table
    assert "| BREC | none (control) | hierarchical | 1 | 0 | 1 | 0 | 1 |" in table
    assert "There are: basic 2, cfi 1." in table


def wrongs(record: Any, results: Path, cache: Path) -> str:
    (results / "runs" / record.id / "1" / "record.json").write_bytes(encode(record))
    return "\n".join(verify(results, splits=True, paths={"data": str(cache), "mirror": None}).errors)


def test_a_record_that_says_other_than_its_pairs_is_found(cache: Path, results: Path) -> None:
    put(cache)
    assert cli.train(PAIRED) == 0
    ((_, record),) = iter_records(results)
    answers = unpack(record.outcomes)
    right, t2 = answers.right, answers.predicted
    assert right is not None
    other = pack(answers.graphs, t2, ~right, 24)
    lost = pack(answers.graphs[:2], t2[:2], right[:2], 24)
    moved = pack(answers.graphs + 1, t2, right, 24)
    test = record.metrics.test
    for changes, what in (
        ({"outcomes": None}, "is done, and lacks outcomes: T^2 of each pair"),
        ({"outcomes": other}, "outcomes say of other pairs that they are told apart than their T^2 does"),
        ({"outcomes": lost}, "outcomes are of 2 pairs, and the test split has 6 graphs"),
        ({"outcomes": moved}, "outcomes are not of the pairs of the dataset"),
        ({"outcomes": pack(answers.graphs, t2 + 1, right, 24)}, "outcomes are not the T^2 of its curve"),
        ({"outcomes": pack(answers.graphs, t2[:, 0], right, 24)}, "outcomes are no two numbers a pair"),
        ({"metrics": replace(record.metrics, test={**test, "pairs": 2})}, "test.pairs=2.0, and its outcomes make 1"),
        ({"metrics": replace(record.metrics, test={**test, "unreliable": 1})}, "test.unreliable=1.0, and its outcomes"),
        ({"metrics": replace(record.metrics, test={**test, "pairs/basic": 2})}, "categories of metrics.test make 2"),
        (
            {"metrics": replace(record.metrics, test={**test, "pairs/basic": 0, "pairs/cfi": 1})},
            "metrics.test.pairs/cfi=1.0, and its outcomes make 0",
        ),
        ({"diagnostics": {**record.diagnostics, "pairs": {"threshold": 1.0}}}, "diagnostics.pairs.threshold is 1.0"),
    ):
        assert what in wrongs(replace(record, **changes), results, cache)
    assert wrongs(record, results, cache) == ""


LINES = [
    ("dataset=planted", "protocol=brec compares pairs of graphs, and dataset planted has none; take dataset=BREC"),
    ("evaluate_test=false", "evaluate_test=false: protocol=brec measures on the pairs that it trains on"),
    ("batch_size=7", "batch_size=7: graphs of a pair go together, take an even number"),
    ("trainer.compile=true", "trainer.compile=true: protocol=brec has a model for each pair"),
    ("callbacks.keep_weights=true", "callbacks.keep_weights=true: protocol=brec has a model for each pair, and keeps"),
    ("callbacks.pictures_every=2", "callbacks.pictures_every=2: protocol=brec has a model for each pair, and keeps"),
    ("trainer=ddp", "protocol=brec trains in one process; take trainer.devices=1"),
    ("callbacks.monitor=val/loss callbacks.mode=min", "protocol=brec takes the last epoch of a pair; leave it out"),
    ("model=autoencoder", "protocol=brec compares embeddings of graphs: add model=hierarchical or model=global"),
    ("protocol.copies=2", "brec: copies=2 must be a whole number, 3 or more"),
    ("fold=0", "fold=0: protocol brec has no folds"),
]


@pytest.mark.parametrize(("words", "what"), LINES, ids=[words for words, _ in LINES])
def test_bad_lines(words: str, what: str, cache: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(cache)
    assert cli.train([*PAIRED, *words.split()]) == 2
    said = capsys.readouterr().err
    assert what in said and said.count("\n") == 1 and "Traceback" not in said
    assert not list(iter_records(results))


def test_other_protocols_see_the_same_graphs_as_before(cache: Path, results: Path) -> None:
    put(cache)
    words = ["dataset=BREC", "pool=none", "trainer.max_epochs=1", "model.hidden=8", "logger=none"]
    assert cli.train(words) == 0 and cli.train([*words, "protocol=cv10", "protocol.folds=3", "fold=0"]) == 0
    found = {record.splits.protocol: record for _, record in iter_records(results)}
    assert set(found) == {"ogb", "cv3"}
    assert all("accuracy" in record.metrics.test and "pairs" not in record.metrics.test for record in found.values())
