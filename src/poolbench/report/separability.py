"""Does a dataset need its structure, its features, both? What operators make of it with either of them replaced.

After Coupette, Wayland, Simons & Rieck, "No Metric to Rule Them All: Toward Principled Evaluations of Graph-Learning
Datasets", ICML 2025, arXiv 2502.02379 (RINGS): a mode perturbation replaces the graph (none, complete, random,
connected) or the features (none, constant, node, random) of every graph, and performance separability asks whether the
scores on the original differ from those on the perturbed graphs: two-sample tests by permutation, of the
Kolmogorov-Smirnov statistic and of Wilcoxon's rank sum, corrected after Bonferroni over the pairs.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np

from poolbench import statistics
from poolbench.errors import PoolBenchError
from poolbench.records.frame import flatten
from poolbench.records.identity import canonical_json, without
from poolbench.report.board import Board, Cell, Column, Row
from poolbench.report.canvas import INK, Canvas, Line, Markers, text_width
from poolbench.report.drawn import Drawn
from poolbench.report.leaderboard import differences
from poolbench.report.panels import COLOURS, EDGE, GAP, HEAD, TITLE, Panel, linear, names_axis, names_size
from poolbench.report.table import Table, p_number
from poolbench.statistics import LEVEL, MARGIN, Scores

ASPECTS = {"ReplaceGraph": "structure", "ReplaceFeatures": "features"}
"""Perturbations of a mode, and what they take away."""
KINDS = {
    "structure": ("none", "complete", "random", "connected"),
    "features": ("none", "constant", "node", "random"),
}
WORDS = {"structure": "graph", "features": "features"}
"""The group choice of the perturbation: perturb=graph, perturb=features."""
RESAMPLES = 9999
"""Of a permutation test; where there are no more permutations, all of them are tried."""
BLOCK = 500
"""Permutations of which the statistic is computed at once."""


class Mode(NamedTuple):
    """A replaced graph or replaced features."""

    aspect: str
    kind: str

    def __str__(self) -> str:
        return f"{WORDS[self.aspect]} {self.kind}"


MODES = tuple(Mode(aspect, kind) for aspect, kinds in KINDS.items() for kind in kinds)


# ------------------------------------------------------------------------------------------------------------ the tests


def smirnov(a: Scores, b: Scores) -> float | None:
    """p of the Kolmogorov-Smirnov statistic, the largest distance of the two distribution functions, by permutation."""
    from scipy.stats import permutation_test, rankdata

    if min(len(a), len(b)) < 2:
        return None
    steps = np.arange(1, len(a) + len(b) + 1)

    def distance(x: Any, y: Any, axis: int) -> Any:
        first, second = ((np.moveaxis(part, axis, -1)[..., None] <= steps).mean(axis=-2) for part in (x, y))
        return np.abs(first - second).max(axis=-1)

    ranks = rankdata(_rounded([*a, *b]), method="max")
    parts = ranks[: len(a)], ranks[len(a) :]
    found = permutation_test(
        parts, distance, vectorized=True, n_resamples=RESAMPLES, batch=BLOCK, alternative="greater", rng=0
    )
    return float(found.pvalue)


def rank_sum(a: Scores, b: Scores) -> float | None:
    """p of Wilcoxon's rank sum, two-sided, by permutation."""
    from scipy.stats import permutation_test, rankdata

    if min(len(a), len(b)) < 2:
        return None

    def gap(x: Any, y: Any, axis: int) -> Any:
        return x.mean(axis=axis) - y.mean(axis=axis)

    ranks = rankdata(_rounded([*a, *b]))
    parts = ranks[: len(a)], ranks[len(a) :]
    return float(permutation_test(parts, gap, vectorized=True, n_resamples=RESAMPLES, batch=BLOCK, rng=0).pvalue)


def _rounded(values: Scores) -> np.ndarray[Any, Any]:
    """Scores that are equal but for the order of their sums are ties."""
    return np.round(values, 12)


def least_p(n: int, m: int) -> float:
    """The smallest p that n and m scores can reach in either test: none of one side lies among those of the other."""
    return min(1.0, 2 / math.comb(n + m, n))


def least_runs(pairs: int) -> int:
    """The smallest number of runs a side that can be significant after the correction for so many pairs."""
    return next(n for n in range(2, 100) if pairs * least_p(n, n) < 1 - LEVEL)


# ----------------------------------------------------------------------------------------------------- what they say


