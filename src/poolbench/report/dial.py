"""Scores against a dial, a number of the configuration such as dataset.mu or pool.ratio: where does an operator break?

A sheet is a dataset in one network under one protocol, everything but the dial and the pool alike; a line of it is an
operator. What has no such key (a pool without a ratio) is level. Runs without a perturbation are those of share 0.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from poolbench.errors import PoolBenchError, nearest
from poolbench.records.changes import canonical, upgrade
from poolbench.records.frame import flatten
from poolbench.records.identity import canonical_json, without
from poolbench.report.board import Board, Cell, Column, Metric, Row, value_at
from poolbench.report.canvas import Canvas, Line, Markers
from poolbench.report.drawn import Drawn, looks_of
from poolbench.report.leaderboard import differences
from poolbench.report.panels import EDGE, HEAD, MOST, Axis, End, Look, Panel, labels, linear, names_size
from poolbench.report.table import Table
from poolbench.report.tables import cell_text, in_domain_text
from poolbench.statistics import LEVEL, Estimate

SHARE = "perturb.share"
"""The dial at which a run without a perturbation stands at 0."""
OF_POOL = ("pool", "loss_weights", "loss_ramp")
"""What the lines of a sheet may differ in."""
STEEP = 20
"""An axis of values above 0 that span such a factor is logarithmic."""


@dataclass(frozen=True)
class Curve:
    """What an operator scores at each value of a dial. level: where it has no such key."""

    row: Row
    label: str
    cells: Mapping[float, Cell]
    level: Cell | None

    @property
    def all(self) -> list[Cell]:
        return [*self.cells.values(), *([self.level] if self.level else [])]

    @property
    def mean(self) -> float | None:
        """Of its means, which curves are sorted by."""
        found = [cell.estimate.mean for cell in self.all if cell.estimate]
        return fmean(found) if found else None


@dataclass(frozen=True)
class Sheet:
    """The curves of a dataset, best first."""

    key: str
    title: str
    protocol: str
    column: Column
    curves: tuple[Curve, ...]

    @property
    def dial(self) -> str:
        """The last name of the key."""
        return self.key.rpartition(".")[2]

    @property
    def values(self) -> list[float]:
        return sorted({value for curve in self.curves for value in curve.cells})

    @property
    def parts(self) -> tuple[str, ...]:
        """What is scored: test graphs, and beside graphs like those of training where the former are not."""
        shifted = any(cell.in_domain for curve in self.curves for cell in curve.all)
        return ("test", "in domain") if shifted else ("test",)


def _score(cell: Cell | None, part: str) -> Estimate | None:
    if cell is None:
        return None
    return cell.estimate if part == "test" else cell.in_domain


# --------------------------------------------------------------------------------------------------- what goes together


@dataclass(frozen=True)
class _Placed:
    """A cell with its value of the dial, None where it has no such key. rest: its configuration less the dial."""

    board: Board
    row: Row
    column: Column
    value: float | None
    rest: Mapping[str, Any]

    @property
    def cell(self) -> Cell:
        return self.board.cells[self.row, self.column]

    @property
    def facts(self) -> dict[str, Any]:
        """What all of a sheet have in common."""
        return {
            **without(self.rest, OF_POOL),
            "model": {"name": self.row.model, **(self.rest.get("model") or {})},
            "code": self.row.code,
        }

    @property
    def line(self) -> dict[str, Any]:
        return {name: self.rest.get(name) for name in OF_POOL}


def sheets(boards: Sequence[Board], key: str) -> list[Sheet]:
    """The curves of each dataset.

    Args:
        key: dotted, of a number of the configuration.

    Raises:
        PoolBenchError: a key that is none, or no number, or in which runs do not differ or those of a setting do.
    """
    if wrong := _no_number(boards, key):
        raise PoolBenchError(wrong)
    found = list(_placed(boards, key))
    groups = _groups(found, key)
    if not groups:
        raise PoolBenchError(_refusal(boards, key))
    titles = differences({name: (_dataset(group[0]), _flat(group[0].facts)) for name, group in groups.items()})
    made = [
        _sheet(key, _dataset(group[0]) + (f" ({titles[name]})" if titles[name] else ""), group)
        for name, group in groups.items()
    ]
    return sorted(made, key=lambda sheet: sheet.title.lower())


def all_sheets(boards: Sequence[Board]) -> list[Sheet]:
    """The curves of every dial of a dataset, of an operator, and of the share that is perturbed, where an operator ran
    at two of its values."""
    found: list[Sheet] = []
    for key in sorted(_dials(boards)):
        with suppress(PoolBenchError):  # runs of a setting differ in it, or nothing else is alike
            found += sheets(boards, key)
    return [sheet for sheet in found if any(len(curve.cells) > 1 for curve in sheet.curves)]


def _dials(boards: Sequence[Board]) -> set[str]:
    """Numbers in which the runs of one dataset, or those of one operator, differ."""
    values: dict[tuple[str, str], set[float]] = defaultdict(set)
    for board in boards:
        for (row, column), cell in board.cells.items():
            if cell.runs:
                config = upgrade(cell.runs[0].record.config)
                dataset = str(json.loads(column.key)[0])
                for name, value in flatten(config).items():
                    of = {"dataset": dataset, "pool": row.pool, "perturb": ""}.get(name.partition(".")[0])
                    if of is not None and _is_number(value):
                        values[of, name].add(value)
    shares = {SHARE} & {name for _, name in values}
    return shares | {name for (of, name), found in values.items() if of and len(found) > 1}


def _placed(boards: Sequence[Board], key: str) -> Iterator[_Placed]:
    for board in boards:
        for (row, column), cell in board.cells.items():
            if not cell.runs:
                continue
            values = _values([cell], key)
            if len(values) > 1:
                raise PoolBenchError(f"{key} is no dial: runs of one setting differ in it, {_listed(values)}")
            (value,) = values
            if value is None or _is_number(value):
                yield _Placed(board, row, column, value, _rest(row, column, cell, key))


def _rest(row: Row, column: Column, cell: Cell, key: str) -> dict[str, Any]:
    """Everything but the dial that tells the cell from others, laid out as a configuration."""
    setting = json.loads(row.key)["config"]
    if not (setting.get("perturb") or {}).get("_target_"):
        setting.pop("perturb", None)
    name, options, content, *_ = json.loads(column.key)
    # What a generator makes follows its options: where one of them is the dial, so does the fingerprint.
    data = {} if key.startswith("dataset.") else {"data": content[:8]}
    splits = cell.runs[0].record.splits
    protocol = {**(canonical(cell.runs[0].record.config).get("protocol") or {}), "version": splits.version}
    return without({**setting, "dataset": {**options, **data, "name": name}, "protocol": protocol}, [key])


def _values(cells: Iterable[Cell], key: str) -> list[Any]:
    """The different values that runs have at a key."""
    found = [value_at(upgrade(run.record.config), key) for cell in cells for run in cell.runs]
    return list({canonical_json(value): value for value in found}.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _groups(found: Sequence[_Placed], key: str) -> dict[str, list[_Placed]]:
    """What stands on each sheet: at two values of the dial at least."""
    groups: dict[str, list[_Placed]] = defaultdict(list)
    for one in found:
        groups[canonical_json(one.facts)].append(one)
    if key == SHARE:
        plain = {name: [replace(one, value=0.0) for one in group] for name, group in groups.items()
                 if "perturb" not in group[0].facts}  # fmt: skip
        groups = {name: [*group, *plain.get(canonical_json(without(group[0].facts, ["perturb"])), ())]
                  for name, group in groups.items() if name not in plain}  # fmt: skip
    return {name: group for name, group in groups.items() if len({one.value for one in group} - {None}) > 1}


def _dataset(one: _Placed) -> str:
    return str(one.rest["dataset"]["name"])


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts by dotted name, options of the dataset without the group in front."""
    return {name.removeprefix("dataset."): value for name, value in flatten(facts).items() if name != "dataset.name"}


