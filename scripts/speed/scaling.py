"""Time and memory of a training step against each size of the work, with the fitted exponents."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

from speed import tables
from speed.harness import Row, compare, exponent, middle
from speed.report import Report, base_setting, memory_limit
from speed.setting import HAS_CLUSTERS, Setting


@dataclass(frozen=True)
class Axis:
    """One size that varies while the others stay: `at(setting, size)` is the configuration."""

    name: str
    sizes: tuple[int, ...]
    at: Callable[[Setting, int], Setting]


def _data(setting: Setting, k: int = 20, **sizes: int) -> Setting:
    name = "random:" + ",".join(f"{key}={value}" for key, value in sizes.items())
    return replace(setting, dataset=name, k=k)


AXES = (
    Axis("nodes of a graph", (64, 128, 256, 512, 1024, 2048), lambda s, n: _data(s, nodes=n, graphs=64)),
    Axis("neighbours of a node", (2, 4, 8, 16, 32, 64), lambda s, d: _data(s, nodes=200, degree=d, graphs=64)),
    Axis("clusters", (4, 8, 16, 32, 64, 128), lambda s, k: _data(s, k, nodes=200, graphs=64)),
    Axis("graphs in a batch", (8, 16, 32, 64, 128, 256),
         lambda s, b: replace(_data(s, nodes=100, graphs=512), batch_size=b)),
    Axis("nodes of the largest graph", (250, 500, 1000, 2000, 4000, 8000),
         lambda s, n: replace(_data(s, nodes=100, graphs=32, largest=n), steps=1)),
)  # fmt: skip


def measure(options: argparse.Namespace, report: Report) -> None:
    """A table for each operator and axis: a row a size, and the exponents in the last row."""
    base = replace(base_setting(options), batch_size=options.batch_size[0], steps=options.steps or 2)
    for pool in options.pools:
        for axis in AXES:
            if axis.name == "clusters" and pool not in HAS_CLUSTERS:
                continue
            sizes = axis.sizes[:3] if options.quick else axis.sizes
            measured: list[list[Row]] = []
            for size in sizes:
                setting = axis.at(replace(base, pool=pool), size)
                rows, facts = compare(setting, options.peers, options.epochs, options.warmup, memory_limit(options),
                                      options.limit)  # fmt: skip
                report.keep(*({**row.as_dict(), "facts": facts, "axis": axis.name, "size": size} for row in rows))
                measured.append(rows)
            report.show(f"#### {pool}: {axis.name}", axis_table(axis.name, sizes, measured))


def axis_table(name: str, sizes: tuple[int, ...], measured: list[list[Row]]) -> str:
    """Milliseconds and megabytes a step of each contestant at each size; the exponent of both."""
    who = [row.name for row in measured[0]]
    head = [name, *(f"{contestant}, {what}" for contestant in who for what in ("ms", "MB"))]
    lines, columns = [], []
    for row in zip(*measured, strict=True):
        times = [1e3 * (middle(r.seconds) or 0.0) / max(r.steps, 1) for r in row]
        columns += [times, [(r.memory or 0) / 1e6 if r.seconds else 0.0 for r in row]]
    for place, size in enumerate(sizes):
        lines.append([str(size), *(f"{column[place]:.2f}" if column[place] else "failed" for column in columns)])
    fitted = [exponent(sizes, column) for column in columns]
    lines.append(["exponent", *("" if p is None else f"{p:.2f}" for p in fitted)])
    return tables.table(head, lines)
