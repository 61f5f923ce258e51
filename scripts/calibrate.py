#!/usr/bin/env python3
"""Do the verdicts of `poolbench report --against` keep what they promise? docs/calibration.md has the answers.

    python scripts/calibrate.py aa RESULTS           # no operator differs: how many families call one better or worse?
    python scripts/calibrate.py coverage RESULTS     # two operators differ: do intervals hold what is true?
    python scripts/calibrate.py injected RESULTS     # a difference was put in: is it called equivalent, is it found?
    python scripts/calibrate.py datasets RESULTS     # over datasets: do intervals and decisions hold?
    python scripts/calibrate.py page                 # only write the page's tables anew

RESULTS are folders of records, and KEY=VALUE as of `poolbench report`. What is asked of real runs takes those of
`experiment=calibration/...`; where they are missing a line says so. The rest is simulated, from components of the
answers in whatever records are given. Each writes a table to results/calibration/ and into the page. --quick takes a
few repetitions of everything, to try it out.

Every interval and verdict comes from the functions that the report calls (`statistics.graphs.against`,
`report.comparing.Pair` and `Compared`): nothing is worked out here but how often they are right.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, owens_t
from scipy.stats import binomtest

from poolbench.disk import write_text
from poolbench.errors import PoolBenchError
from poolbench.report.board import Board, Cell, Column, Metric, Row
from poolbench.report.comparing import MEANS, REGION, Compared, Pair, Verdict, numbered, trainings
from poolbench.report.report import of_folder
from poolbench.statistics.datasets import REGIONS, SCALES
from poolbench.statistics.families import ENOUGH, Difference, Family
from poolbench.statistics.graphs import Answers, against

ROOT = Path(__file__).resolve().parents[1]
DATA, PAGE = ROOT / "results/calibration", ROOT / "docs/calibration.md"

AA = ("PROTEINS", "ENZYMES", "IMDB-BINARY")
LEAST_DRAWS = 20
"""Fewer draws, or draws of the truth, than this say nothing of coverage."""
FAMILIES = ((4, 1), (4, 3), (17, 3))
"""Operators beside the baseline and repeats of the cross-validation that are simulated; the last is a leaderboard's."""
DEALT = 4
"""Operators beside the baseline of a family that is dealt of real repeats."""
SHARES = (0.0, 0.002, 0.01)
"""Of a training in the variance of an answer, where coverage is simulated: differences vary by 0, 2 and 5 points."""
SPREADS = (0.0, 0.01, 0.02)
"""From dataset to dataset, of the hierarchical model."""

Line = dict[str, Any]


# --------------------------------------------------------------------------------------------------------- verdicts


def column(name: str = "simulated") -> Column:
    return Column(name, name, Metric(), "splits")


def row(name: str) -> Row:
    return Row(name, name, "", "", "", "")


def verdict(found: Difference) -> Verdict:
    """The report's, of a difference that no board holds."""
    return Pair(row("operator"), column(), found, None).verdict


def false(family: Family) -> bool:
    """Whether an operator of the family is called better or worse."""
    return any(verdict(found) in ("better", "worse") for found in family.differences.values())


def compared(answers: Sequence[Answers]) -> Family:
    """All but the first against the first."""
    return against({str(number): one for number, one in enumerate(answers[1:], 1)}, answers[0])


# ------------------------------------------------------------------------------------------------------- components


@dataclass(frozen=True)
class Components:
    """What right and wrong answers on a dataset are made of, fitted by moments.

    An answer is right where a normal variable is above a threshold; its variance of 1 has the shares `graph` (of the
    graph, whatever the operator), `own` (graph x operator), `training` (of a training, its whole test part), and the
    rest. right: the mean share of right answers. graphs, folds: as many as a cross-validation of the simulation has.
    """

    dataset: str
    operators: int
    trainings: int
    graphs: int
    folds: int
    right: float
    graph: float
    own: float
    training: float


