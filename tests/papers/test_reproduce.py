"""Reproduction: the facts, the recipes, which records belong to a cell, what is concluded, and the command."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from configs import small
from poolbench import cli
from poolbench.cli.commands import reproduce as command
from poolbench.cli.commands.reproduce import composer
from poolbench.cli.door import composed, resolve
from poolbench.cli.folders import conf_dir
from poolbench.config import Config, plain, replace, with_values
from poolbench.errors import PoolBenchError
from poolbench.jobs.run import at_once
from poolbench.jobs.sweep import duration
from poolbench.learn.build import Parts
from poolbench.papers import comparison, reproduce
from poolbench.papers.comparison import (
    Found,
    Measured,
    compare,
    foreseen_text,
    measured,
    their_side,
    verdict_text,
    written,
)
from poolbench.papers.criterion import Margin, Side
from poolbench.papers.published import Value, published_dir, published_table
from poolbench.papers.recipe import (
    Design,
    Line,
    Planned,
    Quick,
    Recipe,
    Task,
    deviations,
    plan,
    read_recipe,
    recipes,
    setting,
)
from poolbench.papers.summary import write_summary
from poolbench.records import provenance
from poolbench.records.clock import Clock
from poolbench.records.counting import Counted
from poolbench.records.equivalence import Covered, Kind, Link, Links
from poolbench.records.record import Record

CONF = conf_dir()
PAPERS = sorted(path.stem for path in published_dir().glob("*.yaml"))
#: Those of papers: AUTHORYEAR_TOPIC/NAME.
EXPERIMENTS = sorted(
    f"{path.parent.name}/{path.stem}"
    for path in (CONF / "experiment").glob("*/*.yaml")
    if re.fullmatch(r"[a-z]+\d{4}_\w+", path.parent.name)
)


def compose(words: Sequence[str], seeds: Sequence[int]) -> list[Config]:
    """The configuration of one command line for each seed."""
    return composer()(words, seeds)


# ------------------------------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize("paper", PAPERS)
def test_every_fact_has_its_origin(paper: str) -> None:
    facts: Any = OmegaConf.load(published_dir() / f"{paper}.yaml")
    assert facts.id == paper and facts.title and facts.year
    for entry in facts.tables:
        table = published_table(paper, entry.id)
        assert len(table.values) == len(entry.rows) and entry.protocol
        for value in table.values.values():
            assert value.trust in "ABCDE" and value.source and value.dataset in entry.datasets


def test_a_number_as_it_was_published() -> None:
    table = published_table("bianchi2020_mincut", "classification")
    value = table.value("MinCutPool", "PROTEINS", "test accuracy")
    assert value is not None and (value.mean, value.std, value.n, value.trust) == (76.5, 2.6, 10, "A")
    assert table.digits == 1 and "1907.00481" in table.citation


def test_an_unknown_table_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(PoolBenchError, match=r"no table clustring \(did you mean clustering"):
        published_table("bianchi2020_mincut", "clustring")
    with pytest.raises(PoolBenchError, match=r"no recipe for bianchi2020_mincut/clasification \(did you mean"):
        read_recipe([CONF], "bianchi2020_mincut/clasification")


# ----------------------------------------------------------------------------------------------- experiments, recipes


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_states_its_deviations(experiment: str) -> None:
    said = deviations([CONF], experiment)
    assert "deviations" in OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml")
    assert all(one.what.endswith(".") for one in said)
    assert len({one.what for one in said}) == len(said)


def test_deviations_stay_few() -> None:
    assert sum(len(deviations([CONF], experiment)) for experiment in EXPERIMENTS) < 60


def test_deviations_belong_to_no_run() -> None:
    experiment = next(one for one in EXPERIMENTS if deviations([CONF], one))
    words = [f"experiment={experiment}", "logger=none"]
    assert "deviations" in composed(words)
    (config,) = compose(words, [0])
    assert "deviations" not in plain(config)


@pytest.mark.parametrize("entry", ["- Some text.", "- {what: It., reason: none}", "- {what: It.}", "{what: It.}"])
def test_deviations_without_a_reason_are_refused(tmp_path: Path, entry: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(f"deviations:\n  {entry}\n")
    with pytest.raises(PoolBenchError, match=r"a list of \{what: .*one of unknown, unpublished, cost"):
        deviations([tmp_path], "own")


@pytest.mark.parametrize("name", recipes([CONF]))
def test_a_recipe_covers_the_published_table(name: str) -> None:
    recipe = read_recipe([CONF], name)
    table = published_table(recipe.paper, recipe.table)
    missing = [one for one in recipe.left_out for one in one.split(", ")]
    lines = {(line.method, line.published_dataset) for line in recipe.lines}
    for method, dataset, metric in table.values:
        stated = any(method.startswith(one) or one in (dataset, metric) for one in missing)
        assert stated or (method, dataset) in lines, (method, dataset, metric)
    for line in recipe.lines if table.values else ():
        for metric in line.metrics:
            assert table.value(line.method, line.published_dataset, metric), line.name
    assert set(recipe.experiments) <= set(EXPERIMENTS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", recipes([CONF]))
@pytest.mark.parametrize("quick", [False, True])
def test_every_line_of_a_recipe_can_be_run(name: str, quick: bool) -> None:
    recipe = read_recipe([CONF], name)
    planned = plan(recipe, composer(), seeds=1, quick=quick)
    assert len({one.key for one in planned}) == len(planned) == len(recipe.lines)
    for one in planned:
        Parts.of(one.tasks[0].config)


def stand_in(experiment: str) -> list[str]:
    """Overrides that put a generated dataset in the place of an experiment's."""
    (config,) = compose([f"experiment={experiment}", "logger=none"], [0])
    target = config.dataset.target.rpartition(".")[2]
    words = ["trainer.max_epochs=1", "+trainer.limit_train_batches=1", "callbacks.progress=none"]
    if target in ("Grid2d", "Ring"):
        return words
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    if target == "NodeGraph":
        words += ["dataset=planted-nodes", "dataset.num_nodes=200", "pool.k=4"]
        return [*words, "~dataset.normalize"] if "normalize: true" in text else words
    words += ["dataset=planted", "dataset.num_graphs=30", "dataset.features=auto"]
    if config.names.protocol == "nested10":
        words += ["protocol.folds=null", "search.trials=1", "fold=0", "protocol.runs=1"]
    if config.names.protocol == "ogb":
        words += ["protocol=holdout", *(["~protocol.select"] if "select:" in text else [])]
    return words


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_trains_a_step(experiment: str, results: Path) -> None:
    from poolbench.jobs.run import run

    Parts.of(compose([f"experiment={experiment}", "logger=none"], [0])[0])
    words = [f"experiment={experiment}", "logger=none", *stand_in(experiment), f"paths.results={results}"]
    (config,) = compose(words, [0])
    config.dataset.arguments.pop("deduplicate", None)
    if config.fold is None and "cv10" in config.names.protocol:
        config = replace(config, fold=0)
    assert run(config).done


