"""Graphs of one's own: every way of docs/own_data.md as the page has it, and what is refused."""

from __future__ import annotations

import gzip
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
from poolbench.cli.door import composed, resolve
from poolbench.cli.own import FUNCTION, with_function
from poolbench.config import plain
from poolbench.data.prepare import prepare
from poolbench.data.raw import RawGraphs
from poolbench.data.sources.own import FromFunction, OwnFiles, OwnGraphs
from poolbench.data.sources.own_graphs import raw_graphs
from poolbench.errors import PoolBenchError
from poolbench.records.version import config_targets, imported_modules

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


def dataset(*words: str) -> Any:
    """The dataset that words compose to, as a record holds it."""
    return plain(resolve(composed(words)))["dataset"]


def of_files(tmp_path: Path, name: str = "mine") -> RawGraphs:
    return OwnFiles(name, data=tmp_path).load()


# -- the page --------


def test_every_way_of_the_page_trains(page: Path, results: Path) -> None:
    (page / "10fold_idx").mkdir()
    for k in range(10):
        (page / "10fold_idx" / f"test_idx-{k + 1}.txt").write_text("".join(f"{k + 10 * j}\n" for j in range(4)))
    for name in ("save", "parquet", "ogb_folder", "folds", "text_folds"):
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
    assert len(records) == len(done) == 11
    assert all(r["status"] == "done" for r in records)
    prints = {r["config"]["dataset"]["name"]: r["splits"]["dataset"] for r in records}
    assert set(prints) == {"my_module.load", "rings", "my_split.sizes", "my_networkx.networks", "MYSET", "TABLES",
                           "COLUMNS", "MYOGB", "MYTU"}  # fmt: skip
    assert prints["my_module.load"] == prints["MYSET"] != prints["rings"]
    assert prints["TABLES"] == prints["COLUMNS"] and prints["MYOGB"] not in (prints["MYSET"], prints["TABLES"])
    sizes = {r["config"]["dataset"]["name"]: r["splits"] for r in records}
    assert tuple(sizes["my_split.sizes"][part] for part in ("train", "val", "test")) == (24, 8, 8)
    assert tuple(sizes["MYOGB"][part] for part in ("train", "val", "test")) == (24, 8, 8)
    folds = {r["splits"]["protocol"]: r["splits"] for r in records if r["config"]["protocol"].get("folds_file")}
    assert {name: (one["train"], one["val"], one["test"]) for name, one in folds.items()} == {
        "cv5": (24, 8, 8), "cv10": (32, 4, 4)}  # fmt: skip


def test_a_name_that_nobody_knows_is_sent_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train(["dataset=MYSET"]) == 2
    said = capsys.readouterr().err
    assert "dataset=MYSET is unknown" in said and "own/MYSET.pt" in said
    assert "TUDataset/MYSET/" in said and said.count("\n") == 1


def test_the_users_code_is_in_the_version_of_a_run(page: Path) -> None:
    assert {"my_split", "my_module", "poolbench.data.sources.own"} <= set(
        imported_modules(["my_split.sizes", FUNCTION])
    )
    part = with_function({"_target_": "my_split.sizes", "name": "sizes"})
    assert {"my_split.sizes", FUNCTION} == set(config_targets({"dataset": part}))


# -- the names --------


def test_the_short_name_is_the_long_one(page: Path) -> None:
    (page / "data" / "own" / "MUTAG.pt").write_bytes(b"never read: a known name wins")
    torch.save([pair()], page / "data" / "own" / "MYSET.pt")
    assert dataset("dataset=MYSET") == dataset("dataset=own", "dataset.name=MYSET")
    assert dataset("dataset=MYTU") == dataset("dataset=tu", "dataset.name=MYTU")
    assert dataset("dataset=MUTAG")["_target_"].endswith("TUDataset")
    long = ("dataset=own", "dataset._target_=my_module.load", "dataset.name=my_module.load", "+dataset.graphs=8")
    assert dataset("dataset=my_module.load", "+dataset.graphs=8") == dataset(*long)
    assert "my_module" not in sys.modules  # to compose runs nobody's code