def fitted(name: str, answers: Mapping[str, Answers], folds: int = 10) -> Components | None:
    """Components of the answers that all operators have; None for fewer than two, or where all are right.

    Where each graph was tested once, `own` cannot be told from the rest, and counts as none: without repeats both
    come to the same.
    """
    if len(answers) < 2:
        return None
    keys = None
    for one in answers.values():
        keys = one.keys if keys is None else np.intersect1d(keys, one.keys)
    assert keys is not None
    if len(keys) < 100:
        return None
    values = np.stack([one.value[np.argsort(one.keys)][np.isin(np.sort(one.keys), keys)] for one in answers.values()])
    graphs, graph = np.unique(keys & ((1 << 32) - 1), return_inverse=True)
    trainings, training = np.unique(keys >> 32, return_inverse=True)
    right, k = float(values.mean()), len(values)
    x = values - values.mean(1, keepdims=True)
    if not 0.02 < right < 0.98 or len(trainings) < ENOUGH:
        return None
    by_graph = np.stack([np.bincount(graph, one) for one in x])
    by_training = np.stack([np.bincount(training, one) for one in x])
    squares = (x**2).sum()
    across = (x.sum(0) ** 2).sum() - squares  # of two operators, the same graph and training
    pairs = float((np.bincount(training).astype(float) ** 2).sum()) - len(keys)  # of graphs of one training
    repeats = float((np.bincount(graph).astype(float) ** 2).sum()) - len(keys)  # of trainings of one graph
    same = ((by_training**2).sum() - squares) / (k * pairs)
    other = ((by_training.sum(0) ** 2).sum() - (by_training**2).sum() - across) / (k * (k - 1) * pairs)
    shared = _share(right, across / (k * (k - 1) * len(keys)))
    again = _share(right, ((by_graph**2).sum() - squares) / (k * repeats)) if repeats else shared
    own = min(max(0.0, again - shared), 0.9 - shared)
    one_draw = len(graphs) // len(np.unique(graphs >> 24))
    return Components(name, k, len(trainings), one_draw, folds, right, shared, own, _share(right, same - other))


def _share(right: float, covariance: float) -> float:
    """The correlation of two normal variables of which, above the threshold, such a covariance remains."""

    def missing(rho: float) -> float:
        h = float(ndtri(right))
        return right - 2 * float(owens_t(h, math.sqrt((1 - rho) / (1 + rho)))) - right**2 - covariance

    return 0.0 if covariance <= 0 else 0.9 if missing(0.9) < 0 else float(brentq(missing, 0.0, 0.9))


def simulated(
    generator: np.random.Generator, of: Components, repeats: int, differences: Sequence[float]
) -> list[Answers]:
    """Repeated cross-validations of the baseline and of operators that truly differ from it by so much."""
    fold = np.stack([generator.permutation(of.graphs) % of.folds for _ in range(repeats)])
    training = np.arange(repeats)[:, None] * of.folds + fold
    easy = math.sqrt(of.graph) * generator.standard_normal(of.graphs)
    rest = math.sqrt(max(0.0, 1 - of.graph - of.own - of.training))
    graph, made = np.tile(np.arange(of.graphs), repeats), []
    for difference in (0.0, *differences):
        latent = easy + math.sqrt(of.own) * generator.standard_normal(of.graphs)
        latent = latent + math.sqrt(of.training) * generator.standard_normal(repeats * of.folds)[training]
        latent = latent + rest * generator.standard_normal(latent.shape)
        right = latent + float(ndtri(of.right + difference)) > 0
        made.append(Answers(graph, training.reshape(-1), right.reshape(-1).astype(float)))
    return made


def components(boards: Iterable[Board]) -> list[Components]:
    """Of every dataset on which two operators of the same setting, or two seeds of one, have answers in common."""
    found: dict[str, Components] = {}
    for board in boards:
        by_context: dict[str, list[Row]] = defaultdict(list)
        for one in board.rows:
            by_context[one.context].append(one)
        for where in board.columns:
            if where.metric.name not in MEANS:
                continue
            for rows in by_context.values():
                cells = {one.key: board.cells[one, where] for one in rows}
                if len(rows) == 1:
                    cells = dict(by_seed(cells[rows[0].key]))
                made = fitted(where.dataset, answered(cells))
                if made and (where.dataset not in found or found[where.dataset].operators < made.operators):
                    found[where.dataset] = made
    return list(found.values())


