"""`poolbench check`: the contract without a checkout and without pytest; examples keep it, wrong ones do not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from poolbench import cli
from poolbench.contract.checks import checks

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
PAGES = {
    "my_module.MyPool": "docs/new_operator.md",
    "my_clusters.MyClusters": "docs/new_operator.md",
    "my_readout.MyReadout": "docs/new_operator.md",
    "contrast.ContrastPool": "docs/tutorial.md",
    "degreepool.DegreePool": "README.md",
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of one test are none of the next."""
    monkeypatch.chdir(tmp_path)
    for name in [*(target.partition(".")[0] for target in PAGES), "wrong"]:
        monkeypatch.delitem(sys.modules, name, raising=False)


def example(target: str) -> str:
    module = target.partition(".")[0]
    blocks = re.findall(r"```python\n(# \S*?(\w+)\.py\n.*?)```", (ROOT / PAGES[target]).read_text(), flags=re.S)
    (code,) = (text for text, name in blocks if name == module)
    return code


@pytest.mark.parametrize("target", PAGES)
def test_the_examples_of_the_docs_keep_the_contract(target: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / f"{target.partition('.')[0]}.py").write_text(example(target))
    assert cli.main(["check", target]) == 0
    said = capsys.readouterr()
    *lines, last = said.out.splitlines()
    assert said.err == "" and re.fullmatch(r"\w+: \d+ checks, none failed", last)
    assert len(lines) > 25 and all(line.startswith(("ok ", "-  ")) for line in lines)


def test_a_name_is_checked_with_the_arguments_of_its_file(tmp_path: Path, capsys: Capture) -> None:
    assert cli.main(["check", "mean"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("globalavg: ")
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "own" / "pool").mkdir(parents=True)
    (tmp_path / "own" / "pool" / "mine.yaml").write_text("_target_: wrong.Named\nkind: degree\n")
    assert cli.main(["check", "--config-dir", "own", "mine"]) == 0


WRONG = '''
import torch
from poolbench.pool import SRCPool
from poolbench.pool.base.src import GlobalPool
from poolbench.pool.base.selection import SparseSelection
from poolbench.pool.topk import top_k


class First(SRCPool):
    """The nodes that come first."""

    def select(self, x, a, i):
        return top_k(-torch.arange(len(x), dtype=x.dtype), a.sparse().nodes, 0.5)


class Draws(SRCPool):
    """Nodes that are drawn, and nothing says so."""

    def select(self, x, a, i):
        return top_k(torch.rand(len(x)), a.sparse().nodes, 0.5)


class Unsaid(SRCPool):
    """An argument that nothing explains, and a weight that nothing uses."""

    def __init__(self, fraction_kept=0.5, **keywords):
        super().__init__(**keywords)
        self.fraction_kept, self.unused = fraction_kept, torch.nn.Parameter(torch.ones(2))
        self.function = lambda x: x

    def select(self, x, a, i):
        a = a.sparse()
        return top_k(a.degree(), a.nodes, 0.5)


class Mean(GlobalPool):
    """The mean, of graphs without nodes too."""

    def readout(self, x, nodes):
        return nodes.sum(x) / nodes.sizes.unsqueeze(-1)


class Named(SRCPool):
    """kind: a word."""

    def __init__(self, kind, **keywords):
        super().__init__(**keywords)
        self.kind = {"degree": 1}[kind]

    def select(self, x, a, i):
        a = a.sparse()
        return top_k(a.degree(), a.nodes, 0.5)


class Nothing:
    pass
'''
FAULTS = {
    "First": {"permuting the nodes permutes the answer: directed=False"},
    "Draws": {"stochastic is what is declared: assert "},
    "Unsaid": {"docstrings say what the arguments are: no docstring of Unsaid names fraction_kept",
               "every parameter gets a gradient", "a copy does what the module does: how=pickle"},
    "Mean": {"a readout gives zeros for a graph without nodes"},
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_named_with_what_to_do(name: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    assert cli.main(["check", f"wrong.{name}"]) == 2
    said = capsys.readouterr()
    failed = [line for line in said.out.splitlines() if line.startswith("failed  ")]
    for fault in FAULTS[name]:
        (line,) = (line for line in failed if line.startswith(f"failed  {fault}"))
        (check,) = (each for each in checks() if line.startswith(f"failed  {each.name.replace('_', ' ')}: "))
        assert line.endswith(f"; {check.remedy}")
    assert re.fullmatch(rf"error: {name}: {len(failed)} of \d+ checks failed; [^\n]*\n", said.err)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tpk", "check tpk: there is no operator of this name (did you mean topk"),
        ("nomodule.Pool", "pool._target_=nomodule.Pool cannot be imported"),
        ("wrong.Nowhere", "pool._target_=wrong.Nowhere cannot be imported"),
        ("wrong.Nothing", "check wrong.Nothing: it is no SRCPool and no GlobalPool"),
        ("wrong.Named", "check wrong.Named: it cannot be made with kind=5 (KeyError: 5); a file pool/NAME.yaml"),
        ("pyg_topk", "check pyg_topk: it is the code of another library"),
        ("", "check : there is no operator of this name"),
    ],
)
def test_a_target_that_is_none_is_one_line(target: str, said: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    assert cli.main(["check", target]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(f"error: {said}") and printed.err.count("\n") == 1


def test_it_takes_neither_pytest_nor_python_that_leaves_assertions_out(tmp_path: Path) -> None:
    (tmp_path / "my_readout.py").write_text(example("my_readout.MyReadout"))
    code = "import sys; sys.modules['pytest'] = None\nfrom poolbench import cli; sys.exit(cli.main(sys.argv[1:]))"
    for options, expected in (([], 0), (["-O"], 2)):
        line = [sys.executable, *options, "-c", code, "check", "my_readout.MyReadout"]
        ran = subprocess.run(line, capture_output=True, text=True, check=False)
        assert ran.returncode == expected, ran.stdout + ran.stderr
    assert ran.stderr == "error: python -O leaves assertions out, and with them every check: run it without -O\n"


def test_every_check_says_in_one_line_what_to_do() -> None:
    assert len(checks()) > 50 and len({each.name for each in checks()}) == len(checks())
    assert all(each.remedy and "\n" not in each.remedy and each.cases for each in checks())
    assert {each.kind for each in checks()} == {"operator", "pool", "readout"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", "its select returns NoneType, where a Selection (poolbench.pool.base) is expected"),
        ("return 3", "its select returns int, where a Selection (poolbench.pool.base) is expected"),
        ("return x.no_such()", "a call on 4 graphs raises AttributeError: 'Tensor' object has no attribute 'no_such' "
                               "(wrong.py, line 6: return x.no_such())"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_is_said_once(body: str, said: str, tmp_path: Path, capsys: Capture) -> None:
    head = "from poolbench.pool import SRCPool\n\nclass Mine(SRCPool):\n    def select(self, x, a, i):\n        #\n"
    (tmp_path / "wrong.py").write_text(f"{head}        {body}\n")
    assert cli.main(["check", "wrong.Mine"]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1
    assert error == f"error: Mine: {said}; mend that first, the other checks call it too\n"
