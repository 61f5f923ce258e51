"""Separability: the tests by permutation, what they say in words, what is compared with what, and the figure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp, mannwhitneyu

from poolbench import cli
from poolbench.data.perturb import ReplaceFeatures, ReplaceGraph
from poolbench.errors import PoolBenchError
from poolbench.records.counting import Counted
from poolbench.records.record import Record, write_record
from poolbench.report import leaderboard
from poolbench.report.canvas import Markers, Words
from poolbench.report.separability import (
    KINDS,
    Question,
    figures,
    least_p,
    least_runs,
    questions,
    rank_sum,
    smirnov,
    table,
)

Maker = Callable[..., Record]
Records = list[Record]
TARGETS = {"structure": "poolbench.data.perturb.ReplaceGraph", "features": "poolbench.data.perturb.ReplaceFeatures"}


def perturbed(aspect: str, kind: str, at: str = "both", seed: int = 0) -> dict[str, object]:
    return {"_target_": TARGETS[aspect], "kind": kind, "at": at, "seed": seed}


def runs(record: Maker, original: float, means: Mapping[tuple[str, str], float], n: int = 10, noise: float = 0.004,
         metric: tuple[str, str] | None = None) -> Records:  # fmt: skip
    """n runs on the original graphs and with each replacement, by their means."""
    draws = np.random.default_rng(0)
    made = [record(s, original + noise * draws.normal(), metric=metric) for s in range(n)]
    for (aspect, kind), mean in means.items():
        made += [record(s, mean + noise * draws.normal(), metric=metric, perturb=perturbed(aspect, kind))
                 for s in range(n)]  # fmt: skip
    return made


def asked(records: Records) -> list[Question]:
    return questions(leaderboard.boards(Counted(made, "abc", "same") for made in records))


def one(records: Records) -> Question:
    (question,) = asked(records)
    return question


def test_the_kinds_are_those_of_the_perturbations() -> None:
    assert {"structure": ReplaceGraph.KINDS, "features": ReplaceFeatures.KINDS} == KINDS


# ------------------------------------------------------------------------------------------------------------ the tests


@pytest.mark.parametrize(("n", "m"), [(5, 5), (6, 4), (4, 7)])
def test_p_is_that_of_all_permutations(n: int, m: int) -> None:
    draws = np.random.default_rng(n)
    a, b = draws.normal(size=n), draws.normal(0.7, size=m)
    assert smirnov(a, b) == pytest.approx(ks_2samp(a, b, method="exact").pvalue)
    assert rank_sum(a, b) == pytest.approx(mannwhitneyu(a, b, method="exact").pvalue)


def test_ties_are_ties_whatever_the_order_of_sums_was() -> None:
    a, b = [0.1 + 0.2, 0.7, 0.7], [0.3, 0.7, 0.7]
    assert (smirnov(a, b), rank_sum(a, b)) == (1.0, 1.0)


def test_the_least_p_is_reached_where_all_of_one_side_are_larger() -> None:
    a, b = [0.9, 0.91, 0.92, 0.93], [0.5, 0.51, 0.52, 0.53, 0.54]
    assert smirnov(a, b) == rank_sum(a, b) == pytest.approx(least_p(4, 5))
    assert least_p(4, 5) == 2 / math.comb(9, 4)
    assert smirnov([0.5], b) is rank_sum([0.5], b) is None
    assert {pairs: least_runs(pairs) for pairs in (1, 2, 8)} == {1: 4, 2: 5, 8: 6}


# ------------------------------------------------------------------------------------------------------------- answers

STRUCTURE = {("structure", kind): 0.5 for kind in KINDS["structure"]}
FEATURES = {("features", kind): 0.6 for kind in KINDS["features"]}


@pytest.mark.parametrize(
    ("means", "answer"),
    [
        ({**STRUCTURE, **FEATURES}, "both matter"),
        ({**STRUCTURE, **FEATURES, ("features", "node"): 0.899}, "structure matters and features are not needed"),
        ({**STRUCTURE, **FEATURES, ("structure", "random"): 0.95}, "structure is not needed and features matter"),
        ({("structure", "none"): 0.899, ("features", "none"): 0.9}, "neither is needed"),
        (STRUCTURE, "structure matters"),
        (FEATURES, "features matter"),
    ],
)
def test_the_answer_is_plain(record: Maker, means: Mapping[tuple[str, str], float], answer: str) -> None:
    question = one(runs(record, 0.9, means))
    assert question.answer == answer
    assert {row[:4] for row in table([question]).rows} == {("MUTAG", "mincut", answer, "10")}


def test_it_takes_every_replacement_to_show_that_something_matters(record: Maker) -> None:
    means = {**STRUCTURE, ("structure", "random"): 0.88}
    question = one(runs(record, 0.9, means, noise=0.05))
    assert question.finding("structure") == "cannot tell" and question.answer == "cannot tell"
    assert question.words.startswith("structure: cannot be told from random (p ")


def test_too_few_runs_are_said_in_words(record: Maker) -> None:
    question = one(runs(record, 0.9, STRUCTURE, n=3))
    assert question.answer == "cannot tell"
    assert question.words == (
        "structure: too few splits, 3 against 3; 5 a side can show it; features: not replaced in any run"
    )
    assert one(runs(record, 0.9, STRUCTURE, n=5)).answer == "structure matters"


def test_what_is_not_told_apart_is_not_thereby_as_good(record: Maker) -> None:
    """The margin has to be shown: wide intervals show nothing."""
    wide = one(runs(record, 0.9, {("structure", "none"): 0.9}, noise=0.05))
    assert (wide.finding("structure"), wide.pairs[0].verdict) == ("cannot tell", "cannot tell")
    errors = one(runs(record, 0.9, {("structure", "none"): 0.9}, metric=("rmse", "min")))
    assert errors.finding("structure") == "cannot tell", "a margin in points says nothing of an error"


def test_less_is_better_where_the_metric_says_so(record: Maker) -> None:
    question = one(runs(record, 0.5, {**FEATURES, ("structure", "none"): 0.3}, metric=("rmse", "min")))
    assert question.answer == "structure is not needed and features matter"


def test_only_what_differs_in_the_perturbation_alone_is_compared(record: Maker) -> None:
    made = runs(record, 0.9, STRUCTURE)
    other = [record(s, 0.2, batch_size=64, perturb=perturbed("structure", "none")) for s in range(10)]
    noise = [record(s, 0.2, perturb={"_target_": "poolbench.data.perturb.AddEdges", "share": 0.5}) for s in range(10)]
    tested = [record(s, 0.2, perturb=perturbed("structure", "none", at="test")) for s in range(10)]
    plain, odd = asked([*made, *other, *noise, *tested])
    assert [pair.difference for pair in plain.pairs] == [pair.difference for pair in one(made).pairs]
    assert odd.pool == "mincut (batch_size=64)"
    assert (odd.answer, odd.words) == ("cannot tell", "no scores on the original graphs")


def test_draws_of_a_perturbation_are_one_mode(record: Maker) -> None:
    made = runs(record, 0.9, {})
    for seed in range(10):
        made += [record(seed, 0.5 + 0.1 * draw, perturb=perturbed("structure", "random", seed=draw)) for draw in (0, 1)]
    (pair,) = one(made).pairs
    assert len(pair.cell.scores) == 10 and set(pair.cell.scores.values()) == {0.55}


def test_without_such_runs_it_says_what_to_run(record: Maker) -> None:
    with pytest.raises(PoolBenchError, match="no run has its graphs or its features replaced: add perturb=graph"):
        asked([record(0, 0.9)])


# ---------------------------------------------------------------------------------------------------- table and figure


def test_the_csv_has_every_pair_with_both_tests(record: Maker) -> None:
    question = one(runs(record, 0.9, {**STRUCTURE, **FEATURES}))
    lines = list(csv.DictReader(io.StringIO(table([question]).written("csv"))))
    assert [(line["replaced"], line["kind"]) for line in lines] == [
        ("graph" if aspect == "structure" else "features", kind) for aspect, kinds in KINDS.items() for kind in kinds
    ]
    for line, pair in zip(lines, question.pairs, strict=True):
        assert float(line["p_bonferroni"]) == pytest.approx(
            8 * max(float(line["p_smirnov"]), float(line["p_rank_sum"]))
        )
        assert float(line["original"]) - float(line["perturbed"]) == pytest.approx(pair.difference)


def test_the_figure_has_a_panel_a_question_with_every_run(record: Maker) -> None:
    made = runs(record, 0.9, {**STRUCTURE, **FEATURES}, n=6)
    found = asked([*made, *(record(s, 0.8, "topk") for s in range(6)),
                   *(record(s, 0.7, "topk", perturb=perturbed("structure", "none")) for s in range(6))])  # fmt: skip
    (drawn,) = figures(found)
    assert [panel.title for panel in drawn.panels] == ["MUTAG, mincut", "MUTAG, topk"]
    dots = [mark for mark in drawn.canvas.marks if isinstance(mark, Markers) and mark.size == 3]
    assert sum(len(mark.points) for mark in dots) == 9 * 6 + 2 * 6
    words = [mark for mark in drawn.canvas.marks if isinstance(mark, Words)]
    assert "both matter" in [word.text for word in words]
    for left, top, right, bottom in (word.box for word in words):
        assert left >= 0 and top >= 0 and right <= drawn.canvas.width and bottom <= drawn.canvas.height


def test_the_command_prints_and_writes(
    record: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    for made in runs(record, 0.9, STRUCTURE, n=6):
        write_record(results / "runs" / made.id / "1", made)
    monkeypatch.setenv("POOLBENCH_RESULTS", str(results))
    assert cli.main(["report", "--separability"]) == 0
    assert "| MUTAG | mincut | structure matters | 6 | " in capsys.readouterr().out
    assert cli.main(["report", "--separability", "--out", str(tmp_path / "out")]) == 0
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == {
        "tables/separability.md", "tables/separability.tex", "tables/separability.csv",
        "figures/separability.svg", "figures/separability.png",
    }  # fmt: skip
    assert cli.main(["report", "--separability", "--curve", "pool.ratio"]) == 2
    assert "give one of them" in capsys.readouterr().err
