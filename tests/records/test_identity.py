"""A run's identity changes with what can change its result, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from poolbench.records import identity
from poolbench.records.identity import (
    EXECUTION_KEYS,
    canonical_json,
    code_version,
    config_targets,
    imported_modules,
    run_identity,
    without,
)

# -------------------------------------------------------------------------------------------- the version of the code

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
    "pool/topk.py": "from poolbench.pool.base.src import SRCPool\nclass TopK(SRCPool): ...",
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
    monkeypatch.setattr(identity, "PACKAGE_ROOT", root)
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
        "import sys, time; from poolbench.records.identity import code_version\n"
        "start = time.perf_counter(); version = code_version(['poolbench.learn.train', 'poolbench.pool.MinCutPool'])\n"
        "heavy = [m for m in ('torch', 'poolbench.pool', 'poolbench.learn') if m in sys.modules]\n"
        "print(version, time.perf_counter() - start, heavy)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(out[0]) == 16
    assert float(out[1]) < 1.0
    assert out[2] == "[]"


def test_unchanged_files_are_not_parsed_again(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = code_version(TARGET)
    monkeypatch.setattr(identity, "_parse", lambda code: pytest.fail("parsed again"))
    start = time.perf_counter()
    assert code_version(TARGET) == first
    assert time.perf_counter() - start < 0.1


# ------------------------------------------------------------------------------------------------- the run's identity

CONFIG: dict[str, Any] = {
    "pool": {"_target_": "poolbench.pool.mincut.MinCutPool", "ratio": 0.5},
    "model": {"_target_": "poolbench.nn.flat.Flat", "layers": [{"_target_": "torch.nn.ReLU"}]},
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "devices": 1},
    "callbacks": {"patience": 5, "progress": "rich"},
    "paths": {"results": "results"},
    "logger": {"project": "p"},
    "seed": 0,
}
FACTS: dict[str, Any] = dict(
    dataset_fingerprint="d",
    split_hash="s",
    code="c",
    precision="32-true",
    processes=1,
    threads=1,
    evaluate_test=True,
)


def id_of(config: dict[str, Any] | None = None, **facts: Any) -> str:
    return run_identity(CONFIG if config is None else config, **{**FACTS, **facts})[0]


def changed(dotted: str, value: Any) -> dict[str, Any]:
    *path, last = dotted.split(".")
    out = {k: dict(v) if isinstance(v, dict) else v for k, v in CONFIG.items()}
    at = out
    for part in path:
        at = at.setdefault(part, {})
    at[last] = value
    return out


@pytest.mark.parametrize("key", EXECUTION_KEYS)
def test_where_and_how_a_run_is_executed_does_not_count(key: str) -> None:
    assert id_of(changed(key, "something else")) == id_of()


@pytest.mark.parametrize("key", ["pool.ratio", "seed", "trainer.max_epochs", "callbacks.patience", "new"])
def test_what_can_change_the_result_counts(key: str) -> None:
    assert id_of(changed(key, 77)) != id_of()


@pytest.mark.parametrize(("fact", "value"), [(k, 9 if isinstance(v, int) else "x") for k, v in FACTS.items()])
def test_facts_beside_the_configuration_count(fact: str, value: Any) -> None:
    assert id_of(**{fact: value}) != id_of()


def test_order_of_keys_does_not_count() -> None:
    assert id_of(dict(reversed(CONFIG.items()))) == id_of()


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (0.0, -0.0), (0.5, float(".5")), (1e-3, 0.001), (1e22, 10.0**22), ((1, 2), [1, 2]), (100, 1e2)],
)
def test_one_number_has_one_text(one: Any, other: Any) -> None:
    assert canonical_json(one) == canonical_json(other)


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (1, "1"), (0.1, 0.10000000000000002), (None, 0), ([], {}), (0, "")]
)
def test_different_values_have_different_texts(one: Any, other: Any) -> None:
    assert canonical_json(one) != canonical_json(other)


def test_the_identity_is_stable() -> None:
    """A change of this value makes every record anew: only with a change of the schema."""
    id, canonical = run_identity(CONFIG, **FACTS)
    assert id == "8b1ee6eee0776501"
    assert canonical["config"]["trainer"] == {"max_epochs": 3}
    assert "paths" not in canonical["config"]


def test_what_json_lacks_has_a_text() -> None:
    assert canonical_json({"a": float("nan"), "b": float("-inf"), 3: Path("x")}) == '{"3":"x","a":"nan","b":"-inf"}'


def test_without_leaves_the_original_alone() -> None:
    config = {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": 4}
    assert without(config, ["a.c.d", "f", "no.such"]) == {"a": {"b": 1, "c": {"e": 3}}}
    assert config == {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": 4}


def test_targets_are_found_anywhere() -> None:
    assert config_targets(CONFIG) == ["poolbench.nn.flat.Flat", "poolbench.pool.mincut.MinCutPool", "torch.nn.ReLU"]
