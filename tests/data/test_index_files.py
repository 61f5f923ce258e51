"""Index files: which folds they give, what is refused, and that a run is known by what a file holds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from poolbench.cli.door import composed, resolve
from poolbench.config import Config
from poolbench.data.index_files import COLLECTION, IndexFile, NotHere, keep
from poolbench.data.protocols import CrossValidation, LegacyCrossValidation, Nested, Protocol
from poolbench.data.splits import Split
from poolbench.errors import PoolBenchError

TESTS = [[4, 9], [0, 1], [5, 2], [3, 6], [8, 7]]
Y = torch.arange(10) % 2


def folds(tests: Sequence[Sequence[int]] = TESTS, selection: bool = True) -> list[dict[str, Any]]:
    """Folds of which the first graph outside validates."""
    made: list[dict[str, Any]] = []
    for test in tests:
        rest = sorted(graph for other in tests for graph in other if graph not in test)
        inner = {"model_selection": [{"train": rest[1:], "validation": rest[:1]}]} if selection else {}
        made.append({"test": list(test), **inner})
    return made


def written(folder: Path, content: Any, name: str = "folds.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def parts(split: Split) -> tuple[list[int], list[int], list[int]]:
    return split.train.tolist(), split.val.tolist(), split.test.tolist()


@pytest.mark.parametrize(
    ("val", "expected"),
    [
        ("next", ([0, 1, 2, 4, 5, 9], [7, 8], [3, 6])),
        ("previous", ([0, 1, 4, 7, 8, 9], [2, 5], [3, 6])),
        ("file", ([1, 2, 4, 5, 7, 8, 9], [0], [3, 6])),
    ],
)
def test_folds_are_those_of_the_file_and_the_seed_changes_nothing(tmp_path: Path, val: str, expected: Any) -> None:
    path = written(tmp_path, folds())
    made = [CrossValidation(seed, folds=5, val=val, folds_file=path).split(Y, "f", 3) for seed in (0, 7)]
    assert parts(made[0]) == expected
    assert made[0].hash == made[1].hash


def test_a_share_that_validates_is_drawn_by_the_seed_within_the_folds_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, folds(selection=False))
    made = [CrossValidation(seed, folds=5, val=0.25, folds_file=path).split(Y, "f", 0) for seed in range(4)]
    assert all(split.test.tolist() == [4, 9] and split.val.numel() == 2 for split in made)
    assert len({split.hash for split in made}) > 1


def test_legacy_and_nested_take_the_same_file(tmp_path: Path) -> None:
    path = written(tmp_path, folds())
    legacy = LegacyCrossValidation(seed=3, folds=5, folds_file=path).split(Y, "f", 1)
    assert parts(legacy) == ([2, 3, 4, 5, 6, 7, 8, 9], [], [0, 1])
    ten = written(tmp_path, folds([[k] for k in range(10)]))
    nested = Nested(folds_file=ten).split(Y, "f", 9)
    assert parts(nested) == ([1, 2, 3, 4, 5, 6, 7, 8], [0], [9])


def lone(**fold: Any) -> str:
    """A file in which one fold is another."""
    made = folds()
    made[2] = {**made[2], **fold}
    return json.dumps(made)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be read"),
        ("{}", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (lone(test=[0.5]), r"cannot be read .*\[2\].test\[0\]"),
        (lone(test=[-1]), "cannot be read"),
        (lone(test=[1e30]), "cannot be read"),
        (lone(test=[[0]]), "cannot be read"),
        (lone(model_selection=[{"train": [0]}]), "cannot be read"),
        (lone(test=[]), "fold 2 has no graph in its test part"),
        (lone(test=[5, 9]), "graph 9 is in the test parts of the folds 0 and 2"),
        (lone(test=[5, 5]), "graph 5 is in the test parts of the folds 2 and 2"),
        (lone(test=[5, 10]), "graph 2 is in no test part, and graph 10 is; 10 graphs are counted from 0 to 9"),
        (lone(test=[5]), "graph 2 is in no test part, and graph 9 is; 9 graphs are counted from 0 to 8"),
        (lone(model_selection=[{"train": [], "validation": [1]}]), "fold 2 has no graph to train on"),
        (lone(model_selection=[{"train": [1], "validation": []}]), "fold 2 has no graph to validate on"),
        (lone(model_selection=[{"train": [1, 2, 3], "validation": [4, 6, 7, 8, 9, 0]}]), "graph 2 in it 2 times"),
        (lone(model_selection=[{"train": [1, 3], "validation": [4]}]), "fold 2 has graph 0 in it 0 times"),
        (lone(model_selection=[{"train": [0, 1, 3, 4, 6, 7, 8, 9], "validation": [12]}]), "fold 2 has graph 12 in it"),
        (json.dumps(folds([[0, 1], [2], [3], [4]])), "has 4 folds, and the protocol 5"),
        (json.dumps(folds([[0, 1], [2], [3], [4], [5]])), "names 6 graphs, and the dataset has 10"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_one_line_that_names_it(tmp_path: Path, content: str, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(PoolBenchError, match=rf"protocol.folds_file={path}.*{said}") as caught:
        CrossValidation(folds=5, folds_file=path).split(Y, "f", 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["none.json", ".", "a\0b"])
def test_a_file_that_cannot_be_read(tmp_path: Path, place: str) -> None:
    for made in (lambda: Nested(folds_file=tmp_path / place).split(Y, "f", 0), lambda: keep(str(tmp_path / place))):
        with pytest.raises(PoolBenchError, match=r"protocol.folds_file=.* cannot be read .*expected a list of folds"):
            made()


def test_what_never_ends_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    large = written(tmp_path, folds())
    monkeypatch.setattr("poolbench.data.index_files.LARGEST", 1 << 6)
    for path, said in ((tmp_path / "pipe", "it is no file"), (Path("/dev/zero"), "it is no file"), (large, "larger")):
        with pytest.raises(PoolBenchError, match=f"protocol.folds_file={path} cannot be read .*{said}"):
            keep(str(path), tmp_path / "cache")


@pytest.mark.parametrize("make", [lambda path: CrossValidation(folds=5, val="file", folds_file=path),
                                  lambda path: Nested(folds_file=path)])  # fmt: skip
def test_what_validates_must_be_said(tmp_path: Path, make: Any) -> None:
    protocol: Protocol = make(written(tmp_path, folds([[k] for k in range(10)], selection=False)))
    protocol.folds = 10
    with pytest.raises(PoolBenchError, match=r"fold 3 has no model_selection"):
        protocol.split(Y, "f", 3)
    with pytest.raises(PoolBenchError, match="val=file takes what an index file says: give folds_file"):
        CrossValidation(val="file")


def test_a_file_is_kept_under_what_it_holds(tmp_path: Path) -> None:
    one, other = written(tmp_path, folds()), written(tmp_path, folds(), "other.json")
    cache = tmp_path / "cache"
    digits = keep(str(one), cache)
    assert digits == hashlib.sha256(one.read_bytes()).hexdigest()
    assert keep(str(other), cache) == keep(digits, cache) == digits
    (kept,) = (cache / COLLECTION).iterdir()
    one.unlink()
    protocol = CrossValidation(folds=5, folds_file=digits, data=cache)
    assert protocol.files() == [kept]
    assert protocol.split(Y, "f", 1).test.tolist() == [0, 1]
    kept.write_text("[]")
    with pytest.raises(PoolBenchError, match="is damaged: its SHA-256 is not its name; remove it"):
        CrossValidation(folds=5, folds_file=digits, data=cache).split(Y, "f", 1)
    kept.unlink()
    with pytest.raises(NotHere, match=f"no file with this SHA-256 is in {cache / COLLECTION}"):
        IndexFile(digits, cache).folds(5, 10)


def test_nothing_is_kept_of_what_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(PoolBenchError, match="is in the test parts of the folds"):
        keep(str(written(tmp_path, lone(test=[5, 9]))), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_configuration_says_what_the_file_holds_and_not_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOLBENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    one, other = written(tmp_path, folds()), written(tmp_path, folds([*TESTS[1:], TESTS[0]]), "other.json")

    def made(protocol: str, path: Path | str) -> Config:
        return resolve(composed([f"protocol={protocol}", f"protocol.folds_file={path}"]))

    for protocol in ("cv10", "legacy-cv10", "nested10"):
        found = [made(protocol, path).protocol.arguments["folds_file"] for path in (one, "folds.json", other)]
        assert found[0] == found[1] == hashlib.sha256(one.read_bytes()).hexdigest() != found[2]
        assert made(protocol, found[2]).protocol.arguments["folds_file"] == found[2]
    with pytest.raises(PoolBenchError, match=r"protocol.folds_file=gone.json cannot be read"):
        made("cv10", "gone.json")
