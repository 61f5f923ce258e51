"""Graphs of one's own: every way of docs/own_data.md as the page has it, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch
from torch_geometric.data import Data

from poolbench import cli
from poolbench.audit.registry import Registry
from poolbench.audit.trust import Refused, Trust
from poolbench.data.raw import RawGraphs
from poolbench.data.sources.own import OwnFiles, OwnGraphs
from poolbench.data.sources.own_graphs import raw_graphs
from poolbench.errors import PoolBenchError
from poolbench.records.version import imported_modules

PAGE = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
QUICK = ["trainer.max_epochs=1", "model.hidden=8", "logger=none", "callbacks.progress=none"]
EDGE = torch.tensor([[0, 1], [1, 0]])


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.M | re.S)


@pytest.fixture
def page(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of the page, in the current folder and the data folder."""
    names = []
    for text in blocks("python"):
        name = re.match(r"# (\w+)\.py\n", text)[1]  # type: ignore[index]
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        names.append(name)
    data = tmp_path / "data"
    tables(data / "own" / "TABLES")
    tu = data / "TUDataset" / "MYTU"
    tu.mkdir(parents=True)
    (tu / "MYTU_A.txt").write_text("".join(f"{k}, {k + 1}\n{k + 1}, {k}\n" for k in range(1, 60, 2)))
    (tu / "MYTU_graph_indicator.txt").write_text("".join(f"{1 + k // 2}\n" for k in range(60)))
    (tu / "MYTU_graph_labels.txt").write_text("".join(f"{k % 2}\n" for k in range(30)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POOLBENCH_DATA", str(data))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in names:
        sys.modules.pop(name, None)


def tables(folder: Path, **changes: Callable[[str], str]) -> Path:
    """The tables of the page in a folder, each changed by what is given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(("graphs", "nodes", "edges"), blocks("csv"), strict=True):
        (folder / f"{name}.csv").write_text(changes.get(name, str)(text), encoding="utf-8")
    return folder


def pair(**changes: Any) -> Data:
    """Two nodes and an edge."""
    return Data(**{"x": torch.ones(2, 3), "edge_index": EDGE, "y": 0, **changes})


def fingerprint(given: Any) -> str:
    return raw_graphs("mine", given).fingerprint()


def of_files(tmp_path: Path, name: str = "mine") -> RawGraphs:
    return OwnFiles(name, data=tmp_path).load()


# -- the page --------


def test_every_way_of_the_page_trains(page: Path, results: Path) -> None:
    (page / "10fold_idx").mkdir()
    for k in range(10):
        (page / "10fold_idx" / f"test_idx-{k + 1}.txt").write_text("".join(f"{k + 10 * j}\n" for j in range(4)))
    for name in ("save", "folds", "text_folds"):
        (text,) = (text for text in blocks("python") if text.startswith(f"# {name}.py"))
        exec(text, {})
    done = []
    for line in "".join(blocks("bash")).splitlines():
        words = shlex.split(line)
        if words[0] == "python":
            assert words[1] == "train.py"
            assert cli.train([*words[2:], *QUICK]) == 0, line
            done.append(words)
        else:
            assert cli.main(words[1:]) == 0, line
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    assert len(records) == len(done) == 8
    assert {r["config"]["dataset"]["name"] for r in records} == {
        "rings",
        "sizes",
        "networks",
        "MYSET",
        "TABLES",
        "MYTU",
    }
    assert all(r["status"] == "done" for r in records)
    prints = {r["config"]["dataset"]["name"]: r["splits"]["dataset"] for r in records}
    assert prints["rings"] == prints["MYSET"] and len(set(prints.values())) == 5
    sizes = {r["config"]["dataset"]["name"]: r["splits"] for r in records}
    assert (sizes["sizes"]["train"], sizes["sizes"]["val"], sizes["sizes"]["test"]) == (24, 8, 8)
    folds = {r["splits"]["protocol"]: r["splits"] for r in records if r["config"]["protocol"].get("folds_file")}
    assert {name: (one["train"], one["val"], one["test"]) for name, one in folds.items()} == {
        "cv5": (24, 8, 8), "cv10": (32, 4, 4)}  # fmt: skip


def test_a_name_that_nobody_knows_is_sent_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train(["dataset=MYSET"]) == 2
    said = capsys.readouterr().err
    assert "dataset=MYSET is unknown" in said and "dataset=own dataset.name=MYSET" in said
    assert "dataset=tu dataset.name=MYSET" in said and said.count("\n") == 1


def test_the_users_code_is_in_the_version_of_a_run(page: Path) -> None:
    assert {"my_split", "my_module", "poolbench.data.sources.own"} <= set(imported_modules(["my_split.MySplit"]))


# -- the content --------


def test_tables_hold_what_they_say(tmp_path: Path) -> None:
    tables(tmp_path / "own" / "mine")
    raw = of_files(tmp_path)
    assert raw.num_nodes.tolist() == [2, 3, 2, 3] and raw.y.tolist() == [0, 1, 0, 1]  # type: ignore[union-attr]
    assert raw.node_labels.flatten().tolist() == [6, 8, 6, 6, 8, 6, 8, 8, 6, 6]  # type: ignore[union-attr]
    assert raw.node_attributes[1].tolist() == [-0.5]  # type: ignore[index]
    assert raw.edge_index.T.tolist() == [[0, 1], [1, 0], [2, 3], [3, 2], [3, 4], [4, 3], [5, 6], [6, 5], [7, 9], [9, 7]]
    assert raw.edge_labels.flatten().tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 1, 1]  # type: ignore[union-attr]
    split = OwnFiles("mine", data=tmp_path).official_split(raw)
    assert split is not None and {part: graphs.tolist() for part, graphs in split.items()} == {
        "train": [0, 1],
        "val": [2],
        "test": [3],
    }
    assert raw.symmetric and raw.provenance["where"] == "own/mine"


def test_tables_of_several_numbers_and_no_edges(tmp_path: Path) -> None:
    """A number that is not known is left empty, and so may lines at the end be."""
    tables(
        tmp_path / "own" / "mine",
        graphs=lambda _: "graph,m,n\na,1,\nb,2,0.5\nc,3,1\nd,4,2\n\n",
        edges=lambda text: text.partition("\n")[0] + "\n",
    )
    raw = of_files(tmp_path)
    assert raw.targets.nan_to_num(-1).tolist() == [[1, -1], [2, 0.5], [3, 1], [4, 2]]  # type: ignore[union-attr]
    assert raw.num_edges == 0 and OwnFiles("mine", data=tmp_path).edge_features(raw) is None


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    reverse = "".join(reversed(blocks("csv")[2].splitlines(keepends=True)[1:]))
    tables(tmp_path / "own" / "mine")
    tables(tmp_path / "own" / "other", edges=lambda text: text.partition("\n")[0] + "\n" + reverse)
    tables(tmp_path / "own" / "third", graphs=lambda text: text.replace("d,1", "d,2"))
    first, other, third = (of_files(tmp_path, name) for name in ("mine", "other", "third"))
    assert first.fingerprint() == other.fingerprint() != third.fingerprint()


def test_networkx_is_the_same_content_as_data() -> None:
    graph = nx.Graph(y=[0.5, 1.5])
    graph.add_node("v", x=[1, 2])
    graph.add_node("u", x=[3, 4])
    graph.add_edge("u", "v", edge_attr=[0.25])
    data = Data(x=torch.tensor([[1, 2], [3, 4]]), edge_index=EDGE, edge_attr=torch.tensor([[0.25], [0.25]]),
                y=torch.tensor([[0.5, 1.5]], dtype=torch.float64))  # fmt: skip
    assert fingerprint([graph]) == fingerprint([data])
    raw = raw_graphs("mine", [graph])
    assert raw.y is None and raw.targets.tolist() == [[0.5, 1.5]]  # type: ignore[union-attr]
    assert raw_graphs("mine", [nx.DiGraph([(0, 1)])]).edge_index.tolist() == [[0], [1]]


def test_edges_are_put_in_order() -> None:
    """No self-loop, and of edges that are there twice the one with the smallest features."""
    index = torch.tensor([[2, 0, 1, 0, 1], [0, 2, 1, 2, 0]])
    edges = torch.tensor([1.0, 3.0, 9.0, 2.0, 4.0])
    lone = Data(num_nodes=1, edge_index=torch.zeros(2, 0, dtype=torch.int64))
    raw = raw_graphs("mine", [lone, Data(num_nodes=3, edge_index=index, edge_attr=edges)])
    assert raw.edge_index.tolist() == [[1, 2, 3], [3, 1, 1]]
    assert raw.edge_attributes.flatten().tolist() == [2.0, 4.0, 1.0]  # type: ignore[union-attr]


def test_other_forms_of_the_same_content() -> None:
    """Sparse x, x without columns, and graphs in a tuple."""
    assert fingerprint([pair(x=torch.eye(2).to_sparse())]) == fingerprint([pair(x=torch.eye(2))])
    assert fingerprint([pair(x=torch.zeros(2, 0))]) == fingerprint([pair(x=None, num_nodes=2)])
    assert fingerprint((pair(), pair())) == fingerprint([pair(), pair()])


def test_what_is_to_be_predicted() -> None:
    class Given(OwnGraphs):
        def graphs(self) -> Any:
            return given

    kinds = []
    for ys in ([3, 7], [0.5, 1.0], [torch.tensor([[1, 2]])] * 2, [None, None]):
        given = [pair(y=y) for y in ys]
        target = Given("mine").target(Given("mine").load())
        kinds.append((target.kind, target.outputs))
    assert kinds == [("classes", 2), ("numbers", 1), ("numbers", 2), ("none", 0)]


# -- what is refused --------

WRONG = {
    "no list": (pair(), "a list of graphs"),
    "none": ([], "a list of graphs, .* got an empty list"),
    "text": (["a"], r"graph 0: a torch_geometric.data.Data or a networkx graph is expected, got str"),
    "a node that there is not": ([pair(), pair(edge_index=EDGE + 1)], "graph 1: edge_index names node 2, .* 0 to 1"),
    "edges of another shape": ([pair(edge_index=EDGE[0])], r"graph 0: edge_index is torch.int64 of shape \[2\]"),
    "no edges": ([pair(edge_index=None)], "graph 0: edge_index is NoneType"),
    "edges as a mask": ([pair(edge_index=EDGE.bool())], "graph 0: edge_index is torch.bool"),
    "an empty y": ([pair(y=torch.zeros(0))], "graph 0: y is empty"),
    "no number of nodes": ([Data(edge_index=EDGE)], "graph 0: .*give x or num_nodes"),
    "no nodes": ([nx.Graph()], "graph 0: it has no nodes"),
    "rows of x": ([pair(num_nodes=3)], "graph 0: x has 2 rows for 3 nodes"),
    "rows of edge_attr": ([pair(edge_attr=torch.ones(1, 1))], "graph 0: edge_attr has 1 rows for 2 edges"),
    "not finite": ([pair(x=torch.full((2, 1), torch.nan))], "graph 0: x has values that are not finite"),
    "other columns": ([pair(), pair(x=torch.ones(2, 4))], "graph 1: it has 4 columns of node attributes, .* 3"),
    "other edge features": ([pair(edge_attr=EDGE), pair()], "graph 1: it has 0 columns of edge labels, .* 2"),
    "y in some": ([pair(), pair(y=None)], "graph 1: it has 0 columns of y"),
    "two kinds of y": ([pair(), pair(y=0.5)], "graph 1: y is a whole number here and not in those before"),
    "y of nodes": ([pair(y=torch.zeros(2, 1))], r"graph 0: y has the shape \[2, 1\]"),
    "y as a word": ([nx.Graph([(0, 1)], y="red")], "graph 0: y is not made of numbers"),
    "a split of two": (([pair()] * 3, {"train": [0], "test": [1, 2]}), "a split is a mapping with train, val and test"),
    "a split with holes": (([pair()] * 3, {"train": [0], "val": [1], "test": [1]}), "each of the graphs 0 to 2 once"),
    "a split of words": (([pair()] * 3, {"train": "a", "val": [1], "test": [2]}), "lists of numbers of graphs"),
    "an empty part": (([pair()] * 2, {"train": [0], "val": [], "test": [1]}), "no graph of its split is in val"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_graphs_are_refused_in_one_line(case: str) -> None:
    given, said = WRONG[case]
    with pytest.raises(PoolBenchError, match=f"^dataset mine: {'.*' if isinstance(given, tuple) else ''}{said}") as got:
        raw_graphs("mine", given)
    assert "\n" not in str(got.value)


def test_x_of_some_nodes_alone_is_refused() -> None:
    graph = nx.path_graph(3)
    graph.nodes[1]["x"] = 1.0
    with pytest.raises(PoolBenchError, match="graph 0: 2 of 3 have no x"):
        raw_graphs("mine", [graph])


TABLE = {
    "no column": ("nodes", ("graph,node", "graph,vertex"), "nodes.csv has no column node"),
    "a column twice": ("nodes", ("atom,charge", "atom,atom"), "nodes.csv has two columns of one name"),
    "too few values": ("nodes", ("a,v,8,-0.5", "a,v,8"), "nodes.csv, line 3: 3 values, and 4 columns"),
    "no number": ("nodes", ("a,v,8,-0.5", "a,v,8,much"), "nodes.csv, line 3: charge='much' is no number"),
    "a graph without y": ("graphs", ("b,1", "b,"), "graphs.csv, line 3: y='' is no number"),
    "a node twice": ("nodes", ("a,v,", "a,u,"), "nodes.csv, line 3: node 'u' is there twice"),
    "a graph twice": ("graphs", ("b,1", "a,1"), "graphs.csv, line 3: graph 'a' is there twice"),
    "an unknown graph": ("edges", ("a,u,v", "e,u,v"), "edges.csv, line 2: graph 'e' is not in graphs.csv"),
    "an unknown node": ("edges", ("a,u,v", "a,u,w"), "edges.csv, line 2: node 'w' is not in nodes.csv .* graph 'a'"),
    "another part": ("graphs", ("c,0,val", "c,0,valid"), "graphs.csv, line 4: split='valid' is none of train"),
}


@pytest.mark.parametrize("case", TABLE)
def test_wrong_tables_are_refused_with_file_and_line(case: str, tmp_path: Path) -> None:
    table, change, said = TABLE[case]
    tables(tmp_path / "own" / "mine", **{table: lambda text: text.replace(*change, 1)})
    with pytest.raises(PoolBenchError, match=said):
        of_files(tmp_path)


def test_files_that_are_missing_or_no_such_files(tmp_path: Path) -> None:
    with pytest.raises(PoolBenchError, match=r"dataset mine is not here: put it into .*mine\.pt"):
        of_files(tmp_path)
    folder = tables(tmp_path / "own" / "mine")
    (folder / "edges.csv").unlink()
    with pytest.raises(PoolBenchError, match=r"edges\.csv is missing"):
        of_files(tmp_path)
    torch.save([pair()], tmp_path / "own" / "mine.pt")
    with pytest.raises(PoolBenchError, match="there are both"):
        of_files(tmp_path)
    torch.save([Path("a")], tmp_path / "own" / "code.pt")
    with pytest.raises(PoolBenchError, match=r"code\.pt is not read .*; save a list of Data"):
        of_files(tmp_path, "code")
    with pytest.raises(PoolBenchError, match=r"dataset\.name='\.\./mine' is no name"):
        OwnFiles("../mine")


def test_an_error_of_the_users_function_is_one_line() -> None:
    class Broken(OwnGraphs):
        def graphs(self) -> Any:
            raise KeyError("a\nb")

    with pytest.raises(PoolBenchError, match=r"dataset mine: its graphs cannot be made \(KeyError: 'a\\nb'\)"):
        Broken("mine").load()


def test_a_record_that_names_a_class_or_a_place_is_not_built_from(page: Path) -> None:
    own = {"_target_": "poolbench.data.sources.own.OwnFiles", "name": "MYSET"}
    Trust(Registry.of()).check({"dataset": own}, runs=False)
    for changes in ({"_target_": "my_module.MyData"}, {"data": "elsewhere"}, {"name": "../../etc"}):
        with pytest.raises(Refused):
            Trust(Registry.of()).check({"dataset": {**own, **changes}}, runs=False)
    assert "my_module" not in sys.modules
    Trust(Registry.of(), ("my_module",)).check({"dataset": {**own, "_target_": "my_module.MyData"}}, runs=False)
