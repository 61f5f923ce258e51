"""Seconds to coarsen a whole dataset once, by PoolBench in one process, by all cores and from the cache, and by tgp."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.errors import PoolBenchError, RunError
from poolbench.linalg import Sparse
from poolbench.nn.model import clusters
from poolbench.pool.base.draws import mix, uniform
from poolbench.pool.edgepool import EdgePool
from poolbench.records.provenance import usable_cores
from speed import ahead, forms, tables, work
from speed.forms import Form
from speed.harness import Worker, middle, workers
from speed.report import Report, base_setting, memory_limit
from speed.setting import Setting

DATASETS = ["COLLAB", "DD"]
#: Graphs of a dataset with --quick.
FEW = 32


def edge_scores(row: Tensor, col: Tensor) -> Tensor:
    """A score an edge, from the numbers of its ends in their graph: [e] float64."""
    return uniform(mix(mix(row + 1) + col))


class GivenScores(EdgePool):
    """EdgePool with scores from the graph alone: what is left is the matching and the merging of edges."""

    precomputable = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.projection = nn.Identity()  # type: ignore[assignment]  # trained scores do not travel to other processes

    def score(self, x: Tensor, a: Sparse) -> Tensor:
        number = a.nodes.numbers
        return edge_scores(number[a.row], number[a.col])


#: What is coarsened. KMISPool and EdgePool, whose scores are trained otherwise, get scores from the graph.
FORMS: dict[str, Form] = {
    **{pool: forms.FORMS[pool][""] for pool in ("ndp", "graclus", "nmf", "eigenpool", "sep")},
    "kmis": Form("poolbench.pool.kmis.KMISPool", {"scorer": "degree"}),
    "edgepool": Form("speed.coarsening.GivenScores"),
}


class PoolBench:
    """One operator and one dataset, coarsened again and again, in a process of its own."""

    def __init__(self, setting: Setting) -> None:
        self.work = work.load(setting.dataset, setting.graphs)
        self.k = setting.k or clusters(self.work.mean_nodes, [setting.ratio])
        form = FORMS[setting.pool]
        self.pool = form.build(self.k, setting.ratio, setting.hidden)
        few = self.work.take(torch.arange(min(2, self.work.num_nodes.numel())))
        ahead.coarsened(form, self.pool, few, whole=False)  # libraries load at their first use
        self.recipe = ahead.recipe(form, self.pool, self.work)
        self.folder = tempfile.TemporaryDirectory()
        self.turn = 0

    def coarsen(self, processes: int) -> dict[str, float]:
        """Seconds with an empty cache, and the number of pooled nodes."""
        self.turn += 1
        return self._timed(processes)

    def read(self) -> dict[str, float]:
        """The same with the cache that the last `coarsen` left. Raises `RunError` where there was none."""
        if not self.turn:
            raise RunError("nothing in the cache")
        return self._timed(1)

    def _timed(self, processes: int) -> dict[str, float]:
        start = time.perf_counter()
        folder = Path(self.folder.name) / str(self.turn)
        packed = ahead.coarsen(self.pool, self.work, self.recipe, processes, folder)
        seconds = time.perf_counter() - start
        (level,) = packed.cut(torch.arange(len(packed)))
        return {"seconds": seconds, "pooled": int(level.pooled.sizes.sum())}

    def facts(self) -> dict[str, float]:
        return {**self.work.facts(), "nodes": int(self.work.num_nodes.sum()), "k": self.k}


Measured = dict[str, list[dict[str, float]]]


def measure(options: argparse.Namespace, report: Report) -> None:
    """A table for each dataset: a row an operator."""
    unknown = [pool for pool in options.pools if pool not in FORMS]
    if unknown:
        raise PoolBenchError(
            f"--coarsening --pools {unknown[0]}: it is not computed ahead; there are {', '.join(FORMS)}"
        )
    base = base_setting(options)
    for dataset in options.datasets:
        lines: list[list[str]] = []
        facts: dict[str, float] = {}
        for pool in options.pools:
            setting = replace(base, pool=pool, dataset=dataset)
            measured, failures, found = _turns(setting, options)
            facts = found or facts
            report.keep({"setting": setting.as_dict(), "measured": measured, "failures": failures, "facts": facts})
            lines.append(line(pool, measured, failures, facts))
        capped = "" if options.graphs is None else f"At most {options.graphs} graphs, evenly spread over the dataset."
        report.show(f"#### {dataset}", tables.facts(facts), capped, tables.table(head(usable_cores()), lines))


def _turns(setting: Setting, options: argparse.Namespace) -> tuple[Measured, dict[str, str], dict[str, float]]:
    """What each way took in each turn, why one failed, and facts of the data."""
    ours = "coarsening.PoolBench"
    ways: dict[str, tuple[str, str, dict[str, int]]] = {
        "one": (ours, "coarsen", {"processes": 1}),
        "all": (ours, "coarsen", {"processes": usable_cores()}),
        "cache": (ours, "read", {}),
    }
    if any(peer.startswith("tgp") for peer in options.peers):
        ways["tgp"] = ("tgp_coarsening.TGP", "coarsen", {})
    measured: Measured = {way: [] for way in ways}
    failures: dict[str, str] = {}
    facts: dict[str, float] = {}
    with workers() as start:
        running: dict[str, Worker] = {}
        for _ in range(options.epochs):
            for way, (target, method, args) in ways.items():
                if way in failures:
                    continue
                try:
                    if target not in running:
                        running[target] = start(target, setting, memory_limit(options), options.limit)
                    facts = facts or running[target].call("facts")
                    measured[way].append(running[target].call(method, **args))
                except RunError as error:
                    failures[way] = str(error)
                    if target in running:
                        running.pop(target).close()
    return measured, failures, facts


def head(count: int) -> list[str]:
    """The columns of `line`."""
    return ["operator", "one process", f"{count} cores", "from the cache", "tgp", "tgp by one process",
            f"tgp by {count} cores", "nodes left", "tgp"]  # fmt: skip


def line(pool: str, measured: Measured, failures: Mapping[str, str], facts: Mapping[str, float]) -> list[str]:
    """A row: seconds of each way, tgp's by PoolBench's, and the share of the nodes that both leave."""
    seconds = {way: middle([turn["seconds"] for turn in turns]) for way, turns in measured.items()}
    cells = [failures.get(way) or tables.duration(seconds.get(way)) for way in ("one", "all", "cache", "tgp")]
    ratios = [_ratio(seconds.get("tgp"), seconds.get(way)) for way in ("one", "all")]
    left = [_share(measured.get(way, []), facts) for way in ("one", "tgp")]
    return [pool, *cells, *ratios, *left]


def _ratio(theirs: float | None, ours: float | None) -> str:
    return "" if not theirs or not ours else tables.factor(theirs / ours)


def _share(turns: Sequence[Mapping[str, Any]], facts: Mapping[str, float]) -> str:
    return f"{turns[0]['pooled'] / facts['nodes']:.3f}" if turns else ""