def test_the_data_folder_of_the_line_has_names_too(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLBENCH_DATA", str(page / "elsewhere"))
    assert dataset("dataset=TABLES", f"paths.data={page / 'data'}")["name"] == "TABLES"


def test_a_name_in_two_places_is_said(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save([pair()], page / "data" / "own" / "MYTU.pt")
    assert cli.train(["dataset=MYTU"]) == 2
    said = capsys.readouterr().err
    assert "lies in two places" in said and "dataset=tu dataset.name=MYTU" in said and said.count("\n") == 1


def test_own_names_go_through_a_sweep(page: Path, results: Path) -> None:
    torch.save([pair(y=k % 2) for k in range(40)], page / "data" / "own" / "MYSET.pt")
    assert cli.train(["-m", "dataset=MYSET,my_module.load,MYTU", "pool=none", *QUICK]) == 0
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    assert {r["config"]["dataset"]["name"] for r in records} == {"MYSET", "my_module.load", "MYTU"}


def test_an_experiment_may_name_a_function(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (page / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /dataset: my_module.load\n  - _self_\n"
    (page / "conf" / "experiment" / "mine.yaml").write_text(text)
    monkeypatch.setenv("POOLBENCH_CONFIG", str(page / "conf"))
    assert dataset("experiment=mine")["function"] == {"_target_": "my_module.load"}


HOSTILE = ("../x", "own/../x", "~x", "/etc/passwd", "a b", "os.system.x", "nobody_has.load")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_one_line(name: str, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([f"dataset='{name}'"], ["dataset=own", f"dataset.name='{name}'"]):
        assert cli.train([*words, *QUICK]) == 2
        assert capsys.readouterr().err.count("\n") == 1


# -- what prepare says --------


def test_prepare_says_what_can_come_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    labels = torch.tensor([[1], [1]])
    torch.save([pair(x=labels, y=k % 4 == 0) for k in range(40)], tmp_path / "own" / "classes.pt")
    ys = [torch.tensor([[1.0 + 2 * (k % 2), torch.nan if k == 3 else 0.0]]) for k in range(40)]
    torch.save([pair(x=labels, y=y) for y in ys], tmp_path / "own" / "numbers.pt")
    torch.save([pair(x=labels, y=None) for _ in range(40)], tmp_path / "own" / "none.pt")
    classes, numbers, none = (prepare(OwnFiles(name, data=tmp_path)) for name in ("classes", "numbers", "none"))
    assert classes["to_predict"] == "2 classes, of 10 to 30 graphs" and classes["ceiling"] == "accuracy 0.7500"
    assert classes["twins"] == "39" and classes["features"] == "1 of nodes"
    assert classes["detectable"].startswith("22.9 points of accuracy in 10 folds")
    assert numbers["to_predict"] == "2 numbers a graph, 1 of 80 not known"
    # of 79 known numbers the 40 of the first column lie 1 from their mean, and the others on it
    assert numbers["ceiling"] == f"rmse at least {(40 / 79) ** 0.5:.4g}"
    assert "standard deviations" in numbers["detectable"]
    assert "ceiling" not in none and none["to_predict"].startswith("nothing")


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
    "y in some": ([pair(), pair(y=None)], "graph 1: it has no y, those before it have"),
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


FUNCTIONS = {
    "returns nothing": ("def load():\n    pass", "a list of graphs, or .* got NoneType"),
    "is a generator": ("def load():\n    yield 1", "a list of graphs, or .* got generator"),
    "mixes things": ("def load():\n    return [nx.path_graph(3), 'b']", "graph 1: .* got str"),
    "raises": ("def load():\n    raise KeyError('a')", r"its graphs cannot be made \(KeyError: 'a'\)"),
    "ends the process": ("def load():\n    raise SystemExit(3)", r"its graphs cannot be made \(SystemExit: 3\)"),
    "is not there": ("def other():\n    pass", "wrong_module.load cannot be imported"),
    "is in a broken module": ("def load(:", "wrong_module.load cannot be imported .SyntaxError"),
    "needs arguments": ("def load(n, m=1):\n    pass", r"wrong_module.load needs n: add \+dataset.n=VALUE"),
    "is no function": ("load = [1]", "wrong_module.load is no function but list"),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_wrong_functions_are_one_line(case: str, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, said = FUNCTIONS[case]
    (page / "wrong_module.py").write_text(f"import networkx as nx\n\n\n{text}\n")
    try:
        assert cli.train(["dataset=wrong_module.load", *QUICK]) == 2
    finally:
        sys.modules.pop("wrong_module", None)
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("\n") == 1 and not list(page.rglob("record.json"))


def test_an_argument_that_the_function_has_not_is_named(page: Path) -> None:
    with pytest.raises(PoolBenchError, match=r"dataset\.graph is no argument of .*my_module\.load .*mean graphs"):
        FromFunction({"_target_": "my_module.load", "graph": 3}, "rings")


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


def parquet(folder: Path, **changes: Any) -> Path:
    """The tables of the page as Parquet, with columns that are changed in all that have them."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    tables(folder)
    for name in ("graphs", "nodes", "edges"):
        table = pd.read_csv(folder / f"{name}.csv")
        for column, value in changes.items():
            if column in table:
                table[column] = value
        table.to_parquet(folder / f"{name}.parquet", index=False)
        (folder / f"{name}.csv").unlink()
    return folder


def test_parquet_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = parquet(tmp_path / "own" / "mine")
    whole = (folder / "nodes.parquet").read_bytes()
    (folder / "nodes.parquet").write_bytes(whole[:-20])
    with pytest.raises(PoolBenchError, match=r"nodes\.parquet cannot be read .* write it anew"):
        of_files(tmp_path)
    (folder / "nodes.parquet").unlink()
    with pytest.raises(PoolBenchError, match=r"nodes\.parquet is missing; nodes\.parquet, edges\.parquet"):
        of_files(tmp_path)
    (folder / "nodes.csv").write_text("graph,node\n")
    with pytest.raises(PoolBenchError, match="give all tables as CSV, or all as Parquet"):
        of_files(tmp_path)
    (folder / "nodes.csv").unlink()
    (folder / "nodes.parquet").write_bytes(whole)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(PoolBenchError, match="pip install pyarrow"):
        of_files(tmp_path)


def test_columns_of_parquet(tmp_path: Path) -> None:
    parquet(tmp_path / "own" / "mine", atom=True, y=1.0)
    raw = of_files(tmp_path)
    assert raw.y is None and raw.targets is not None and raw.node_labels.unique().tolist() == [1]  # type: ignore[union-attr]
    parquet(tmp_path / "own" / "other", charge=b"a")
    with pytest.raises(PoolBenchError, match=r"nodes\.parquet: the column charge holds binary"):
        of_files(tmp_path, "other")
    parquet(tmp_path / "own" / "third", target="z")
    with pytest.raises(PoolBenchError, match=r"edges\.parquet, row 1: node 'z' is not in nodes\.parquet"):
        of_files(tmp_path, "third")


OGB = {
    "raw/num-node-list": "2\n3\n2\n",
    "raw/num-edge-list": "1\n2\n1\n",
    "raw/edge": "0,1\n0,1\n1,2\n0,1\n",
    "raw/node-feat": "6,0.5\n8,1.5\n6,0.5\n6,0.5\n8,0.5\n6,0.5\n6,0.5\n",
    "raw/edge-feat": "1\n1\n2\n3\n",
    "raw/graph-label": "0\n1\n0\n",
    "split/a/train": "0\n",
    "split/a/valid": "2\n",
    "split/a/test": "1\n",
}


def ogb(folder: Path, **changes: str | None) -> Path:
    """A folder as OGB has them, with texts that are changed, by the last part of their names."""
    for name, text in OGB.items():
        new = changes.get(name.rpartition("/")[2].replace("-", "_"), text)
        if new is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(new.encode()))
    return folder


def test_an_ogb_folder_holds_what_it_says(tmp_path: Path) -> None:
    ogb(tmp_path / "own" / "mine")
    raw = of_files(tmp_path)
    assert raw.edge_index.T.tolist() == [[0, 1], [1, 0], [2, 3], [3, 2], [3, 4], [4, 3], [5, 6], [6, 5]]
    assert raw.edge_labels.flatten().tolist() == [1, 1, 1, 1, 2, 2, 3, 3]  # type: ignore[union-attr]
    assert raw.node_labels.flatten().tolist() == [6, 8, 6, 6, 8, 6, 6]  # type: ignore[union-attr]
    assert raw.node_attributes.flatten().tolist()[:2] == [0.5, 1.5]  # type: ignore[union-attr]
    assert raw.y.tolist() == [0, 1, 0] and raw.val.tolist() == [2] and raw.symmetric  # type: ignore[union-attr]
    ogb(tmp_path / "own" / "bare", node_feat=None, edge_feat=None, graph_label="0.5,\n1,2\n,3\n")
    bare = of_files(tmp_path, "bare")
    assert bare.node_labels is None and bare.targets.nan_to_num(-1).tolist() == [[0.5, -1], [1, 2], [-1, 3]]  # type: ignore[union-attr]


OGB_WRONG = {
    "fewer edges": ({"edge": "0,1\n0,1\n1,2\n"}, r"edge\.csv\.gz has 3 lines, and raw/num-edge-list says 4"),
    "fewer nodes": ({"node_feat": "6,0.5\n"}, r"node-feat\.csv\.gz has 1 lines, and raw/num-node-list says 7"),
    "fewer labels": ({"graph_label": "0\n"}, r"graph-label\.csv\.gz has 1 lines, and raw/num-node-list says 3"),
    "other numbers of graphs": ({"num_edge_list": "4\n"}, r"num-edge-list\.csv\.gz has 1 lines, .* has 3"),
    "a negative count": ({"num_node_list": "2\n-3\n2\n"}, "holds -3, which is no number of nodes"),
    "a node that there is not": ({"edge": "0,1\n0,9\n1,2\n0,1\n"}, "graph 1: edge_index names node 9"),
    "three ends": ({"edge": "0,1,2\n" * 4}, "has not 2 whole numbers a line"),
    "words": ({"node_feat": "a,b\n" * 7}, "holds something that is no number, in column 1"),
    "no edges": ({"edge": None}, r"edge\.csv\.gz is missing"),
    "a part that is missing": ({"valid": None}, r"valid\.csv\.gz is missing"),
    "a graph in two parts": ({"test": "0\n"}, "must name each of the graphs 0 to 2 once"),
}


@pytest.mark.parametrize("case", OGB_WRONG)
def test_a_wrong_ogb_folder_is_refused(case: str, tmp_path: Path) -> None:
    changes, said = OGB_WRONG[case]
    ogb(tmp_path / "own" / "mine", **changes)
    with pytest.raises(PoolBenchError, match=said) as got:
        of_files(tmp_path)
    assert "\n" not in str(got.value)


def test_an_ogb_folder_that_is_cut_or_two_things(tmp_path: Path) -> None:
    folder = ogb(tmp_path / "own" / "mine")
    (folder / "split" / "b").mkdir()
    with pytest.raises(PoolBenchError, match="holds the splits a, b: leave the one that counts"):
        of_files(tmp_path)
    tables(folder)
    with pytest.raises(PoolBenchError, match="holds both tables and the folder raw"):
        of_files(tmp_path)
    cut = ogb(tmp_path / "own" / "cut") / "raw" / "edge.csv.gz"
    cut.write_bytes(cut.read_bytes()[:-6])
    with pytest.raises(PoolBenchError, match=r"edge\.csv\.gz cannot be read"):
        of_files(tmp_path, "cut")


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
    (page / "my_class.py").write_text(
        "from poolbench.data.sources.own import OwnGraphs\nfrom os.path import join\n\n\nclass MyData(OwnGraphs):\n"
        "    pass\n"
    )
    function = {**own, "_target_": FUNCTION, "function": {"_target_": "my_module.load", "graphs": 8}}
    changes: dict[str, Any]
    for changes in ({"_target_": "my_class.MyData"}, {"data": "elsewhere"}, {"name": "../../etc"}, function):
        with pytest.raises(Refused):
            Trust(Registry.of()).check({"dataset": {**own, **changes}}, runs=False)
    assert "my_class" not in sys.modules and "my_module" not in sys.modules
    trusting = Trust(Registry.of(), ("my_class", "my_module"))
    trusting.check({"dataset": {**own, "_target_": "my_class.MyData"}}, runs=False)
    trusting.check({"dataset": function}, runs=False)
    load = {"_target_": "my_module.load"}
    elsewhere = [{"_target_": name} for name in ("my_class.join", "my_class.MyData", "os.system")]
    for inner in (*elsewhere, {**load, "path": "x"}, {**load, "graphs": {"a": 1}}):
        with pytest.raises(Refused):
            trusting.check({"dataset": {**function, "function": inner}}, runs=False)
    sys.modules.pop("my_class", None)
