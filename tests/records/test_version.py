"""The version of the code changes with what can change a result, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolbench.records import changes, version
from poolbench.records.version import code_version, config_targets, imported_modules, installed_code

PACKAGE = {
    "__init__.py": '__version__ = "1"',
    "errors.py": "class PoolBenchError(Exception): ...",
    "linalg/__init__.py": "from poolbench.linalg.products import spmm",
    "linalg/products.py": "def spmm(a, x):\n    return a @ x",
    "pool/__init__.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from poolbench.pool.mincut import MinCutPool\n    from poolbench.pool.topk import TopK\n"
        "def __getattr__(name):\n    return load(name)"
    ),
    "pool/src.py": "import poolbench.linalg\nclass SRCPool: ...",
    "pool/mincut.py": (
        '"""MinCut."""\nfrom .src import SRCPool\nclass MinCutPool(SRCPool):\n    """Doc."""\n    ratio = 0.5  # half\n'
    ),
    "pool/topk.py": "from poolbench.pool.src import SRCPool\nclass TopK(SRCPool): ...",
    "nn/__init__.py": "",
    "nn/flat.py": (
        "class Flat:\n    def build(self):\n        from poolbench.pool import MinCutPool\n        return MinCutPool()"
    ),
    "nn/by_attribute.py": "from poolbench import pool\ndef build():\n    return pool.TopK()",
    "data/__init__.py": "",
    "data/tu.py": "from ..errors import PoolBenchError\nclass TU: ...",
    "learn/__init__.py": "",
    "learn/loggers.py": "import csv",
    "learn/train.py": (
        "from poolbench.learn import loggers\nfrom poolbench.data.tu import TU\nfrom poolbench.jobs import run"
    ),
    "bench/__init__.py": "",
    "bench/run.py": "x = 1",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package with the same floors, put in place of the real one."""
    root = tmp_path / "src" / "poolbench"
    for name, text in PACKAGE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(version, "PACKAGE_ROOT", root)
    return root