@dataclass(frozen=True)
class Pair:
    """The original against one mode."""

    mode: Mode
    cell: Cell
    difference: float
    """original - perturbed, of the means."""
    smirnov: float | None
    rank_sum: float | None
    """p, not corrected."""
    corrected: float | None
    """The larger of both after Bonferroni's correction: the scores differ where both tests say so."""
    lost: float | None
    """What the original may be better by, at the most: the upper end of a one-sided interval, corrected likewise."""
    sign: int

    @property
    def verdict(self) -> Literal["better", "as good", "cannot tell"]:
        """Of the original: better than the perturbed; or the perturbed is as good (within the margin) or better."""
        if self.corrected is not None and self.corrected < 1 - LEVEL:
            return "better" if self.sign * self.difference > 0 else "as good"
        return "as good" if self.lost is not None and self.lost < MARGIN else "cannot tell"


Finding = Literal["matters", "not needed", "cannot tell", "not run"]


@dataclass(frozen=True)
class Question:
    """A dataset under one protocol, for one operator in one network."""

    dataset: str
    protocol: str
    pool: str
    """With what tells it from others of the same dataset."""
    column: Column
    original: Cell
    pairs: tuple[Pair, ...]

    def of(self, aspect: str) -> list[Pair]:
        return [pair for pair in self.pairs if pair.mode.aspect == aspect]

    def finding(self, aspect: str) -> Finding:
        """`matters`: the original is better than with each replacement that was run. `not needed`: one is as good."""
        verdicts = {pair.verdict for pair in self.of(aspect)}
        if not verdicts:
            return "not run"
        return "matters" if verdicts == {"better"} else "not needed" if "as good" in verdicts else "cannot tell"

    @cached_property
    def answer(self) -> str:
        structure, features = (self.finding(aspect) for aspect in KINDS)
        if structure == features:
            return {"matters": "both matter", "not needed": "neither is needed"}.get(structure, "cannot tell")
        if {structure, features} == {"cannot tell", "not run"}:
            return "cannot tell"
        verbs = {"structure": ("matters", "is not needed"), "features": ("matter", "are not needed")}
        said = [
            f"{aspect} {verbs[aspect][found == 'not needed']}"
            for aspect, found in (("structure", structure), ("features", features))
            if found in ("matters", "not needed")
        ]
        return " and ".join(said)

    @cached_property
    def words(self) -> str:
        """What the answer rests on."""
        if not self.original.scores:
            return "no scores on the original graphs"
        return "; ".join(f"{aspect}: {self._reason(aspect)}" for aspect in KINDS)

    def _reason(self, aspect: str) -> str:
        pairs, metric, found = self.of(aspect), self.column.metric, self.finding(aspect)
        if found == "not run":
            return "not replaced in any run"
        if found == "matters":
            least = min(abs(pair.difference) for pair in pairs)
            return f"better by {metric.gap(least)} {metric.unit} or more"
        if found == "not needed":
            kinds = ", ".join(pair.mode.kind for pair in pairs if pair.verdict == "as good")
            return f"as good with {kinds}"
        if short := self.too_few(pairs):
            return short
        open_ = [f"{pair.mode.kind} (p {p_number(pair.corrected)})" for pair in pairs if pair.verdict == "cannot tell"]
        return f"cannot be told from {', '.join(open_)}"

    def too_few(self, pairs: Sequence[Pair]) -> str:
        """In words that the scores are too few for the tests, whatever they are; empty where they are not."""
        n, counts = len(self.original.scores), [len(pair.cell.scores) for pair in pairs]
        if all(len(self.pairs) * least_p(n, m) < 1 - LEVEL for m in counts):
            return ""
        unit = self.column.unit
        return f"too few {unit}, {n} against {min(counts)}; {least_runs(len(self.pairs))} a side can show it"


def questions(boards: Iterable[Board]) -> list[Question]:
    """For each dataset, operator and network that ran with a graph or features replaced, what that shows.

    Raises:
        PoolBenchError: there are no such runs.
    """
    made = [question for board in boards for column in board.columns for question in _of_column(board, column)]
    if not made:
        raise PoolBenchError(
            "no run has its graphs or its features replaced: add perturb=graph perturb.kind=none,complete,random,"
            "connected and perturb=features perturb.kind=none,constant,node,random to a sweep, and run it without too"
        )
    return made


