"""What a leaderboard says: cells that mix nothing, failures in sight, comparisons that are paired, words that fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from poolbench import statistics
from poolbench.records.counting import Counted
from poolbench.records.record import Record, Time
from poolbench.report import leaderboard
from poolbench.report.board import Board, Metric, epoch_seconds, points
from poolbench.report.comparing import compared
from poolbench.report.tables import ranks
from poolbench.statistics import Estimate

Maker = Callable[..., Record]
Records = list[Record]


def boards(records: Records) -> list[Board]:
    return leaderboard.boards(Counted(made, "abc", "same") for made in records)


def one(records: Records) -> Board:
    (board,) = boards(records)
    return board


def summary(board: Board) -> dict[tuple[str, str], tuple[Any, list[str]]]:
    """(mean, what is without a number) by label and dataset."""
    return {
        (row.label, column.dataset): (cell.estimate and round(cell.estimate.mean, 6), cell.lost)
        for (row, column), cell in board.cells.items()
    }


# -------------------------------------------------------------------------------------------------------------- cells


def test_failed_and_missing_runs_are_counted_and_in_no_mean(record: Maker) -> None:
    board = one([
        record(0, 0.7), record(1, 0.9), record(2, None), record(3, float("nan")),
        record(0, None, "topk"), record(4, 0.6, "topk"), record(0, 0.5, "none", "PROTEINS"),
    ])  # fmt: skip
    assert summary(board) == {
        ("mincut", "MUTAG"): (0.8, ["2 failed", "1 missing"]),
        ("topk", "MUTAG"): (0.6, ["1 failed", "3 missing"]),
        ("none", "MUTAG"): (None, ["5 missing"]),
        ("mincut", "PROTEINS"): (None, ["1 missing"]),
        ("topk", "PROTEINS"): (None, ["1 missing"]),
        ("none", "PROTEINS"): (0.5, []),
    }


def test_what_differs_in_more_than_seeds_is_not_mixed(record: Maker) -> None:
    board = one([record(0, 0.7), record(1, 0.9), record(0, 0.1, batch_size=64), record(0, 0.3, dataset_x=1)])
    assert {label: mean for (label, _), (mean, _) in summary(board).items()} == {
        "mincut": 0.8, "mincut (batch_size=64)": 0.1, "mincut (dataset_x=1)": 0.3
    }  # fmt: skip


def test_settings_are_told_apart_by_what_differs(record: Maker) -> None:
    made = [record(0, 0.7, "none"), record(0, 0.7), record(1, 0.8)]
    for number, ratio in ((1, 0.25), (2, 0.5)):
        made[number].config["pool"]["ratio"] = ratio
    assert [row.label for row in one(made).rows] == ["mincut (pool.ratio=0.25)", "mincut (pool.ratio=0.5)", "none"]


def test_other_options_or_contents_of_a_dataset_are_other_columns(record: Maker) -> None:
    plain, cleaned, other = record(0, 0.7), record(1, 0.8), record(2, 0.9)
    cleaned.config["dataset"] = {"name": "MUTAG", "deduplicate": True}
    other.splits.dataset = "0" * 64
    assert {c.dataset for c in one([plain, cleaned]).columns} == {"MUTAG", "MUTAG (deduplicate=true)"}
    assert {c.dataset for c in one([plain, other]).columns} == {"MUTAG (data=ffffffff)", "MUTAG (data=00000000)"}


def drawn(record: Maker, seed: int, score: float, pool: str = "mincut", **changed: Any) -> Record:
    """Of a dataset that is another draw for each seed."""
    made = record(seed, score, pool, "csbm", dataset_x=0)
    made.config["dataset"] = {"name": "csbm", "lam": 1.5, "seed": seed}
    made.splits.dataset = f"{seed}" * 64
    made.provenance.data.update(
        {"kind": "generated", "where": f"poolbench csbm 1, seed {seed}", "sha256": None}, **changed
    )
    return made


def test_draws_of_a_dataset_are_one_column_and_independent(record: Maker) -> None:
    made = [drawn(record, seed, score, pool) for seed, score in enumerate((0.7, 0.8, 0.9))
            for pool in ("mincut", "none")]  # fmt: skip
    board = one(made)
    (column,) = board.columns
    assert (column.dataset, column.unit) == ("csbm", "draws")
    # no variance is corrected for shared training graphs: there are none
    assert all(cell.test_over_train == 0 and len(cell.scores) == 3 for cell in board.cells.values())


def test_another_generator_or_other_files_are_another_column(record: Maker) -> None:
    newer = drawn(record, 1, 0.8, where="poolbench csbm 2, seed 1")
    assert {c.dataset for c in one([drawn(record, 0, 0.7), newer]).columns} == {
        "csbm (data=poolbench csbm 1)", "csbm (data=poolbench csbm 2)",
    }  # fmt: skip
    files = [drawn(record, seed, 0.7, kind=kind, where=kind, files_sha256=f"{seed // 2}" * 64)
             for seed, kind in enumerate(("mirror", "host", "cache"))]  # fmt: skip
    assert {c.dataset for c in one(files).columns} == {"csbm (data=00000000)", "csbm (data=11111111)"}


def test_the_splits_of_a_draw_are_one_unit(record: Maker) -> None:
    made = [drawn(record, 0, 0.7), drawn(record, 1, 0.8), drawn(record, 1, 0.9)]
    made[2].config["seed"], made[2].splits.hash = 2, "another"
    (cell,) = one(made).cells.values()
    assert one(made).columns[0].unit == "draws" and cell.test_over_train == 0
    assert list(cell.scores.values()) == pytest.approx([0.7, 0.85])


def test_splits_of_one_draw_alone_share_graphs(record: Maker) -> None:
    made = [drawn(record, 0, score) for score in (0.7, 0.8)]
    made[1].config["seed"], made[1].splits.hash = 1, "another"
    (cell,) = one(made).cells.values()
    assert one(made).columns[0].unit == "splits" and cell.test_over_train == 1 / 8 and len(cell.scores) == 2


def test_protocols_are_boards_of_their_own(record: Maker) -> None:
    other = record(1, 0.8)
    other.config["protocol"] = {"_target_": "holdout", "test": 0.2}
    again = record(2, 0.8)
    again.splits.version = 2
    found = boards([record(0, 0.7), other, again, record(0, 0.9, protocol="cv10", fold=0)])
    assert [(b.protocol, b.slug) for b in found] == [
        ("cv10 (version 1)", "cv10"), ("holdout (version 1)", "holdout"),
        ("holdout (version 1), test=0.2", "holdout-test-0-2"), ("holdout (version 2)", "holdout-v2"),
    ]  # fmt: skip


def test_time_and_memory_are_apart_by_hardware(record: Maker) -> None:
    gpu = {"cpu": "x", "gpus": ["H100"]}
    board = one([
        record(0, 0.7, epoch=1.0), record(1, 0.7, epoch=3.0),
        record(2, 0.7, epoch=0.1, hardware=gpu, trainer={"accelerator": "gpu"}),
        record(3, 0.7, epoch=2.0, hardware=gpu),
    ])  # fmt: skip
    (cell,) = board.cells.values()
    assert {gauge: (cost.epoch, cost.n) for gauge, cost in cell.costs.items()} == {
        ("H100", "allocator"): (0.1, 1), ("Some CPU, 4 cores", "process"): (2.0, 2), ("x", "process"): (2.0, 1)
    }  # fmt: skip
    assert [gauge.hardware for gauge in board.gauges] == ["H100", "Some CPU, 4 cores", "x"]


def test_two_measures_of_memory_are_never_mixed(record: Maker) -> None:
    old, new = record(0, 0.7, epoch=1.0), record(1, 0.7, epoch=3.0)
    new = replace(new, memory_peak=2_000_000, diagnostics={**new.diagnostics, "memory": "tensors"})
    board = one([old, new])
    (cell,) = board.cells.values()
    assert {gauge.memory: (cost.memory, cost.n) for gauge, cost in cell.costs.items()} == {
        "process": (100_000_000, 1), "tensors": (2_000_000, 1)
    }  # fmt: skip


def test_a_run_that_nothing_was_measured_of_costs_nothing(record: Maker) -> None:
    kernel = record(0, 0.7)
    kernel = replace(kernel, memory_peak=None, time=Time(epoch=None, epoch_cpu=None, total=1.0))
    assert one([kernel]).gauges == []


# -------------------------------------------------------------------------------------------------------------- units


def test_a_fold_is_a_unit_with_the_ratio_of_its_split(record: Maker) -> None:
    scores = {(s, f): 0.7 + 0.01 * s + 0.02 * f for s in range(2) for f in range(5)}
    board = one([record(s, v, fold=f, sizes=(80, 20), protocol="cv5") for (s, f), v in scores.items()])
    (cell,) = board.cells.values()
    values = np.array(list(scores.values()))
    assert cell.estimate is not None and cell.estimate.n == 10 and board.columns[0].unit == "splits"
    assert cell.estimate.half == pytest.approx(2.262157 * np.sqrt((1 / 10 + 20 / 80) * values.var(ddof=1)), rel=1e-6)


def test_seeds_on_one_split_are_averaged_before_they_count(record: Maker) -> None:
    """Three initialisations on each of two splits are two units, not six."""
    made = [record(10 * s + i, 0.7 + 0.1 * s + 0.01 * i, split=f"split{s}") for s in range(2) for i in range(3)]
    (cell,) = one(made).cells.values()
    assert cell.estimate is not None and cell.estimate.n == 2
    assert list(cell.scores.values()) == pytest.approx([0.71, 0.81])


def test_what_a_nested_search_chose_in_each_fold_is_one_setting(record: Maker) -> None:
    made = []
    for fold, rate in enumerate((0.1, 0.01)):
        search = {"trials": 5, "chosen": {"optimizer.lr": rate, "batch_size": 32 * (1 + fold)}}
        options = {"optimizer": {"lr": rate, "name": "adam"}, "batch_size": 32 * (1 + fold), "search": search}
        made += [
            record(s, 0.7 + 0.1 * fold, fold=fold, split=f"fold{fold}", protocol="nested10", **options)
            for s in range(3)
        ]
    board = one(made)
    (cell,) = board.cells.values()
    assert cell.estimate is not None and (cell.estimate.n, cell.estimate.mean) == (2, pytest.approx(0.75))
    assert [row.label for row in board.rows] == ["mincut"]


def tuned(record: Maker, pool: str, rates: dict[str, float], trials: int = 6) -> Records:
    """Ten runs on each dataset, with a learning rate that was chosen there."""
    return [
        record(s, 0.7 + 0.01 * s, pool, dataset, optimizer={"lr": rate, "name": "adam"},
               tuned={"sampler": "quasi", "trials": trials, "chosen": {"optimizer": {"lr": rate}}})
        for dataset, rate in rates.items() for s in range(10)
    ]  # fmt: skip


def test_tuned_operators_are_compared_whatever_was_chosen(record: Maker) -> None:
    made = tuned(record, "none", {"A": 0.1, "B": 0.02}) + tuned(record, "topk", {"A": 0.3, "B": 0.001})
    board = one(made)
    assert [row.label for row in board.rows] == ["topk", "none"]
    (found,) = compared(board, "none")
    assert {(row.pool, column.dataset): pair.found.trainings for (row, column), pair in found.pairs.items()} == {
        ("topk", "A"): 10, ("topk", "B"): 10
    }  # fmt: skip


def test_operators_that_were_tuned_otherwise_or_not_at_all_are_not_compared(record: Maker) -> None:
    made = tuned(record, "none", {"A": 0.1}) + tuned(record, "topk", {"A": 0.1}, trials=60)
    made += [record(s, 0.7, "sag", "A", optimizer={"lr": 0.1, "name": "adam"}) for s in range(10)]
    board = one(made)
    assert len(board.rows) == 3 and compared(board, "none") == []


def test_seeds_on_a_fixed_split_are_independent_units(record: Maker) -> None:
    board = one([record(s, 0.7 + 0.01 * s, split="official") for s in range(4)])
    (cell,) = board.cells.values()
    assert board.columns[0].unit == "seeds" and cell.test_over_train == 0
    assert cell.estimate is not None
    assert cell.estimate.half == pytest.approx(3.182446 * np.std([0.7, 0.71, 0.72, 0.73], ddof=1) / 2, rel=1e-6)


def test_the_domain_of_training_is_beside_that_of_test(record: Maker) -> None:
    made = [record(s, 0.5 + 0.01 * s, sizes=(80, 40)) for s in range(3)]
    for each in made:
        each.metrics = replace(each.metrics, id_test={"accuracy": each.metrics.test["accuracy"] + 0.3})
        each.splits = replace(each.splits, id_test=10)
    (cell,) = one(made).cells.values()
    found = statistics.estimate([0.8, 0.81, 0.82], 10 / 80)
    assert cell.in_domain is not None and cell.in_domain.half == pytest.approx(found.half)
    assert cell.estimate is not None and cell.estimate.mean == pytest.approx(0.51)


def test_a_failed_run_counts_under_the_metric_of_its_dataset(record: Maker) -> None:
    made = [record(0, 1.5, metric=("rmse", "min")), record(1, None)]
    assert summary(one(made)) == {("mincut", "MUTAG"): (1.5, ["1 failed"])}


# -------------------------------------------------------------------------------------------------------- all datasets


def several(record: Maker, datasets: int) -> Records:
    return [
        record(s, base + 0.01 * d + 0.001 * s, pool, f"D{d}")
        for d in range(datasets)
        for pool, base in (("none", 0.6), ("mincut", 0.7), ("topk", 0.5))
        for s in range(3)
    ]


def test_ranks_are_over_datasets(record: Maker) -> None:
    ranking = one(several(record, 6)).ranking
    assert not isinstance(ranking, str)
    assert (ranking.names, ranking.ranks, ranking.datasets) == (("mincut", "none", "topk"), (1.0, 2.0, 3.0), 6)
    few = one(several(record, 1)).ranking
    assert few == (
        "No ranks: they need two datasets and two settings that ran on all of them without a failure; "
        "there are 1 and 3."
    )


def test_ranks_go_by_what_all_were_scored_on_and_say_what_is_left_out(record: Maker) -> None:
    made = several(record, 3)
    assert "left out" not in ranks(one(made)).caption
    fewer = [each for each in made if (each.config["names"]["pool"], each.config["seed"]) != ("topk", 2)]
    assert "up to 1 further split of a dataset, which some lack, is left out." in ranks(one(fewer)).caption


def test_a_setting_with_a_failed_run_has_no_rank(record: Maker) -> None:
    made = several(record, 3)
    failed = record(9, None, "topk", "D0")
    board = one([*made, failed])
    assert not isinstance(board.ranking, str)
    assert board.ranking.names == ("mincut", "none") and board.unranked == ["topk"]


@pytest.mark.parametrize(
    ("trainer", "seconds"),
    [
        ({"accelerator": "cpu", "threads": 1}, 1.5),
        ({"accelerator": "cpu", "threads": 2}, 2.0),
        ({"accelerator": "cuda", "threads": 1}, 2.0),
    ],
)
def test_other_load_does_not_stretch_an_epoch(record: Maker, trainer: dict[str, Any], seconds: float) -> None:
    made = record(0, 0.7, trainer=trainer)
    made.time = Time(epoch=2.0, epoch_cpu=1.5, total=9.0)
    assert epoch_seconds(made) == seconds
    made.time.epoch_cpu = None
    assert epoch_seconds(made) == 2.0


def test_a_network_under_two_names_is_ranked_once(record: Maker) -> None:
    made = several(record, 3)
    for score in (0.6, 0.61):  # the same accuracies by chance are not the same network
        twins = [record(s, 0.6 + 0.01 * d + 0.001 * s, "globalsum", f"D{d}") for d in range(3) for s in range(3)]
        for run in [*made, *twins]:
            run.metrics.train["loss"] = run.metrics.test["accuracy"] if run in made else score
            if score == 0.6:
                run.metrics.train["loss"] = 0.25
        board = one([*made, *twins])
        names = {twin.pool: first.pool for twin, first in board.twins.items()}
        assert names == ({"globalsum": "none"} if score == 0.6 else {})
        assert not isinstance(board.ranking, str)
        assert board.ranking.names.count("globalsum") == (score != 0.6)
        said = ranks(board).caption
        assert ("globalsum is the same network as none, and is ranked once." in said) == (score == 0.6)


def test_a_name_has_its_model_only_where_it_takes_one_to_tell_rows_apart(record: Maker) -> None:
    made = [record(0, 0.7), record(0, 0.6, "none"), record(0, 0.5, "globalmax"), record(0, 0.4, "none")]
    for run in made[2:]:
        run.config["names"]["model"] = "global"
    board = one(made)
    assert {board.name(row) for row in board.rows} == {"mincut", "globalmax", "none, hierarchical", "none, global"}


def test_what_rounds_to_nothing_has_no_sign() -> None:
    assert [points(value) for value in (-0.0004, 0.0004, -0.0006, 0.5)] == ["0.0", "0.0", "-0.1", "50.0"]


def test_no_interval_reaches_beyond_what_a_share_can_be() -> None:
    wide, none = Estimate(0.9, 0.3, 5, 0.2, 1.6), Estimate(0.9, None, 1, None, None)
    assert Metric("accuracy").reach(wide) == [0.2, 1.0] and Metric("rmse", "min").reach(wide) == [0.2, 1.6]
    assert Metric("nmi").reach(Estimate(0.1, 0.3, 5, -0.4, 0.6)) == [0.0, 0.6]
    assert Metric().reach(none) == []
    assert Metric().said(wide) == "0.900 (0.200 to 1.000)" and Metric("rmse", "min").said(wide) == "0.900 ± 0.700"
    assert Metric().said(Estimate(0.5, 0.1, 5, 0.4, 0.6)) == "0.500 ± 0.100" and Metric().said(none) == "0.900"


def test_fewer_than_five_units_have_no_interval() -> None:
    assert Metric().reach(Estimate(0.5, 0.1, 4, 0.4, 0.6)) == []
    assert Metric().said(Estimate(0.5, 0.1, 4, 0.4, 0.6)) == "0.500"


def test_tasks_of_a_dataset_are_columns_of_their_own(record: Maker) -> None:
    """Reconstruction and structure preservation hold nothing out, so their loss is of training; they share no scale."""
    made = [
        record(s, 0.7, model=model, sizes=(10, 0), metric=("loss", "min")) for s in range(2) for model in ("a", "b")
    ]
    for one_of in made:
        spectral = one_of.config["model"] == "b"
        one_of.task = "structure-preservation" if spectral else "reconstruction"
        one_of.metrics = replace(one_of.metrics, train={"loss": 16.0 if spectral else 1e-8}, test={})
    failed = record(2, None, model="b", sizes=(10, 0))
    failed.task = None
    board = one([*made, failed])
    assert [column.dataset for column in board.columns] == [
        "MUTAG (task=reconstruction)", "MUTAG (task=structure-preservation)"
    ]  # fmt: skip
    found = {c.dataset[12:18]: [(cell.estimate and cell.estimate.mean, cell.lost) for (_, where), cell
                                in board.cells.items() if where == c and cell.runs] for c in board.columns}  # fmt: skip
    assert found == {"recons": [(1e-8, [])], "struct": [(16.0, ["1 failed"])]}
    assert not any(cell.lost for cell in board.cells.values() if not cell.runs), "nobody lacks a run of another task"


def test_equal_scores_share_a_rank_whatever_the_order_of_a_sum() -> None:
    scores = np.array([[0.3, 0.1 + 0.2, 0.1], [0.3, 0.3 + 1e-15, 0.2]])
    assert statistics.rank(scores, ["a", "b", "c"]).ranks == (1.5, 1.5, 3.0)
