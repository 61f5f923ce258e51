"""`poolbench predict`: tables of what a trained model says, for every form that graphs come in."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from configs import QUICK
from poolbench import cli
from poolbench.records.attempts import iter_records
from poolbench.records.record import Record

Capture = pytest.CaptureFixture[str]


def ring(n: int, y: object = None) -> Data:
    one = torch.arange(n)
    other = (one + 1) % n
    index = torch.stack([torch.cat([one, other]), torch.cat([other, one])])
    return Data(x=torch.arange(n)[:, None] % 3, edge_index=index, y=y)


@pytest.fixture
def record(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Record:
    """A run on rings whose nodes are of the categories 0, 1 and 2, which lie in the data folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cache" / "own"
    folder.mkdir(parents=True)
    torch.save([ring(6 + k // 2, k % 2) for k in range(30)], folder / "RINGS.pt")
    words = [*QUICK[2:], "pool=topk", "dataset=own", "dataset.name=RINGS", "callbacks.keep_weights=true"]
    assert cli.train(words) == 0
    capsys.readouterr()
    ((_, made),) = iter_records(results)
    return made


def table(capsys: Capture) -> list[dict[str, str]]:
    said = capsys.readouterr()
    assert said.err == ""
    return list(csv.DictReader(io.StringIO(said.out)))


def test_the_graphs_of_the_run_with_their_parts(record: Record, results: Path, capsys: Capture) -> None:
    """By id, by folder, by file; the test accuracy is the record's."""
    run = results / "runs" / record.id
    tables = []
    for place in (record.id, run, run / "1", run / "1" / "record.json"):
        assert cli.main(["predict", str(place)]) == 0
        tables.append(table(capsys))
    rows = tables[0]
    assert tables == [rows] * 4 and list(rows[0]) == ["graph", "part", "y", "predicted", "p0", "p1"]
    assert [row["graph"] for row in rows] == [str(k) for k in range(30)]
    assert [row["y"] for row in rows] == [str(k % 2) for k in range(30)]
    for name, metrics in record.metrics.parts().items():
        chosen = [row for row in rows if row["part"] == name]
        assert sum(row["y"] == row["predicted"] for row in chosen) / len(chosen) == metrics["accuracy"]


def test_every_form_of_graphs_is_taken(record: Record, tmp_path: Path, capsys: Capture) -> None:
    torch.save([ring(6), ring(7)], tmp_path / "new.pt")
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "graphs.csv").write_text("graph\na\nb\n")
    sizes = (("a", 6), ("b", 7))
    (tables / "nodes.csv").write_text(
        "graph,node,x\n" + "".join(f"{g},{v},{v % 3}\n" for g, n in sizes for v in range(n))
    )
    edges = [(g, u, v) for g, n in sizes for u in range(n) for v in ((u + 1) % n, (u - 1) % n)]
    (tables / "edges.csv").write_text("graph,source,target\n" + "".join(f"{g},{u},{v}\n" for g, u, v in edges))
    tu = tmp_path / "tu"
    tu.mkdir()
    start = {"a": 1, "b": 7}
    (tu / "SET_A.txt").write_text("".join(f"{start[g] + u}, {start[g] + v}\n" for g, u, v in edges))
    (tu / "SET_graph_indicator.txt").write_text("1\n" * 6 + "2\n" * 7)
    (tu / "SET_graph_labels.txt").write_text("0\n1\n")
    (tu / "SET_node_labels.txt").write_text("".join(f"{v % 3}\n" for _, n in sizes for v in range(n)))
    found = []
    for data in ("new.pt", "tables", str(tu)):
        assert cli.main(["predict", record.id, data]) == 0
        found.append(table(capsys))
    assert found == [found[0]] * 3 and list(found[0][0]) == ["graph", "predicted", "p0", "p1"] and len(found[0]) == 2
    for words in (["RINGS"], ["dataset=own", "dataset.name=RINGS"]):
        assert cli.main(["predict", record.id, *words]) == 0
        assert len(table(capsys)) == 30
    assert cli.main(["predict", record.id, "new.pt", "--out", "answers/new.csv"]) == 0
    assert capsys.readouterr().out == "answers/new.csv: 2 answers\n"
    assert list(csv.DictReader(io.StringIO(Path("answers/new.csv").read_text()))) == found[0]


def test_several_numbers_a_graph(results: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "cache" / "own"
    folder.mkdir(parents=True)
    nan = float("nan")
    torch.save([ring(6 + k, [k / 10, nan if k % 2 else 0.5]) for k in range(30)], folder / "SIZES.pt")
    words = [*QUICK[2:], "pool=topk", "dataset=own", "dataset.name=SIZES", "callbacks.keep_weights=true"]
    assert cli.train(words) == 0
    capsys.readouterr()
    ((path, _),) = iter_records(results)
    assert cli.main(["predict", str(path)]) == 0
    rows = table(capsys)
    assert list(rows[0]) == ["graph", "part", "y0", "y1", "predicted0", "predicted1"]
    assert rows[3]["y0"] == "0.300000012" and [row["y1"] for row in rows[:4]] == ["0.5", "", "0.5", ""]
    assert torch.tensor(float(rows[0]["predicted0"])).isfinite()


BAD = {
    "nosuch": "holds no run nosuch",
    "{id} nosuch.pt": "there is no file or folder nosuch.pt",
    "{id} nosuch/folder": "there is no file or folder nosuch/folder",
    "{id} empty": "empty holds neither nodes.csv",
    "{id} words.txt": "words.txt: a .pt file of a list of Data is expected",
    "{id} words.pt": "words.pt is not read",
    "{id} other.pt": "other: x: there is label0=5 here, and was in no graph that the run was trained with",
    "{id} values.pt": "values: x: the run was trained with label0, and these graphs have attribute0",
    "{id} RNGS": "dataset=RNGS is unknown",
    "{id} dataset=own pool=topk": "pool=topk: a file, a folder, the name of a dataset or dataset=... is expected",
}


@pytest.fixture
def files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("words.txt", "words.pt"):
        (tmp_path / name).write_text("no graphs")
    other, values = ring(6), ring(6)
    other.x, values.x = other.x + 5, values.x.float()
    torch.save([other], tmp_path / "other.pt")
    torch.save([values], tmp_path / "values.pt")


def test_what_is_wrong_is_one_line_and_nothing_is_written(
    record: Record, files: None, tmp_path: Path, capsys: Capture
) -> None:
    for words, said in BAD.items():
        assert cli.main(["predict", *words.format(id=record.id).split(), "--out", "out.csv"]) == 2, words
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1 and said in printed.err, printed.err
    assert not (tmp_path / "out.csv").exists()
    assert cli.main(["predict", record.id, "--out", "empty"]) == 1
    assert "cannot write empty" in capsys.readouterr().err


def test_another_version_of_the_code_is_a_note(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("poolbench.audit.trained.installed_code", lambda config: "0123456789abcdef")
    assert cli.main(["predict", record.id]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"note: run {record.id} was done by version ") and said.err.count("\n") == 1
    assert said.out.startswith("graph,part,y,predicted")