def _of_column(board: Board, column: Column) -> list[Question]:
    groups: dict[str, dict[Mode | None, list[Row]]] = defaultdict(lambda: defaultdict(list))
    settings: dict[str, Mapping[str, Any]] = {}
    for row in board.rows:
        if board.cells[row, column].runs:
            setting = json.loads(row.key)["config"]
            known, mode = _mode(setting.get("perturb"))
            if known:
                rest = without(setting, ["perturb"])
                key = canonical_json([row.pool, row.model, rest, row.code])
                groups[key][mode].append(row)
                settings[key] = rest
    asked = {key: modes for key, modes in groups.items() if any(modes)}
    firsts = {key: next(iter(modes.values()))[0] for key, modes in asked.items()}
    options = differences({
        key: (row.pool, flatten({"model": row.model, **settings[key], "code": row.code[:8]}))
        for key, row in firsts.items()
    })  # fmt: skip
    names = {key: row.pool + (f" ({options[key]})" if options[key] else "") for key, row in firsts.items()}
    cells = {
        key: {mode: _together([board.cells[row, column] for row in rows]) for mode, rows in modes.items()}
        for key, modes in asked.items()
    }
    return [_question(board, column, names[key], cells[key]) for key in sorted(asked, key=lambda key: names[key])]


def _mode(perturb: Any) -> tuple[bool, Mode | None]:
    """Whether a perturbation is that of a mode in all graphs, or none at all; and which."""
    target = (perturb or {}).get("_target_")
    if target is None:
        return True, None
    aspect = ASPECTS.get(str(target).rpartition(".")[2])
    if aspect is None or perturb.get("at") != "both":
        return False, None
    return True, Mode(aspect, str(perturb.get("kind")))


def _together(cells: Sequence[Cell]) -> Cell:
    """One cell of those of several draws of the perturbation: the mean of each unit."""
    if len(cells) == 1:
        return cells[0]
    by_unit: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        for unit, value in cell.scores.items():
            by_unit[unit].append(value)
    scores = {unit: fmean(values) for unit, values in by_unit.items()}
    runs = tuple(run for cell in cells for run in cell.runs)
    return Cell(runs, scores, max(cell.test_over_train for cell in cells), 0)


def _question(board: Board, column: Column, pool: str, cells: Mapping[Mode | None, Cell]) -> Question:
    original = cells.get(None, Cell((), {}, 0.0, 0))
    ran = [mode for mode in MODES if mode in cells and cells[mode].scores] if original.scores else []
    pairs = tuple(_pair(mode, column, original, cells[mode], len(ran)) for mode in ran)
    return Question(column.dataset, board.protocol, pool, column, original, pairs)


def _pair(mode: Mode, column: Column, original: Cell, perturbed: Cell, pairs: int) -> Pair:
    ours, theirs = list(original.scores.values()), list(perturbed.scores.values())
    found = smirnov(ours, theirs), rank_sum(ours, theirs)
    p = max((p for p in found if p is not None), default=None)
    corrected = None if p is None else min(1.0, pairs * p)
    lost = _lost(original, perturbed, pairs) if column.metric.points and column.metric.sign > 0 else None
    return Pair(mode, perturbed, fmean(ours) - fmean(theirs), *found, corrected, lost, column.metric.sign)


def _lost(original: Cell, perturbed: Cell, pairs: int) -> float | None:
    common = sorted(set(original.scores) & set(perturbed.scores))
    if not common:
        return None
    ours, theirs = ([cell.scores[unit] for unit in common] for cell in (original, perturbed))
    level = 1 - 2 * (1 - LEVEL) / pairs
    return statistics.compare(ours, theirs, original.test_over_train, level).high


# -------------------------------------------------------------------------------------------------------------- a table


def table(found: Sequence[Question]) -> Table:
    """A row a dataset and operator: scores with each mode, and the answer."""
    protocols = len({question.protocol for question in found}) > 1
    shown = [mode for mode in MODES if any(pair.mode == mode for q in found for pair in q.pairs)]
    header = (
        "dataset", *(["protocol"] if protocols else []), "pool", "answer", "n", "original", *map(str, shown), "in words"
    )  # fmt: skip
    rows, records = [], []
    for question in found:
        pairs = {pair.mode: pair for pair in question.pairs}
        original, metric = question.original.estimate, question.column.metric
        rows.append((
            question.dataset, *([question.protocol] if protocols else []), question.pool, question.answer,
            str(len(question.original.scores)),
            "–" if original is None else metric.text(original.mean),
            *(_cell(question, pairs.get(mode)) for mode in shown),
            question.words,
        ))  # fmt: skip
        records += [_record(question, pair) for pair in question.pairs]
    caption = (
        "Mean test score on the original graphs and with their graph or their features replaced; p after Bonferroni's "
        "correction over the replacements that were run, the larger of two permutation tests (Kolmogorov-Smirnov, "
        "Wilcoxon's rank sum). Structure matters where the original is better than with every graph that was put in "
        f"its place (p < {1 - LEVEL:.2f}), features likewise; one is not needed where a replacement is shown to be "
        f"better, or less than {100 * MARGIN:.0f} points behind. The tests take runs for independent: splits share "
        "graphs, so that what is found holds for this dataset."
    )
    left = 3 + protocols
    return Table("separability", "What the answers depend on", caption, header, tuple(rows), left, tuple(records))


