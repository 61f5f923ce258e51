"""Markdown tables of what was measured, and the section of a page that they are written into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from poolbench.disk import put
from poolbench.errors import PoolBenchError
from speed.harness import Row, middle
from speed.phases import PHASES

ON_THE_FLY = "poolbench (form on the fly)"


def markers(kind: str) -> tuple[str, str]:
    """The lines of a page between which the results of a kind of measurement (epochs, scaling, ...) stand."""
    return (
        f"<!-- benchmark {kind}: begin, written by scripts/benchmark.py --write -->",
        f"<!-- benchmark {kind}: end -->",
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def epochs(rows: Sequence[Row]) -> str:
    """Epochs, steps, ratios and memory of each contestant."""
    head = [
        "contestant",
        "epoch",
        "spread",
        "step",
        "ratio",
        "of turns",
        "memory",
        "ratio of memory",
        "answers differ by",
    ]
    own = {row.name: row for row in rows if not row.against}
    return table(head, [_epoch_row(row, own.get(row.against)) for row in rows]) + _notes(rows)


def _epoch_row(row: Row, ours: Row | None) -> list[str]:
    if row.failure:
        return [row.name, row.failure, *[""] * 7]
    seconds, ratio = middle(row.seconds), middle(row.ratios)
    step = None if seconds is None or not row.steps else seconds / row.steps
    memory = None if ours is None or not ours.memory or row.memory is None else row.memory / ours.memory
    spread = "" if len(row.seconds) < 2 else f"{duration(min(row.seconds))} to {duration(max(row.seconds))}"
    turns = "" if len(row.ratios) < 2 else f"{min(row.ratios):.2f} to {max(row.ratios):.2f}"
    worst = max((value for key, value in row.differences.items() if key not in row.known), default=None)
    return [
        row.name + (" (1)" if row.note else ""), duration(seconds), spread, duration(step), factor(ratio), turns,
        size(row.memory), factor(memory), "" if worst is None else f"{worst:.0e}",
    ]  # fmt: skip


def fastest(results: Sequence[Mapping[str, Any]]) -> str:
    """For each operator and setting the fastest form of the fastest peer: its time by PoolBench's, and who it is.

    What a peer does on the fly and PoolBench once a dataset is compared with that: an epoch is what its user waits for.

    results: rows as dicts (`Row.as_dict`), of any number of operators, datasets and batch sizes.
    """
    own = {(*_place(row), row["name"]): row["seconds"] for row in results}
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for row in results:
        ahead = own.get((*_place(row), "poolbench")) if row["against"] == ON_THE_FLY else None
        turns = [a / b for a, b in zip(row["seconds"], ahead, strict=False)] if ahead else row["ratios"]
        ratio, place = middle(turns), _place(row)
        if ratio is not None and (place not in best or ratio < best[place][0]):
            best[place] = ratio, row["name"]
    pools, columns = (list(dict.fromkeys(key[axis] for key in best)) for axis in (0, 1))
    lines = []
    for pool in pools:
        found = [best.get((pool, column)) for column in columns]
        lines.append([pool, *("" if cell is None else f"{factor(cell[0])} {cell[1]}" for cell in found)])
    return table(["operator", *columns], lines)


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    setting = row["setting"]
    return setting["pool"], f"{setting['dataset']}, {setting['batch_size']}"


def _notes(rows: Sequence[Row]) -> str:
    notes = [f"{row.name}: {row.note}." for row in rows if row.note and not row.failure]
    return "\n\n(1) " + " ".join(notes) if notes else ""


def phases(rows: Sequence[Row]) -> str:
    """Milliseconds of a step by phase."""
    measured = [row for row in rows if row.phases and row.steps]
    shown = [phase for phase in PHASES if any(phase in row.phases for row in measured)]
    if not measured:
        return ""
    lines = []
    for row in measured:
        step = {phase: 1e3 * seconds / row.steps for phase, seconds in row.phases.items()}
        lines.append([row.name, *(f"{step[p]:.2f}" if p in step else "" for p in shown), f"{sum(step.values()):.2f}"])
    return table(["ms a step", *shown, "sum"], lines)


def facts(values: Mapping[str, float]) -> str:
    """One line on the data."""
    return ", ".join(
        f"{name} {value:,.0f}" if value >= 100 else f"{name} {value:.4g}" for name, value in values.items()
    )


def machine(values: Mapping[str, Any]) -> str:
    """One line a fact on the machine and the packages."""
    return "\n".join(f"- {name}: {value}" for name, value in values.items())


def duration(seconds: float | None) -> str:
    """Seconds, readable."""
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.2f} ms"


def factor(value: float | None) -> str:
    """A ratio."""
    return "" if value is None else f"{value:.2f}×"


def size(number: float | None) -> str:
    """Bytes, readable."""
    if number is None:
        return ""
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def write_section(page: Path, kind: str, text: str) -> None:
    """Replace what stands between the markers of a page. Raises `PoolBenchError` where it has none."""
    first, last = markers(kind)
    try:
        old = page.read_text(encoding="utf-8")
    except OSError as error:
        raise PoolBenchError(f"--write {page}: {(error.strerror or str(error)).lower()}") from error
    head, begin, rest = old.partition(first)
    _, end, tail = rest.partition(last)
    if not begin or not end:
        raise PoolBenchError(f"--write {page}: there are no lines {first} and {last} in it to write between")
    new = f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}"
    put(page, new.encode())
