from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from poolbench.data.protocols import (
    CrossValidation,
    Holdout,
    LegacyCrossValidation,
    Nested,
    Nodes,
    Official,
    Protocol,
    Transductive,
)
from poolbench.data.splits import Split
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


# ---------------------------------------------------------------- folds


def test_cv10_tests_every_graph_once_and_each_fold_is_stratified() -> None:
    y = labels(125, 63)  # the classes of MUTAG
    splits = [CrossValidation(seed=1).split(y, "f", fold) for fold in range(10)]
    assert torch.equal(torch.cat([s.test for s in splits]).sort().values, torch.arange(188))
    for fold, split in enumerate(splits):
        for part in (split.val, split.test):
            assert part.numel() in (18, 19)
            assert [int((y[part] == c).sum()) for c in (0, 1)] in ([12, 6], [13, 6], [12, 7], [13, 5], [13, 7])
        assert torch.equal(split.val, splits[(fold + 1) % 10].test)
    assert CrossValidation(seed=2).split(y, "f", 0).hash != splits[0].hash


@pytest.mark.parametrize("fold", [None, -1, 10, True, 1.0])
def test_a_fold_that_there_is_not_is_refused(fold: object) -> None:
    with pytest.raises(PoolBenchError, match="folds 0 to 9"):
        CrossValidation().split(labels(30, 30), "f", fold)  # type: ignore[arg-type]
    with pytest.raises(PoolBenchError, match="leave fold out"):
        Holdout().split(labels(30, 30), "f", 1)


def test_the_previous_fold_validates_where_it_is_said() -> None:
    y = labels(60, 40)
    for fold in range(10):
        after, before = (CrossValidation(val=val).split(y, "f", fold) for val in ("next", "previous"))
        assert torch.equal(after.test, before.test)
        assert torch.equal(before.val, CrossValidation().split(y, "f", (fold - 1) % 10).test)
        assert torch.equal(after.val, CrossValidation().split(y, "f", (fold + 1) % 10).test)


def test_a_stratified_share_of_the_training_part_validates_where_it_is_said() -> None:
    y = labels(60, 40)
    splits = [CrossValidation(folds=5, val=0.15).split(y, "f", fold) for fold in range(5)]
    assert torch.equal(torch.cat([s.test for s in splits]).sort().values, torch.arange(100))
    for split in splits:
        assert split.protocol == "cv5"
        assert counts(y, split).tolist() == [[41, 27], [7, 5], [12, 8]]
    assert not torch.equal(splits[0].val, splits[1].val)


def test_parts_need_not_have_their_share_of_each_class() -> None:
    y = labels(60, 40)
    for made in (Holdout(seed=1, stratified=False).split(y, "f"),
                 CrossValidation(seed=1, val=0.1, stratified=False).split(y, "f", 3)):  # fmt: skip
        assert made.test.numel() == 10 and made.val.numel() in (9, 10)
        assert torch.equal(torch.cat([made.train, made.val, made.test]).sort().values, torch.arange(100))
    seeds = [Holdout(seed=seed, stratified=False).split(y, "f").test for seed in range(20)]
    assert len({int((y[test] == 0).sum()) for test in seeds}) > 3
    other = Holdout(seed=1, stratified=False).split(1 - y, "f")
    assert torch.equal(other.test, Holdout(seed=1, stratified=False).split(y, "f").test), "classes play no part"


@pytest.mark.parametrize("folds", [3, 5, 20])
def test_any_number_of_folds(folds: int) -> None:
    y = labels(60, 40)
    splits = [CrossValidation(folds=folds).split(y, "f", fold) for fold in range(folds)]
    assert torch.equal(torch.cat([s.test for s in splits]).sort().values, torch.arange(100))
    assert {s.protocol for s in splits} == {f"cv{folds}"}
    legacy = LegacyCrossValidation(folds=folds).split(y, "f", folds - 1)
    assert (legacy.protocol, legacy.val.numel()) == (f"legacy-cv{folds}", 0)
    with pytest.raises(PoolBenchError, match=f"cv{folds} has the folds 0 to {folds - 1}"):
        CrossValidation(folds=folds).split(y, "f", folds)


