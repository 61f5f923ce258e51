"""Which records a report counts, and what it writes: nothing mixed that differs, nothing lost in silence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from poolbench import cli
from poolbench.errors import PoolBenchError
from poolbench.records.equivalence import Covered, Kind, Link, Links
from poolbench.records.gathered import add, files, gather
from poolbench.records.record import Record, write_record
from poolbench.records.version import installed_code
from poolbench.report.report import Report, build

Maker = Callable[..., Record]


def of(version: str) -> Callable[[Mapping[str, Any]], str]:
    """The installed code is `version`, whatever the configuration."""
    return lambda config: version


def built(
    records: list[Record], *query: str, links: Links | None = None, all_code: bool = False, current: str = "abc"
) -> Report:
    return build(records, query, links, all_code, of(current))


def linked(record: Record, old: str, new: str, kind: Kind = "same") -> Link:
    """A link for what a record is of."""
    covers = Covered.of(record.config)
    return Link(old=old, new=new, kind=kind, covers=covers, witnesses=(), machine="any", date="2026-01-01")


def means(report: Report) -> list[tuple[str, str, float | None]]:
    """(label, dataset, mean) of every cell that has runs."""
    return [
        (row.label, column.dataset, cell.estimate.mean if cell.estimate else None)
        for board in report.boards
        for (row, column), cell in board.cells.items()
        if cell.runs
    ]


@pytest.fixture
def runs(record: Maker) -> list[Record]:
    """Two pools on two datasets, two seeds each."""
    return [
        record(seed, score + seed / 10, pool, dataset)
        for pool, score in (("mincut", 0.8), ("none", 0.7))
        for dataset in ("MUTAG", "PROTEINS")
        for seed in (0, 1)
    ]


def test_the_latest_attempt_counts(record: Maker) -> None:
    found = built([record(0, 0.9, attempt=2), record(0, 0.1)])
    assert means(found) == [("mincut", "MUTAG", 0.9)]
    assert "1 failed" in built([record(0, None, attempt=2), record(0, 0.1)]).written("md")


# --------------------------------------------------------------------------------------------------- versions of code


def test_only_the_installed_code_is_shown_where_it_has_runs(record: Maker) -> None:
    records = [record(0, 0.7), record(1, 0.8, code="old"), record(0, 0.6, pool="none", code="old")]
    found = built(records)
    assert means(found) == [("mincut", "MUTAG", 0.7)]
    assert found.notes == ("2 runs of other versions of the code, left out (--all-code shows them).",)
    everything = built(records, all_code=True)
    assert means(everything) == [
        ("mincut", "MUTAG", 0.7), ("mincut (code old)", "MUTAG", 0.8), ("none (code old)", "MUTAG", 0.6)
    ]  # fmt: skip
    assert "other code old" in everything.written("md")
    assert not everything.evidence[0].pairs, "versions of the code are not compared with each other"


def test_without_runs_of_the_installed_code_each_cell_shows_its_commonest_version(record: Maker) -> None:
    records = [record(0, 0.7), record(1, 0.8), record(2, 0.1, code="odd"), record(0, 0.5, pool="none", code="odd")]
    found = built(records, current="newer")
    assert means(found) == [("mincut", "MUTAG", pytest.approx(0.75)), ("none", "MUTAG", 0.5)]
    assert "No record was made by the code of this PoolBench" in found.notes[0]
    assert "1 run of other versions" in found.notes[1]


def test_linked_versions_are_one_row_and_each_run_counts_once(record: Maker) -> None:
    records = [record(0, 0.7), record(0, 0.1, code="old"), record(1, 0.8, code="old"), record(2, 0.9, code="older"),
               record(0, 0.5, "none", code="old")]  # fmt: skip
    links = Links([linked(records[0], "older", "old"), linked(records[0], "old", "abc")])
    found = built(records, links=links)
    assert means(found) == [("mincut", "MUTAG", pytest.approx(0.8))], "the installed version's own record comes first"
    (cell,) = found.boards[0].cells.values()
    assert (len(cell.runs), cell.close) == (3, 0)
    assert found.notes == ("1 run of other versions of the code, left out (--all-code shows them).",), (
        "a link holds for what it covers alone"
    )


def test_close_versions_count_and_are_marked(record: Maker) -> None:
    records = [record(0, 0.7), record(1, 0.8, code="old"), record(2, 0.9, code="older")]
    links = Links([linked(records[0], "old", "abc", "close"), linked(records[0], "older", "abc", "same")])
    found = built(records, links=links)
    assert means(found) == [("mincut", "MUTAG", pytest.approx(0.8))]
    assert "(n = 3, too few runs; 1 close)" in found.written("md")
    assert found.notes == (
        "1 run of a version of the code whose numbers are close and not the same: they count, and cells say how many.",
    )
    (head, row) = found.written("csv").splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["close"] == "1"
    assert "close" not in built(records[:1], links=links).written("csv")


def test_linked_versions_are_one_where_none_is_installed(record: Maker) -> None:
    records = [record(0, 0.7, code="a"), record(1, 0.8, code="b"), record(0, 0.1, code="b"), record(2, 0.1, code="c")]
    links = Links([linked(records[0], "a", "b")])
    found = built(records, links=links, current="newer")
    assert means(found) == [("mincut", "MUTAG", pytest.approx(0.45))], "one of each run, by the versions of most runs"
    assert found.notes[1].startswith("1 run of other versions")
    everything = built(records, links=links, current="newer", all_code=True)
    assert [len(cell.runs) for cell in everything.boards[0].cells.values()] == [2, 1]


def test_a_record_of_schema_1_and_a_new_one_of_the_same_run_are_one(record: Maker) -> None:
    old, new = (record(0, score, code=code) for score, code in ((0.1, "old"), (0.7, "abc")))
    config = {**old.config, "trainer": {**old.config["trainer"], "precision": "32-true", "threads": 1}}
    old = replace(old, schema=1, id="0" * 16, config=config, digests=None, selected=None)
    new = replace(new, id=old.setting, config=config)
    links = Links([linked(old, "old", "abc")])
    assert means(built([old, new], links=links)) == [("mincut", "MUTAG", 0.7)]
    assert means(built([old], links=links)) == [("mincut", "MUTAG", 0.1)]


def test_the_installed_code_is_the_version_that_a_run_would_record() -> None:
    mincut = {"pool": {"_target_": "poolbench.pool.mincut.MinCutPool"}}
    topk = {"pool": {"_target_": "poolbench.pool.topk.TopKPool"}}
    assert installed_code(mincut) != installed_code(topk)
    assert len(installed_code(mincut)) == 16


# -------------------------------------------------------------------------------------------------------------- query


def test_a_query_filters_by_choices_values_and_status(runs: list[Record], record: Maker) -> None:
    runs = [*runs, record(5, None, "topk", "PROTEINS", batch_size=64)]
    assert {d for _, d, _ in means(built(runs, "dataset=MUTAG"))} == {"MUTAG"}
    assert {p for p, _, _ in means(built(runs, "pool=mincut,none", "dataset=proteins"))} == {"mincut", "none"}
    assert means(built(runs, "status=failed")) == [("topk", "PROTEINS", None)]
    assert means(built(runs, "batch_size=64")) == [("topk", "PROTEINS", None)]
    assert len(means(built(runs, "model.hidden=64.0", "seed=0"))) == 4
    assert len(means(built(runs, f"id={runs[0].id}"))) == 1
    assert built(runs, "dataset=MUTAG").notes == ("Only runs with dataset=MUTAG.",)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("dataset=PROTEIN", r"no record has dataset=PROTEIN \(did you mean PROTEINS\?\)"),
        ("pool=xyz", "no record has pool=xyz; there are mincut, none"),
        ("modle=x", r"modle is no key of these records \(did you mean model"),
        ("pool=", "no query"),
        ("pool=none,dataset=MUTAG", "keys are separated by spaces.*write pool=none dataset=MUTAG"),
    ],
)
def test_a_query_that_nothing_answers_says_what_there_is(runs: list[Record], query: str, message: str) -> None:
    with pytest.raises(PoolBenchError, match=message):
        built(runs, query)


def test_values_that_no_record_has_together(runs: list[Record], record: Maker) -> None:
    with pytest.raises(PoolBenchError, match="no record answers pool=topk dataset=MUTAG"):
        built([*runs, record(5, 0.5, "topk", "PROTEINS")], "pool=topk", "dataset=MUTAG")


def test_legacy_protocols_are_shown_only_where_asked_for(runs: list[Record], record: Maker) -> None:
    runs = [*runs, record(0, 0.99, protocol="legacy-best")]
    found = built(runs)
    assert [board.protocol for board in found.boards] == ["holdout (version 1)"]
    assert found.notes == ("1 run under legacy-best, left out (protocol=legacy-best shows them).",)
    assert built(runs, "protocol=legacy-best").boards[0].protocol == "legacy-best (version 1)"


def test_runs_without_a_test_evaluation_are_named_and_left_out(runs: list[Record], record: Maker) -> None:
    found = built([*runs, record(0, None, "topk", evaluate_test=False)])
    assert found.notes == ("1 run without an evaluation of the test split, left out.",)
    with pytest.raises(PoolBenchError, match="no record is left"):
        built([record(0, None, evaluate_test=False)])


# ----------------------------------------------------------------------------------------------------------- gathering


def store(folder: Path, records: list[Record]) -> None:
    for made in records:
        attempt = folder / "runs" / made.id / "1"
        attempt.mkdir(parents=True)
        write_record(attempt, made)


def test_records_are_gathered_without_curves_and_places(
    runs: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, runs[:2])
    assert cli.main(["report", str(tmp_path), "--gather"]) == 0
    assert "0.850 (n = 2, too few runs)" in capsys.readouterr().out
    kept = tmp_path / "records" / "MUTAG" / "holdout.jsonl"
    assert files(tmp_path) == [kept]
    lines = kept.read_text().splitlines()
    assert len(lines) == 2 and "private" not in "".join(lines) and json.loads(lines[0])["curve"] == []
    (tmp_path / "runs" / runs[0].id / "1" / "record.json").unlink()
    assert len(gather(tmp_path)) == 2, "what was gathered stays"
    assert {r.id: bool(r.curve) for r in gather(tmp_path, curves=True)} == {runs[0].id: False, runs[1].id: True}
    assert cli.main(["report", str(tmp_path), "--gather"]) == 0
    assert kept.read_text().splitlines() == lines, "what is gathered is not gathered again"


def test_gathering_for_a_page_leaves_the_curves_out_too(runs: list[Record], tmp_path: Path) -> None:
    add(runs, tmp_path)
    assert all(r.curve == [] and "paths" not in r.config for r in gather(tmp_path))
    assert [path.relative_to(tmp_path).as_posix() for path in files(tmp_path)] == [
        "records/MUTAG/holdout.jsonl",
        "records/PROTEINS/holdout.jsonl",
    ]


# ---------------------------------------------------------------------------------------------------- the command line


def test_the_command_writes_everything(runs: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path, runs)
    out = tmp_path / "out"
    assert cli.main(["report", str(tmp_path), "--out", str(out)]) == 0
    assert str(out / "index.html") in capsys.readouterr().out
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    for name in ("results", "against-none", "ranks", "costs"):
        assert {f"tables/holdout-{name}.{ending}" for ending in ("md", "tex", "csv")} <= written
    for name in ("scores", "costs", "ranks", "curves-1", "curves-2", "diagnostics"):
        assert {f"figures/holdout-{name}.svg", f"figures/holdout-{name}.png"} <= written
    assert (out / "figures/holdout-scores.png").read_bytes().startswith(b"\x89PNG")


def test_formats_and_queries_on_the_command_line(
    runs: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, runs)
    assert cli.main(["report", str(tmp_path), "dataset=MUTAG", "--format", "csv"]) == 0
    assert capsys.readouterr().out.count("MUTAG") == 2
    assert cli.main(["report", "--format=tex", str(tmp_path)]) == 0
    assert r"\toprule" in capsys.readouterr().out


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PoolBenchError, match="holds no records"):
        gather(tmp_path)
    (tmp_path / "records" / "MUTAG").mkdir(parents=True)
    (tmp_path / "records" / "MUTAG" / "holdout.jsonl").write_text("{not json\n")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "line 1" in capsys.readouterr().err
    for words, said in (
        (["--config-dir", "own"], "has no option --config-dir: it composes no configuration (POOLBENCH_CONFIG"),
        (["--all"], "has no option --all (did you mean --all-code?)"),
        ([str(tmp_path), "elsewhere"], "elsewhere: give one folder"),
        (["--format", "pdf"], "'pdf' is none of md, tex, csv"),
        (["--out"], "'--out' requires an argument"),
        (["--out", "x", "--format", "md"], "leave --format out"),
    ):
        assert cli.main(["report", *words]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "bad", [b"null", b"[1]", b"{}", b"\xff", b'{"id": 1' + b"0" * 400 + b"}", b'{"schema": 2, "id']
)
def test_a_line_that_is_no_record_costs_itself(
    runs: list[Record], tmp_path: Path, bad: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (path, _) = add(runs, tmp_path)
    clean = cli.main(["report", str(tmp_path)]), capsys.readouterr().out
    path.write_bytes(bad + b"\n" + path.read_bytes() + bad)
    assert cli.main(["report", str(tmp_path)]) == clean[0] == 0
    said, tables = capsys.readouterr().out, clean[1].partition("###")[2]
    assert tables and said.endswith(tables), "the rest is reported as it was"
    assert f"2 lines of the gathered records could not be read: {path}, line 1: not a record (" in said
    assert ", and 1 more." in said
    assert cli.main(["verify", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"{path}:1: is no record: " in said and f"{path}:{path.read_bytes().count(bytes([10])) + 1}: is" in said


def test_a_folder_that_cannot_be_written_to(
    runs: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, runs)
    (tmp_path / "file").write_text("")
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "file")]) == 1
    assert "cannot write" in capsys.readouterr().err
