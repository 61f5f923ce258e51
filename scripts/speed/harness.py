"""Processes that take turns, and what comes of their times."""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from poolbench.errors import PoolBenchError, RunError
from speed.peers import CONTESTANTS, PEERS, Match
from speed.setting import Setting

#: Outputs agree where they differ by no more than this part of the largest entry (or of 1).
TOLERANCE = 1e-4
#: Where a worker finds this package.
SCRIPTS = str(Path(__file__).resolve().parents[1])
#: Characters of an error that are shown.
LONGEST = 160


class Worker:
    """A fresh process that holds one object of `target` (`worker.make`), and calls its methods on request.

    Raises `RunError` with the reason where a call fails, the process dies, or `limit` seconds pass.
    """

    def __init__(self, target: str, setting: Setting, memory: int | None = None, limit: float | None = None) -> None:
        self.setting, self.limit = setting, limit
        threads = str(setting.threads)
        found = os.pathsep.join(filter(None, (SCRIPTS, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": found}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "speed.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "POOLBENCH_BENCH_DEBUG" not in os.environ else None,
            text=True,
            env=environment,
        )
        request = {"target": target, "threads": setting.threads, "memory": memory, "setting": setting.as_dict()}
        try:
            self._exchange(request)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **args: Any) -> Any:
        """The result of `method(**args)`."""
        return self._exchange({"call": method, "args": args})

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _exchange(self, request: dict[str, Any]) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        line = ""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            if self.limit is not None and not select.select([self.process.stdout], [], [], self.limit)[0]:
                raise RunError(f"took more than {self.limit:.0f} s")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            pass  # it died before: said below
        if not line:
            code = self.process.wait()
            raise RunError("killed (out of memory?)" if code == -9 else f"the process ended with code {code}")
        reply = json.loads(line)
        if "error" in reply:
            raise PoolBenchError(reply["error"]) if reply["known"] else RunError(_short(reply["error"]))
        return reply["result"]


def _short(error: str) -> str:
    text = error.lower()
    full = any(sign in text for sign in ("memoryerror", "can't allocate memory", "out of memory"))
    return "out of memory" if full else error if len(error) <= LONGEST else f"{error[:LONGEST]} ..."


@contextmanager
def workers() -> Iterator[Callable[..., Worker]]:
    """Makes workers that end with the block."""
    with ExitStack() as stack:

        def start(*args: Any, **kwargs: Any) -> Worker:
            worker = Worker(*args, **kwargs)
            stack.callback(worker.close)
            return worker

        yield start


@dataclass
class Row:
    """What one contestant was measured to do.

    seconds, cpu: of each epoch. steps: of an epoch. memory: bytes. phases: seconds of an epoch by phase.
    against: the row (`name`) of PoolBench that does the same work. ratios: its seconds by PoolBench's, turn by turn.
    differences: of the answers, each by its largest entry; known: those that need not agree, and in `note` why.
    failure: why there are no times.
    """

    setting: Setting
    against: str = ""
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    steps: int = 0
    memory: int | None = None
    phases: dict[str, float] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    note: str = ""
    failure: str = ""

    @property
    def name(self) -> str:
        return row_name(self.setting)

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "setting": self.setting.as_dict(), "name": self.name}


def row_name(setting: Setting) -> str:
    """Such as `poolbench`, `poolbench (form pyg)`, `tgp-unpadded`."""
    return f"{setting.who} (form {setting.form})" if setting.form else setting.who


def compare(
    base: Setting, peers: Sequence[str], epochs: int, warmup: int, memory: int | None = None, limit: float | None = None
) -> tuple[list[Row], dict[str, float]]:
    """PoolBench and the peers on one operator, dataset and batch size, epoch about: their rows, and facts of the data.

    Everybody's answers with the same weights are compared first; who deviates without a known reason is not timed.
    """
    matches = {peer: PEERS[peer][1][base.pool] for peer in peers if base.pool in PEERS[peer][1]}
    rows = plan(base, matches)
    with workers() as start:
        running: dict[str, Worker] = {}
        for name, row in rows.items():
            try:
                running[name] = start(CONTESTANTS[row.setting.who], row.setting, memory, limit)
            except RunError as error:
                row.failure = str(error)
        facts = next(iter(running.values())).call("facts") if running else {}
        answers = _each(rows, running, "answers")
        for peer in matches:
            if peer in answers and rows[peer].against in answers:
                _agree(rows[peer], answers[rows[peer].against], answers[peer])
                if rows[peer].failure:
                    running.pop(peer).close()
        for turn in range(warmup + epochs):
            measured = _each(rows, running, "epoch", number=1 + turn)
            if turn >= warmup:
                for name, result in measured.items():
                    rows[name].seconds.append(result["seconds"])
                    rows[name].cpu.append(result["cpu"])
                    rows[name].steps = result["steps"]
        for name, peak in _each(rows, running, "memory").items():
            rows[name].memory = peak
        for name, phases in _each(rows, running, "phases", number=1).items():
            rows[name].phases = phases
    for row in rows.values():
        if row.against and not row.failure:
            row.ratios = [a / b for a, b in zip(row.seconds, rows[row.against].seconds, strict=False)]
    return list(rows.values()), facts


def plan(base: Setting, matches: dict[str, Match]) -> dict[str, Row]:
    """A row for PoolBench, one for each further form of its operator that a peer needs, and one for each peer."""
    rows: dict[str, Row] = {}
    for form in dict.fromkeys(["", *(match.form for match in matches.values())]):
        own = Row(replace(base, who="poolbench", form=form))
        rows[own.name] = own
    for peer, match in matches.items():
        own_name = row_name(replace(base, who="poolbench", form=match.form))
        rows[peer] = Row(replace(base, who=peer, form=""), own_name, known=match.differs, note=match.note)
    return rows


def _each(rows: dict[str, Row], running: dict[str, Worker], method: str, **args: Any) -> dict[str, Any]:
    """Call everybody in turn; who fails is noted and left out from then on."""
    results = {}
    for name, worker in list(running.items()):
        try:
            results[name] = worker.call(method, **args)
        except RunError as error:
            rows[name].failure = str(error)
            running.pop(name).close()
    return results


def _agree(row: Row, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    row.differences = {key: difference(ours[key], theirs[key]) for key in ours}
    wrong = [key for key, value in row.differences.items() if not value <= TOLERANCE and key not in row.known]
    if wrong:
        row.failure = "not timed: answers differ: " + ", ".join(f"{key} {row.differences[key]:.1e}" for key in wrong)


def difference(a: Any, b: Any) -> float:
    """The largest difference of two nested lists of numbers, by the largest entry of `a` where that is above 1."""
    first, second = list(_flat(a)), list(_flat(b))
    if len(first) != len(second):
        return math.inf
    scale = max(1.0, max(map(abs, first), default=0.0))
    gaps = [abs(x - y) for x, y in zip(first, second, strict=True)]
    return math.nan if any(math.isnan(gap) for gap in gaps) else max(gaps, default=0.0) / scale


def _flat(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for part in value:
            yield from _flat(part)
    else:
        yield float(value)


def middle(values: Sequence[float]) -> float | None:
    """The median, None of nothing."""
    return median(values) if values else None


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """p of cost = c size^p by least squares of the logarithms; None for fewer than two sizes."""
    points = [(math.log(s), math.log(c)) for s, c in zip(sizes, costs, strict=True) if s > 0 and c > 0]
    if len({x for x, _ in points}) < 2:
        return None
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)