# ----------------------------------------------------------------------------------------------------------- composing


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=() if one == "bianchi2020_mincut/classification" else pytest.mark.slow)
     for one in recipes([CONF])],
)  # fmt: skip
def test_lines_that_are_composed_together_are_what_hydra_makes_of_each(name: str) -> None:
    recipe = read_recipe([CONF], name)
    together = composer()
    for line in recipe.lines:
        for more in ((), recipe.quick.overrides, ("trainer=gpu", "paths.results=elsewhere", "hydra/sweeper=basic")):
            words = [f"experiment={line.experiment}", "logger=none", *line.overrides, *more]
            alone = [resolve(composed([*words, f"seed={seed}"])) for seed in (0, 7)]
            assert together(words, [0, 7]) == alone, words


def test_whatever_hangs_on_the_seed_follows_it() -> None:
    several = compose(["logger=none", "batch_size=${seed}", "split.seed=4"], [1, 2])
    assert [(one.seed, one.batch_size, one.split.seed) for one in several] == [(1, 1, 4), (2, 2, 4)]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("pool=mincuts", r"pool=mincuts is unknown \(did you mean mincut"),
        ("batch_sise=3", r"batch_sise is no key of the configuration \(did you mean batch_size"),
        ("batch_size=1,2", r"batch_size=1,2 means several runs"),
        ("batch_size=[", "no viable alternative"),
        ("pool.ratio=???", r"pool.ratio must be given"),
    ],
)
def test_a_line_that_does_not_compose_is_refused_as_a_command_line_is(word: str, said: str) -> None:
    together = composer()
    together(["logger=none"], [0])
    with pytest.raises(PoolBenchError, match=f"^logger=none {word[:4]}.*: .*{said}"):
        together(["logger=none", word], [0])
    assert together(["logger=none"], [0]) == compose(["logger=none"], [0])  # it left nothing behind


