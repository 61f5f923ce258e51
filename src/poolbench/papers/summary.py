"""What all reproduced tables say, in a screen: results/tables/SUMMARY.md, from the tables' CSV files."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from poolbench.disk import write_text
from poolbench.errors import PoolBenchError
from poolbench.papers.comparison import LACKS, VERDICTS, counts, file_stem, level_text, of_rows
from poolbench.papers.criterion import Margin, Whole
from poolbench.papers.recipe import Folders, Recipe, read_recipe, recipes

TABLES = "tables"
SUMMARY = "SUMMARY.md"
OURS = {"paper", "table", "quick", "verdict", "lacks"}
"""Columns that tell a table of ours from other CSV files."""

HEAD = """# Reproduced tables

Ours beside what papers published (docs/reproduction.md says what verdicts mean). Level: the mean difference over judged
cells, with its 95 % interval; rms: how far single cells are off; both in the table's unit, or as factors. Order:
Kendall's tau over pairs of methods on one dataset. Open: for want of our runs (ours), because no number of our runs
decides (theirs), or because the difference is about the margin (near). Quick runs are not counted.

| table | level | rms | order | agrees | differs | open | decided, of those that can be | no verdict |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

Row = Mapping[str, str]


def write_summary(results: Path, conf: Folders) -> Path:
    """Write what the tables in a results folder say, a line each, and a sentence each that a reader may believe.

    Raises `PoolBenchError` where there is no table.
    """
    by_table: dict[str, list[Row]] = {}
    for path in sorted((results / TABLES).glob("*_*.csv")):
        for row in _rows(path):
            rows = by_table.setdefault(f"{row['paper']}/{row['table']}", [])
            rows += [row] if row["quick"] != "True" else []
    if not by_table:
        raise PoolBenchError(f"{results / TABLES} holds no table that was reproduced; poolbench reproduce makes one")
    path = results / TABLES / SUMMARY
    write_text(path, _text(by_table, {name: read_recipe(conf, name) for name in recipes(conf)}))
    return path


def _rows(path: Path) -> list[Row]:
    """The rows of a table of ours; nothing of another CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return list(reader) if set(reader.fieldnames or ()) >= OURS else []


def _text(by_table: Mapping[str, Sequence[Row]], known: Mapping[str, Recipe]) -> str:
    lines, said = [], []
    for name, rows in sorted(by_table.items()):
        recipe = known.get(name)
        lines.append(f"| {' | '.join(_cells(name, rows))} |")
        said.append(f"- {name}: {recipe.believe if recipe and recipe.believe else believed(rows)}")
    return HEAD + "\n".join([*lines, "", "What to believe:", "", *said]) + "\n"


def _cells(name: str, rows: Sequence[Row]) -> list[str]:
    found, verdicts = of_rows(rows), Counter(row["verdict"] for row in rows)
    level, off = level_text(found, rows[0]["factor"] == "True") if found else ("–", "–")
    lacks = Counter(row["lacks"] for row in rows if row["verdict"] == "open")
    why = f" ({', '.join(f'{lacks[one]} {one}' for one in LACKS if lacks[one])})" if lacks else ""
    able = [row for row in rows if row["decidable"] == "True"]
    decided = sum(row["verdict"] in ("agrees", "differs") for row in able)
    others = [row["verdict"] for row in rows if row["verdict"] not in VERDICTS]
    return [
        f"[{name}]({file_stem(name)}.md)" if rows else f"{name} (quick runs alone)",
        level,
        off,
        "–" if found is None or found.tau is None else f"{found.tau:+.2f}",
        str(verdicts["agrees"]),
        str(verdicts["differs"]),
        f"{verdicts['open']}{why}",
        f"{decided} of {len(able)}" if able else "–",
        counts(others) if others else "–",
    ]


def believed(rows: Sequence[Row]) -> str:
    """What a reader may believe of a table, in a sentence, by its level and its order."""
    found = of_rows(rows)
    if found is None or found.low is None or found.high is None:
        return "nothing yet: too few cells are judged."
    margin = Margin(float(rows[0]["margin"]), rows[0]["factor"] == "True")
    return f"{_level(found, margin.bound)}; {_order(found)}."


def _level(found: Whole, bound: float) -> str:
    assert found.low is not None and found.high is not None
    if -bound < found.low and found.high < bound:
        return "on the whole the level is theirs"
    if found.low > 0 or found.high < 0:
        return f"on the whole our numbers are {'higher' if found.low > 0 else 'lower'}"
    return "whether the level is theirs on the whole is open"


def _order(found: Whole) -> str:
    if found.p is None:
        return "there are too few methods for an order"
    return "methods stand in their order" if found.p < 0.05 else "that methods stand in their order is not shown"
