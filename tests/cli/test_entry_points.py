"""Operators of other packages: `pool._target_=` of a module on the path, and entry points of `poolbench.pools`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from poolbench import cli, plugins
from poolbench.records.version import code_version, imported_modules

QUICK = ["dataset=planted", "dataset.num_graphs=24", "trainer.max_epochs=1", "model.hidden=8", "logger=none",
         "callbacks.progress=none"]  # fmt: skip
POOLS = '''
"""Operators of somebody else."""
from poolbench.pool import SRCPool
from poolbench.pool.base.src import GlobalPool
from foreign_pools.steps import step


class Every(SRCPool):
    """Keeps every `alpha`-th node. And some more."""

    def __init__(self, alpha=2, **keywords):
        super().__init__(**keywords)
        self.alpha = alpha

    def select(self, x, a, i):
        return list(range(0, x.shape[0], step(self.alpha)))


class Mean(GlobalPool):
    """Readout: the mean."""

    def readout(self, x, nodes):
        return nodes.mean(x)
'''
ENTRIES = """
[poolbench.pools]
every = foreign_pools.pools:Every
every-third = foreign_pools.pools:third.yaml
foreign-mean = foreign_pools.pools:Mean
"""


def install(site: Path, entries: str = ENTRIES, name: str = "foreign-pools", version: str = "1.2") -> None:
    """A package as pip would lay it out: modules, a file of settings and the metadata."""
    package = site / "foreign_pools"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "pools.py").write_text(POOLS)
    (package / "steps.py").write_text("def step(alpha):\n    return alpha\n")
    (package / "third.yaml").write_text("# Every third node. Or so.\n_target_: foreign_pools.pools.Every\nalpha: 3\n")
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entries)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty site-packages on the Python path."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "foreign_pools"]:
        del sys.modules[name]


def records(results: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    return {f"{r['config']['names']['pool']} {r['config']['pool'].get('alpha', '')}".strip(): r for r in found}


def test_a_class_of_ones_own_takes_arguments_in_a_sweep(site: Path, results: Path) -> None:
    (site.parent / "alone").mkdir()
    (site.parent / "alone" / "my_every.py").write_text(
        POOLS.replace("from foreign_pools.steps import step", "step = int")
    )
    sys.path.insert(0, str(site.parent / "alone"))
    try:
        assert cli.train(["-m", "pool=none", "pool._target_=my_every.Every", "+pool.alpha=2,3", *QUICK]) == 0
    finally:
        sys.path.remove(str(site.parent / "alone"))
        sys.modules.pop("my_every", None)
    made = records(results)
    assert sorted(made) == ["Every 2", "Every 3"]
    levels = [made[name]["diagnostics"]["nodes_per_level"] for name in sorted(made)]
    assert levels[0][1] / levels[0][0] == pytest.approx(1 / 2, rel=0.1)
    assert levels[1][1] / levels[1][0] == pytest.approx(1 / 3, rel=0.1)


def test_an_installed_operator_is_a_choice_like_any_other(site: Path, results: Path) -> None:
    install(site)
    assert cli.train(["-m", "pool=every,every-third", *QUICK]) == 0
    assert cli.train(["pool=every", "+pool.alpha=4", *QUICK]) == 0
    assert cli.train(["pool=every-third", "pool.alpha=5", *QUICK]) == 0
    made = records(results)
    assert {"every", "every 4", "every-third 3", "every-third 5"} <= set(made)
    assert made["every"]["config"]["pool"] == {"_target_": "foreign_pools.pools.Every"}
    assert made["every"]["provenance"]["packages"]["foreign-pools"] == "1.2"


def test_an_installed_readout(site: Path, results: Path) -> None:
    install(site)
    assert cli.train(["pool=topk", "model.readout=foreign-mean", *QUICK]) == 0
    assert cli.train(["pool=foreign-mean", "model=global", *QUICK]) == 0
    assert {"topk", "foreign-mean"} == set(records(results))


def test_the_list_says_whose_an_operator_is(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site)
    assert cli.main(["list", "pools"]) == 0
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in capsys.readouterr().out.splitlines()}
    assert lines["every"] == "foreign-pools 1.2: Keeps every `alpha`-th node"
    assert lines["every-third"] == "foreign-pools 1.2: Every third node"
    assert lines["mincut"].startswith("MinCutPool")


def test_the_nearest_name_may_be_of_another_package(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site)
    assert cli.train(["pool=every-thrid", *QUICK]) == 2
    assert "did you mean every-third" in capsys.readouterr().err


def test_the_code_of_an_installed_operator_is_part_of_the_identity(site: Path) -> None:
    install(site)
    target = ["foreign_pools.pools.Every"]
    assert {"foreign_pools", "foreign_pools.pools", "foreign_pools.steps", "poolbench.pool.base.src"} <= set(
        imported_modules(target)
    )
    assert not {name for name in imported_modules(target) if name.partition(".")[0] in ("torch", "numpy")}
    before, others = code_version(target), code_version(["poolbench.pool.topk.TopKPool"])
    steps = site / "foreign_pools" / "steps.py"

    def rewritten(text: str) -> str:
        stamp = steps.stat().st_mtime
        steps.write_text(text)
        os.utime(steps, (stamp + 5, stamp + 5))
        return code_version(target)

    assert rewritten("def step(alpha):\n    return alpha  # a comment\n") == before
    assert rewritten("def step(alpha):\n    return alpha + 1\n") != before
    assert code_version(["poolbench.pool.topk.TopKPool"]) == others


BROKEN = {
    "lost-1 = no_such_module.pools:Every": "there is no module no_such_module",
    "lost-2 = foreign_pools.nowhere:Every": "there is no module foreign_pools.nowhere",
    "lost-3 = foreign_pools.pools:gone.yaml": "gone.yaml",
    "lost-4 = foreign_pools.pools:bad.yaml": "bad.yaml",
    "lost-5 = foreign_pools.pools:empty.yaml": "has no _target_",
    "lost-6 = foreign_pools.pools": "neither module:Class nor package:file.yaml",
    "a/b = foreign_pools.pools:Every": "letters, digits",
    "mincut = foreign_pools.pools:Every": "PoolBench has an operator of this name",
    "sagpool = foreign_pools.pools:Every": "PoolBench has an operator of this name",
}


def test_a_broken_entry_point_is_one_line_and_harms_nobody(
    site: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, ENTRIES + "\n".join(BROKEN))
    (site / "foreign_pools" / "bad.yaml").write_text("_target_: [unclosed\n")
    (site / "foreign_pools" / "empty.yaml").write_text("alpha: 3\n")
    assert cli.main(["list", "pools"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "cannot be used" in line]
    assert len(lines) == len(BROKEN)
    for entry, why in BROKEN.items():
        (line,) = (text for text in lines if text.startswith(f"pool={entry.partition(' ')[0]} of foreign-pools 1.2 "))
        assert why in line
    assert cli.train(["-m", "pool=every,mincut", *QUICK]) == 0
    assert records(results)["mincut"]["config"]["pool"]["_target_"] == "poolbench.pool.mincut.MinCutPool"
    capsys.readouterr()
    for line in (text for text in lines if text.startswith("pool=lost")):
        assert cli.train([line.partition(" ")[0], *QUICK]) == 2
        assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("raise RuntimeError('out of order')\n", "RuntimeError: out of order"),
        ("def f(:\n", "SyntaxError"),
        ("Other = 1\n", "has no attribute 'Every'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    module: str, said: str, site: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site)
    (site / "foreign_pools" / "pools.py").write_text(module)
    assert cli.main(["list", "pools"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("every ")]
    assert "foreign-pools 1.2: cannot be imported" in line and said in line
    assert cli.train(["pool=every", *QUICK]) == 2
    error = capsys.readouterr().err
    assert "pool._target_=foreign_pools.pools.Every cannot be imported" in error and said in error
    assert error.count("error: ") == 1 and "Traceback" not in error
    assert cli.train(["pool=topk", *QUICK]) == 0


def test_of_two_packages_with_one_name_the_first_has_it(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site)
    install(site, "[poolbench.pools]\nevery = foreign_pools.pools:third.yaml\n", name="zweite", version="3")
    found = {(p.package, p.name): p for p in plugins.plugins()}
    assert found["foreign-pools 1.2", "every"].problem is None
    assert found["zweite 3", "every"].problem == "foreign-pools 1.2 has an operator of this name"


def test_what_is_no_operator_is_refused(site: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, "[poolbench.pools]\nno-pool = foreign_pools.steps:step\n")
    assert cli.train(["pool=no-pool", *QUICK]) == 2
    assert "is no SRCPool and no GlobalPool" in capsys.readouterr().err
