"""Published beside reproduced: the cells of a table, their verdicts, and the table as text."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from poolbench import statistics
from poolbench.papers.published import SECOND_HAND, PublishedTable, Value
from poolbench.papers.recipe import Line, Planned, Recipe, Spread, setting
from poolbench.records.counting import Counted, Version, counted
from poolbench.records.equivalence import Links
from poolbench.records.identity import canonical_json
from poolbench.records.record import Record
from poolbench.records.version import installed_code
from poolbench.report.table import Table
from poolbench.statistics import LEVEL, Agreement, Estimate

VERDICTS = ("agrees", "differs", "cannot tell")
UNVERIFIED = "unverified"
"""In place of a verdict: the published number is not sure enough to be judged by."""
NOTHING = "not published"
OTHER_DATA = "other data"
QUICK = "quick run"
NO_RUNS = "no runs"
WITHOUT = (UNVERIFIED, NOTHING, OTHER_DATA, QUICK, NO_RUNS)


@dataclass(frozen=True)
class Measured:
    """What our runs of a line say of one metric, in our unit.

    scores: one a unit, which is a split, or a seed where the split is fixed. missing: runs that are not there, failed
    ones among them. close: runs of a version of the code that is close to the installed one, and not the same.
    """

    scores: tuple[float, ...]
    test_over_train: float
    unit: str
    missing: int
    failed: int
    close: int = 0

    @property
    def estimate(self) -> Estimate | None:
        return statistics.estimate(self.scores, self.test_over_train) if self.scores else None


@dataclass(frozen=True)
class Cell:
    """One published number and ours."""

    line: Line
    metric: str
    """Its name in the paper."""
    published: Value | None
    measured: Measured
    agreement: Agreement | None
    verdict: str


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

    def of(self, planned: Planned) -> dict[tuple[int, int | None], Counted | None]:
        """The record of each run of a line, None where there is none."""
        mine = self._by_setting.get(planned.key, {})
        return {
            (seed, task.fold): mine.get((seed, task.config.split.seed, task.fold))
            for task in planned.tasks
            for seed in task.seeds
        }

    def of_other_code(self, planned: Planned) -> int:
        """How many runs of a line another version of the code made."""
        return self._of_other_code[planned.key]


def measured(runs: Mapping[tuple[int, int | None], Counted | None], metric: str) -> Measured:
    """The scores of one metric; runs of one split are averaged where there are several splits."""
    made = [one for one in runs.values() if one is not None]
    scored = [(one, value) for one in made if (value := _score(one.record, metric)) is not None]
    drawn = len({one.record.splits.hash for one, _ in scored}) > 1 or any(fold is not None for _, fold in runs)
    by_unit: dict[str, list[float]] = defaultdict(list)
    for one, value in scored:
        by_unit[one.record.splits.hash if drawn else str(one.record.config["seed"])].append(value)
    ratios = [one.record.splits.test / one.record.splits.train for one, _ in scored if drawn]
    return Measured(
        tuple(fmean(values) for values in by_unit.values()),
        fmean(ratios) if ratios else 0.0,
        "splits" if drawn else "seeds",
        len(runs) - len(scored),
        sum(one.record.status == "failed" for one in made),
        sum(one.kind == "close" for one, _ in scored),
    )


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
            cells.append(_cell(recipe, one.line, name, value, measured(runs, ours), quick))
    return cells


def _cell(recipe: Recipe, line: Line, metric: str, value: Value | None, ours: Measured, quick: bool) -> Cell:
    if not ours.scores or quick:
        return Cell(line, metric, value, ours, None, QUICK if ours.scores else NO_RUNS)
    if value is None or not line.comparable:
        return Cell(line, metric, value, ours, None, NOTHING if value is None else OTHER_DATA)
    judged = agreement(ours, value, recipe.scale, recipe.spread, recipe.margin)
    return Cell(line, metric, value, ours, judged, judged.verdict if value.verified else UNVERIFIED)


def agreement(ours: Measured, value: Value, scale: float, spread: Spread, margin: float) -> Agreement:
    """Our scores against a published number, in our unit.

    Where the paper's numbers are means over folds, the spread of a fold is taken to be sqrt(folds) as wide: folds of
    one cross-validation count as its units, as they do with us.
    """
    folds = spread.folds_averaged
    std = None if value.std is None else value.std * scale * math.sqrt(folds)
    n = None if value.n is None else value.n * folds
    return statistics.agreement(
        ours.scores, ours.test_over_train, value.mean * scale, std, n, spread.test_over_train, margin
    )


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
        rows.append((*names, _published(cell, table), _reproduced(cell, recipe, table),
                     _difference(cell, recipe, table), cell.verdict))  # fmt: skip
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
    yield f"{table.citation}."
    metric = "" if several else f"{table.metric}, "
    yield f"Numbers are {metric}{table.unit}; ± is the standard deviation, theirs ({table.plus_minus}) and ours over n."
    if any(cell.measured.close for cell in cells):
        yield "close: so many runs of a version of the code whose numbers are close to this one's, and not the same."
    if not quick:
        yield (
            f"agrees: shown to lie within {recipe.margin / recipe.scale:g} of the published number; differs: the "
            f"{LEVEL:.0%} interval of the difference leaves out 0; cannot tell: neither."
        )
    trusts = {cell.published.trust for cell in cells if cell.published}
    if SECOND_HAND in trusts:
        yield "† second hand."
    if any(not cell.published.verified for cell in cells if cell.published):
        yield "? reported, unverified: no verdict rests on it."
    yield f"Verdicts: {counts(cell.verdict for cell in cells)}."


def counts(verdicts: Iterable[str]) -> str:
    """Such as `3 agrees, 1 cannot tell`."""
    found = Counter(verdicts)
    return ", ".join(f"{found[name]} {name}" for name in (*VERDICTS, *WITHOUT) if found[name]) or "none"


def _published(cell: Cell, table: PublishedTable) -> str:
    value = cell.published
    if value is None:
        return "–"
    text = f"{value.mean:.{table.digits}f}" + ("" if value.std is None else f" ± {value.std:.{table.digits}f}")
    text += f" (n = {value.n})" if value.n else ""
    mark = "†" if value.trust == SECOND_HAND else "" if value.verified else " ?"
    beside = "" if cell.line.dataset == cell.line.published_dataset else f"{cell.line.published_dataset}: "
    return beside + text + mark


def _reproduced(cell: Cell, recipe: Recipe, table: PublishedTable) -> str:
    found, ours = cell.measured.estimate, cell.measured
    lost = [f"{ours.close} close"] if ours.close else []
    lost += [f"{ours.failed} failed"] if ours.failed else []
    lost += [f"{ours.missing - ours.failed} missing"] if ours.missing > ours.failed else []
    if found is None:
        return ", ".join(lost) or "–"
    spread = "" if found.std is None else f" ± {_text(found.std / recipe.scale, table)}"
    count = f"n = {found.n} {ours.unit if found.n > 1 else ours.unit.removesuffix('s')}"
    return f"{_text(found.mean / recipe.scale, table)}{spread} ({'; '.join([count, *lost])})"


def _text(value: float, table: PublishedTable) -> str:
    return f"{value:.{table.digits}f}"


def _difference(cell: Cell, recipe: Recipe, table: PublishedTable) -> str:
    found = cell.agreement
    if found is None:
        return "–"
    text = f"{found.difference / recipe.scale:+.{table.digits}f}"
    if found.low is None or found.high is None:
        return text
    low, high = (f"{bound / recipe.scale:+.{table.digits}f}" for bound in (found.low, found.high))
    return f"{text} ({low} to {high})"


def _records(recipe: Recipe, cells: Sequence[Cell], quick: bool) -> Iterable[dict[str, Any]]:
    def in_unit(value: float | None) -> float | None:
        return None if value is None else value / recipe.scale

    any_close = any(cell.measured.close for cell in cells)
    for cell in cells:
        ours, value, judged = cell.measured.estimate, cell.published, cell.agreement
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
            "difference": judged and in_unit(judged.difference),
            "low": judged and in_unit(judged.low),
            "high": judged and in_unit(judged.high),
            "verdict": cell.verdict,
        }