# ------------------------------------------------------------------------------------------------------------ planning


def own_recipe(*lines: Line, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "paper": "own", "table": "table", "scale": 0.01, "seeds": 3, "design": Design(), "margin": Margin(0.03),
        "quick": Quick(1, 2, ("trainer.max_epochs=2",)), "lines": lines, "left_out": {}, **changes,
    }  # fmt: skip
    return Recipe(**values)


def line(experiment: str, *overrides: str, method: str = "A", dataset: str = "planted") -> Line:
    return Line(method, dataset, "", dataset, experiment, (f"dataset={dataset}", *overrides),
                {"test accuracy": "accuracy"}, True)  # fmt: skip


def test_a_plan_has_a_task_for_each_seed_and_fold() -> None:
    recipe = own_recipe(line("ying2018_diffpool/classification"))
    (one,) = plan(recipe, compose, seeds=2)
    assert [(task.seeds, task.fold) for task in one.tasks] == [((seed,), fold) for seed in (0, 1) for fold in range(10)]
    assert all(task.config.split.seed == task.config.seed for task in one.tasks)
    (quick,) = plan(recipe, compose, quick=True)
    assert [task.fold for task in quick.tasks] == [0, 1] and quick.key != one.key


def test_a_nested_fold_leaves_several_records() -> None:
    (one,) = plan(own_recipe(line("errica2020_fair/diffpool", "protocol.folds=null")), compose, seeds=2)
    assert len(one.tasks) == 20 and one.tasks[0].seeds == (0, 1, 2) and one.tasks[10].seeds == (3, 4, 5)
    assert reproduce.epochs(one.tasks[0]) == 1000 * (3 + 2)
    config, chosen = one.tasks[0].config, {"optimizer.lr": 0.5, "model.hidden": 64}
    assert config.search is not None
    search = replace(config.search, chosen=chosen)
    final = replace(with_values(config, {**chosen, "seed": 2}), search=search)
    assert setting(plain(final)) == one.key


def timed(record: Record, planned: Planned, seconds: float, cpu: str = "this CPU", **changes: Any) -> Record:
    """A record of the first task of a line, with epochs of so many seconds on a machine."""
    made = replace(record, config={**plain(planned.tasks[0].config), **changes})
    made.time.epoch = seconds
    made.provenance.hardware = {"cpu": cpu, "cores_usable": 1, "gpus": []}
    return made


def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "cpu_model", lambda: "this CPU")
    monkeypatch.setattr(provenance, "usable_cores", lambda: 1)


