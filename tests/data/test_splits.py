from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from poolbench.data.splits import Holdout, Split
from poolbench.errors import PoolBenchError


def labels(*sizes: int) -> torch.Tensor:
    """Classes of these sizes, mixed."""
    y = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]


def counts(y: torch.Tensor, split: Split) -> torch.Tensor:
    """[3, C] graphs of each class in train, val and test."""
    classes = int(y.max()) + 1
    return torch.stack([torch.bincount(y[part], minlength=classes) for part in (split.train, split.val, split.test)])


@pytest.mark.parametrize("sizes", [(663, 450), (63, 125), (100,) * 6, (15,) * 11, (7, 5), (3000, 3, 10), (40,)])
@pytest.mark.parametrize("fractions", [(0.1, 0.1), (0.2, 0.15), (0.5, 0.3)])
def test_every_class_gets_its_share(sizes: tuple[int, ...], fractions: tuple[float, float]) -> None:
    y = labels(*sizes)
    test, val = fractions
    split = Holdout(seed=3, test=test, val=val).split(y, "f")
    shares = torch.tensor([1 - test - val, val, test], dtype=torch.float64)
    quota = shares[:, None] * torch.tensor(sizes, dtype=torch.float64)
    got = counts(y, split)
    assert (got - quota).abs().max() < 1
    assert (got.sum(0) == torch.tensor(sizes)).all()
    assert (got.sum(1) > 0).all()
    # what rounding gives and takes must not add up over the classes
    assert (got.sum(1) - quota.sum(1)).abs().max() < 2


def test_round_numbers_are_split_exactly() -> None:
    y = labels(*[100] * 6)
    got = counts(y, Holdout().split(y, "f"))
    assert got.tolist() == [[80] * 6, [10] * 6, [10] * 6]


def test_parts_are_sorted_and_disjoint() -> None:
    split = Holdout(seed=1).split(labels(60, 40), "f")
    together = torch.cat([split.train, split.val, split.test])
    assert together.sort().values.tolist() == list(range(100))
    for part in (split.train, split.val, split.test):
        assert part.dtype == torch.int64 and (part.diff() > 0).all()


def test_seeds_draw_different_splits_and_the_same_seed_the_same() -> None:
    y = labels(60, 40)
    hashes = {Holdout(seed=seed).split(y, "f").hash for seed in range(10)}
    assert len(hashes) == 10
    assert Holdout(seed=4).split(y, "f").hash == Holdout(seed=4).split(y, "f").hash
    assert Holdout(seed=4).split(y, "g").hash not in hashes


def test_every_graph_is_tested_about_as_often() -> None:
    y = labels(120, 80)
    tested = torch.cat([Holdout(seed=seed).split(y, "f").test for seed in range(300)])
    often = torch.bincount(tested, minlength=200)
    assert often.min() > 10 and often.max() < 52  # 30 +- 4 standard deviations


def test_the_split_is_the_same_on_every_machine_and_in_every_version() -> None:
    """Records hold the hash: a change of these values makes results of before and after incomparable."""
    split = Holdout(seed=7).split(torch.arange(50) % 3, "fingerprint")
    assert split.test.tolist() == [13, 26, 30, 47, 48]
    assert split.hash == "0ca5ec1b4bba5b373e0b952669b99ab632e3c13ad6f8acf84380f3b2feca1555"


@pytest.mark.parametrize("sizes", [(1, 50), (2, 50), (1, 1, 1), (1, 2), (3,), (1,) * 40])
def test_small_classes_go_to_training_first(sizes: tuple[int, ...]) -> None:
    y = labels(*sizes)
    got = counts(y, Holdout().split(y, "f"))
    assert (got.sum(1) > 0).all()
    if sum(sizes) > 3 * len(sizes):
        assert (got[0] > 0).all()


@pytest.mark.parametrize(
    "arguments",
    [{"test": 0}, {"val": 1.0}, {"test": 0.5, "val": 0.5}, {"test": -0.1}, {"test": "a"}, {"seed": -1}, {"seed": 0.5}],
)
def test_impossible_arguments(arguments: dict) -> None:
    with pytest.raises(PoolBenchError, match="holdout: "):
        Holdout(**arguments)


def test_impossible_labels() -> None:
    with pytest.raises(PoolBenchError, match="at least 3"):
        Holdout().split(torch.tensor([0, 1]), "f")
    with pytest.raises(PoolBenchError, match="one class a graph"):
        Holdout().split(torch.rand(10), "f")


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "splits" / "a.json"
    split = Holdout(seed=2).split(labels(30, 20), "f")
    split.save(path)
    assert Split.load(path, "f", 50).hash == split.hash
    with pytest.raises(PoolBenchError, match="another dataset"):
        Split.load(path, "g", 50)
    with pytest.raises(PoolBenchError, match="50 graphs, the dataset has 51"):
        Split.load(path, "f", 51)
    held = json.loads(path.read_text())
    held["val"][0], held["test"][0] = held["test"][0], held["val"][0]
    path.write_text(json.dumps(held))
    with pytest.raises(PoolBenchError, match="was changed"):
        Split.load(path, "f", 50)
    path.write_text("{")
    with pytest.raises(PoolBenchError, match="cannot be read"):
        Split.load(path, "f", 50)


def test_a_graph_in_two_parts_is_refused() -> None:
    with pytest.raises(PoolBenchError, match="exactly one"):
        Split("own", 1, 0, None, torch.tensor([0, 1]), torch.tensor([1]), torch.tensor([2]), "f")
