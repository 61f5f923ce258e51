"""The examples of docs/new_operator.md and docs/tutorial.md, as they stand on the pages."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch_geometric.data import Data

from configs import QUICK
from poolbench import cli, plugins
from poolbench.linalg import SYMMETRIC

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "new_operator.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
NAMES = ("my_module", "my_clusters", "my_readout")


def blocks(language: str, page: str = PAGE) -> list[str]:
    """The code blocks of a language, their indentation removed."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page, flags=re.M | re.S)
    return [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, text in found]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The blocks that name a file, as files on the Python path."""
    for text in blocks("python"):
        if named := re.match(r"# (\w+)\.py\n", text):
            (tmp_path / f"{named[1]}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield {name: import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def graphs() -> tuple[Tensor, Tensor, Tensor]:
    """x, edge_index and i of two graphs, a star of 5 nodes and a path of 4."""
    pairs = [(0, 1), (0, 2), (0, 3), (0, 4), (5, 6), (6, 7), (7, 8)]
    index = torch.tensor(pairs + [(v, u) for u, v in pairs]).T
    return torch.randn(9, 6, generator=torch.Generator().manual_seed(0)), index, torch.tensor([0] * 5 + [1] * 4)


def test_an_operator_takes_under_twenty_lines() -> None:
    python = blocks("python")
    assert len(python) == len(NAMES) + 1
    for text in python:
        assert len([line for line in text.splitlines() if line.strip()]) < 20


def test_the_example_of_a_call(modules: dict[str, ModuleType]) -> None:
    (text,) = (text for text in blocks("python") if not text.startswith("# my_"))
    assert text.count("assert") == 6
    exec(text, {})


def test_select_alone_makes_an_operator(modules: dict[str, ModuleType], graphs: tuple[Tensor, Tensor, Tensor]) -> None:
    x, index, i = graphs
    pool = modules["my_module"].MyPool(return_selection=True)
    out = pool(x, index, i)
    assert out.s.kept.tolist() == [0, 1, 2, 6, 7]
    assert out.sizes.tolist() == [3, 2] and out.i.tolist() == [0, 0, 0, 1, 1]
    assert torch.equal(out.x, x[out.s.kept])
    assert out.edge_index.tolist() == [[1, 2, 0, 0, 4, 3], [0, 0, 1, 2, 3, 4]]
    a = torch.zeros(9, 9).index_put(tuple(index), torch.ones(14))
    batch = pool(torch.stack([x[:4], x[5:]]), torch.stack([a[:4, :4], a[5:, 5:]]))
    assert batch.x.shape == (2, 2, 6) and torch.equal(batch.x[1], x[6:8])
    with pytest.raises(TypeError, match="return_selection"):
        modules["my_module"].MyPool(return_selecton=True)


def test_the_soft_example_learns(modules: dict[str, ModuleType], graphs: tuple[Tensor, Tensor, Tensor]) -> None:
    x, index, i = graphs
    torch.manual_seed(0)
    pool = modules["my_clusters"].MyClusters(k=3)
    assert pool.connectivity == SYMMETRIC
    first = pool(x, index, i)
    assert first.x.shape == (6, 6) and list(first.losses) == ["balance"]
    optimizer = torch.optim.Adam(pool.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        pool(x, index, i).losses["balance"].backward()
        assert all(p.grad is not None and p.grad.any() for p in pool.parameters())
        optimizer.step()
    last = pool(x, index, i).losses["balance"]
    assert 1 / 3 - 1e-6 < last < first.losses["balance"] and last < 0.34


def test_keywords_are_routed_by_name(modules: dict[str, ModuleType], graphs: tuple[Tensor, Tensor, Tensor]) -> None:
    x, index, i = graphs
    pool = modules["my_clusters"].MyClusters(k=3, return_selection=True)
    crisp = pool(x, index, i, temperature=1e-3).s.dense()
    assert torch.equal(crisp.round(), crisp.round(decimals=3)) and not torch.equal(crisp, pool(x, index, i).s.dense())
    with pytest.raises(TypeError, match="'temperature'"):
        pool(x, index, i, temprature=0.5)


def test_the_readout(modules: dict[str, ModuleType], graphs: tuple[Tensor, Tensor, Tensor]) -> None:
    x, _, i = graphs
    out = modules["my_readout"].MyReadout()(x, i)
    torch.testing.assert_close(out, torch.stack([x[:5].square().mean(0).sqrt(), x[5:].square().mean(0).sqrt()]))


def test_the_commands_train(modules: dict[str, ModuleType], results: Path) -> None:
    commands = [shlex.split(text.replace("\\\n", " ")) for text in blocks("bash")]
    assert len(commands) == 3
    assert commands.pop(1) == ["poolbench", "check", "my_module.MyPool"]  # tests/cli/test_check.py does it
    for command in commands:
        assert command[:2] == ["python", "train.py"]
        assert cli.train([word for word in command[2:] if not word.startswith("dataset=")] + QUICK) == 0
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    assert {r["config"]["pool"]["_target_"] for r in records} == {"my_module.MyPool", "my_clusters.MyClusters"}
    assert all(r["status"] == "done" for r in records)
    assert any("balance_1" in name for r in records for name in r["losses"])


def test_the_configuration_file(modules: dict[str, ModuleType], results: Path, tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    assert set(OmegaConf.create(text)) == {"_target_", "ratio", "k"}
    folder = tmp_path / "own" / "pool"
    folder.mkdir(parents=True)
    text = text.replace("poolbench.pool.myclusters", "my_clusters")
    (folder / "myclusters.yaml").write_text(text, encoding="utf-8")
    assert cli.train(["--config-dir", str(tmp_path / "own"), "pool=myclusters", *QUICK]) == 0
    (record,) = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    assert record["config"]["names"]["pool"] == "myclusters"


def test_the_package_of_ones_own() -> None:
    (text,) = blocks("toml")
    entries = tomllib.loads(text)["project"]["entry-points"][plugins.GROUP]
    assert entries == {
        "myclusters": "my_package.pools:MyClusters",
        "myclusters-small": "my_package.pools:small.yaml",
    }


# -- the tutorial --------


def tutorial_commands() -> list[tuple[dict[str, str], list[str]]]:
    """Each command of the tutorial: the variables in front of it, and its words."""
    found = []
    for line in "".join(blocks("bash", TUTORIAL)).replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        count = next(n for n, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
        found.append((dict(word.split("=", 1) for word in words[:count]), words[count:]))
    return found


def kept_run(results: Path) -> str:
    """The id of the run that kept its weights; ID where there is none yet."""
    return next((path.parts[-3] for path in results.glob("runs/*/*/weights.pt")), "ID")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder `own/` of the tutorial, in the working folder, on the Python path."""
    folder = tmp_path / "own"
    (folder / "pool").mkdir(parents=True)
    (folder / "contrast.py").write_text(blocks("python", TUTORIAL)[0], encoding="utf-8")
    (folder / "pool" / "contrast.yaml").write_text(*blocks("yaml", TUTORIAL), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("contrast", None)


def test_the_tutorials_operator_does_what_the_page_says(own: Path) -> None:
    operator, use, _, _ = blocks("python", TUTORIAL)
    body = operator.partition("def select")[2].splitlines()
    assert operator.startswith("# contrast.py") and len(body) <= 10
    assert use.count("assert") == 2
    exec(use, {})


def test_the_tutorial_ends_with_records_that_verify(
    own: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of the page but the contract's, with little data and two seeds."""
    done = []
    for variables, words in tutorial_commands():
        if "pytest" in words:
            continue
        assert variables == {"PYTHONPATH": "own"}
        if words[:2] == ["python", "train.py"]:
            small = [w.replace("range(10)", "range(2)") for w in words[2:] if not w.startswith("dataset=")]
            assert cli.train([*small, *QUICK]) == 0
        else:
            assert words[0] == "poolbench"
            assert cli.main([word.replace("ID", kept_run(results)) for word in words[1:]]) == 0
        done.append((words, capsys.readouterr().out))
    assert len(done) == 9
    exec(blocks("python", TUTORIAL)[3], shown := {})
    assert list(shown["done"].groupby("names.pool")["test/accuracy"].count()) == [2, 2, 2, 2]
    table = done[5][1]
    assert "contrast: 51 checks, none failed" in done[0][1]
    assert done[3][1] == "answers.csv: 40 answers\n"
    load = blocks("python", TUTORIAL)[2].replace("ID", kept_run(results))
    exec(load, predicted := {"graphs": [Data(x=torch.randn(9, 8), edge_index=torch.tensor([[0, 1], [1, 0]]))] * 3})
    assert predicted["y"].shape == (3, 3)
    assert all(re.search(rf"\b{name}\b.*n = 2", table) for name in ("contrast", "topk", "random-sparse", "none"))
    assert Path("report/index.html").is_file()
    assert "8 records, no errors" in done[-1][1]


@pytest.mark.slow
def test_the_tutorials_operator_keeps_the_contract(own: Path) -> None:
    ((variables, words),) = [(v, w) for v, w in tutorial_commands() if "pytest" in w]
    assert words[:3] == ["python", "-m", "pytest"]
    places = {name: str(own.parent / value) for name, value in variables.items()}
    places["PYTHONPATH"] = os.pathsep.join([places["PYTHONPATH"], str(ROOT / "src")])
    ran = subprocess.run(
        [sys.executable, *words[1:], "-q", "-p", "no:cacheprovider"],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **places}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", ran.stdout)[1]) > 50  # type: ignore[index]