def answered(cells: Mapping[str, Cell]) -> dict[str, Answers]:
    """The answers of those cells of a dataset all of whose runs have them, numbered alike."""
    runs = {name: list(trainings(cell).values()) for name, cell in cells.items()}
    known = {name: part for name, part in runs.items() if numbered([part])}
    return dict(zip(known, numbered(list(known.values())) or [], strict=True)) if known else {}


def by_seed(cell: Cell) -> Iterator[tuple[str, Cell]]:
    """The runs of each seed, as though it were an operator: its trainings are those of the splits."""
    seeds: dict[str, list[Any]] = defaultdict(list)
    for run in cell.runs:
        seeds[run.seed].append(replace(run, seed="any"))
    for seed, runs in seeds.items():
        yield seed, replace(cell, runs=tuple(runs))


# -------------------------------------------------------------------------------------------------------------- A/A


class Repeat(NamedTuple):
    """One cross-validation of a split and a seed. fold: [graphs], which training tested a graph."""

    split: str
    seed: str
    graph: np.ndarray
    fold: np.ndarray
    value: np.ndarray


def repeats(cell: Cell) -> list[Repeat]:
    """The whole cross-validations of a cell; those that lack a fold are left out."""
    made = []
    by_split: dict[str, list[Any]] = defaultdict(list)
    for run in cell.runs:
        by_split[str(run.record.seeds.split)].append(run)
    most = 0
    for split, runs in by_split.items():
        for seed, answers in answered(dict(by_seed(replace(cell, runs=tuple(runs))))).items():
            order = np.argsort(answers.graph)
            made.append(Repeat(split, seed, answers.graph[order], answers.training[order], answers.value[order]))
            most = max(most, len(order))
    return [one for one in made if len(one.graph) == most]


def dealt(generator: np.random.Generator, found: Sequence[Repeat], others: int, each: int) -> Iterator[list[int]]:
    """Families without end: each pseudo-operator's repeats, by number, one of each of `each` splits.

    All operators of a family have the same splits, as in a sweep, and no repeat is in it twice.
    """
    by_split: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(found):
        by_split[one.split].append(number)
    enough = [numbers for numbers in by_split.values() if len(numbers) > others]
    while len(enough) >= each:
        chosen = generator.permutation(len(enough))[:each]
        yield [int(n) for which in chosen for n in generator.permutation(enough[which])[: others + 1]]


def joined(found: Sequence[Repeat], members: Sequence[int], others: int) -> list[Answers]:
    """The pseudo-operators of a family that was dealt."""
    made = []
    for operator in range(others + 1):
        own = [found[number] for number in members[operator :: others + 1]]
        training = [one.fold + place * (1 << 16) for place, one in enumerate(own)]
        made.append(Answers(*(np.concatenate(part) for part in (
            [one.graph for one in own], training, [one.value for one in own]))))  # fmt: skip
    return made


def shares(found: Sequence[Repeat], each: int, families: int, seed: int = 0) -> tuple[float, float, int]:
    """The share of dealt families with a false verdict, its standard error, and how many were dealt.

    The error leaves out each repeat in turn (the jackknife): families share the repeats, so that a thousand of them
    say no more than the repeats do. That of a share of families, a U-statistic, is rather too large by it.
    """
    generator = np.random.default_rng(seed)
    wrong, inside = [], []
    for _, members in zip(range(families), dealt(generator, found, DEALT, each), strict=False):
        wrong.append(false(compared(joined(found, members, DEALT))))
        inside.append(np.isin(np.arange(len(found)), members))
    if not wrong:
        return math.nan, math.nan, 0
    bad, member = np.array(wrong, dtype=float), np.array(inside)
    without = np.array([bad[~member[:, n]].mean() for n in range(len(found))])
    n = len(found)
    return float(bad.mean()), math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum())), len(bad)


