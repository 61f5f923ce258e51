"""What came to configurations and what moved changes no run: not its identity, its row, nor whether it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from poolbench.papers.recipe import setting
from poolbench.records import changes
from poolbench.records.changes import ADDED, MOVED, Added, canonical, first, today, upgrade
from poolbench.records.identity import run_identity
from poolbench.records.record import Record
from poolbench.report.report import build

Maker = Callable[..., Record]

OLD: dict[str, Any] = {
    "model": {"_target_": "poolbench.nn.hierarchical.Hierarchical", "hidden": 64},
    "pool": {"_target_": "poolbench.pool.sortpool.SortPool", "k": [{"_target_": "poolbench.pool.src.X"}]},
    "protocol": {"_target_": "poolbench.data.protocols.Holdout", "test": 0.1},
    "dataset": {"_target_": "poolbench.data.tu.TUDataset", "name": "MUTAG"},
    "trainer": {"devices": 1},
    "seed": 0,
}
NEW: dict[str, Any] = {
    "model": {"_target_": "poolbench.nn.trees.Hierarchical", "hidden": 64, "skip": False},
    "pool": {"_target_": "poolbench.pool.readouts.sortpool.SortPool", "k": [{"_target_": "poolbench.pool.base.src.X"}]},
    "protocol": {
        "_target_": "poolbench.data.protocols.Holdout",
        "test": 0.1,
        "select": "loss",
        "stratified": True,
        "repeats": 1,
    },
    "dataset": {"_target_": "poolbench.data.sources.tu.TUDataset", "name": "MUTAG"},
    "trainer": {"devices": 1},
    "loss_ramp": 0,
    "k_from": "mean",
    "feature_scale": None,
    "seed": 0,
}


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that came to a model, one that came to all protocols, and a module that moved twice."""
    monkeypatch.setattr(changes, "ADDED", (
        *ADDED,
        Added("model.skip", False, "9.0", ("poolbench.nn.trees.Hierarchical",)),
        Added("protocol.repeats", 1, "9.1"),
    ))  # fmt: skip
    moves = {"poolbench.nn.hierarchical": "poolbench.nn.middle", "poolbench.nn.middle": "poolbench.nn.trees"}
    monkeypatch.setattr(changes, "MOVED", {**MOVED, **moves})
    for cached in (today, first):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What is remembered of the tables does not outlive a test."""
    yield
    for cached in (today, first):
        cached.cache_clear()


def identity(config: dict[str, Any]) -> str:
    return run_identity(config, dataset="d", split="s")


def test_a_run_from_before_is_the_same_run_today(changed: None) -> None:
    assert identity(NEW) == identity(OLD)
    assert upgrade(OLD) == NEW == upgrade(NEW)
    assert canonical(NEW) == OLD == canonical(OLD)
    assert setting(NEW) == setting(OLD), "and of the same line of a paper's table"


def test_its_identity_is_what_it_was_before_anything_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    after = identity(OLD)
    monkeypatch.setattr(changes, "MOVED", {})
    for cached in (today, first):
        cached.cache_clear()
    assert identity(OLD) == after


@pytest.mark.parametrize(("group", "key", "value"), [("model", "skip", True), ("protocol", "repeats", 2)])
def test_another_value_than_the_neutral_one_is_another_run(changed: None, group: str, key: str, value: Any) -> None:
    other = {**NEW, group: {**NEW[group], key: value}}
    assert identity(other) != identity(NEW)
    assert upgrade(other) == other
    assert canonical(other)[group][key] == value


def test_numbers_and_truths_are_told_apart(changed: None) -> None:
    for other in (0, True):
        config = {**NEW, "model": {**NEW["model"], "skip": other}}
        assert identity(config) != identity(NEW)


def test_a_key_belongs_to_the_classes_that_have_it(changed: None) -> None:
    flat = {**OLD, "model": {"_target_": "poolbench.nn.flat.Flat", "skip": False}}
    assert canonical(flat)["model"] == flat["model"], "it was there before, with a meaning of its own"
    del flat["model"]["skip"]
    assert "skip" not in upgrade(flat)["model"] and upgrade(flat)["protocol"]["repeats"] == 1
    assert upgrade({"seed": 0}) == {"seed": 0, "loss_ramp": 0, "k_from": "mean", "feature_scale": None}


def test_names_of_classes_and_modules_are_followed_both_ways(changed: None) -> None:
    assert today("poolbench.nn.hierarchical.Hierarchical") == "poolbench.nn.trees.Hierarchical"
    assert today("poolbench.nn.hierarchical") == "poolbench.nn.trees"
    assert first("poolbench.nn.middle.Hierarchical") == "poolbench.nn.hierarchical.Hierarchical"
    assert today("poolbench.nn.hierarchically.X") == first("poolbench.nn.hierarchically.X"), "no part of a word"


@pytest.mark.parametrize("old", sorted(MOVED))
def test_what_moved_is_where_the_table_says(old: str) -> None:
    from importlib.util import find_spec

    assert find_spec(today(old)) is not None
    assert first(today(old)) == old


def test_a_run_from_before_and_one_of_today_stand_in_one_row(changed: None, record: Maker) -> None:
    before = record(0, 0.7, model=OLD["model"], protocol_x=1)
    after = record(1, 0.8, model=NEW["model"], protocol_x=1)
    other = record(1, 0.1, model={**NEW["model"], "skip": True}, protocol_x=1)
    for each in (after, other):
        each.config["protocol"]["repeats"] = 1
    report = build([before, after, other], current=lambda config: "abc")
    (board,) = report.boards
    means = {row.options: board.cells[row, column].estimate for row in board.rows for column in board.columns}
    assert {options: found and found.mean for options, found in means.items()} == {
        "": pytest.approx(0.75), "model.skip=true": 0.1
    }  # fmt: skip
    asked = build([before, after, other], ["model.skip=false"], current=lambda config: "abc")
    assert [len(cell.runs) for cell in asked.boards[0].cells.values()] == [2], "a query is answered in today's words"


def test_the_same_run_before_and_after_counts_once(changed: None, record: Maker) -> None:
    old = replace(record(0, 0.7, model=OLD["model"]), schema=1, id="0" * 16, digests=None, selected=None)
    new = record(0, 0.8, model=NEW["model"])
    new.config["protocol"]["repeats"] = 1
    new.id = run_identity(new.config, dataset=new.splits.dataset, split=new.splits.hash)
    assert new.id == old.setting
    (cell,) = build([old, new], current=lambda config: "abc").boards[0].cells.values()
    assert [run.record for run in cell.runs] == [new]