def test_the_time_of_an_epoch_is_that_of_records_of_this_machine_or_else_of_another(
    record: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    this_machine(monkeypatch)
    (one,) = plan(own_recipe(line("bianchi2020_mincut/classification")), compose, seeds=1)

    def epoch(*records: Record) -> str:
        known = Clock(records).epoch(one.tasks[0].config)
        return reproduce.epoch_text(known) if known else "None"

    here = [timed(record(seed, 0.5), one, seconds) for seed, seconds in enumerate((2.0, 4.0, 2.0))]
    there = [timed(record(seed, 0.5), one, 8.0, "another CPU") for seed in range(4)]
    third = [timed(record(0, 0.5), one, 16.0, "a third CPU")]
    assert epoch(*here, *there) == "2.0 s an epoch"
    assert epoch(*third, *there) == "8.0 s an epoch on another CPU, 1 cores"
    other = timed(record(0, 0.5), one, 2.0, batch_size=7)
    part = timed(record(0, 0.5), one, 2.0, trainer={"accelerator": "cpu", "limit_train_batches": 2})
    assert epoch(other) == epoch(part) == epoch() == "None"


def test_a_plan_says_what_runs_took_and_take_and_what_time_it_does_not_know(
    record: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    this_machine(monkeypatch)
    recipe = own_recipe(line("bianchi2020_mincut/classification"), line("ying2018_diffpool/classification"))
    planned = plan(recipe, compose, seeds=2)
    known = timed(record(0, 0.5), planned[0], 2.0)
    elsewhere = timed(record(9, 0.5), planned[1], 3.0, "another CPU", seed=9)

    def text(*records: Record) -> list[str]:
        found = found_of(records)
        left = [(one, task) for one in planned for task in reproduce.to_do(one, found)]
        return reproduce.planned_text(recipe, planned, left, found, 1).splitlines()

    epochs = reproduce.epochs(planned[0].tasks[0])
    head, first, second, took, most = text(known)
    assert head == "own/table: 22 runs, 21 to do"
    assert first == f"  A, planted: 2 runs, 1 done in 1 s, 1 to do, 2.0 s an epoch, at most {duration(2 * epochs)}"
    assert second == "  A, planted: 20 runs, 20 to do, time unknown: no record of such a run (--quick leaves one)"
    assert took == "what is done took 1 s, one run after another"
    assert most.startswith(f"at most {duration(2 * epochs)} on 1 process, lines of unknown time not counted;")
    assert len(text()) == 3  # nothing is known: no time is made up
    *_, second, _, most = text(known, elsewhere)
    assert "20 to do, 3.0 s an epoch on another CPU, 1 cores, at most" in second
    assert ", by the clocks of other machines too;" in most and "unknown" not in most
    planned = [Planned(planned[0].line, planned[0].tasks[:1], planned[0].key)]
    assert text(known) == ["own/table: 1 run, 0 to do", "  A, planted: 1 run, done in 1 s",
                           "what is done took 1 s, one run after another"]  # fmt: skip


def test_what_says_where_to_run_is_taken_and_what_changes_the_run_is_not() -> None:
    recipe = own_recipe(line("bianchi2020_mincut/classification"))
    plain, gpu = (plan(recipe, compose, 1, extra=extra)[0] for extra in ((), ("trainer=gpu", "logger=csv")))
    assert gpu.key == plain.key and gpu.tasks[0].config.trainer.accelerator == "gpu"
    with pytest.raises(PoolBenchError, match=r"trainer.max_epochs=3 changes what is run"):
        plan(recipe, compose, 1, extra=["trainer.max_epochs=3"])


def test_only_names_lines_and_several_narrow_them() -> None:
    key = "k"
    planned = [Planned(line("e", method=m, dataset=d), (), key) for m in ("A", "B") for d in ("X", "Y")]
    assert [one.line.name for one in reproduce.wanted(planned, ["a"])] == ["A, X", "A, Y"]
    assert [one.line.name for one in reproduce.wanted(planned, ["A", "y"])] == ["A, Y"]
    with pytest.raises(PoolBenchError, match="--only C: no such"):
        reproduce.wanted(planned, ["C"])


# ------------------------------------------------------------------------------------------------ records and verdicts

Maker = Callable[..., Record]


def planned_for(record: Record, keys: Sequence[tuple[int, int | None]]) -> Planned:
    tasks = tuple(Task(small(seed=seed, fold=fold, split__seed=seed), (seed,)) for seed, fold in keys)
    return Planned(line("e", dataset=record.config["dataset"]["name"]), tasks, setting(record.config))


def found_of(records: Sequence[Record], links: Links | None = None) -> Found:
    """What is found where the installed version of the code is `abc`."""
    return Found(records, links or Links(), lambda config: "abc")


def same(record: Record) -> Counted:
    return Counted(record, "abc", "same")


def test_only_the_latest_attempts_of_the_same_setting_and_code_count(record: Maker) -> None:
    again = record(1, 0.9, attempt=2)
    records = [record(0, 0.7), record(1, None), again, record(2, 0.1, code="old"), record(0, 0.2, pool="topk"),
               record(0, 0.3, batch_size=1)]  # fmt: skip
    other_split = replace(record(0, 0.4), id="0" * 16)
    other_split.config["split"] = {"seed": 7}
    everything = found_of([*records, other_split])
    planned = planned_for(records[0], [(0, None), (1, None), (2, None)])
    found = everything.of(planned)
    assert everything.of_other_code(planned) == 1
    assert found[0, 0, None] == same(records[0]) and found[1, 1, None] == same(again) and found[2, 2, None] is None


def linked(record: Record, old: str, kind: Kind) -> Link:
    return Link(old=old, new="abc", kind=kind, covers=Covered.of(record.config), witnesses=(), machine="any",
                date="2026-01-01")  # fmt: skip


def test_linked_versions_of_the_code_count_and_close_ones_are_marked_and_done_again(record: Maker, facts: Path) -> None:
    made = ((0, 0.79, "abc"), (1, 0.81, "old"), (2, 0.80, "older"), (0, 0.1, "old"))
    records = [record(seed, score, dataset="X", split="s", code=code) for seed, score, code in made]
    links = Links([linked(records[0], "old", "same"), linked(records[0], "older", "close")])
    planned = planned_for(records[0], [(0, None), (1, None), (2, None)])
    found = found_of(records, links)
    assert found.of_other_code(planned) == 0
    assert [one and one.kind for one in found.of(planned).values()] == ["same", "same", "close"]
    assert [task.seeds for task in reproduce.to_do(planned, found)] == [(2,)]
    table = published_table("own", "table", facts)
    planned = Planned(line("e", method="A", dataset="X"), planned.tasks, planned.key)
    made = written(own_recipe(), table, compare(own_recipe(), table, [planned], found))
    assert made.rows[0][3] == "80.0 ± 1.0 (n = 3 seeds; 1 close)" and made.records[0]["close"] == 1
    assert "close: so many runs" in made.caption
    plain = written(own_recipe(), table, compare(own_recipe(), table, [planned], found_of(records)))
    assert plain.rows[0][3] == "79.0 (n = 1 seed; 2 missing)" and "close" not in plain.records[0]


def test_scores_are_one_a_split_and_what_is_missing_is_counted(record: Maker) -> None:
    made = (record(0, 0.7, sizes=(80, 20)), record(1, 0.9, sizes=(80, 20)), record(2, None))
    runs = {**{(seed, seed, None): same(one) for seed, one in enumerate(made)}, (3, 3, None): None}
    assert measured(runs, "accuracy") == Measured((0.7, 0.9), "splits", 2, 1)


def test_runs_of_one_split_are_seeds_and_runs_of_one_fold_are_averaged(record: Maker) -> None:
    seeds = {(s, s, None): same(record(s, 0.5 + s, split="same")) for s in (0, 1)}
    assert measured(seeds, "accuracy") == Measured((0.5, 1.5), "seeds", 0, 0)
    folds = {(0, s, 4): same(record(s, 0.5 + s, split="same", fold=4)) for s in (0, 1)}
    assert measured(folds, "accuracy", folds=True) == Measured((1.0,), "repeats", 0, 0)


def test_a_repeat_counts_when_all_its_folds_are_there(record: Maker) -> None:
    runs = {(s, s, f): same(record(s, 0.5 + s / 4 + f / 8, split=f"{s} {f}", fold=f)) for s in (0, 1) for f in (0, 1)}
    assert measured(runs, "accuracy", folds=True) == Measured((0.5625, 0.8125), "repeats", 0, 0)
    assert measured({**runs, (1, 1, 0): None}, "accuracy", folds=True) == Measured((0.5625,), "repeats", 1, 0)


def test_another_part_than_the_test_split(record: Maker) -> None:
    made = record(0, 0.7)
    made.metrics.train["loss"] = 0.25
    assert measured({(0, 0, None): same(made)}, "train/loss").scores == (0.25,)


@pytest.mark.parametrize(
    ("design", "std", "n", "side"),
    [
        (Design(folds=10), 3.0, 10, Side(0.73, None, 1)),  # the spread over folds is not that of their mean
        (Design(folds=10, repeats=10), 0.5, 10, Side(0.73, 0.005, 10)),
        (Design(runs=5), 2.0, None, Side(0.73, 0.02, 5)),
        (Design(runs=5), None, 3, Side(0.73, None, 3)),
        (Design(), 2.0, None, Side(0.73, 0.02, 1)),
    ],
)
def test_what_a_published_number_is_judged_by(design: Design, std: float | None, n: int | None, side: Side) -> None:
    value = Value("A", "X", "test accuracy", 73.0, std, n, "A", "somewhere")
    found = their_side(value, own_recipe(design=design))
    assert found.n == side.n and found.mean == pytest.approx(side.mean)
    assert found.std == (None if side.std is None else pytest.approx(side.std))


def test_what_can_be_decided_is_foreseen_and_what_an_open_verdict_lacks_is_said(record: Maker, facts: Path) -> None:
    table = published_table("own", "table", facts)

    def cell(scores: Sequence[float], recipe: Recipe, method: str = "A") -> comparison.Cell:
        records = [record(s, score, dataset="X", split="same") for s, score in enumerate(scores)]
        base = planned_for((records or [record(0, 0.5, dataset="X")])[0], [(s, None) for s in range(9)])
        one = Planned(line("e", method=method, dataset="X"), base.tasks, base.key if records else "none")
        return compare(recipe, table, [one], found_of(records))[0]

    none = cell([], own_recipe())
    assert (none.verdict, foreseen_text(none)) == ("no runs", "can be decided with 3 seeds of ours, 0 there")
    wide = cell((0.78, 0.84), own_recipe())
    assert wide.lacks == "ours" and wide.needed and verdict_text(wide) == f"open: takes {wide.needed} seeds of ours"
    near = cell([0.782 + 0.028 * z for z in (-1.5, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 1.5)], own_recipe())
    assert near.lacks == "near" and verdict_text(near) == "open: near the margin"
    theirs = cell((0.81, 0.82), own_recipe(), "D")
    assert theirs.lacks == "theirs" and verdict_text(theirs) == "open: theirs moves too much"
    assert foreseen_text(theirs) == "cannot be decided by runs of ours: theirs moves too much"
    folds = cell((0.7,), own_recipe(design=Design(folds=10)))
    assert foreseen_text(folds).startswith("can be decided with 5 repeats of ours, ")
    assert foreseen_text(cell((0.8, 0.81), own_recipe(), "C")) == "no verdict: unverified"
    assert comparison.decided_text([none, wide]) == "Decided: 0 of the 2 cells that can be."


FACTS = """
id: own
title: Own
authors: A. Author
venue: V
year: 2020
arxiv: '0000.00000'
tables:
  - id: table
    metric: test accuracy
    unit: percent
    datasets: [X, Y]
    protocol: {plus_minus: over seeds}
    rows:
      - {method: A, dataset: X, mean: 80.0, std: 0.5, n: 10, trust: A, source: s}
      - {method: B, dataset: X, mean: 60.0, std: 0.5, n: 10, trust: B, source: s}
      - {method: C, dataset: X, mean: 80.0, std: 0.5, n: 10, trust: D, source: s}
      - {method: D, dataset: X, mean: 80.0, std: 9.0, n: 10, trust: A, source: s}
"""


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "own.yaml").write_text(FACTS)
    return tmp_path / "facts"


def test_verdicts(record: Maker, facts: Path) -> None:
    scores = (0.798, 0.800, 0.802, 0.799, 0.801)
    records = [record(s, score, dataset="X", split="same") for s, score in enumerate(scores)]
    base = planned_for(records[0], [(s, None) for s in range(5)])
    table = published_table("own", "table", facts)

    def verdict(method: str, quick: bool = False, **changes: Any) -> str:
        made = line("e", method=method, dataset="X")
        one = Planned(Line(**{**vars(made), **changes}), base.tasks, base.key)
        (cell,) = compare(own_recipe(made), table, [one], found_of(records), quick)
        return cell.verdict

    assert verdict("A") == "agrees" and verdict("B") == "differs"
    assert verdict("C") == comparison.UNVERIFIED  # whatever the numbers are
    assert verdict("A", comparable=False) == comparison.OTHER_DATA
    assert verdict("new") == comparison.NOTHING
    assert verdict("A", quick=True) == comparison.QUICK
    one = Planned(line("e", dataset="X"), base.tasks, "another setting")
    assert compare(own_recipe(), table, [one], found_of(records))[0].verdict == comparison.NO_RUNS
    few = found_of(records[:1])  # one run shows nothing
    assert compare(own_recipe(), table, [base], few)[0].verdict == "open"


def test_the_table_shows_both_spreads_and_marks_what_is_unsure(record: Maker, facts: Path) -> None:
    records = [record(s, score, dataset="X", split="same") for s, score in enumerate((0.79, 0.81))]
    base = planned_for(records[0], [(0, None), (1, None), (2, None)])
    planned = [Planned(line("e", method=m, dataset="X"), base.tasks, base.key) for m in "ABC"]
    table = published_table("own", "table", facts)
    cells = compare(own_recipe(), table, planned, found_of(records))
    made = written(own_recipe(), table, cells)
    assert made.header == ("method", "dataset", "published", "reproduced", "difference (95% interval)", "verdict")
    ours = "80.0 ± 1.4 (n = 2 seeds; 1 missing)"
    assert [row[2:4] for row in made.rows] == [
        ("80.0 ± 0.5 (n = 10)", ours), ("60.0 ± 0.5 (n = 10)†", ours), ("80.0 ± 0.5 (n = 10) ?", ours)
    ]  # fmt: skip
    (first, *_) = made.records
    assert first["difference"] == pytest.approx(0.0) and first["n"] == 2 and first["missing"] == 1
    quick = written(own_recipe(), table, cells, quick=True)
    assert quick.name == "own_table-quick" != made.name and quick.title.startswith("QUICK RUN, no reproduction")


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def own_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: Path) -> Path:
    """A configuration folder with the recipe of FACTS, for runs on generated graphs."""
    monkeypatch.setattr("poolbench.papers.published.published_dir", lambda: facts)
    conf = tmp_path / "conf"
    for path, text in {
        "reproduce/own/table.yaml": """# The table of a test
experiment: own/experiment
metrics: {test accuracy: accuracy}
scale: 0.01
seeds: 2
quick: {seeds: 1, overrides: [trainer.max_epochs=1]}
datasets: {X: [dataset=planted, dataset.num_graphs=30]}
rows:
  - {method: A, overrides: [pool=topk]}
  - {method: B, overrides: [pool=none]}
left_out: {C: why not}
explained: [B is another thing]
""",
        "experiment/own/experiment.yaml": """# @package _global_
deviations:
  - what: >-
      One thing
      over two lines.
    reason: cost
""",
    }.items():
        (conf / path).parent.mkdir(parents=True)
        (conf / path).write_text(text)
    return conf


