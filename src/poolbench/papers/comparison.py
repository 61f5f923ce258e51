"""Published beside reproduced: the cells of a table, their verdicts, and the table as text."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from poolbench.papers.criterion import LEAST, REPEATS, Judgement, Side, Whole, judge, whole
from poolbench.papers.published import SECOND_HAND, PublishedTable, Value
from poolbench.papers.recipe import Line, Planned, Recipe, setting
from poolbench.records.counting import Counted, Version, counted
from poolbench.records.equivalence import Links
from poolbench.records.identity import canonical_json
from poolbench.records.record import Record
from poolbench.records.version import installed_code
from poolbench.report.table import Table, p_number
from poolbench.statistics import LEVEL
from poolbench.wording import count

VERDICTS = ("agrees", "differs", "open")
UNVERIFIED = "unverified"
"""In place of a verdict: the published number is not sure enough to be judged by."""
NOTHING = "not published"
OTHER_DATA = "other data"
QUICK = "quick run"
NO_RUNS = "no runs"
WITHOUT = (UNVERIFIED, NOTHING, OTHER_DATA, QUICK, NO_RUNS)
LACKS = ("ours", "theirs", "near")
"""What an open verdict lacks: runs of ours, runs of theirs, or nothing: the difference is about the margin."""

Runs = Mapping[tuple[int, int, int | None], Counted | None]
"""The records of a line's runs, None where there is none: by repeat (the seed that was asked for), seed and fold."""


@dataclass(frozen=True)
class Measured:
    """What our runs of a line say of one metric, in our unit.

    scores: one a unit, which is a repeat of a cross-validation, a split, or a seed where the split is fixed. missing:
    runs that are not there, failed ones among them. close: runs of a version of the code that is close to the installed
    one, and not the same.
    """

    scores: tuple[float, ...]
    unit: str
    missing: int
    failed: int
    close: int = 0

    @property
    def side(self) -> Side | None:
        """Their mean and standard deviation; None without scores."""
        if not self.scores:
            return None
        return Side(fmean(self.scores), stdev(self.scores) if len(self.scores) > 1 else None, len(self.scores))


@dataclass(frozen=True)
class Cell:
    """One published number and ours.

    metric: its name in the paper. theirs: what is judged by, in our unit. needed: of ours, for a verdict, as far as it
    can be foreseen; None: no number is enough. known: whether there is anything to foresee it by. least: so many of
    ours it takes to know.
    """

    line: Line
    metric: str
    published: Value | None
    measured: Measured
    theirs: Side | None
    judged: Judgement | None
    verdict: str
    needed: int | None = None
    known: bool = False
    least: int = LEAST

    @property
    def lacks(self) -> str:
        """One of `LACKS` where the verdict is open."""
        if self.verdict != "open" or self.judged is None:
            return ""
        if self.known and self.needed is None:
            return "theirs"
        return "ours" if not self.known or self.judged.n < (self.needed or 0) else "near"


# ---------------------------------------------------------------------------------------------- which records belong


class Found:
    """The records of a results folder, by what their runs have in common.

    Args:
        records: all; each run counts once. links: which versions of the code come to the same. current: the version of
            the code for a configuration; runs of versions that are not linked to it are left out.
    """

    def __init__(self, records: Iterable[Record], links: Links, current: Version = installed_code) -> None:
        found = counted(records, links, current)
        self.all = [one.record for one in found]
        self._by_setting: dict[str, dict[tuple[int, int, int | None], Counted]] = defaultdict(dict)
        self._of_other_code: Counter[str] = Counter()
        for one in found:
            config = one.record.config
            if one.kind:
                run = config["seed"], config["split"]["seed"], config.get("fold")
                self._by_setting[setting(config)][run] = one
            else:
                self._of_other_code[setting(config)] += 1

    def of(self, planned: Planned) -> Runs:
        """The runs of a line."""
        mine = self._by_setting.get(planned.key, {})
        return {
            (task.config.seed, seed, task.fold): mine.get((seed, task.config.split.seed, task.fold))
            for task in planned.tasks
            for seed in task.seeds
        }

    def of_other_code(self, planned: Planned) -> int:
        """How many runs of a line another version of the code made."""
        return self._of_other_code[planned.key]