def aa(boards: Sequence[Board], quick: bool) -> list[Line]:
    """Families of which no operator differs: dealt of real repeats of one operator, and simulated."""
    families, lines, together = (40, 40) if quick else (4000, 400), [], defaultdict(list)
    for board in boards:
        for (one, where), cell in board.cells.items():
            found = repeats(cell) if one.pool == "none" and where.dataset.partition(" ")[0] in AA else []
            for each in (1, 3):
                share, error, counted = shares(found, each, families[0])
                if counted:
                    together[each].append((share, error, counted))
                    lines.append(_dealt(where.dataset, len(found), each, share, error, counted))
    for each, parts in together.items():
        if len(parts) > 1:
            share = float(np.mean([part[0] for part in parts]))
            error = math.sqrt(sum(part[1] ** 2 for part in parts)) / len(parts)
            lines.append(_dealt("together", 0, each, share, error, sum(part[2] for part in parts)))
    if not lines:
        say("no cross-validations of `none` with several seeds a split", "aa")
    generator = np.random.default_rng(1)
    for of in components(boards):
        for others, each in FAMILIES:
            wrong = sum(false(compared(simulated(generator, of, each, [0.0] * others))) for _ in range(families[1]))
            lines.append(_line("simulated", of.dataset, others, each, wrong, families[1]))
    return lines


def _dealt(dataset: str, n: int, each: int, share: float, error: float, families: int) -> Line:
    return {
        "runs": "real", "dataset": dataset, "cross-validations": n or "", "operators": DEALT, "repeats": each,
        "families": families, "false": share, "low": max(0.0, share - 1.96 * error), "high": share + 1.96 * error,
    }  # fmt: skip


def _line(runs: str, dataset: str, others: int, each: int, wrong: int, families: int) -> Line:
    low, high = binomial(wrong, families)
    return {
        "runs": runs, "dataset": dataset, "cross-validations": "", "operators": others, "repeats": each,
        "families": families, "false": wrong / families, "low": low, "high": high,
    }  # fmt: skip


