"""What an operator's products must cost on this machine, beside what it costs.

An estimate is the sum over its products of the larger of flops by the rate of a matrix product and bytes by the speed
of memory, both measured in the same process. Bytes are those that must move if each operand is read and each result
written once: an operand that stays in the cache makes an operator faster than its estimate, and many small
operations make it slower.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from poolbench.errors import PoolBenchError, RunError
from speed import tables
from speed.harness import workers
from speed.report import Report, base_setting, memory_limit
from speed.setting import Setting

#: Operators whose products are written down below.
POOLS = ("topk", "sag", "mincut", "diffpool", "dmon", "justbalance", "asymcheegercut")
FLOAT, INDEX = 4, 8


@dataclass(frozen=True)
class Product:
    """A product: its floating-point operations, and the bytes that it reads and writes."""

    name: str
    flops: float
    bytes: float


def products(pool: str, b: int, n: int, e: int, f: int, k: int, kept: int) -> list[Product]:
    """The products of an operator's forward pass.

    b graphs, n nodes, e entries of the adjacency matrix, f features, k clusters, `kept` nodes of a sparse operator.
    """
    pattern = INDEX * (n + e)

    def dense(name: str, rows: int, inner: int, columns: int) -> Product:
        moved = FLOAT * (rows * inner + inner * columns + rows * columns)
        return Product(name, 2.0 * rows * inner * columns, moved)

    def gram(name: str, left: int, right: int) -> Product:  # one [left, right] result a graph
        return Product(name, 2.0 * n * left * right, FLOAT * (n * (left + right) + b * left * right))

    def spmm(name: str, width: int, entries: int) -> Product:
        return Product(name, 2.0 * entries * width, pattern + FLOAT * (entries + 2 * n * width))

    if pool in ("topk", "sag"):
        score = [dense("Xp", n, f, 1)] + ([spmm("A(Xp)", 1, e + n)] if pool == "sag" else [])
        gather = Product("X[s]", float(kept * f), FLOAT * 2 * kept * f)
        return [*score, gather, Product("A[s, s]", 0.0, pattern + 3 * INDEX * e)]
    shared = [spmm("AS", k, e), gram("S'(AS)", k, k)]
    if pool == "diffpool":
        own = [spmm("FX", f, e + n), dense("(FX) W", n, f, k), gram("S'(FX)", k, f), dense("(S'FX) W", b * k, f, f)]
        return [*own, *shared, gram("S'S", k, k)]
    own = [dense("XW", n, f, k), gram("S'X", k, f)]
    return [*own, *shared, *([gram("S'S", k, k)] if pool == "mincut" else [])]


def estimate(parts: list[Product], flops: float, bandwidth: float) -> float:
    """Seconds."""
    return sum(max(part.flops / flops, part.bytes / bandwidth) for part in parts)


class Probe:
    """One operator on one batch, and the rates of the machine, in a process of its own."""

    def __init__(self, setting: Setting) -> None:
        from speed.contestant import synchronise
        from speed.ours import PoolBench

        self.synchronise: Callable[[], None] = lambda: synchronise(setting.device)
        self.held, self.setting = PoolBench(setting), setting
        (self.batch,) = self.held.batches(self.held.data, self.held.order(0)[:1])
        self.x = torch.randn(self.batch.x.shape[0], setting.hidden, device=setting.device, requires_grad=True)

    def rates(self) -> dict[str, float]:
        """Flops a second of a product of two square float32 matrices, and bytes a second of a copy."""
        side, count = 1024, 32 * 2**20
        a = torch.randn(side, side, device=self.setting.device)
        source = torch.randn(count, device=self.setting.device)
        target = torch.empty_like(source)
        return {
            "flops": 2 * side**3 / self._clock(lambda: a @ a),
            "bandwidth": 2 * FLOAT * count / self._clock(lambda: target.copy_(source)),
        }

    def time(self, repeats: int) -> dict[str, Any]:
        """Seconds of the forward pass, and of forward and backward, with the sizes of the batch."""
        pool, a = self.held.model.pool, self.batch.a
        view = a.view(pool.connectivity)

        def forward() -> list[Tensor]:
            out = pool(self.x, view)
            return [out.x.sum(), *out.losses.values()]

        with torch.no_grad():
            once = self._clock(forward, repeats)
        both = self._clock(lambda: torch.stack(forward()).sum().backward(), repeats)
        nodes, k = a.nodes, self.held.k
        kept = int(torch.ceil(nodes.sizes * self.setting.ratio).sum())
        sizes = {"b": nodes.num_graphs, "n": self.x.shape[0], "e": view.sparse().col.numel(), "f": self.setting.hidden,
                 "k": k, "kept": kept}  # fmt: skip
        return {"forward": once, "both": both, "sizes": sizes}

    def _clock(self, action: Callable[[], Any], repeats: int = 10) -> float:
        times = []
        for turn in range(repeats + 2):
            self.synchronise()
            start = time.perf_counter()
            action()
            self.synchronise()
            if turn >= 2:
                times.append(time.perf_counter() - start)
        return median(times)


def measure(options: argparse.Namespace, report: Report) -> None:
    """A table for each dataset and batch size: a row an operator."""
    unknown = [pool for pool in options.pools if pool not in POOLS]
    if unknown:
        raise PoolBenchError(
            f"--roofline --pools {unknown[0]}: its products are not written down; there are {', '.join(POOLS)}"
        )
    for dataset in options.datasets:
        for size in options.batch_size:
            lines = []
            for pool in options.pools:
                setting = replace(base_setting(options), pool=pool, dataset=dataset, batch_size=size)
                lines.append(_line(setting, options, report))
            head = ["operator", "GFLOP", "MB", "forward: estimate", "measured", "part", "with backward: estimate",
                    "measured", "part"]  # fmt: skip
            report.show(f"#### {dataset}, batches of {size}", tables.table(head, lines))


def _line(setting: Setting, options: argparse.Namespace, report: Report) -> list[str]:
    try:
        with workers() as start:
            probe = start("roofline.Probe", setting, memory_limit(options), options.limit)
            rates, timed = probe.call("rates"), probe.call("time", repeats=10 * options.epochs)
    except RunError as error:
        return [setting.pool, str(error), *[""] * 7]
    parts = products(setting.pool, **timed["sizes"])
    expected = estimate(parts, rates["flops"], rates["bandwidth"])
    report.keep({"setting": setting.as_dict(), "rates": rates, **timed, "products": [vars(part) for part in parts],
                 "estimate": expected})  # fmt: skip
    cells = [setting.pool, f"{sum(part.flops for part in parts) / 1e9:.3f}",
             f"{sum(part.bytes for part in parts) / 1e6:.1f}"]  # fmt: skip
    # A product C = LR has two in its backward pass, of the same size: dL = dC R' and dR = L' dC.
    for factor, seconds in ((1, timed["forward"]), (3, timed["both"])):
        cells += [f"{1e3 * factor * expected:.3f} ms", f"{1e3 * seconds:.3f} ms", f"{factor * expected / seconds:.0%}"]
    return cells