def _sheet(key: str, title: str, group: Sequence[_Placed]) -> Sheet:
    lines: dict[str, list[_Placed]] = defaultdict(list)
    for one in group:
        lines[canonical_json([one.row.pool, one.line])].append(one)
    options = differences({name: (own[0].row.pool, flatten(own[0].line)) for name, own in lines.items()})
    curves = []
    for name, own in lines.items():
        cells = {one.value: one.cell for one in own if one.value is not None}
        level = next((one.cell for one in own if one.value is None), None)
        pool = own[0].row.pool
        label = f"{pool} ({options[name]})" if options[name] else pool
        curves.append(Curve(own[0].row, label, dict(sorted(cells.items())), level))
    column, sign = group[0].column, group[0].column.metric.sign
    ordered = sorted(curves, key=lambda c: (c.mean is None, -sign * (c.mean or 0.0), c.label))
    return Sheet(key, title, group[0].board.protocol, column, tuple(ordered))


def _no_number(boards: Sequence[Board], key: str) -> str | None:
    """What is wrong with a key that names a part of the configuration, or nothing; None: it names no such thing."""
    if not key.strip():
        return "--curve: an empty KEY; give a number of the configuration, such as dataset.mu or pool.ratio"
    runs = [run for board in boards for cell in board.cells.values() for run in cell.runs]
    if not any(isinstance(value_at(run.record.config, key), Mapping) for run in runs):
        return None
    inner = {name for run in runs for name, value in flatten(upgrade(run.record.config)).items()
             if name.startswith(f"{key}.") and _is_number(value)}  # fmt: skip
    return f"{key} is a group of keys; give a number in it" + (f", such as {min(inner)}" if inner else "")


