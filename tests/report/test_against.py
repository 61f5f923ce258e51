"""What is compared with an operator, by graphs and by whole runs; what the tables and sentences say of it."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from poolbench import cli
from poolbench.errors import PoolBenchError
from poolbench.records.counting import Counted
from poolbench.records.outcomes import pack
from poolbench.records.record import Record, write_record
from poolbench.report import against, comparing, leaderboard, statements
from poolbench.report.answers import answers
from poolbench.report.comparing import Compared, Pair
from poolbench.report.evidence import Evidence
from poolbench.statistics import compare
from poolbench.statistics.families import Difference

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
    ((_, found),) = comparing.all_compared(boards, operator)
    return {(pair.column.dataset, pair.row.pool): pair for one in found for pair in one.pairs.values()}


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
    assert pair.found.graphs == 6 * GRAPHS and not comparing.real(pair.column)


def test_over_datasets_takes_real_sets_alone(record: Maker) -> None:
    names = ("MUTAG", "PROTEINS", "NCI1", "ENZYMES")
    records = [r for name in (*names, "CEXP-WL1") for r in runs(record, RATES, name)]
    boards = leaderboard.boards(Counted(made, "abc", "same") for made in records)
    by_dataset, lines, over = against.tables(comparing.all_compared(boards, "none"))
    assert len(by_dataset.rows) == 15
    rows = {row[0]: row for row in over.rows}
    assert rows["mincut"][1] == "4" and rows["mincut"][5:7] == ("better", "better")
    assert rows["topk"][5] == "worse" and list(rows) == ["mincut", "sag", "topk"]
    (record_of_topk,) = (r for r in over.records if r["pool"] == "topk")
    assert record_of_topk["worse_1_prior_2"] > 0.95 > record_of_topk["better_1_prior_2"]
    assert [row[0] for row in lines.rows] == list(rows) and lines.rows[0][1] == "better"
    three = [r for r in records if r.config["names"]["dataset"] in names[:2]]
    boards = leaderboard.boards(Counted(made, "abc", "same") for made in three)
    assert len(against.tables(comparing.all_compared(boards, "none"))) == 1


def cost(record: Record, part: float) -> Record:
    """The record of a run of so many seconds an epoch and times 100 MB."""
    return replace(record, time=replace(record.time, epoch=part, epoch_cpu=part), memory_peak=int(part * 1e8))


def test_a_line_an_operator_says_where_and_at_what_cost(record: Maker) -> None:
    """topk harms on three of four sets; mincut costs three times as much."""
    records = []
    for number, name in enumerate(("MUTAG", "PROTEINS", "NCI1", "ENZYMES")):
        rates = {"none": 0.0, "mincut": 0.5, "topk": 0.1 if number == 0 else -0.3, "random-dense": 0.1}
        records += [cost(r, 0.3 if r.config["names"]["pool"] == "mincut" else 0.1) for r in runs(record, rates, name)]
    (board,) = leaderboard.boards(Counted(made, "abc", "same") for made in records)
    (one,) = comparing.compared(board, "none")
    by = {row[0]: dict(zip(statements.table(board, one, "x").header, row, strict=True))
          for row in statements.table(board, one, "x").rows}  # fmt: skip
    assert list(by) == ["mincut", "random-dense (control)", "topk"]
    assert (by["mincut"]["better on"], by["mincut"]["time"], by["mincut"]["memory"]) == (
        "ENZYMES, MUTAG, NCI1, PROTEINS", "3 x", "3 x"
    )  # fmt: skip
    assert by["topk"]["worse on"] == "ENZYMES, NCI1, PROTEINS" and by["topk"]["time"] == "1 x"
    for line in by.values():
        assert (line["datasets that would decide"] == "–") == (line["over datasets, within 2 points"] != "undecided")
    said = statements.sentences(board, one)
    assert said[0].startswith("Over 4 real datasets") and said[1].startswith("Better than none: mincut (+")
    every = {each.row.pool: each.decision for each in statements.statements(board, one)}
    words = {"better": "Better", "worse": "Worse", "equivalent": "Equivalent", "undecided": "Undecided"}
    for pool, decision in every.items():
        (sentence,) = (one_said for one_said in said if one_said.startswith(words[decision]))
        assert pool in sentence


def test_many_operators_that_are_open_are_counted(record: Maker) -> None:
    rng = np.random.default_rng(0)
    made = [
        record(seed, 0.7 + float(rng.normal(0, 0.05)), pool, dataset)
        for dataset in ("MUTAG", "PROTEINS", "NCI1", "ENZYMES")
        for pool in ("none", *(f"own{number}" for number in range(9)))
        for seed in range(8)
    ]
    (board,) = leaderboard.boards(Counted(one, "abc", "same") for one in made)
    (one,) = comparing.compared(board, "none")
    said = statements.sentences(board, one)
    assert len(said) == 2 and said[1].startswith("Undecided: 9 operators, with mean gains from ")
    few = [r for r in made if r.config["seed"] < 3]
    (board,) = leaderboard.boards(Counted(one, "abc", "same") for one in few)
    (column, *_) = board.columns
    assert answers(Evidence(board), column) == [
        "Cannot tell for 9 operators (too few runs: 3 splits of both, 5 are the least)."
    ]


def test_how_many_repeats_would_decide_is_said_where_repeats_tell(record: Maker) -> None:
    """1,000 graphs in three repeats; of the squared error of .010 the graphs have 3 parts of 10, repeats the rest."""
    some = compared(runs(record, {"none": 0.0, "mincut": 0.1}))["MUTAG", "mincut"]

    def pair(difference: float, by_graph: float | None = (0.3e-4 * 1000) ** 0.5, observations: int = 3000) -> Pair:
        ends = {"joint_low": difference - 0.025, "joint_high": difference + 0.025}
        found = Difference(difference, 1000, 30, observations, error=0.01, freedom=1e6, by_graph=by_graph, **ends)
        return dataclasses.replace(some, found=found)

    def repeats(error: float) -> float:
        return 3 * 0.7e-4 / (error**2 - 0.3e-4)

    told_from_0, small = repeats(0.024 / (2.5 + 0.8416)), repeats((0.02 - 0.004) / (1.6449 + 0.8416))
    assert pair(0.024).repeats == pytest.approx(told_from_0, rel=1e-3)
    assert pair(0.004).repeats == pytest.approx(small, rel=1e-3)
    assert (pair(0.024).wanted, pair(0.004).wanted) == ("10 repeats", "19 repeats")
    assert pair(0.01).repeats == math.inf and pair(0.01).wanted == "more graphs"
    assert pair(0.01, None, 1000).repeats is None and pair(0.01, None, 1000).wanted == "–"
    assert pair(0.03).verdict == "better" and pair(0.03).wanted == "–"


def test_no_number_is_beyond_what_can_be(record: Maker) -> None:
    wild = [row for r in against.tables(comparing.all_compared(leaderboard.boards(
        Counted(made, "abc", "same") for made in runs(record, {"none": 0.0, "mincut": 1.0}, folds=5)), "none"))
        for row in r.rows]  # fmt: skip
    for text in wild[0][2:6]:
        assert all(-100 <= float(part) <= 100 for part in text.split(" to "))


def scored(record: Maker, gain: float, noise: float = 0.02, n: int = 10, **options: Any) -> list[Record]:
    """Runs of none and of mincut that hold no answers to single graphs."""
    rng = np.random.default_rng(0)
    base, extra = rng.normal(0.7, 0.05, n), rng.normal(0, noise, n)
    made = [record(s, float(base[s]), "none", **options) for s in range(n)]
    return made + [record(s, float(base[s] + gain + extra[s]), "mincut", **options) for s in range(n)]


def one_of(records: list[Record]) -> tuple[Evidence, Compared]:
    (board,) = leaderboard.boards(Counted(made, "abc", "same") for made in records)
    (found,) = Evidence(board).compared
    return Evidence(board), found


def test_runs_without_answers_are_compared_by_their_scores(record: Maker) -> None:
    made = scored(record, 0.1)
    evidence, one = one_of(made)
    (pair,) = one.pairs.values()
    alone = compare(
        [r.metrics.test["accuracy"] for r in made[10:]], [r.metrics.test["accuracy"] for r in made[:10]], 1 / 8
    )
    assert (pair.by, pair.counted, pair.verdict) == ("runs", "10 splits", "better") and pair.resampled == alone
    assert (pair.found.joint_low, pair.found.joint_high, pair.found.p) == pytest.approx(
        (alone.low, alone.high, alone.p)
    )
    (table,) = against.of_board(evidence.board, [one])
    assert "By runs" in table.caption and "MUTAG (some of its runs have no answers to single graphs)" in table.caption
    assert "Dunnett" not in table.caption and table.rows[0][8:10] == ("runs", "10 splits")


def test_one_run_without_answers_makes_its_dataset_one_of_whole_runs(record: Maker) -> None:
    records = [*runs(record, RATES), *runs(record, RATES, "NCI1")]
    lacking = [replace(r, outcomes=None) if i == 12 else r for i, r in enumerate(records)]
    found = compared(lacking)
    assert {pair.by for (name, _), pair in found.items() if name == "MUTAG"} == {"runs"}
    assert {pair.by for (name, _), pair in found.items() if name == "NCI1"} == {"graphs"}
    (table, *_) = against.tables(comparing.all_compared(
        leaderboard.boards(Counted(r, "abc", "same") for r in lacking), "none"))  # fmt: skip
    assert "By graphs" in table.caption and "So it is for MUTAG (" in table.caption


def test_a_metric_that_is_no_mean_over_graphs_is_compared_by_runs(record: Maker) -> None:
    made = runs(record, {"none": 0.0, "mincut": 0.5})
    for each in made:
        value = each.metrics.test["accuracy"]
        each.metrics = replace(each.metrics, test={"rocauc": value})
        each.diagnostics["metric"] = {"name": "rocauc", "mode": "max"}
    _, one = one_of(made)
    assert [pair.by for pair in one.pairs.values()] == ["runs"]
    assert list(one.whole.values()) == ["rocauc is no mean over graphs"]


def test_less_is_better_where_the_metric_says_so(record: Maker) -> None:
    evidence, one = one_of(scored(record, 0.1, metric=("rmse", "min")))
    (pair,) = one.pairs.values()
    assert pair.verdict == "worse" and pair.words == f"worse by {pair.found.difference:.3g} rmse" and pair.gain < 0
    (table,) = against.of_board(evidence.board, [one])
    assert table.rows[0][2] == f"+{pair.found.difference:.3g} rmse" and "in the metric that is named" in table.caption


@pytest.mark.parametrize(
    ("n", "noise", "words"),
    [
        (1, 0.02, "too few runs: 1 split of both, 5 are the least"),
        (4, 0.02, "too few runs: 4 splits of both, 5 are the least"),
        (5, 0.0, "all differences are the same"),
        (6, 0.1, "undecided: "),
        (5, 9.0, "undecided: no difference could have been shown"),
    ],
)
def test_words_for_what_was_not_found(record: Maker, n: int, noise: float, words: str) -> None:
    evidence, one = one_of(scored(record, 0.0 if noise > 1 else 0.05, noise, n))
    (pair,) = one.pairs.values()
    assert pair.words.startswith(words)
    (table,) = against.of_board(evidence.board, [one])
    if n < 5:
        assert table.rows[0][3:8] == ("–",) * 5, "no p beside too few runs"


def test_runs_that_share_no_split_are_not_compared(record: Maker) -> None:
    boards = leaderboard.boards(Counted(r, "abc", "same") for r in (record(0, 0.7, "none"), record(1, 0.8)))
    assert comparing.compared(boards[0], "none") == []
    with pytest.raises(PoolBenchError, match="no other operator with the same settings has a number for a split"):
        comparing.all_compared(boards, "none")
    with pytest.raises(PoolBenchError, match=r"no such pool .did you mean none"):
        comparing.all_compared(boards, "nonne")


def test_only_the_same_settings_are_compared(record: Maker) -> None:
    made = scored(record, 0.1) + [record(s, 0.9 - s / 100, "mincut", batch_size=64) for s in range(10)]
    _, one = one_of(made)
    assert [row.label for row in one.rows] == ["mincut"]
    made += [record(s, 0.5 + s / 50, "none", batch_size=64) for s in range(10)]
    (board,) = leaderboard.boards(Counted(r, "abc", "same") for r in made)
    assert len(Evidence(board).compared) == 2 and len(Evidence(board).pairs) == 2


def test_weights_of_a_pools_losses_do_not_part_it_from_the_baseline(record: Maker) -> None:
    made = scored(record, 0.1)
    for each in made[10:]:
        each.config["loss_weights"] = 0.5
    assert len(one_of(made)[1].pairs) == 1


def test_the_answer_for_a_dataset(record: Maker) -> None:
    def answer(records: list[Record]) -> str:
        evidence, _ = one_of(records)
        (text,) = answers(evidence, evidence.board.columns[0])
        return text

    text = answer(scored(record, 0.1))
    assert text.startswith("Yes: mincut is better than none by ") and text.endswith("p < 0.001, 10 splits).")
    assert answer(scored(record, -0.1)).startswith("No: mincut is worse than none by ")
    text = answer(scored(record, 0.0, 0.1))
    assert text.startswith("Not shown: undecided for mincut (p = ") and "10 splits could have shown " in text
    assert (
        answer(scored(record, 0.1, n=3)) == "Cannot tell for mincut (too few runs: 3 splits of both, 5 are the least)."
    )
    found = answer(runs(record, RATES))
    assert "mincut is better than none by " in found and "sag is equivalent to none, within 2 points" in found
    assert f"{GRAPHS} graphs, {FOLDS} trainings" in found


def test_controls_are_no_answer(record: Maker) -> None:
    made = scored(record, 0.1)
    for each in made[10:]:
        each.config["names"]["pool"] = "random-dense"
    evidence, one = one_of(made)
    assert [pair.verdict for pair in one.pairs.values()] == ["better"]
    assert answers(evidence, evidence.board.columns[0])[0].startswith("Cannot tell: there are no runs of a pooling")


def test_boards_have_tables_of_their_own_names(record: Maker) -> None:
    made = [*scored(record, 0.1), *scored(record, 0.1, protocol="other")]
    boards = leaderboard.boards(Counted(r, "abc", "same") for r in made)
    names = [table.name for table in against.tables(comparing.all_compared(boards, "none"))]
    assert names == ["holdout-against-none", "other-against-none"]


def test_the_command(record: Maker, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for made in runs(record, RATES):
        write_record(results / "runs" / f"{made.id}-{made.config['fold']}" / "1", made)
    assert cli.main(["report", "--against", "none"]) == 0
    assert "### Against none, cv10" in capsys.readouterr().out
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
    sheets = against.tables(
        comparing.all_compared(leaderboard.boards(Counted(m, "abc", "same") for m in records), "none")
    )
    assert len(sheets) == 2
    for table in sheets:
        assert [row[1] for row in table.rows] == ["mincut", "sag", "topk"]
    assert any("max_epochs=3" in table.title for table in sheets)


def test_the_table_for_programs_has_every_number(record: Maker) -> None:
    boards = leaderboard.boards(Counted(made, "abc", "same") for made in runs(record, RATES))
    (table,) = against.tables(comparing.all_compared(boards, "none"))
    rows = list(csv.DictReader(io.StringIO(table.written("csv"))))
    assert {row["pool"] for row in rows} == {"mincut", "topk", "sag"}
    for row in rows:
        low, high = float(row["joint_low"]), float(row["joint_high"])
        assert low <= float(row["low"]) <= float(row["difference"]) <= float(row["high"]) <= high
