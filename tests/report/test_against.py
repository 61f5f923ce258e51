"""`poolbench report --against`: which runs are compared, what the tables say, and the line for what cannot be."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from poolbench import cli
from poolbench.errors import PoolBenchError
from poolbench.records.counting import Counted
from poolbench.records.outcomes import pack
from poolbench.records.record import Record, write_record
from poolbench.report import against, leaderboard
from poolbench.report.against import Pair

Maker = Callable[..., Record]
GRAPHS, FOLDS = 200, 10


def answered(record: Record, graphs: np.ndarray, right: np.ndarray) -> Record:
    """The record of a run that answered so."""
    metrics = replace(record.metrics, test={"accuracy": float(right.mean())})
    return replace(record, outcomes=pack(graphs, right.astype(int), right, GRAPHS), metrics=metrics)


def runs(record: Maker, rates: Mapping[str, float], dataset: str = "MUTAG", folds: int = FOLDS) -> list[Record]:
    """A cross-validation of each pool, with the rate at which it is right where `none`, at .7, is not."""
    generator = np.random.default_rng(len(dataset))
    base, made = generator.random(GRAPHS) < 0.7, []
    for pool, gain in rates.items():
        other = generator.random(GRAPHS) < abs(gain)
        right = base | other if gain > 0 else base & ~other
        for fold in range(folds):
            tested = np.arange(fold, GRAPHS, folds)
            made.append(answered(record(0, 0.5, pool, dataset, protocol="cv10", fold=fold), tested, right[tested]))
    return made


def compared(records: list[Record], operator: str = "none") -> dict[tuple[str, str], Pair]:
    """By dataset and pool."""
    boards = leaderboard.boards(Counted(made, "abc", "same") for made in records)
    ((_, groups),) = against.groups(boards, operator)
    return {(pair.column.dataset, pair.row.pool): pair for group in groups for pair in group.pairs}


RATES = {"none": 0.0, "mincut": 0.5, "topk": -0.3, "sag": 0.03}


def test_what_is_better_worse_and_neither(record: Maker) -> None:
    found = compared(runs(record, RATES))
    verdicts = {pool: pair.verdict for (_, pool), pair in found.items()}
    assert verdicts == {"mincut": "better", "topk": "worse", "sag": "equivalent"}
    pair = found["MUTAG", "mincut"]
    assert pair.words == f"better by {100 * pair.found.difference:.1f} points"
    assert (pair.found.graphs, pair.found.trainings) == (GRAPHS, FOLDS)
    means = [made.metrics.test["accuracy"] for made in runs(record, {k: RATES[k] for k in ("none", "mincut")})]
    assert pair.found.difference == pytest.approx(np.mean(means[FOLDS:]) - np.mean(means[:FOLDS]), abs=1e-12)
    assert pair.resampled is not None and pair.resampled.difference == pytest.approx(pair.found.difference)


def test_any_operator_can_be_compared_with(record: Maker) -> None:
    records = runs(record, RATES)
    one, other = compared(records)["MUTAG", "mincut"], compared(records, "mincut")["MUTAG", "none"]
    assert other.found.difference == pytest.approx(-one.found.difference)
    assert other.verdict == "worse" and ("MUTAG", "topk") in compared(records, "mincut")


def test_trainings_that_one_lacks_are_left_out(record: Maker) -> None:
    records = runs(record, RATES)
    lacking = [r for r in records if not (r.config["names"]["pool"] == "mincut" and r.config["fold"] in (0, 1))]
    found = compared(lacking)
    assert found["MUTAG", "mincut"].found.trainings == 8 and found["MUTAG", "topk"].found.trainings == FOLDS


def test_too_few_runs_decide_nothing(record: Maker) -> None:
    found = compared(runs(record, RATES, folds=4))
    assert {pair.verdict for pair in found.values()} == {"too few runs"}
    assert found["MUTAG", "mincut"].words == "too few runs: 4 trainings of both, 5 are the least"
    same = compared(runs(record, {"none": 0.0, "sag": 1e-9}))["MUTAG", "sag"]
    assert same.words == "every answer is the same as the baseline's"


def test_draws_are_other_graphs(record: Maker) -> None:
    """The first graph of one draw and the first of another are two graphs."""
    generator, made = np.random.default_rng(0), []
    for pool in ("none", "mincut"):
        for seed in range(6):
            one = record(seed, 0.5, pool, "csbm")
            config = {**one.config, "dataset": {"name": "csbm", "seed": seed}}
            one = replace(one, config=config, splits=replace(one.splits, dataset=f"{seed:064d}"))
            made.append(answered(one, np.arange(GRAPHS), generator.random(GRAPHS) < 0.7))
    pair = compared(made)["csbm", "mincut"]
    assert pair.found.graphs == 6 * GRAPHS and not against.real(pair.column)


def test_over_datasets_takes_real_sets_alone(record: Maker) -> None:
    names = ("MUTAG", "PROTEINS", "NCI1", "ENZYMES")
    records = [r for name in (*names, "CEXP-WL1") for r in runs(record, RATES, name)]
    boards = leaderboard.boards(Counted(made, "abc", "same") for made in records)
    by_dataset, over = against.tables(against.groups(boards, "none"))
    assert len(by_dataset.rows) == 15
    rows = {row[0]: row for row in over.rows}
    assert rows["mincut"][1] == "4" and rows["mincut"][5:7] == ("better", "better")
    assert rows["topk"][5] == "worse" and list(rows) == ["mincut", "sag", "topk"]
    (record_of_topk,) = (r for r in over.records if r["pool"] == "topk")
    assert record_of_topk["worse_1_prior_2"] > 0.95 > record_of_topk["better_1_prior_2"]
    three = [r for r in records if r.config["names"]["dataset"] in names[:2]]
    boards = leaderboard.boards(Counted(made, "abc", "same") for made in three)
    assert len(against.tables(against.groups(boards, "none"))) == 1


def test_no_number_is_beyond_what_can_be(record: Maker) -> None:
    wild = [row for r in against.tables(against.groups(leaderboard.boards(
        Counted(made, "abc", "same") for made in runs(record, {"none": 0.0, "mincut": 1.0}, folds=5)), "none"))
        for row in r.rows]  # fmt: skip
    for text in wild[0][2:6]:
        assert all(-100 <= float(part) <= 100 for part in text.split(" to "))


def test_runs_without_answers_are_said(record: Maker) -> None:
    boards = leaderboard.boards(Counted(record(s, 0.7, p), "abc", "same") for s in range(6) for p in ("none", "mincut"))
    with pytest.raises(PoolBenchError, match="no other operator with the same settings has the answers"):
        against.groups(boards, "none")
    with pytest.raises(PoolBenchError, match=r"no such pool .did you mean none"):
        against.groups(boards, "nonne")


def test_the_command(record: Maker, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for made in runs(record, RATES):
        write_record(results / "runs" / f"{made.id}-{made.config['fold']}" / "1", made)
    assert cli.main(["report", "--against", "none"]) == 0
    assert "Graph by graph against none" in capsys.readouterr().out
    assert cli.main(["report", "--against", "none", "--out", str(results / "out")]) == 0
    assert (results / "out" / "tables" / "against-none.csv").exists()
    capsys.readouterr()
    assert cli.main(["report", "--against", "none", "--curve", "pool.ratio"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_options_that_all_have_stand_in_the_title_alone(record: Maker) -> None:
    records = runs(record, RATES)
    for made in runs(record, RATES):
        trained = {"max_epochs": 3, "limits": [1, 2]}
        records.append(replace(made, id="3" + made.id[1:], config=made.config | {"trainer": trained}))
    sheets = against.tables(against.groups(leaderboard.boards(Counted(m, "abc", "same") for m in records), "none"))
    assert len(sheets) == 2
    for table in sheets:
        assert [row[1] for row in table.rows] == ["mincut", "sag", "topk"]
    assert any("max_epochs=3" in table.title for table in sheets)


def test_the_table_for_programs_has_every_number(record: Maker) -> None:
    boards = leaderboard.boards(Counted(made, "abc", "same") for made in runs(record, RATES))
    (table,) = against.tables(against.groups(boards, "none"))
    rows = list(csv.DictReader(io.StringIO(table.written("csv"))))
    assert {row["pool"] for row in rows} == {"mincut", "topk", "sag"}
    for row in rows:
        low, high = float(row["joint_low"]), float(row["joint_high"])
        assert low <= float(row["low"]) <= float(row["difference"]) <= float(row["high"]) <= high