def _cell(question: Question, pair: Pair | None) -> str:
    if pair is None:
        return "–"
    mean = question.column.metric.text(fmean(pair.cell.scores.values()))
    return mean if pair.corrected is None else f"{mean} (p {p_number(pair.corrected)})"


def _record(question: Question, pair: Pair) -> dict[str, Any]:
    original = question.original.scores
    return {
        "protocol": question.protocol,
        "dataset": question.dataset,
        "pool": question.pool,
        "answer": question.answer,
        "structure": question.finding("structure"),
        "features": question.finding("features"),
        "metric": question.column.metric.name,
        "unit": question.column.unit,
        "replaced": WORDS[pair.mode.aspect],
        "kind": pair.mode.kind,
        "original": fmean(original.values()),
        "perturbed": fmean(pair.cell.scores.values()),
        "n_original": len(original),
        "n_perturbed": len(pair.cell.scores),
        "p_smirnov": pair.smirnov,
        "p_rank_sum": pair.rank_sum,
        "p_bonferroni": pair.corrected,
        "lost_at_most": pair.lost,
        "verdict": pair.verdict,
    }


# ------------------------------------------------------------------------------------------------------------- a figure


def figures(found: Sequence[Question]) -> list[Drawn]:
    """A panel a dataset and operator: every run, mean and interval of the original and of each replacement."""
    asked = [question for question in found if question.pairs]
    if not asked:
        return []
    names = ["original", *map(str, MODES)]
    titles = [f"{question.dataset}, {question.pool}" for question in asked]
    notes = [[f"test {q.column.metric.name}, n = {len(q.original.scores)} {q.column.unit}", q.answer] for q in asked]
    across, line = min(4, len(asked)), 19.0
    begin = EDGE + names_size(names)[0] + 6
    words = [*titles, *(note for each in notes for note in each)]
    width, height = max(150.0, *(text_width(text, TITLE) - GAP / 2 for text in words)), line * len(names)
    pitch = width + GAP, HEAD + height + 54
    canvas = Canvas(begin + across * pitch[0] + EDGE, math.ceil(len(asked) / across) * pitch[1])
    panels = []
    for i, question in enumerate(asked):
        cells = [question.original, *(_of_mode(question, mode) for mode in MODES)]
        values = [value for cell in cells if cell for value in cell.scores.values()]
        left, top = begin + i % across * pitch[0], HEAD + i // across * pitch[1]
        panel = Panel(canvas, titles[i], left, top, width, height, linear(values, 4), names_axis(names))
        panel.grid(across=False)
        mean = fmean(question.original.scores.values())
        canvas.marks.append(Line([panel.at(mean, panel.y.high), panel.at(mean, panel.y.low)], INK, 0.8, ":"))
        for y, cell in enumerate(cells):
            if cell is not None:
                _scores_line(panel, y, cell)
        panel.frame(notes[i])
        if i % across == 0:
            panel.names()
        panels.append(panel)
    text = f"Test scores on the original graphs and with graph or features replaced: {'; '.join(titles)}."
    return [Drawn("separability", "What the answers depend on", text, canvas, tuple(panels))]


def _of_mode(question: Question, mode: Mode) -> Cell | None:
    return next((pair.cell for pair in question.pairs if pair.mode == mode), None)


def _scores_line(panel: Panel, y: int, cell: Cell) -> None:
    look = ("s", INK) if y == 0 else ("o", COLOURS[0]) if y <= len(KINDS["structure"]) else ("D", COLOURS[1])
    draw, found = panel.canvas.marks.append, cell.estimate
    draw(Markers([panel.at(value, y + 0.26) for value in cell.scores.values()], "o", look[1], 3, 0.35))
    if found is None:
        return
    low, high = panel.x.low, panel.x.high
    if found.low is not None and found.high is not None:
        ends = panel.at(max(low, found.low), y), panel.at(min(high, found.high), y)
        draw(Line(ends, look[1], 1.8))
    draw(Markers([panel.at(found.mean, y)], *look, 7))