def _refusal(boards: Sequence[Board], key: str) -> str:
    """Why there is no curve."""
    cells = [cell for board in boards for cell in board.cells.values()]
    known = {name for cell in cells for run in cell.runs for name in flatten(upgrade(run.record.config))}
    if key not in known:
        return f"{key} is no key of these records{nearest(key, sorted(known))}"
    values = [value for value in _values(cells, key) if value is not None]
    if not any(map(_is_number, values)):
        return f"{key} is no number in these records: {_listed(values)}"
    return f"a curve takes two values of {key} with all else alike; there are {_listed(values)}"


def _listed(values: Sequence[Any]) -> str:
    said = [json.dumps(value) for value in values]
    return ", ".join(said[:MOST]) + (f" and {len(said) - MOST} more" if len(said) > MOST else "")


# --------------------------------------------------------------------------------------------------------------- tables


def tables(found: Sequence[Sheet]) -> list[Table]:
    """One a sheet: a row an operator (and part), a column a value of the dial."""
    return [_table(sheet, f"curve-{sheet.dial}-{i}") for i, sheet in enumerate(found, 1)]


def _table(sheet: Sheet, name: str) -> Table:
    level = any(curve.level for curve in sheet.curves)
    parts = sheet.parts
    header = ("pool", *(["graphs"] if len(parts) > 1 else []), *(f"{sheet.dial} = {value:g}" for value in sheet.values),
              *([f"without {sheet.dial}"] if level else []))  # fmt: skip
    rows, records = [], []
    for curve in sheet.curves:
        for part in parts:
            cells = [curve.cells.get(value) for value in sheet.values] + ([curve.level] if level else [])
            label = f"{curve.label} (control)" if curve.row.control else curve.label
            words = ["–" if cell is None else _text(cell, sheet.column, part) for cell in cells]
            rows.append((label, *([part] if len(parts) > 1 else []), *words))
            places = [*curve.cells.items(), *([(None, curve.level)] if curve.level else [])]
            records += [_record(sheet, curve, part, value, cell) for value, cell in places]
    caption = (
        f"Mean {sheet.column.metric.name} ± half the width of its {LEVEL:.0%} interval at each value of {sheet.key}, "
        f"best mean first; n counts {sheet.column.unit}."
    )
    if len(parts) > 1:
        caption += " In domain: held-out graphs like those of training; those of test are of another domain."
    title = f"{sheet.title} by {sheet.key}, {sheet.protocol}"
    return Table(name, title, caption, header, tuple(rows), len(parts), tuple(records))


def _text(cell: Cell, column: Column, part: str) -> str:
    return cell_text(cell, column) if part == "test" else in_domain_text(cell, column)


def _record(sheet: Sheet, curve: Curve, part: str, value: float | None, cell: Cell) -> dict[str, Any]:
    found = _score(cell, part)
    return {
        "protocol": sheet.protocol,
        "dataset": sheet.title,
        "pool": curve.row.pool,
        "line": curve.label,
        "control": curve.row.control,
        "key": sheet.key,
        "value": value,
        "graphs": part,
        "metric": sheet.column.metric.name,
        "mean": found and found.mean,
        "std": found and found.std,
        "n": found.n if found else 0,
        "unit": sheet.column.unit,
        "low": found and found.low,
        "high": found and found.high,
    }