def test_ten_folds_are_those_of_before_folds_could_be_counted() -> None:
    """Records hold the hash."""
    split = CrossValidation(seed=7).split(torch.arange(50) % 3, "fingerprint", 4)
    assert split.hash == "691e0280e37077ba55c0a797c63dacd8485c1196267dd44d88d19cac91be4c32"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"folds": 2}, "folds=2 must be a whole number, 3 or more"),
        ({"folds": 1, "val": 0.1}, "folds=1 must be a whole number, 2 or more"),
        ({"folds": True}, "folds=True"),
        ({"folds": 5.0}, "folds=5.0"),
        ({"val": "after"}, "val='after' is none of next, previous, file, and no fraction"),
        ({"val": 1}, "val=1 must be a fraction"),
        ({"val": 0.0}, "val=0.0 must be a fraction"),
        ({"select": "best"}, "select='best' is none of loss, metric, last"),
        ({"stratified": 1}, "stratified=1 is neither true nor false"),
        ({"fold_seeds": "other"}, "fold_seeds='other' is neither shared nor own"),
    ],
)
def test_folds_that_cannot_be(arguments: dict, said: str) -> None:
    with pytest.raises(PoolBenchError, match=said):
        CrossValidation(**arguments)


@pytest.mark.parametrize("protocol", [Holdout, CrossValidation, Nested, Nodes, Official, LegacyCrossValidation])
def test_which_epoch_counts_changes_no_split(protocol: type[Protocol]) -> None:
    y = labels(60, 40)
    parts = {"train": torch.arange(80), "val": torch.arange(80, 90), "test": torch.arange(90, 100)}
    made = [protocol(seed=0, select=select) for select in ("loss", "metric", "last")]
    assert [one.select for one in made] == ["loss", "metric", "last"]
    assert len({one.split(y, "f", None if one.folds is None else 3, parts).hash for one in made}) == 1


def test_where_all_is_trained_on_there_is_no_metric_to_select_by() -> None:
    with pytest.raises(PoolBenchError, match="cluster: select='metric' is none of loss, last"):
        Transductive(select="metric")


def test_nested_folds_hold_the_test_fold_out_of_the_inner_split() -> None:
    y = labels(60, 40)
    for fold in range(10):
        split = Nested(seed=3).split(y, "f", fold)
        assert (split.train.numel(), split.val.numel(), split.test.numel()) == (81, 9, 10)
        assert [int((y[split.test] == c).sum()) for c in (0, 1)] == [6, 4]


def test_official_transductive_and_legacy_splits() -> None:
    y = labels(60, 40)
    parts = {"train": torch.arange(80), "val": torch.arange(80, 90), "test": torch.arange(90, 100)}
    assert torch.equal(Official().split(y, "f", official=parts).val, parts["val"])
    with pytest.raises(PoolBenchError, match="no official split"):
        Official().split(y, "f")
    assert Transductive().split(torch.zeros(1, dtype=torch.int64), "f").train.tolist() == [0]
    legacy = LegacyCrossValidation(seed=1).split(y, "f", 4)
    assert torch.equal(legacy.test.sort().values, legacy.test) and legacy.val.numel() == 0
    assert legacy.train.numel() == 90 and LegacyCrossValidation.validates == "test"


@pytest.mark.parametrize("part", [[[0]], [10**30], "x", {"a": 1}])
def test_a_split_file_with_something_else_for_a_part(tmp_path: Path, part: object) -> None:
    split = Holdout().split(labels(30, 30), "f", None)
    split.save(tmp_path / "split.json")
    held = json.loads((tmp_path / "split.json").read_text())
    for text in (json.dumps({**held, "train": part}), "[" * 100_000):
        (tmp_path / "split.json").write_text(text)
        with pytest.raises(PoolBenchError, match=r"split file .* cannot be read"):
            Split.load(tmp_path / "split.json", "f", 60)
