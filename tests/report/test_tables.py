"""Tables in Markdown, LaTeX and CSV: the same numbers, nothing that its format would misread."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from poolbench.records.counting import Counted
from poolbench.records.record import Record
from poolbench.report import leaderboard
from poolbench.report.board import Board
from poolbench.report.evidence import Evidence
from poolbench.report.table import Table, latex_escape
from poolbench.report.tables import costs, failures, memory_text, results, tables, time_text

Maker = Callable[..., Record]


def boards(records: list[Record]) -> list[Board]:
    return leaderboard.boards(Counted(made, "abc", "same") for made in records)


@pytest.fixture
def board(record: Maker) -> Board:
    scores = {"none": 0.70, "mincut": 0.75, "random-dense": 0.72}
    made = [
        record(seed, score + 0.01 * seed * (1 + len(pool) % 3), pool, dataset)
        for pool, score in scores.items()
        for dataset in ("MUTAG", "PROTEINS")
        for seed in range(5)
    ]
    return boards([*made, record(9, None, "topk", "MUTAG")])[0]


def named(board: Board, name: str) -> Table:
    (table,) = [table for table in tables(Evidence(board)) if table.name == name]
    return table


def rows(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.written("csv"))))


def test_results_mark_controls_and_count_what_is_lost(board: Board) -> None:
    table = results(board)
    assert table.header == ("pool", "model", "parameters", "MUTAG", "PROTEINS")
    # Scores 0.75 to 0.79: half = 2.776445 * sqrt((1/5 + 1/8) * 0.00025)
    assert table.rows[0] == (
        "mincut", "hierarchical", "1,234", "0.770 ± 0.025 (n = 5; 1 missing)", "0.770 ± 0.025 (n = 5)"
    )  # fmt: skip
    assert table.rows[1][3:] == ("1 failed, 5 missing", "5 missing")
    assert [row[0] for row in table.rows] == ["mincut", "topk", "none (control)", "random-dense (control)"]


def test_no_cell_says_more_than_its_runs_do(record: Maker) -> None:
    made = [record(s, value, "few") for s, value in enumerate((0.5, 0.9, 0.7))]
    made += [record(s, value, "wide") for s, value in enumerate((0.99, 0.6, 0.97, 0.98, 0.99))]
    few, wide = (row[-1] for row in results(boards(made)[0]).rows)
    assert few == "0.700 (n = 3, too few runs; 2 missing)"
    assert wide == "0.906 (0.635 to 1.000) (n = 5)"


def test_a_shift_has_a_column_in_domain(record: Maker) -> None:
    made = [record(s, 0.5 + 0.01 * s) for s in range(3)]
    for each in made:
        each.metrics = replace(each.metrics, id_test={"accuracy": 0.8})
    table = results(boards([*made, record(0, 0.7, "none", "PROTEINS")])[0])
    assert table.header == ("pool", "model", "parameters", "MUTAG", "in domain", "PROTEINS")
    assert [row[4] for row in table.rows] == ["0.800", "–"] and "another domain" in table.caption
    first = rows(table)[0]
    assert float(first["in_domain_mean"]) == pytest.approx(0.8) and first["in_domain_low"] == ""
    assert "in_domain_mean" not in results(boards([record(0, 0.7)])[0]).records[0]


def test_markdown_is_a_table_of_equal_rows(board: Board) -> None:
    for table in tables(Evidence(board)):
        lines = [line for line in table.written("md").splitlines() if line.startswith("|")]
        assert len(lines) == 2 + len(table.rows)
        assert {line.count("|") for line in lines} == {len(table.header) + 1}


def test_a_bar_in_a_reason_does_not_break_the_table(record: Maker) -> None:
    broken = replace(record(0, None), reason="a | b\nand c")
    text = failures(boards([broken])[0]).written("md")
    assert "| a \\| b and c |" in text


def test_csv_holds_full_precision_and_counts(board: Board) -> None:
    found = {(row["pool"], row["dataset"]): row for row in rows(named(board, "results"))}
    mincut = found["mincut", "MUTAG"]
    assert float(mincut["mean"]) == pytest.approx(0.77, abs=1e-12) and float(mincut["std"]) == pytest.approx(0.0158114)
    assert (mincut["n"], mincut["failed"], mincut["missing"], mincut["metric"]) == ("5", "0", "1", "accuracy")
    failed = found["topk", "MUTAG"]
    assert (failed["mean"], failed["n"], failed["failed"]) == ("", "0", "1")
    assert found["none", "MUTAG"]["control"] == "True"


def test_the_comparison_is_the_same_in_words_and_numbers(board: Board) -> None:
    table = named(board, "against-none")
    for line, row in zip(table.rows, rows(table), strict=True):
        assert line[1].removesuffix(" (control)") == row["pool"]
        assert line[2] == f"{100 * float(row['difference']):+.1f}" and line[-1].startswith(row["verdict"])
    verdicts = {(row["pool"], row["dataset"]): row["verdict"] for row in rows(table)}
    assert set(verdicts.values()) == {"undecided", "equivalent"} and ("topk", "MUTAG") not in verdicts


def test_failures_are_listed_with_their_reason(board: Board) -> None:
    assert [row[:5] for row in failures(board).rows] == [("MUTAG", "topk", "9", "failed", "the loss is not a number")]


def test_costs_are_of_one_hardware(record: Maker) -> None:
    gpu = {"gpus": ["H100"]}
    made = [record(0, 0.7, epoch=2.0), record(1, 0.7, epoch=0.04, hardware=gpu, trainer={"accelerator": "gpu"})]
    board = boards(made)[0]
    assert [costs(board, gauge).rows[0][2] for gauge in board.gauges] == [
        "40 ms, 100 MB (n = 1)",
        "2.0 s, 100 MB (n = 1)",
    ]
    found = [t for t in tables(Evidence(board)) if t.name.startswith("costs")]
    assert [t.name for t in found] == ["costs-1", "costs-2"]
    assert "on H100 (memory: allocator)" in found[0].title and "the GPU's allocator" in found[0].caption
    assert "cores (memory: process)" in found[1].title and "earlier runs" in found[1].caption
    assert [r["memory"] for t in found for r in rows(t)] == ["allocator", "process"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 5 % {x}", r"a\_b \& 5 \% \{x\}"),
        ("-1.5 to -0.2, p < 0.001", r"$-$1.5 to $-$0.2, p $<$ 0.001"),
        ("random-sparse top-2", "random-sparse top-2"),
        ("\\ ~ ^ # $ ± −", r"\textbackslash{} \textasciitilde{} \textasciicircum{} \# \$ $\pm$ $-$"),
    ],
)
def test_latex_is_escaped(text: str, expected: str) -> None:
    assert latex_escape(text) == expected


def test_latex_is_a_booktabs_table(board: Board) -> None:
    text = named(board, "results").written("tex")
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{llrrr}"))
    assert text.count(r"\\") == 1 + len(board.rows)
    assert r"0.770 $\pm$ 0.025 (n = 5; 1 missing)" in text


def test_units_of_time_and_memory() -> None:
    assert [time_text(t) for t in (0.0345, 2.04, None)] == ["34 ms", "2.0 s", "–"]
    assert [memory_text(m) for m in (2.26e6, 5.2e8, 2.5e9, None)] == ["2.3 MB", "520 MB", "2.50 GB", "–"]
