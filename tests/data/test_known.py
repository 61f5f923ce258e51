"""What is known of data without loading it: it is right, or nothing is known."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs import small
from poolbench.config import Config
from poolbench.data import known
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.known import note, recall
from poolbench.data.prepared import Prepared
from poolbench.learn.build import build_dataset
from poolbench.learn.locate import build_protocol

TU = {"_target_": "poolbench.data.sources.tu.TUDataset", "name": "TINY"}


class Somebodys(PlantedGraphs):
    """Reads, for all that anybody knows, a file of its own."""

    generated = False


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with a TU dataset of six graphs of two nodes."""
    folder = tmp_path / "cache" / "TUDataset" / "TINY"
    folder.mkdir(parents=True)
    pairs = [(2 * g + 1, 2 * g + 2) for g in range(6)]
    files = {
        "A": [f"{u}, {v}" for pair in pairs for u, v in (pair, pair[::-1])],
        "graph_indicator": [g + 1 for g in range(6) for _ in range(2)],
        "graph_labels": [0, 1] * 3,
    }
    for name, lines in files.items():
        (folder / f"TINY_{name}.txt").write_text("\n".join(map(str, lines)) + "\n")
    return tmp_path / "cache"


def made(cache: Path, **changes: Any) -> Config:
    return small(paths__data=str(cache), **changes)


def learn(config: Config) -> tuple[str, str]:
    """Load the data as a run does; returns fingerprint and hash of the split."""
    dataset = build_dataset(config.dataset, config.paths.data)
    protocol = build_protocol(config.protocol, config.split.seed, config.paths.data)
    prepared = Prepared.of(dataset, protocol, config.fold)
    note(config, dataset, protocol, prepared)
    return prepared.raw.fingerprint(), prepared.split.hash


def told(config: Config) -> tuple[str, str | None] | None:
    found = recall(config)
    return None if found is None else (found.fingerprint, found.split(config.split.seed, config.fold))


@pytest.mark.parametrize("dataset", [TU, {"_target_": "poolbench.data.generators.synthetic.PlantedGraphs"}])
def test_what_was_learnt_is_known_and_nothing_else(cache: Path, dataset: dict[str, Any]) -> None:
    config, other = made(cache, dataset=dataset), made(cache, dataset=dataset, split__seed=1)
    assert told(config) is None
    right = learn(config)
    assert told(config) == right
    assert told(made(cache, dataset=dataset, seed=7, pool__ratio=0.25)) == right
    assert told(other) == (right[0], None)
    assert told(made(cache, dataset=dataset, protocol__test=0.3)) is None
    assert told(made(cache, dataset={**dataset, "features": "degree"})) is None
    assert told(made(cache / "elsewhere", dataset=dataset)) is None
    again = learn(other)
    assert told(other) == again and told(config) == right and again != right


def test_folds_are_known_each_by_itself(cache: Path) -> None:
    folds = {"dataset__num_graphs": 48, "protocol": {"_target_": "poolbench.data.protocols.CrossValidation"}}
    right = {fold: learn(made(cache, fold=fold, **folds)) for fold in (0, 3)}
    assert {fold: told(made(cache, fold=fold, **folds)) for fold in (0, 3)} == right
    found = recall(made(cache, **folds))
    assert found is not None and found.folds == 10 and found.split(0, None) is None and found.split(0, 1) is None


def test_files_that_changed_or_went_are_not_known(cache: Path) -> None:
    config = made(cache, dataset=TU)
    before = learn(config)
    labels = cache / "TUDataset" / "TINY" / "TINY_graph_labels.txt"
    labels.write_text(labels.read_text().replace("0\n1", "1\n1", 1))
    assert told(config) is None
    after = learn(config)
    assert after[0] != before[0] and told(config) == after
    stat = labels.stat()
    os.utime(labels, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert told(config) is None
    learn(config)
    labels.unlink()
    assert told(config) is None


def test_other_code_and_other_libraries_know_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = made(cache)
    right = learn(config)
    with monkeypatch.context() as patch:
        patch.setattr(known, "code_version", lambda targets: "0" * 16)
        assert told(config) is None
    with monkeypatch.context() as patch:
        patch.setattr(known, "package_version", lambda name: "99")
        assert told(config) is None
    assert told(config) == right


@pytest.mark.parametrize("damage", [
    lambda text: b"",
    lambda text: text[: len(text) // 2],
    lambda text: text.replace(b'"folds":null', b'"folds":3   '),
    lambda text: text.replace(b"\n", b" "),
    lambda text: b"\xff" + text,
    lambda text: b"[" * 100_000,
])  # fmt: skip
def test_a_damaged_file_says_nothing_and_is_written_anew(cache: Path, damage: Any) -> None:
    config = made(cache)
    right = learn(config)
    (path,) = (cache / known.FOLDER).iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert told(config) is None
    assert learn(config) == right == told(config)


def test_folds_of_a_file_hold_as_long_as_the_file(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path, first: int) -> None:
        """Folds of twenty graphs, of which `first` stands in the first."""
        graphs = [(first + k) % 20 for k in range(20)]
        folds = []
        for k in range(0, 20, 2):
            rest = [graph for graph in graphs if graph not in graphs[k : k + 2]]
            folds.append({"test": graphs[k : k + 2], "model_selection": [{"train": rest[1:], "validation": rest[:1]}]})
        folder.mkdir(exist_ok=True)
        (folder / "folds.json").write_text(json.dumps(folds))

    nested = {"_target_": "poolbench.data.protocols.Nested", "folds_file": "folds.json"}
    config = made(cache, dataset__num_graphs=20, protocol=nested, fold=0, evaluate_test=False)
    for folder, test in (("here", 0), ("there", 1)):
        write(tmp_path / folder, test)
    monkeypatch.chdir(tmp_path / "here")
    right = learn(config)
    assert told(config) == right
    monkeypatch.chdir(tmp_path / "there")
    assert told(config) is None
    other = learn(config)
    assert other != right and told(config) == other
    monkeypatch.chdir(tmp_path / "here")
    assert told(config) == right
    write(tmp_path / "here", 4)
    assert told(config) is None


def test_what_may_read_files_that_nobody_names_is_not_known(cache: Path) -> None:
    config = made(cache, dataset={"_target_": f"{Somebodys.__module__}.{Somebodys.__qualname__}", "num_graphs": 48})
    dataset, protocol = Somebodys(num_graphs=48), build_protocol(config.protocol, 0)
    note(config, dataset, protocol, Prepared.of(dataset, protocol, None))
    assert told(config) is None and not (cache / known.FOLDER).exists()


def test_a_cache_that_nobody_may_write_to_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where the cache folder should be")
    config = made(tmp_path / "cache")
    learn(config)
    assert told(config) is None


def test_it_is_the_fingerprint_that_counts(cache: Path) -> None:
    """Where the same setting has another content, what was known of its splits is forgotten."""
    config = made(cache)
    right = learn(config)
    dataset, protocol = build_dataset(config.dataset), build_protocol(config.protocol, 1)
    prepared = Prepared.of(dataset, protocol, None)
    prepared = replace(prepared, split=replace(prepared.split, fingerprint="f" * 64))
    other = made(cache, split__seed=1)
    note(other, dataset, protocol, prepared)
    assert told(config) == ("f" * 64, None)
    assert learn(config) == right == told(config)
    assert told(other) == (right[0], None)