@pytest.fixture
def main(own_conf: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command with the folder of the test, and small runs; returns what it prints."""
    quick = ["trainer.max_epochs=2", "model.hidden=8", "callbacks.progress=none"]
    monkeypatch.setattr(command, "composer", lambda: lambda words, seeds: compose([*quick, *words], seeds))

    def main(*argv: str) -> str:
        assert cli.main(["reproduce", "--config-dir", str(own_conf), *argv]) == 0
        return capsys.readouterr().out

    return main


def test_the_command_does_what_is_missing_and_writes_the_table(main: Any, results: Path) -> None:
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in main("--list").splitlines()}
    assert lines["own/table"] == "The table of a test" and set(lines) == {"own/table", *recipes([CONF])}
    assert "own/table: 4 runs, 4 to do" in main("own/table", "--plan") and not list(results.glob("runs/*"))

    main("own/table", "--quick")
    assert len(list(results.glob("runs/*/1/record.json"))) == 2
    assert "own/table: 4 runs, 4 to do" in main("own/table", "--plan")  # what a quick run left is never taken
    assert "2 runs, 1 to do" in main("own/table", "--plan", "--only", "A", "--seeds", "1").replace(
        "1 run, 1", "2 runs, 1"
    )

    main("own/table", "--seeds", "1")
    assert "(n = 1 seed; 1 missing)" in main("own/table", "--table")
    assert "own/table: 4 runs, 2 to do" in main("own/table", "--plan")
    said = main("own/table")
    assert "own/table: 4 runs, 0 to do" in main("own/table", "--plan")
    assert len(list(results.glob("runs/*/1/record.json"))) == 2 + 4
    assert "| A | X | 80.0 ± 0.5 (n = 10) |" in said
    text = (results / "tables" / "own_table.md").read_text()
    assert "- One thing over two lines. (cost)\n" in text and "C: why not" in text
    assert (results / "tables" / "own_table.tex").read_text().count("tabular") == 2
    with open(results / "tables" / "own_table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["quick"], row["n"]) for row in rows] == [("A", "False", "2"), ("B", "False", "2")]

    summary = (results / "tables" / "SUMMARY.md").read_text()
    verdicts = [row["verdict"] for row in rows]
    (listed,) = [each for each in summary.splitlines() if each.startswith("| [own/table](own_table.md) |")]
    assert f"| {verdicts.count('agrees')} | {verdicts.count('differs')} | {verdicts.count('open')}" in listed
    assert "\n- own/table: nothing yet: too few cells are judged.\n" in summary
    assert "Of the differences:\n\n- B is another thing\n" in text


def test_what_a_plan_counts_is_what_is_run(
    main: Any, own_conf: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main("own/table")
    monkeypatch.setenv("POOLBENCH_CONFIG", str(own_conf))
    quick = ["trainer.max_epochs=2", "model.hidden=8", "callbacks.progress=none", f"paths.results={results}"]
    planned = plan(read_recipe([own_conf], "own/table"), lambda words, seeds: compose([*quick, *words], seeds))
    found = [at_once(task.config) for one in planned for task in one.tasks]
    assert {record and record.id for record in found} == {path.name for path in results.glob("runs/*")}
    assert not [task for one in planned for task in reproduce.to_do(one, reproduce.found_of(planned, results))]
    others = reproduce.found_of(planned[:1], results)  # records of other operators are not looked at
    assert {record.config["pool"]["_target_"] for record in others.all} == {"poolbench.pool.topk.TopKPool"}


def test_a_plan_runs_nothing_and_loads_no_torch(results: Path) -> None:
    code = """
import sys
from poolbench.cli import main
code = main(["reproduce", "bianchi2020_mincut/clustering", "--plan"])
assert not (found := {"torch", "pytorch_lightning", "scipy.stats", "pandas", "optuna"} & {*sys.modules}), found
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head == "bianchi2020_mincut/clustering: 40 runs, 40 to do" and len(lines) == 9 and not results.exists()
    assert all(line.endswith("time unknown: no record of such a run (--quick leaves one)") for line in lines[:8:2])
    assert all(line.startswith("    can") and " be decided " in line for line in lines[1:8:2])
    assert lines[8] == "3 of 4 cells can be decided"


def test_two_processes_do_the_runs(main: Any) -> None:
    assert "2 of 2: 2 done" in main("own/table", "--quick", "--jobs", "2")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "give one PAPER/TABLE"),
        (["a/b", "--list"], "give one PAPER/TABLE"),
        (["a/b", "c/d"], "give one PAPER/TABLE"),
        (["a/b", "--jobs", "0"], "'--jobs': 0 is not in the range x>=1"),
        (["a/b", "--sedes", "3"], "has no option --sedes (did you mean --seeds?)"),
        (["a/b", "--seeds", "x"], "'x' is not a valid integer"),
    ],
)
def test_a_wrong_command_line_is_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", *argv]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_summary_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolBenchError, match="holds no table"):
        write_summary(tmp_path, [CONF])
