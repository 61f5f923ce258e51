"""`scripts/calibrate.py`: what it fits, deals and counts, and that it asks the report's own functions."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import calibrate
from calibrate import Components
from poolbench.records.counting import Counted
from poolbench.records.outcomes import pack
from poolbench.records.record import Record, write_record
from poolbench.report import comparing, leaderboard
from poolbench.report.board import Cell
from poolbench.statistics.graphs import Answers

Maker = Callable[..., Record]
GRAPHS, FOLDS = 100, 5


def crossed(record: Maker, splits: int = 4, seeds: int = 6, pool: str = "none") -> list[Record]:
    """Cross-validations of PROTEINS, with the answers of chance."""
    made = []
    for split, seed in itertools.product(range(splits), range(seeds)):
        order = np.random.default_rng(split).permutation(GRAPHS)
        right = np.random.default_rng([split, seed]).random(GRAPHS) < 0.7
        for fold in range(FOLDS):
            tested = np.sort(order[fold::FOLDS])
            one = record(seed, float(right[tested].mean()), pool, "PROTEINS", protocol="cv10", fold=fold,
                         split=f"{split}-{fold}")  # fmt: skip
            one = replace(one, id=f"{split:05d}{seed:05d}{fold:06d}", seeds=replace(one.seeds, split=split))
            made.append(replace(one, outcomes=pack(tested, right[tested].astype(int), right[tested], GRAPHS)))
    return made


def cell(records: list[Record]) -> Cell:
    (board,) = leaderboard.boards(Counted(made, "abc", "same") for made in records)
    (found,) = board.cells.values()
    return found


def test_components_come_back() -> None:
    """What was simulated is what is fitted."""
    true = Components("a", 4, 30, 1500, 10, 0.75, 0.4, 0.15, 0.05)
    made = calibrate.simulated(np.random.default_rng(0), true, 3, [0.0] * 3)
    found = calibrate.fitted("a", {str(n): one for n, one in enumerate(made)})
    assert found is not None and (found.operators, found.trainings, found.graphs) == (4, 30, 1500)
    assert found.right == pytest.approx(0.75, abs=0.03)
    for name in ("graph", "own", "training"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), abs=0.06), name


def test_a_simulated_difference_is_the_true_one() -> None:
    of = Components("a", 2, 10, 40_000, 10, 0.7, 0.4, 0.1, 0.0)
    base, other = calibrate.simulated(np.random.default_rng(0), of, 1, [-0.05])
    assert float(other.value.mean() - base.value.mean()) == pytest.approx(-0.05, abs=0.01)


def test_a_family_is_what_the_report_makes_of_such_runs(record: Maker) -> None:
    """Seeds that were dealt out, and records of pools of those names, come to the same differences and verdicts."""
    found = calibrate.repeats(cell(crossed(record)))
    assert len(found) == 24 and all(len(one.graph) == GRAPHS for one in found)
    members = next(calibrate.dealt(np.random.default_rng(0), found, 2, 3))
    family = calibrate.compared(calibrate.joined(found, members, 2))
    pools, records = ("none", "topk", "mincut"), []
    for made in crossed(record):
        number = next(n for n, one in enumerate(found)
                      if (one.split, one.seed) == (str(made.seeds.split), str(made.config["seed"])))  # fmt: skip
        if number in members:
            pool = pools[members.index(number) % 3]
            names, target = {**made.config["names"], "pool": pool}, {"_target_": f"poolbench.pool.{pool}"}
            records.append(replace(made, config={**made.config, "names": names, "pool": target, "seed": 0}))
    boards = leaderboard.boards(Counted(made, "abc", "same") for made in records)
    ((_, (found_again,)),) = comparing.all_compared(boards, "none")
    pairs = {pair.row.pool: pair for pair in found_again.pairs.values()}
    for name, pool in zip("12", pools[1:], strict=True):
        one, other = family.differences[name], pairs[pool].found
        assert one.difference == pytest.approx(other.difference, abs=1e-12) and one.trainings == 3 * FOLDS
        assert one.error == pytest.approx(other.error) and one.low == pytest.approx(other.low)
        assert calibrate.verdict(one) == pairs[pool].verdict


def test_no_repeat_is_in_a_family_twice(record: Maker) -> None:
    found = calibrate.repeats(cell(crossed(record)))
    for members in itertools.islice(calibrate.dealt(np.random.default_rng(0), found, 4, 3), 50):
        assert len(set(members)) == len(members) == 15
        for place in range(0, 15, 5):
            assert len({found[number].split for number in members[place : place + 5]}) == 1
    assert not list(calibrate.dealt(np.random.default_rng(0), found, 6, 1))


def test_what_is_spoiled_is_worse_by_so_much() -> None:
    graph = np.tile(np.arange(20_000), 2)
    answers = Answers(graph, np.repeat([0, 1], 20_000), (np.random.default_rng(0).random(40_000) < 0.7).astype(float))
    worse = calibrate.spoiled(np.random.default_rng(1), answers, 0.05)
    assert float((answers.value - worse.value).mean()) == pytest.approx(0.05, abs=0.006)


def test_the_command(record: Maker, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for made in crossed(record):
        write_record(results / "runs" / f"{made.id}-{made.config['fold']}" / "1", made)
    out = tmp_path / "out"
    assert calibrate.main(["aa", "--quick", str(results), "--out", str(out)]) == 0
    lines = list(csv.DictReader((out / "aa.csv").open()))
    assert {line["runs"] for line in lines} == {"real", "simulated"} and (out / "components.csv").exists()
    for line in lines:
        assert 0 <= float(line["low"]) <= float(line["false"]) <= float(line["high"])
    capsys.readouterr()
    assert calibrate.main(["coverage", str(results), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "experiment=calibration/coverage_truth" in said and "error: coverage" in said
    assert not (out / "coverage.csv").exists()


def test_coverage_is_counted_by_draw(record: Maker) -> None:
    """Draws of which each has answers of two pools, and draws of the truth that were trained on as many graphs."""
    made, generator = [], np.random.default_rng(0)
    for protocol, draws, graphs in (("cv10", 24, 20), ("holdout", 22, 300)):
        for draw, pool in itertools.product(range(draws), ("none", "topk")):
            seed = draw + (1000 if protocol == "holdout" else 0)
            for fold in range(10) if protocol == "cv10" else (None,):
                right = generator.random(graphs) < (0.8 if pool == "none" else 0.7)
                one = record(seed, float(right.mean()), pool, "csbm", protocol=protocol, fold=fold, batch_size=32)
                tested = np.arange(graphs) + graphs * (fold or 0)
                config = {**one.config, "dataset": {"name": "csbm", "seed": seed}}
                one = replace(one, config=config, splits=replace(one.splits, dataset=f"{seed:064d}"))
                made.append(replace(one, outcomes=pack(tested, right.astype(int), right, 300)))
    made += crossed(record)  # another network, on another dataset, in the same folder
    boards = leaderboard.boards(Counted(one, "abc", "same") for one in made)
    mean, new, *simulated = calibrate.coverage(boards, True)
    assert (mean["draws"], mean["trainings"], mean["graphs"]) == (24, 22, 6600)
    assert (mean["runs"], mean["graphs a draw"], mean["trainings a draw"]) == ("real", 200, 10)
    assert mean["truth"] == pytest.approx(-0.1, abs=0.03)
    assert 0.7 < mean["covered"] <= 1 and 0.7 < new["covered"] <= 1 and mean["width"] < new["width"]
    parts = [line["part of a training"] for line in simulated if line["interval"] == "one more training"]
    assert parts == pytest.approx([0, 0.021, 0.047] * 2, abs=0.003)
    assert all(line["runs"] == "simulated" and 0.8 < line["covered"] <= 1 for line in simulated)


def test_what_is_asked_for_without_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate.main(["aa", "--out", str(tmp_path)]) == 2
    assert "give a folder of records" in capsys.readouterr().err


def test_the_page_is_what_the_tables_say() -> None:
    page = calibrate.PAGE.read_text()
    assert calibrate.written(page, calibrate.DATA) == page