def measured(runs: Runs, metric: str, folds: bool = False) -> Measured:
    """The scores of one metric.

    Args:
        folds: one a repeat, the mean over its folds, where none is missing; else one a split or seed. Runs of one fold,
            or of one split where there are several, are averaged first.
    """
    made = [one for one in runs.values() if one is not None]
    scored = {
        run: (one, value) for run, one in runs.items() if one and (value := _score(one.record, metric)) is not None
    }
    found = _by_repeat(runs, scored) if folds else _by_split(scored)
    return Measured(
        *found,
        len(runs) - len(scored),
        sum(one.record.status == "failed" for one in made),
        sum(one.kind == "close" for one, _ in scored.values()),
    )


_Scored = Mapping[tuple[int, int, int | None], tuple[Counted, float]]


def _by_repeat(runs: Runs, scored: _Scored) -> tuple[tuple[float, ...], str]:
    by_fold: dict[int, dict[int | None, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (repeat, _, fold), (_, value) in scored.items():
        by_fold[repeat][fold].append(value)
    lacking = {repeat for repeat, *_ in runs.keys() - scored.keys()}
    whole = [folds for repeat, folds in by_fold.items() if repeat not in lacking]
    return tuple(fmean(fmean(values) for values in folds.values()) for folds in whole), "repeats"


def _by_split(scored: _Scored) -> tuple[tuple[float, ...], str]:
    drawn = len({one.record.splits.hash for one, _ in scored.values()}) > 1
    by_unit: dict[str, list[float]] = defaultdict(list)
    for one, value in scored.values():
        by_unit[one.record.splits.hash if drawn else str(one.record.config["seed"])].append(value)
    return tuple(fmean(values) for values in by_unit.values()), "splits" if drawn else "seeds"


def _score(record: Record, metric: str) -> float | None:
    """The value of a test metric, or of another part's, such as train/loss."""
    part, _, name = metric.rpartition("/")
    value = record.metrics.of(part or "test").get(name) if record.done else None
    return value if value is not None and math.isfinite(value) else None


# --------------------------------------------------------------------------------------------------------- comparing


def compare(
    recipe: Recipe, table: PublishedTable, planned: Sequence[Planned], found: Found, quick: bool = False
) -> list[Cell]:
    """The cells of a table, line by line."""
    cells = []
    for one in planned:
        runs = found.of(one)
        for name, ours in one.line.metrics.items():
            value = table.value(one.line.method, one.line.published_dataset, name)
            got = measured(runs, ours, recipe.design.folds is not None)
            cells.append(_cell(recipe, one.line, name, value, got, quick))
    return cells


def _cell(recipe: Recipe, line: Line, metric: str, value: Value | None, ours: Measured, quick: bool) -> Cell:
    theirs = None if value is None else their_side(value, recipe)
    if quick or value is None or theirs is None or not line.comparable:
        empty = QUICK if quick and ours.scores else NO_RUNS if not ours.scores else NOTHING if not value else OTHER_DATA
        return Cell(line, metric, value, ours, theirs, None, empty)
    judged = None if ours.side is None else judged_by(ours.side, theirs, recipe)
    foreseen, known = _foreseen(judged, value, theirs, recipe)
    verdict = NO_RUNS if judged is None else judged.verdict if value.verified else UNVERIFIED
    return Cell(line, metric, value, ours, theirs, judged, verdict, foreseen, known, least(recipe))


def their_side(value: Value, recipe: Recipe) -> Side:
    """What a published number is judged by: the mean, what one of its n numbers moves by, n.

    The spread over the folds of one cross-validation does not tell how much its mean moves: it is left out, n is 1.
    """
    design = recipe.design
    if design.folds is not None and design.repeats == 1:
        return Side(value.mean * recipe.scale, None, 1)
    n = design.repeats if design.folds is not None else value.n or design.runs or 1
    return Side(value.mean * recipe.scale, None if value.std is None else value.std * recipe.scale, n)


def judged_by(ours: Side, theirs: Side, recipe: Recipe) -> Judgement:
    """Our number against a published one; a spread that does not stand beside theirs is taken to be ours."""
    return judge(ours, theirs, recipe.margin, least(recipe))


def least(recipe: Recipe) -> int:
    """So many of our numbers a verdict takes."""
    return LEAST if recipe.design.folds is None else REPEATS


def _foreseen(judged: Judgement | None, value: Value, theirs: Side, recipe: Recipe) -> tuple[int | None, bool]:
    """How many of our numbers decide, and whether that can be told: by our spread where we have enough of it, else by
    by what was published. A mean over k folds moves by less than the spread over folds / sqrt(k), so that this bound
    tells that a cell can be decided, and never that it cannot."""
    if judged is not None and judged.variance is not None and judged.n >= judged.least:
        return judged.needed, True
    folds = recipe.design.folds if recipe.design.repeats == 1 else None
    if value.std is None:
        return None, False
    side = Side(theirs.mean, value.std * recipe.scale / math.sqrt(folds or 1), theirs.n)
    enough = judged_by(side, theirs, recipe).needed
    return enough, enough is not None or not folds


def decidable(cell: Cell) -> bool:
    """Whether some number of our runs is enough for a verdict."""
    return cell.published is not None and cell.published.verified and cell.known and cell.needed is not None


def overall(recipe: Recipe, cells: Iterable[Cell]) -> Whole | None:
    """What the judged cells say together, in the table's unit; None without any."""
    return of_rows(list(_records(recipe, list(cells), False)))


def of_rows(rows: Sequence[Mapping[str, Any]]) -> Whole | None:
    """As `overall`, for the rows of a table's CSV."""
    judged = [row for row in rows if row["verdict"] in VERDICTS and row["difference"] not in (None, "")]
    several = len({row["metric"] for row in judged}) > 1
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in judged:
        name = f"{row['dataset']} {row['metric']}" if several else row["dataset"]
        pairs[name].append((float(row["mean"]), float(row["published_mean"])))
    return whole([float(row["difference"]) for row in judged], pairs)


# ------------------------------------------------------------------------------------------------------------- as text


def written(recipe: Recipe, table: PublishedTable, cells: Sequence[Cell], quick: bool = False) -> Table:
    """The table for people and for programs."""
    variants = any(cell.line.variant for cell in cells)
    metrics = len({cell.metric for cell in cells}) > 1
    header = ("method", "dataset", *(["data"] if variants else []), *(["metric"] if metrics else []),
              "published", "reproduced", f"difference ({LEVEL:.0%} interval)", "verdict")  # fmt: skip
    rows = []
    for cell in cells:
        names = [cell.line.method, cell.line.dataset]
        names += [cell.line.variant] if variants else []
        names += [cell.metric] if metrics else []
        rows.append((*names, _published(cell, recipe, table), _reproduced(cell, recipe, table),
                     _difference(cell, recipe, table), verdict_text(cell)))  # fmt: skip
    title = f"{recipe.name}: published beside reproduced"
    if quick:
        title = f"QUICK RUN, no reproduction of {recipe.name}: cut down to see that it works"
    caption = " ".join(_caption(recipe, table, cells, metrics, quick))
    name = file_stem(recipe.name, quick)
    return Table(name, title, caption, header, tuple(rows), len(header) - 4, tuple(_records(recipe, cells, quick)))


def file_stem(name: str, quick: bool = False) -> str:
    """PAPER_TABLE, the name of its files; that of a quick run is another."""
    return name.replace("/", "_") + ("-quick" if quick else "")


def _caption(recipe: Recipe, table: PublishedTable, cells: Sequence[Cell], several: bool, quick: bool) -> Iterable[str]:
    if not quick:
        yield from story(recipe, cells)
    yield f"{table.citation}."
    metric = "" if several else f"{table.metric}, "
    ours = "over n"
    if recipe.design.folds is not None:
        ours = f"over n repeats of the mean of {recipe.design.folds} folds"
    yield f"Numbers are {metric}{table.unit}; ± is the standard deviation, theirs ({table.plus_minus}) and ours {ours}."
    if any(cell.measured.close for cell in cells):
        yield "close: so many runs of a version of the code whose numbers are close to this one's, and not the same."
    if not quick:
        within = (
            f"a factor of {recipe.margin.value:g}"
            if recipe.margin.factor
            else f"{recipe.margin.value / recipe.scale:g}"
        )
        yield (
            f"agrees: the {2 * LEVEL - 1:.0%} interval of the difference lies within {within}; differs: the "
            f"{LEVEL:.0%} interval leaves out 0, and does not lie within it; open: neither, and why."
        )
    trusts = {cell.published.trust for cell in cells if cell.published}
    if SECOND_HAND in trusts:
        yield "† second hand."
    if any(cell.published and _from_protocol(cell.published, recipe) for cell in cells):
        yield "* n from the protocol."
    if any(not cell.published.verified for cell in cells if cell.published):
        yield "? reported, unverified: no verdict rests on it."
    yield f"Verdicts: {counts(cell.verdict for cell in cells)}."


def story(recipe: Recipe, cells: Sequence[Cell]) -> Iterable[str]:
    """What the table says as a whole, in sentences: level, order, and what is decided."""
    found = overall(recipe, cells)
    if found is None:
        return
    level, off = level_text(found, recipe.margin.factor)
    yield f"Level: {level} to theirs over {count(found.cells, 'cell')}, root mean square {off}."
    yield order_text(found)
    yield decided_text(cells)


def level_text(found: Whole, factor: bool) -> tuple[str, str]:
    """The mean difference with its interval, and how far single cells are off, in the table's unit or as factors."""

    def said(value: float) -> str:
        return f"×{math.exp(value):.2f}" if factor else f"{value:+.1f}" if found.rmse >= 0.5 else f"{value:+.3f}"

    interval = "" if found.low is None or found.high is None else f" ({said(found.low)} to {said(found.high)})"
    return said(found.bias) + interval, said(found.rmse).lstrip("+")


def order_text(found: Whole) -> str:
    """Whether methods stand in the same order."""
    if found.tau is None or found.p is None:
        return "Order: too few methods on a dataset."
    each = ", ".join(f"{name} {tau:+.2f}" for name, tau in found.orders.items())
    beside = f"; {each}" if len(found.orders) > 1 else ""
    return f"Order: Kendall's tau {found.tau:+.2f} (p {p_number(found.p)} where orders have nothing in common{beside})."


def decided_text(cells: Sequence[Cell]) -> str:
    """How many of the cells that can be decided are."""
    able = [cell for cell in cells if decidable(cell)]
    decided = [cell for cell in cells if cell.verdict in ("agrees", "differs")]
    done = sum(map(decidable, decided))
    beside = f", and {count(len(decided) - done, 'other')}" if len(decided) > done else ""
    return f"Decided: {done} of the {count(len(able), 'cell')} that can be{beside}."


def counts(verdicts: Iterable[str]) -> str:
    """Such as `3 agrees, 1 open`."""
    found = Counter(verdicts)
    return ", ".join(f"{found[name]} {name}" for name in (*VERDICTS, *WITHOUT) if found[name]) or "none"


def _from_protocol(value: Value, recipe: Recipe) -> bool:
    return recipe.design.folds is None and value.n is None and recipe.design.runs is not None


def _published(cell: Cell, recipe: Recipe, table: PublishedTable) -> str:
    value, design = cell.published, recipe.design
    if value is None:
        return "–"
    text = f"{value.mean:.{table.digits}f}" + ("" if value.std is None else f" ± {value.std:.{table.digits}f}")
    if design.folds is not None:
        text += f" ({design.folds} folds)" if design.repeats == 1 else f" ({design.repeats} × {design.folds} folds)"
    else:
        text += f" (n = {design.runs}*)" if _from_protocol(value, recipe) else f" (n = {value.n})" if value.n else ""
    mark = "†" if value.trust == SECOND_HAND else "" if value.verified else " ?"
    beside = "" if cell.line.dataset == cell.line.published_dataset else f"{cell.line.published_dataset}: "
    return beside + text + mark


def _reproduced(cell: Cell, recipe: Recipe, table: PublishedTable) -> str:
    side, ours = cell.measured.side, cell.measured
    lost = [f"{ours.close} close"] if ours.close else []
    lost += [f"{ours.failed} failed"] if ours.failed else []
    lost += [f"{ours.missing - ours.failed} missing"] if ours.missing > ours.failed else []
    if side is None:
        return ", ".join(lost) or "–"
    spread = "" if side.std is None else f" ± {_text(side.std / recipe.scale, table)}"
    n = f"n = {side.n} {ours.unit if side.n > 1 else ours.unit.removesuffix('s')}"
    return f"{_text(side.mean / recipe.scale, table)}{spread} ({'; '.join([n, *lost])})"


def _text(value: float, table: PublishedTable) -> str:
    return f"{value:.{table.digits}f}"


def _difference(cell: Cell, recipe: Recipe, table: PublishedTable) -> str:
    found = cell.judged
    if found is None or not math.isfinite(found.difference):
        return "–"

    def said(value: float) -> str:
        return f"×{math.exp(value):.2f}" if recipe.margin.factor else f"{value / recipe.scale:+.{table.digits}f}"

    interval = found.interval(LEVEL)
    return said(found.difference) + ("" if interval is None else f" ({said(interval[0])} to {said(interval[1])})")


def foreseen_text(cell: Cell) -> str:
    """Whether a cell can be decided, and with how many of our runs."""
    if cell.theirs is None or not cell.line.comparable or not (cell.published and cell.published.verified):
        return "no verdict: " + (OTHER_DATA if not cell.line.comparable else UNVERIFIED if cell.published else NOTHING)
    if cell.verdict in ("agrees", "differs"):
        return cell.verdict
    there = f"{cell.measured.side.n if cell.measured.side else 0} there"
    if not cell.known:
        return f"not known whether it can be decided: {cell.least} {cell.measured.unit} of ours tell, {there}"
    if cell.needed is None:
        return "cannot be decided by runs of ours: theirs moves too much"
    return f"can be decided with {cell.needed} {cell.measured.unit} of ours, {there}"


def verdict_text(cell: Cell) -> str:
    """The verdict, and what an open one lacks."""
    if cell.verdict != "open":
        return cell.verdict
    if cell.lacks == "ours":
        return f"open: takes {cell.needed or cell.least} {cell.measured.unit} of ours"
    return "open: theirs moves too much" if cell.lacks == "theirs" else "open: near the margin"


def _records(recipe: Recipe, cells: Sequence[Cell], quick: bool) -> Iterable[dict[str, Any]]:
    """Of each cell all that its verdict rests on: mean, std and n of both sides, margin and intervals.

    `their_std`, `their_n`: what was judged by; without a std that of our n numbers was. Where `factor` is true,
    difference and intervals are of logarithms.
    """
    any_close = any(cell.measured.close for cell in cells)

    def in_unit(value: float | None) -> float | None:
        return None if value is None else value / recipe.scale

    def difference(value: float | None) -> float | None:
        return value if recipe.margin.factor else in_unit(value)

    for cell in cells:
        ours, value, judged, theirs = cell.measured.side, cell.published, cell.judged, cell.theirs
        inner = judged and judged.interval(2 * LEVEL - 1)
        outer = judged and judged.interval(LEVEL)
        yield {
            "paper": recipe.paper,
            "table": recipe.table,
            "quick": quick,
            "method": cell.line.method,
            "dataset": cell.line.dataset,
            "variant": cell.line.variant,
            "metric": cell.metric,
            "experiment": cell.line.experiment,
            "overrides": canonical_json(cell.line.overrides),
            "published_dataset": cell.line.published_dataset,
            "published_mean": value and value.mean,
            "published_std": value and value.std,
            "published_n": value and value.n,
            "trust": value and value.trust,
            "mean": ours and in_unit(ours.mean),
            "std": ours and in_unit(ours.std),
            "n": ours.n if ours else 0,
            "unit": cell.measured.unit,
            "failed": cell.measured.failed,
            "missing": cell.measured.missing,
            **({"close": cell.measured.close} if any_close else {}),
            "their_std": theirs and in_unit(theirs.std),
            "their_n": theirs and theirs.n,
            "margin": recipe.margin.value if recipe.margin.factor else in_unit(recipe.margin.value),
            "factor": recipe.margin.factor,
            **({"floor": in_unit(recipe.margin.floor)} if recipe.margin.factor else {}),
            "difference": judged and difference(judged.difference),
            "low90": inner and difference(inner[0]),
            "high90": inner and difference(inner[1]),
            "low95": outer and difference(outer[0]),
            "high95": outer and difference(outer[1]),
            "verdict": cell.verdict,
            "lacks": cell.lacks,
            "decidable": decidable(cell),
            "needed": cell.needed,
        }