TARGET = ["poolbench.pool.mincut.MinCutPool"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def names(*targets: str) -> list[str]:
    return [name.removeprefix("poolbench.") for name in imported_modules(targets)]


def test_imports_are_followed_with_the_packages_around_them(package: Path) -> None:
    assert names(*TARGET) == ["linalg", "linalg.products", "pool", "pool.mincut", "pool.src"]


@pytest.mark.parametrize("target", ["poolbench.pool.MinCutPool", "poolbench.pool.mincut", "poolbench.pool.mincut.f.g"])
def test_targets_may_be_lazy_names_modules_and_members(package: Path, target: str) -> None:
    assert names(target) == names(*TARGET)


def test_lazy_names_are_followed_inside_functions(package: Path) -> None:
    assert "pool.mincut" in names("poolbench.nn.flat.Flat")
    assert "pool.topk" not in names("poolbench.nn.flat.Flat")


def test_lazy_names_are_followed_behind_attributes(package: Path) -> None:
    found = names("poolbench.nn.by_attribute.build")
    assert "pool.topk" in found
    assert "pool.mincut" not in found


def test_only_floors_that_can_change_a_result_count(package: Path) -> None:
    assert names("poolbench.learn.train") == ["data", "data.tu", "learn", "learn.train"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""MinCut."""', '"""MinCut, by its authors."""'),
        ('"""MinCut."""\n', ""),
        ('"""Doc."""', '"""Other."""'),
        ("  # half", "  # one half of the nodes"),
        ("ratio = 0.5", "ratio   =   .5"),
        ("class MinCut", "\n\n\nclass MinCut"),
    ],
)
def test_comments_docstrings_and_formatting_change_nothing(package: Path, old: str, new: str) -> None:
    before = code_version(TARGET)
    edit(package / "pool/mincut.py", old, new)
    assert code_version(TARGET) == before


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("pool/mincut.py", "0.5", "0.25"),
        ("pool/mincut.py", "(SRCPool)", "()"),
        ("pool/src.py", "...", "x = 1"),
        ("pool/__init__.py", "load(name)", "load(name + 's')"),
        ("linalg/products.py", "a @ x", "a * x"),
        ("linalg/products.py", "return", "return None or"),
    ],
)
def test_code_that_runs_changes_it(package: Path, path: str, old: str, new: str) -> None:
    before = code_version(TARGET)
    edit(package / path, old, new)
    assert code_version(TARGET) != before


@pytest.mark.parametrize(
    "path", ["pool/topk.py", "nn/flat.py", "data/tu.py", "errors.py", "__init__.py", "bench/run.py"]
)
def test_code_that_does_not_run_changes_nothing(package: Path, path: str) -> None:
    before = code_version(TARGET)
    (package / path).write_text("completely = 'different'")
    assert code_version(TARGET) == before


def test_a_logger_is_no_part_of_the_result(package: Path) -> None:
    before = code_version(["poolbench.learn.train"])
    (package / "learn/loggers.py").write_text("x = 2")
    assert code_version(["poolbench.learn.train"]) == before


def test_a_new_file_changes_nobody(package: Path) -> None:
    targets = [*TARGET, "poolbench.nn.flat.Flat", "poolbench.learn.train"]
    before = code_version(targets)
    (package / "pool/new.py").write_text("class NewPool: ...")
    (package / "data/new.py").write_text("class NewData: ...")
    assert code_version(targets) == before


def test_order_and_repetition_of_targets_do_not_count(package: Path) -> None:
    a, b = TARGET[0], "poolbench.nn.flat.Flat"
    assert code_version([a, b]) == code_version([b, a, b])


def test_a_file_that_does_not_parse_has_a_version_too(package: Path) -> None:
    (package / "pool/mincut.py").write_text("class MinCutPool(:")
    broken = code_version(TARGET)
    (package / "pool/mincut.py").write_text("class MinCutPool((:")
    assert code_version(TARGET) != broken


def test_code_of_the_users_own_counts_with_what_it_imports(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_pool.py").write_text(
        "import torch\nimport my_helper\nfrom poolbench.pool import TopK\nclass MyPool: ..."
    )
    (tmp_path / "my_helper.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = imported_modules(["my_pool.MyPool"])
    assert {"my_pool", "my_helper", "poolbench.pool.topk"} <= set(found)
    assert not any(name.startswith("torch") for name in found)
    before = code_version(["my_pool.MyPool"])
    (tmp_path / "my_helper.py").write_text("x = 22")
    assert code_version(["my_pool.MyPool"]) != before


@pytest.mark.parametrize("target", ["torch.optim.Adam", "json.JSONDecoder", "no.such.thing", "", "poolbench"])
def test_libraries_and_unknown_names_add_nothing(target: str) -> None:
    assert imported_modules([target]) == {}


def test_the_real_package_is_read_in_no_time_and_imports_nothing() -> None:
    code = (
        "import sys, time; from poolbench.records.version import code_version\n"
        "start = time.process_time(); version = code_version(['poolbench.learn.train', 'poolbench.pool.MinCutPool'])\n"
        "heavy = [m for m in ('torch', 'poolbench.pool', 'poolbench.learn') if m in sys.modules]\n"
        "print(version, time.process_time() - start, heavy)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(out[0]) == 16
    assert float(out[1]) < 4.0, "seconds of the processor: a quarter of one, where nothing else runs"
    assert out[2] == "[]"


def test_unchanged_files_are_not_parsed_again(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = code_version(TARGET)
    monkeypatch.setattr(version, "_parse", lambda code: pytest.fail("parsed again"))
    assert code_version(TARGET) == first


def forget() -> None:
    """Let what is in the table and in the files be looked at anew."""
    changes.today.cache_clear()
    changes.first.cache_clear()
    version._code.cache_clear()
    version._READ.clear()


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The table of what moved, empty."""
    table: dict[str, str] = {}
    monkeypatch.setattr(changes, "MOVED", table)
    forget()
    yield table
    forget()


def test_a_module_that_moves_keeps_its_version(package: Path, moved: dict[str, str]) -> None:
    """Its own, and that of what imports it, by its absolute or a relative name."""
    targets = ["poolbench.pool.mincut.MinCutPool", "poolbench.pool.topk.TopK"]
    before = [code_version([target]) for target in targets]
    (package / "pool/base").mkdir()
    (package / "pool/base/__init__.py").write_text('"""What operators stand on."""')
    (package / "pool/src.py").rename(package / "pool/base/src.py")
    edit(package / "pool/topk.py", "poolbench.pool.src", "poolbench.pool.base.src")
    edit(package / "pool/mincut.py", ".src", "poolbench.pool.base.src")
    assert [code_version([target]) for target in targets] != before
    moved["poolbench.pool.src"] = "poolbench.pool.base.src"
    forget()
    assert [code_version([target]) for target in targets] == before
    edit(package / "pool/base/src.py", "...", "x = 1")
    assert [code_version([target]) for target in targets] != before


def test_an_operator_that_moves_keeps_its_version(package: Path, moved: dict[str, str]) -> None:
    config = {"pool": {"_target_": "poolbench.pool.topk.TopK"}}
    before = installed_code(config)
    (package / "pool/topk.py").rename(package / "pool/best.py")
    moved["poolbench.pool.topk"] = "poolbench.pool.best"
    forget()
    assert installed_code(config) == before
    assert installed_code({"pool": {"_target_": "poolbench.pool.best.TopK"}}) == before


def test_what_a_name_stands_for_counts(package: Path) -> None:
    before = code_version(TARGET)
    edit(package / "pool/mincut.py", "from .src import SRCPool", "from poolbench.pool.src import SRCPool")
    assert code_version(TARGET) == before, "the same class by another path"
    (package / "pool/other.py").write_text("class SRCPool: ...")
    edit(package / "pool/mincut.py", "poolbench.pool.src", "poolbench.pool.other")
    assert code_version(TARGET) != before


def test_targets_are_found_anywhere() -> None:
    config = {
        "pool": {"_target_": "poolbench.pool.mincut.MinCutPool", "ratio": 0.5},
        "model": {"_target_": "poolbench.nn.flat.Flat", "layers": [{"_target_": "torch.nn.ReLU"}]},
    }
    assert config_targets(config) == ["poolbench.nn.flat.Flat", "poolbench.pool.mincut.MinCutPool", "torch.nn.ReLU"]