def binomial(hits: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a share."""
    found = binomtest(hits, n).proportion_ci(0.95)
    return float(found.low), float(found.high)


# --------------------------------------------------------------------------------------------------------- coverage


class Draws(NamedTuple):
    """By draw of the generated set, the difference of an operator to the baseline as the report has it."""

    small: list[Difference]
    truth: np.ndarray
    tested: int
    """Graphs that the truth was tested on."""


def draws(boards: Sequence[Board]) -> Draws | None:
    """Of the two experiments; None where runs of one are missing."""
    small, truth = (
        [(board, where) for board in boards for where in board.columns
         if where.unit == "draws" and board.protocol.startswith(name)] for name in ("cv10", "holdout")
    )  # fmt: skip
    for board, where in small:
        for other, there in truth:
            ours, theirs = _by_draw(board, where), _by_draw(other, there)
            if (
                len(ours) >= LEAST_DRAWS
                and len(theirs) >= LEAST_DRAWS
                and _trained(board, where) == _trained(other, there)
            ):
                values = np.array([found.difference for found in theirs])
                return Draws(ours, values, sum(found.graphs or 0 for found in theirs))
    return None


def _trained(board: Board, where: Column) -> int:
    """On how many graphs most trainings were."""
    sizes = [run.record.splits.train for row in board.rows for run in board.cells[row, where].runs]
    return max(set(sizes), key=sizes.count)


def _by_draw(board: Board, where: Column) -> list[Difference]:
    there = [one for one in board.rows if board.cells[one, where].runs]  # other rows are of other datasets
    base = next((one for one in there if one.pool == "none"), None)
    if base is None:
        return []
    found = []
    for one in there:
        if one == base or one.context != base.context:
            continue
        cells = (board.cells[base, where], board.cells[one, where])
        for draw in sorted({run.draw for run in cells[0].runs}):
            part = {str(n): replace(c, runs=tuple(r for r in c.runs if r.draw == draw)) for n, c in enumerate(cells)}
            answers = answered(part)
            if len(answers) == 2 and (made := against({"1": answers["1"]}, answers["0"]).differences):
                found.append(made["1"])
        return found
    return []


def coverage(boards: Sequence[Board], quick: bool) -> list[Line]:
    """How often intervals of small draws hold what is true."""
    found = draws(boards)
    if found is None:
        say(f"fewer than {LEAST_DRAWS} draws with answers of two operators, or of their truth", "coverage",
            "coverage_truth")  # fmt: skip
        return []
    truth, error = float(found.truth.mean()), float(found.truth.std(ddof=1)) / math.sqrt(len(found.truth))
    measured = {"truth": truth, "its error": error, "trainings": len(found.truth), "graphs": found.tested}
    made = _covering({"runs": "real", "part of a training": "", **measured}, found.small, truth, found.truth)
    generator, difference = np.random.default_rng(4), -REGION
    for repeats, share in itertools.product((1, 3), SHARES):
        of = Components("simulated", 2, 10 * repeats, 1000, 10, 0.75, 0.5, 0.02, share)
        # What one training of each comes to, were it tested on every graph.
        ends = np.array([ndtri(of.right), ndtri(of.right + difference)])
        ends = ends + math.sqrt(share) * generator.standard_normal((4000, 2))
        once = np.diff(ndtr(ends / math.sqrt(1 - share)), axis=1)[:, 0]
        small = [compared(simulated(generator, of, repeats, [difference])).differences["1"]
                 for _ in range(40 if quick else 1000)]  # fmt: skip
        known = {"truth": difference, "its error": "", "trainings": "", "graphs": ""}
        made += _covering({"runs": "simulated", "part of a training": float(once.std()), **known}, small, difference,
                          once)  # fmt: skip
    return made


def _covering(line: Line, small: Sequence[Difference], truth: float, once: np.ndarray) -> list[Line]:
    """How often the intervals of draws hold the true mean, and what one more training comes to.

    once: of some trainings, each a difference as it would be on every graph.
    """
    known = [d for d in small if d.low is not None and d.high is not None]
    ends, n = np.array([(d.low, d.high, d.new_low, d.new_high) for d in known], dtype=float), len(known)
    mean = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    one = (ends[:, 2:3] <= once) & (once <= ends[:, 3:])
    low, high = binomial(int(mean.sum()), n)
    spread = 1.96 * math.sqrt(float(one.mean(1).var(ddof=1)) / n + float(one.mean(0).var(ddof=1)) / len(once))
    covered = float(one.mean())
    line = {**line, "draws": n, "without an interval": len(small) - n, "graphs a draw": known[0].graphs,
            "trainings a draw": known[0].trainings}  # fmt: skip
    width, wider = (float(np.mean(ends[:, k + 1] - ends[:, k])) for k in (0, 2))
    return [
        {"interval": "95 % interval", **line, "width": width, "covered": float(mean.mean()), "low": low, "high": high},
        {"interval": "one more training", **line, "width": wider, "covered": covered, "low": max(0.0, covered - spread),
         "high": min(1.0, covered + spread)},
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------------- injected


def spoiled(generator: np.random.Generator, answers: Answers, difference: float) -> Answers:
    """An operator that is `difference` worse: graphs drawn at random are wrong in all its trainings."""
    graphs = np.unique(answers.graph)
    lost = graphs[generator.random(len(graphs)) < difference / float(answers.value.mean())]
    return replace(answers, value=np.where(np.isin(answers.graph, lost), 0.0, answers.value))


def injected(boards: Sequence[Board], quick: bool) -> list[Line]:
    """A difference of the region's bound must not be called equivalent, and one of the stated size be found."""
    lines, times = [], 40 if quick else 400
    generator = np.random.default_rng(2)
    real = False
    for board in boards:
        for (one, where), cell in board.cells.items():
            found = repeats(cell) if one.pool == "none" and where.dataset.partition(" ")[0] in AA else []
            for each in (1, 3):
                pairs = [joined(found, members, 1) for _, members in zip(
                    range(times), dealt(generator, found, 1, each), strict=False)]  # fmt: skip
                if pairs:
                    real = True
                    lines += _injected("real", where.dataset, each, 1, lambda d, p=pairs: (  # type: ignore[misc]
                        [base, spoiled(generator, other, d)] for base, other in p))  # fmt: skip
    if not real:
        say("no cross-validations of `none` with several seeds a split", "aa")
    for of in components(boards):
        for others, each in ((1, 3), (17, 3)):
            count = times if others == 1 else times // 2
            lines += _injected("simulated", of.dataset, each, others, lambda d, o=of, m=others, e=each, c=count: (  # type: ignore[misc]
                simulated(generator, o, e, [-d] + [0.0] * (m - 1)) for _ in range(c)))  # fmt: skip
    return lines


def _injected(
    runs: str, dataset: str, each: int, others: int, made: Callable[[float], Iterable[list[Answers]]]
) -> list[Line]:
    """made: families of which the first operator is worse by so much."""
    bound = [compared(answers).differences["1"] for answers in made(REGION)]
    equivalent = sum(verdict(found) == "equivalent" for found in bound)
    low, high = binomial(equivalent, len(bound))
    line = {"runs": runs, "dataset": dataset, "operators": others, "repeats": each, "times": len(bound)}
    lines = [{**line, "difference": REGION, "asked": "called equivalent", "share": equivalent / len(bound),
              "low": low, "high": high}]  # fmt: skip
    # What is stated hangs on the true difference, as rarer answers vary less: taken is one that is stated where it is
    # true.
    stated = REGION
    for _ in range(4):
        stated = min(_stated(made(stated)), 0.3)
    for factor in (1.0, 1.5):
        found = [compared(answers).differences["1"] for answers in made(factor * stated)]
        hits = sum(verdict(one) == "worse" for one in found)
        low, high = binomial(hits, len(found))
        asked = "found (stated: 80 %)" if factor == 1 else "found"
        lines.append({**line, "difference": factor * stated, "asked": asked, "share": hits / len(found), "low": low,
                      "high": high})  # fmt: skip
    return lines


def _stated(families: Iterable[list[Answers]]) -> float:
    """The median of the differences that forty families say they could have shown."""
    found = [compared(answers).differences["1"].joint_detectable for answers in itertools.islice(families, 40)]
    return float(np.median([each for each in found if each is not None]))


# --------------------------------------------------------------------------------------------------------- datasets


def datasets(boards: Sequence[Board], quick: bool) -> list[Line]:
    """From answers to decisions over six datasets, under spreads of a difference from dataset to dataset."""
    found = components(boards)
    if not found:
        return []
    chosen = [found[n % len(found)] for n in range(6)]
    # At the bound of the smaller region, at that of the larger one, no difference, and a large one.
    true = np.array([REGIONS[0]] * 2 + [-REGIONS[1]] * 2 + [0.0] * 2 + [0.04] * 2)
    shared, lines = (np.eye(len(true)) + np.ones((len(true), len(true)))) / 2, []
    for spread in SPREADS:
        generator, counts = np.random.default_rng(3), defaultdict[str, list[bool]](list)
        for _ in range(4 if quick else 120):
            families = {}
            for number, of in enumerate(chosen):
                own = np.clip(true + generator.multivariate_normal(np.zeros(len(true)), spread**2 * shared),
                              0.005 - of.right, 0.995 - of.right)  # fmt: skip
                families[column(str(number))] = compared(simulated(generator, of, 3, list(own)))
            following = true + generator.multivariate_normal(np.zeros(len(true)), spread**2 * shared)
            for scale, made in zip(SCALES, Compared(row("baseline"), {}, families, {}).over, strict=False):
                for mean in made.means:
                    of_operator = int(mean.name) - 1
                    _note(counts, f"{scale}", mean, float(true[of_operator]), float(following[of_operator]))
        for scale in SCALES:
            for asked, hits in counts.items():
                if asked.startswith(f"{scale}|"):
                    low, high = binomial(sum(hits), len(hits))
                    lines.append({"spread": spread, "prior": scale, "asked": asked.partition("|")[2],
                                  "decisions": len(hits), "share": sum(hits) / len(hits), "low": low,
                                  "high": high})  # fmt: skip
    return lines


def _note(counts: dict[str, list[bool]], scale: str, mean: Any, true: float, following: float) -> None:
    low, high = mean.mean.interval()
    counts[f"{scale}|interval holds the mean"].append(low <= true <= high)
    low, high = mean.next.interval()
    counts[f"{scale}|interval holds the next dataset"].append(low <= following <= high)
    if true == REGIONS[0]:
        counts[f"{scale}|1 point better, called better than 1"].append(mean.decision(REGIONS[0]) == "better")
    elif true == -REGIONS[1]:
        counts[f"{scale}|2 points worse, called equivalent within 2"].append(mean.decision(REGIONS[1]) == "equivalent")
    elif true == 0.0:
        wrong = mean.decision(REGIONS[0]) in ("better", "worse")
        counts[f"{scale}|no difference, called better or worse"].append(wrong)
    else:
        counts[f"{scale}|4 points better, called better than 1"].append(mean.decision(REGIONS[0]) == "better")


# ------------------------------------------------------------------------------------------------- what is written


PARTS: dict[str, Callable[[Sequence[Board], bool], list[Line]]] = {
    "aa": aa, "coverage": coverage, "injected": injected, "datasets": datasets,
}  # fmt: skip

PERCENT = ("false", "share", "covered", "low", "high", "right", "graph", "own", "training")
POINTS = ("difference", "truth", "its error", "part of a training", "width", "spread", "prior")


def say(what: str, *experiments: str) -> None:
    """A line on what is missing, and what makes it."""
    commands = " and ".join(
        f"python train.py -m experiment=calibration/{name} hydra/launcher=local paths.results=results/calibration"
        for name in experiments
    )
    print(f"missing: {what}; {commands}", file=sys.stderr)


def text(lines: Sequence[Line]) -> str:
    """As CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines)
    return out.getvalue()


def table(data: str) -> str:
    """A CSV file as the page shows it: shares in percent, differences in points, ends of an interval in one cell."""
    lines = list(csv.DictReader(io.StringIO(data)))
    names = [name for name in lines[0] if name not in ("low", "high")] + (
        ["95 % interval"] if "low" in lines[0] else []
    )
    out = [f"| {' | '.join(names)} |", "|" + "".join(" --- |" if _word(lines, name) else " ---: |" for name in names)]
    for line in lines:
        shown = {**{name: _shown(name, value) for name, value in line.items()},
                 "95 % interval": f"{_shown('low', line['low'])} to {_shown('high', line['high'])}"
                 if "low" in line else ""}  # fmt: skip
        out.append(f"| {' | '.join(shown[name] for name in names)} |")
    return "\n".join(out)


def _word(lines: Sequence[Mapping[str, str]], name: str) -> bool:
    return name in lines[0] and not any(c.isdigit() for line in lines for c in line[name][:1])


def _shown(name: str, value: str) -> str:
    if not value or name not in PERCENT + POINTS:
        return value
    return f"{100 * float(value):.1f}" if name in PERCENT else f"{100 * float(value):.2f}".rstrip("0").rstrip(".")


def written(page: str, data: Path) -> str:
    """The page with a table of each file of the folder between its marks."""
    for name in ("components", *PARTS):
        before, mark, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not mark or not end:
            raise PoolBenchError(f"{PAGE.name} has no marks for {name}: <!-- {name} --> and <!-- end of {name} -->")
        path = data / f"{name}.csv"
        inner = table(path.read_text()) if path.exists() else "Not run yet."
        page = f"{before}{mark}{inner}\n{end}{after}"
    return page


def main(argv: Sequence[str] | None = None) -> int:
    """Write a part's table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "page"])
    parser.add_argument("words", nargs="*", metavar="RESULTS", help="folders of records; KEY=VALUE: only such runs")
    parser.add_argument("--out", type=Path, default=DATA, help="the folder of the tables; another one leaves the page")
    parser.add_argument("--quick", action="store_true", help="a few repetitions of everything")
    options = parser.parse_intermixed_args(argv)
    try:
        if options.part != "page":
            calibrate(options.part, options.words, options.out, options.quick)
        if options.out == DATA:
            write_text(PAGE, written(PAGE.read_text(), DATA))
    except PoolBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def calibrate(part: str, words: Sequence[str], out: Path, quick: bool) -> None:
    """Do a part and write its table. words: folders, and what a query of `poolbench report` asks for."""
    folders, query = [word for word in words if "=" not in word], [word for word in words if "=" in word]
    if not folders:
        raise PoolBenchError(f"{part}: give a folder of records, such as results")
    boards = [board for folder in folders for board in of_folder(Path(folder), query).boards]
    made = components(boards)
    if not made and part != "coverage":
        raise PoolBenchError("no records with the answers of two operators, or seeds, on the same graphs")
    lines = PARTS[part](boards, quick)
    if not lines:
        raise PoolBenchError(f"{part}: there is nothing to write")
    if part == "aa":
        write_text(out / "components.csv", text([vars(of) for of in made]))
    write_text(out / f"{part}.csv", text(lines))
    print(table(text(lines)))


if __name__ == "__main__":
    sys.exit(main())