# -------------------------------------------------------------------------------------------------------------- figures


def figures(found: Sequence[Sheet]) -> list[Drawn]:
    """One a sheet: a panel for up to twelve lines, and beside it their scores in the domain of training."""
    return [_figure(sheet, f"curve-{sheet.dial}-{i}") for i, sheet in enumerate(found, 1)]


def _figure(sheet: Sheet, name: str) -> Drawn:
    canvas, parts, metric = Canvas(), sheet.parts, sheet.column.metric
    looks = looks_of(sorted((curve.row for curve in sheet.curves), key=lambda row: (row.pool, row.options)))
    each = math.ceil(len(sheet.curves) / math.ceil(len(sheet.curves) / MOST))
    blocks = [sheet.curves[i : i + each] for i in range(0, len(sheet.curves), each)]
    room, leading = names_size(curve.label for curve in sheet.curves)
    step = leading + 1
    axis = _axis(sheet.values)
    heights = {part: linear(_extent(sheet, part), 5) for part in parts}
    begin = EDGE + 60.0
    width, height = 300.0, max(200.0, step * (each + 1))
    pitch = begin + width + 30 + room, HEAD + height + 40
    panels = []
    for i, block in enumerate(blocks):
        for j, part in enumerate(parts):
            title = sheet.title + (f", {i + 1} of {len(blocks)}" if len(blocks) > 1 else "")
            left, top = begin + j * pitch[0], HEAD + i * pitch[1]
            panel = Panel(canvas, title, left, top, width, height, axis, heights[part])
            panel.grid()
            beside = f"{part} {metric.name}" + (" (less is better)" if metric.mode == "min" else "")
            panel.frame([sheet.key], beside, numbered=True)
            gap = min(18.0, 0.5 * width / len(sheet.values)) / len(block)
            drawn = (
                _draw(panel, curve, metric, part, looks[curve.row], gap * (k - (len(block) - 1) / 2))
                for k, curve in enumerate(block)
            )
            labels(panel, [end for end in drawn if end is not None], step)
            panels.append(panel)
    canvas.width, canvas.height = len(parts) * pitch[0] + EDGE, len(blocks) * pitch[1]
    text = (
        f"Score by {sheet.key} with its {LEVEL:.0%} interval on {sheet.title}, best first: "
        f"{', '.join(curve.label for curve in sheet.curves)}."
    )
    return Drawn(name, f"{sheet.title} by {sheet.key}", text, canvas, tuple(panels))


def _axis(values: Sequence[float]) -> Axis:
    """Around the values of a dial, each with its tick."""
    ticks = tuple((value, f"{value:g}") for value in values)
    low, high = min(values), max(values)
    if low > 0 and high > STEEP * low:
        room = (high / low) ** 0.06
        return Axis(low / room, high * room, ticks, logarithmic=True)
    room = 0.06 * (high - low)
    return Axis(low - room, high + room, ticks)


def _extent(sheet: Sheet, part: str) -> list[float]:
    found = [score for curve in sheet.curves for cell in curve.all if (score := _score(cell, part))]
    ends = [end for one in found for end in sheet.column.metric.reach(one)]
    return [*(one.mean for one in found), *ends]


def _draw(panel: Panel, curve: Curve, metric: Metric, part: str, look: Look, aside: float) -> End | None:
    """A line with its intervals, `aside` of the ticks so that none hides another; None where it has no number."""
    places = [(panel.at(value, panel.y.low)[0] + aside, _score(cell, part)) for value, cell in curve.cells.items()]
    if (flat := _score(curve.level, part)) is not None:
        places += [(panel.left, flat), (panel.right + min(aside, 0) - 6, flat)]
    shown = [(x, found) for x, found in places if found is not None]
    if not shown:
        return None
    points = [(x, panel.at(panel.x.low, found.mean)[1]) for x, found in shown]
    draw = panel.canvas.marks.append
    for x, found in shown if flat is None else shown[-1:]:
        if ends := [panel.at(panel.x.low, end)[1] for end in metric.reach(found)]:
            draw(Line([(x, min(max(y, panel.top), panel.bottom)) for y in ends], look.colour, alpha=0.45))
    draw(Line(points, look.colour, 1.4, look.line if flat is None else ":"))
    draw(Markers(points if flat is None else points[-1:], look.marker, look.colour, 6))
    return End(points[-1], curve.label, look.colour)
