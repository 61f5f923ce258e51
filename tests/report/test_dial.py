"""Curves: which runs are a line of which sheet, what is refused, and that labels fit."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from poolbench import cli
from poolbench.errors import PoolBenchError
from poolbench.records.counting import Counted
from poolbench.records.record import Record, write_record
from poolbench.report import dial, leaderboard
from poolbench.report.canvas import Line, Markers, Words
from poolbench.report.dial import MOST, Sheet
from poolbench.report.drawn import Drawn

Maker = Callable[..., Record]
Records = list[Record]


def sheets(records: Records, key: str) -> list[Sheet]:
    return dial.sheets(leaderboard.boards(Counted(made, "abc", "same") for made in records), key)


def shown(sheet: Sheet) -> dict[str, dict[float | None, float]]:
    """Mean by value of the dial, None without it, of each line."""
    found: dict[str, dict[float | None, float]] = {}
    for curve in sheet.curves:
        cells: dict[float | None, Any] = dict(curve.cells)
        if curve.level:
            cells[None] = curve.level
        found[curve.label] = {value: round(cell.estimate.mean, 6) for value, cell in cells.items() if cell.estimate}
    return found


def generated(record: Maker, seed: int, score: float, pool: str, mu: float, **options: Any) -> Record:
    """A run on a set that is drawn anew for each seed."""
    made = record(seed, score, pool, "csbm", **options)
    made.config["dataset"] = {"_target_": "poolbench.data.generators.csbm.ContextualSBM", "mu": mu, "lam": 1.5,
                              "seed": seed}  # fmt: skip
    content = f"{hash((seed, mu)) % 16**16:016x}" * 4
    made.splits = replace(made.splits, dataset=content, hash=f"{seed}-{mu}")
    made.provenance = replace(made.provenance, data={"kind": "generated", "where": f"poolbench csbm 1, seed {seed}"})
    return made


def ratio(record: Maker, seed: int, score: float, pool: str, value: Any, **options: Any) -> Record:
    made = record(seed, score, pool, ratio=value, **options)  # so that ids differ
    del made.config["ratio"]
    made.config["pool"]["ratio"] = value
    return made


@pytest.fixture
def csbm(record: Maker) -> Records:
    return [
        generated(record, seed, 0.5 + mu / 3 + 0.01 * seed + (0.05 if pool == "mincut" else 0.0), pool, mu)
        for pool in ("mincut", "topk", "none")
        for mu in (0, 0.4, 1)
        for seed in range(5)
    ]


# ------------------------------------------------------------------------------------------------------- what is a line


def test_a_set_that_is_drawn_anew_is_one_name_and_its_draws_are_the_units(csbm: Records) -> None:
    (sheet,) = sheets(csbm, "dataset.mu")
    assert (sheet.title, sheet.column.unit, sheet.values) == ("csbm", "draws", [0, 0.4, 1])
    assert sheet.curves[0].label == "mincut"
    assert shown(sheet)["mincut"] == {0: 0.57, 0.4: 0.703333, 1: 0.903333}
    for curve in sheet.curves:
        for cell in curve.all:
            assert cell.estimate is not None and (cell.estimate.n, cell.test_over_train) == (5, 0.0)


def test_what_differs_beside_the_dial_is_a_sheet_of_its_own(record: Maker, csbm: Records) -> None:
    wide = [generated(record, 0, 0.6, "topk", mu, model={"hidden": 128}) for mu in (0, 1)]
    found = sheets([*csbm, *wide], "dataset.mu")
    assert [sheet.title for sheet in found] == ["csbm (model.hidden=128)", "csbm (model.hidden=64)"]
    assert list(shown(found[0])) == ["topk"]


def test_pools_without_the_key_are_level(record: Maker) -> None:
    made = [ratio(record, s, 0.6 + r / 10, pool, r) for pool in ("topk", "sag") for r in (0.1, 0.5) for s in (0, 1)]
    (sheet,) = sheets([*made, record(0, 0.9, "none"), record(1, 0.9, "none")], "pool.ratio")
    assert shown(sheet) == {"none": {None: 0.9}, "sag": {0.1: 0.61, 0.5: 0.65}, "topk": {0.1: 0.61, 0.5: 0.65}}
    (table,) = dial.tables([sheet])
    assert table.header == ("pool", "ratio = 0.1", "ratio = 0.5", "without ratio")
    assert table.rows[0] == ("none (control)", "–", "–", "0.900 (n = 2, too few runs)")


def test_settings_of_a_pool_are_lines_of_their_own(record: Maker) -> None:
    made = [ratio(record, 0, 0.6, "topk", r) for r in (0.1, 0.5)]
    odd = [ratio(record, 0, 0.7, "topk", r, batch=r) for r in (0.1, 0.5)]
    for each in odd:
        del each.config["batch"]
        each.config["pool"]["sigmoid_gating"] = True
    (sheet,) = sheets([*made, *odd], "pool.ratio")
    assert [curve.label for curve in sheet.curves] == ["topk (pool.sigmoid_gating=true)", "topk"]


def test_runs_without_a_perturbation_are_share_0_of_each(record: Maker) -> None:
    def noise(name: str, share: float) -> dict[str, Any]:
        return {"_target_": f"poolbench.data.perturb.{name}", "share": share, "at": "both", "seed": 0}

    made = [record(0, 0.9 - share, perturb=noise("AddEdges", share)) for share in (0.2, 0.5)]
    made += [record(0, 0.8 - share, perturb=noise("DropEdges", share)) for share in (0.2, 0.5)]
    made += [record(0, 0.85), record(0, 0.5, batch_size=64)]
    found = sheets(made, "perturb.share")
    assert [list(shown(sheet).values()) for sheet in found] == [
        [{0: 0.85, 0.2: 0.7, 0.5: 0.4}], [{0: 0.85, 0.2: 0.6, 0.5: 0.3}]
    ]  # fmt: skip
    assert "AddEdges" in found[0].title and "DropEdges" in found[1].title


def test_the_domain_of_training_is_shown_beside_another(record: Maker) -> None:
    made = [ratio(record, s, 0.5 + r / 10 + s / 100, "topk", r) for r in (0.1, 0.5) for s in range(2)]
    for each in made:
        each.metrics = replace(each.metrics, id_test={"accuracy": 0.9})
        each.splits = replace(each.splits, id_test=10)
    (sheet,) = sheets(made, "pool.ratio")
    (table,) = dial.tables([sheet])
    assert [row[:2] for row in table.rows] == [("topk", "test"), ("topk", "in domain")]
    assert table.rows[1][2] == "0.900"
    (drawn,) = dial.figures([sheet])
    assert len(drawn.panels) == 2
    assert {"test accuracy", "in domain accuracy"} <= {w.text for w in drawn.canvas.marks if isinstance(w, Words)}


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("dataset.nu", r"dataset.nu is no key of these records \(did you mean dataset.mu"),
        ("names.pool", 'names.pool is no number in these records: "mincut", "topk", "none"'),
        ("dataset.lam", "a curve takes two values of dataset.lam with all else alike; there are 1.5"),
        ("seed", "seed is no dial: runs of one setting differ in it, 0, 1, 2"),
        ("dataset", r"dataset is a group of keys; give a number in it, such as dataset\.\w+$"),
        ("pool", "pool is a group of keys; give a number in it$"),
        (" ", "--curve: an empty KEY; give a number of the configuration, such as dataset.mu or pool.ratio"),
    ],
)
def test_what_is_no_dial_is_refused(csbm: Records, key: str, message: str) -> None:
    with pytest.raises(PoolBenchError, match=message):
        sheets(csbm, key)


# -------------------------------------------------------------------------------------------------------------- figures


def words(drawn: Drawn) -> list[Words]:
    return [mark for mark in drawn.canvas.marks if isinstance(mark, Words)]


def test_a_figure_holds_points_and_intervals(csbm: Records) -> None:
    (sheet,) = sheets(csbm, "dataset.mu")
    (drawn,) = dial.figures([sheet])
    (panel,) = drawn.panels
    marked = [round(y, 6) for mark in drawn.canvas.marks if isinstance(mark, Markers) for _, y in mark.points]
    for curve in sheet.curves:
        for value, cell in curve.cells.items():
            assert cell.estimate is not None
            assert round(panel.at(value, cell.estimate.mean)[1], 6) in marked
            ends = {panel.at(value, end)[1] for end in sheet.column.metric.reach(cell.estimate)}
            assert len(ends) == 2
            assert any({y for _, y in mark.points} == ends for mark in drawn.canvas.marks if isinstance(mark, Line))


@pytest.mark.parametrize("pools", [3, MOST, MOST + 5])
def test_labels_fit_and_none_lies_over_another(record: Maker, pools: int) -> None:
    made = [
        generated(record, seed, 0.7 + 0.001 * pool + seed / 50, f"operator-of-a-long-name-{pool:02}", mu)
        for pool in range(pools)
        for mu in (0.0, 0.5)
        for seed in range(3)
    ]
    (drawn,) = dial.figures(sheets(made, "dataset.mu"))
    assert len(drawn.panels) == -(-pools // MOST)
    labels = [word for word in words(drawn) if word.text.startswith("operator")]
    assert len(labels) == pools
    for left, top, right, bottom in (word.box for word in words(drawn)):
        assert left >= 0 and top >= 0 and right <= drawn.canvas.width and bottom <= drawn.canvas.height
    for one, other in combinations(labels, 2):
        assert abs(one.at[1] - other.at[1]) >= one.size


def test_the_command_prints_and_writes(
    csbm: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    for i, made in enumerate(csbm):
        made.id = f"{i:016x}"
        write_record(results / "runs" / made.id / "1", made)
    monkeypatch.setenv("POOLBENCH_RESULTS", str(results))
    assert cli.main(["report", "--curve", "dataset.mu", "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(lines) == 9 and {line["value"] for line in lines} == {"0", "0.4", "1"}
    assert cli.main(["report", "--curve", "dataset.mu", "--out", str(tmp_path / "out")]) == 0
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == {
        *(f"tables/curve-mu-1.{ending}" for ending in ("md", "tex", "csv")),
        *(f"figures/curve-mu-1.{ending}" for ending in ("svg", "png")),
    }
